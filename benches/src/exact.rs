//! What is counted and not timed: instructions, system calls, allocations. None of it depends on the load of the machine.

use crate::probe::{self, Tool};
use crate::report::Report;
use std::process::Command;
use std::sync::Mutex;
use std::thread;

/// Instructions in user space that a poll may need more than by hand: two flags are looked at.
const MORE_PER_POLL: f64 = 12.0;
/// The same of a re-arming.
const MORE_PER_REARM: f64 = 8.0;
/// How many are re-armed in a row.
const SOURCES: usize = 64;

const LIBRARIES: [&str; 9] = [
    "raw level",
    "raw edge",
    "raw one-shot",
    "minimio level",
    "minimio edge",
    "minimio one-shot",
    "mio edge",
    "polling level",
    "polling one-shot",
];

fn raw_of(contestant: &str) -> String {
    let (_, mode) = contestant.split_once(' ').unwrap();
    format!("raw {mode}")
}

/// Runs probes, as many at a time as there are processors: counting is not disturbed by it.
fn count(jobs: &[(Tool, String, &str, &str, usize)]) -> Vec<f64> {
    let results = Mutex::new(vec![0.0; jobs.len()]);
    let next = Mutex::new(0..jobs.len());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| loop {
                let Some(job) = next.lock().unwrap().next() else {
                    return;
                };
                let (tool, program, workload, contestant, param) = &jobs[job];
                let value = tool.count(program, workload, contestant, *param);
                results.lock().unwrap()[job] = value;
            });
        }
    });
    results.into_inner().unwrap()
}

/// This program, and this program with link-time optimization.
fn programs() -> [(&'static str, String); 2] {
    let status = Command::new(std::env::var("CARGO").unwrap_or("cargo".into()))
        .args(["build", "--quiet", "--profile", "lto", "--bin", "measure"])
        .args(["--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")])
        .status();
    assert!(status.is_ok_and(|status| status.success()), "the build with LTO works");
    let this = std::env::current_exe().unwrap();
    let lto = this.parent().unwrap().with_file_name("lto").join("measure");
    let text = |path: &std::path::Path| path.to_str().unwrap().to_string();
    [("", text(&this)), (", LTO", text(&lto))]
}

pub fn instructions(quick: bool, report: &mut Report) {
    report.title("Instructions in user space for each poll and its dispatch, counted by callgrind");
    let sizes: &[usize] = if quick { &[1, 64] } else { &[1, 64, 1024] };
    // The last three are known at run time only.
    let limits = [
        ("poll", "no limit"),
        ("poll-limit", "limit of 1 s"),
        ("poll-any-none", "any: none"),
        ("poll-any-zero", "any: 0"),
        ("poll-any-limit", "any: 1 s"),
    ];
    let rearms = [("rearm", "re-arming"), ("rearm-any", "re-arming, any")];
    let contestants = || {
        let ours = |name: &&&str| name.starts_with("raw") || name.starts_with("minimio");
        LIBRARIES.iter().filter(move |name| !quick || ours(name))
    };
    for (suffix, program) in programs() {
        let mut jobs = Vec::new();
        for name in contestants() {
            for (workload, _) in limits {
                for &size in sizes {
                    jobs.push((Tool::Callgrind, program.clone(), workload, *name, size));
                }
            }
            for (workload, _) in rearms {
                jobs.push((Tool::Callgrind, program.clone(), workload, *name, SOURCES));
            }
        }
        jobs.push((Tool::Callgrind, program.clone(), "clock", "raw level", 1));
        jobs.push((Tool::Callgrind, program.clone(), "nothing", "raw level", 1));
        let counts = count(&jobs);
        let found = |workload: &str, name: &str, size: usize| {
            let job = jobs.iter().position(|j| (j.2, j.3, j.4) == (workload, name, size));
            counts[job.unwrap()]
        };
        let nothing = found("nothing", "raw level", 1);
        let clock = found("clock", "raw level", 1) - nothing;

        let mut cases = Vec::new();
        for (_, limit) in limits {
            cases.extend(sizes.iter().map(|size| format!("{limit}, {size}")));
        }
        cases.extend(rearms.map(|(_, case)| case.to_string()));
        let mut rows = Vec::new();
        for name in contestants() {
            let mut row = Vec::new();
            for (workload, _) in limits {
                row.extend(sizes.iter().map(|&size| Some(found(workload, name, size) - nothing)));
            }
            row.extend(rearms.map(|(workload, _)| Some(found(workload, name, SOURCES) / SOURCES as f64)));
            rows.push((format!("{name}{suffix}"), row));
        }
        report.exact("instructions", "instructions, ready sources", &cases, &rows);
        println!("  A reading of the clock takes {clock}.");

        for name in contestants().filter(|name| name.starts_with("minimio")) {
            let raw = raw_of(name);
            for (workload, limit) in limits {
                let more = |size| found(workload, name, size) - found(workload, &raw, size);
                let events = more(sizes[sizes.len() - 1]) - more(sizes[0]);
                let what = |text: String| format!("instructions, {name}{suffix}, {limit}: {text}");
                report.exact_bound(
                    what(format!("{events} more for each {} events", sizes[sizes.len() - 1])),
                    events <= 0.0,
                );
                let (clock, and) = match workload.ends_with("limit") {
                    true => (clock, " and a reading of the clock"),
                    false => (0.0, ""),
                };
                // One comparison more tells a limit of 0, which has no need of the clock, from the others.
                let most = MORE_PER_POLL + if workload == "poll-any-zero" { 1.0 } else { 0.0 };
                let more = more(sizes[0]) - clock;
                let text = format!("{more} more than raw{and}, at most {most}");
                report.exact_bound(what(text), more <= most);
            }
            for (workload, case) in rearms {
                let more = (found(workload, name, SOURCES) - found(workload, &raw, SOURCES)) / SOURCES as f64;
                let text = format!("{more} more than raw, at most {MORE_PER_REARM}");
                report.exact_bound(
                    format!("instructions, {name}{suffix}, {case}: {text}"),
                    more <= MORE_PER_REARM,
                );
            }
        }
    }
}

