//! Your queue on kqueue.
//!
//! `cargo run --example workshop` says what to write next. Each `todo!` is the place for one step; some steps add to what an
//! earlier one has written. `queue.rs` says what each function promises. What you need of the kernel is declared at the end of
//! this file; the calls are yours.
//!
//! Two habits from chapter 2: one call in each `unsafe` block, with a comment that says why it is sound; and no answer of
//! the kernel without `check`.

// The stubs do not use yet what they are given. Take this line out when you have finished.
#![allow(unused)]

use crate::queue::{Event, Interests, Mode, Queue, Source, Token, WAKE};
use std::io::{self, ErrorKind};
use std::os::raw::c_int;
use std::os::unix::io::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

pub struct Kqueue {
    // Step 1: the descriptor, in an `OwnedFd`. Step 12 will want something more.
}

impl Queue for Kqueue {
    fn new() -> io::Result<Kqueue> {
        // `check(unsafe { ffi::kqueue() })?` gives the descriptor, `OwnedFd::from_raw_fd` takes it over.
        todo!("step 1")
    }

    fn as_fd(&self) -> Source<'_> {
        // An `OwnedFd` has a function of this name.
        todo!("step 1")
    }

    fn register(&self, source: Source<'_>, token: Token, interests: Interests) -> io::Result<()> {
        // The token travels in `udata`. `ffi::kevent { ident, filter, flags, udata, ..Default::default() }` is a change.
        // Steps 5 to 8 come back to this one.
        todo!("step 2")
    }

    fn reregister(&self, source: Source<'_>, token: Token, interests: Interests) -> io::Result<()> {
        todo!("step 5")
    }

    fn deregister(&self, source: Source<'_>) -> io::Result<()> {
        todo!("step 9")
    }

    fn poll(&self, events: &mut Vec<Event>, timeout: Option<Duration>) -> io::Result<()> {
        // An array of records lives on the stack: `[ffi::kevent::default(); 64]`.
        // Steps 4, 8, 10, 12 and 13 come back to this one.
        todo!("step 3")
    }

    fn wake(&self) -> io::Result<()> {
        todo!("step 11")
    }

    fn close_loop(&self) -> io::Result<()> {
        todo!("step 12")
    }
}

/// Unix calls return -1 and leave the reason in `errno`.
fn check(ret: c_int) -> io::Result<c_int> {
    if ret == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(ret)
    }
}

/// The kernel's own names. <https://man.freebsd.org/cgi/man.cgi?query=kqueue&sektion=2>
#[allow(non_camel_case_types)]
mod ffi {
    use std::os::raw::{c_int, c_long};

    /// macOS and its family, FreeBSD, NetBSD, OpenBSD, DragonFly: which one is this?
    const SYSTEM: usize = if cfg!(target_vendor = "apple") {
        0
    } else if cfg!(target_os = "freebsd") {
        1
    } else if cfg!(target_os = "netbsd") {
        2
    } else if cfg!(target_os = "openbsd") {
        3
    } else {
        4
    };

    pub const EVFILT_READ: Filter = [-1, -1, 0, -1, -1][SYSTEM] as Filter;
    pub const EVFILT_WRITE: Filter = [-2, -2, 1, -2, -2][SYSTEM] as Filter;
    /// A knote about nothing: it fires when it is triggered.
    pub const EVFILT_USER: Filter = [-10, -11, 8, -10, -9][SYSTEM] as Filter;

    pub const EV_ADD: Flags = 0x1;
    pub const EV_DELETE: Flags = 0x2;
    pub const EV_ENABLE: Flags = 0x4;
    /// Edge.
    pub const EV_CLEAR: Flags = 0x20;
    /// Answer this change with a record, its error number (or 0) in `data`.
    pub const EV_RECEIPT: Flags = 0x40;
    /// One-shot.
    pub const EV_DISPATCH: Flags = 0x80;
    /// Of an event: the other side has ended.
    pub const EV_EOF: Flags = 0x8000;
    /// In `fflags`, for EVFILT_USER.
    pub const NOTE_TRIGGER: u32 = 0x0100_0000;

    /// There is no such knote.
    pub const ENOENT: i32 = 2;

    #[cfg(not(target_os = "netbsd"))]
    mod numbers {
        pub type Filter = i16;
        pub type Flags = u16;
        pub type Count = std::os::raw::c_int;
    }
    #[cfg(target_os = "netbsd")]
    mod numbers {
        pub type Filter = u32;
        pub type Flags = u32;
        pub type Count = usize;
    }
    pub use numbers::*;

    #[cfg(any(target_vendor = "apple", target_os = "dragonfly"))]
    pub type Data = isize;
    #[cfg(not(any(target_vendor = "apple", target_os = "dragonfly")))]
    pub type Data = i64;

    #[cfg(any(target_vendor = "apple", all(target_os = "freebsd", target_arch = "x86")))]
    pub type Seconds = c_long;
    #[cfg(not(any(target_vendor = "apple", all(target_os = "freebsd", target_arch = "x86"))))]
    pub type Seconds = i64;

    /// One knote: what to change about it, or what it has to say.
    #[derive(Clone, Copy, Default)]
    #[repr(C)]
    pub struct kevent {
        pub ident: usize, // the descriptor
        pub filter: Filter,
        pub flags: Flags,
        pub fflags: u32,
        pub data: Data,
        /// Ours. The headers say `void *`, but nobody follows it.
        pub udata: usize,
        #[cfg(target_os = "freebsd")]
        pub ext: [u64; 4],
    }

    #[repr(C)]
    pub struct timespec {
        pub tv_sec: Seconds,
        pub tv_nsec: c_long,
    }

    // std links the C library already, so we only have to say what is in it.
    extern "C" {
        /// Makes a kqueue. Returns its descriptor, or -1.
        pub fn kqueue() -> c_int;

        /// Makes changes, then waits for events, at most `timeout` (null: for ever). Writes at most `room` records, the receipts
        /// first, and returns how many, or -1. With no room for events it does not wait. NetBSD's plain `kevent` is an
        /// older one for old programs.
        #[cfg_attr(target_os = "netbsd", link_name = "__kevent50")]
        pub fn kevent(
            kq: c_int,
            changes: *const kevent,
            count: Count,
            events: *mut kevent,
            room: Count,
            timeout: *const timespec,
        ) -> c_int;
    }
}
