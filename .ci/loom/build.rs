//! Takes `src/waker.rs` as it is, and lets it use the model checker's threads and atomics in place of std's.

use std::{env, fs, path::Path};

fn main() {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../../src/waker.rs");
    println!("cargo:rerun-if-changed={source}");
    let text = fs::read_to_string(source).unwrap();
    // Its own tests need the whole crate.
    let code = text.split("#[cfg(test)]").next().unwrap();
    let replaced = code.replace("use std::sync::atomic::", "use loom::sync::atomic::").replace(
        "use std::sync::{Arc, Mutex, MutexGuard, PoisonError};",
        "use loom::sync::{Arc, Mutex, MutexGuard}; use std::sync::PoisonError;",
    );
    assert!(!replaced.contains("std::sync::atomic") && replaced.contains("loom::sync::{Arc"), "its imports");
    // What stands in a file that is included cannot describe the module.
    let lines = replaced.lines().filter(|line| !line.starts_with("//!"));
    let lines: Vec<_> = lines.map(|line| format!("{line}\n")).collect();
    fs::write(Path::new(&env::var("OUT_DIR").unwrap()).join("waker.rs"), lines.concat()).unwrap();
}
