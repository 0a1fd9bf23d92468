//! Linux and Android: epoll.
//!
//! An epoll instance is a kernel object with two lists: the descriptors we asked about, and those among them with
//! news. `epoll_create1` makes it, `epoll_ctl` edits the first list, `epoll_wait` sleeps until the second is not empty and
//! copies it out.
//!
//! One registration: `register` adds a socket with our token; bytes arrive and the kernel moves it to the ready list;
//! `select` hands it back as an [`Event`] with that token; closing its last descriptor takes it off both.
//!
//! We remember nothing of this ourselves. The kernel keeps the token, and writes its records straight into the caller's
//! [`Events`]; a registration costs no memory here, and a poll is one system call.
//!
//! To end a wait from outside, something watched must become ready. The queue has a bell for that: the writing end of a
//! pipe that nobody uses, which is ready at any time. At first it is watched for nothing, so it is silent. Ringing it
//! means asking for readiness, by `EPOLL_CTL_MOD` in edge mode: the kernel looks, finds it ready, and reports it once.
//! (An eventfd is the usual bell, but it has no condition of its own. By `EPOLLWRNORM`, for which we watch no source,
//! we tell the bell's record from all others, so every token is left to the user.)

use crate::trace;
use crate::unix::{check, pipe2};
use crate::wait::{millis, room, wait, Kernel, Timeout};
use crate::waker::Wakes;
use crate::{closed, not_registered, Events, Interests, Token};
use std::fmt;
use std::io;
use std::mem::size_of;
use std::net::{SocketAddrV4, SocketAddrV6};
use std::os::raw::c_int;
use std::os::unix::io::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::Arc;
use std::time::Duration;

pub(crate) use crate::unix::pipe::{pipe, ReadEnd, WriteEnd};
pub use crate::unix::Source;
pub(crate) use crate::unix::{accept, connect, send_vectored, Edge};
pub use crate::waker::Waker;
pub(crate) use std::os::unix::io::OwnedFd as Owned;

/// The most records the kernel fills in one call: it counts their bytes in an `int`.
const MAX_EVENTS: usize = i32::MAX as usize / size_of::<ffi::epoll_event>();

/// The condition that the bell is told by: no source is watched for it.
const BELL: u32 = ffi::EPOLLWRNORM;

/// Set once the kernel turned out to have no `epoll_pwait2`: before Linux 5.11, or forbidden by a sandbox. That of Android and
/// OpenHarmony may answer with a deadly signal, so there it is not tried.
static NO_PWAIT2: AtomicBool = AtomicBool::new(cfg!(any(target_os = "android", target_env = "ohos")));

/// What the selector, its registrators and its wakers share.
pub(crate) struct Queue {
    epoll: OwnedFd,
    /// The number that the calls are given: the descriptor's, and -1 once the queue is closed. Such a call does nothing and
    /// waits for nothing, it is an error at once.
    number: AtomicI32,
    /// A pipe: the end to read from and the one to write to, which is watched.
    bell: [OwnedFd; 2],
    pub(crate) wakes: Wakes,
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("epoll", &self.epoll)
            .field("closed", &self.wakes.is_closed())
            .finish_non_exhaustive()
    }
}

impl Queue {
    /// Adds, changes or removes (`op`) one entry of the first list.
    #[inline(always)]
    fn edit(&self, op: c_int, source: BorrowedFd<'_>, event: ffi::epoll_event) -> io::Result<()> {
        control(self.number(), op, source, event).map_err(|error| self.failure(error))
    }

    #[inline(always)]
    fn number(&self) -> c_int {
        self.number.load(Ordering::Acquire)
    }

    /// What a call that failed says to the user.
    #[cold]
    #[inline(never)]
    fn failure(&self, error: io::Error) -> io::Error {
        match error.kind() {
            _ if self.wakes.is_closed() => closed(),
            io::ErrorKind::NotFound => not_registered(),
            _ => error,
        }
    }

