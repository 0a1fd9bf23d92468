//! [`UdpSocket`]: std's datagram socket that never waits, the same everywhere.

use super::{READ, WRITE};
use crate::platform::{self, Edge};
use crate::Interests;
use std::fmt;
use std::io;
use std::net::{self, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};

/// A non-blocking UDP socket: calls that send or receive never wait, they return
/// [`WouldBlock`](io::ErrorKind::WouldBlock).
///
/// Otherwise it is std's socket. It is readable while there is a datagram to take, and nearly always writable. A refusal that
/// comes back for something it has sent is an error to pick up: by the next call, or by
/// [`take_error`](UdpSocket::take_error).
///
/// # Platform notes
///
/// Those of [`TcpStream`](crate::TcpStream) about clones.
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
    /// What edge mode needs to remember of this socket where the kernel does not. Dropped first, while the number of the
    /// socket is still its own.
    pub(crate) edge: Edge,
    pub(crate) socket: net::UdpSocket,
}

socket!(UdpSocket);

impl UdpSocket {
    /// Takes the first address that can be bound, as [`std::net::UdpSocket::bind`] does. A name is looked up, which may
    /// block.
    ///
    /// # Errors
    ///
    /// The system's error of the last address tried (`AddrInUse`, `PermissionDenied`, …), the resolver's if the name is
    /// unknown, [`InvalidInput`](io::ErrorKind::InvalidInput) if there was no address at all.
    pub fn bind(address: impl ToSocketAddrs) -> io::Result<UdpSocket> {
        UdpSocket::from_std(net::UdpSocket::bind(address)?)
    }

    /// Takes one datagram, and says how long it is and who sent it. What does not fit the buffer is lost.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) when there is none, else the system's error. (On Windows a datagram that does
    /// not fit is an error.)
    pub fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.attempt(READ, |socket| socket.recv_from(buffer))
    }

    /// As [`recv_from`](UdpSocket::recv_from), but the datagram stays.
    ///
    /// # Errors
    ///
    /// As [`recv_from`](UdpSocket::recv_from).
    pub fn peek_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.attempt(READ, |socket| socket.peek_from(buffer))
    }

    /// Sends a datagram to the first of the addresses. A name is looked up, which may block: give it numbers.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) when there is no room, [`InvalidInput`](io::ErrorKind::InvalidInput) if there
    /// was no address, else the system's error.
    pub fn send_to(&self, buffer: &[u8], address: impl ToSocketAddrs) -> io::Result<usize> {
        self.attempt(WRITE, |socket| socket.send_to(buffer, address))
    }

    /// Chooses the one peer of [`send`](UdpSocket::send) and [`recv`](UdpSocket::recv): the first of the addresses that
    /// can be. Nothing is sent for it. A name is looked up, which may block.
    ///
    /// # Errors
    ///
    /// The system's error of the last address tried.
    pub fn connect(&self, address: impl ToSocketAddrs) -> io::Result<()> {
        self.socket.connect(address)
    }

    /// Takes one datagram of the peer that was chosen by [`connect`](UdpSocket::connect), and says how long it is. What does
    /// not fit the buffer is lost.
    ///
    /// # Errors
    ///
    /// As [`recv_from`](UdpSocket::recv_from).
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.attempt(READ, |socket| socket.recv(buffer))
    }

    /// As [`recv`](UdpSocket::recv), but the datagram stays.
    ///
    /// # Errors
    ///
    /// As [`recv_from`](UdpSocket::recv_from).
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.attempt(READ, |socket| socket.peek(buffer))
    }

    /// Sends a datagram to the peer that was chosen by [`connect`](UdpSocket::connect).
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) when there is no room, else the system's error: `ConnectionRefused` when an
    /// earlier datagram found nobody there, where the system tells.
    pub fn send(&self, buffer: &[u8]) -> io::Result<usize> {
        self.attempt(WRITE, |socket| socket.send(buffer))
    }

    /// The peer that was chosen by [`connect`](UdpSocket::connect).
    ///
    /// # Errors
    ///
    /// [`NotConnected`](io::ErrorKind::NotConnected) when none was.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.socket.peer_addr()
    }

    /// Whether it may send to broadcast addresses (`SO_BROADCAST`).
    ///
    /// # Errors
    ///
    /// The system's error, as in std; so for all the methods below.
    pub fn broadcast(&self) -> io::Result<bool> {
        self.socket.broadcast()
    }

    /// Lets it send to broadcast addresses, or not.
    pub fn set_broadcast(&self, broadcast: bool) -> io::Result<()> {
        self.socket.set_broadcast(broadcast)
    }

    /// Whether what it sends to an IPv4 group comes back to this machine as well (`IP_MULTICAST_LOOP`).
    pub fn multicast_loop_v4(&self) -> io::Result<bool> {
        self.socket.multicast_loop_v4()
    }

    /// Sets whether what it sends to an IPv4 group comes back to this machine as well.
    pub fn set_multicast_loop_v4(&self, multicast_loop_v4: bool) -> io::Result<()> {
        self.socket.set_multicast_loop_v4(multicast_loop_v4)
    }

    /// How many hops what it sends to an IPv4 group may travel (`IP_MULTICAST_TTL`).
    pub fn multicast_ttl_v4(&self) -> io::Result<u32> {
        self.socket.multicast_ttl_v4()
    }

    /// Sets how many hops what it sends to an IPv4 group may travel.
    pub fn set_multicast_ttl_v4(&self, multicast_ttl_v4: u32) -> io::Result<()> {
        self.socket.set_multicast_ttl_v4(multicast_ttl_v4)
    }

    /// Whether what it sends to an IPv6 group comes back to this machine as well (`IPV6_MULTICAST_LOOP`).
    pub fn multicast_loop_v6(&self) -> io::Result<bool> {
        self.socket.multicast_loop_v6()
    }

    /// Sets whether what it sends to an IPv6 group comes back to this machine as well.
    pub fn set_multicast_loop_v6(&self, multicast_loop_v6: bool) -> io::Result<()> {
        self.socket.set_multicast_loop_v6(multicast_loop_v6)
    }

    /// Joins an IPv4 group on the interface with this address; `UNSPECIFIED` lets the system choose one.
    pub fn join_multicast_v4(&self, group: &Ipv4Addr, interface: &Ipv4Addr) -> io::Result<()> {
        self.socket.join_multicast_v4(group, interface)
    }

    /// Leaves an IPv4 group.
    pub fn leave_multicast_v4(&self, group: &Ipv4Addr, interface: &Ipv4Addr) -> io::Result<()> {
        self.socket.leave_multicast_v4(group, interface)
    }

    /// Joins an IPv6 group on the interface of this number; 0 lets the system choose one.
    pub fn join_multicast_v6(&self, group: &Ipv6Addr, interface: u32) -> io::Result<()> {
        self.socket.join_multicast_v6(group, interface)
    }

    /// Leaves an IPv6 group.
    pub fn leave_multicast_v6(&self, group: &Ipv6Addr, interface: u32) -> io::Result<()> {
        self.socket.leave_multicast_v6(group, interface)
    }
}
