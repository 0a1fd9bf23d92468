//! One active source among many idle ones.
//!
//! A process may have twenty thousand descriptors here, and a hundred thousand sources are wanted. What epoll watches is the
//! open file and not its number: other processes keep the files open for us, and the numbers are used again.

use super::Plan;
use crate::contestants::take_turns;
use crate::queue::{Mode, Queue, Registry};
use crate::report::{median, Report};
use crate::sys::{time, Holder, Signal};
use std::os::fd::AsFd;

/// So many descriptors are open at a time.
const BATCH: usize = 10_000;

/// A queue, its active source, and its idle ones.
trait Idle {
    fn add(&self, idle: &[Signal]);
    fn round(&mut self, times: usize) -> f64;
}

struct Case<Q> {
    queue: Q,
    active: Signal,
}

fn set_up<Q: Queue + 'static>() -> Box<dyn Idle> {
    let (queue, active) = (Q::new(256), Signal::eventfd());
    queue.registry().add(active.as_fd(), 0, Q::MODE);
    Box::new(Case { queue, active })
}

pub fn run(plan: Plan, report: &mut Report) {
    report.title("One active source among many idle ones");
    let mut medians: Vec<Vec<f64>> = Vec::new();
    for count in [10, 1000, 100_000] {
        let mut contestants = crate::contestants!(set_up as fn() -> Box<dyn Idle>)
            .into_iter()
            .map(|c| crate::contestants::Contestant { library: c.library, mode: c.mode, run: (c.run)() })
            .collect::<Vec<_>>();
        let mut holders = Vec::new();
        for start in (0..count).step_by(BATCH) {
            let idle: Vec<_> = (start..count.min(start + BATCH)).map(|_| Signal::eventfd()).collect();
            for contestant in &contestants {
                contestant.run.add(&idle);
            }
            holders.push(Holder::new());
        }
        let times = 500 * plan.length;
        let samples = take_turns(&mut contestants, plan.rounds, |case| case.round(times));
        let name = format!("1 active among {count} idle");
        report.scattered("idle", &name, "ns for each event", &samples);
        report.ratio_bound(&name, 1.02, &samples);
        medians.push(samples.iter().map(|s| median(&s.values)).collect());
        if count == 100_000 {
            for (i, sample) in samples.iter().enumerate() {
                if sample.contestant.starts_with("minimio") {
                    let growth = medians[2][i] / medians[0][i];
                    let what = format!(
                        "idle, {}: 100000 idle take {growth:.2} of the time of 10",
                        sample.contestant
                    );
                    report.bound(what, growth < 1.1);
                }
            }
        }
    }
}

impl<Q: Queue> Idle for Case<Q> {
    fn add(&self, idle: &[Signal]) {
        for signal in idle {
            self.queue.registry().add(signal.as_fd(), 1, Q::MODE);
        }
    }

    fn round(&mut self, times: usize) -> f64 {
        let Case { queue, active } = self;
        let spent = time(|| {
            for _ in 0..times {
                active.fire();
                queue.poll(None, |registry, token| {
                    while active.empty() && Q::MODE == Mode::Edge {}
                    if Q::MODE == Mode::OneShot {
                        registry.change(active.as_fd(), token, Q::MODE);
                    }
                });
            }
        });
        spent.as_nanos() as f64 / times as f64
    }
}
