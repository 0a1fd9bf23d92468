//! Windows: I/O completion ports and AFD.
//!
//! epoll and kqueue say when a socket *can* be read. A completion port says when something *has been done*: a program
//! starts an operation on a handle that it has associated with the port, continues, and later takes a packet out of the
//! port that says how the operation ended. `CreateIoCompletionPort` creates the port; `GetQueuedCompletionStatusEx`
//! sleeps until there are packets and takes them out; `PostQueuedCompletionStatus` puts in one of our own, which is how
//! wakers and closing work.
//!
//! The classic way to use it is to lend a buffer: call `WSARecv` with the buffer to fill, and the packet says that it
//! has been filled. That is the faster way when many bytes move, but it is a different programming model: the kernel
//! owns a buffer for every connection that is merely waiting, reads and writes are no longer the calls of `Read` and
//! `Write`, and a program written for epoll would have to be turned inside out. minimio promises the same program
//! everywhere, so it does not go that way.
//!
//! So readiness does not come for free, but there is an operation whose *result* is readiness. Winsock's own `select`
//! is built on it: a request to the Ancillary Function Driver, AFD, which is the kernel's half of Winsock. It asks
//! about a socket, and ends as soon as the socket is in one of the states asked for. We send it
//! (`NtDeviceIoControlFile` with `IOCTL_AFD_POLL`) through a handle of the driver that is associated with our port, and
//! its packet is our event.
//!
//! One registration: `register` writes a request into a block of memory and lends that block to the kernel; bytes
//! arrive, the kernel writes the answer over the question and puts a packet into the port; `select` takes the packet
//! out, gets the block back, and turns it into an [`Event`] with our token.
//!
//! A request asks about a state, not about a change, and it ends once. So each mode asks again when it has to. Level
//! mode asks for everything again, in each `select` that follows an event. Edge mode asks for one direction again, when
//! a call on the socket has said `WouldBlock`: AFD has no edges, but that is where one announces itself. For that we
//! have to see the socket's calls, and only minimio's own types let us. The end of a stream and an error are asked for
//! all the time, until they have come.
//!
//! Closing a socket ends its pending request, with a packet that says so. If none is pending, nobody tells us, and the
//! number of the socket may come back as the number of another one. So minimio's own types end their registration when
//! they are dropped. Any other socket is compared with its addresses at registration before we ask about its number
//! again, to make sure that it is still the same one. Nothing is ever set on a socket.
//!
//! The life of a registration, and who owns what meanwhile, is in `windows/registration.rs`; the calls to the driver
//! are in `windows/afd.rs`; what concerns the sockets themselves is in `windows/winsock.rs`. Pipes, which AFD knows
//! nothing of, are in `windows/pipe.rs`: they work in the classic way.

#[path = "windows/afd.rs"]
pub(crate) mod afd;
#[path = "windows/pipe.rs"]
pub(crate) mod pipe;
#[path = "windows/registration.rs"]
mod registration;
#[path = "windows/winsock.rs"]
pub(crate) mod winsock;

use self::pipe::Pipe;
use self::registration::{places, Registration};
use self::winsock::{Target, Watched};
use crate::trace::{self, trace};
use crate::wait::{room, wait, Kernel, Timeout};
use crate::waker::Wakes;
use crate::{closed, Events, Interests, Token};
use std::fmt;
use std::io;
use std::os::windows::io::{AsRawHandle, AsRawSocket, FromRawHandle, OwnedHandle, RawHandle, RawSocket};
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub(crate) use self::pipe::{pipe, Owned, ReadEnd, WriteEnd};
pub(crate) use self::registration::Edge;
pub use self::winsock::Source;
pub(crate) use self::winsock::{accept, connect, forbid_sigpipe, send_vectored};
pub use crate::waker::Waker;

/// The most packets taken out of the port in one call.
const MAX_PACKETS: usize = 4096;

