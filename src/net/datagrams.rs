//! [`UdpSocket`]: std's datagram socket, except that it never blocks; the same everywhere.

use super::{READ, WRITE};
use crate::platform::{self, Edge};
use crate::Interests;
use std::fmt;
use std::io;
use std::net::{self, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};

/// A non-blocking UDP socket: calls that send or receive never wait, but return
/// [`WouldBlock`](io::ErrorKind::WouldBlock).
///
/// Otherwise it is std's socket. It is readable while there is a datagram to take, and writable nearly all the time. If
/// something it sent is refused, that is an error to pick up, by the next call or by
/// [`take_error`](UdpSocket::take_error).
///
/// # Platform notes
///
/// What [`TcpStream`](crate::TcpStream) says about clones.
///
/// # Examples
///
/// ```
/// use minimio::{Events, Interests, Poll, UdpSocket};
/// use std::io::ErrorKind;
///
/// # fn main() -> std::io::Result<()> {
/// let socket = UdpSocket::bind("127.0.0.1:0")?;
/// let mut buffer = [0; 1500];
/// assert_eq!(socket.recv_from(&mut buffer).unwrap_err().kind(), ErrorKind::WouldBlock);
///
/// let mut poll = Poll::new()?;
/// poll.registry().register(&socket, 1, Interests::READABLE)?;
/// socket.send_to(b"hello", socket.local_addr()?)?;
/// poll.poll(&mut Events::new(), None)?;
/// assert_eq!(socket.recv_from(&mut buffer)?, (5, socket.local_addr()?));
/// # Ok(())
/// # }
/// ```
pub struct UdpSocket {
    /// What edge mode has to remember about this socket where the kernel does not. Dropped first, while the socket's
    /// number is still its own.
    pub(crate) edge: Edge,
    pub(crate) socket: net::UdpSocket,
}

socket!(UdpSocket);

impl UdpSocket {
    /// Binds to the first address that it can, as [`std::net::UdpSocket::bind`] does. If you give it a name, the
    /// look-up may block.
    ///
    /// # Errors
    ///
    /// The system's error for the last address tried (`AddrInUse`, `PermissionDenied`, …), the resolver's if the name
    /// is unknown, [`InvalidInput`](io::ErrorKind::InvalidInput) if there was no address at all.
    pub fn bind(address: impl ToSocketAddrs) -> io::Result<UdpSocket> {
        UdpSocket::from_std(net::UdpSocket::bind(address)?)
    }

