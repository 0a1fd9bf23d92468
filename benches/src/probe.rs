//! Counting what is exact: some rounds of a workload in a process of their own, under an instrument. Two runs of different
//! length are subtracted, so that what happens once (starting, warming up, cleaning up) drops out.

use crate::allocator;
use crate::contestants;
use crate::contestants::Contestant;
use crate::queue::{Mode, Queue, Registry};
use crate::sys::Signal;
use crate::workloads::{accept, echo, wake};
use std::fs;
use std::hint::black_box;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// `param` is the size of the workload, `rounds` how often to go through it.
type Probe = fn(param: usize, rounds: usize);

/// A workload's probe for each contestant, and what to make of a count for one round: divide, then subtract the client's part.
fn find(workload: &str, param: usize) -> (Vec<Contestant<Probe>>, f64, f64) {
    let (contestants, parts, others) = match workload {
        "nothing" => (contestants!(nothing as Probe), 1, 0.0),
        "clock" => (contestants!(clock as Probe), 1, 0.0),
        "poll" => (contestants!(poll as Probe), 1, 0.0),
        "poll-limit" => (contestants!(poll_limit as Probe), 1, 0.0),
        "poll-any-none" => (contestants!(poll_any_none as Probe), 1, 0.0),
        "poll-any-zero" => (contestants!(poll_any_zero as Probe), 1, 0.0),
        "poll-any-limit" => (contestants!(poll_any_limit as Probe), 1, 0.0),
        "rearm-any" => (contestants!(rearm_any as Probe), 1, 0.0),
        "rearm" => (contestants!(rearm as Probe), 1, 0.0),
        "register" => (contestants!(register as Probe), 1, 0.0),
        "change" => (contestants!(change as Probe), 2, 0.0),
        "wake" => {
            use wake::probe;
            (contestants!(probe as Probe), 1, 0.0)
        }
        "echo" => {
            use echo::probe;
            (contestants!(probe as Probe), param, echo::CLIENT_CALLS)
        }
        "accept" => {
            use accept::probe;
            (contestants!(probe as Probe), accept::BATCH, accept::CLIENT_CALLS)
        }
        _ => panic!("no probe is called {workload}"),
    };
    (contestants, parts as f64, others)
}

/// What the instrumented process does: `WORKLOAD CONTESTANT PARAM ROUNDS`.
pub fn main(args: &[String]) {
    let [workload, contestant, param, rounds] = args else {
        panic!("a probe takes WORKLOAD CONTESTANT PARAM ROUNDS");
    };
    let (param, rounds) = (param.parse().unwrap(), rounds.parse().unwrap());
    let (contestants, ..) = find(workload, param);
    let contestant = contestants.iter().find(|c| c.name() == *contestant);
    (contestant.expect("the contestant takes part").run)(param, rounds);
}

/// An instrument.
#[derive(Clone, Copy)]
pub enum Tool {
    /// Instructions in user space, within the function `counted`.
    Callgrind,
    /// System calls.
    Strace,
}

impl Tool {
    /// The count for one round.
    pub fn count(self, program: &str, workload: &str, contestant: &str, param: usize) -> f64 {
        let run = |rounds: usize| {
            let (param, rounds) = (param.to_string(), rounds.to_string());
            let probe = [program, "probe", workload, contestant, &param, &rounds];
            match self {
                Tool::Callgrind => callgrind(&probe),
                Tool::Strace => strace(&probe),
            }
        };
        let count = (run(15) - run(5)) / 10.0;
        match self {
            Tool::Callgrind => count,
            Tool::Strace => {
                let (_, parts, others) = find(workload, param);
                // What makes the sources of "poll" ready again is not the library's.
                let refill = workload.starts_with("poll") && !contestant.ends_with("level");
                count / parts - others - if refill { param as f64 } else { 0.0 }
            }
        }
    }
}

fn callgrind(probe: &[&str]) -> f64 {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg("--toggle-collect=counted")
        .args(probe)
        .output()
        .expect("valgrind is installed");
    let report = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{report}");
    let line = report.lines().find(|line| line.contains("Collected : "));
    let count = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
    count.filter(|&count| count > 0.0).expect("callgrind has counted")
}