    /// Takes the bell out of a batch of events, and adds what the wakers have to say.
    #[cold]
    fn hear(&self, events: &mut Events, ready: usize) -> io::Result<()> {
        // SAFETY: the kernel has initialized the first `ready` records, and `ready` is at most the capacity.
        unsafe { events.set_len(ready) };
        if self.wakes.is_closed() {
            return Err(closed());
        }
        let bell = events.iter().position(|event| event.has(BELL));
        if let Some(bell) = bell {
            events.remove(bell);
            self.wakes.silence();
        }
        let readable =
            |token| Event { record: ffi::epoll_event { events: ffi::EPOLLIN, data: token as u64 } };
        if self.wakes.deliver(events, readable) && self.ring().is_err() {
            // Never seen. What is in hand matters more: the rest comes with the next ring.
            self.wakes.silence();
        }
        if bell.is_some() && events.is_empty() {
            // It was for wakes that came with an earlier batch. There may be more behind it.
            return (&mut &*self).wait_once(events, Timeout::Millis(0));
        }
        Ok(())
    }

    /// Ends the current wait, or the next one. Never blocks.
    pub(crate) fn ring(&self) -> io::Result<()> {
        let once = ffi::epoll_event { events: BELL | ffi::EPOLLET, data: 0 };
        control(self.epoll.as_raw_fd(), ffi::EPOLL_CTL_MOD, self.bell[1].as_fd(), once)
    }

    /// Returns whether it was closed already.
    fn close(&self) -> bool {
        let was_closed = self.wakes.close();
        self.number.store(-1, Ordering::Release);
        was_closed
    }

    #[inline(always)]
    fn wait_millis(&self, buffer: *mut ffi::epoll_event, room: c_int, timeout: c_int) -> io::Result<c_int> {
        let epoll = self.number();
        let slept = trace::Slept::begin();
        // SAFETY: `buffer` has room for `room` records, and the kernel writes at most that many.
        let ready = unsafe { ffi::epoll_wait(epoll, buffer, room, timeout) };
        // SAFETY: the kernel has initialized the first `ready` records.
        let records = unsafe { trace::Records::new(buffer, ready) };
        check(ready, format_args!("{slept}epoll_wait({epoll}, {records:?}, {room}, {timeout})"))
    }

    /// Waits in nanoseconds where the kernel can, else rounds up.
    #[cold]
    fn wait_exactly(
        &self,
        buffer: *mut ffi::epoll_event,
        room: c_int,
        timeout: Duration,
    ) -> io::Result<c_int> {
        if !NO_PWAIT2.load(Ordering::Relaxed) {
            let epoll = self.number();
            let limit = ffi::timespec {
                tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: timeout.subsec_nanos().into(),
            };
            let slept = trace::Slept::begin();
            // SAFETY: the arguments are those of `epoll_pwait2`: `buffer` has room for `room` records, `limit` outlives the
            // call, and there is no signal mask.
            let ready = unsafe {
                ffi::syscall(ffi::SYS_epoll_pwait2, epoll, buffer, room, &limit, ptr::null::<u8>(), 0usize)
            };
            let ready = ready as c_int;
            // SAFETY: the kernel has initialized the first `ready` records.
            let records = unsafe { trace::Records::new(buffer, ready) };
            let result = check(
                ready,
                format_args!("{slept}epoll_pwait2({epoll}, {records:?}, {room}, {limit:?}, NULL, 0)"),
            );
            match result {
                Err(error) if is_missing(&error) => {
                    NO_PWAIT2.store(true, Ordering::Relaxed);
                }
                result => return result,
            }
        }
        self.wait_millis(buffer, room, millis(timeout))
    }
}