/// How many sockets share one handle of the driver: to cancel a request takes the longer the more there are on its
/// handle.
const SOCKETS_PER_HELPER: usize = 32;

// The completion key says what a packet is about.
/// The answer to a request. The packet owns one reference to its `Registration`.
pub(crate) const KEY_POLL: usize = 0;
/// The bell was rung for the wakers. The packet owns nothing; it only ends the wait.
pub(crate) const KEY_WAKE: usize = 1;
/// The queue was closed. The packet owns nothing either.
const KEY_CLOSE: usize = 2;
/// News of a pipe. The packet owns one reference to the `Pipe`.
pub(crate) const KEY_PIPE: usize = 3;
/// An operation on a pipe has ended. Such packets are only in the port that belongs to the pipes.
pub(crate) const KEY_DONE: usize = 4;

/// What the selector, its registrators, registrations and wakers share.
pub(crate) struct Queue {
    port: OwnedHandle,
    pub(crate) wakes: Wakes,
    /// How many packets that own something are in the port or will come.
    in_flight: AtomicUsize,
    /// The handle of the driver that the next registrations send their requests through. Each of them owns it as well, so one
    /// that is full is closed with the last of its registrations.
    helper: Mutex<Option<Arc<OwnedHandle>>>,
    /// Locked while somebody closes the queue.
    closing: Mutex<()>,
}

impl Queue {
    fn is_closed(&self) -> bool {
        self.wakes.is_closed()
    }

    /// A handle of the driver with room for one more socket.
    fn helper(&self) -> io::Result<Arc<OwnedHandle>> {
        let mut current = self.helper.lock().unwrap_or_else(PoisonError::into_inner);
        // One reference is ours.
        let has_room = |helper: &&Arc<OwnedHandle>| Arc::strong_count(helper) <= SOCKETS_PER_HELPER;
        if let Some(helper) = current.as_ref().filter(has_room) {
            return Ok(Arc::clone(helper));
        }
        let helper = Arc::new(afd::open()?);
        make_port(helper.as_raw_handle(), self.port.as_raw_handle(), KEY_POLL)?;
        *current = Some(Arc::clone(&helper));
        Ok(helper)
    }

    /// Puts a packet into the port. `owned` comes back with it.
    fn post(&self, key: usize, owned: *const ()) -> io::Result<()> {
        let port = self.port.as_raw_handle();
        // SAFETY: the kernel hands `owned` back with the packet and never looks behind it.
        let ret = unsafe { ffi::PostQueuedCompletionStatus(port, 0, key, owned as *mut _) };
        let key = trace::key(key);
        check_bool(ret, format_args!("PostQueuedCompletionStatus({port:?}, 0, {key}, {owned:?})"))
    }

    /// Ends the current wait, or the next one, for the wakers. Never blocks.
    pub(crate) fn ring(&self) -> io::Result<()> {
        self.post(KEY_WAKE, ptr::null())
    }

    /// Waits once, at most `timeout`, and takes up to `room` packets out of the port.
    fn take(
        &self,
        packets: &mut Vec<ffi::OVERLAPPED_ENTRY>,
        room: usize,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        packets.clear();
        packets.reserve(room);
        let port = self.port.as_raw_handle();
        let buffer = packets.as_mut_ptr();
        let timeout = millis(timeout);
        let mut count = 0;
        let slept = trace::Slept::begin();
        // SAFETY: `packets` has room for `room` entries, and the kernel writes at most that many.
        let ret =
            unsafe { ffi::GetQueuedCompletionStatusEx(port, buffer, room as u32, &mut count, timeout, 0) };
        if ret != 0 {
            // SAFETY: the kernel has initialized the first `count` entries, and `count` is at most `room`.
            unsafe { packets.set_len(count as usize) };
        }
        let (taken, timeout) = (trace::Packets(packets), trace::Timeout(timeout));
        let result = check_bool(
            ret,
            format_args!(
                "{slept}GetQueuedCompletionStatusEx({port:?}, {taken:?}, {room}, [{count}], {timeout}, FALSE)"
            ),
        );
        match result {
            // Nothing came in time.
            Err(error) if error.raw_os_error() == Some(ffi::WAIT_TIMEOUT) => Ok(()),
            result => result,
        }
    }

