//! Waking a poll from another thread.

use super::Plan;
use crate::contestants::take_turns;
use crate::queue::{Wake, Wakeable};
use crate::report::{median, Report};
use crate::sys::{Cpu, Stopwatch};
use std::sync::mpsc;
use std::thread;

const MANY: usize = 100;

pub fn run(plan: Plan, report: &mut Report) {
    report.title("Waking");
    type Round = fn(usize) -> f64;
    let mut contestants = crate::contestants!(ping_pong as Round, any mode);
    let trips = 200 * plan.length;
    let samples = take_turns(&mut contestants, plan.rounds, |round| round(trips));
    let case = "wake across threads";
    report.scattered("wake", case, "ns of both threads, there and back", &samples);
    report.ratio_bound(case, 1.02, &samples);

    let mut contestants = crate::contestants!(many as Round, any mode);
    let samples = take_turns(&mut contestants, plan.rounds, |round| round(20 * plan.length));
    let case = "100 wakes before one poll";
    report.scattered("wake", case, "ns for each hundred", &samples);
    for sample in samples.iter().filter(|s| s.contestant.starts_with("minimio")) {
        let ratio = median(&sample.ratios);
        report.bound(format!("{case}: {ratio:.3} of eventfd writes, at most 0.1"), ratio <= 0.1);
    }
}

/// Two threads, each with a queue, wake each other by turns. The processor time of both counts; they share one processor, so
/// it is the calls and the switch, and no processor has to be woken.
fn ping_pong<Q: Wakeable>(trips: usize) -> f64 {
    const WARM_UP: usize = 20;
    let (to_here, from_there) = mpsc::channel();
    let (to_there, from_here) = mpsc::channel::<Q::Waker>();
    thread::scope(|scope| {
        let there = scope.spawn(move || {
            let mut queue = Q::new(8);
            to_here.send(queue.waker(1)).unwrap();
            let waker = from_here.recv().unwrap();
            for _ in 0..WARM_UP + trips {
                queue.poll(None, |_, _| ());
                waker.wake();
            }
            // Not dropped here: an eventfd that is closed takes its last wake along.
            waker
        });
        let mut queue = Q::new(8);
        to_there.send(queue.waker(1)).unwrap();
        let waker = from_there.recv().unwrap();
        let mut trip = || {
            waker.wake();
            queue.poll(None, |_, _| ());
        };
        for _ in 0..WARM_UP {
            trip();
        }
        let start = Cpu::Process.now();
        for _ in 0..trips {
            trip();
        }
        let spent = Cpu::Process.now() - start;
        there.join().unwrap();
        spent.as_nanos() as f64 / trips as f64
    })
}

fn many<Q: Wakeable>(times: usize) -> f64 {
    let mut queue = Q::new(8);
    let waker = queue.waker(1);
    let mut watch = Stopwatch::new();
    for _ in 0..times {
        watch.time(|| {
            for _ in 0..MANY {
                waker.wake();
            }
        });
        queue.poll(Some(0), |_, _| ());
    }
    watch.nanos() / times as f64
}

/// For counting system calls.
pub fn probe<Q: Wakeable>(wakes: usize, rounds: usize) {
    let mut queue = Q::new(8);
    let waker = queue.waker(1);
    for _ in 0..rounds {
        for _ in 0..wakes {
            waker.wake();
        }
        queue.poll(None, |_, _| ());
    }
}