#[inline(always)]
fn control(epoll: c_int, op: c_int, source: BorrowedFd<'_>, mut event: ffi::epoll_event) -> io::Result<()> {
    let fd = source.as_raw_fd();
    // SAFETY: `event` is initialized and outlives the call, which copies it.
    let ret = unsafe { ffi::epoll_ctl(epoll, op, fd, &mut event) };
    let op = trace::operation(op);
    check(ret, format_args!("epoll_ctl({epoll}, {op}, {fd}, {event:?})")).map(drop)
}

impl Kernel for &Queue {
    #[inline(always)]
    fn wait_once(&mut self, events: &mut Events, timeout: Timeout) -> io::Result<()> {
        let room = room(events, MAX_EVENTS) as c_int;
        // An `Event` is an `epoll_event`, laid out alike.
        let buffer = events.as_mut_ptr().cast();
        let ready = match timeout {
            Timeout::Millis(millis) => self.wait_millis(buffer, room, millis),
            Timeout::Exactly(timeout) => self.wait_exactly(buffer, room, timeout),
        };
        let ready = match ready {
            Ok(ready) => ready,
            Err(error) => return Err(self.failure(error)),
        };
        if self.wakes.are_news() {
            return self.hear(events, ready as usize);
        }
        // SAFETY: the kernel has initialized the first `ready` records, and `ready` is at most the capacity.
        unsafe { events.set_len(ready as usize) };
        Ok(())
    }
}

/// Whether the kernel does not have a call, or a sandbox forbids it.
fn is_missing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(ffi::ENOSYS | ffi::EPERM))
}

/// The queue itself, seen from the thread that waits. [`Poll`](crate::Poll) drives it.
#[derive(Debug)]
pub struct Selector {
    queue: Arc<Queue>,
}

impl Selector {
    /// Creates an empty queue.
    ///
    /// # Errors
    ///
    /// The system's error if it has no room for another queue.
    pub fn new() -> io::Result<Selector> {
        // SAFETY: the call takes no memory.
        let fd = unsafe { ffi::epoll_create1(ffi::EPOLL_CLOEXEC) };
        let fd = check(fd, format_args!("epoll_create1(EPOLL_CLOEXEC)"))?;
        // SAFETY: the descriptor was just made and nobody else knows it.
        let epoll = unsafe { OwnedFd::from_raw_fd(fd) };
        let queue = Queue { number: AtomicI32::new(fd), epoll, bell: pipe2()?, wakes: Wakes::default() };
        let silent = ffi::epoll_event { events: ffi::EPOLLET, data: 0 };
        control(fd, ffi::EPOLL_CTL_ADD, queue.bell[1].as_fd(), silent)?;
        Ok(Selector { queue: Arc::new(queue) })
    }

    /// Clears `events` and waits until there are some, or until `timeout` (`None`: for ever) has passed.
    ///
    /// # Errors
    ///
    /// [`Interrupted`](io::ErrorKind::Interrupted) without an OS code once the queue is closed; otherwise the system's
    /// error. `events` is empty then.
    #[inline(always)]
    pub fn select(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        self.wait(events, timeout.into())
    }

    /// The same with any kind of timeout.
    #[inline(always)]
    pub(crate) fn wait(&mut self, events: &mut Events, timeout: Timeout) -> io::Result<()> {
        wait(&*self.queue, events, timeout)
    }

    /// A handle that registers sources from any thread.
    pub fn registrator(&self) -> Registrator {
        Registrator { queue: Arc::clone(&self.queue) }
    }
}

impl Drop for Selector {
    /// The loop has ended, and the remaining registrators and wakers must know.
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl AsFd for Selector {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.queue.epoll.as_fd()
    }
}

/// Registers sources with a queue, from any thread, even while another one is inside [`Poll::poll`](crate::Poll::poll).
///
/// A clone is another handle to the same queue.
#[derive(Clone, Debug)]
pub struct Registrator {
    pub(crate) queue: Arc<Queue>,
}

