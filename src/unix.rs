//! What Linux, macOS and the BSDs share: descriptors as sources, the system's side of the sockets of `crate::net`, and pipes.

pub(crate) mod pipe;

use crate::platform::ffi;
use crate::trace::{self, trace};
use crate::{Interests, Poll, TcpListener, TcpStream, UdpSocket};
use std::fmt;
use std::io::{self, IoSlice};
use std::mem::size_of;
use std::net::{self, SocketAddr, SocketAddrV6};
use std::os::raw::c_int;
use std::os::unix::io::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::ptr;

/// What you can register, as it is. On Unix that is everything that is [`AsFd`]: std's sockets and minimio's own,
/// pipes, standard input, another [`Poll`], and references to them.
///
/// Registering changes nothing about a source. A socket of std blocks: call `set_nonblocking(true)` before you register
/// it; otherwise, if you read until `WouldBlock`, the last read blocks for ever. With minimio's own types you cannot
/// get this wrong.
///
/// You cannot register a raw number. If you hold a `RawFd`, borrow it first, and so vouch that it is open.
///
/// # Platform notes
///
/// Linux refuses a regular file with `EPERM`: to the kernel it is always ready. That includes standard input when it is
/// redirected from a file.
///
/// On Windows: minimio's own sockets and pipes, which work in every mode and end their registration when they are
/// dropped; std's sockets, `OwnedSocket` and `BorrowedSocket`, with the limits described at
/// [`register`](crate::Registrator::register); references to all of them; another crate's socket through
/// `&socket.as_socket()`.
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

/// Starts to connect a new non-blocking socket.
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

/// A new TCP socket for `address`: non-blocking, not inherited by child processes.
fn tcp_socket(address: &SocketAddr) -> io::Result<OwnedFd> {
    let domain = if address.is_ipv4() { ffi::AF_INET } else { ffi::AF_INET6 };
    // SAFETY: the call takes no memory.
    let fd = unsafe { ffi::socket(domain, ffi::SOCK_STREAM | ffi::SOCK_CLOEXEC | ffi::SOCK_NONBLOCK, 0) };
    let (domain, ty) = (trace::domain(domain), trace::socket_type());
    let fd = check(fd, format_args!("socket({domain}, {ty}, 0)"))?;
    // SAFETY: the descriptor was just made and nobody else knows it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    set_flags(&socket, true)?;
    Ok(socket)
}

/// Takes the next connection: non-blocking, where std's would block, and not inherited by child processes.
pub(crate) fn accept(listener: &net::TcpListener) -> io::Result<(net::TcpStream, SocketAddr)> {
    let listener = listener.as_raw_fd();
    let mut peer = Address { v6: ffi::sockaddr_in6::default() };
    let mut length = size_of::<Address>() as ffi::socklen_t;
    let room = ptr::addr_of_mut!(peer).cast();
    // SAFETY: `peer` has room for an address of `length` bytes, and the kernel writes at most that many.
    let fd = unsafe { ffi::accept4(listener, room, &mut length, ffi::SOCK_CLOEXEC | ffi::SOCK_NONBLOCK) };
    let (who, (call, flags)) = (trace::Peer(&peer), trace::accept());
    let fd = check(fd, format_args!("{call}({listener}, {who}{flags})"))?;
    // SAFETY: the descriptor was just made and nobody else knows it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // Where there are no flags it does not block because the listener does not.
    set_flags(&socket, false)?;
    match peer.get() {
        Some(peer) => Ok((socket.into(), peer)),
        // Some systems have nobody to name when the peer has left again.
        None if length == 0 => Err(io::ErrorKind::ConnectionAborted.into()),
        None => Err(io::Error::new(io::ErrorKind::InvalidInput, "this is not a TCP listener")),
    }
}

/// A new pipe, the end to read from first: both ends non-blocking, not inherited by child processes.
pub(crate) fn pipe2() -> io::Result<[OwnedFd; 2]> {
    let mut fds = [-1; 2];
    // SAFETY: the kernel writes two descriptors, and `fds` has room for two.
    let ret = unsafe { ffi::pipe2(fds.as_mut_ptr(), ffi::O_CLOEXEC | ffi::O_NONBLOCK) };
    let (call, flags) = trace::pipe();
    check(ret, format_args!("{call}({fds:?}{flags})"))?;
    // SAFETY: both descriptors were just made and nobody else knows them.
    let ends = fds.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
    ends.iter().try_for_each(|end| set_flags(end, true))?;
    Ok(ends)
}

