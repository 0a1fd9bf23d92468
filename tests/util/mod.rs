//! What the tests share: connected sockets on loopback, and waiting with a deadline.
//!
//! A portable program handles one event or two for a source, so the helpers gather what one poll says of a token
//! into one answer ([`Said`]).
#![allow(dead_code, unused_imports)] // each test program uses its own part
#![allow(unused_unsafe)] // old compilers call a block unnecessary that others ask for

use minimio::{Event, Events, Interests, Poll, TcpStream, Token};
use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{self, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

pub const READABLE: Interests = Interests::READABLE;
pub const WRITABLE: Interests = Interests::WRITABLE;
pub const LEVEL: Interests = Interests::LEVEL;
pub const EDGE: Interests = Interests::EDGE;

/// After this long something that should have happened never will. A refused connect takes Windows two seconds.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// How long silence must last to be believed, in milliseconds.
pub const SILENCE_MS: i32 = 60;

pub fn localhost() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

pub fn listener() -> TcpListener {
    TcpListener::bind(localhost()).expect("a listener on loopback")
}

/// Two connected streams: one of minimio, and its peer, which blocks.
#[track_caller]
pub fn pair() -> (TcpStream, net::TcpStream) {
    let (stream, peer) = std_pair();
    (TcpStream::from_std(stream).unwrap(), peer)
}

/// Two connected streams of std. The first does not block.
#[track_caller]
pub fn std_pair() -> (net::TcpStream, net::TcpStream) {
    let listener = listener();
    let stream = net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (peer, _) = listener.accept().unwrap();
    stream.set_nonblocking(true).unwrap();
    peer.set_read_timeout(Some(DEADLINE)).unwrap();
    peer.set_write_timeout(Some(DEADLINE)).unwrap();
    (stream, peer)
}

/// An address of this machine where nobody listens: the near end of a connection, which keeps its port from being
/// given to somebody else for as long as the first value lives.
#[track_caller]
pub fn refusing_address() -> (impl Sized, SocketAddr) {
    let (near, far) = std_pair();
    let address = near.local_addr().unwrap();
    ((near, far), address)
}

/// Waits until there is a connection, and accepts it.
#[track_caller]
pub fn accept_one(listener: &minimio::TcpListener) -> (TcpStream, SocketAddr) {
    let mut poll = Poll::new().unwrap();
    poll.registry().register(listener, 1, READABLE).unwrap();
    assert!(expect_event(&mut poll, 1).readable);
    poll.registry().deregister(listener).unwrap();
    listener.accept().unwrap()
}

/// What one poll said of one source, in one event or two.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Said {
    pub readable: bool,
    pub writable: bool,
    pub read_closed: bool,
    pub write_closed: bool,
    pub error: bool,
}

pub fn said_of(events: &[Event], token: Token) -> Option<Said> {
    let mut said = None;
    for event in events.iter().filter(|event| event.id() == token) {
        let said = said.get_or_insert(Said::default());
        said.readable |= event.is_readable();
        said.writable |= event.is_writable();
        said.read_closed |= event.is_read_closed();
        said.write_closed |= event.is_write_closed();
        said.error |= event.is_error();
    }
    said
}

/// Polls once, at most until the deadline, and expects that the only source with events is `token`.
#[track_caller]
pub fn expect_event(poll: &mut Poll, token: Token) -> Said {
    let mut events = Events::with_capacity(16);
    let n = poll.poll_timeout(&mut events, DEADLINE).expect("a poll");
    assert_eq!(n, events.len(), "a poll returns how many events it delivered");
    assert!(n > 0, "no event for token {} before the deadline", token);
    assert!(events.iter().all(|event| event.id() == token), "{:?}, not only of {}", events, token);
    said_of(&events, token).unwrap()
}

/// Polls until what was said of `token` since the call satisfies `enough`. Events of others are a failure.
#[track_caller]
pub fn expect_until(poll: &mut Poll, token: Token, enough: impl Fn(&Said) -> bool) -> Said {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let said = expect_event(poll, token);
        if enough(&said) {
            return said;
        }
        assert!(Instant::now() < deadline, "the last was {:?}", said);
    }
}

