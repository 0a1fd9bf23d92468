//! The calls of Linux that the imitation is made of, each with its failure turned into an `errno`.

use std::fs::File;
use std::mem::{size_of, ManuallyDrop};
use std::os::fd::FromRawFd;
use std::os::raw::{c_int, c_long, c_short, c_ulong, c_void};
use std::ptr;

pub type Fd = c_int;
/// A number of the kernel's that says what went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub c_int);
pub type Result<T> = std::result::Result<T, Errno>;

// All of them have the same number on the BSDs.
pub const ENOENT: Errno = Errno(2);
pub const EBADF: Errno = Errno(9);
pub const EINVAL: Errno = Errno(22);
pub const EPIPE: Errno = Errno(32);

pub const POLLIN: c_short = 0x1;
pub const POLLOUT: c_short = 0x4;
pub const POLLERR: c_short = 0x8;
pub const POLLHUP: c_short = 0x10;
pub const POLLRDHUP: c_short = 0x2000;

const EPOLLET: u32 = 1 << 31;
const EPOLL_CTL_ADD: c_int = 1;
const EPOLL_CTL_DEL: c_int = 2;
const CLOSE_ON_EXEC: c_int = 0o200_0000;
const NON_BLOCKING: c_int = 0o4000;
const FIONREAD: c_ulong = 0x541b;
const F_GETFD: c_int = 1;
const F_GETFL: c_int = 3;
const SOL_SOCKET: c_int = 1;
const SO_TYPE: c_int = 3;
const SO_DOMAIN: c_int = 39;
const IPPROTO_TCP: c_int = 6;
const TCP_INFO: c_int = 11;
const SIG_SETMASK: c_int = 2;

#[repr(C)]
#[cfg_attr(target_arch = "x86_64", repr(packed))]
#[derive(Clone, Copy)]
struct EpollEvent {
    events: u32,
    data: u64,
}

#[repr(C)]
struct PollFd {
    fd: Fd,
    events: c_short,
    revents: c_short,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct Timespec {
    pub seconds: i64,
    pub nanoseconds: c_long,
}

/// A set of signals.
#[repr(C)]
pub struct Signals([u64; 16]);

/// The beginning of what `TCP_INFO` tells.
#[derive(Default)]
#[repr(C)]
pub struct TcpInfo {
    pub state: u8,
    _small: [u8; 7],
    _before_unacked: [u32; 4],
    /// Of a listener: the connections that wait.
    pub unacked: u32,
    _before_rtt: [u32; 10],
    /// The time of a round trip. None was measured before the connection stood.
    pub rtt: u32,
}

extern "C" {
    #[link_name = "__close"]
    fn real_close(fd: Fd) -> c_int;
    fn epoll_create1(flags: c_int) -> Fd;
    fn epoll_ctl(epoll: Fd, operation: c_int, fd: Fd, event: *mut EpollEvent) -> c_int;
    fn epoll_wait(epoll: Fd, events: *mut EpollEvent, room: c_int, timeout: c_int) -> c_int;
    fn eventfd(value: u32, flags: c_int) -> Fd;
    fn read(fd: Fd, buffer: *mut c_void, length: usize) -> isize;
    fn write(fd: Fd, buffer: *const c_void, length: usize) -> isize;
    fn ppoll(fds: *mut PollFd, count: c_ulong, timeout: *const Timespec, signals: *const Signals) -> c_int;
    fn ioctl(fd: Fd, request: c_ulong, ...) -> c_int;
    fn fcntl(fd: Fd, command: c_int, ...) -> c_int;
    fn getsockopt(fd: Fd, level: c_int, name: c_int, value: *mut c_void, length: *mut u32) -> c_int;
    fn pthread_sigmask(how: c_int, new: *const Signals, old: *mut Signals) -> c_int;
    fn __errno_location() -> *mut c_int;
    fn dlsym(handle: *const c_void, name: *const u8) -> *const c_void;
}

fn check(ret: c_int) -> Result<c_int> {
    // SAFETY: each thread has an `errno`, at this place.
    if ret == -1 {
        Err(Errno(unsafe { *__errno_location() }))
    } else {
        Ok(ret)
    }
}

pub fn set_errno(errno: Errno) {
    // SAFETY: each thread has an `errno`, at this place.
    unsafe { *__errno_location() = errno.0 }
}

/// `close` itself; the program's is the imitation's.
pub fn close(fd: Fd) -> Result<c_int> {
    // SAFETY: the descriptor is our own, or the program wants it closed.
    check(unsafe { real_close(fd) })
}

/// The function that the program would call if this library had none of that name, which ends with a zero.
pub fn real(name: &'static str) -> *const c_void {
    const NEXT: *const c_void = usize::MAX as *const c_void;
    // SAFETY: the name ends with a zero.
    let function = unsafe { dlsym(NEXT, name.as_ptr()) };
    assert!(!function.is_null(), "the C library has no {name}");
    function
}

/// An epoll instance.
pub fn epoll() -> Result<Fd> {
    // SAFETY: the call takes no memory.
    check(unsafe { epoll_create1(CLOSE_ON_EXEC) })
}

/// Has an epoll instance tell of each change of `fd`, or with `level` for as long as there is something to tell.
pub fn watch(epoll: Fd, fd: Fd, events: c_short, level: bool) -> Result<()> {
    let events = events as u16 as u32 | if level { 0 } else { EPOLLET };
    let mut event = EpollEvent { events, data: fd as u64 };
    // SAFETY: the kernel reads the event.
    check(unsafe { epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &mut event) }).map(drop)
}