    /// Says what a packet is about and takes over what it owns.
    fn open(&self, packet: &ffi::OVERLAPPED_ENTRY) -> Packet {
        let owned = packet.lpOverlapped;
        match packet.lpCompletionKey {
            KEY_POLL => {
                self.in_flight.fetch_sub(1, Ordering::SeqCst);
                // SAFETY: the pointer is of the reference that `lend` gave away for this one packet.
                Packet::Poll(unsafe { Arc::from_raw(owned as *const Registration) })
            }
            KEY_WAKE => Packet::Wake,
            KEY_PIPE => {
                self.in_flight.fetch_sub(1, Ordering::SeqCst);
                // SAFETY: the pointer is of the reference that `Pipe::arm` gave away for this one packet.
                Packet::Pipe(unsafe { Arc::from_raw(owned as *const Pipe) })
            }
            _ => Packet::Close,
        }
    }
}

/// What a packet with an answer says, for the trace: the socket and its states.
pub(crate) fn peek(packet: &ffi::OVERLAPPED_ENTRY) -> (RawSocket, u32) {
    let registration = packet.lpOverlapped as *const Registration;
    // SAFETY: the packet owns a reference to it and has not been opened yet.
    let registration = unsafe { &*registration };
    // SAFETY: the packet was taken out, and nobody uses the request before it is opened.
    let states = unsafe { registration.request.answer() };
    (registration.number, states)
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("port", &self.port)
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}

/// Makes a port, or associates a handle with one: the packets of its operations come there, with this key.
fn make_port(handle: RawHandle, port: RawHandle, key: usize) -> io::Result<RawHandle> {
    // How many threads may be busy with packets before the port keeps the next ones back. It counts those that took one some
    // time ago and do other things now, so for a queue that moves from thread to thread any small number is wrong.
    let threads = i32::MAX as u32;
    // SAFETY: the call takes no memory, and what is no handle is an error.
    let made = unsafe { ffi::CreateIoCompletionPort(handle, port, key, threads) };
    let (handle, port, key) = (trace::Handle(handle), trace::Handle(port), trace::key(key));
    check_handle(made, format_args!("CreateIoCompletionPort({handle}, {port}, {key}, {threads})"))
}

/// What was in a packet.
enum Packet {
    Poll(Arc<Registration>),
    Wake,
    Pipe(Arc<Pipe>),
    Close,
}

/// A timeout for the port: rounded up, for a wait that ends early is no wait; cut to what is not "for ever", for the caller
/// waits on.
fn millis(timeout: Option<Duration>) -> u32 {
    match timeout {
        None => ffi::INFINITE,
        Some(timeout) => {
            let up = timeout.subsec_nanos().saturating_add(999_999) / 1_000_000;
            let millis = timeout.as_secs().saturating_mul(1000).saturating_add(up.into());
            millis.min(u64::from(ffi::INFINITE - 1)) as u32
        }
    }
}

/// The queue itself, seen from the thread that waits. [`Poll`](crate::Poll) drives it.
#[derive(Debug)]
pub struct Selector {
    queue: Arc<Queue>,
    /// What the kernel fills in; kept, so that a poll allocates nothing.
    packets: Vec<ffi::OVERLAPPED_ENTRY>,
    /// Registrations that had an event and want more: the next `select` asks again. Not earlier: there is nobody to tell, and
    /// in edge mode a `WouldBlock` that is met meanwhile asks for more at once.
    again: Vec<Arc<Registration>>,
    /// The same for pipes in level mode.
    pipes: Vec<Arc<Pipe>>,
}

