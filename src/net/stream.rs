//! [`TcpStream`]: std's stream, except that it never blocks; the same everywhere.

use super::{READ, WRITE};
use crate::platform::{self, Edge};
use crate::Interests;
use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{self, Shutdown, SocketAddr, ToSocketAddrs};

/// A non-blocking TCP connection: reads and writes never wait, but return [`WouldBlock`](io::ErrorKind::WouldBlock).
///
/// Otherwise it is std's stream. Writing to a closed peer is an error and never a signal, whatever the program does
/// with `SIGPIPE`. It outlives the [`Poll`](crate::Poll) it was registered with, as a plain non-blocking socket.
///
/// # Platform notes
///
/// On Unix a clone is another descriptor, and you register it on its own. Windows cannot watch one socket twice: while
/// a stream is registered there, registering a clone of it, or the stream with another queue, is
/// [`Unsupported`](io::ErrorKind::Unsupported). Edge mode on Windows notices a `WouldBlock` of the stream and of its
/// clones. If you met one elsewhere, in a call on a borrowed std stream for instance, call
/// [`reregister`](crate::Registrator::reregister).
///
/// # Examples
///
/// ```
/// use minimio::{Events, Interests, Poll, TcpStream};
/// use std::io::{ErrorKind, Read, Write};
/// use std::net::TcpListener;
///
/// # fn main() -> std::io::Result<()> {
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let mut stream = TcpStream::connect(listener.local_addr()?)?;
/// let (mut peer, _) = listener.accept()?;
///
/// let mut buffer = [0; 64];
/// assert_eq!(stream.read(&mut buffer).unwrap_err().kind(), ErrorKind::WouldBlock);
///
/// let mut poll = Poll::new()?;
/// poll.registrator().register(&mut stream, 1, Interests::READABLE)?;
/// peer.write_all(b"hello")?;
/// poll.poll(&mut Events::new(), None)?;
/// assert_eq!(stream.read(&mut buffer)?, 5);
/// # Ok(())
/// # }
/// ```
pub struct TcpStream {
    /// What edge mode has to remember about this socket where the kernel does not. Dropped first, while the socket's
    /// number is still its own.
    pub(crate) edge: Edge,
    pub(crate) socket: net::TcpStream,
}

impl TcpStream {
    /// Connects as [`std::net::TcpStream::connect`] does and returns a stream that is non-blocking from then on.
    ///
    /// It may block: it looks names up, and tries every address until one answers. In an event loop, give it numbers,
    /// or use [`connect_nonblocking`](TcpStream::connect_nonblocking).
    ///
    /// # Errors
    ///
    /// The system's error for the last address tried (`ConnectionRefused`, `TimedOut`, …), the resolver's if the name
    /// is unknown, [`InvalidInput`](io::ErrorKind::InvalidInput) if there was no address at all.
    pub fn connect(address: impl ToSocketAddrs) -> io::Result<TcpStream> {
        TcpStream::from_std(net::TcpStream::connect(address)?)
    }

    /// Starts to connect and returns at once.
    ///
    /// Then register the stream for [`WRITABLE`](Interests::WRITABLE), wait for its event and ask
    /// [`take_error`](TcpStream::take_error): `None` means that the connection is established, otherwise it says why
    /// not. Until then reads and writes return `WouldBlock` or `NotConnected`. A stream that has failed cannot be
    /// reused; create a new one.
    ///
    /// # Errors
    ///
    /// The system's error, if there is one already: no descriptor is left, or there is no route to the network.
    ///
    /// # Platform notes
    ///
    /// A refused connection is an event and not an error of this call, unless the system is certain at once. Windows
    /// tries again for about two seconds before it accepts a refusal, even on the same machine: there a server whose
    /// backlog is full refuses, and the next try succeeds.
    ///
    /// # Examples
    ///
    /// ```
    /// use minimio::{Events, Interests, Poll, TcpStream};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// let stream = TcpStream::connect_nonblocking(listener.local_addr()?)?;
    ///
    /// let mut poll = Poll::new()?;
    /// poll.registry().register(&stream, 1, Interests::WRITABLE)?;
    /// poll.poll(&mut Events::new(), None)?;
    /// assert!(stream.take_error()?.is_none());
    /// # Ok(())
    /// # }
    /// ```
    pub fn connect_nonblocking(address: SocketAddr) -> io::Result<TcpStream> {
        let socket = platform::connect(address)?;
        Ok(TcpStream::wrap(Edge::new(&socket), socket))
    }

    /// The address of the other end.
    ///
    /// # Errors
    ///
    /// [`NotConnected`](io::ErrorKind::NotConnected) if there is no connection (some systems say `InvalidInput`).
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.socket.peer_addr()
    }

    /// Whether small writes are sent at once (`TCP_NODELAY`).
    ///
    /// # Errors
    ///
    /// The system's error, as in std.
    pub fn nodelay(&self) -> io::Result<bool> {
        self.socket.nodelay()
    }

    /// Sends small writes at once (`true`) or gathers them (`false`, the default).
    ///
    /// # Errors
    ///
    /// The system's error, as in std.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.socket.set_nodelay(nodelay)
    }

    /// Ends one direction or both. The peer reads everything that was sent, and then the end of the stream.
    ///
    /// # Errors
    ///
    /// [`NotConnected`](io::ErrorKind::NotConnected) if there is no connection.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.socket.shutdown(how)
    }

    /// Reads without removing the bytes.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if there is nothing yet, otherwise the system's error.
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.attempt(READ, |socket| socket.peek(buffer))
    }
}

socket!(TcpStream);

impl Read for &TcpStream {
    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.attempt(READ, |mut socket| socket.read(buffer))
    }

    #[inline]
    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.attempt(READ, |mut socket| socket.read_vectored(buffers))
    }
}

impl Write for &TcpStream {
    #[inline]
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.attempt(WRITE, |mut socket| socket.write(buffer))
    }

    #[inline]
    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        self.attempt(WRITE, |socket| platform::send_vectored(socket, buffers))
    }

    #[inline]
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for TcpStream {
    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }

    #[inline]
    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (&*self).read_vectored(buffers)
    }
}

impl Write for TcpStream {
    #[inline]
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        (&*self).write(buffer)
    }

    #[inline]
    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self).write_vectored(buffers)
    }

    #[inline]
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
