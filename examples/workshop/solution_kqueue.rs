//! The workshop's queue on kqueue: the solution.
//!
//! The kernel keeps a knote for each descriptor and direction, and the tokens with them. All that is left for us is to
//! translate: our interests into changes, its records into our events, its error numbers into errors.
//!
//! (It takes EVFILT_USER for granted. NetBSD has it since 10, OpenBSD since 7.8.)

use crate::queue::{Event, Interests, Mode, Queue, Source, Token, WAKE};
use std::io::{self, ErrorKind};
use std::os::raw::c_int;
use std::os::unix::io::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The most records the kernel hands over at a time. What did not fit comes with the next wait.
const ROOM: usize = 64;

/// The kernels refuse very long waits, each from a limit of its own.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

pub struct Kqueue {
    kqueue: OwnedFd,
    closed: AtomicBool,
}

impl Queue for Kqueue {
    fn new() -> io::Result<Kqueue> {
        // SAFETY: the call takes no memory.
        let fd = check(unsafe { ffi::kqueue() })?;
        // SAFETY: the descriptor is new, so nobody else will close it.
        let kqueue = unsafe { OwnedFd::from_raw_fd(fd) };
        let queue = Kqueue { kqueue, closed: AtomicBool::new(false) };
        // The bell: a knote about nothing, which fires when it is triggered, and once for all triggers before a wait.
        queue.control(&[change(0, ffi::EVFILT_USER, ffi::EV_ADD | ffi::EV_CLEAR, WAKE)])?;
        Ok(queue)
    }

    fn as_fd(&self) -> Source<'_> {
        self.kqueue.as_fd()
    }

    fn register(&self, source: Source<'_>, token: Token, interests: Interests) -> io::Result<()> {
        let fd = source.as_raw_fd() as usize;
        let mode = match interests.mode {
            Mode::Level => 0,
            Mode::OneShot => ffi::EV_DISPATCH,
            Mode::Edge => ffi::EV_CLEAR,
        };
        // A knote keeps the mode it was born with, and one that is disabled stays so. New ones start afresh.
        let mut changes = deletes(fd).to_vec();
        if interests.readable {
            changes.push(change(fd, ffi::EVFILT_READ, ffi::EV_ADD | mode, token));
        }
        if interests.writable {
            changes.push(change(fd, ffi::EVFILT_WRITE, ffi::EV_ADD | mode, token));
        }
        self.control(&changes)?;
        Ok(())
    }

    fn reregister(&self, source: Source<'_>, token: Token, interests: Interests) -> io::Result<()> {
        self.register(source, token, interests)
    }

    fn deregister(&self, source: Source<'_>) -> io::Result<()> {
        match self.control(&deletes(source.as_raw_fd() as usize))? {
            0 => Err(ErrorKind::NotFound.into()),
            _ => Ok(()),
        }
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
        let mut trigger = change(0, ffi::EVFILT_USER, 0, WAKE);
        trigger.fflags = ffi::NOTE_TRIGGER;
        self.control(&[trigger])?;
        Ok(())
    }

    fn close_loop(&self) -> io::Result<()> {
        self.closed.store(true, Ordering::Release); // first the fact, then the wake
        self.wake()
    }
}

impl Kqueue {
    fn check_open(&self) -> io::Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(io::Error::new(ErrorKind::Interrupted, "the loop is closed"));
        }
        Ok(())
    }

    /// Carries out all `changes` and returns how many there were, but for those to a knote that is not there.
    fn control(&self, changes: &[ffi::kevent]) -> io::Result<usize> {
        let mut receipts = changes.to_vec();
        let (kqueue, count) = (self.kqueue.as_raw_fd(), changes.len() as ffi::Count);
        // SAFETY: both lists are `count` records long and outlive the call. Each change asks for a receipt, so that there is no
        // room for an event, and no wait.
        check(unsafe {
            ffi::kevent(kqueue, changes.as_ptr(), count, receipts.as_mut_ptr(), count, ptr::null())
        })?;
        let mut made = 0;
        for receipt in &receipts {
            match receipt.data as i32 {
                0 => made += 1,
                ffi::ENOENT => {}
                errno => return Err(io::Error::from_raw_os_error(errno)),
            }
        }
        Ok(made)
    }

    /// Sleeps once, and translates what is ready.
    fn wait(&self, events: &mut Vec<Event>, timeout: Option<Duration>) -> io::Result<()> {
        let mut records = [change(0, ffi::EVFILT_READ, 0, 0); ROOM];
        let (kqueue, room) = (self.kqueue.as_raw_fd(), records.len() as ffi::Count);
        let limit = timeout.map(|timeout| timespec(timeout.min(LONGEST))); // `poll` waits on
        let limit = limit.as_ref().map_or(ptr::null(), |limit| limit as *const _);
        // SAFETY: `records` has room for `room` records, the kernel writes at most that many, and `limit` outlives the call.
        let ready = unsafe { ffi::kevent(kqueue, ptr::null(), 0, records.as_mut_ptr(), room, limit) };
        let ready = check(ready)? as usize;
        for record in &records[..ready] {
            let readable = record.filter == ffi::EVFILT_READ;
            events.push(Event {
                token: record.udata,
                readable,
                writable: record.filter == ffi::EVFILT_WRITE,
                read_closed: readable && record.flags & ffi::EV_EOF != 0,
            });
        }
        Ok(())
    }
}

/// A change of one knote, with a receipt: so one that fails does not stop the others.
fn change(ident: usize, filter: ffi::Filter, flags: ffi::Flags, token: Token) -> ffi::kevent {
    ffi::kevent { ident, filter, flags: flags | ffi::EV_RECEIPT, udata: token, ..ffi::kevent::default() }
}

/// The end of both knotes of a descriptor. Mostly only one is there.
fn deletes(fd: usize) -> [ffi::kevent; 2] {
    [ffi::EVFILT_READ, ffi::EVFILT_WRITE].map(|filter| change(fd, filter, ffi::EV_DELETE, 0))
}

fn timespec(time: Duration) -> ffi::timespec {
    ffi::timespec { tv_sec: time.as_secs() as ffi::Seconds, tv_nsec: time.subsec_nanos() as _ }
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
