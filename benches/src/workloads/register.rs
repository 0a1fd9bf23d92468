//! Putting sources in, changing them, taking them out.

use super::Plan;
use crate::contestants::{take_turns, Contestant};
use crate::queue::{Mode, Queue, Registry};
use crate::report::Report;
use crate::sys::{Signal, Stopwatch};
use std::os::fd::AsFd;

struct Case {
    signals: Vec<Signal>,
    times: usize,
}

type Round = fn(&Case) -> f64;

pub fn run(plan: Plan, report: &mut Report) {
    report.title("Registering, 1000 sources");
    let case = Case { signals: (0..1000).map(|_| Signal::eventfd()).collect(), times: plan.length };
    let mut compare = |name: &str, mut contestants: Vec<Contestant<Round>>| {
        let samples = take_turns(&mut contestants, plan.rounds, |round| round(&case));
        report.scattered("register", name, "ns for each source", &samples);
        report.ratio_bound(name, 1.02, &samples);
    };
    let of_mode = |mut contestants: Vec<Contestant<Round>>, mode| {
        contestants.retain(|contestant| contestant.mode == mode);
        contestants
    };
    compare("register + deregister", crate::contestants!(register as Round, any mode));
    compare("reregister", crate::contestants!(reregister as Round, any mode));
    let all = crate::contestants!(rearm as Round);
    compare("re-arm one-shot", of_mode(all, Mode::OneShot));
    let all = crate::contestants!(change as Round);
    compare("level to edge or back", of_mode(all, Mode::Level));
}

/// A queue that watches them all.
fn watch<Q: Queue>(case: &Case) -> Q {
    let queue = Q::new(case.signals.len());
    each(case, |signal, token| queue.registry().add(signal.as_fd(), token, Q::MODE));
    queue
}

#[inline]
fn each(case: &Case, mut work: impl FnMut(&Signal, usize)) {
    for (token, signal) in case.signals.iter().enumerate() {
        work(signal, token);
    }
}

/// Times `work`, which does something to each source, and calls `between` after each time.
fn timed(case: &Case, mut work: impl FnMut(), mut between: impl FnMut()) -> f64 {
    let mut watch = Stopwatch::new();
    for _ in 0..case.times {
        watch.time(&mut work);
        between();
    }
    watch.nanos() / (case.times * case.signals.len()) as f64
}

fn register<Q: Queue>(case: &Case) -> f64 {
    let queue = Q::new(1);
    let work = || {
        each(case, |signal, token| queue.registry().add(signal.as_fd(), token, Q::MODE));
        each(case, |signal, _| queue.registry().remove(signal.as_fd()));
    };
    timed(case, work, || {})
}

fn reregister<Q: Queue>(case: &Case) -> f64 {
    let queue = watch::<Q>(case);
    let work = || each(case, |signal, token| queue.registry().change(signal.as_fd(), token, Q::MODE));
    timed(case, work, || {})
}

/// After each of them was reported, and with what was reported still there to be read.
fn rearm<Q: Queue>(case: &Case) -> f64 {
    let mut queue = watch::<Q>(case);
    each(case, |signal, _| signal.fire());
    let mut watch = Stopwatch::new();
    for _ in 0..case.times {
        let mut reported = 0;
        queue.poll(None, |_, _| reported += 1);
        assert_eq!(reported, case.signals.len());
        watch.time(|| each(case, |signal, token| queue.registry().change(signal.as_fd(), token, Q::MODE)));
    }
    each(case, |signal, _| assert!(signal.empty()));
    watch.nanos() / (case.times * case.signals.len()) as f64
}

fn change<Q: Queue>(case: &Case) -> f64 {
    let queue = watch::<Q>(case);
    let work = || {
        each(case, |signal, token| queue.registry().change(signal.as_fd(), token, Mode::Edge));
        each(case, |signal, token| queue.registry().change(signal.as_fd(), token, Mode::Level));
    };
    timed(case, work, || {}) / 2.0
}
