//! What the calls of Windows look like.

use super::{list, names, Flags, Names};
use crate::afd::ffi;
use crate::platform::ffi::OVERLAPPED_ENTRY;
use crate::winsock::ffi as winsock;
use std::fmt;
use std::io::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr};

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

const EVENTS: Names = names![
    ffi::AFD_POLL_RECEIVE,
    ffi::AFD_POLL_SEND,
    ffi::AFD_POLL_DISCONNECT,
    ffi::AFD_POLL_ABORT,
    ffi::AFD_POLL_LOCAL_CLOSE,
    ffi::AFD_POLL_ACCEPT,
    ffi::AFD_POLL_CONNECT_FAIL,
];

/// What the driver is asked for.
pub(crate) fn events(bits: u32) -> Flags {
    Flags(bits.into(), EVENTS)
}

/// What a wait has taken out of the port.
pub(crate) struct Packets<'a>(pub(crate) &'a [OVERLAPPED_ENTRY]);

impl fmt::Debug for Packets<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        list(f, self.0)
    }
}

impl fmt::Debug for OVERLAPPED_ENTRY {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{{key={}, {:?}}}",
            self.lpCompletionKey, self.lpOverlapped
        )
    }
}

/// The first argument of `WSASocketW`.
pub(crate) fn family(family: i32) -> &'static str {
    if family == winsock::AF_INET {
        "AF_INET"
    } else {
        "AF_INET6"
    }
}

impl fmt::Debug for winsock::sockaddr_in {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = u16::from_be(self.sin_port);
        write!(f, "{{AF_INET, {}:{}}}", Ipv4Addr::from(self.sin_addr), port)
    }
}

impl fmt::Debug for winsock::sockaddr_in6 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = u16::from_be(self.sin6_port);
        let address = Ipv6Addr::from(self.sin6_addr);
        write!(f, "{{AF_INET6, [{}]:{}}}", address, port)
    }
}