pub fn unwatch(epoll: Fd, fd: Fd) {
    // SAFETY: this command takes no event.
    unsafe { epoll_ctl(epoll, EPOLL_CTL_DEL, fd, ptr::null_mut()) };
}

/// One descriptor that an epoll instance has news of.
pub fn news(epoll: Fd) -> Option<Fd> {
    let mut event = EpollEvent { events: 0, data: 0 };
    // SAFETY: there is room for one event.
    (unsafe { epoll_wait(epoll, &mut event, 1, 0) } == 1).then_some(event.data as Fd)
}

/// A counter that can be waited for.
pub fn counter() -> Result<Fd> {
    // SAFETY: the call takes no memory.
    check(unsafe { eventfd(0, CLOSE_ON_EXEC | NON_BLOCKING) })
}

/// Makes the counter readable, or not.
pub fn set_counter(fd: Fd, ready: bool) {
    let mut value = 1u64;
    let first: *mut c_void = (&mut value as *mut u64).cast();
    // SAFETY: the kernel reads the eight bytes of `value`, or writes them.
    unsafe {
        if ready {
            write(fd, first, 8)
        } else {
            read(fd, first, 8)
        }
    };
}

/// What a descriptor is ready for at this moment.
pub fn state(fd: Fd) -> c_short {
    let at_once = Timespec { seconds: 0, nanoseconds: 0 };
    let mut poll = PollFd { fd, events: POLLIN | POLLOUT | POLLRDHUP, revents: 0 };
    // SAFETY: the kernel reads and writes the one record.
    unsafe { ppoll(&mut poll, 1, &at_once, ptr::null()) };
    poll.revents
}

/// Sleeps until the descriptor is readable, the time is up, or one of the signals comes that are not in `blocked`.
pub fn sleep(fd: Fd, limit: Option<Timespec>, blocked: &Signals) -> Result<c_int> {
    let limit = limit.as_ref().map_or(ptr::null(), |limit| limit);
    let mut poll = PollFd { fd, events: POLLIN, revents: 0 };
    // SAFETY: the kernel reads and writes the one record, and reads what the other pointers are to.
    check(unsafe { ppoll(&mut poll, 1, limit, blocked) })
}

/// How many bytes can be read.
pub fn unread(fd: Fd) -> i64 {
    let mut count: c_int = 0;
    // SAFETY: the kernel writes the int.
    unsafe { ioctl(fd, FIONREAD, &mut count as *mut c_int) };
    count.into()
}

pub fn is_open(fd: Fd) -> bool {
    // SAFETY: it only asks.
    unsafe { fcntl(fd, F_GETFD) != -1 }
}

/// Whether the descriptor was opened to be written and not to be read.
pub fn is_write_only(fd: Fd) -> bool {
    // SAFETY: it only asks.
    unsafe { fcntl(fd, F_GETFL) & 3 == 1 }
}

pub fn is_non_blocking(fd: Fd) -> bool {
    // SAFETY: it only asks.
    unsafe { fcntl(fd, F_GETFL) & NON_BLOCKING != 0 }
}

/// What a socket is.
pub struct Socket {
    /// Of the machine itself, not of IPv4 or IPv6.
    pub is_local: bool,
    pub is_stream: bool,
}

pub fn socket(fd: Fd) -> Option<Socket> {
    const AF_UNIX: c_int = 1;
    const SOCK_STREAM: c_int = 1;
    let family: c_int = option(fd, SOL_SOCKET, SO_DOMAIN).ok()?;
    let kind: c_int = option(fd, SOL_SOCKET, SO_TYPE).ok()?;
    Some(Socket { is_local: family == AF_UNIX, is_stream: kind == SOCK_STREAM })
}

/// The file behind a descriptor, to ask what it is.
pub fn file(fd: Fd) -> ManuallyDrop<File> {
    // SAFETY: it lives for a question only, and `ManuallyDrop` keeps it from closing the descriptor.
    ManuallyDrop::new(unsafe { File::from_raw_fd(fd) })
}

pub fn tcp_info(fd: Fd) -> TcpInfo {
    option(fd, IPPROTO_TCP, TCP_INFO).unwrap_or_default()
}

/// `T` is an int or a record of them.
fn option<T: Default>(fd: Fd, level: c_int, name: c_int) -> Result<T> {
    let mut value = T::default();
    let mut length = size_of::<T>() as u32;
    // SAFETY: the kernel writes at most `length` bytes, and any are a `T`.
    check(unsafe { getsockopt(fd, level, name, (&mut value as *mut T).cast(), &mut length) })?;
    Ok(value)
}

/// Has the thread receive no signal, and returns those that it did not receive before.
pub fn block_signals() -> Signals {
    replace_signals(&Signals([!0; 16]))
}

pub fn replace_signals(blocked: &Signals) -> Signals {
    let mut old = Signals([0; 16]);
    // SAFETY: the kernel reads the one set and writes the other.
    unsafe { pthread_sigmask(SIG_SETMASK, blocked, &mut old) };
    old
}
