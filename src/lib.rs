//! A zero-dependency, cross-platform event queue: one thread waits for many sockets.
//!
//! # The shortest working program
//!
//! ```
//! use minimio::{Events, Interests, Poll, TcpListener, TcpStream};
//! use std::io::{ErrorKind, Read, Write};
//!
//! # fn main() -> std::io::Result<()> {
//! let mut poll = Poll::new()?;
//! let mut events = Events::with_capacity(64);
//! let listener = TcpListener::bind("127.0.0.1:0")?;
//! poll.registry().register(&listener, 1, Interests::READABLE)?;
//!
//! let mut client = TcpStream::connect(listener.local_addr()?)?;
//! poll.poll(&mut events, None)?; // sleeps until somebody connects
//! assert_eq!(events[0].id(), 1);
//! let (mut server, _) = listener.accept()?;
//!
//! poll.registry().register(&server, 2, Interests::READABLE)?;
//! client.write_all(b"hello")?;
//! poll.poll(&mut events, None)?; // sleeps until something can be read
//! assert_eq!(events[0].id(), 2);
//!
//! let mut buffer = [0; 64];
//! assert_eq!(server.read(&mut buffer)?, 5);
//! let nothing_left = server.read(&mut buffer).unwrap_err(); // no waiting here
//! assert_eq!(nothing_left.kind(), ErrorKind::WouldBlock);
//! # Ok(())
//! # }
//! ```
//!
//! From here: [`Poll`] waits, [`Registrator`] chooses what to wait for, [`Waker`] ends a wait from another thread. The
//! [`guide`] explains how it all works, from a thread that blocks to `async`/`await`.
//!
//! [`TcpListener`], [`TcpStream`] and [`UdpSocket`] are std's types, except that they never block. You can register std's own as
//! well, and on Unix anything with a descriptor. But **a socket of std blocks** until you call `set_nonblocking(true)`:
//! if you read from one until `WouldBlock`, the last read stops your loop.
//!
//! # One life on three kernels
//!
//! | | Linux, Android | macOS, iOS and family, the BSDs | Windows |
//! |---|---|---|---|
//! | kernel object | epoll instance | kqueue | I/O completion port and AFD polls |
//! | [`Poll::new`] | `epoll_create1` | `kqueue` | `CreateIoCompletionPort` |
//! | [`Registrator::register`] | `epoll_ctl` | `kevent` | `NtDeviceIoControlFile(IOCTL_AFD_POLL)` |
//! | [`Poll::poll`] | `epoll_wait` | `kevent` | `GetQueuedCompletionStatusEx` |
//! | [`Waker::wake`] | `epoll_ctl` of a pipe that is always ready | `kevent` with `NOTE_TRIGGER` | `PostQueuedCompletionStatus` |
//! | [`TcpListener::accept`] | `accept4` | `accept4`; on Apple's systems `accept` and `fcntl` | `accept` and `SetHandleInformation` |
//! | closing a source | leaves the queue by itself, with its last duplicate | leaves the queue by itself | ends its poll |
//! | how it works | [epoll](guide::ch04_epoll) | [kqueue](guide::ch05_kqueue) | [IOCP](guide::ch06_iocp), [AFD](guide::ch07_afd) |
//!
//! # What every platform promises
//!
//! **Registering.** [`Registrator::register`] starts watching a source, or replaces what the queue watched it for; the
//! newest registration wins. Registering looks at readiness anew: a source that is ready at that moment delivers an
//! event, in every mode. You may register from any thread, even while another one is inside [`Poll::poll`]; it takes
//! effect on that very poll.
//!
//! **Modes.** *One-shot*, the default: a poll reports the source once, and then it is silent, in both directions, until
//! you register it again. [`Interests::LEVEL`]: an event from every poll for as long as the source is ready.
//! [`Interests::EDGE`]: an event each time the source becomes ready; read or write until `WouldBlock` before you expect
//! the next one. [A chapter of the guide](guide::ch09_modes) shows them side by side.
//!
//! **Polling.** [`Poll::poll`] blocks until there is at least one event, the timeout has passed, or the loop is closed.
//! Signals do not surface. Events that did not fit come with the next poll. A source that is ready in both directions
//! may come as one event, or as two within one poll: handle both. An armed source may give a spurious event; a spent
//! one-shot, a deregistered or closed source, or an old token never does. (On Linux a source is closed when its last
//! duplicate is; on Windows a source that is not of minimio's types may have an event on its way.
//! [`Registrator::register`] has the fine print. Deregistering before you close is always enough.)
//!
//! **Ending.** After [`Registrator::close_loop`], or once the [`Poll`] has been dropped, every call returns
//! [`ErrorKind::Interrupted`](std::io::ErrorKind::Interrupted) without an OS code. It means the end, never "try again":
//! do not retry on it.
//!
//! # What a kernel cannot do
//!
//! | | epoll | kqueue | IOCP and AFD |
//! |---|---|---|---|
//! | sources | any pollable descriptor | any pollable descriptor | sockets, and minimio's own pipes |
//! | one-shot, [`LEVEL`](Interests::LEVEL) | yes | yes | yes |
//! | one socket watched twice, in two queues or as two clones | yes | yes | no, the kernel mixes up the events: `Unsupported` for minimio's types; any other socket moves to the queue that registered it last |
//! | [`EDGE`](Interests::EDGE) | yes | yes | for minimio's own types; another socket gets `Unsupported` |
//! | [`poll_timeout`](Poll::poll_timeout) finer than 1 ms | yes (Linux 5.11 and newer, else rounded up) | yes | rounded up |
//!
//! None of them offers urgent (out-of-band) data as an interest. [Why each of these is as it is](guide::ch08_one_api).
//!
//! # Features
//!
//! `trace` prints each system call of the library to standard error as it returns, one line each, in the manner of
//! `strace`. It is off by default, and then costs nothing. It does not show the closing of a descriptor, nor what std
//! calls for a socket.
//!
//! ```text
//!     0.021 ms  epoll_ctl(3, EPOLL_CTL_ADD, 7, {EPOLLIN|EPOLLRDHUP|EPOLLONESHOT, token=10}) = 0
//!   100.258 ms  (slept 100.214 ms) epoll_wait(3, [{EPOLLIN, token=10}], 64, -1) = 1
//! ```