impl Registrator {
    /// Starts watching `source`, or replaces what this queue watched it for: token, direction and mode.
    ///
    /// The newest registration wins: no poll that starts later delivers an event with an old token. A source that is
    /// ready at this moment delivers an event. Nothing is lost between a one-shot event and its re-arming.
    ///
    /// The source stays as it is, blocking or not. minimio's own sockets never block. Call `set_nonblocking(true)` on
    /// one of std's before you register it; otherwise, if you read until `WouldBlock`, the last read blocks for ever.
    ///
    /// # Errors
    ///
    /// * [`InvalidInput`](io::ErrorKind::InvalidInput): `interests` names no direction, or both modes. An earlier
    ///   registration stays as it was.
    /// * [`Interrupted`](io::ErrorKind::Interrupted): the queue is closed.
    /// * [`Unsupported`](io::ErrorKind::Unsupported), on Windows only: edge mode for a source that is not of minimio's
    ///   types; or a source that is, while a clone of it is registered or another queue watches it. Everything stays as
    ///   it was.
    /// * The system's error: the source cannot be watched (`EPERM` for a regular file), or there is no memory or no
    ///   room for it.
    ///
    /// # Platform notes
    ///
    /// On Linux a registration lives as long as the open file behind the descriptor: while a duplicate (`dup`,
    /// `try_clone`, `fork`) is open, closing the registered descriptor does not end the registration. A child process
    /// holds a duplicate for a moment while `std::process::Command` starts it, close-on-exec or not. Calling
    /// `deregister` before you close is always enough.
    ///
    /// Windows cannot watch one socket twice, whether in two queues or as two clones. minimio's types refuse it; any
    /// other socket moves to the queue that registered it last, and you must not watch its clones beside it. Nor does
    /// Windows say when such a socket is closed. The library tells it from others only by its number and its addresses,
    /// and after it is closed, one event that was already on its way may still come, in the first poll that starts
    /// then.
    #[inline]
    pub fn register(
        &self,
        source: &(impl Source + ?Sized),
        token: Token,
        interests: Interests,
    ) -> io::Result<()> {
        loop {
            match self.watch(ffi::EPOLL_CTL_ADD, source.as_fd(), token, interests) {
                Err(error) if error.raw_os_error() == Some(ffi::EEXIST) => {}
                result => return result,
            }
            // Already watched. The kernel knows best: a table of our own could be fooled by a reused number.
            match self.watch(ffi::EPOLL_CTL_MOD, source.as_fd(), token, interests) {
                // Another thread has deregistered it in the meantime.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                result => return result,
            }
        }
    }

    /// Replaces what a registered `source` is watched for: the cheap way to re-arm a one-shot source.
    ///
    /// # Errors
    ///
    /// * [`NotFound`](io::ErrorKind::NotFound): this queue does not watch the source.
    /// * Else as [`register`](Registrator::register).
    #[inline]
    pub fn reregister(
        &self,
        source: &(impl Source + ?Sized),
        token: Token,
        interests: Interests,
    ) -> io::Result<()> {
        self.watch(ffi::EPOLL_CTL_MOD, source.as_fd(), token, interests)
    }

    /// Stops watching `source`: no poll that starts later delivers its events. You can register it again, here or with
    /// another queue.
    ///
    /// # Errors
    ///
    /// * [`NotFound`](io::ErrorKind::NotFound): this queue does not watch the source.
    /// * [`Interrupted`](io::ErrorKind::Interrupted): the queue is closed.
    #[inline]
    pub fn deregister(&self, source: &(impl Source + ?Sized)) -> io::Result<()> {
        let ignored = ffi::epoll_event { events: 0, data: 0 };
        self.queue.edit(ffi::EPOLL_CTL_DEL, source.as_fd(), ignored)
    }