/// Expects that a poll stays silent.
#[track_caller]
pub fn expect_nothing(poll: &mut Poll) {
    let mut events = Events::with_capacity(16);
    let n = poll.poll(&mut events, Some(SILENCE_MS)).expect("a poll");
    assert_eq!((n, &events[..]), (0, &[][..]), "silence was expected");
}

/// Expects the answer of a queue that has ended.
#[track_caller]
pub fn expect_closed<T: std::fmt::Debug>(result: io::Result<T>) {
    let error = result.expect_err("the queue is closed");
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    assert_eq!(error.raw_os_error(), None, "nothing else can be mistaken for it");
}

#[track_caller]
pub fn expect_kind<T: std::fmt::Debug>(result: io::Result<T>, kind: ErrorKind) {
    assert_eq!(result.expect_err("an error was expected").kind(), kind);
}

/// Reads until `WouldBlock` or the end and returns what there was.
#[track_caller]
pub fn drain(mut stream: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => bytes,
        Err(error) if error.kind() == ErrorKind::WouldBlock => bytes,
        Err(error) => panic!("{}", error),
    }
}

/// Reads what the peer has just sent, without a queue: on most systems bytes take a moment, also on loopback.
#[track_caller]
pub fn receive(mut stream: impl Read) -> Vec<u8> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let bytes = drain(&mut stream);
        if !bytes.is_empty() {
            return bytes;
        }
        assert!(Instant::now() < deadline, "nothing came");
        thread::yield_now();
    }
}

/// Writes until the stream is no longer writable, and returns how many bytes. The first `WouldBlock` need not be the last:
/// on most systems there is room again when the bytes have moved on, so there must be none for a while.
#[track_caller]
pub fn fill(mut stream: impl Write) -> usize {
    const QUIET: Duration = Duration::from_millis(30);
    let mut sent = 0;
    let mut blocked_since = None;
    loop {
        match stream.write(&[7; 65536]) {
            Ok(n) => {
                sent += n;
                blocked_since = None;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if blocked_since.get_or_insert_with(Instant::now).elapsed() > QUIET {
                    return sent;
                }
                thread::yield_now();
            }
            Err(error) => panic!("{}", error),
        }
    }
}

/// Closes a connection so that the other side is told of a reset. Merely to leave something unread is not enough: the BSDs
/// end such a connection in good order.
#[track_caller]
pub fn reset(peer: net::TcpStream) {
    linger_for_nothing(&peer);
    drop(peer);
}

/// How many handles there are more after `work` than before: the fewest of some tries, for the harness has threads, and so
/// handles, that come and go.
pub fn handles_left_by(mut work: impl FnMut()) -> isize {
    let mut left = isize::MAX;
    for _ in 0..5 {
        let before = open_handles();
        work();
        left = left.min(open_handles() as isize - before as isize);
        if left <= 0 {
            break;
        }
    }
    left
}

/// The system's allocator, counting, for a test program that makes it its own.
pub struct Counting;

/// How many there were.
pub static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
/// How many are in use.
pub static BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.dealloc(block, layout) }
    }
}

#[cfg(unix)]
pub use self::unix::*;
#[cfg(unix)]
mod unix {
    use std::io;
    use std::mem::size_of;
    use std::net::TcpStream;
    use std::os::raw::{c_int, c_void};
    use std::os::unix::io::{AsRawFd, FromRawFd, OwnedFd};

    extern "C" {
        fn fcntl(fd: c_int, command: c_int, ...) -> c_int;
        fn pipe(fds: *mut c_int) -> c_int;
        fn setsockopt(fd: c_int, level: c_int, name: c_int, value: *const c_void, length: u32) -> c_int;
    }