#![warn(missing_docs, missing_debug_implementations, unsafe_op_in_unsafe_fn)]
#![warn(clippy::undocumented_unsafe_blocks)]

use std::fmt;
use std::io;
use std::ops::{BitOr, BitOrAssign};
use std::time::Duration;

// The platforms, chosen here and nowhere else.
#[cfg(any(target_os = "linux", target_os = "android"))]
#[path = "linux.rs"]
mod platform;
#[cfg(any(
    target_vendor = "apple",
    target_os = "freebsd",
    target_os = "netbsd",
    target_os = "openbsd",
    target_os = "dragonfly"
))]
#[path = "macos.rs"]
mod platform;
#[cfg(windows)]
#[path = "windows.rs"]
mod platform;
#[cfg(not(any(
    target_os = "linux",
    target_os = "android",
    target_vendor = "apple",
    target_os = "freebsd",
    target_os = "netbsd",
    target_os = "openbsd",
    target_os = "dragonfly",
    windows
)))]
compile_error!(
    "minimio knows epoll (Linux, Android), kqueue (macOS, iOS and family, FreeBSD, NetBSD, OpenBSD, DragonFly) \
     and IOCP (Windows); this system has none of them"
);

mod contract;
#[cfg(any(doc, doctest))] // text only: whoever builds the crate need not read it
pub mod guide;
mod net;
mod pipe;
mod trace;
#[cfg(unix)]
mod unix;
mod wait;
mod waker;

use wait::Timeout;

pub use net::{TcpListener, TcpStream, UdpSocket};
pub use pipe::{pipe, PipeReader, PipeWriter};
pub use platform::{Event, Registrator, Selector, Source, Waker};

/// The number by which you recognize a registration in its events. Every value is yours; none is reserved.
pub type Token = usize;

/// The events of one poll. Its capacity is the most events that one poll delivers. That is a batch size and never a
/// limit: what does not fit comes with the next poll. The first poll gives a vector without capacity a default one.
pub type Events = Vec<Event>;

/// An event queue: register sources, then wait for all of them at once.
///
/// Dropping it ends the loop for its [`Registrator`]s and [`Waker`]s, as [`Registrator::close_loop`] does. Its sources
/// outlive it.
///
/// # Platform notes
///
/// On Unix you can register a queue with another one: it is a source that is readable while it has events. Its
/// descriptor is closed when the last of its [`Registrator`]s and [`Waker`]s is gone, so deregister it there before you
/// drop it. A queue does not survive `fork`: create a new one in the child. On Linux, a child that wakes or
/// closes the old one reaches into the parent's, which then reports an event that is ready for nothing, with token 0.
///
/// # Examples
///
/// Closing the loop from another thread:
///
/// ```
/// use minimio::{Events, Poll};
/// use std::{io, thread};
///
/// # fn main() -> io::Result<()> {
/// let mut poll = Poll::new()?;
/// let registrator = poll.registrator();
/// let other = thread::spawn(move || registrator.close_loop());
///
/// let error = poll.poll(&mut Events::with_capacity(8), None).unwrap_err();
/// assert_eq!(error.kind(), io::ErrorKind::Interrupted);
/// other.join().unwrap()
/// # }
/// ```
pub struct Poll {
    pub(crate) selector: Selector,
    registry: Registry,
}

