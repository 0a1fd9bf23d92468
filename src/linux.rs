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
//! To end a wait from outside, something watched must become ready. An eventfd is made for that: a counter in the
//! kernel that is readable once somebody has written to it. The queue has one for closing, and each [`Waker`] has its
//! own, registered under the waker's token like any other source.

use crate::trace;
use crate::unix::{check, pipe2};
use crate::wait::wait;
use crate::{closed, not_registered, Events, Interests, Token};
use std::fmt;
use std::io;
use std::mem::size_of;
use std::net::{SocketAddrV4, SocketAddrV6};
use std::os::raw::c_int;
use std::os::unix::io::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub(crate) use crate::unix::pipe::{pipe, ReadEnd, WriteEnd};
pub use crate::unix::Source;
pub(crate) use crate::unix::{accept, connect, send_vectored, Edge};
pub(crate) use std::os::unix::io::OwnedFd as Owned;

/// The most records the kernel fills in one call: it counts their bytes in an `int`.
const MAX_EVENTS: usize = i32::MAX as usize / size_of::<ffi::epoll_event>();

/// Set once the kernel turns out to have no `epoll_pwait2`: it is older than 5.11, or a sandbox forbids the call.
/// Android's sandbox may answer with a deadly signal, so there we don't try.
static NO_PWAIT2: AtomicBool = AtomicBool::new(cfg!(target_os = "android"));

/// What the selector, its registrators and its wakers share.
pub(crate) struct Queue {
    epoll: OwnedFd,
    /// Readable once the queue is closed.
    close_bell: Bell,
    /// Set once, by `close_loop` or by the end of the selector; looked at by everybody.
    closed: AtomicBool,
    /// What the end of a wait looks at: `WOKE`, `RETIRED`, and above them the number of the round, which is the time from
    /// one wait that was woken to the next. A wake sets `WOKE`, the wait that ends begins a new round.
    round: AtomicUsize,
    retired: Mutex<Retired>,
}

/// Somebody woke in this round; more wakes of the same waker change nothing.
const WOKE: usize = 1;
/// There are retired bells.
const RETIRED: usize = 2;
const ONE_ROUND: usize = 4;

/// Bells of wakers that are gone. Closing a bell takes its undelivered event away, so each stays until a wait that
/// began later has handed out everything there was.
#[derive(Debug, Default)]
struct Retired {
    bells: Vec<Bell>,
    /// How many of them were here when the last wait ended, and so before this one began.
    waited_for: usize,
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("epoll", &self.epoll)
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}

impl Queue {
    #[inline]
    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn retired(&self) -> MutexGuard<'_, Retired> {
        self.retired.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Deals with what others have left for the end of a wait: a wake, or a dropped waker.
    #[cold]
    fn end_round(&self, events: &Events) {
        let round = self.round.load(Ordering::Relaxed);
        if round & WOKE != 0 {
            // The wakes of this round are in `events` or still in the kernel. A wake from here on must write again.
            self.round.fetch_add(ONE_ROUND - WOKE, Ordering::AcqRel);
        }
        if round & RETIRED != 0 {
            let mut retired = self.retired();
            if events.len() < events.capacity() || !self.has_more() {
                let waited_for = retired.waited_for;
                retired.bells.drain(..waited_for);
            }
            retired.waited_for = retired.bells.len();
            if retired.bells.is_empty() {
                self.round.fetch_and(!RETIRED, Ordering::Relaxed);
            }
        }
    }

