//! A loopback that takes its time, as that of macOS and the BSDs does and that of Linux does not.
//!
//! There, `write` returns before the other side can read, and a buffer that is full has room again a moment later, when
//! the bytes have moved on. With `slow`, TCP and UDP sockets that do not block behave like that:
//!
//! * what has arrived is noticed when somebody looks for it, by reading or by waiting, and is there a moment later;
//! * after a large write there is no room for a moment;
//! * a connection stands a moment after it was begun, and a write before that says `ENOTCONN`.
//!
//! And `kevent` itself lingers for a moment when it has taken events out, in which other threads make them out of date.

use crate::linux::{self, Errno, Fd};
use crate::systems::system;
use crate::{Filter, Kernel};
use std::collections::BTreeMap;
use std::mem;
use std::os::raw::{c_int, c_void};
use std::os::unix::fs::MetadataExt;
use std::thread;
use std::time::{Duration, Instant};

/// How long a moment is.
const MOMENT: Duration = Duration::from_micros(200);
/// So many bytes at once fill the buffer.
const LARGE: isize = 32 * 1024;

const EAGAIN: Errno = Errno(11);
const ENOTCONN: Errno = Errno(107);

/// What is on its way: something to read, or room to write. The first stays here until it was picked up.
pub struct UnderWay(BTreeMap<(Filter, Inode), Transit>);

/// Tells sockets apart, whatever their descriptors.
type Inode = u64;

#[derive(Clone, Copy)]
struct Transit {
    until: Instant,
    /// What a call says until then.
    errno: Errno,
}

impl UnderWay {
    pub const fn new() -> UnderWay {
        UnderWay(BTreeMap::new())
    }

    /// When there will be what the descriptor seems to have, if that is not yet.
    pub fn until(&mut self, filter: Filter, fd: Fd) -> Option<Instant> {
        Some(self.transit(filter, fd)?.until)
    }

    fn transit(&mut self, filter: Filter, fd: Fd) -> Option<Transit> {
        if !is_concerned(fd) {
            return None;
        }
        if filter == Filter::Read {
            self.begin(filter, fd, EAGAIN);
        }
        self.0.get(&(filter, inode(fd))).filter(|transit| Instant::now() < transit.until).copied()
    }

    /// If it is not on its way already.
    fn begin(&mut self, filter: Filter, fd: Fd, errno: Errno) {
        let until = Instant::now() + MOMENT;
        self.0.entry((filter, inode(fd))).or_insert(Transit { until, errno });
    }

    pub fn forget(&mut self, filter: Filter, fd: Fd) {
        if system().slow {
            self.0.remove(&(filter, inode(fd)));
        }
    }
}

fn inode(fd: Fd) -> Inode {
    linux::file(fd).metadata().map_or(0, |metadata| metadata.ino())
}

fn is_concerned(fd: Fd) -> bool {
    system().slow && linux::is_non_blocking(fd) && linux::socket(fd).is_some_and(|socket| !socket.is_local)
}

/// Before `kevent` returns what it has taken out.
pub fn linger() {
    if system().slow {
        thread::sleep(MOMENT / 4);
    }
}

/// A call that picks up what has arrived.
fn pick_up<T: From<i8>>(fd: Fd, call: impl FnOnce() -> T) -> T {
    if !is_concerned(fd) {
        return call();
    }
    let is_there = || linux::state(fd) & linux::POLLIN != 0;
    Kernel::run(|kernel| {
        if is_there() {
            if let Some(transit) = kernel.under_way.transit(Filter::Read, fd) {
                linux::set_errno(transit.errno);
                return T::from(-1);
            }
        }
        let result = call();
        if !is_there() {
            kernel.under_way.forget(Filter::Read, fd);
        }
        result
    })
}

/// A call that writes.
fn send_off(fd: Fd, call: impl FnOnce() -> isize) -> isize {
    if !is_concerned(fd) {
        return call();
    }
    Kernel::run(|kernel| {
        if let Some(transit) = kernel.under_way.transit(Filter::Write, fd) {
            linux::set_errno(transit.errno);
            return -1;
        }
        kernel.under_way.forget(Filter::Write, fd);
        let sent = call();
        if sent >= LARGE {
            kernel.under_way.begin(Filter::Write, fd, EAGAIN);
            kernel.look_later(fd);
        }
        sent
    })
}

fn set_out(fd: Fd, call: impl FnOnce() -> c_int) -> c_int {
    if is_concerned(fd) && linux::socket(fd).is_some_and(|socket| socket.is_stream) {
        Kernel::run(|kernel| kernel.under_way.begin(Filter::Write, fd, ENOTCONN));
    }
    call()
}

/// Puts functions of the C library behind one of those above.
macro_rules! behind {
    ($($behind:ident: $name:ident($fd:ident $(, $argument:ident: $type:ty)*) -> $result:ty;)*) => {$(
        #[no_mangle]
        pub unsafe extern "C" fn $name($fd: Fd, $($argument: $type),*) -> $result {
            type Real = unsafe extern "C" fn(Fd, $($type),*) -> $result;
            // SAFETY: the C library has a function of that name, and this is its type.
            let real = unsafe { mem::transmute::<*const c_void, Real>(linux::real(concat!(stringify!($name), "\0"))) };
            // SAFETY: as the caller promised.
            $behind($fd, || unsafe { real($fd, $($argument),*) })
        }
    )*};
}

behind! {
    pick_up: recv(fd, buffer: *mut c_void, length: usize, flags: c_int) -> isize;
    pick_up: recvfrom(fd, buffer: *mut c_void, length: usize, flags: c_int, from: *mut c_void, size: *mut u32) -> isize;
    pick_up: recvmsg(fd, message: *mut c_void, flags: c_int) -> isize;
    pick_up: readv(fd, buffers: *const c_void, count: c_int) -> isize;
    pick_up: accept(fd, address: *mut c_void, size: *mut u32) -> c_int;
    pick_up: accept4(fd, address: *mut c_void, size: *mut u32, flags: c_int) -> c_int;
    send_off: send(fd, buffer: *const c_void, length: usize, flags: c_int) -> isize;
    send_off: sendto(fd, buffer: *const c_void, length: usize, flags: c_int, to: *const c_void, size: u32) -> isize;
    send_off: sendmsg(fd, message: *const c_void, flags: c_int) -> isize;
    send_off: writev(fd, buffers: *const c_void, count: c_int) -> isize;
    set_out: connect(fd, address: *const c_void, size: u32) -> c_int;
}
