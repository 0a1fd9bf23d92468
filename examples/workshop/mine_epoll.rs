//! Your queue on epoll.
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
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::raw::c_int;
use std::os::unix::io::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

pub struct Epoll {
    // Step 1: the descriptor, in an `OwnedFd`. Steps 11 and 12 will want something more.
}

impl Queue for Epoll {
    fn new() -> io::Result<Epoll> {
        // `check(unsafe { ffi::epoll_create1(…) })?` gives the descriptor, `OwnedFd::from_raw_fd` takes it over.
        todo!("step 1")
    }

    fn as_fd(&self) -> Source<'_> {
        // An `OwnedFd` has a function of this name.
        todo!("step 1")
    }

    fn register(&self, source: Source<'_>, token: Token, interests: Interests) -> io::Result<()> {
        // The token travels in `data`. A function of your own around `epoll_ctl` will soon pay: there are three operations.
        // Steps 5 to 8 and 10 come back to this one.
        todo!("step 2")
    }

    fn reregister(&self, source: Source<'_>, token: Token, interests: Interests) -> io::Result<()> {
        todo!("step 5")
    }

    fn deregister(&self, source: Source<'_>) -> io::Result<()> {
        todo!("step 9")
    }

    fn poll(&self, events: &mut Vec<Event>, timeout: Option<Duration>) -> io::Result<()> {
        // An array of records lives on the stack: `[ffi::epoll_event { events: 0, data: 0 }; 64]`. Copy a field out of a record
        // before you use it: in a packed struct it may lie askew, and Rust does not let you borrow it.
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

/// The kernel's own names. <https://man7.org/linux/man-pages/man7/epoll.7.html>
#[allow(non_camel_case_types)]
mod ffi {
    use std::os::raw::{c_int, c_uint};

    pub const EPOLL_CLOEXEC: c_int = 0x80000;
    pub const EPOLL_CTL_ADD: c_int = 1;
    pub const EPOLL_CTL_DEL: c_int = 2;
    pub const EPOLL_CTL_MOD: c_int = 3;

    pub const EPOLLIN: u32 = 0x1;
    pub const EPOLLOUT: u32 = 0x4;
    pub const EPOLLERR: u32 = 0x8;
    pub const EPOLLHUP: u32 = 0x10;
    /// The other side has sent its last byte.
    pub const EPOLLRDHUP: u32 = 0x2000;
    pub const EPOLLONESHOT: u32 = 1 << 30;
    pub const EPOLLET: u32 = 1 << 31;

    pub const EFD_CLOEXEC: c_int = 0x80000;
    pub const EFD_NONBLOCK: c_int = 0x800;

    /// What to watch for, or what happened, and 64 bits of ours. Packed on x86-64, and there alone.
    #[derive(Clone, Copy)]
    #[cfg_attr(target_arch = "x86_64", repr(C, packed))]
    #[cfg_attr(not(target_arch = "x86_64"), repr(C))]
    pub struct epoll_event {
        pub events: u32,
        pub data: u64,
    }

    // std links the C library already, so we only have to say what is in it.
    extern "C" {
        /// Makes an epoll instance. Returns its descriptor, or -1.
        pub fn epoll_create1(flags: c_int) -> c_int;
        /// Adds, changes or removes one entry. Returns 0, or -1.
        pub fn epoll_ctl(epfd: c_int, op: c_int, fd: c_int, event: *mut epoll_event) -> c_int;
        /// Sleeps until something is ready, or for so many milliseconds (-1: for ever). Writes at most `room` records and
        /// returns how many, or -1.
        pub fn epoll_wait(epfd: c_int, events: *mut epoll_event, room: c_int, millis: c_int) -> c_int;
        /// Makes a counter with a descriptor, readable while it is not 0. Returns the descriptor, or -1.
        pub fn eventfd(initial: c_uint, flags: c_int) -> c_int;
    }
}
