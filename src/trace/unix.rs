//! What the Unix systems have in common: how a call failed, and what some arguments look like.

use super::list;
use super::system::SYSTEM_ERRORS;
use crate::platform::ffi;
use crate::unix::Address;
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::raw::c_int;
use std::os::unix::io::FromRawFd;
use std::slice;

/// Errors that have the same number on every Unix, and one that every platform file knows.
const ERRORS: &[(c_int, &str, &str)] = &[
    (1, "EPERM", "Operation not permitted"),
    (2, "ENOENT", "No such file or directory"),
    (4, "EINTR", "Interrupted system call"),
    (9, "EBADF", "Bad file descriptor"),
    (12, "ENOMEM", "Cannot allocate memory"),
    (13, "EACCES", "Permission denied"),
    (14, "EFAULT", "Bad address"),
    (17, "EEXIST", "File exists"),
    (22, "EINVAL", "Invalid argument"),
    (23, "ENFILE", "Too many open files in system"),
    (24, "EMFILE", "Too many open files"),
    (28, "ENOSPC", "No space left on device"),
    (32, "EPIPE", "Broken pipe"),
    (ffi::EINPROGRESS, "EINPROGRESS", "Operation now in progress"),
];

/// Errors whose numbers differ, told apart by std.
fn by_kind(kind: io::ErrorKind) -> Option<(&'static str, &'static str)> {
    Some(match kind {
        io::ErrorKind::WouldBlock => ("EAGAIN", "Resource temporarily unavailable"),
        io::ErrorKind::AddrInUse => ("EADDRINUSE", "Address already in use"),
        io::ErrorKind::AddrNotAvailable => ("EADDRNOTAVAIL", "Cannot assign requested address"),
        io::ErrorKind::ConnectionAborted => ("ECONNABORTED", "Software caused connection abort"),
        io::ErrorKind::ConnectionRefused => ("ECONNREFUSED", "Connection refused"),
        io::ErrorKind::ConnectionReset => ("ECONNRESET", "Connection reset by peer"),
        io::ErrorKind::NotConnected => ("ENOTCONN", "Socket is not connected"),
        io::ErrorKind::TimedOut => ("ETIMEDOUT", "Connection timed out"),
        _ => return None,
    })
}

/// `-1 EEXIST (File exists)`. The texts are kept here because asking the system for one allocates, and `wake` is allowed in a
/// signal handler; it fails only with errors that are listed.
pub(crate) struct Failure<'a>(pub(crate) &'a io::Error);

impl fmt::Display for Failure<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match describe(self.0) {
            Some((name, text)) => write!(f, "-1 {} ({})", name, text),
            None => write!(f, "-1 ({})", self.0),
        }
    }
}

/// Name and text of an error that is listed.
pub(super) fn describe(error: &io::Error) -> Option<(&'static str, &'static str)> {
    let number = error.raw_os_error()?;
    let mut errors = ERRORS.iter().chain(SYSTEM_ERRORS);
    let listed = errors.find(|(listed, ..)| *listed == number);
    listed.map(|&(_, name, text)| (name, text)).or_else(|| by_kind(error.kind()))
}

/// One write for the whole line, so that threads do not mix. A closed standard error is no reason to fail. Not std's
/// `stderr`: it is locked, and a signal handler may have come in the middle of a line of the same thread.
pub(crate) fn print(line: &[u8]) {
    // SAFETY: 2 is standard error by definition, and `ManuallyDrop` keeps this `File` from closing it.
    let mut stderr = ManuallyDrop::new(unsafe { File::from_raw_fd(2) });
    let _ = stderr.write_all(line);
}

/// What a wait has written.
pub(crate) struct Records<'a, T> {
    first: *const T,
    count: c_int,
    buffer: PhantomData<&'a [T]>,
}

impl<'a, T> Records<'a, T> {
    /// `count` as the call returned it: none if it is negative.
    ///
    /// # Safety
    ///
    /// The first `count` records are initialized and stay so for as long as this lives.
    #[inline(always)]
    pub(crate) unsafe fn new(first: *const T, count: c_int) -> Records<'a, T> {
        Records { first, count, buffer: PhantomData }
    }
}

impl<T: fmt::Debug> fmt::Debug for Records<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.count.max(0) as usize;
        // SAFETY: whoever made this promised that so many are initialized.
        list(f, unsafe { slice::from_raw_parts(self.first, count) })
    }
}

impl fmt::Debug for ffi::timespec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{tv_sec={}, tv_nsec={}}}", self.tv_sec, self.tv_nsec)
    }
}

/// The first argument of `socket`.
#[inline(always)]
pub(crate) fn domain(domain: c_int) -> &'static str {
    if domain == ffi::AF_INET {
        "AF_INET"
    } else {
        "AF_INET6"
    }
}

/// The call that makes a pipe, and its last argument if it has one.
#[inline(always)]
pub(crate) fn pipe() -> (&'static str, &'static str) {
    if ffi::SOCK_CLOEXEC == 0 {
        ("pipe", "")
    } else {
        ("pipe2", ", O_CLOEXEC|O_NONBLOCK")
    }
}

/// The call that accepts, and its last argument if it has one.
#[inline(always)]
pub(crate) fn accept() -> (&'static str, &'static str) {
    if ffi::SOCK_CLOEXEC == 0 {
        ("accept", "")
    } else {
        ("accept4", ", SOCK_CLOEXEC|SOCK_NONBLOCK")
    }
}

/// The second argument of `socket`.
#[inline(always)]
pub(crate) fn socket_type() -> &'static str {
    if ffi::SOCK_CLOEXEC == 0 {
        "SOCK_STREAM"
    } else {
        "SOCK_STREAM|SOCK_CLOEXEC|SOCK_NONBLOCK"
    }
}

/// What `accept` has written about the other end.
pub(crate) struct Peer<'a>(pub(crate) &'a Address);

impl fmt::Display for Peer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.get() {
            Some(peer) => write!(f, "{{{}}}", peer),
            None => f.write_str("{}"),
        }
    }
}

impl fmt::Debug for ffi::sockaddr_in {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = u16::from_be(self.sin_port);
        write!(f, "{{AF_INET, {}:{}}}", Ipv4Addr::from(self.sin_addr), port)
    }
}

impl fmt::Debug for ffi::sockaddr_in6 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = u16::from_be(self.sin6_port);
        let address = Ipv6Addr::from(self.sin6_addr);
        write!(f, "{{AF_INET6, [{}]:{}}}", address, port)
    }
}
