//! What the calls of Linux and Android look like.

pub(super) use super::unix::{print, Failure};
use super::{list, names, Flags, Names};
use crate::platform::ffi;
use std::fmt;
use std::marker::PhantomData;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::raw::c_int;
use std::slice;

/// Errors with a number of their own.
pub(super) const SYSTEM_ERRORS: &[(c_int, &str, &str)] =
    &[(ffi::ENOSYS, "ENOSYS", "Function not implemented")];

const EVENTS: Names = names![
    ffi::EPOLLIN,
    ffi::EPOLLOUT,
    ffi::EPOLLERR,
    ffi::EPOLLHUP,
    ffi::EPOLLWRBAND,
    ffi::EPOLLRDHUP,
    ffi::EPOLLONESHOT,
    ffi::EPOLLET,
];

impl fmt::Debug for ffi::epoll_event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let data = self.data;
        let events = Flags(self.events.into(), EVENTS);
        write!(f, "{{{}, token={}}}", events, data)
    }
}

/// The second argument of `epoll_ctl`.
pub(crate) fn operation(op: c_int) -> &'static str {
    match op {
        ffi::EPOLL_CTL_ADD => "EPOLL_CTL_ADD",
        ffi::EPOLL_CTL_MOD => "EPOLL_CTL_MOD",
        _ => "EPOLL_CTL_DEL",
    }
}

/// What a wait has written.
pub(crate) struct Records<'a> {
    first: *const ffi::epoll_event,
    count: c_int,
    buffer: PhantomData<&'a [ffi::epoll_event]>,
}

impl Records<'_> {
    /// `count` as the call returned it: none if it is negative.
    ///
    /// # Safety
    ///
    /// The first `count` records are initialized and stay so for as long as this lives.
    #[inline(always)]
    pub(crate) unsafe fn new<'a>(first: *const ffi::epoll_event, count: c_int) -> Records<'a> {
        Records {
            first,
            count,
            buffer: PhantomData,
        }
    }
}

impl fmt::Debug for Records<'_> {
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
pub(crate) fn domain(domain: c_int) -> &'static str {
    if domain == ffi::AF_INET {
        "AF_INET"
    } else {
        "AF_INET6"
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