    /// Has a stream give up at once, by a reset, when it is closed.
    pub fn linger_for_nothing(stream: &TcpStream) {
        // Linux numbers the options in its own way, but not on processors where other systems were first.
        const FEW: bool = cfg!(all(
            any(target_os = "linux", target_os = "android"),
            not(any(
                target_arch = "mips",
                target_arch = "mips64",
                target_arch = "sparc",
                target_arch = "sparc64"
            ))
        ));
        const SOL_SOCKET: c_int = if FEW { 1 } else { 0xffff };
        const SO_LINGER: c_int = if FEW { 13 } else { 0x80 };
        // On, for no seconds.
        let linger: [c_int; 2] = [1, 0];
        let length = size_of::<[c_int; 2]>() as u32;
        // A connection that has ended in both directions may refuse: there is nothing left to reset.
        // SAFETY: the kernel reads `length` bytes of `linger`.
        unsafe { setsockopt(stream.as_raw_fd(), SOL_SOCKET, SO_LINGER, linger.as_ptr().cast(), length) };
    }

    /// The descriptor's flags, `None` if it is not open.
    pub fn descriptor_flags(fd: c_int) -> Option<c_int> {
        const F_GETFD: c_int = 1;
        // SAFETY: it only asks, and any number may be asked for.
        let flags = unsafe { fcntl(fd, F_GETFD) };
        (flags != -1).then_some(flags)
    }

    /// The descriptors that are open now.
    pub fn open_descriptors() -> Vec<c_int> {
        (0..4096).filter(|fd| descriptor_flags(*fd).is_some()).collect()
    }

    /// How many descriptors are open now.
    pub fn open_handles() -> usize {
        open_descriptors().len()
    }

    /// A pipe: the end to read from, the end to write to.
    #[track_caller]
    pub fn pipe_pair() -> (OwnedFd, OwnedFd) {
        let mut fds = [-1; 2];
        // SAFETY: the kernel writes two descriptors, and there is room for two.
        assert_eq!(unsafe { pipe(fds.as_mut_ptr()) }, 0, "{}", io::Error::last_os_error());
        // SAFETY: both were just made and nobody else knows them.
        let [read, write] = fds.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
        (read, write)
    }
}

#[cfg(windows)]
pub use self::windows::*;
#[cfg(windows)]
mod windows {
    use std::mem::size_of;
    use std::net::TcpStream;
    use std::os::raw::c_void;
    use std::os::windows::io::{AsRawSocket, RawSocket};

    #[link(name = "ws2_32")]
    extern "system" {
        fn setsockopt(socket: RawSocket, level: i32, name: i32, value: *const c_void, length: i32) -> i32;
    }

    /// Has a stream give up at once, by a reset, when it is closed.
    pub fn linger_for_nothing(stream: &TcpStream) {
        const SOL_SOCKET: i32 = 0xffff;
        const SO_LINGER: i32 = 0x80;
        // On, for no seconds.
        let linger: [u16; 2] = [1, 0];
        let length = size_of::<[u16; 2]>() as i32;
        // A connection that has ended in both directions may refuse: there is nothing left to reset.
        // SAFETY: Winsock reads `length` bytes of `linger`.
        unsafe { setsockopt(stream.as_raw_socket(), SOL_SOCKET, SO_LINGER, linger.as_ptr().cast(), length) };
    }

    #[link(name = "kernel32")]
    extern "system" {
        fn GetCurrentProcess() -> *mut c_void;
        fn GetProcessHandleCount(process: *mut c_void, count: *mut u32) -> i32;
        fn GetHandleInformation(handle: *mut c_void, flags: *mut u32) -> i32;
    }

    /// How many handles are open now.
    pub fn open_handles() -> usize {
        let mut count = 0;
        // SAFETY: the call takes nothing and returns a constant that stands for this process.
        let process = unsafe { GetCurrentProcess() };
        // SAFETY: `count` is what the call writes.
        assert_ne!(unsafe { GetProcessHandleCount(process, &mut count) }, 0);
        if count == 0 {
            // Wine does not count. Handles are multiples of four, the lowest that are free.
            let is_open = |handle: &usize| {
                let mut flags = 0;
                // SAFETY: the call writes `flags`, and any number may be asked for.
                unsafe { GetHandleInformation(*handle as *mut c_void, &mut flags) != 0 }
            };
            return (4..0x4000).step_by(4).filter(is_open).count();
        }
        count as usize
    }
}
