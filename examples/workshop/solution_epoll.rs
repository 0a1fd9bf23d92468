//! The workshop's queue on epoll: the solution.
//!
//! The kernel keeps the list of what is watched, and the tokens with it. All that is left for us is to translate: our
//! interests into its bits, its bits into our events, its -1 into an error.

use crate::queue::{Event, Interests, Mode, Queue, Source, Token, WAKE};
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::raw::c_int;
use std::os::unix::io::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The most records the kernel hands over at a time. What did not fit comes with the next wait.
const ROOM: usize = 64;

pub struct Epoll {
    epoll: OwnedFd,
    /// An eventfd, watched like any source. A write to it is an edge, and so one event.
    bell: File,
    closed: AtomicBool,
}

impl Queue for Epoll {
    fn new() -> io::Result<Epoll> {
        // SAFETY: the call takes no memory.
        let fd = check(unsafe { ffi::epoll_create1(ffi::EPOLL_CLOEXEC) })?;
        // SAFETY: the descriptor is new, so nobody else will close it.
        let epoll = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: the call takes no memory.
        let fd = check(unsafe { ffi::eventfd(0, ffi::EFD_CLOEXEC | ffi::EFD_NONBLOCK) })?;
        // SAFETY: the descriptor is new, so nobody else will close it.
        let bell = unsafe { File::from_raw_fd(fd) };
        let queue = Epoll { epoll, bell, closed: AtomicBool::new(false) };
        queue.control(ffi::EPOLL_CTL_ADD, queue.bell.as_fd(), ffi::EPOLLIN | ffi::EPOLLET, WAKE)?;
        Ok(queue)
    }

    fn as_fd(&self) -> Source<'_> {
        self.epoll.as_fd()
    }

    fn register(&self, source: Source<'_>, token: Token, interests: Interests) -> io::Result<()> {
        match self.control(ffi::EPOLL_CTL_ADD, source, bits(interests), token) {
            // It is on the list: change its entry.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                self.reregister(source, token, interests)
            }
            result => result,
        }
    }

    fn reregister(&self, source: Source<'_>, token: Token, interests: Interests) -> io::Result<()> {
        self.control(ffi::EPOLL_CTL_MOD, source, bits(interests), token)
    }

    fn deregister(&self, source: Source<'_>) -> io::Result<()> {
        self.control(ffi::EPOLL_CTL_DEL, source, 0, 0)
    }

    fn poll(&self, events: &mut Vec<Event>, timeout: Option<Duration>) -> io::Result<()> {
        events.clear();
        // A time too far away to be written down is never.
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            self.check_open()?; // before the sleep …
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            match self.wait(events, left) {
                // A signal. It is not what we waited for: go on with the time that is left.
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                result => result?,
            }
            self.check_open()?; // … and after it
            if !events.is_empty() || left == Some(Duration::ZERO) {
                return Ok(());
            }
        }
    }

    fn wake(&self) -> io::Result<()> {
        // An eventfd takes 8 bytes, a number to add to its counter. Nobody ever reads it: only the edge counts.
        (&self.bell).write_all(&1u64.to_ne_bytes())
    }

    fn close_loop(&self) -> io::Result<()> {
        self.closed.store(true, Ordering::Release); // first the fact, then the wake
        self.wake()
    }
}

impl Epoll {
    fn check_open(&self) -> io::Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(io::Error::new(ErrorKind::Interrupted, "the loop is closed"));
        }
        Ok(())
    }

    /// Adds, changes or removes (`op`) one entry of the interest list.
    fn control(&self, op: c_int, source: Source<'_>, events: u32, token: Token) -> io::Result<()> {
        let mut event = ffi::epoll_event { events, data: token as u64 };
        let (epoll, fd) = (self.epoll.as_raw_fd(), source.as_raw_fd());
        // SAFETY: `event` is initialized and outlives the call, which copies it.
        check(unsafe { ffi::epoll_ctl(epoll, op, fd, &mut event) })?;
        Ok(())
    }

    /// Sleeps once, and translates what is ready.
    fn wait(&self, events: &mut Vec<Event>, timeout: Option<Duration>) -> io::Result<()> {
        let mut records = [ffi::epoll_event { events: 0, data: 0 }; ROOM];
        let (epoll, room) = (self.epoll.as_raw_fd(), records.len() as c_int);
        // SAFETY: `records` has room for `room` records, and the kernel writes at most that many.
        let ready = unsafe { ffi::epoll_wait(epoll, records.as_mut_ptr(), room, millis(timeout)) };
        let ready = check(ready)? as usize;
        for record in &records[..ready] {
            // Copied, because a field of a packed struct must not be borrowed.
            let (bits, data) = (record.events, record.data);
            let gone = bits & (ffi::EPOLLHUP | ffi::EPOLLERR) != 0;
            events.push(Event {
                token: data as Token,
                readable: bits & (ffi::EPOLLIN | ffi::EPOLLRDHUP) != 0 || gone,
                writable: bits & ffi::EPOLLOUT != 0 || gone,
                read_closed: bits & (ffi::EPOLLRDHUP | ffi::EPOLLHUP) != 0,
            });
        }
        Ok(())
    }
}

/// What to report, in the words of the kernel. Errors and hang-ups it reports unasked.
fn bits(interests: Interests) -> u32 {
    let readable = if interests.readable { ffi::EPOLLIN | ffi::EPOLLRDHUP } else { 0 };
    let writable = if interests.writable { ffi::EPOLLOUT } else { 0 };
    let mode = match interests.mode {
        Mode::Level => 0,
        Mode::OneShot => ffi::EPOLLONESHOT,
        Mode::Edge => ffi::EPOLLET,
    };
    readable | writable | mode
}

/// A timeout for `epoll_wait`: rounded up, because 0.3 ms are not 0, and -1 for none. What is too long is cut; `poll` waits on.
fn millis(timeout: Option<Duration>) -> c_int {
    match timeout {
        None => -1,
        Some(timeout) => {
            let up = (timeout.as_nanos() + 999_999) / 1_000_000;
            c_int::try_from(up).unwrap_or(c_int::MAX)
        }
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