    /// Ends the loop, from any thread: the current poll and every later one return
    /// [`Interrupted`](io::ErrorKind::Interrupted), even if nobody was polling yet.
    ///
    /// # Errors
    ///
    /// * [`Interrupted`](io::ErrorKind::Interrupted): the queue is already closed.
    /// * The system's error, in the rare case that it cannot signal. The queue is closed all the same, but a poll that is
    ///   asleep may not know it yet.
    pub fn close_loop(&self) -> io::Result<()> {
        let was_closed = self.queue.close();
        // Also the second time, for the first may have failed.
        let rang = self.queue.ring();
        if was_closed {
            Err(closed())
        } else {
            rang
        }
    }

    #[inline(always)]
    fn watch(&self, op: c_int, source: BorrowedFd<'_>, token: Token, interests: Interests) -> io::Result<()> {
        let events = MASKS[usize::from(interests.0)];
        if events == 0 {
            // It says what is wrong.
            return interests.check();
        }
        self.queue.edit(op, source, ffi::epoll_event { events, data: token as u64 })
    }
}

/// What the kernel shall report, by the byte of an [`Interests`]; 0 where that makes no sense. (There are but sixteen. With room
/// for every byte there is no other to be checked for.)
const MASKS: [u32; 256] = {
    let mut masks = [0; 256];
    let mut bits = 0;
    while bits < masks.len() {
        masks[bits] = mask(Interests(bits as u8));
        bits += 1;
    }
    masks
};

/// Errors and hang-ups the kernel reports unasked.
const fn mask(interests: Interests) -> u32 {
    let mut mask = 0;
    if interests.is_readable() {
        // RDHUP, the peer's half-close, only for readers: a writer has nothing to do about it.
        mask |= ffi::EPOLLIN | ffi::EPOLLRDHUP;
    }
    if interests.is_writable() {
        mask |= ffi::EPOLLOUT | ffi::EPOLLWRBAND;
    }
    match (interests.is_level(), interests.is_edge()) {
        _ if mask == 0 => 0,
        (true, true) => 0,
        (true, false) => mask,
        (false, true) => mask | ffi::EPOLLET,
        (false, false) => mask | ffi::EPOLLONESHOT,
    }
}

/// What a poll reports about one source: its token, and what it is ready for.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Event {
    record: ffi::epoll_event,
}

impl Event {
    /// The token with which the source was registered.
    #[inline]
    pub fn id(&self) -> Token {
        self.record.data as Token
    }

    /// A read will not block: there is data, the end of the stream, a connection to accept, or an error to pick up. An error
    /// counts for both directions, whichever you asked for.
    #[inline]
    pub fn is_readable(&self) -> bool {
        self.has(ffi::EPOLLIN | ffi::EPOLLRDHUP | ffi::EPOLLHUP | ffi::EPOLLERR)
    }

    /// A write will not block: there is room, the connection is established, or there is an error to pick up. An error
    /// counts for both directions, whichever you asked for.
    #[inline]
    pub fn is_writable(&self) -> bool {
        self.has(ffi::EPOLLOUT | ffi::EPOLLHUP | ffi::EPOLLERR)
    }

    /// The peer will send no more. What it sent before can still be read.
    #[inline]
    pub fn is_read_closed(&self) -> bool {
        self.has(ffi::EPOLLRDHUP | ffi::EPOLLHUP)
    }

    /// Nothing more can be sent: the connection has failed, or has ended in both directions.
    ///
    /// # Platform notes
    ///
    /// After you have shut down writing yourself, kqueue reports this at once; the others need not. On Linux a full
    /// pipe whose reader has gone reports writable and error, but not this; and a TCP stream with a message in its
    /// error queue (because you asked for `MSG_ZEROCOPY` or time stamps) reports this although it is open.
    #[inline]
    pub fn is_write_closed(&self) -> bool {
        // A pipe whose reader is gone says only ERR. So does a datagram socket with an error to pick up, which is not
        // closed; but that, unlike a pipe, says WRBAND along with OUT. (So does a TCP connection with a message in its
        // error queue, without WRBAND; only a program that sends with MSG_ZEROCOPY or asks for time stamps meets that.)
        self.has(ffi::EPOLLHUP)
            || self.has(ffi::EPOLLERR) && self.has(ffi::EPOLLOUT) && !self.has(ffi::EPOLLWRBAND)
    }

