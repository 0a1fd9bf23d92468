//! What your queue is to do, and the words that say it.

use std::io;
use std::time::Duration;

/// What is watched: a borrowed descriptor, so that nobody can close it during the call.
#[cfg(unix)]
pub type Source<'a> = std::os::unix::io::BorrowedFd<'a>;
/// What is watched: a borrowed socket, so that nobody can close it during the call.
#[cfg(windows)]
pub type Source<'a> = std::os::windows::io::BorrowedSocket<'a>;

/// Borrows what is watched.
#[cfg(unix)]
pub fn source(of: &impl std::os::unix::io::AsFd) -> Source<'_> {
    of.as_fd()
}
/// Borrows what is watched.
#[cfg(windows)]
pub fn source(of: &impl std::os::windows::io::AsSocket) -> Source<'_> {
    of.as_socket()
}

/// The number by which a source is recognized in its events.
pub type Token = usize;

/// The token of an event that says: somebody called [`wake`](Queue::wake).
pub const WAKE: Token = usize::MAX;

/// What happens after a source was reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It is reported by every poll for as long as it is ready.
    Level,
    /// It is reported once (on a kqueue once for each direction), then never again until it is registered again.
    OneShot,
    /// It is reported when it becomes ready, and again when more arrives.
    #[cfg(unix)] // AFD knows states, not changes: chapter 7
    Edge,
}

/// What to watch a source for.
#[derive(Clone, Copy, Debug)]
pub struct Interests {
    pub readable: bool,
    pub writable: bool,
    pub mode: Mode,
}

/// What a poll says about one source. One that is ready both ways may come as one event or as two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    pub token: Token,
    /// A read will not block: there is data, the end of the stream, or an error to pick up.
    pub readable: bool,
    /// A write will not block.
    pub writable: bool,
    /// The other side will send no more. What it sent before may still be unread.
    pub read_closed: bool,
}

/// The event queue of this workshop. Any thread may use it while another one sleeps in `poll`.
pub trait Queue: Sized + Send + Sync {
    fn new() -> io::Result<Self>;

    /// The queue's own descriptor. A queue is a source, too: it is readable when it has an event.
    #[cfg(unix)]
    fn as_fd(&self) -> Source<'_>;

    /// The handle to the driver AFD, and the port that it is tied to.
    #[cfg(windows)]
    fn helper_and_port(
        &self,
    ) -> (std::os::windows::io::BorrowedHandle<'_>, std::os::windows::io::BorrowedHandle<'_>);

    /// Watches `source` from now on, or replaces what the queue watched it for.
    fn register(&self, source: Source<'_>, token: Token, interests: Interests) -> io::Result<()>;

    /// The same for a source that is registered already: re-arms a one-shot source.
    fn reregister(&self, source: Source<'_>, token: Token, interests: Interests) -> io::Result<()>;

    /// Ends it. `NotFound` if the source is not registered.
    fn deregister(&self, source: Source<'_>) -> io::Result<()>;

    /// Clears `events`, sleeps until there is news or `timeout` has passed (`None`: for ever), and writes the
    /// news into `events`. Never returns without any before the timeout.
    fn poll(&self, events: &mut Vec<Event>, timeout: Option<Duration>) -> io::Result<()>;

    /// Makes the current or the next `poll` report the token [`WAKE`], once, however often it was called.
    fn wake(&self) -> io::Result<()>;

    /// Makes the current and every later `poll` return `ErrorKind::Interrupted`.
    fn close_loop(&self) -> io::Result<()>;
}

/// The first half on Windows: a completion port that lends buffers.
#[cfg(windows)]
pub trait Port: Sized + Send + Sync {
    fn new() -> io::Result<Self>;

    /// The port's own handle.
    fn as_handle(&self) -> std::os::windows::io::BorrowedHandle<'_>;

    /// Ties `socket` to the port: the packets of its operations come here, with `key` on them.
    fn tie(&self, socket: &std::net::TcpStream, key: usize) -> io::Result<()>;

    /// Lends `buffer` to the kernel, to be filled from `socket`, and returns at once. The number identifies the
    /// operation until its packet was taken.
    fn start_read(&self, socket: &std::net::TcpStream, buffer: Vec<u8>) -> io::Result<usize>;

    /// Sleeps until there is a packet and takes it out; `None` if `timeout` has passed first.
    fn next_packet(&self, timeout: Option<Duration>) -> io::Result<Option<Packet>>;

    /// Asks for an operation to be given up. Its packet comes all the same.
    fn cancel(&self, socket: &std::net::TcpStream, operation: usize) -> io::Result<()>;

    /// Puts a packet of our own into the port: only a key, no buffer.
    fn post(&self, key: usize) -> io::Result<()>;
}

/// What a completion port gives back.
#[cfg(windows)]
#[derive(Debug)]
pub struct Packet {
    pub key: usize,
    /// The buffer that was lent; `None` in a packet of our own.
    pub buffer: Option<Vec<u8>>,
    /// How many bytes are in it, or why there are none.
    pub result: io::Result<usize>,
}