impl Selector {
    /// Creates an empty queue.
    ///
    /// # Errors
    ///
    /// The system's error if it has no room for another queue.
    pub fn new() -> io::Result<Selector> {
        // No handle and no port: the way to ask for a new one.
        let port = make_port(ffi::INVALID_HANDLE_VALUE, ptr::null_mut(), KEY_POLL)?;
        // SAFETY: the handle was just made and nobody else knows it.
        let port = unsafe { OwnedHandle::from_raw_handle(port) };
        let queue = Queue {
            port,
            wakes: Wakes::default(),
            in_flight: AtomicUsize::new(0),
            helper: Mutex::default(),
            closing: Mutex::default(),
        };
        Ok(Selector { queue: Arc::new(queue), packets: Vec::new(), again: Vec::new(), pipes: Vec::new() })
    }

    /// Clears `events` and waits until there are some, or until `timeout` (`None`: for ever) has passed.
    ///
    /// # Errors
    ///
    /// [`Interrupted`](io::ErrorKind::Interrupted) without an OS code once the queue is closed; otherwise the system's
    /// error. `events` is empty then.
    pub fn select(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        self.wait(events, timeout.into())
    }

    /// The same with any kind of timeout.
    pub(crate) fn wait(&mut self, events: &mut Events, timeout: Timeout) -> io::Result<()> {
        wait(self, events, timeout)
    }

    /// A handle that registers sources from any thread.
    pub fn registrator(&self) -> Registrator {
        Registrator { queue: Arc::clone(&self.queue) }
    }
}

impl Kernel for &mut Selector {
    fn wait_once(&mut self, events: &mut Events, timeout: Timeout) -> io::Result<()> {
        let Selector { queue, packets, again, pipes } = &mut **self;
        let mut timeout = timeout.duration();
        let capacity = room(events, usize::MAX);
        // The packet that tells of the end comes once.
        if queue.is_closed() {
            return Err(closed());
        }
        // Ask first, then wait: what is ready at once is in the port when we look.
        for registration in again.drain(..) {
            registration.again();
        }
        for pipe in pipes.drain(..) {
            pipe.again();
        }
        // Whatever is ready now has its packet among these. A packet without an event may lead to another request that has
        // its answer at once, hence twice as many, and the bell; but no more, for other threads can make them faster than we take
        // them.
        let most = 2 * queue.in_flight.load(Ordering::SeqCst) + 1;
        let mut taken = 0;
        loop {
            let room = (capacity - events.len()).min(MAX_PACKETS);
            queue.take(packets, room, timeout)?;
            let mut has_rung = false;
            for packet in packets.iter() {
                events.extend(match queue.open(packet) {
                    Packet::Poll(registration) => registration.answered(again),
                    Packet::Wake => {
                        queue.wakes.silence();
                        has_rung = true;
                        None
                    }
                    Packet::Pipe(pipe) => pipe.answered(queue, pipes),
                    Packet::Close => {
                        queue.wakes.close();
                        None
                    }
                });
            }
            if queue.is_closed() {
                return Err(closed());
            }
            if has_rung || queue.wakes.are_news() {
                let readable = |token| Event { token, words: READABLE };
                if queue.wakes.deliver(events, readable) && queue.ring().is_err() {
                    // What is in hand is delivered in any case: the rest comes with the next ring.
                    queue.wakes.silence();
                }
            }
            taken += packets.len();
            let is_empty = packets.len() < room;
            let is_full = events.len() == capacity;
            if packets.is_empty() || is_full || is_empty && !events.is_empty() || taken >= most {
                return Ok(());
            }
            timeout = Some(Duration::ZERO);
        }
    }
}

