//! minimio.

use super::{mode, sure, Listener, Mode, Queue, Registry, Wake, Wakeable};
use minimio::{Events, Interests, Poll, TcpListener, TcpStream, Waker};
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

pub struct Minimio<const MODE: u8> {
    poll: Poll,
    events: Events,
}

impl Registry for minimio::Registry {
    type Interest = Interests;

    #[inline]
    fn interest(mode: Mode) -> Interests {
        match mode {
            Mode::Level => Interests::READABLE | Interests::LEVEL,
            Mode::Edge => Interests::READABLE | Interests::EDGE,
            Mode::OneShot => Interests::READABLE,
        }
    }

    #[inline]
    fn add(&self, fd: BorrowedFd<'_>, token: usize, mode: Mode) {
        sure(self.register(&fd, token, Self::interest(mode)));
    }

    #[inline]
    fn watch(&self, fd: BorrowedFd<'_>, token: usize, interest: Interests) {
        sure(self.reregister(&fd, token, interest));
    }

    #[inline]
    fn remove(&self, fd: BorrowedFd<'_>) {
        sure(self.deregister(&fd));
    }
}

impl<const MODE: u8> Queue for Minimio<MODE> {
    const LIBRARY: &'static str = "minimio";
    const MODE: Mode = mode(MODE);
    const REMOVE_BEFORE_CLOSE: bool = false;
    type Registry = minimio::Registry;
    type Listener = TcpListener;

    fn new(capacity: usize) -> Self {
        Minimio { poll: Poll::new().unwrap(), events: Events::with_capacity(capacity) }
    }

    #[inline]
    fn registry(&self) -> &minimio::Registry {
        self.poll.registry()
    }

    #[inline]
    fn poll(&mut self, limit: Option<i32>, mut ready: impl FnMut(&minimio::Registry, usize)) {
        sure(self.poll.poll(&mut self.events, limit));
        for event in &self.events {
            if event.is_readable() {
                ready(self.poll.registry(), event.id());
            }
        }
    }
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    fn bind() -> Self {
        TcpListener::bind("127.0.0.1:0").unwrap()
    }

    fn address(&self) -> SocketAddr {
        self.local_addr().unwrap()
    }

    #[inline]
    fn accept(&self) -> Option<(TcpStream, SocketAddr)> {
        TcpListener::accept(self).ok()
    }
}

impl<const MODE: u8> Wakeable for Minimio<MODE> {
    type Waker = Waker;

    fn waker(&self, token: usize) -> Waker {
        Waker::new(self.poll.registry(), token).unwrap()
    }
}

impl Wake for Waker {
    #[inline]
    fn wake(&self) {
        sure(Waker::wake(self));
    }
}
