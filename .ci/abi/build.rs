//! Takes the `ffi` modules out of the target's platform files and writes a comparison for each item in them.

use std::env;
use std::fmt::Write;
use std::fs;
use std::path::Path;

/// What the other crate calls differently: the system, our name, its name. A field with its record.
const RENAMED: &[(&str, &str, &str)] = &[
    ("linux", "IOV_MAX", "UIO_MAXIOV"),
    ("linux", "epoll_event.data", "u64"),
    ("windows", "IO_STATUS_BLOCK.Status", "Anonymous.Status"),
    ("windows", "OVERLAPPED.Offset", "Anonymous.Anonymous.Offset"),
    ("windows", "OVERLAPPED.OffsetHigh", "Anonymous.Anonymous.OffsetHigh"),
    ("windows", "sockaddr_in", "SOCKADDR_IN"),
    ("windows", "sockaddr_in6", "SOCKADDR_IN6"),
    ("windows", "sockaddr_in6.sin6_scope_id", "Anonymous.sin6_scope_id"),
];

/// What the other crate does not have, or declares otherwise than the header: the system, the item, and what is asserted in
/// place of the comparison.
const INSTEAD: &[(&str, &str, &str)] = &[
    // Flags that Apple's systems do not know, or only the newest of them.
    ("apple", "SOCK_CLOEXEC", "ffi::SOCK_CLOEXEC == 0"),
    ("apple", "SOCK_NONBLOCK", "ffi::SOCK_NONBLOCK == 0"),
    ("apple", "MSG_NOSIGNAL", "ffi::MSG_NOSIGNAL == 0"),
    ("openbsd", "SO_NOSIGPIPE", "ffi::SO_NOSIGPIPE == 0"),
    // Room for that of every system.
    ("linux", "sigset_t", "size_of::<ffi::sigset_t>() >= size_of::<other::sigset_t>()"),
    ("apple", "sigset_t", "size_of::<ffi::sigset_t>() >= size_of::<other::sigset_t>()"),
    ("freebsd", "sigset_t", "size_of::<ffi::sigset_t>() >= size_of::<other::sigset_t>()"),
    ("netbsd", "sigset_t", "size_of::<ffi::sigset_t>() >= size_of::<other::sigset_t>()"),
    ("openbsd", "sigset_t", "size_of::<ffi::sigset_t>() >= size_of::<other::sigset_t>()"),
    ("dragonfly", "sigset_t", "size_of::<ffi::sigset_t>() >= size_of::<other::sigset_t>()"),
    ("freebsd", "F_SETNOSIGPIPE", "ffi::F_SETNOSIGPIPE == 0"),
    ("openbsd", "F_SETNOSIGPIPE", "ffi::F_SETNOSIGPIPE == 0"),
    ("dragonfly", "F_SETNOSIGPIPE", "ffi::F_SETNOSIGPIPE == 0"),
    // The kernel's own, which is not that of the C library on 32-bit processors.
    (
        "linux",
        "timespec",
        "size_of::<ffi::timespec>() == 16 && core::mem::offset_of!(ffi::timespec, tv_nsec) == 8",
    ),
    // The driver's interface is in no header. Its code is made like that of other devices; the flags are numbered.
    ("windows", "IOCTL_AFD_POLL", "ffi::IOCTL_AFD_POLL == 0x12 << 12 | 9 << 2"),
    ("windows", "AFD_POLL_RECEIVE", "ffi::AFD_POLL_RECEIVE == 1 << 0"),
    ("windows", "AFD_POLL_SEND", "ffi::AFD_POLL_SEND == 1 << 2"),
    ("windows", "AFD_POLL_DISCONNECT", "ffi::AFD_POLL_DISCONNECT == 1 << 3"),
    ("windows", "AFD_POLL_ABORT", "ffi::AFD_POLL_ABORT == 1 << 4"),
    ("windows", "AFD_POLL_LOCAL_CLOSE", "ffi::AFD_POLL_LOCAL_CLOSE == 1 << 5"),
    ("windows", "AFD_POLL_ACCEPT", "ffi::AFD_POLL_ACCEPT == 1 << 7"),
    ("windows", "AFD_POLL_CONNECT_FAIL", "ffi::AFD_POLL_CONNECT_FAIL == 1 << 8"),
    ("windows", "AFD_POLL_HANDLE_INFO", "size_of::<ffi::AFD_POLL_HANDLE_INFO>() == size_of::<usize>() + 8"),
    ("windows", "AFD_POLL_INFO", "core::mem::offset_of!(ffi::AFD_POLL_INFO, Handles) == 16"),
];