    /// Adds, changes or removes (`op`) one entry of the first list.
    #[inline]
    fn control(&self, op: c_int, source: BorrowedFd<'_>, mut event: ffi::epoll_event) -> io::Result<()> {
        let (epoll, fd) = (self.epoll.as_raw_fd(), source.as_raw_fd());
        // SAFETY: `event` is initialized and outlives the call, which copies it.
        let ret = unsafe { ffi::epoll_ctl(epoll, op, fd, &mut event) };
        let op = trace::operation(op);
        match check(ret, format_args!("epoll_ctl({epoll}, {op}, {fd}, {event:?})")) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(not_registered()),
            Err(error) => Err(error),
        }
    }

    /// Waits once, at most `timeout`, and lets the kernel write what is ready into the empty `events`.
    #[inline(always)]
    fn wait(&self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        let room = events.capacity().min(MAX_EVENTS) as c_int;
        // An `Event` is an `epoll_event`, laid out alike.
        let buffer = events.as_mut_ptr().cast();
        let ready = match timeout {
            Some(timeout) if !is_whole_millis(timeout) => self.wait_fine(buffer, room, timeout),
            _ => self.wait_millis(buffer, room, timeout),
        }?;
        // SAFETY: the kernel has initialized the first `ready` records, and `ready` is at most the capacity.
        unsafe { events.set_len(ready as usize) };
        Ok(())
    }

    #[inline(always)]
    fn wait_millis(
        &self,
        buffer: *mut ffi::epoll_event,
        room: c_int,
        timeout: Option<Duration>,
    ) -> io::Result<c_int> {
        let (epoll, timeout) = (self.epoll.as_raw_fd(), millis(timeout));
        let slept = trace::Slept::begin();
        // SAFETY: `buffer` has room for `room` records, and the kernel writes at most that many.
        let ready = unsafe { ffi::epoll_wait(epoll, buffer, room, timeout) };
        // SAFETY: the kernel has initialized the first `ready` records.
        let records = unsafe { trace::Records::new(buffer, ready) };
        check(ready, format_args!("{slept}epoll_wait({epoll}, {records:?}, {room}, {timeout})"))
    }

    /// Whether there are events that the last wait did not hand out: an epoll instance is itself readable then.
    #[cold]
    fn has_more(&self) -> bool {
        let epoll = self.epoll.as_raw_fd();
        let mut question = ffi::pollfd { fd: epoll, events: ffi::POLLIN, revents: 0 };
        // SAFETY: the kernel reads and writes one record, which outlives the call.
        let ready = unsafe { ffi::poll(&mut question, 1, 0) };
        let ready = check(ready, format_args!("poll([{{{epoll}, POLLIN}}], 1, 0)"));
        // If the call fails, there may be some.
        !matches!(ready, Ok(0))
    }

    /// Waits in nanoseconds where the kernel can, else rounds up.
    #[cold]
    fn wait_fine(&self, buffer: *mut ffi::epoll_event, room: c_int, timeout: Duration) -> io::Result<c_int> {
        if !NO_PWAIT2.load(Ordering::Relaxed) {
            let epoll = self.epoll.as_raw_fd();
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
        self.wait_millis(buffer, room, Some(timeout))
    }
}

/// Whether the kernel does not have a call, or a sandbox forbids it.
fn is_missing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(ffi::ENOSYS | ffi::EPERM))
}

#[inline]
fn is_whole_millis(timeout: Duration) -> bool {
    timeout.subsec_nanos() % 1_000_000 == 0
}

/// A timeout for `epoll_wait`: rounded up, because a wait must not end early; cut to what fits, because the caller
/// waits again.
#[inline]
fn millis(timeout: Option<Duration>) -> c_int {
    match timeout {
        None => -1,
        Some(timeout) => {
            let longest = c_int::MAX as u64;
            let seconds = timeout.as_secs().min(longest);
            let up = (timeout.subsec_nanos() + 999_999) / 1_000_000;
            (seconds * 1000 + u64::from(up)).min(longest) as c_int
        }
    }
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
        let queue = Queue {
            epoll,
            close_bell: Bell::new()?,
            closed: AtomicBool::new(false),
            round: AtomicUsize::new(0),
            retired: Mutex::default(),
        };
        // Level-triggered and never silenced: a closed queue lets nobody sleep.
        let event = ffi::epoll_event { events: ffi::EPOLLIN, data: 0 };
        queue.control(ffi::EPOLL_CTL_ADD, queue.close_bell.watched.as_fd(), event)?;
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
        let queue = &*self.queue;
        wait(events, timeout, &queue.closed, |events, timeout| {
            queue.wait(events, timeout)?;
            if queue.round.load(Ordering::Relaxed) & (WOKE | RETIRED) != 0 {
                queue.end_round(events);
            }
            Ok(())
        })
    }

    /// A handle that registers sources from any thread.
    pub fn registrator(&self) -> Registrator {
        Registrator { queue: Arc::clone(&self.queue) }
    }
}

impl Drop for Selector {
    /// The loop has ended, and the remaining registrators and wakers must know.
    fn drop(&mut self) {
        self.queue.closed.store(true, Ordering::Release);
        self.queue.retired().bells.clear();
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
        if self.queue.is_closed() {
            return Err(closed());
        }
        let ignored = ffi::epoll_event { events: 0, data: 0 };
        self.queue.control(ffi::EPOLL_CTL_DEL, source.as_fd(), ignored)
    }

