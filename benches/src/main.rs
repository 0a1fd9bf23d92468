//! minimio, mio and polling beside a hand-written loop of bare system calls.
//!
//!     cargo run --release                    all of it, about six minutes
//!     cargo run --release -- pipes echo      some of it
//!     cargo run --release -- --quick         all but the builds, too short to tell times; what is counted is as exact
//!     cargo run --bin chart                  draws chart.svg from the results of the last full run
//!
//! Ends with 1 if a bound on something exact (instructions, system calls, allocations) is missed.

mod allocator;
mod contestants;
mod exact;
mod probe;
mod queue;
mod report;
mod sys;
mod workloads;

use report::Report;
use std::process::ExitCode;
use workloads::{accept, build, echo, idle, pipes, register, wake, Plan};

#[global_allocator]
static ALLOCATOR: allocator::Counting = allocator::Counting;

const WORKLOADS: [&str; 10] =
    ["instructions", "calls", "heap", "pipes", "echo", "register", "wake", "idle", "accept", "build"];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    sys::raise_descriptor_limit();
    if args.first().is_some_and(|arg| arg == "probe") {
        probe::main(&args[1..]);
        return ExitCode::SUCCESS;
    }
    let (options, mut chosen): (Vec<_>, Vec<_>) =
        args.iter().map(String::as_str).partition(|arg| arg.starts_with('-'));
    let unknown = options.iter().find(|option| **option != "--quick");
    let unknown = unknown.or(chosen.iter().find(|name| !WORKLOADS.contains(name)));
    if let Some(unknown) = unknown {
        eprintln!("{unknown}: there is --quick, and there are {}", WORKLOADS.join(", "));
        return ExitCode::from(2);
    }
    let quick = !options.is_empty();
    let everything = chosen.is_empty();
    if everything {
        chosen = WORKLOADS.to_vec();
        // Builds are not quick.
        chosen.retain(|name| !quick || *name != "build");
    }
    let plan = match quick {
        true => Plan { rounds: 3, length: 1 },
        false => Plan { rounds: 121, length: 2 },
    };

    println!("{}", sys::machine());
    let mut report = Report::new(quick);
    // Counting uses every processor; what is timed stays on one.
    for name in chosen {
        match name {
            "instructions" => exact::instructions(quick, &mut report),
            "calls" => exact::system_calls(&mut report),
            "heap" => exact::heap(&mut report),
            "build" => build::run(if quick { 1 } else { 3 }, &mut report),
            _ => sys::pinned(|| match name {
                "pipes" => pipes::run(plan, &mut report),
                "echo" => echo::run(plan, &mut report),
                "register" => register::run(plan, &mut report),
                "wake" => wake::run(plan, &mut report),
                "idle" => idle::run(plan, &mut report),
                _ => accept::run(plan, &mut report),
            }),
        }
    }
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/results.tsv");
    let file = (everything && !quick).then_some(file);
    match report.end(file) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{file:?}: {error}");
            ExitCode::FAILURE
        }
    }
}