impl Drop for Selector {
    /// The loop has ended; registrators and wakers that are left must know. What the kernel still holds is called back.
    fn drop(&mut self) {
        let queue = &self.queue;
        let mut ended = Vec::new();
        places(|places| {
            // Under the lock, so that nobody who saw the queue open is about to enter the table.
            queue.wakes.close();
            places.retain(|_, registration| {
                let stays = !Arc::ptr_eq(&registration.queue, queue);
                if !stays {
                    ended.push(Arc::clone(registration));
                }
                stays
            });
        });
        for registration in ended {
            registration.end();
        }
        // A cancelled request ends at once or nearly so. If the kernel ever keeps one, its block leaks: better than to hang,
        // and much better than to free what the kernel writes to.
        let mut patience = 100;
        while self.queue.in_flight.load(Ordering::SeqCst) > 0 && patience > 0 {
            let step = Some(Duration::from_millis(10));
            let taken = self.queue.take(&mut self.packets, MAX_PACKETS, step);
            if taken.is_err() || self.packets.is_empty() {
                patience -= 1;
            }
            for packet in self.packets.drain(..) {
                drop(self.queue.open(&packet));
            }
        }
    }
}

/// Registers sources with a queue, from any thread, even while another one is inside [`Poll::poll`](crate::Poll::poll).
///
/// A clone is another handle to the same queue.
#[derive(Clone, Debug)]
pub struct Registrator {
    pub(crate) queue: Arc<Queue>,
}

impl Registrator {
    /// Starts watching `source`, or replaces what this queue watched it for: token, direction and mode.
    ///
    /// The newest registration wins: no poll that starts later delivers an event with an old token. A source that is
    /// ready at this moment delivers an event. Nothing is lost between a one-shot event and its re-arming.
    ///
    /// The source stays as it is, blocking or not. minimio's own sockets never block. Call `set_nonblocking(true)` on
    /// one of std's before you register it; otherwise, if you read until `WouldBlock`, the last read blocks for ever.
    ///
    /// # Errors
    ///
    /// * [`InvalidInput`](io::ErrorKind::InvalidInput): `interests` names no direction, or both modes. An earlier
    ///   registration stays as it was.
    /// * [`Interrupted`](io::ErrorKind::Interrupted): the queue is closed.
    /// * [`Unsupported`](io::ErrorKind::Unsupported), on Windows only: edge mode for a source that is not of minimio's
    ///   types; or a source that is, while a clone of it is registered or another queue watches it. Everything stays as
    ///   it was.
    /// * The system's error: the source cannot be watched (`EPERM` for a regular file), or there is no memory or no
    ///   room for it.
    ///
    /// # Platform notes
    ///
    /// On Linux a registration lives as long as the open file behind the descriptor: while a duplicate (`dup`,
    /// `try_clone`, `fork`) is open, closing the registered descriptor does not end the registration. A child process
    /// holds a duplicate for a moment while `std::process::Command` starts it, close-on-exec or not. Calling
    /// `deregister` before you close is always enough.
    ///
    /// Windows cannot watch one socket twice, whether in two queues or as two clones. minimio's types refuse it; any
    /// other socket moves to the queue that registered it last, and you must not watch its clones beside it. Nor does
    /// Windows say when such a socket is closed. The library tells it from others only by its number and its addresses,
    /// and after it is closed, one event that was already on its way may still come, in the first poll that starts
    /// then.
    pub fn register(
        &self,
        source: &(impl Source + ?Sized),
        token: Token,
        interests: Interests,
    ) -> io::Result<()> {
        self.watch(source, token, interests, true)
    }

    /// Replaces what a registered `source` is watched for: the cheap way to re-arm a one-shot source.
    ///
    /// # Errors
    ///
    /// * [`NotFound`](io::ErrorKind::NotFound): this queue does not watch the source.
    /// * Else as [`register`](Registrator::register).
    pub fn reregister(
        &self,
        source: &(impl Source + ?Sized),
        token: Token,
        interests: Interests,
    ) -> io::Result<()> {
        self.watch(source, token, interests, false)
    }

