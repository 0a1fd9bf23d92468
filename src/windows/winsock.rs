//! The sockets of Windows: which of them you can register, and the system's side of the sockets in `crate::net`.

use crate::platform::{check_bool, Edge, Pipe};
use crate::trace::{self, trace};
use crate::{TcpListener, TcpStream, UdpSocket};
use std::fmt;
use std::io::{self, IoSlice, Write};
use std::mem::size_of;
use std::net::{self, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::raw::c_void;
use std::os::windows::io::{
    AsRawSocket, AsSocket, BorrowedSocket, FromRawSocket, IntoRawSocket, OwnedSocket, RawHandle, RawSocket,
};
use std::ptr;
use std::sync::{Arc, Once};

/// What you can register, as it is: minimio's own sockets and pipes, which work in every mode and end their
/// registration when they are dropped; std's sockets, `OwnedSocket` and `BorrowedSocket`, with the limits described at
/// [`register`](crate::Registrator::register); references to all of them; another crate's socket through
/// `&socket.as_socket()`.
///
/// Registering changes nothing about a source. A socket of std blocks: call `set_nonblocking(true)` before you register
/// it; otherwise, if you read until `WouldBlock`, the last read blocks for ever. With minimio's own types you cannot
/// get this wrong.
///
/// You cannot register a raw number. If you hold a `RawSocket`, borrow it first, and so vouch that it is open.
///
/// # Platform notes
///
/// On Unix: everything that is `AsFd`. Linux refuses a regular file with `EPERM`, and so standard input when it is
/// redirected from one.
pub trait Source: Watched {}

impl<T: Watched + ?Sized> Source for T {}

/// Keeps [`Source`] to the types named there, and says how each of them is watched.
pub trait Watched {
    /// What there is to watch.
    fn target(&self) -> Target<'_>;
}

/// How a source is watched.
#[derive(Debug)]
pub enum Target<'a> {
    /// With the help of AFD, and with what edge mode remembers, if the type can notice a `WouldBlock`.
    Socket(BorrowedSocket<'a>, Option<&'a Edge>),
    /// As a pipe.
    Pipe(&'a Arc<Pipe>),
}

/// Sockets that are not of our types.
macro_rules! others {
    ($($name:ty),*) => {
        $(impl Watched for $name {
            fn target(&self) -> Target<'_> {
                Target::Socket(self.as_socket(), None)
            }
        })*
    };
}

others!(net::TcpStream, net::TcpListener, net::UdpSocket, OwnedSocket, BorrowedSocket<'_>);

impl<T: Watched> Watched for &T {
    fn target(&self) -> Target<'_> {
        (**self).target()
    }
}

impl<T: Watched> Watched for &mut T {
    fn target(&self) -> Target<'_> {
        (**self).target()
    }
}

/// The system's own socket below `socket`: that same one, unless a layered service provider sits on top of it.
pub(crate) fn base_socket(socket: RawSocket) -> io::Result<RawSocket> {
    const MOST_LAYERS: usize = 16;
    let error = match query_socket(socket, ffi::SIO_BASE_HANDLE) {
        Err(error) if error.raw_os_error() != Some(ffi::WSAENOTSOCK) => error,
        answer => return answer,
    };
    // Some providers block that question on purpose, but answer one of these, which go down a single layer.
    let questions = [ffi::SIO_BSP_HANDLE_SELECT, ffi::SIO_BSP_HANDLE_POLL, ffi::SIO_BSP_HANDLE];
    let mut layer = socket;
    for _ in 0..MOST_LAYERS {
        let answers = questions.iter().map(|code| query_socket(layer, *code));
        match answers.flatten().find(|below| *below != layer) {
            Some(below) => layer = below,
            None => break,
        }
        if let Ok(base) = query_socket(layer, ffi::SIO_BASE_HANDLE) {
            return Ok(base);
        }
    }
    Err(error)
}

