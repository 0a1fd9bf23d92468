//! What Linux, macOS and the BSDs share: descriptors as sources, and the socket side of a [`TcpStream`].

use crate::platform::{ffi, tcp_socket};
use crate::trace::trace;
use crate::{Interests, Poll, TcpStream};
use std::fmt;
use std::io::{self, IoSlice};
use std::mem::size_of;
use std::net::{self, SocketAddr};
use std::os::raw::c_int;
use std::os::unix::io::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::ptr;

/// What can be registered, as it is: on Unix everything that is [`AsFd`], so std's sockets, pipes, standard input,
/// [`TcpStream`], another [`Poll`], and references to them.
///
/// A raw number cannot be: whoever holds a `RawFd` borrows it first and so vouches that it is open.
///
/// # Platform notes
///
/// On Linux a regular file is refused with `EPERM`: to the kernel it is always ready. Standard input is one when it was
/// redirected from a file.
///
/// On Windows: std's sockets, `OwnedSocket`, `BorrowedSocket`, [`TcpStream`] and references to them; another crate's socket
/// through `&socket.as_socket()`.
pub trait Source: AsFd {}

impl<T: AsFd + ?Sized> Source for T {}

/// What a socket of minimio's types must remember of its registration: nothing, the kernel does. It notices each change of
/// readiness by itself, tells a closed socket from its successor, and a clone is another descriptor to it.
pub(crate) struct Edge;

impl Edge {
    /// Of a socket that was just made.
    pub(crate) fn new(_socket: &impl AsFd) -> Edge {
        Edge
    }

    /// Of a socket that somebody hands over, its registration included.
    pub(crate) fn adopt(_socket: &impl AsFd) -> Edge {
        Edge
    }

    /// Of `_clone`, which is another handle to the same socket.
    pub(crate) fn share(&self, _clone: &impl AsFd) -> Edge {
        Edge
    }

    /// A call in this `_direction` said `WouldBlock`.
    #[inline(always)]
    pub(crate) fn blocked(&self, _direction: Interests) {}

    /// The socket lives on as another type, and so does its registration.
    pub(crate) fn leave(self) {}
}

/// Begins to connect a new non-blocking socket.
pub(crate) fn connect(address: SocketAddr) -> io::Result<net::TcpStream> {
    let socket = tcp_socket(&address)?;
    let started = match address {
        SocketAddr::V4(address) => connect_to(&socket, &ffi::sockaddr_in::from(address)),
        SocketAddr::V6(address) => connect_to(&socket, &ffi::sockaddr_in6::from(address)),
    };
    match started {
        // The usual answer: it goes on in the background. After a signal it does so as well.
        Err(error) if error.raw_os_error() == Some(ffi::EINPROGRESS) => {}
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
        Err(error) => return Err(error),
        Ok(_) => {}
    }
    Ok(socket.into())
}

/// `connect` with the address record of either family.
fn connect_to<A: fmt::Debug>(socket: &OwnedFd, address: &A) -> io::Result<c_int> {
    let fd = socket.as_raw_fd();
    let first: *const A = address;
    // SAFETY: both callers pass a socket address of the system, and the length is its own.
    let ret = unsafe { ffi::connect(fd, first.cast(), size_of::<A>() as ffi::socklen_t) };
    check(ret, format_args!("connect({}, {:?})", fd, address))
}

/// Sends from several buffers at once. std's vectored write is `writev`, which raises `SIGPIPE`; this is the call that can
/// be told not to.
pub(crate) fn send_vectored(socket: &net::TcpStream, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
    let fd = socket.as_raw_fd();
    let count = buffers.len().min(ffi::IOV_MAX);
    let message = ffi::msghdr {
        msg_name: ptr::null(),
        msg_namelen: 0,
        msg_iov: buffers.as_ptr().cast(),
        // The systems count in different types.
        msg_iovlen: count as _,
        msg_control: ptr::null(),
        msg_controllen: 0,
        msg_flags: 0,
    };
    // SAFETY: `message` points to `buffers`, which have the layout of the system's `iovec` and outlive the call.
    let sent = unsafe { ffi::sendmsg(fd, &message, ffi::MSG_NOSIGNAL) };
    // What the kernel sends at once fits an int.
    check(sent as c_int, format_args!("sendmsg({fd}, {{{count} buffers}}, MSG_NOSIGNAL)"))
        .map(|sent| sent as usize)
}

/// Unix calls return -1 and leave the reason in `errno`.
#[inline]
pub(crate) fn check(ret: c_int, call: fmt::Arguments<'_>) -> io::Result<c_int> {
    let result = if ret == -1 { Err(io::Error::last_os_error()) } else { Ok(ret) };
    trace(call, &result);
    result
}

impl AsFd for TcpStream {
    #[inline]
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for TcpStream {
    #[inline]
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl IntoRawFd for TcpStream {
    fn into_raw_fd(self) -> RawFd {
        self.into_std().into_raw_fd()
    }
}

impl From<TcpStream> for OwnedFd {
    fn from(stream: TcpStream) -> OwnedFd {
        stream.into_std().into()
    }
}

/// Takes the socket in the mode it has; [`TcpStream::from_std`] makes it non-blocking.
impl From<OwnedFd> for TcpStream {
    fn from(fd: OwnedFd) -> TcpStream {
        TcpStream::adopt(fd.into())
    }
}

/// Takes the socket in the mode it has; [`TcpStream::from_std`] makes it non-blocking.
impl FromRawFd for TcpStream {
    unsafe fn from_raw_fd(fd: RawFd) -> TcpStream {
        // SAFETY: the caller hands over an open descriptor that nobody else owns.
        TcpStream::from(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}

impl AsFd for Poll {
    #[inline]
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.selector.as_fd()
    }
}

impl AsRawFd for Poll {
    #[inline]
    fn as_raw_fd(&self) -> RawFd {
        self.selector.as_fd().as_raw_fd()
    }
}