impl Poll {
    /// Creates a queue with nothing registered.
    ///
    /// # Errors
    ///
    /// The system's error if it has no room for another queue (on Unix `EMFILE` or `ENFILE`: too many open
    /// descriptors).
    pub fn new() -> io::Result<Poll> {
        let selector = Selector::new()?;
        let registry = Registry { registrator: selector.registrator() };
        Ok(Poll { selector, registry })
    }

    /// Registers sources from the thread that polls.
    #[inline]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// A handle that registers sources from any other thread, even while this one is inside [`Poll::poll`].
    pub fn registrator(&self) -> Registrator {
        self.selector.registrator()
    }

    /// Clears `events`, blocks until there is at least one event, the timeout has passed or the loop is closed, and
    /// returns how many events it delivered, which is `events.len()`.
    ///
    /// `None` blocks for ever, `Some(n)` for n milliseconds. A negative n counts as 0, and 0 never blocks: it sees what
    /// was ready before the call. A signal neither ends nor extends the wait. `Ok(0)` always means that the time has
    /// passed. Once `events` has its capacity, nothing is allocated.
    ///
    /// # Errors
    ///
    /// * [`ErrorKind::Interrupted`](io::ErrorKind::Interrupted) without an OS code once the loop is closed. It is
    ///   sticky and means the end: do not retry on it.
    /// * The system's error, in the rare case that waiting itself fails.
    ///
    /// After an error `events` is empty.
    ///
    /// # Platform notes
    ///
    /// On Windows a source registered just before, or a pipe, may need a moment longer than a poll with a timeout of 0
    /// gives it.
    #[inline(always)] // A few instructions around the call of the kernel: see `wait`.
    pub fn poll(&mut self, events: &mut Events, timeout_ms: Option<i32>) -> io::Result<usize> {
        // What is known of the timeout in each arm saves instructions there.
        match timeout_ms {
            Some(millis) if millis > 0 => self.selector.wait(events, Timeout::Millis(millis))?,
            Some(_) => self.selector.wait(events, Timeout::Millis(0))?,
            None => self.selector.wait(events, Timeout::Millis(-1))?,
        }
        Ok(events.len())
    }

    /// Like [`Poll::poll`], with a timeout as fine as the kernel can wait for: a `Duration`, or an `Option` of one,
    /// where `None` waits for ever. It is rounded up, never down; a huge one waits as long as the kernel allows.
    ///
    /// # Errors
    ///
    /// Those of [`Poll::poll`].
    ///
    /// # Platform notes
    ///
    /// Nanoseconds on Linux 5.11 and newer, on macOS and on the BSDs; elsewhere whole milliseconds.
    #[inline(always)] // A few instructions around the call of the kernel: see `wait`.
    pub fn poll_timeout(
        &mut self,
        events: &mut Events,
        timeout: impl Into<Option<Duration>>,
    ) -> io::Result<usize> {
        self.selector.select(events, timeout.into())?;
        Ok(events.len())
    }
}

impl fmt::Debug for Poll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poll").field("queue", &self.registry.registrator.queue).finish()
    }
}

/// Registers sources from the thread that polls. [`Registrator`] does the same from any thread and describes each
/// method.
#[derive(Debug)]
pub struct Registry {
    registrator: Registrator,
}

impl Registry {
    /// Starts watching `source`, or replaces what this queue watched it for: [`Registrator::register`].
    ///
    /// # Errors
    ///
    /// Those of [`Registrator::register`].
    #[inline]
    pub fn register(
        &self,
        source: &(impl Source + ?Sized),
        token: Token,
        interests: Interests,
    ) -> io::Result<()> {
        self.registrator.register(source, token, interests)
    }

    /// Replaces what a registered `source` is watched for: [`Registrator::reregister`].
    ///
    /// # Errors
    ///
    /// Those of [`Registrator::reregister`].
    #[inline]
    pub fn reregister(
        &self,
        source: &(impl Source + ?Sized),
        token: Token,
        interests: Interests,
    ) -> io::Result<()> {
        self.registrator.reregister(source, token, interests)
    }

    /// Stops watching `source`: [`Registrator::deregister`].
    ///
    /// # Errors
    ///
    /// Those of [`Registrator::deregister`].
    #[inline]
    pub fn deregister(&self, source: &(impl Source + ?Sized)) -> io::Result<()> {
        self.registrator.deregister(source)
    }
}

/// So that you can create a [`Waker`] from either.
impl AsRef<Registrator> for Registry {
    fn as_ref(&self) -> &Registrator {
        &self.registrator
    }
}

/// So that you can create a [`Waker`] from either.
impl AsRef<Registrator> for Registrator {
    fn as_ref(&self) -> &Registrator {
        self
    }
}