/// Asks Winsock for another socket that belongs to `socket`.
fn query_socket(socket: RawSocket, code: u32) -> io::Result<RawSocket> {
    let mut answer: RawSocket = 0;
    let mut length = 0;
    // SAFETY: Winsock writes one socket to `answer`, whose size it is told.
    let ret = unsafe {
        ffi::WSAIoctl(
            socket,
            code,
            ptr::null(),
            0,
            ptr::addr_of_mut!(answer).cast(),
            size_of::<RawSocket>() as u32,
            &mut length,
            ptr::null_mut(),
            ptr::null_mut(),
        )
    };
    let code = trace::ioctl(code);
    check_socket(ret, format_args!("WSAIoctl({socket:#x}, {code}, [{answer:#x}])"))?;
    Ok(answer)
}

/// What tells a socket from another one that has got its number since: its addresses, as far as it has any. Winsock knows them
/// without touching the socket, and refuses a number that is closed.
pub(crate) struct Addresses {
    /// Not of a datagram socket, where it changes with each `connect`.
    peer: Option<ffi::sockaddr_in6>,
    is_datagram: bool,
    /// The port of this end, 0 for none.
    port: u16,
}

impl Addresses {
    pub(crate) fn of(socket: RawSocket) -> Addresses {
        let mut addresses = Addresses { peer: None, is_datagram: is_datagram(socket), port: 0 };
        // They are not known yet, so they are taken note of.
        addresses.are_still_of(socket);
        addresses
    }

    /// Whether `socket` still has them, as far as can be told. One that it did not have before is taken note of.
    pub(crate) fn are_still_of(&mut self, socket: RawSocket) -> bool {
        let mut new_peer = None;
        if !self.is_datagram {
            match (name(socket, "getpeername", ffi::getpeername), self.peer) {
                (Ok(now), Some(before)) => return now == before,
                (Ok(now), None) => new_peer = Some(now),
                (Err(error), _) if error.raw_os_error() == Some(ffi::WSAENOTSOCK) => return false,
                // It has none yet, or has lost it by a reset.
                (Err(_), _) => {}
            }
        }
        let port = match name(socket, "getsockname", ffi::getsockname) {
            Ok(own) => own.sin6_port,
            Err(error) if error.raw_os_error() == Some(ffi::WSAENOTSOCK) => return false,
            Err(_) => 0,
        };
        let is_same = self.port == 0 || self.port == port;
        if is_same {
            self.peer = self.peer.or(new_peer);
            self.port = port;
        }
        is_same
    }
}

/// Asks Winsock for one of the two addresses of a socket.
fn name(
    socket: RawSocket,
    call: &str,
    ask: unsafe extern "system" fn(ffi::SOCKET, *mut c_void, *mut i32) -> i32,
) -> io::Result<ffi::sockaddr_in6> {
    let mut address = ffi::sockaddr_in6::default();
    let mut length = size_of::<ffi::sockaddr_in6>() as i32;
    // SAFETY: Winsock writes to `address`, whose size it is told.
    let ret = unsafe { ask(socket, ptr::addr_of_mut!(address).cast(), &mut length) };
    check_socket(ret, format_args!("{call}({socket:#x}, [{address:?}])"))?;
    Ok(address)
}

/// Whether there are no connections on a socket, only messages.
pub(crate) fn is_datagram(socket: RawSocket) -> bool {
    let mut kind = 0i32;
    let mut length = size_of::<i32>() as i32;
    let value = ptr::addr_of_mut!(kind).cast();
    // SAFETY: Winsock writes to `kind`, whose size it is told.
    let ret = unsafe { ffi::getsockopt(socket, ffi::SOL_SOCKET, ffi::SO_TYPE, value, &mut length) };
    let asked = check_socket(ret, format_args!("getsockopt({socket:#x}, SOL_SOCKET, SO_TYPE, [{kind}])"));
    asked.is_ok() && kind == ffi::SOCK_DGRAM
}