fn main() {
    let mut os = env::var("CARGO_CFG_TARGET_OS").unwrap();
    if env::var("CARGO_CFG_TARGET_VENDOR").unwrap() == "apple" {
        os = "apple".to_string();
    }
    let is_windows = os == "windows";
    let source = Path::new(&env::var("CARGO_MANIFEST_DIR").unwrap()).join("../../src");
    println!("cargo:rerun-if-changed={}", source.display());
    let mut module = String::new();
    // The platform files, and the folder of what only Windows has or only the others.
    let folders = [source.clone(), source.join(if is_windows { "windows" } else { "unix" })];
    for entry in folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap()) {
        let path = entry.unwrap().path();
        let is_in_folder = path.parent() != Some(&source);
        let name = path.file_stem().unwrap().to_str().unwrap();
        let is_for_target = match name {
            _ if is_in_folder => true,
            "linux" => os == "linux",
            "macos" => os != "linux" && !is_windows,
            _ => is_windows,
        };
        if !is_for_target || path.is_dir() {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let Some((_, rest)) = text.split_once("\npub(crate) mod ffi {\n") else {
            continue;
        };
        let (body, _) = rest.split_once("\n}\n").unwrap();
        // `core` is enough, and built sooner than `std`.
        let body = body
            .replace("std::os::raw", "core::ffi")
            .replace("std::os::windows::io", "crate::windows_io")
            .replace("std::", "core::");
        module += &format!("mod {name} {{\n{body}\n}}\npub use {name}::*;\n");
    }

    let mut writer = Writer { os, comparisons: String::new(), counts: [0; 3] };
    let mut record: Option<String> = None;
    let mut cfg = String::new();
    let mut lines = module.lines();
    while let Some(line) = lines.next() {
        let words = line.trim();
        if let Some(rest) = words.strip_prefix("pub const ") {
            let rest = rest.strip_prefix("fn ").map_or(rest, |_| panic!("{line}"));
            let (name, ty) = rest.split_once(": ").unwrap();
            writer.constant(name, ty.split(" =").next().unwrap());
        } else if let Some(rest) = words.strip_prefix("pub struct ") {
            let name = rest.strip_suffix(" {").expect("a record with fields");
            writer.record(name);
            record = Some(name.to_string());
        } else if let Some(rest) = words.strip_prefix("pub fn ") {
            let mut declaration = rest.to_string();
            while !declaration.ends_with(';') {
                declaration.push_str(lines.next().unwrap().trim());
            }
            writer.function(&declaration, is_windows, &cfg);
        } else if words.starts_with("#[cfg(") {
            cfg = format!("{words} ");
            continue;
        } else if let (Some(record), Some(rest)) = (&record, words.strip_prefix("pub ")) {
            if let Some((field, _)) = rest.split_once(": ") {
                writer.field(record, field, &cfg);
            }
        } else if words == "}" {
            record = None;
        }
        cfg.clear();
    }
    assert!(writer.counts.iter().all(|&count| count > 2), "something was overlooked");

    let out = env::var("OUT_DIR").unwrap();
    fs::write(Path::new(&out).join("ffi.rs"), module).unwrap();
    fs::write(Path::new(&out).join("comparisons.rs"), writer.comparisons).unwrap();
}

struct Writer {
    os: String,
    comparisons: String,
    /// Constants, fields and functions.
    counts: [usize; 3],
}

impl Writer {
    fn assert(&mut self, cfg: &str, condition: &str, what: &str) {
        let comparisons = &mut self.comparisons;
        writeln!(comparisons, "{cfg}const _: () = assert!({condition}, \"{what} differs\");").unwrap();
    }

    /// What to assert of an item that cannot be compared.
    fn instead(&self, item: &str) -> Option<&'static str> {
        let found = INSTEAD.iter().find(|(os, ours, _)| *os == self.os && *ours == item);
        found.map(|&(_, _, condition)| condition)
    }

    /// The other crate's name for an item.
    fn renamed<'a>(&self, name: &'a str) -> &'a str {
        let found = RENAMED.iter().find(|(os, ours, _)| *os == self.os && *ours == name);
        found.map_or(name, |&(_, _, other)| other)
    }

    fn constant(&mut self, name: &str, ty: &str) {
        self.counts[0] += 1;
        if let Some(condition) = self.instead(name) {
            return self.assert("", condition, name);
        }
        let other = self.renamed(name);
        let condition = if ty == "HANDLE" {
            format!("unsafe {{ core::mem::transmute::<_, isize>(ffi::{name}) == core::mem::transmute::<_, isize>(other::{other}) }}")
        } else {
            format!("same_number!(ffi::{name}, other::{other})")
        };
        self.assert("", &condition, name);
    }

    fn record(&mut self, name: &str) {
        if let Some(condition) = self.instead(name) {
            return self.assert("", condition, name);
        }
        let other = self.renamed(name);
        let condition = format!("size_of::<ffi::{name}>() == size_of::<other::{other}>()");
        self.assert("", &condition, &format!("the size of {name}"));
    }

    fn field(&mut self, record: &str, field: &str, cfg: &str) {
        self.counts[1] += 1;
        if self.instead(record).is_some() {
            return;
        }
        let full = format!("{record}.{field}");
        let (other, place) = (self.renamed(record), self.renamed(&full));
        let place = if place == full { field } else { place };
        let condition = format!(
            "core::mem::offset_of!(ffi::{record}, {field}) == core::mem::offset_of!(other::{other}, {place}) \
             && size_of_field!(ffi::{record}, {field}) == size_of_field!(other::{other}, {place})"
        );
        self.assert(cfg, &condition, &full);
    }

    fn function(&mut self, declaration: &str, is_windows: bool, cfg: &str) {
        self.counts[2] += 1;
        let (name, rest) = declaration.split_once('(').unwrap();
        if let Some(condition) = self.instead(name) {
            return self.assert("", condition, name);
        }
        let parameters = rest.split_once(')').unwrap().0;
        let parameters: Vec<&str> = parameters.split(',').filter(|part| !part.trim().is_empty()).collect();
        let holes: Vec<&str> =
            parameters.iter().map(|part| if part.trim() == "..." { "..." } else { "_" }).collect();
        let abi = if is_windows { "system" } else { "C" };
        let ty = format!("unsafe extern \"{abi}\" fn({}) -> _", holes.join(", "));
        let condition = format!("same(signature(ffi::{name} as {ty}), signature(other::{name} as {ty}))");
        self.assert(cfg, &condition, &format!("the signature of {name}"));
    }
}
