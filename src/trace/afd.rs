//! What the calls of Windows look like.

use super::{list, names, Flags, Names};
use crate::platform;
use crate::platform::afd::ffi::{self, NTSTATUS};
use crate::platform::ffi::{HANDLE, OVERLAPPED_ENTRY};
use crate::platform::winsock::ffi as winsock;
use std::fmt;
use std::io::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Reasons that `GetLastError` and `WSAGetLastError` give.
const ERRORS: &[(i32, &str)] = &[
    (6, "ERROR_INVALID_HANDLE"),
    (8, "ERROR_NOT_ENOUGH_MEMORY"),
    (87, "ERROR_INVALID_PARAMETER"),
    (109, "ERROR_BROKEN_PIPE"),
    (232, "ERROR_NO_DATA"),
    (233, "ERROR_PIPE_NOT_CONNECTED"),
    (234, "ERROR_MORE_DATA"),
    (258, "WAIT_TIMEOUT"),
    (995, "ERROR_OPERATION_ABORTED"),
    (997, "ERROR_IO_PENDING"),
    (1450, "ERROR_NO_SYSTEM_RESOURCES"),
    (10022, "WSAEINVAL"),
    (10024, "WSAEMFILE"),
    (10035, "WSAEWOULDBLOCK"),
    (10038, "WSAENOTSOCK"),
    (10045, "WSAEOPNOTSUPP"),
    (10049, "WSAEADDRNOTAVAIL"),
    (10051, "WSAENETUNREACH"),
    (10055, "WSAENOBUFS"),
    (10057, "WSAENOTCONN"),
    (10061, "WSAECONNREFUSED"),
    (10065, "WSAEHOSTUNREACH"),
];

/// How a call failed.
pub(crate) struct Failure<'a>(pub(crate) &'a io::Error);

impl fmt::Display for Failure<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.0.raw_os_error().unwrap_or(0);
        match ERRORS.iter().find(|(listed, _)| *listed == number) {
            Some((_, name)) => write!(f, "{} ({})", name, number),
            None => self.0.fmt(f),
        }
    }
}

/// What a call of the kernel itself returned.
pub(crate) struct Status(pub(crate) NTSTATUS);

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 as u32 {
            0 => "STATUS_SUCCESS",
            0x103 => "STATUS_PENDING",
            0xC000_0001 => "STATUS_UNSUCCESSFUL",
            0xC000_0008 => "STATUS_INVALID_HANDLE",
            0xC000_0024 => "STATUS_OBJECT_TYPE_MISMATCH",
            0xC000_0120 => "STATUS_CANCELLED",
            0xC000_0225 => "STATUS_NOT_FOUND",
            other => return write!(f, "{:#x}", other),
        })
    }
}

/// A handle, or one of the two values that are none.
pub(crate) struct Handle(pub(crate) HANDLE);

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 as isize {
            -1 => f.write_str("INVALID_HANDLE_VALUE"),
            0 => f.write_str("NULL"),
            handle => write!(f, "{:#x}", handle),
        }
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
#[inline(always)]
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
        let key = key(self.lpCompletionKey);
        if self.lpCompletionKey == platform::KEY_POLL {
            let (socket, states) = platform::peek(self);
            write!(f, "{{{}, {:#x}, {}}}", key, socket, events(states))
        } else {
            write!(f, "{{{}}}", key)
        }
    }
}

/// What a packet is about.
#[inline(always)]
pub(crate) fn key(key: usize) -> &'static str {
    match key {
        platform::KEY_POLL => "KEY_POLL",
        platform::KEY_WAKE => "KEY_WAKE",
        platform::KEY_PIPE => "KEY_PIPE",
        platform::KEY_DONE => "KEY_DONE",
        _ => "KEY_CLOSE",
    }
}

/// How long to wait, in milliseconds.
pub(crate) struct Timeout(pub(crate) u32);

impl fmt::Display for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            u32::MAX => f.write_str("INFINITE"),
            milliseconds => milliseconds.fmt(f),
        }
    }
}

/// The second argument of `WSAIoctl`.
#[inline(always)]
pub(crate) fn ioctl(code: u32) -> &'static str {
    match code {
        winsock::SIO_BASE_HANDLE => "SIO_BASE_HANDLE",
        winsock::SIO_BSP_HANDLE => "SIO_BSP_HANDLE",
        winsock::SIO_BSP_HANDLE_SELECT => "SIO_BSP_HANDLE_SELECT",
        _ => "SIO_BSP_HANDLE_POLL",
    }
}

/// The first argument of `WSASocketW`.
#[inline(always)]
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
        if self.sin6_family == 0 {
            // The call that was to fill it in has failed.
            return f.write_str("{}");
        }
        if self.sin6_family == winsock::AF_INET as u16 {
            // It is one of the other family, in a place with room for both.
            let address = Ipv4Addr::from(self.sin6_flowinfo.to_ne_bytes());
            return write!(f, "{{AF_INET, {}:{}}}", address, port);
        }
        let address = Ipv6Addr::from(self.sin6_addr);
        write!(f, "{{AF_INET6, [{}]:{}}}", address, port)
    }
}