    /// Ends the loop, from any thread: the current poll and every later one return
    /// [`Interrupted`](io::ErrorKind::Interrupted), even if nobody was polling yet.
    ///
    /// # Errors
    ///
    /// [`Interrupted`](io::ErrorKind::Interrupted): the queue is already closed.
    pub fn close_loop(&self) -> io::Result<()> {
        if self.queue.closed.swap(true, Ordering::AcqRel) {
            return Err(closed());
        }
        let rang = self.queue.close_bell.ring();
        if rang.is_err() {
            // A poll learns of the end by the bell alone. Without it the loop is open, and can be closed again.
            self.queue.closed.store(false, Ordering::Release);
        }
        rang
    }

    #[inline]
    fn watch(&self, op: c_int, source: BorrowedFd<'_>, token: Token, interests: Interests) -> io::Result<()> {
        interests.check()?;
        if self.queue.is_closed() {
            return Err(closed());
        }
        let event = ffi::epoll_event { events: mask(interests), data: token as u64 };
        self.queue.control(op, source, event)
    }
}

/// What we ask the kernel to report. It reports errors and hang-ups unasked.
#[inline]
fn mask(interests: Interests) -> u32 {
    let mut mask = 0;
    if interests.is_readable() {
        // RDHUP, the peer's half-close, only for readers: a writer has nothing to do about it.
        mask |= ffi::EPOLLIN | ffi::EPOLLRDHUP;
    }
    if interests.is_writable() {
        mask |= ffi::EPOLLOUT | ffi::EPOLLWRBAND;
    }
    if interests.is_edge() {
        mask |= ffi::EPOLLET;
    } else if interests.is_oneshot() {
        mask |= ffi::EPOLLONESHOT;
    }
    mask
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

/// Ends a wait from another thread, with an event of its own: readable, under its token.
///
/// All wakes between two polls come as one event. None is lost, even if the waker is dropped before the poll. A clone
/// is another handle to the same waker.
///
/// # Examples
///
/// ```
/// use minimio::{Events, Poll, Waker};
///
/// # fn main() -> std::io::Result<()> {
/// let mut poll = Poll::new()?;
/// let waker = Waker::new(poll.registry(), 7)?;
/// std::thread::spawn(move || waker.wake());
///
/// let mut events = Events::new();
/// poll.poll(&mut events, None)?;
/// assert!(events[0].id() == 7 && events[0].is_readable());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Waker {
    inner: Arc<WakerInner>,
}

#[derive(Debug)]
struct WakerInner {
    queue: Arc<Queue>,
    /// `None` only while it is being dropped.
    bell: Option<Bell>,
    /// The round, with `WOKE`, of the last wake that rang. 0 is none.
    rang_in: AtomicUsize,
}

impl Waker {
    /// Creates a waker for the queue of a [`Registrator`] or of a [`Registry`](crate::Registry).
    ///
    /// # Errors
    ///
    /// * [`Interrupted`](io::ErrorKind::Interrupted): the queue is closed.
    /// * The system's error if it has no room for another one (on Linux a waker is a descriptor).
    pub fn new(registrator: &impl AsRef<Registrator>, token: Token) -> io::Result<Waker> {
        let queue = Arc::clone(&registrator.as_ref().queue);
        if queue.is_closed() {
            return Err(closed());
        }
        let bell = Bell::new()?;
        // An edge for each write: the bell need not be silenced, so it is never read.
        let event = ffi::epoll_event { events: ffi::EPOLLIN | ffi::EPOLLET, data: token as u64 };
        queue.control(ffi::EPOLL_CTL_ADD, bell.watched.as_fd(), event)?;
        let inner = WakerInner { queue, bell: Some(bell), rang_in: AtomicUsize::new(0) };
        Ok(Waker { inner: Arc::new(inner) })
    }

    /// Makes the current or the next poll deliver this waker's event. Never blocks.
    ///
    /// Once the queue is closed there is nobody left to wake, and this returns `Ok`.
    ///
    /// # Errors
    ///
    /// The system's error, in the rare case that it cannot signal.
    ///
    /// # Platform notes
    ///
    /// On Unix you may call it from a signal handler.
    #[inline]
    pub fn wake(&self) -> io::Result<()> {
        let WakerInner { queue, bell, rang_in } = &*self.inner;
        // This writes even where it changes nothing: so the call stands before or after the one that ends the round, and
        // whatever the caller did before it is seen by the thread that it wakes.
        let round = queue.round.fetch_or(WOKE, Ordering::AcqRel) & !RETIRED | WOKE;
        if rang_in.load(Ordering::Acquire) == round || queue.is_closed() {
            return Ok(());
        }
        bell.as_ref().map_or(Ok(()), Bell::ring)?;
        // Only now: a wake that sees this returns without ringing, and a poll that does not wait must find the event.
        rang_in.store(round, Ordering::Release);
        Ok(())
    }
}

