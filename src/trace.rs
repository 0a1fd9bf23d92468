//! A window on the kernel: with the feature `trace`, each system call of the library becomes a line on standard error,
//! in the manner of strace, with names instead of numbers. (You don't see closing, which is the drop of an `OwnedFd`,
//! nor what std calls by itself.)
//!
//! A platform file says what it called at the one place where results become `io::Result`. The arguments are formatted
//! after the call, so they also show what the kernel has written. How they are formatted is in one file for each
//! system, beside this one. A line begins with the time since the first line and, once several threads have written
//! one, with the number of the thread; then, for a wait, with how long it slept.
//!
//! Without the feature nothing calls it. The small functions that are still called, for an argument, are always
//! inlined, and then nothing is left of the call either.

#[cfg_attr(any(target_os = "linux", target_os = "android"), path = "trace/epoll.rs")]
#[cfg_attr(all(unix, not(any(target_os = "linux", target_os = "android"))), path = "trace/kqueue.rs")]
#[cfg_attr(windows, path = "trace/afd.rs")]
mod system;
#[cfg(unix)]
mod unix;

pub(crate) use system::*;

use std::cell::Cell;
use std::fmt::{self, Write as _};
use std::io;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::time::Instant;

/// Prints `call` and what came of it.
#[inline(always)]
pub(crate) fn trace(call: fmt::Arguments<'_>, result: &io::Result<impl fmt::Display>) {
    if cfg!(feature = "trace") {
        let mut line = Line::new();
        let _ = match result {
            Ok(value) => write!(line, "{}{} = {}", Stamp, call, value),
            Err(error) => write!(line, "{}{} = {}", Stamp, call, Failure(error)),
        };
        print(line.finish());
    }
}

/// When a wait began. Its line starts with how long it slept: `(slept 100.234 ms) `.
pub(crate) struct Slept(Option<Instant>);

impl Slept {
    #[inline(always)]
    pub(crate) fn begin() -> Slept {
        Slept(if cfg!(feature = "trace") { Some(Instant::now()) } else { None })
    }
}

impl fmt::Display for Slept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(began) => write!(f, "(slept {:.3} ms) ", began.elapsed().as_secs_f64() * 1000.0),
            None => Ok(()),
        }
    }
}

/// The moment of the first line. Made on the heap, once, and kept for ever.
static START: AtomicPtr<Instant> = AtomicPtr::new(ptr::null_mut());
/// How many threads have had a line.
static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// The number of this thread, from 1 on; 0 as long as it has none. It needs neither memory nor a lock when it is used
    /// first, so a signal handler may use it.
    static THREAD: Cell<usize> = const { Cell::new(0) };
}

/// How a line begins: `  0.123 ms  `, and the thread's number if there are several.
struct Stamp;

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut start = START.load(Ordering::Acquire);
        if start.is_null() {
            // The first line is of a new queue, never of a signal handler: that would need a waker, which comes later.
            let now = Box::into_raw(Box::new(Instant::now()));
            let raced = START.compare_exchange(start, now, Ordering::AcqRel, Ordering::Acquire);
            // Another thread may have been first; then its moment counts, and ours leaks, once.
            start = raced.err().unwrap_or(now);
        }
        // SAFETY: once it is set it stays, and what it points to is never freed or changed.
        let since = unsafe { &*start }.elapsed();
        write!(f, "{:9.3} ms  ", since.as_secs_f64() * 1000.0)?;

        let number = THREAD.with(|number| {
            if number.get() == 0 {
                number.set(THREADS.fetch_add(1, Ordering::Relaxed) + 1);
            }
            number.get()
        });
        match THREADS.load(Ordering::Relaxed) {
            1 => Ok(()),
            _ => write!(f, "[{}] ", number),
        }
    }
}

/// A line in the making. It lives on the stack: a signal handler that wakes a queue must not allocate.
struct Line {
    text: [u8; Line::ROOM],
    length: usize,
}

impl Line {
    const ROOM: usize = 2048;
    /// How a line ends: always, and when it was too long.
    const END: &'static str = "\n";
    const CUT: &'static str = "...";

    fn new() -> Line {
        Line { text: [0; Line::ROOM], length: 0 }
    }

    fn push(&mut self, part: &str) {
        self.text[self.length..][..part.len()].copy_from_slice(part.as_bytes());
        self.length += part.len();
    }

    fn finish(&mut self) -> &[u8] {
        self.push(Line::END);
        &self.text[..self.length]
    }
}

impl fmt::Write for Line {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let room = Line::ROOM - Line::CUT.len() - Line::END.len() - self.length;
        if part.len() <= room {
            self.push(part);
            Ok(())
        } else {
            // The formatting ends here, so this is said once.
            self.push(Line::CUT);
            Err(fmt::Error)
        }
    }
}

/// Constants and their names.
pub(crate) type Names = &'static [(u64, &'static str)];

/// The table of some constants: `names![ffi::EPOLLIN, ffi::EPOLLOUT]`.
macro_rules! names {
    ($($module:ident :: $name:ident),* $(,)?) => {
        &[$(($module::$name as u64, stringify!($name))),*]
    };
}
pub(crate) use names;

/// The bits of a number by their names, `EPOLLIN|EPOLLET`; what has none stays a number.
pub(crate) struct Flags(pub(crate) u64, pub(crate) Names);

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Flags(mut rest, names) = *self;
        let mut between = "";
        for (bit, name) in names {
            if rest & bit != 0 {
                write!(f, "{}{}", between, name)?;
                rest &= !bit;
                between = "|";
            }
        }
        match (between, rest) {
            ("", 0) => f.write_str("0"),
            (_, 0) => Ok(()),
            _ => write!(f, "{}{:#x}", between, rest),
        }
    }
}

/// The first records of a list, and dots for the rest.
pub(crate) fn list<T: fmt::Debug>(f: &mut fmt::Formatter<'_>, records: &[T]) -> fmt::Result {
    const SHOWN: usize = 16;
    f.write_str("[")?;
    for (i, record) in records.iter().take(SHOWN).enumerate() {
        write!(f, "{}{:?}", if i == 0 { "" } else { ", " }, record)?;
    }
    f.write_str(if records.len() > SHOWN { ", ...]" } else { "]" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_too_long_is_cut_and_still_ends() {
        let mut line = Line::new();
        assert!(write!(line, "{:5000}", 1).is_err());
        let text = String::from_utf8(line.finish().to_vec()).unwrap();
        assert!(text.ends_with("...\n") && text.len() <= Line::ROOM);
    }

    #[test]
    fn bits_without_a_name_stay_a_number() {
        const NAMES: Names = &[(1, "ONE"), (4, "FOUR")];
        let shown = [0, 4, 5, 8, 13].map(|bits| Flags(bits, NAMES).to_string());
        assert_eq!(shown, ["0", "FOUR", "ONE|FOUR", "0x8", "ONE|FOUR|0x8"]);
    }
}
