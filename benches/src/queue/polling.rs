//! polling. One-shot is its default.

use super::{mode, sure, Listener, Mode, Queue, Registry, Wake, Wakeable};
use polling::{Event, Events, PollMode, Poller};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

pub struct Polling<const MODE: u8> {
    poller: Arc<Poller>,
    events: Events,
}

impl Registry for Poller {
    type Interest = PollMode;

    #[inline]
    fn interest(mode: Mode) -> PollMode {
        match mode {
            Mode::Level => PollMode::Level,
            Mode::Edge => PollMode::Edge,
            Mode::OneShot => PollMode::Oneshot,
        }
    }

    #[inline]
    fn add(&self, fd: BorrowedFd<'_>, token: usize, mode: Mode) {
        let (fd, interest) = (fd.as_raw_fd(), Event::readable(token));
        // SAFETY: whoever closes a source takes it out first, or is done with the poller.
        sure(unsafe { self.add_with_mode(fd, interest, Self::interest(mode)) });
    }

    #[inline]
    fn watch(&self, fd: BorrowedFd<'_>, token: usize, mode: PollMode) {
        sure(self.modify_with_mode(fd, Event::readable(token), mode));
    }

    #[inline]
    fn remove(&self, fd: BorrowedFd<'_>) {
        sure(self.delete(fd));
    }
}

impl<const MODE: u8> Queue for Polling<MODE> {
    const LIBRARY: &'static str = "polling";
    const MODE: Mode = mode(MODE);
    // "The source must be `delete()`d from this `Poller` before it is dropped."
    const REMOVE_BEFORE_CLOSE: bool = true;
    type Registry = Poller;
    type Listener = TcpListener;

    fn new(capacity: usize) -> Self {
        Polling {
            poller: Arc::new(Poller::new().unwrap()),
            events: Events::with_capacity(NonZeroUsize::new(capacity).unwrap()),
        }
    }

    #[inline]
    fn registry(&self) -> &Poller {
        &self.poller
    }

    #[inline]
    fn poll(&mut self, limit: Option<i32>, mut ready: impl FnMut(&Poller, usize)) {
        let limit = limit.map(|ms| Duration::from_millis(ms as u64));
        self.events.clear();
        sure(self.poller.wait(&mut self.events, limit));
        for event in self.events.iter() {
            if event.readable {
                ready(&self.poller, event.key);
            }
        }
    }
}

/// It has no listener of its own: std's, whose streams come blocking.
impl Listener for TcpListener {
    type Stream = TcpStream;

    fn bind() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        listener
    }

    fn address(&self) -> SocketAddr {
        self.local_addr().unwrap()
    }

    #[inline]
    fn accept(&self) -> Option<(TcpStream, SocketAddr)> {
        let (stream, address) = TcpListener::accept(self).ok()?;
        stream.set_nonblocking(true).unwrap();
        Some((stream, address))
    }
}

/// It wakes without an event: a poll that returns with none was woken.
pub struct PollingWaker(Arc<Poller>);

impl<const MODE: u8> Wakeable for Polling<MODE> {
    type Waker = PollingWaker;

    fn waker(&self, _token: usize) -> PollingWaker {
        PollingWaker(Arc::clone(&self.poller))
    }
}

impl Wake for PollingWaker {
    #[inline]
    fn wake(&self) {
        sure(self.0.notify());
    }
}
