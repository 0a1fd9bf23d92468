//! The same few steps on every library: what each workload is written against.
//!
//! Each implementation is the loop that its library's documentation teaches, and no more: the compiler sees through all of
//! them, for a workload is compiled once for each.

use std::fmt::Debug;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};

#[cfg(feature = "minimio")]
pub mod minimio;
#[cfg(feature = "mio")]
pub mod mio;
#[cfg(feature = "polling")]
pub mod polling;
#[cfg(feature = "raw")]
pub mod raw;

/// What a call returned: each is expected to work, this is a measurement. Unlike `unwrap` it leaves nothing to clean up behind.
#[inline]
fn sure<T, E: Debug>(result: Result<T, E>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => fail(error),
    }
}

#[cold]
#[inline(never)]
fn fail(error: impl Debug) -> ! {
    panic!("{error:?}");
}

/// When a source is reported.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// As long as it is ready.
    Level,
    /// Each time it becomes ready. The documented contract of every library: read until there is nothing left.
    Edge,
    /// Once, until it is changed.
    OneShot,
}

// `Mode` as a number, for Rust does not take an enum as a constant parameter.
pub const LEVEL: u8 = 0;
pub const EDGE: u8 = 1;
pub const ONE_SHOT: u8 = 2;

pub const fn mode(number: u8) -> Mode {
    match number {
        LEVEL => Mode::Level,
        EDGE => Mode::Edge,
        _ => Mode::OneShot,
    }
}

/// A library in one mode.
pub trait Queue: Sized {
    const LIBRARY: &'static str;
    const MODE: Mode;
    /// Whether its documentation asks that a source be taken out before it is closed.
    const REMOVE_BEFORE_CLOSE: bool;
    type Registry: Registry;
    /// What its documentation accepts connections with.
    type Listener: Listener;

    /// A queue whose poll brings at most `capacity` events.
    fn new(capacity: usize) -> Self;
    fn registry(&self) -> &Self::Registry;
    /// Waits, at most `limit` milliseconds, and calls `ready` with the token of each source that can be read.
    fn poll(&mut self, limit: Option<i32>, ready: impl FnMut(&Self::Registry, usize));
}

/// What a queue watches.
pub trait Registry {
    /// What to watch for, in the words of the library.
    type Interest: Copy;

    /// Reading, in this mode.
    fn interest(mode: Mode) -> Self::Interest;
    /// Watches `fd` for reading.
    fn add(&self, fd: BorrowedFd<'_>, token: usize, mode: Mode);
    /// Watches it for something else, or for the same again.
    fn watch(&self, fd: BorrowedFd<'_>, token: usize, interest: Self::Interest);
    /// Watches it for reading in another mode, or in the same one again.
    #[inline]
    fn change(&self, fd: BorrowedFd<'_>, token: usize, mode: Mode) {
        self.watch(fd, token, Self::interest(mode));
    }
    fn remove(&self, fd: BorrowedFd<'_>);
}

/// A listener on loopback that does not block, and whose streams do not either.
pub trait Listener: AsFd {
    type Stream: AsFd + Read + Write;
    fn bind() -> Self;
    fn address(&self) -> SocketAddr;
    /// The next connection and who it is, `None` if there is none.
    fn accept(&self) -> Option<(Self::Stream, SocketAddr)>;
}

/// A queue that other threads can wake, under a token of its own.
pub trait Wakeable: Queue {
    type Waker: Wake;
    fn waker(&self, token: usize) -> Self::Waker;
}

pub trait Wake: Send + 'static {
    fn wake(&self);
}