impl Drop for WakerInner {
    fn drop(&mut self) {
        // A bell that never rang owes nobody an event, and once nobody polls, no bell does: close it at once.
        if *self.rang_in.get_mut() == 0 || self.queue.is_closed() {
            return;
        }
        if let Some(bell) = self.bell.take() {
            let mut retired = self.queue.retired();
            retired.bells.push(bell);
            self.queue.round.fetch_or(RETIRED, Ordering::Relaxed);
        }
    }
}

/// Something to watch that others can make readable: an eventfd, or a pipe where there is none.
#[derive(Debug)]
struct Bell {
    watched: OwnedFd,
    /// The end to write to, if it is another one.
    pipe: Option<OwnedFd>,
}

impl Bell {
    fn new() -> io::Result<Bell> {
        // SAFETY: the call takes no memory.
        let fd = unsafe { ffi::eventfd(0, ffi::EFD_CLOEXEC | ffi::EFD_NONBLOCK) };
        match check(fd, format_args!("eventfd2(0, EFD_CLOEXEC|EFD_NONBLOCK)")) {
            Ok(fd) => {
                // SAFETY: the descriptor was just made and nobody else knows it.
                let watched = unsafe { OwnedFd::from_raw_fd(fd) };
                Ok(Bell { watched, pipe: None })
            }
            Err(error) if is_missing(&error) => Bell::pipe(),
            Err(error) => Err(error),
        }
    }

    /// For kernels without eventfd and sandboxes that forbid it.
    fn pipe() -> io::Result<Bell> {
        let [watched, pipe] = pipe2()?;
        Ok(Bell { watched, pipe: Some(pipe) })
    }

