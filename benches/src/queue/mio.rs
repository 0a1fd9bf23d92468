//! mio, which has edge mode alone.

use super::{sure, Listener, Mode, Queue, Registry, Wake, Wakeable};
use mio::net::{TcpListener, TcpStream};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

pub struct Mio {
    poll: Poll,
    events: Events,
}

impl Registry for mio::Registry {
    type Interest = Interest;

    #[inline]
    fn interest(_mode: Mode) -> Interest {
        Interest::READABLE
    }

    #[inline]
    fn add(&self, fd: BorrowedFd<'_>, token: usize, _mode: Mode) {
        let fd = fd.as_raw_fd();
        sure(self.register(&mut SourceFd(&fd), Token(token), Interest::READABLE));
    }

    #[inline]
    fn watch(&self, fd: BorrowedFd<'_>, token: usize, interest: Interest) {
        let fd = fd.as_raw_fd();
        sure(self.reregister(&mut SourceFd(&fd), Token(token), interest));
    }

    #[inline]
    fn remove(&self, fd: BorrowedFd<'_>) {
        sure(self.deregister(&mut SourceFd(&fd.as_raw_fd())));
    }
}

impl Queue for Mio {
    const LIBRARY: &'static str = "mio";
    const MODE: Mode = Mode::Edge;
    // "All `event::Source`s, unless otherwise specified, need to be deregistered before being dropped".
    const REMOVE_BEFORE_CLOSE: bool = true;
    type Registry = mio::Registry;
    type Listener = TcpListener;

    fn new(capacity: usize) -> Self {
        Mio { poll: Poll::new().unwrap(), events: Events::with_capacity(capacity) }
    }

    #[inline]
    fn registry(&self) -> &mio::Registry {
        self.poll.registry()
    }

    #[inline]
    fn poll(&mut self, limit: Option<i32>, mut ready: impl FnMut(&mio::Registry, usize)) {
        let limit = limit.map(|ms| Duration::from_millis(ms as u64));
        sure(self.poll.poll(&mut self.events, limit));
        for event in &self.events {
            if event.is_readable() {
                ready(self.poll.registry(), event.token().0);
            }
        }
    }
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    fn bind() -> Self {
        TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap()
    }

    fn address(&self) -> SocketAddr {
        self.local_addr().unwrap()
    }

    #[inline]
    fn accept(&self) -> Option<(TcpStream, SocketAddr)> {
        TcpListener::accept(self).ok()
    }
}

impl Wakeable for Mio {
    type Waker = Waker;

    fn waker(&self, token: usize) -> Waker {
        Waker::new(self.poll.registry(), Token(token)).unwrap()
    }
}

impl Wake for Waker {
    #[inline]
    fn wake(&self) {
        sure(Waker::wake(self));
    }
}