/// Starts to connect a new non-blocking socket.
pub(crate) fn connect(address: SocketAddr) -> io::Result<net::TcpStream> {
    let socket = tcp_socket(&address)?;
    socket.set_nonblocking(true)?;
    let started = match address {
        SocketAddr::V4(address) => connect_to(&socket, &ffi::sockaddr_in::from(address)),
        SocketAddr::V6(address) => connect_to(&socket, &ffi::sockaddr_in6::from(address)),
    };
    match started {
        // The usual answer: it goes on in the background.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(socket),
        started => started.map(|()| socket),
    }
}

/// `connect` with the address record of either family.
fn connect_to<A: fmt::Debug>(socket: &net::TcpStream, address: &A) -> io::Result<()> {
    let number = socket.as_raw_socket();
    let first: *const A = address;
    // SAFETY: both callers pass a socket address of the system, and the length is its own.
    let ret = unsafe { ffi::connect(number, first.cast(), size_of::<A>() as i32) };
    check_socket(ret, format_args!("connect({number:#x}, {address:?})"))
}

/// A new TCP socket for `address`, not inherited by child processes.
fn tcp_socket(address: &SocketAddr) -> io::Result<net::TcpStream> {
    // Winsock must be started first. std does that when it makes its first socket.
    static WINSOCK: Once = Once::new();
    WINSOCK.call_once(|| drop(net::UdpSocket::bind("127.0.0.1:0")));
    let family = if address.is_ipv4() { ffi::AF_INET } else { ffi::AF_INET6 };
    // SAFETY: the call takes no memory.
    let socket = unsafe {
        ffi::WSASocketW(
            family,
            ffi::SOCK_STREAM,
            0,
            ptr::null_mut(),
            0,
            ffi::WSA_FLAG_OVERLAPPED | ffi::WSA_FLAG_NO_HANDLE_INHERIT,
        )
    };
    let failed = if socket == ffi::INVALID_SOCKET { ffi::SOCKET_ERROR } else { 0 };
    let family = trace::family(family);
    check_socket(failed, format_args!("WSASocketW({family}, SOCK_STREAM, [{socket:#x}])"))?;
    // SAFETY: the socket was just made and nobody else knows it.
    Ok(unsafe { net::TcpStream::from_raw_socket(socket) })
}

/// Takes the next connection, which does not block because the listener does not. The sources contradict each other on whether
/// child processes inherit it, so they are told not to.
pub(crate) fn accept(listener: &net::TcpListener) -> io::Result<(net::TcpStream, SocketAddr)> {
    let (socket, peer) = listener.accept()?;
    let number = socket.as_raw_socket();
    // SAFETY: the call takes no memory, and `socket` is open.
    let ret = unsafe { ffi::SetHandleInformation(number as RawHandle, ffi::HANDLE_FLAG_INHERIT, 0) };
    check_bool(ret, format_args!("SetHandleInformation({number:#x}, HANDLE_FLAG_INHERIT, 0)"))?;
    Ok((socket, peer))
}

/// Sends from several buffers at once, as std does; there are no signals to hold back here.
pub(crate) fn send_vectored(mut socket: &net::TcpStream, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
    // Windows takes any number, but Wine hands them on to a system that takes so many.
    socket.write_vectored(&buffers[..buffers.len().min(1024)])
}

/// Nothing to do: there are no signals.
pub(crate) fn forbid_sigpipe(_socket: &impl AsSocket) {}