/// Sets what the call that made a descriptor could not. That is on Apple's systems alone, where no such call has flags.
fn set_flags(fd: &OwnedFd, blocks: bool) -> io::Result<()> {
    if ffi::SOCK_CLOEXEC == 0 {
        fcntl(fd, ffi::F_SETFD, ffi::FD_CLOEXEC, "F_SETFD, FD_CLOEXEC")?;
        if blocks {
            fcntl(fd, ffi::F_SETFL, ffi::O_NONBLOCK, "F_SETFL, O_NONBLOCK")?;
        }
    }
    Ok(())
}

/// The address record of either family, for the kernel to write to.
#[repr(C)]
pub(crate) union Address {
    v4: ffi::sockaddr_in,
    v6: ffi::sockaddr_in6,
}

impl Address {
    pub(crate) fn get(&self) -> Option<SocketAddr> {
        // SAFETY: `accept` has initialized the longer record, and both are plain numbers, which any bytes are.
        let (v4, v6) = unsafe { (&self.v4, &self.v6) };
        match c_int::from(v4.sin_family) {
            ffi::AF_INET => Some(SocketAddr::from((v4.sin_addr, u16::from_be(v4.sin_port)))),
            ffi::AF_INET6 => {
                let (ip, port) = (v6.sin6_addr.into(), u16::from_be(v6.sin6_port));
                Some(SocketAddrV6::new(ip, port, v6.sin6_flowinfo, v6.sin6_scope_id).into())
            }
            _ => None,
        }
    }
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

/// Asks or sets something about a descriptor. `shown` is how the trace has the last two arguments.
pub(crate) fn fcntl(fd: &OwnedFd, command: c_int, argument: c_int, shown: &str) -> io::Result<c_int> {
    let fd = fd.as_raw_fd();
    // SAFETY: each of the commands takes an int or nothing.
    let ret = unsafe { ffi::fcntl(fd, command, argument) };
    check(ret, format_args!("fcntl({fd}, {shown})"))
}

/// Unix calls return -1 and leave the reason in `errno`.
#[inline]
pub(crate) fn check(ret: c_int, call: fmt::Arguments<'_>) -> io::Result<c_int> {
    let result = if ret == -1 { Err(io::Error::last_os_error()) } else { Ok(ret) };
    trace(call, &result);
    result
}

/// What the sockets of `crate::net` have in common and has other names on Windows: the way to the descriptor and back.
macro_rules! descriptor {
    ($name:ident) => {
        impl AsFd for $name {
            #[inline]
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.socket.as_fd()
            }
        }

        impl AsRawFd for $name {
            #[inline]
            fn as_raw_fd(&self) -> RawFd {
                self.socket.as_raw_fd()
            }
        }

        impl IntoRawFd for $name {
            fn into_raw_fd(self) -> RawFd {
                self.into_std().into_raw_fd()
            }
        }

        impl From<$name> for OwnedFd {
            fn from(socket: $name) -> OwnedFd {
                socket.into_std().into()
            }
        }

        /// Takes the socket in the mode it has; `from_std` makes it non-blocking.
        impl From<OwnedFd> for $name {
            fn from(fd: OwnedFd) -> $name {
                $name::adopt(fd.into())
            }
        }

        /// Takes the socket in the mode it has; `from_std` makes it non-blocking.
        impl FromRawFd for $name {
            unsafe fn from_raw_fd(fd: RawFd) -> $name {
                // SAFETY: the caller hands over an open descriptor that nobody else owns.
                $name::from(unsafe { OwnedFd::from_raw_fd(fd) })
            }
        }
    };
}

descriptor!(TcpStream);
descriptor!(TcpListener);
descriptor!(UdpSocket);

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

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv6Addr, SocketAddrV6};

    #[test]
    fn an_address_keeps_its_port_flow_and_scope() {
        let address = ffi::sockaddr_in6::from(SocketAddrV6::new(Ipv6Addr::LOCALHOST, 0x1234, 5, 6));
        assert_eq!(address.sin6_port.to_ne_bytes(), [0x12, 0x34]);
        assert_eq!((address.sin6_flowinfo, address.sin6_scope_id), (5, 6));
        assert_eq!(address.sin6_addr, Ipv6Addr::LOCALHOST.octets());
    }
}