    #[inline]
    fn ring(&self) -> io::Result<()> {
        if self.pipe.is_some() {
            // Some kernels tell only of a pipe that was empty before.
            self.read()?;
        }
        loop {
            match self.write() {
                // The counter is full. Empty it; nobody needs what is in it, only the next edge.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.read()?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    #[inline]
    fn write(&self) -> io::Result<()> {
        let fd = self.pipe.as_ref().unwrap_or(&self.watched).as_raw_fd();
        let one = 1u64.to_ne_bytes();
        // SAFETY: the kernel reads the 8 bytes of `one`.
        let written = unsafe { ffi::write(fd, one.as_ptr().cast(), one.len()) };
        check(written as c_int, format_args!("write({}, 1, 8)", fd)).map(drop)
    }

    #[cold]
    fn read(&self) -> io::Result<()> {
        let fd = self.watched.as_raw_fd();
        let mut buffer = [0u8; 4096];
        // SAFETY: the kernel writes at most the length of `buffer` into it.
        let read = unsafe { ffi::read(fd, buffer.as_mut_ptr().cast(), buffer.len()) };
        match check(read as c_int, format_args!("read({}, [..], {})", fd, buffer.len())) {
            // Another thread was quicker.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            // A signal; the write that follows will tell.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            result => result.map(drop),
        }
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
    use std::os::raw::{c_int, c_long, c_short, c_uint, c_ulong, c_void};

    pub type socklen_t = u32;

    // Flags of `epoll_event.events`, the same on every processor.
    pub const EPOLLIN: u32 = 0x1;
    pub const EPOLLOUT: u32 = 0x4;
    pub const EPOLLERR: u32 = 0x8;
    pub const EPOLLHUP: u32 = 0x10;
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
    pub const EFD_NONBLOCK: c_int = O_NONBLOCK;
    pub const EFD_CLOEXEC: c_int = O_CLOEXEC;
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

    pub const POLLIN: c_short = 1;

    /// What to ask `poll` about one descriptor, and its answer.
    #[repr(C)]
    pub struct pollfd {
        pub fd: c_int,
        pub events: c_short,
        pub revents: c_short,
    }

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

        /// Asks which descriptors are ready, now if `timeout` is 0. Returns how many, -1 with `errno` on failure.
        /// <https://man7.org/linux/man-pages/man2/poll.2.html>
        pub fn poll(fds: *mut pollfd, nfds: c_ulong, timeout: c_int) -> c_int;

        /// Any system call by its number: `epoll_pwait2` is younger than some C libraries. Returns what the call returns,
        /// -1 with `errno` on failure. <https://man7.org/linux/man-pages/man2/syscall.2.html>
        pub fn syscall(number: c_long, ...) -> c_long;

        /// Makes a counter that is readable while it is not 0. Returns its descriptor, -1 with `errno` on failure.
        /// <https://man7.org/linux/man-pages/man2/eventfd.2.html>
        pub fn eventfd(initval: c_uint, flags: c_int) -> c_int;

        /// Makes a pipe: `fds[0]` to read, `fds[1]` to write. Returns 0, -1 with `errno` on failure.
        /// <https://man7.org/linux/man-pages/man2/pipe.2.html>
        pub fn pipe2(fds: *mut c_int, flags: c_int) -> c_int;

        /// Asks or sets something about a descriptor. Returns a value that depends on `command`, -1 with `errno` on failure.
        /// <https://man7.org/linux/man-pages/man2/fcntl.2.html>
        pub fn fcntl(fd: c_int, command: c_int, ...) -> c_int;

        /// Returns how many bytes were read, -1 with `errno` on failure.
        /// <https://man7.org/linux/man-pages/man2/read.2.html>
        pub fn read(fd: c_int, buf: *mut c_void, count: usize) -> isize;

        /// Returns how many bytes were written, -1 with `errno` on failure.
        /// <https://man7.org/linux/man-pages/man2/write.2.html>
        pub fn write(fd: c_int, buf: *const c_void, count: usize) -> isize;

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
    use crate::Poll;

    #[test]
    fn milliseconds_are_rounded_up_and_never_overflow() {
        let millis = |nanos| millis(Some(Duration::from_nanos(nanos)));
        assert_eq!([0, 1, 999_999, 1_000_000, 1_000_001].map(millis), [0, 1, 1, 1, 2]);
        assert_eq!(super::millis(None), -1);
        for huge in [Duration::MAX, Duration::from_millis(1 << 31), Duration::new(2_147_483, 648_000_000)] {
            assert_eq!(super::millis(Some(huge)), c_int::MAX);
        }
        assert_eq!(super::millis(Some(Duration::new(2_147_483, 646_000_001))), c_int::MAX);
    }

    #[test]
    fn a_pipe_serves_where_there_is_no_eventfd() {
        let mut selector = Selector::new().unwrap();
        let bell = Bell::pipe().unwrap();
        let event = ffi::epoll_event { events: ffi::EPOLLIN | ffi::EPOLLET, data: 5 };
        selector.queue.control(ffi::EPOLL_CTL_ADD, bell.watched.as_fd(), event).unwrap();
        let mut events = Events::with_capacity(4);
        // Far more than a pipe holds, and nobody reads: each ring must be heard all the same.
        for _ in 0..20_000 {
            bell.ring().unwrap();
            selector.select(&mut events, None).unwrap();
            assert_eq!((events.len(), events[0].id()), (1, 5));
        }
        for _ in 0..20_000 {
            bell.ring().unwrap();
        }
        selector.select(&mut events, None).unwrap();
        assert_eq!(events.len(), 1);
    }

    #[test]
    fn the_bell_of_a_dropped_waker_is_closed_once_it_was_heard() {
        let mut poll = Poll::new().unwrap();
        let registrator = poll.registrator();
        let retired = || registrator.queue.retired().bells.len();
        for token in 0..3 {
            Waker::new(&registrator, token).unwrap().wake().unwrap();
        }
        assert_eq!(retired(), 3);
        let mut events = Events::with_capacity(1);
        // Every batch is full, so it is asked what is left in the kernel.
        for left in [3, 3, 0] {
            assert_eq!(poll.poll(&mut events, None).unwrap(), 1);
            assert_eq!(retired(), left);
        }
        Waker::new(&registrator, 4).unwrap().wake().unwrap();
        let mut events = Events::with_capacity(2);
        assert_eq!(poll.poll(&mut events, None).unwrap(), 1);
        assert_eq!(poll.poll(&mut events, Some(0)).unwrap(), 0);
        assert_eq!(retired(), 0);
    }

    #[test]
    fn wakes_are_merged_until_a_wait_has_ended() {
        let mut poll = Poll::new().unwrap();
        let waker = Waker::new(&poll.registrator(), 1).unwrap();
        let round = || waker.inner.queue.round.load(Ordering::Relaxed);
        assert_eq!(round(), 0);
        waker.wake().unwrap();
        waker.wake().unwrap();
        assert_eq!(round(), WOKE);
        poll.poll(&mut Events::new(), None).unwrap();
        assert_eq!(round(), ONE_ROUND);
        waker.wake().unwrap();
        assert_eq!(round(), ONE_ROUND | WOKE);
    }
}
