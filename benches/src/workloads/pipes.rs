//! The benchmark of libevent: many pipes, some of them active, and each byte that arrives is handed on to the next pipe.

use super::Plan;
use crate::contestants::take_turns;
use crate::queue::{Mode, Queue, Registry};
use crate::report::Report;
use crate::sys::{time, Signal};
use std::os::fd::AsFd;

/// How many bytes are handed on, beside those that start it.
const WRITES: usize = 1000;

struct Case<'a> {
    pipes: &'a [Signal],
    active: usize,
    runs: usize,
}

pub fn run(plan: Plan, report: &mut Report) {
    report.title("Pipes: the benchmark of libevent");
    let all: Vec<_> = (0..10_000).map(|_| Signal::pipe()).collect();
    for count in [100, 1000, 10_000] {
        for active in [1, 100] {
            let case = Case { pipes: &all[..count], active, runs: plan.length };
            let mut contestants = crate::contestants!(round as fn(&Case) -> f64);
            let samples = take_turns(&mut contestants, plan.rounds, |round| round(&case));
            let name = format!("pipes, {count}, {active} active");
            report.scattered("pipes", &name, "ns for each event", &samples);
            report.ratio_bound(&name, 1.02, &samples);
        }
    }
}

fn round<Q: Queue>(case: &Case) -> f64 {
    let mut queue = Q::new(256);
    for (token, pipe) in case.pipes.iter().enumerate() {
        queue.registry().add(pipe.as_fd(), token, Q::MODE);
    }
    cascade(&mut queue, case);
    let spent = time(|| {
        for _ in 0..case.runs {
            cascade(&mut queue, case);
        }
    });
    spent.as_nanos() as f64 / (case.runs * (WRITES + case.active)) as f64
}

fn cascade<Q: Queue>(queue: &mut Q, case: &Case) {
    let pipes = case.pipes;
    let (mut reads, mut writes) = (0, 0);
    for start in 0..case.active {
        pipes[start * (pipes.len() / case.active)].fire();
    }
    while reads < WRITES + case.active {
        queue.poll(None, |registry, token| {
            while pipes[token].empty() {
                reads += 1;
                if writes < WRITES {
                    writes += 1;
                    pipes[(token + 1) % pipes.len()].fire();
                }
                if Q::MODE != Mode::Edge {
                    break;
                }
            }
            if Q::MODE == Mode::OneShot {
                registry.change(pipes[token].as_fd(), token, Q::MODE);
            }
        });
    }
}
