//! The measure of the others: epoll by hand.

use super::{fail, mode, Listener, Mode, Queue, Registry, Wake, Wakeable};
use libc::c_int;
use std::io;
use std::mem::{size_of, MaybeUninit};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::Arc;

pub struct Epoll(OwnedFd);

pub struct Raw<const MODE: u8> {
    epoll: Epoll,
    events: Vec<libc::epoll_event>,
}

#[inline]
fn check(ret: c_int) -> c_int {
    if ret == -1 {
        fail(io::Error::last_os_error());
    }
    ret
}

/// A new descriptor that nobody else owns.
fn own(fd: c_int) -> OwnedFd {
    // SAFETY: each caller has just made it.
    unsafe { OwnedFd::from_raw_fd(check(fd)) }
}

impl Epoll {
    #[inline]
    fn control(&self, op: c_int, fd: BorrowedFd<'_>, events: u32, token: usize) {
        let mut event = libc::epoll_event { events, u64: token as u64 };
        // SAFETY: `event` outlives the call, which copies it.
        check(unsafe { libc::epoll_ctl(self.0.as_raw_fd(), op, fd.as_raw_fd(), &mut event) });
    }
}

impl Registry for Epoll {
    type Interest = u32;

    #[inline]
    fn interest(mode: Mode) -> u32 {
        let flags = match mode {
            Mode::Level => 0,
            Mode::Edge => libc::EPOLLET,
            Mode::OneShot => libc::EPOLLONESHOT,
        };
        (libc::EPOLLIN | libc::EPOLLRDHUP | flags) as u32
    }

    #[inline]
    fn add(&self, fd: BorrowedFd<'_>, token: usize, mode: Mode) {
        self.control(libc::EPOLL_CTL_ADD, fd, Self::interest(mode), token);
    }

    #[inline]
    fn watch(&self, fd: BorrowedFd<'_>, token: usize, interest: u32) {
        self.control(libc::EPOLL_CTL_MOD, fd, interest, token);
    }

    #[inline]
    fn remove(&self, fd: BorrowedFd<'_>) {
        self.control(libc::EPOLL_CTL_DEL, fd, 0, 0);
    }
}

impl<const MODE: u8> Queue for Raw<MODE> {
    const LIBRARY: &'static str = "raw";
    const MODE: Mode = mode(MODE);
    const REMOVE_BEFORE_CLOSE: bool = false;
    type Registry = Epoll;
    type Listener = RawListener;

    fn new(capacity: usize) -> Self {
        Raw {
            // SAFETY: the call takes no memory.
            epoll: Epoll(own(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })),
            events: vec![libc::epoll_event { events: 0, u64: 0 }; capacity],
        }
    }

    #[inline]
    fn registry(&self) -> &Epoll {
        &self.epoll
    }

    #[inline]
    fn poll(&mut self, limit: Option<i32>, mut ready: impl FnMut(&Epoll, usize)) {
        const READABLE: u32 = (libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) as u32;
        let (epoll, room) = (self.epoll.0.as_raw_fd(), self.events.len() as c_int);
        let limit = limit.unwrap_or(-1);
        // SAFETY: `events` has room for `room` records.
        let n = check(unsafe { libc::epoll_wait(epoll, self.events.as_mut_ptr(), room, limit) });
        for event in &self.events[..n as usize] {
            if event.events & READABLE != 0 {
                ready(&self.epoll, event.u64 as usize);
            }
        }
    }
}

/// One call for each connection: the kernel makes it non-blocking and keeps it from child processes.
pub struct RawListener(TcpListener);

impl AsFd for RawListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Listener for RawListener {
    type Stream = TcpStream;

    fn bind() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        RawListener(listener)
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    #[inline]
    fn accept(&self) -> Option<(TcpStream, SocketAddr)> {
        let mut address = MaybeUninit::<libc::sockaddr_in>::uninit();
        let mut length = size_of::<libc::sockaddr_in>() as libc::socklen_t;
        let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: the kernel writes an address of at most `length` bytes.
        let fd =
            unsafe { libc::accept4(self.0.as_raw_fd(), address.as_mut_ptr().cast(), &mut length, flags) };
        if fd == -1 {
            return None;
        }
        // SAFETY: the descriptor is new, and the kernel has written an address of IPv4.
        let (stream, address) = unsafe { (TcpStream::from_raw_fd(fd), address.assume_init()) };
        let ip = Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr));
        Some((stream, SocketAddr::from((ip, u16::from_be(address.sin_port)))))
    }
}

/// An eventfd in edge mode, never read.
pub struct RawWaker(Arc<OwnedFd>);

impl<const MODE: u8> Wakeable for Raw<MODE> {
    type Waker = RawWaker;

    fn waker(&self, token: usize) -> RawWaker {
        // SAFETY: the call takes no memory.
        let fd = own(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) });
        self.epoll.add(fd.as_fd(), token, Mode::Edge);
        RawWaker(Arc::new(fd))
    }
}

impl Wake for RawWaker {
    #[inline]
    fn wake(&self) {
        let one = 1u64;
        // SAFETY: the kernel reads the 8 bytes of `one`.
        check(unsafe { libc::write(self.0.as_raw_fd(), std::ptr::from_ref(&one).cast(), 8) } as c_int);
    }
}