pub fn system_calls(report: &mut Report) {
    report.title("System calls, counted by strace");
    let program = std::env::current_exe().unwrap().to_str().unwrap().to_string();
    let columns = [
        ("poll", 1, "poll"),
        ("poll-limit", 1, "poll, 1 s"),
        ("register", 1, "register + deregister"),
        ("rearm", 1, "re-arm"),
        ("change", 1, "level to edge"),
        ("wake", 1, "wake + poll"),
        ("wake", 100, "100 wakes + poll"),
        ("echo", 1, "echo, 1"),
        ("echo", 64, "echo, 64"),
        ("accept", 1, "accept + close"),
    ];
    let mut jobs = Vec::new();
    for name in LIBRARIES {
        for (workload, param, _) in columns {
            if workload != "change" || !name.starts_with("mio") {
                jobs.push((Tool::Strace, program.clone(), workload, name, param));
            }
        }
    }
    let counts = count(&jobs);
    let found = |workload: &str, param: usize, name: &str| {
        let job = jobs.iter().position(|j| (j.2, j.3, j.4) == (workload, name, param));
        job.map(|job| counts[job])
    };
    let cases: Vec<_> = columns.iter().map(|column| column.2.to_string()).collect();
    let rows: Vec<_> = LIBRARIES
        .iter()
        .map(|name| {
            let row = columns.iter().map(|&(workload, param, _)| found(workload, param, name));
            (name.to_string(), row.collect())
        })
        .collect();
    report.exact("system calls", "system calls", &cases, &rows);
    println!("  echo: for each round trip, of the server alone. accept: for each connection, 64 at a time.");

    for name in LIBRARIES.iter().filter(|name| name.starts_with("minimio")) {
        let raw = raw_of(name);
        for (workload, param, case) in columns {
            let (ours, raws) = (found(workload, param, name).unwrap(), found(workload, param, &raw).unwrap());
            // Of a hundred wakes one is left.
            let limit = if param == 100 { 2.0 } else { raws };
            report
                .exact_bound(format!("system calls, {name}, {case}: {ours}, at most {limit}"), ours <= limit);
        }
    }
    let level = |connections| found("echo", connections, "minimio level").unwrap();
    report.exact_bound(
        format!("system calls, minimio level, echo: {} with one connection, 3.0", level(1)),
        level(1) == 3.0,
    );
    report.exact_bound(
        format!("system calls, minimio level, echo: {:.2} with 64 connections, 2.0", level(64)),
        level(64) < 2.05,
    );
}

pub fn heap(report: &mut Report) {
    report.title("Heap, counted by the allocator");
    let cases: Vec<_> =
        ["polls, 1", "polls, 64", "polls, 1024", "bytes for each registration"].map(String::from).into();
    let mut rows = Vec::new();
    for contestant in probe::heap() {
        let name = contestant.name();
        let measure = contestant.run;
        let mut row = Vec::new();
        for size in [1, 64, 1024] {
            let allocations = measure(size).0;
            if name.starts_with("minimio") {
                let what = format!("heap, {name}: {allocations} allocations in 1000 polls of {size} events");
                report.exact_bound(what, allocations == 0);
            }
            row.push(Some(allocations as f64));
        }
        let bytes = measure(1024).1 as f64 / 1024.0;
        if name.starts_with("minimio") {
            report.exact_bound(format!("heap, {name}: {bytes} bytes for each registration"), bytes == 0.0);
        }
        row.push(Some(bytes));
        rows.push((name, row));
    }
    report.exact("heap", "allocations in 1000 polls", &cases, &rows);
}