/// What the sockets of `crate::net` have in common and has other names on Unix: the way to the handle and back.
macro_rules! handle {
    ($name:ident) => {
        impl Watched for $name {
            fn target(&self) -> Target<'_> {
                Target::Socket(self.as_socket(), Some(&self.edge))
            }
        }

        impl AsSocket for $name {
            fn as_socket(&self) -> BorrowedSocket<'_> {
                self.socket.as_socket()
            }
        }

        impl AsRawSocket for $name {
            fn as_raw_socket(&self) -> RawSocket {
                self.socket.as_raw_socket()
            }
        }

        impl IntoRawSocket for $name {
            fn into_raw_socket(self) -> RawSocket {
                self.into_std().into_raw_socket()
            }
        }

        impl From<$name> for OwnedSocket {
            fn from(socket: $name) -> OwnedSocket {
                socket.into_std().into()
            }
        }

        /// Takes the socket in the mode it has; `from_std` makes it non-blocking.
        impl From<OwnedSocket> for $name {
            fn from(socket: OwnedSocket) -> $name {
                $name::adopt(socket.into())
            }
        }

        /// Takes the socket in the mode it has; `from_std` makes it non-blocking.
        impl FromRawSocket for $name {
            unsafe fn from_raw_socket(socket: RawSocket) -> $name {
                // SAFETY: the caller hands over an open socket that nobody else owns.
                $name::from(unsafe { OwnedSocket::from_raw_socket(socket) })
            }
        }
    };
}

handle!(TcpStream);
handle!(TcpListener);
handle!(UdpSocket);

impl From<SocketAddrV4> for ffi::sockaddr_in {
    fn from(address: SocketAddrV4) -> Self {
        ffi::sockaddr_in {
            sin_family: ffi::AF_INET as u16,
            sin_port: address.port().to_be(),
            sin_addr: address.ip().octets(),
            sin_zero: [0; 8],
        }
    }
}

impl From<SocketAddrV6> for ffi::sockaddr_in6 {
    fn from(address: SocketAddrV6) -> Self {
        ffi::sockaddr_in6 {
            sin6_family: ffi::AF_INET6 as u16,
            sin6_port: address.port().to_be(),
            sin6_flowinfo: address.flowinfo(),
            sin6_addr: address.ip().octets(),
            sin6_scope_id: address.scope_id(),
        }
    }
}

/// Calls of Winsock return `SOCKET_ERROR`, which is -1, and leave the reason in `WSAGetLastError`.
#[inline(always)]
fn check_socket(ret: i32, call: fmt::Arguments<'_>) -> io::Result<()> {
    let result = if ret == ffi::SOCKET_ERROR {
        // SAFETY: the call takes no memory.
        let code = unsafe { ffi::WSAGetLastError() };
        Err(io::Error::from_raw_os_error(code))
    } else {
        Ok(ret)
    };
    trace(call, &result);
    result.map(drop)
}

/// Winsock's own names. <https://learn.microsoft.com/windows/win32/api/winsock2/>
#[allow(non_camel_case_types, non_snake_case, clippy::upper_case_acronyms)]
pub(crate) mod ffi {
    use std::mem::size_of;
    use std::os::raw::c_void;
    use std::os::windows::io::{RawHandle, RawSocket};

    pub type SOCKET = RawSocket;

    pub const INVALID_SOCKET: SOCKET = SOCKET::MAX;
    pub const SOCKET_ERROR: i32 = -1;
    pub const WSAENOTSOCK: i32 = 10038;
    pub const AF_INET: i32 = 2;
    pub const AF_INET6: i32 = 23;
    pub const SOCK_STREAM: i32 = 1;
    pub const SOCK_DGRAM: i32 = 2;
    pub const WSA_FLAG_OVERLAPPED: u32 = 0x1;
    pub const WSA_FLAG_NO_HANDLE_INHERIT: u32 = 0x80;
    pub const HANDLE_FLAG_INHERIT: u32 = 0x1;
    pub const SIO_BSP_HANDLE: u32 = 0x4800_001B;
    pub const SIO_BSP_HANDLE_SELECT: u32 = 0x4800_001C;
    pub const SIO_BSP_HANDLE_POLL: u32 = 0x4800_001D;
    pub const SIO_BASE_HANDLE: u32 = 0x4800_0022;
    pub const SOL_SOCKET: i32 = 0xFFFF;
    pub const SO_TYPE: i32 = 0x1008;

