//! What the calls of Linux and Android look like.

pub(crate) use super::unix::{accept, domain, pipe, socket_type, Peer, Records};
pub(super) use super::unix::{print, Failure};
use super::{names, Flags, Names};
use crate::platform::ffi;
use std::fmt;
use std::os::raw::c_int;

/// Errors with a number of their own.
pub(super) const SYSTEM_ERRORS: &[(c_int, &str, &str)] =
    &[(ffi::ENOSYS, "ENOSYS", "Function not implemented")];

const EVENTS: Names = names![
    ffi::EPOLLIN,
    ffi::EPOLLOUT,
    ffi::EPOLLERR,
    ffi::EPOLLHUP,
    ffi::EPOLLWRNORM,
    ffi::EPOLLWRBAND,
    ffi::EPOLLRDHUP,
    ffi::EPOLLONESHOT,
    ffi::EPOLLET,
];

impl fmt::Debug for ffi::epoll_event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (events, data) = (self.events, self.data);
        // Watched for a condition of its own, or at first for none.
        let is_bell = events & ffi::EPOLLWRNORM != 0 || events == ffi::EPOLLET;
        let events = Flags(events.into(), EVENTS);
        if is_bell {
            write!(f, "{{{}, the bell}}", events)
        } else {
            write!(f, "{{{}, token={}}}", events, data)
        }
    }
}

/// The second argument of `epoll_ctl`.
#[inline(always)]
pub(crate) fn operation(op: c_int) -> &'static str {
    match op {
        ffi::EPOLL_CTL_ADD => "EPOLL_CTL_ADD",
        ffi::EPOLL_CTL_MOD => "EPOLL_CTL_MOD",
        _ => "EPOLL_CTL_DEL",
    }
}