/// What to watch a source for, and how: flags that you combine with `|`.
///
/// Give at least one of [`READABLE`](Interests::READABLE) and [`WRITABLE`](Interests::WRITABLE), and at most one of
/// [`LEVEL`](Interests::LEVEL) and [`EDGE`](Interests::EDGE); with neither of those two the mode is one-shot.
///
/// ```
/// use minimio::Interests;
///
/// let interests = Interests::READABLE | Interests::WRITABLE | Interests::LEVEL;
/// assert!(interests.is_readable() && interests.is_level() && !interests.is_oneshot());
/// assert_eq!(format!("{:?}", interests), "READABLE | WRITABLE | LEVEL");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Interests(u8);

impl Interests {
    /// Events when a read will not block: there is data, the end of the stream, a connection to accept, or an error.
    pub const READABLE: Interests = Interests(1);
    /// Events when a write will not block: there is room, a connection is established, or there is an error.
    pub const WRITABLE: Interests = Interests(2);
    /// An event from every poll for as long as the source is ready.
    pub const LEVEL: Interests = Interests(4);
    /// An event each time the source becomes ready. Read or write until `WouldBlock` before you expect the next one;
    /// more data may bring it earlier, but need not.
    pub const EDGE: Interests = Interests(8);

    /// All flags of both: what `|` does, for constants.
    ///
    /// ```
    /// use minimio::Interests;
    ///
    /// const BOTH: Interests = Interests::READABLE.union(Interests::WRITABLE);
    /// assert_eq!(BOTH, Interests::READABLE | Interests::WRITABLE);
    /// ```
    #[inline]
    pub const fn union(self, other: Interests) -> Interests {
        Interests(self.0 | other.0)
    }

    /// Whether [`READABLE`](Interests::READABLE) is among the flags.
    #[inline]
    pub const fn is_readable(self) -> bool {
        self.0 & Interests::READABLE.0 != 0
    }

    /// Whether [`WRITABLE`](Interests::WRITABLE) is among the flags.
    #[inline]
    pub const fn is_writable(self) -> bool {
        self.0 & Interests::WRITABLE.0 != 0
    }

    /// Whether [`LEVEL`](Interests::LEVEL) is among the flags.
    #[inline]
    pub const fn is_level(self) -> bool {
        self.0 & Interests::LEVEL.0 != 0
    }

    /// Whether [`EDGE`](Interests::EDGE) is among the flags.
    #[inline]
    pub const fn is_edge(self) -> bool {
        self.0 & Interests::EDGE.0 != 0
    }

    /// Whether no mode is among the flags: one event, then silence until you register the source again.
    #[inline]
    pub const fn is_oneshot(self) -> bool {
        !self.is_level() && !self.is_edge()
    }

    /// Refuses what no kernel could make sense of, before anything is changed.
    #[inline]
    pub(crate) fn check(self) -> io::Result<()> {
        let refuse = |why| Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        if !self.is_readable() && !self.is_writable() {
            return refuse("interests need READABLE, WRITABLE or both");
        }
        if self.is_level() && self.is_edge() {
            return refuse("interests take LEVEL or EDGE, not both");
        }
        Ok(())
    }
}

impl BitOr for Interests {
    type Output = Interests;

    #[inline]
    fn bitor(self, other: Interests) -> Interests {
        self.union(other)
    }
}

impl BitOrAssign for Interests {
    #[inline]
    fn bitor_assign(&mut self, other: Interests) {
        self.0 |= other.0;
    }
}

impl fmt::Debug for Interests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (self.is_readable(), "READABLE"),
            (self.is_writable(), "WRITABLE"),
            (self.is_level(), "LEVEL"),
            (self.is_edge(), "EDGE"),
        ];
        let mut between = "";
        for (_, name) in names.iter().filter(|(set, _)| *set) {
            write!(f, "{}{}", between, name)?;
            between = " | ";
        }
        Ok(())
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = [
            (self.is_readable(), "readable"),
            (self.is_writable(), "writable"),
            (self.is_read_closed(), "read-closed"),
            (self.is_write_closed(), "write-closed"),
            (self.is_error(), "error"),
        ];
        write!(f, "Event({}", self.id())?;
        for (_, word) in words.iter().filter(|(said, _)| *said) {
            write!(f, " {}", word)?;
        }
        f.write_str(")")
    }
}

/// The answer of a closed queue. It carries no OS code, so no signal can be mistaken for it.
#[cold]
pub(crate) fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::Interrupted, "the event queue is closed")
}

/// The answer to changing or ending a registration that does not exist.
#[cold]
pub(crate) fn not_registered() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the source is not registered with this queue")
}

/// The README's programs are compiled and run with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;