fn strace(probe: &[&str]) -> f64 {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let name = format!("minimio-strace-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let log = std::env::temp_dir().join(name);
    let output = Command::new("strace")
        .args(["-f", "-qq", "-e", "signal=none", "-o"])
        .arg(&log)
        .args(probe)
        .output()
        .expect("strace is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let count = fs::read_to_string(&log).unwrap().lines().count();
    fs::remove_file(&log).unwrap();
    count as f64
}

/// The one function within which callgrind counts. Every contestant pays alike for the call through a pointer.
#[no_mangle]
#[inline(never)]
fn counted(work: &mut dyn FnMut()) {
    work();
    // So that this is a call from here and not a jump.
    black_box(());
}

fn nothing<Q: Queue>(_: usize, rounds: usize) {
    for _ in 0..rounds {
        counted(&mut || {
            black_box(());
        });
    }
}

fn clock<Q: Queue>(_: usize, rounds: usize) {
    for _ in 0..rounds {
        counted(&mut || {
            black_box(Instant::now());
        });
    }
}

fn poll<Q: Queue>(ready: usize, rounds: usize) {
    Polls::<Q>::new(ready).rounds(rounds, |queue, seen| {
        queue.poll(None, |_, token| seen[token] += 1);
    });
}

fn poll_limit<Q: Queue>(ready: usize, rounds: usize) {
    Polls::<Q>::new(ready).rounds(rounds, |queue, seen| {
        queue.poll(Some(1000), |_, token| seen[token] += 1);
    });
}

fn poll_any_none<Q: Queue>(ready: usize, rounds: usize) {
    poll_any::<Q>(ready, rounds, None);
}

fn poll_any_zero<Q: Queue>(ready: usize, rounds: usize) {
    poll_any::<Q>(ready, rounds, Some(0));
}

fn poll_any_limit<Q: Queue>(ready: usize, rounds: usize) {
    poll_any::<Q>(ready, rounds, Some(1000));
}

/// With a limit that the compiler does not know, as of a program that computes it.
fn poll_any<Q: Queue>(ready: usize, rounds: usize, limit: Option<i32>) {
    let limit = black_box(limit);
    Polls::<Q>::new(ready).rounds(rounds, |queue, seen| {
        queue.poll(limit, |_, token| seen[token] += 1);
    });
}

/// A queue whose sources are ready at each poll.
struct Polls<Q> {
    queue: Q,
    signals: Vec<Signal>,
    seen: Vec<u32>,
}

impl<Q: Queue> Polls<Q> {
    fn new(ready: usize) -> Polls<Q> {
        let polls = Polls {
            queue: Q::new(ready),
            signals: (0..ready).map(|_| Signal::eventfd()).collect(),
            seen: vec![0; ready],
        };
        for (token, signal) in polls.signals.iter().enumerate() {
            signal.fire();
            polls.queue.registry().add(signal.as_fd(), token, Q::MODE);
        }
        polls
    }

    fn rounds(&mut self, rounds: usize, poll: impl Fn(&mut Q, &mut [u32])) {
        self.seen.fill(0);
        for round in 1..=rounds {
            counted(&mut || poll(&mut self.queue, &mut self.seen));
            for (token, signal) in self.signals.iter().enumerate() {
                match Q::MODE {
                    Mode::Level => {}
                    Mode::Edge => signal.fire(),
                    Mode::OneShot => self.queue.registry().change(signal.as_fd(), token, Q::MODE),
                }
            }
            assert!(self.seen.iter().all(|&times| times == round as u32));
        }
    }
}

fn rearm<Q: Queue>(sources: usize, rounds: usize) {
    let (queue, signals) = watched::<Q>(sources);
    for _ in 0..rounds {
        counted(&mut || {
            for (token, signal) in signals.iter().enumerate() {
                queue.registry().change(signal.as_fd(), token, Q::MODE);
            }
        });
    }
}

/// For what the compiler does not know.
fn rearm_any<Q: Queue>(sources: usize, rounds: usize) {
    let (queue, signals) = watched::<Q>(sources);
    let interest = black_box(Q::Registry::interest(Q::MODE));
    for _ in 0..rounds {
        counted(&mut || {
            for (token, signal) in signals.iter().enumerate() {
                queue.registry().watch(signal.as_fd(), token, interest);
            }
        });
    }
}

fn watched<Q: Queue>(sources: usize) -> (Q, Vec<Signal>) {
    let signals: Vec<_> = (0..sources).map(|_| Signal::eventfd()).collect();
    let queue = Q::new(1);
    for (token, signal) in signals.iter().enumerate() {
        queue.registry().add(signal.as_fd(), token, Q::MODE);
    }
    (queue, signals)
}

fn register<Q: Queue>(_: usize, rounds: usize) {
    let signal = Signal::eventfd();
    let queue = Q::new(1);
    for _ in 0..rounds {
        queue.registry().add(signal.as_fd(), 0, Q::MODE);
        queue.registry().remove(signal.as_fd());
    }
}

fn change<Q: Queue>(_: usize, rounds: usize) {
    let signal = Signal::eventfd();
    let queue = Q::new(1);
    queue.registry().add(signal.as_fd(), 0, Mode::Level);
    for _ in 0..rounds {
        queue.registry().change(signal.as_fd(), 0, Mode::Edge);
        queue.registry().change(signal.as_fd(), 0, Mode::Level);
    }
}

/// Allocations in 1000 polls of so many events, and bytes of so many registrations.
type Heap = fn(usize) -> (usize, isize);

pub fn heap() -> Vec<Contestant<Heap>> {
    contestants!(measure_heap as Heap)
}

fn measure_heap<Q: Queue>(events: usize) -> (usize, isize) {
    let signals: Vec<_> = (0..events).map(|_| Signal::eventfd()).collect();
    let queue = Q::new(events);
    let before = allocator::bytes();
    for (token, signal) in signals.iter().enumerate() {
        queue.registry().add(signal.as_fd(), token, Q::MODE);
    }
    let bytes = allocator::bytes() - before;
    drop(queue);

    let mut polls = Polls::<Q>::new(events);
    let poll = |queue: &mut Q, seen: &mut [u32]| queue.poll(None, |_, token| seen[token] += 1);
    // Once warm.
    polls.rounds(10, poll);
    let before = allocator::allocations();
    polls.rounds(1000, poll);
    (allocator::allocations() - before, bytes)
}
