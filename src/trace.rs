//! The view into the kernel: with the feature `trace`, each system call of the library becomes a line on standard error.

use std::fmt;
use std::io::{self, Write};

/// Prints `call` and what came of it. Without the feature nothing is left of it in the program.
#[inline(always)]
pub(crate) fn trace(call: fmt::Arguments<'_>, result: &io::Result<impl fmt::Display>) {
    if cfg!(feature = "trace") {
        let line = match result {
            Ok(value) => format!("{} = {}\n", call, value),
            Err(error) => format!("{} = {}\n", call, error),
        };
        // One write for the whole line, so that threads do not mix; a closed standard error is no reason to fail.
        let _ = io::stderr().write_all(line.as_bytes());
    }
}