    /// Stops watching `source`: no poll that starts later delivers its events. You can register it again, here or with
    /// another queue.
    ///
    /// # Errors
    ///
    /// * [`NotFound`](io::ErrorKind::NotFound): this queue does not watch the source.
    /// * [`Interrupted`](io::ErrorKind::Interrupted): the queue is closed.
    pub fn deregister(&self, source: &(impl Source + ?Sized)) -> io::Result<()> {
        let (number, edge) = match source.target() {
            Target::Socket(socket, edge) => (socket.as_raw_socket(), edge),
            Target::Pipe(pipe) => return pipe.unwatch(&self.queue),
        };
        let newest = edge.map(Edge::newest);
        Registration::find(&self.queue, number, newest.as_deref(), false)?.end();
        Ok(())
    }

    /// Ends the loop, from any thread: the current poll and every later one return
    /// [`Interrupted`](io::ErrorKind::Interrupted), even if nobody was polling yet.
    ///
    /// # Errors
    ///
    /// [`Interrupted`](io::ErrorKind::Interrupted): the queue is already closed.
    pub fn close_loop(&self) -> io::Result<()> {
        let queue = &self.queue;
        let _closing = queue.closing.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.is_closed() {
            return Err(closed());
        }
        // If the packet cannot be sent nothing has happened: a poll that sleeps would not have noticed. It is the packet that
        // brings the news; who takes it out need not wait for us to say so.
        queue.post(KEY_CLOSE, ptr::null())?;
        queue.wakes.close();
        Ok(())
    }

    fn watch(
        &self,
        source: &(impl Source + ?Sized),
        token: Token,
        interests: Interests,
        is_new: bool,
    ) -> io::Result<()> {
        interests.check()?;
        let (number, edge) = match source.target() {
            Target::Socket(socket, edge) => (socket.as_raw_socket(), edge),
            Target::Pipe(pipe) => return pipe.watch(&self.queue, token, interests, is_new),
        };
        if interests.is_edge() && edge.is_none() {
            let why =
                "EDGE needs one of minimio's own sockets: Windows tells a socket's state, not its changes";
            return Err(io::Error::new(io::ErrorKind::Unsupported, why));
        }
        let mut newest = edge.map(Edge::newest);
        let registration = Registration::find(&self.queue, number, newest.as_deref(), is_new)?;
        if let Some(newest) = &mut newest {
            **newest = Arc::downgrade(&registration);
        }
        registration.watch(edge.is_some(), token, interests)
    }
}

/// What a poll reports about one source: its token, and what it is ready for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Event {
    token: Token,
    /// The words below that are true of it.
    words: u8,
}

const READABLE: u8 = 1;
const WRITABLE: u8 = 2;
const READ_CLOSED: u8 = 4;
const WRITE_CLOSED: u8 = 8;
const ERROR: u8 = 16;

impl Event {
    /// What it means that a socket is `found` in these states.
    fn new(token: Token, found: u32, is_datagram: bool) -> Event {
        let mut words = 0;
        let meanings = [
            (afd::READ, READABLE),
            (afd::WRITE, WRITABLE),
            (afd::READ_CLOSED, READ_CLOSED),
            (afd::FAILED, READABLE | WRITABLE | ERROR),
            // Datagrams make no connection that could end.
            (if is_datagram { 0 } else { afd::FAILED }, READ_CLOSED | WRITE_CLOSED),
        ];
        for (states, meaning) in meanings {
            if found & states != 0 {
                words |= meaning;
            }
        }
        Event { token, words }
    }

    /// The token with which the source was registered.
    #[inline]
    pub fn id(&self) -> Token {
        self.token
    }

    /// A read will not block: there is data, the end of the stream, a connection to accept, or an error to pick up. An error
    /// counts for both directions, whichever you asked for.
    #[inline]
    pub fn is_readable(&self) -> bool {
        self.words & READABLE != 0
    }

    /// A write will not block: there is room, the connection is established, or there is an error to pick up. An error
    /// counts for both directions, whichever you asked for.
    #[inline]
    pub fn is_writable(&self) -> bool {
        self.words & WRITABLE != 0
    }

