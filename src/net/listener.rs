//! [`TcpListener`]: std's listener, except that it never blocks; the same everywhere.

use super::READ;
use crate::platform::{self, Edge};
use crate::{Interests, TcpStream};
use std::fmt;
use std::io;
use std::net::{self, SocketAddr, ToSocketAddrs};

/// A non-blocking TCP listener: [`accept`](TcpListener::accept) never waits, but returns
/// [`WouldBlock`](io::ErrorKind::WouldBlock).
///
/// Otherwise it is std's listener. It is readable while there are connections to accept. One event may stand for
/// several, so accept until `WouldBlock`.
///
/// # Platform notes
///
/// What [`TcpStream`] says about clones.
///
/// # Examples
///
/// ```
/// use minimio::{Events, Interests, Poll, TcpListener};
/// use std::io::ErrorKind;
/// use std::net::TcpStream;
///
/// # fn main() -> std::io::Result<()> {
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
///
/// let mut poll = Poll::new()?;
/// poll.registry().register(&listener, 1, Interests::READABLE | Interests::LEVEL)?;
/// let client = TcpStream::connect(listener.local_addr()?)?;
/// poll.poll(&mut Events::new(), None)?;
/// let (stream, address) = listener.accept()?; // does not block either
/// assert_eq!(address, client.local_addr()?);
/// # Ok(())
/// # }
/// ```
pub struct TcpListener {
    /// What edge mode has to remember about this socket where the kernel does not. Dropped first, while the socket's
    /// number is still its own.
    pub(crate) edge: Edge,
    pub(crate) socket: net::TcpListener,
}

socket!(TcpListener);

impl TcpListener {
    /// Listens at the first address that it can, as [`std::net::TcpListener::bind`] does. If you give it a name, the
    /// look-up may block.
    ///
    /// # Errors
    ///
    /// The system's error for the last address tried (`AddrInUse`, `PermissionDenied`, …), the resolver's if the name
    /// is unknown, [`InvalidInput`](io::ErrorKind::InvalidInput) if there was no address at all.
    pub fn bind(address: impl ToSocketAddrs) -> io::Result<TcpListener> {
        TcpListener::from_std(net::TcpListener::bind(address)?)
    }

    /// Takes the next connection, and returns its stream, which does not block and is not inherited by child processes,
    /// and the address of the other end.
    ///
    /// # Errors
    ///
    /// The listener is as good after an error as before. What to do:
    ///
    /// * [`WouldBlock`](io::ErrorKind::WouldBlock): nobody is waiting to be accepted. Wait for the next event.
    /// * [`ConnectionAborted`](io::ErrorKind::ConnectionAborted), on Windows `ConnectionReset`: that client has already
    ///   left. Accept the next one.
    /// * The system's error if no descriptor is left (on Unix `EMFILE` and `ENFILE`). The connection stays in the
    ///   queue, so every poll reports a listener in [`LEVEL`](Interests::LEVEL) mode, and no poll reports one in
    ///   [`EDGE`](Interests::EDGE) mode. Deregister it, and register it again when one of your connections has been
    ///   closed.
    /// * Anything else concerns only one connection too; usually its network has gone down. Accept the next one.
    ///
    /// # Platform notes
    ///
    /// One system call on Linux, FreeBSD, NetBSD, OpenBSD and DragonFly, which have `accept4`. Two on macOS and
    /// Windows, where no call can keep the new socket from child processes at once: there, a child that another thread
    /// starts in between may inherit it. The stream does not block there because the listener does not.
    #[inline]
    pub fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (socket, address) = self.attempt(READ, platform::accept)?;
        // What else there is to set it has from the listener.
        Ok((TcpStream { edge: Edge::new(&socket), socket }, address))
    }
}
