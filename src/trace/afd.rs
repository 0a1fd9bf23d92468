//! What the calls of Windows look like.

use std::fmt;
use std::io::{self, Write};

/// How a call failed.
pub(crate) struct Failure<'a>(pub(crate) &'a io::Error);

impl fmt::Display for Failure<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One write for the whole line, so that threads do not mix. A closed standard error is no reason to fail.
pub(crate) fn print(line: &[u8]) {
    let _ = io::stderr().write_all(line);
}
