//! What the calls of macOS and the BSDs look like.

pub(crate) use super::unix::{domain, Records};
pub(super) use super::unix::{print, Failure};
use super::{names, Flags, Names};
use crate::platform::ffi;
use std::fmt;
use std::os::raw::c_int;

/// Errors with a number of their own.
pub(super) const SYSTEM_ERRORS: &[(c_int, &str, &str)] =
    &[(78, "ENOSYS", "Function not implemented")];

const FLAGS: Names = names![
    ffi::EV_ADD,
    ffi::EV_DELETE,
    ffi::EV_CLEAR,
    ffi::EV_RECEIPT,
    ffi::EV_DISPATCH,
    ffi::EV_ERROR,
    ffi::EV_EOF,
];

/// The kind of a knote.
fn filter(filter: ffi::filter_t) -> &'static str {
    match filter {
        ffi::EVFILT_READ => "EVFILT_READ",
        ffi::EVFILT_WRITE => "EVFILT_WRITE",
        _ => "EVFILT_USER",
    }
}

impl fmt::Debug for ffi::kevent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = Flags(self.flags.into(), FLAGS);
        write!(f, "{{{}, {}, {}", self.ident, filter(self.filter), flags)?;
        match self.fflags {
            0 => {}
            ffi::NOTE_TRIGGER => f.write_str(", NOTE_TRIGGER")?,
            fflags => write!(f, ", fflags={}", fflags)?,
        }
        write!(f, ", data={}, udata={}}}", self.data, self.udata)
    }
}

/// The last argument of `kevent`.
pub(crate) struct Limit<'a>(pub(crate) &'a Option<ffi::timespec>);

impl fmt::Debug for Limit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("NULL"),
            Some(limit) => limit.fmt(f),
        }
    }
}

/// The second argument of `fcntl`.
pub(crate) fn command(command: c_int) -> &'static str {
    if command == ffi::F_SETFD {
        "F_SETFD"
    } else {
        "F_SETFL"
    }
}

/// The second argument of `socket`.
pub(crate) fn socket_type() -> &'static str {
    if ffi::SOCK_CLOEXEC == 0 {
        "SOCK_STREAM"
    } else {
        "SOCK_STREAM|SOCK_CLOEXEC|SOCK_NONBLOCK"
    }
}