    /// The source has failed: its connection was refused or reset, for instance. On a stream, `take_error` says why.
    ///
    /// # Platform notes
    ///
    /// On Linux also a pipe whose reader has gone, and a socket with a message in its error queue (because you asked
    /// for `MSG_ZEROCOPY` or time stamps), which has not failed.
    #[inline]
    pub fn is_error(&self) -> bool {
        self.has(ffi::EPOLLERR)
    }

    #[inline]
    fn has(&self, bits: u32) -> bool {
        self.record.events & bits != 0
    }
}

/// Whether the system was told to raise no `SIGPIPE` for this pipe: it cannot be told.
pub(crate) fn silence_pipe(_writer: &OwnedFd) -> io::Result<bool> {
    Ok(false)
}

/// Nothing to do: each send of std and of this crate says that it wants no `SIGPIPE`.
#[inline(always)]
pub(crate) fn forbid_sigpipe(_socket: &impl AsFd) {}

impl From<SocketAddrV4> for ffi::sockaddr_in {
    fn from(address: SocketAddrV4) -> Self {
        ffi::sockaddr_in {
            sin_family: ffi::AF_INET as u16,
            sin_port: address.port().to_be(),
            sin_addr: address.ip().octets(),
            sin_zero: [0; 8],
        }
    }
}

impl From<SocketAddrV6> for ffi::sockaddr_in6 {
    fn from(address: SocketAddrV6) -> Self {
        ffi::sockaddr_in6 {
            sin6_family: ffi::AF_INET6 as u16,
            sin6_port: address.port().to_be(),
            sin6_flowinfo: address.flowinfo(),
            sin6_addr: address.ip().octets(),
            sin6_scope_id: address.scope_id(),
        }
    }
}

/// The system's own names. <https://man7.org/linux/man-pages/>
#[allow(non_camel_case_types, non_upper_case_globals)]
pub(crate) mod ffi {
    use std::mem::{align_of, size_of};
    use std::os::raw::{c_int, c_long, c_void};

    pub type socklen_t = u32;

    // Flags of `epoll_event.events`, the same on every processor.
    pub const EPOLLIN: u32 = 0x1;
    pub const EPOLLOUT: u32 = 0x4;
    pub const EPOLLERR: u32 = 0x8;
    pub const EPOLLHUP: u32 = 0x10;
    pub const EPOLLWRNORM: u32 = 0x100;
    pub const EPOLLWRBAND: u32 = 0x200;
    pub const EPOLLRDHUP: u32 = 0x2000;
    pub const EPOLLONESHOT: u32 = 1 << 30;
    pub const EPOLLET: u32 = 1 << 31;

    pub const EPOLL_CTL_ADD: c_int = 1;
    pub const EPOLL_CTL_DEL: c_int = 2;
    pub const EPOLL_CTL_MOD: c_int = 3;

    pub const F_SETFD: c_int = 2;
    pub const F_SETFL: c_int = 4;
    pub const FD_CLOEXEC: c_int = 1;
    pub const EPERM: i32 = 1;
    pub const EEXIST: i32 = 17;

    pub const AF_INET: c_int = 2;
    pub const AF_INET6: c_int = 10;
    pub const MSG_NOSIGNAL: c_int = 0x4000;
    /// The most buffers that `sendmsg` takes.
    pub const IOV_MAX: usize = 1024;

    // MIPS and SPARC number these in their own way.
    const MIPS32: bool = cfg!(any(target_arch = "mips", target_arch = "mips32r6"));
    const MIPS64: bool = cfg!(any(target_arch = "mips64", target_arch = "mips64r6"));
    const SPARC: bool = cfg!(any(target_arch = "sparc", target_arch = "sparc64"));