    #[repr(C)]
    pub struct sockaddr_in {
        pub sin_family: u16,
        /// Big-endian.
        pub sin_port: u16,
        pub sin_addr: [u8; 4],
        pub sin_zero: [u8; 8],
    }

    /// There is room for an address of the other family in it, which begins with the same two fields.
    #[repr(C)]
    #[derive(Clone, Copy, Default, PartialEq)]
    pub struct sockaddr_in6 {
        pub sin6_family: u16,
        /// Big-endian.
        pub sin6_port: u16,
        pub sin6_flowinfo: u32,
        pub sin6_addr: [u8; 16],
        pub sin6_scope_id: u32,
    }

    // A wrong layout does not compile.
    const _: () = assert!(size_of::<sockaddr_in>() == 16 && size_of::<sockaddr_in6>() == 28);

    #[link(name = "kernel32")]
    extern "system" {
        /// Sets the flags of a handle that `mask` names. FALSE with `GetLastError` on failure.
        /// <https://learn.microsoft.com/windows/win32/api/handleapi/nf-handleapi-sethandleinformation>
        pub fn SetHandleInformation(handle: RawHandle, mask: u32, flags: u32) -> i32;
    }

    #[link(name = "ws2_32")]
    extern "system" {
        /// Asks or tells a socket something. Returns 0, -1 with `WSAGetLastError` on failure.
        /// <https://learn.microsoft.com/windows/win32/api/winsock2/nf-winsock2-wsaioctl>
        pub fn WSAIoctl(
            socket: SOCKET,
            code: u32,
            input: *const c_void,
            input_length: u32,
            output: *mut c_void,
            output_length: u32,
            written: *mut u32,
            overlapped: *mut c_void,
            completion: *mut c_void,
        ) -> i32;

        /// Makes a socket. Returns `INVALID_SOCKET` with `WSAGetLastError` on failure.
        /// <https://learn.microsoft.com/windows/win32/api/winsock2/nf-winsock2-wsasocketw>
        pub fn WSASocketW(
            family: i32,
            kind: i32,
            protocol: i32,
            info: *mut c_void,
            group: u32,
            flags: u32,
        ) -> SOCKET;

        /// Connects, or begins to. Returns 0, -1 with `WSAGetLastError` (`WSAEWOULDBLOCK`) otherwise.
        /// <https://learn.microsoft.com/windows/win32/api/winsock2/nf-winsock2-connect>
        pub fn connect(socket: SOCKET, address: *const c_void, length: i32) -> i32;

        /// The address of the other end. Returns 0, -1 with `WSAGetLastError` (`WSAENOTCONN`) otherwise.
        /// <https://learn.microsoft.com/windows/win32/api/winsock/nf-winsock-getpeername>
        pub fn getpeername(socket: SOCKET, address: *mut c_void, length: *mut i32) -> i32;

        /// The address of this end. Returns 0, -1 with `WSAGetLastError` (`WSAEINVAL` if there is none) otherwise.
        /// <https://learn.microsoft.com/windows/win32/api/winsock/nf-winsock-getsockname>
        pub fn getsockname(socket: SOCKET, address: *mut c_void, length: *mut i32) -> i32;

        /// Asks for an option, here an `i32`. Returns 0, -1 with `WSAGetLastError` on failure.
        /// <https://learn.microsoft.com/windows/win32/api/winsock/nf-winsock-getsockopt>
        pub fn getsockopt(socket: SOCKET, level: i32, name: i32, value: *mut c_void, length: *mut i32)
            -> i32;

        /// Why the last call of this thread failed.
        /// <https://learn.microsoft.com/windows/win32/api/winsock2/nf-winsock2-wsagetlasterror>
        pub fn WSAGetLastError() -> i32;
    }
}