    /// Takes one datagram, and returns its length and its sender. What does not fit into the buffer is lost.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if there is none, otherwise the system's error. (On Windows a datagram
    /// that does not fit is an error.)
    pub fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.attempt(READ, |socket| socket.recv_from(buffer))
    }

    /// Like [`recv_from`](UdpSocket::recv_from), but the datagram stays.
    ///
    /// # Errors
    ///
    /// Those of [`recv_from`](UdpSocket::recv_from).
    pub fn peek_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.attempt(READ, |socket| socket.peek_from(buffer))
    }

    /// Sends a datagram to the first of the addresses. Looking up a name may block, so give it numbers.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if there is no room, [`InvalidInput`](io::ErrorKind::InvalidInput) if
    /// there was no address, otherwise the system's error.
    pub fn send_to(&self, buffer: &[u8], address: impl ToSocketAddrs) -> io::Result<usize> {
        self.attempt(WRITE, |socket| socket.send_to(buffer, address))
    }

    /// Chooses the one peer for [`send`](UdpSocket::send) and [`recv`](UdpSocket::recv): the first of the addresses
    /// that will do. This sends nothing. If you give it a name, the look-up may block.
    ///
    /// # Errors
    ///
    /// The system's error for the last address tried.
    pub fn connect(&self, address: impl ToSocketAddrs) -> io::Result<()> {
        self.socket.connect(address)
    }

    /// Takes one datagram from the peer chosen by [`connect`](UdpSocket::connect), and returns its length. What does
    /// not fit into the buffer is lost.
    ///
    /// # Errors
    ///
    /// Those of [`recv_from`](UdpSocket::recv_from).
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.attempt(READ, |socket| socket.recv(buffer))
    }

    /// Like [`recv`](UdpSocket::recv), but the datagram stays.
    ///
    /// # Errors
    ///
    /// Those of [`recv_from`](UdpSocket::recv_from).
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.attempt(READ, |socket| socket.peek(buffer))
    }

    /// Sends a datagram to the peer chosen by [`connect`](UdpSocket::connect).
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if there is no room, otherwise the system's error: `ConnectionRefused`
    /// if an earlier datagram found nobody there, on systems that tell.
    pub fn send(&self, buffer: &[u8]) -> io::Result<usize> {
        self.attempt(WRITE, |socket| socket.send(buffer))
    }

    /// The peer chosen by [`connect`](UdpSocket::connect).
    ///
    /// # Errors
    ///
    /// [`NotConnected`](io::ErrorKind::NotConnected) if none was chosen.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.socket.peer_addr()
    }

    /// Whether you may send to broadcast addresses (`SO_BROADCAST`).
    ///
    /// # Errors
    ///
    /// The system's error, as in std. The same goes for all methods below.
    pub fn broadcast(&self) -> io::Result<bool> {
        self.socket.broadcast()
    }

    /// Allows sending to broadcast addresses, or forbids it.
    pub fn set_broadcast(&self, broadcast: bool) -> io::Result<()> {
        self.socket.set_broadcast(broadcast)
    }

    /// Whether datagrams sent to an IPv4 group also come back to this machine (`IP_MULTICAST_LOOP`).
    pub fn multicast_loop_v4(&self) -> io::Result<bool> {
        self.socket.multicast_loop_v4()
    }

    /// Sets whether datagrams sent to an IPv4 group also come back to this machine.
    pub fn set_multicast_loop_v4(&self, multicast_loop_v4: bool) -> io::Result<()> {
        self.socket.set_multicast_loop_v4(multicast_loop_v4)
    }

    /// How many hops a datagram sent to an IPv4 group may travel (`IP_MULTICAST_TTL`).
    pub fn multicast_ttl_v4(&self) -> io::Result<u32> {
        self.socket.multicast_ttl_v4()
    }

    /// Sets how many hops a datagram sent to an IPv4 group may travel.
    pub fn set_multicast_ttl_v4(&self, multicast_ttl_v4: u32) -> io::Result<()> {
        self.socket.set_multicast_ttl_v4(multicast_ttl_v4)
    }

    /// Whether datagrams sent to an IPv6 group also come back to this machine (`IPV6_MULTICAST_LOOP`).
    pub fn multicast_loop_v6(&self) -> io::Result<bool> {
        self.socket.multicast_loop_v6()
    }

    /// Sets whether datagrams sent to an IPv6 group also come back to this machine.
    pub fn set_multicast_loop_v6(&self, multicast_loop_v6: bool) -> io::Result<()> {
        self.socket.set_multicast_loop_v6(multicast_loop_v6)
    }

    /// Joins an IPv4 group on the interface with this address; with `UNSPECIFIED` the system chooses one.
    pub fn join_multicast_v4(&self, group: &Ipv4Addr, interface: &Ipv4Addr) -> io::Result<()> {
        self.socket.join_multicast_v4(group, interface)
    }

    /// Leaves an IPv4 group.
    pub fn leave_multicast_v4(&self, group: &Ipv4Addr, interface: &Ipv4Addr) -> io::Result<()> {
        self.socket.leave_multicast_v4(group, interface)
    }

    /// Joins an IPv6 group on the interface with this number; with 0 the system chooses one.
    pub fn join_multicast_v6(&self, group: &Ipv6Addr, interface: u32) -> io::Result<()> {
        self.socket.join_multicast_v6(group, interface)
    }

    /// Leaves an IPv6 group.
    pub fn leave_multicast_v6(&self, group: &Ipv6Addr, interface: u32) -> io::Result<()> {
        self.socket.leave_multicast_v6(group, interface)
    }
}