    /// Picks the number of this processor.
    const fn number(usual: c_int, mips: c_int, sparc: c_int) -> c_int {
        if MIPS32 || MIPS64 {
            mips
        } else if SPARC {
            sparc
        } else {
            usual
        }
    }

    pub const ENOSYS: i32 = number(38, 89, 90);
    pub const EINPROGRESS: i32 = number(115, 150, 36);
    pub const O_NONBLOCK: c_int = number(0x800, 0x80, 0x4000);
    pub const O_CLOEXEC: c_int = number(0x8_0000, 0x8_0000, 0x40_0000);
    pub const EPOLL_CLOEXEC: c_int = O_CLOEXEC;
    pub const SOCK_NONBLOCK: c_int = O_NONBLOCK;
    pub const SOCK_CLOEXEC: c_int = O_CLOEXEC;
    pub const SOCK_STREAM: c_int = number(1, 2, 1);

    /// The same number everywhere, counted from where the processor's table begins.
    pub const SYS_epoll_pwait2: c_long = 441
        + if MIPS32 {
            4000
        } else if MIPS64 {
            5000
        } else if cfg!(all(target_arch = "x86_64", target_pointer_width = "32")) {
            0x4000_0000
        } else {
            0
        };

    /// One entry of either list: what to watch for or what happened, and 64 bits of ours. Packed on x86-64 only, where
    /// it had to be the same for 32-bit programs.
    #[derive(Clone, Copy, PartialEq, Eq)]
    #[cfg_attr(target_arch = "x86_64", repr(C, packed))]
    #[cfg_attr(not(target_arch = "x86_64"), repr(C))]
    pub struct epoll_event {
        pub events: u32,
        pub data: u64,
    }

    // A wrong layout does not compile. Where a u64 is aligned to less than 8 bytes, on 32-bit x86 for one, there is no gap.
    const _: () = assert!(
        size_of::<epoll_event>()
            == if cfg!(target_arch = "x86_64") || align_of::<u64>() < 8 { 12 } else { 16 }
    );

    /// The kernel's `__kernel_timespec`, of 64-bit fields on every processor.
    #[repr(C)]
    pub struct timespec {
        pub tv_sec: i64,
        pub tv_nsec: i64,
    }

    #[derive(Clone, Copy, Default)]
    #[repr(C)]
    pub struct sockaddr_in {
        pub sin_family: u16,
        /// Big-endian.
        pub sin_port: u16,
        pub sin_addr: [u8; 4],
        pub sin_zero: [u8; 8],
    }

    #[derive(Clone, Copy, Default)]
    #[repr(C)]
    pub struct sockaddr_in6 {
        pub sin6_family: u16,
        /// Big-endian.
        pub sin6_port: u16,
        pub sin6_flowinfo: u32,
        pub sin6_addr: [u8; 16],
        pub sin6_scope_id: u32,
    }

    const _: () = assert!(size_of::<sockaddr_in>() == 16 && size_of::<sockaddr_in6>() == 28);

    /// A message to send, as the kernel reads it.
    #[repr(C)]
    pub struct msghdr {
        pub msg_name: *const c_void,
        pub msg_namelen: socklen_t,
        pub msg_iov: *const c_void,
        pub msg_iovlen: usize,
        pub msg_control: *const c_void,
        pub msg_controllen: usize,
        pub msg_flags: c_int,
    }

