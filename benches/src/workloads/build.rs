//! What a library costs before the program runs: a build from nothing, and the size of the program.

use crate::report::Report;
use crate::sys::Cpu;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

struct Built {
    wall: f64,
    cpu: f64,
    crates: usize,
    size: u64,
}

pub fn run(rounds: usize, report: &mut Report) {
    report.title("Cold build of the same echo server, and its size, stripped");
    let libraries = ["raw", "minimio", "mio", "polling"];
    let mut built: Vec<Vec<Built>> = libraries.iter().map(|_| Vec::new()).collect();
    for _ in 0..rounds {
        for (library, built) in libraries.iter().zip(&mut built) {
            built.push(build(library));
        }
    }
    let cases = ["s", "s of processors", "crates", "bytes"].map(String::from);
    let rows: Vec<_> = libraries
        .iter()
        .zip(&built)
        .map(|(library, built)| {
            let median = |value: fn(&Built) -> f64| {
                Some(crate::report::median(&built.iter().map(value).collect::<Vec<_>>()))
            };
            let row = vec![
                median(|b| b.wall),
                median(|b| b.cpu),
                median(|b| b.crates as f64),
                median(|b| b.size as f64),
            ];
            (library.to_string(), row)
        })
        .collect();
    report.exact("build", "cargo build --release", &cases, &rows);
    println!("  crates: the library and what it needs, without the server itself.");
    let [_, ours, mio, polling] = &rows[..] else { unreachable!() };
    for (column, case) in cases.iter().enumerate().take(3) {
        let holds = ours.1[column] <= mio.1[column] && ours.1[column] <= polling.1[column];
        report.bound(format!("build, {case}: minimio no more than mio and polling"), holds);
    }
}

fn build(library: &str) -> Built {
    let package = env!("CARGO_MANIFEST_DIR");
    let target = std::env::temp_dir().join(format!("minimio-benches-{}", std::process::id()));
    let (start, cpu) = (Instant::now(), Cpu::children());
    let output = Command::new(std::env::var("CARGO").unwrap_or("cargo".into()))
        .args(["build", "--release", "--offline", "--bin", "server"])
        .args(["--no-default-features", "--features", library])
        .args(["--config", "profile.release.strip=true"])
        .arg("--manifest-path")
        .arg(Path::new(package).join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&target)
        .env_remove("RUSTFLAGS")
        .output()
        .expect("cargo runs");
    let (wall, cpu) = (start.elapsed(), Cpu::children() - cpu);
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{log}");
    let size = fs::metadata(target.join("release/server")).unwrap().len();
    fs::remove_dir_all(&target).unwrap();
    Built {
        wall: wall.as_secs_f64(),
        cpu: cpu.as_secs_f64(),
        crates: log.matches("Compiling ").count() - 1,
        size,
    }
}