    /// The peer will send no more. What it sent before can still be read.
    #[inline]
    pub fn is_read_closed(&self) -> bool {
        self.words & READ_CLOSED != 0
    }

    /// Nothing more can be sent: the connection has failed, or has ended in both directions.
    ///
    /// # Platform notes
    ///
    /// After you have shut down writing yourself, kqueue reports this at once; the others need not. On Linux a full
    /// pipe whose reader has gone reports writable and error, but not this; and a TCP stream with a message in its
    /// error queue (because you asked for `MSG_ZEROCOPY` or time stamps) reports this although it is open.
    #[inline]
    pub fn is_write_closed(&self) -> bool {
        self.words & WRITE_CLOSED != 0
    }

    /// The source has failed: its connection was refused or reset, for instance. On a stream, `take_error` says why.
    ///
    /// # Platform notes
    ///
    /// On Linux also a pipe whose reader has gone, and a socket with a message in its error queue (because you asked
    /// for `MSG_ZEROCOPY` or time stamps), which has not failed.
    #[inline]
    pub fn is_error(&self) -> bool {
        self.words & ERROR != 0
    }
}

/// Calls that return a handle return null and leave the reason in `GetLastError`.
#[inline(always)]
fn check_handle(ret: RawHandle, call: fmt::Arguments<'_>) -> io::Result<RawHandle> {
    let result = if ret.is_null() { Err(io::Error::last_os_error()) } else { Ok(trace::Handle(ret)) };
    trace(call, &result);
    result.map(|handle| handle.0)
}

/// Calls that return a `BOOL` return FALSE, which is 0, and leave the reason in `GetLastError`.
#[inline(always)]
pub(crate) fn check_bool(ret: ffi::BOOL, call: fmt::Arguments<'_>) -> io::Result<()> {
    let result = if ret == 0 { Err(io::Error::last_os_error()) } else { Ok("TRUE") };
    trace(call, &result);
    result.map(drop)
}

/// The system's own names. <https://learn.microsoft.com/windows/win32/api/>
#[allow(non_camel_case_types, non_snake_case, clippy::upper_case_acronyms)]
pub(crate) mod ffi {
    use std::mem::size_of;
    use std::os::raw::c_void;
    use std::os::windows::io::RawHandle;

    pub type BOOL = i32;
    pub type HANDLE = RawHandle;

    pub const INVALID_HANDLE_VALUE: HANDLE = -1isize as HANDLE;
    pub const INFINITE: u32 = u32::MAX;
    pub const WAIT_TIMEOUT: i32 = 258;

    /// One packet: the key of the handle or of the post, the pointer that was given along, the status and a number.
    #[repr(C)]
    #[derive(Clone, Copy)]
    pub struct OVERLAPPED_ENTRY {
        pub lpCompletionKey: usize,
        pub lpOverlapped: *mut c_void,
        pub Internal: usize,
        pub dwNumberOfBytesTransferred: u32,
    }

    // SAFETY: a record of numbers; what its pointer leads to is for who takes the packet out.
    unsafe impl Send for OVERLAPPED_ENTRY {}
    // SAFETY: as above.
    unsafe impl Sync for OVERLAPPED_ENTRY {}

    // A wrong layout does not compile.
    const _: () = assert!(size_of::<OVERLAPPED_ENTRY>() == 4 * size_of::<usize>());

