//! What the calls of macOS and the BSDs look like.

use super::unix::describe;
pub(crate) use super::unix::{accept, domain, pipe, socket_type, Peer, Records};
pub(super) use super::unix::{print, Failure};
use super::{names, Flags, Names};
use crate::platform::ffi;
use std::fmt;
use std::io;
use std::os::raw::c_int;

/// Errors with a number of their own.
pub(super) const SYSTEM_ERRORS: &[(c_int, &str, &str)] = &[(78, "ENOSYS", "Function not implemented")];

const FLAGS: Names = names![
    ffi::EV_ADD,
    ffi::EV_DELETE,
    ffi::EV_DISABLE,
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
        write!(f, "{{{}, {}", self.ident, filter(self.filter))?;
        // A receipt repeats more or less of its change. What it has to say is the error.
        if self.flags & ffi::EV_ERROR != 0 {
            let error = io::Error::from_raw_os_error(self.data as i32);
            let name = describe(&error).map_or("0", |(name, _)| name);
            return write!(f, ", EV_ERROR, data={}}}", name);
        }
        write!(f, ", {}", Flags(self.flags.into(), FLAGS))?;
        match self.fflags {
            0 => {}
            ffi::NOTE_TRIGGER => f.write_str(", NOTE_TRIGGER")?,
            fflags => write!(f, ", fflags={}", fflags)?,
        }
        if self.filter == ffi::EVFILT_USER {
            return f.write_str(", the bell}");
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