    extern "C" {
        /// Makes an epoll instance. Returns its descriptor, -1 with `errno` on failure.
        /// <https://man7.org/linux/man-pages/man2/epoll_create1.2.html>
        pub fn epoll_create1(flags: c_int) -> c_int;

        /// Adds, changes or removes an entry. Returns 0, -1 with `errno` on failure.
        /// <https://man7.org/linux/man-pages/man2/epoll_ctl.2.html>
        pub fn epoll_ctl(epfd: c_int, op: c_int, fd: c_int, event: *mut epoll_event) -> c_int;

        /// Sleeps until something is ready, then writes up to `maxevents` entries. Returns how many, 0 on timeout
        /// (milliseconds, -1 for ever), -1 with `errno` on failure.
        /// <https://man7.org/linux/man-pages/man2/epoll_wait.2.html>
        pub fn epoll_wait(epfd: c_int, events: *mut epoll_event, maxevents: c_int, timeout: c_int) -> c_int;

        /// Any system call by its number: `epoll_pwait2` is younger than some C libraries. Returns what the call returns,
        /// -1 with `errno` on failure. <https://man7.org/linux/man-pages/man2/syscall.2.html>
        pub fn syscall(number: c_long, ...) -> c_long;

        /// Makes a pipe: `fds[0]` to read, `fds[1]` to write. Returns 0, -1 with `errno` on failure.
        /// <https://man7.org/linux/man-pages/man2/pipe.2.html>
        pub fn pipe2(fds: *mut c_int, flags: c_int) -> c_int;

        /// Asks or sets something about a descriptor. Returns a value that depends on `command`, -1 with `errno` on failure.
        /// <https://man7.org/linux/man-pages/man2/fcntl.2.html>
        pub fn fcntl(fd: c_int, command: c_int, ...) -> c_int;

        /// Makes a socket. Returns its descriptor, -1 with `errno` on failure.
        /// <https://man7.org/linux/man-pages/man2/socket.2.html>
        pub fn socket(domain: c_int, ty: c_int, protocol: c_int) -> c_int;

        /// Connects, or begins to. Returns 0, -1 with `errno` (`EINPROGRESS`) otherwise.
        /// <https://man7.org/linux/man-pages/man2/connect.2.html>
        pub fn connect(fd: c_int, address: *const c_void, length: socklen_t) -> c_int;

        /// Takes a connection off a listener and writes the address of its other end. Returns its descriptor, -1 with `errno` on
        /// failure. <https://man7.org/linux/man-pages/man2/accept.2.html>
        pub fn accept4(fd: c_int, address: *mut c_void, length: *mut socklen_t, flags: c_int) -> c_int;

        /// Sends from several buffers. Returns how many bytes, -1 with `errno` on failure.
        /// <https://man7.org/linux/man-pages/man2/sendmsg.2.html>
        pub fn sendmsg(fd: c_int, message: *const msghdr, flags: c_int) -> isize;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    /// Else a poll would call the kernel again and again, until the time has passed.
    #[test]
    fn a_wait_below_a_millisecond_sleeps_at_once_as_long_as_it_should() {
        let selector = Selector::new().unwrap();
        let mut events = Events::with_capacity(4);
        for no_pwait2 in [false, true] {
            // For the other tests it makes no difference.
            NO_PWAIT2.store(no_pwait2, Ordering::Relaxed);
            let timeout = Duration::from_micros(300);
            let start = Instant::now();
            (&mut &*selector.queue).wait_once(&mut events, Timeout::Exactly(timeout)).unwrap();
            assert!(start.elapsed() >= timeout, "{:?}", start.elapsed());
        }
        NO_PWAIT2.store(false, Ordering::Relaxed);
    }

    #[test]
    fn a_bell_whose_wake_was_delivered_before_hides_nothing() {
        let mut selector = Selector::new().unwrap();
        let registrator = selector.registrator();
        let waker = Waker::new(&registrator, 1).unwrap();
        waker.wake().unwrap();
        // As a poll does that comes between the mark and the ring.
        let mut tokens = Vec::with_capacity(1);
        selector.queue.wakes.deliver(&mut tokens, |token| token);
        assert_eq!(tokens, [1]);

        let [_reader, writer] = pipe2().unwrap();
        registrator.register(&writer, 2, Interests::WRITABLE).unwrap();
        let mut events = Events::with_capacity(1);
        selector.select(&mut events, Some(Duration::ZERO)).unwrap();
        assert_eq!(events.iter().map(Event::id).collect::<Vec<_>>(), [2]);
    }
}