    #[link(name = "kernel32")]
    extern "system" {
        /// Makes a port, or associates `file` with one: its packets will carry `key`. Returns the port, null with
        /// `GetLastError` on failure.
        /// <https://learn.microsoft.com/windows/win32/fileio/createiocompletionport>
        pub fn CreateIoCompletionPort(file: HANDLE, port: HANDLE, key: usize, threads: u32) -> HANDLE;

        /// Sleeps until there are packets, then takes up to `room` out. FALSE with `GetLastError` on failure, which is
        /// `WAIT_TIMEOUT` when the time (milliseconds) is up.
        /// <https://learn.microsoft.com/windows/win32/fileio/getqueuedcompletionstatusex-func>
        pub fn GetQueuedCompletionStatusEx(
            port: HANDLE,
            entries: *mut OVERLAPPED_ENTRY,
            room: u32,
            taken: *mut u32,
            timeout: u32,
            alertable: BOOL,
        ) -> BOOL;

        /// Puts a packet into a port. FALSE with `GetLastError` on failure.
        /// <https://learn.microsoft.com/windows/win32/fileio/postqueuedcompletionstatus>
        pub fn PostQueuedCompletionStatus(
            port: HANDLE,
            bytes: u32,
            key: usize,
            overlapped: *mut c_void,
        ) -> BOOL;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Poll, TcpStream};
    use std::io::Write;
    use std::net::{self, TcpListener};
    use std::sync::Weak;

    const READABLE: Interests = Interests::READABLE;

    fn pair() -> (TcpStream, net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (stream, listener.accept().unwrap().0)
    }

    /// The registration of `stream`, without owning it.
    fn registration(stream: &TcpStream) -> Weak<Registration> {
        stream.edge.newest().clone()
    }

    #[test]
    fn milliseconds_are_rounded_up_and_never_mean_for_ever() {
        let millis = |nanos| super::millis(Some(Duration::from_nanos(nanos)));
        assert_eq!([0, 1, 999_999, 1_000_000, 1_000_001].map(millis), [0, 1, 1, 1, 2]);
        assert_eq!(super::millis(None), ffi::INFINITE);
        for huge in [
            Duration::MAX,
            Duration::from_millis(u32::MAX.into()),
            Duration::from_millis(u64::from(u32::MAX) + 1),
        ] {
            assert_eq!(super::millis(Some(huge)), ffi::INFINITE - 1);
        }
    }

    #[test]
    fn what_the_kernel_holds_lives_until_its_packet_was_taken_out() {
        let mut poll = Poll::new().unwrap();
        let mut events = Events::with_capacity(4);
        let (stream, _peer) = pair();
        poll.registry().register(&stream, 1, READABLE).unwrap();
        let held = registration(&stream);
        assert_eq!(held.strong_count(), 2, "the table and the packet to come");
        poll.registry().deregister(&stream).unwrap();
        drop(stream);
        assert_eq!(held.strong_count(), 2, "there they are still");
        // It is called off, so its packet is there or very near.
        while held.strong_count() > 0 {
            assert_eq!(poll.poll(&mut events, Some(1)).unwrap(), 0);
        }
    }

    #[test]
    fn a_queue_that_ends_takes_back_what_the_kernel_holds() {
        let (first, mut peer) = pair();
        let (second, _other_peer) = pair();
        let poll = Poll::new().unwrap();
        poll.registry().register(&first, 1, READABLE).unwrap();
        poll.registry().register(&second, 2, READABLE).unwrap();
        let waker = Waker::new(&poll.registrator(), 3).unwrap();
        waker.wake().unwrap();
        peer.write_all(b"x").unwrap();
        let queue = Arc::clone(&poll.selector.queue);
        drop(poll);
        assert_eq!(queue.in_flight.load(Ordering::SeqCst), 0);
        for stream in [&first, &second] {
            assert_eq!(registration(stream).strong_count(), 0);
        }
        drop(waker);
        assert_eq!(Arc::strong_count(&queue), 1, "nobody else holds the port");
    }

    #[test]
    fn a_queue_that_could_not_be_closed_is_not_closed() {
        // A handle that is no port takes no packet.
        let queue = Queue {
            port: afd::open().unwrap(),
            wakes: Wakes::default(),
            in_flight: AtomicUsize::new(0),
            helper: Mutex::default(),
            closing: Mutex::default(),
        };
        let registrator = Registrator { queue: Arc::new(queue) };
        for _ in 0..2 {
            assert!(registrator.close_loop().unwrap_err().raw_os_error().is_some());
            assert!(!registrator.queue.is_closed());
        }
    }
}
