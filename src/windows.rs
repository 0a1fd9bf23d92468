//! Windows: I/O completion ports and AFD.
//!
//! epoll and kqueue tell when a socket *can* be read. A completion port tells when something *has been done*: a program
//! starts an operation on a handle that it has associated with the port, goes on, and later takes a packet out of the port that
//! says how the operation ended. `CreateIoCompletionPort` makes the port, `GetQueuedCompletionStatusEx` sleeps until there are
//! packets and takes them out, `PostQueuedCompletionStatus` puts in one of our own, and that is how wakers and closing work.
//!
//! The classic way to use it is to lend a buffer: `WSARecv` with the buffer that shall be filled, and the packet says that it
//! is. It is the faster way when many bytes move, but it is another programming model: the kernel owns a buffer for every
//! connection that is merely waiting, reads and writes are no longer the calls of `Read` and `Write`, and a program written for
//! epoll would have to be turned inside out. minimio's promise is the same program everywhere, so it does not go that way.
//!
//! Readiness does not come for free then, but there is an operation whose *result* is readiness. Winsock's own `select` is
//! built on it: a request to the Ancillary Function Driver, AFD, which is the kernel's half of Winsock. It asks about a socket
//! and ends as soon as that is in one of the states that were asked for. We send it (`NtDeviceIoControlFile` with
//! `IOCTL_AFD_POLL`) through a handle of the driver that is associated with our port, and its packet is our event.
//!
//! One registration: `register` writes a request into a block of memory and lends that to the kernel; bytes arrive, the kernel
//! writes the answer over the question and puts a packet into the port; `select` takes the packet out, has the block back,
//! and makes an [`Event`] with our token of it. At every moment the request is in one of three states:
//!
//! ```text
//!             submit              cancel
//!     Idle ───────────► Pending ───────────► Cancelled
//!      ▲                   │                     │
//!      └───────────────────┴─────────────────────┘
//!                       packet
//! ```
//!
//! * *Idle*: the block is ours. A one-shot registration rests here after its event, a level one until the next
//!   `select` asks again, one in edge mode until a read or write says `WouldBlock`.
//! * *Pending*: the kernel holds the block and may write to it at any moment. What was asked cannot be changed, only
//!   called off.
//! * *Cancelled*: the kernel holds the block until the packet was taken out that tells how it ended, called off or just answered.
//!   If more is wanted, it goes out again then. Not earlier: of two requests for one socket the driver mixes up the answers.
//!
//! A request is about a state, not about a change: AFD has no edges. Level mode asks again in each `select`. Edge mode asks
//! again for the direction in which the socket has just said `WouldBlock`, so it has to see its calls, and only minimio's own
//! sockets let it.
//!
//! Closing a socket ends its pending request, with a packet that says so. If none is pending, nobody tells us, and
//! the number of the socket may come back as another one's. So a socket of ours ends its registration when it is dropped; and of
//! any other socket we make sure, by a mark, that it still is the one that was registered before we ask by its number again.
//! A record that nobody asks for any more goes when its number is registered again, or with the queue.
//!
//! The calls to the driver are in `windows/afd.rs`, what concerns the sockets themselves is in `windows/winsock.rs`.

#[path = "windows/afd.rs"]
pub(crate) mod afd;
#[path = "windows/winsock.rs"]
pub(crate) mod winsock;

use self::afd::{FAILED, GONE, READ, WRITE};
use self::winsock::base_socket;
use crate::trace::{self, trace};
use crate::wait::wait;
use crate::{closed, not_registered, Events, Interests, Token};
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::mem;
use std::os::windows::io::{
    AsRawHandle, AsRawSocket, AsSocket, FromRawHandle, OwnedHandle, RawHandle, RawSocket,
};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

pub use self::winsock::Source;
pub(crate) use self::winsock::{accept, connect, forbid_sigpipe, send_vectored};

/// The most packets taken out of the port in one call.
const MAX_PACKETS: usize = 4096;

/// How many sockets share one handle of the driver: to cancel a request takes the longer the more there are on its
/// handle.
const SOCKETS_PER_HELPER: usize = 32;

// The completion key says what a packet is about.
/// The answer to a request. The packet owns one reference to its `Registration`.
pub(crate) const KEY_POLL: usize = 0;
/// A wake. The packet owns one reference to the `WakerInner`.
pub(crate) const KEY_WAKE: usize = 1;
/// The queue was closed. The packet owns nothing; it only ends the wait.
const KEY_CLOSE: usize = 2;

/// What the selector, its registrators, registrations and wakers share.
pub(crate) struct Queue {
    port: OwnedHandle,
    /// Set once, by `close_loop` or by the end of the selector; looked at by everybody.
    closed: AtomicBool,
    /// How many packets that own something are in the port or will come.
    in_flight: AtomicUsize,
    /// Locked before the state of a registration, never after it.
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    /// The newest registration under each number of a socket.
    registrations: HashMap<RawSocket, Arc<Registration>>,
    /// Handles of the driver that are associated with the port.
    helpers: Vec<Arc<OwnedHandle>>,
}

impl Queue {
    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a packet into the port. `owned` comes back with it.
    fn post(&self, key: usize, owned: *const ()) -> io::Result<()> {
        let port = self.port.as_raw_handle();
        // SAFETY: the kernel hands `owned` back with the packet and never looks behind it.
        let ret = unsafe { ffi::PostQueuedCompletionStatus(port, 0, key, owned as *mut _) };
        let key = trace::key(key);
        check_bool(ret, format_args!("PostQueuedCompletionStatus({port:?}, 0, {key}, {owned:?})"))
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
            KEY_WAKE => {
                self.in_flight.fetch_sub(1, Ordering::SeqCst);
                // SAFETY: the pointer is of the reference that `wake` gave away for this one packet.
                Packet::Wake(unsafe { Arc::from_raw(owned as *const WakerInner) })
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
    (registration.base, states)
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("port", &self.port)
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}

/// Makes a port, or associates a handle with one: the packets of its operations come there.
fn make_port(handle: RawHandle, port: RawHandle) -> io::Result<RawHandle> {
    // How many threads may be busy with packets before the port keeps the next ones back. It counts those that took one some
    // time ago and do other things now, so for a queue that moves from thread to thread any small number is wrong.
    let threads = i32::MAX as u32;
    // SAFETY: the call takes no memory, and what is no handle is an error.
    let made = unsafe { ffi::CreateIoCompletionPort(handle, port, KEY_POLL, threads) };
    let (handle, port) = (trace::Handle(handle), trace::Handle(port));
    check_handle(made, format_args!("CreateIoCompletionPort({handle}, {port}, KEY_POLL, {threads})"))
}

/// What was in a packet.
enum Packet {
    Poll(Arc<Registration>),
    Wake(Arc<WakerInner>),
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
    /// Level registrations that had an event: the next `select` asks for them again.
    level: Vec<Arc<Registration>>,
}

impl Selector {
    /// Makes an empty queue.
    ///
    /// # Errors
    ///
    /// The system's error when it has no room for another queue.
    pub fn new() -> io::Result<Selector> {
        // No handle and no port: the way to ask for a new one.
        let port = make_port(ffi::INVALID_HANDLE_VALUE, ptr::null_mut())?;
        // SAFETY: the handle was just made and nobody else knows it.
        let port = unsafe { OwnedHandle::from_raw_handle(port) };
        let queue = Queue {
            port,
            closed: AtomicBool::new(false),
            in_flight: AtomicUsize::new(0),
            table: Mutex::default(),
        };
        Ok(Selector { queue: Arc::new(queue), packets: Vec::new(), level: Vec::new() })
    }

    /// Clears `events` and waits until there are some, or until `timeout` (`None`: for ever) has passed.
    ///
    /// # Errors
    ///
    /// [`Interrupted`](io::ErrorKind::Interrupted) without an OS code once the queue is closed; else the system's error.
    /// `events` is empty then.
    pub fn select(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        let Selector { queue, packets, level } = self;
        wait(events, timeout, &queue.closed, |events, mut timeout| {
            // The packet that tells of the end comes once.
            if queue.is_closed() {
                return Ok(());
            }
            // Ask first, then wait: what is ready at once is in the port when we look.
            for registration in level.drain(..) {
                registration.rearm(registration.state());
            }
            // Whatever is ready now has its packet among these. A packet without an event may lead to another request that has
            // its answer at once, hence twice as many; but no more, for other threads can make them faster than we take them.
            let most = 2 * queue.in_flight.load(Ordering::SeqCst);
            let mut taken = 0;
            loop {
                let room = (events.capacity() - events.len()).min(MAX_PACKETS);
                queue.take(packets, room, timeout)?;
                for packet in packets.iter() {
                    events.extend(match queue.open(packet) {
                        Packet::Poll(registration) => registration.answered(level),
                        Packet::Wake(waker) => waker.answered(),
                        Packet::Close => None,
                    });
                }
                taken += packets.len();
                let is_empty = packets.len() < room;
                let is_full = events.len() == events.capacity();
                if packets.is_empty() || is_full || is_empty && !events.is_empty() || taken >= most {
                    return Ok(());
                }
                timeout = Some(Duration::ZERO);
            }
        })
    }

    /// A handle that registers sources from any thread.
    pub fn registrator(&self) -> Registrator {
        Registrator { queue: Arc::clone(&self.queue) }
    }
}

impl Drop for Selector {
    /// The loop has ended; registrators and wakers that are left must know. What the kernel still holds is called back.
    fn drop(&mut self) {
        let mut table = self.queue.table();
        // Under the lock, so that no `register` that saw the queue open is still about to send its request.
        self.queue.closed.store(true, Ordering::SeqCst);
        let registrations = mem::take(&mut *table).registrations;
        drop(table);
        for registration in registrations.values() {
            registration.end(&mut registration.state());
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

/// Registers sources with a queue, from any thread, also while another one is inside [`Poll::poll`](crate::Poll::poll).
///
/// A clone is another handle to the same queue.
#[derive(Clone, Debug)]
pub struct Registrator {
    pub(crate) queue: Arc<Queue>,
}

impl Registrator {
    /// Starts watching `source`, or replaces what this queue watched it for: token, direction and mode.
    ///
    /// The newest registration wins: no event with an old token is delivered by a poll that starts later. A source that is
    /// ready at this moment delivers an event. Nothing is lost between a one-shot event and its re-arming.
    ///
    /// The source stays as it is, blocking or not. minimio's own sockets never block; call `set_nonblocking(true)` on one of std
    /// before you register it, or a read that is to go on until `WouldBlock` waits for ever.
    ///
    /// # Errors
    ///
    /// * [`InvalidInput`](io::ErrorKind::InvalidInput): `interests` names no direction, or both modes. An earlier
    ///   registration stays as it was.
    /// * [`Interrupted`](io::ErrorKind::Interrupted): the queue is closed.
    /// * [`Unsupported`](io::ErrorKind::Unsupported), on Windows only: edge mode for a source that is not of one of minimio's
    ///   types. An earlier registration stays as it was.
    /// * The system's error: the source cannot be watched (`EPERM` for a regular file), no memory or no room for another one.
    ///
    /// # Platform notes
    ///
    /// On Linux a registration lives as long as the open file behind the descriptor: while a duplicate (`dup`, `try_clone`,
    /// `fork`) is open, closing the registered descriptor does not end it. A child process holds one for a moment while
    /// `std::process::Command` starts it, close-on-exec or not. To `deregister` before you close is always enough.
    ///
    /// On Windows a source that is not of one of minimio's types may give one last event after it was closed: one that was on
    /// its way.
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

    /// Stops watching `source`: no poll that starts later delivers its events. It can be registered again, here or
    /// with another queue.
    ///
    /// # Errors
    ///
    /// * [`NotFound`](io::ErrorKind::NotFound): this queue does not watch the source.
    /// * [`Interrupted`](io::ErrorKind::Interrupted): the queue is closed.
    pub fn deregister(&self, source: &(impl Source + ?Sized)) -> io::Result<()> {
        let mut table = self.queue.table();
        if self.queue.is_closed() {
            return Err(closed());
        }
        let registration = table.find(source)?;
        table.registrations.remove(&registration.socket);
        registration.end(&mut registration.state());
        Ok(())
    }

    /// Ends the loop: the current poll and every later one return [`Interrupted`](io::ErrorKind::Interrupted), from any
    /// thread, also when nobody was polling yet.
    ///
    /// # Errors
    ///
    /// [`Interrupted`](io::ErrorKind::Interrupted): the queue is closed already.
    pub fn close_loop(&self) -> io::Result<()> {
        if self.queue.closed.swap(true, Ordering::SeqCst) {
            return Err(closed());
        }
        self.queue.post(KEY_CLOSE, ptr::null())
    }

    fn watch(
        &self,
        source: &(impl Source + ?Sized),
        token: Token,
        interests: Interests,
        is_new: bool,
    ) -> io::Result<()> {
        interests.check()?;
        let edge = source.edge();
        if interests.is_edge() && edge.is_none() {
            let why = "EDGE needs a socket of minimio's own: Windows tells a socket's state, not its changes";
            return Err(io::Error::new(io::ErrorKind::Unsupported, why));
        }
        let mut table = self.queue.table();
        if self.queue.is_closed() {
            return Err(closed());
        }
        let number = source.as_socket().as_raw_socket();
        let registration = match table.find(source) {
            Err(_) if is_new => {
                let fresh = Registration::new(&self.queue, &mut table, number)?;
                // One that was there was of a socket which is closed by now.
                if let Some(old) = table.registrations.insert(number, Arc::clone(&fresh)) {
                    old.end(&mut old.state());
                }
                fresh
            }
            found => found?,
        };
        let mut state = registration.state();
        state.token = token;
        state.interests = interests;
        state.wanted = mask(interests);
        state.is_own = edge.is_some();
        state.is_renewed = true;
        let armed = registration.arm(&mut state);
        if armed.is_err() {
            table.registrations.remove(&number);
            registration.end(&mut state);
        } else if let Some(edge) = edge {
            edge.set(&registration);
        }
        armed
    }
}

impl Table {
    /// The registration of `source`.
    ///
    /// The number says where to look, not what is true: it may be that of a socket which was closed, and `source` another
    /// one that has got the same number since.
    fn find(&self, source: &(impl Source + ?Sized)) -> io::Result<Arc<Registration>> {
        let number = source.as_socket().as_raw_socket();
        let is_it = |known: &&Arc<Registration>| {
            let is_known = source.edge().map_or(false, |edge| edge.knows(known));
            known.state().is_alive && (is_known || known.is_same_socket())
        };
        match self.registrations.get(&number).filter(is_it) {
            Some(registration) => Ok(Arc::clone(registration)),
            None => Err(not_registered()),
        }
    }

    /// A handle of the driver with room for one more socket.
    fn helper(&mut self, port: &OwnedHandle) -> io::Result<Arc<OwnedHandle>> {
        // One reference is the table's.
        let has_room = |helper: &&Arc<OwnedHandle>| Arc::strong_count(helper) <= SOCKETS_PER_HELPER;
        if let Some(helper) = self.helpers.iter().rev().find(has_room) {
            return Ok(Arc::clone(helper));
        }
        let helper = afd::open()?;
        afd::mark(helper.as_raw_handle())?;
        make_port(helper.as_raw_handle(), port.as_raw_handle())?;
        let helper = Arc::new(helper);
        self.helpers.push(Arc::clone(&helper));
        Ok(helper)
    }
}

/// What the driver shall report for `interests`, of what makes them ready.
fn mask(interests: Interests) -> u32 {
    let mut mask = 0;
    if interests.is_readable() {
        mask |= READ;
    }
    if interests.is_writable() {
        mask |= WRITE;
    }
    mask
}

/// One socket in one queue.
///
/// It is owned by the table while it is the newest under its number, and by each packet that is in the port or will come. So
/// the block that the kernel writes to lives until that packet was taken out, whoever else lets go of it.
struct Registration {
    queue: Arc<Queue>,
    /// The handle of the driver that its requests are sent through.
    helper: Arc<OwnedHandle>,
    socket: RawSocket,
    /// The system's own socket, where a layered service provider has put one of its own on top.
    base: RawSocket,
    /// We could mark the socket. One that is for blocking calls only takes no mark; that must be good enough then.
    is_marked: bool,
    state: Mutex<State>,
    /// Ours while the state of the request is idle, and the kernel's otherwise.
    request: afd::Request,
}

struct State {
    request: RequestState,
    /// Cleared at the end: by `deregister`, by closing the socket, by another socket under the same number.
    is_alive: bool,
    /// The socket is one of ours, whose drop ends the registration: its number is still its own.
    is_own: bool,
    /// It was registered again since the request was sent.
    is_renewed: bool,
    token: Token,
    interests: Interests,
    /// What an event may still come for: all of `interests` after registering, less in one-shot and edge mode after an
    /// event.
    wanted: u32,
    /// What the request in the kernel asks for.
    asked: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum RequestState {
    /// The block is ours.
    Idle,
    /// It is the kernel's, until the packet of the answer is taken out.
    Pending,
    /// It is the kernel's still, until the packet is taken out that tells how it ended.
    Cancelled,
}

impl Registration {
    fn new(queue: &Arc<Queue>, table: &mut Table, socket: RawSocket) -> io::Result<Arc<Registration>> {
        let base = base_socket(socket)?;
        Ok(Arc::new(Registration {
            queue: Arc::clone(queue),
            helper: table.helper(&queue.port)?,
            socket,
            base,
            is_marked: afd::mark(base as RawHandle).is_ok(),
            state: Mutex::new(State {
                request: RequestState::Idle,
                is_alive: true,
                is_own: false,
                is_renewed: false,
                token: 0,
                interests: Interests::READABLE,
                wanted: 0,
                asked: 0,
            }),
            request: afd::Request::new(),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sees to it that the kernel is asked for all that is wanted, sooner or later.
    fn arm(self: &Arc<Self>, state: &mut State) -> io::Result<()> {
        match state.request {
            _ if !state.is_alive || state.wanted == 0 => Ok(()),
            // The block is ours: lend it to the kernel.
            RequestState::Idle => self.submit(state),
            // The kernel has it, and was asked for all of this.
            RequestState::Pending if state.wanted & !state.asked == 0 => Ok(()),
            // The kernel has it, and was asked for less. That cannot be changed, only called off.
            RequestState::Pending => {
                self.cancel(state);
                Ok(())
            }
            // The kernel gives it back soon, and `answered` sends it out again for what is wanted then.
            RequestState::Cancelled => Ok(()),
        }
    }

    /// Arms by the number alone, after a packet or for level mode, where no caller vouches for the socket. There is nobody
    /// to return an error to: it becomes an event.
    fn rearm(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        let lends = state.is_alive && state.wanted != 0 && state.request == RequestState::Idle;
        let armed = if lends && !state.is_own && !self.is_same_socket() {
            Err(io::Error::from_raw_os_error(afd::ERROR_INVALID_HANDLE))
        } else {
            self.arm(&mut state)
        };
        match armed {
            Ok(()) => {}
            // The socket is closed.
            Err(error) if error.raw_os_error() == Some(afd::ERROR_INVALID_HANDLE) => self.gone(state),
            Err(_) => self.fail(&mut state),
        }
    }

    /// Gives a reference away, to the packet that is to come.
    fn lend(self: &Arc<Self>, state: &mut State) -> *const Registration {
        state.request = RequestState::Pending;
        self.queue.in_flight.fetch_add(1, Ordering::SeqCst);
        Arc::into_raw(Arc::clone(self))
    }

    /// Takes it back: there will be no packet.
    fn unlend(&self, state: &mut State, lent: *const Registration) {
        state.request = RequestState::Idle;
        self.queue.in_flight.fetch_sub(1, Ordering::SeqCst);
        // SAFETY: `lent` is from `lend`, and no packet that could give it back as well was made.
        drop(unsafe { Arc::from_raw(lent) });
    }

    /// Sends the request.
    fn submit(self: &Arc<Self>, state: &mut State) -> io::Result<()> {
        let asked = state.wanted | FAILED | GONE;
        let lent = self.lend(state);
        // SAFETY: it was idle, so the kernel does not have it, and the lock of `state` keeps other threads away. The reference
        // `lent` keeps it where it is; `open` frees that with the packet.
        let sent = unsafe { self.request.send(&self.helper, self.base, asked, lent.cast()) };
        match sent {
            Ok(()) => {
                state.asked = asked;
                state.is_renewed = false;
            }
            Err(_) => self.unlend(state, lent),
        }
        sent
    }

    /// Calls the request off.
    fn cancel(&self, state: &mut State) {
        self.request.cancel(&self.helper);
        state.request = RequestState::Cancelled;
    }

    /// Answers the request that could not be sent, as if the driver had: the socket has failed.
    fn fail(self: &Arc<Self>, state: &mut State) {
        // SAFETY: it is idle, so the kernel does not have it, and the lock of `state` keeps other threads away.
        unsafe { self.request.fail() };
        let lent = self.lend(state);
        if self.queue.post(KEY_POLL, lent.cast()).is_err() {
            // Neither the driver nor the port: there is nothing left to tell it with.
            self.unlend(state, lent);
        }
    }

    /// The registration is over; what the kernel holds is called off.
    fn end(&self, state: &mut State) {
        state.is_alive = false;
        if state.request == RequestState::Pending {
            self.cancel(state);
        }
    }

    /// The socket is closed: the end, and nobody has struck it from the table.
    fn gone(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        self.end(&mut state);
        drop(state);
        let registrations = &mut self.queue.table().registrations;
        if matches!(registrations.get(&self.socket), Some(known) if Arc::ptr_eq(known, self)) {
            registrations.remove(&self.socket);
        }
    }

    /// The packet was taken out, the block is ours again: what does it say?
    fn answered(self: Arc<Self>, level: &mut Vec<Arc<Registration>>) -> Option<Event> {
        let mut state = self.state();
        // SAFETY: its packet was taken out, so the kernel is done with it, and the lock of `state` keeps other threads away.
        let found = unsafe { self.request.answer() };
        state.request = RequestState::Idle;
        if !state.is_alive {
            return None;
        }
        if found & GONE != 0 {
            if state.is_renewed {
                // Registered again while this was on its way, perhaps as another socket, of which it says nothing.
                self.rearm(state);
            } else {
                self.gone(state);
            }
            return None;
        }
        // It may know of what nobody wants to know any more.
        let found = found & (state.wanted | FAILED);
        let mut ready = 0;
        for direction in [READ, WRITE] {
            // One of its states stands for the whole direction, and a failure for every one.
            if found & (direction | FAILED) != 0 {
                ready |= direction & state.wanted;
            }
        }
        if ready == 0 {
            self.rearm(state);
            return None;
        }
        let event = Event { token: state.token, ready, found };
        if state.interests.is_level() {
            level.push(Arc::clone(&self));
        } else if state.interests.is_edge() {
            state.wanted &= !ready;
            self.rearm(state);
        } else {
            state.wanted = 0;
        }
        Some(event)
    }

    /// A read or write said `WouldBlock`: in edge mode, ask for that direction again.
    fn blocked(self: &Arc<Self>, direction: Interests) {
        let mut state = self.state();
        let more = mask(state.interests) & mask(direction) & !state.wanted;
        if state.is_alive && state.interests.is_edge() && more != 0 {
            state.wanted |= more;
            self.rearm(state);
        }
    }

    /// Whether the number still is that of the socket that was registered, as far as the mark tells.
    fn is_same_socket(&self) -> bool {
        !self.is_marked
            || match afd::is_marked(self.base as RawHandle) {
                Ok(is_marked) => is_marked,
                Err(error) => error.raw_os_error() != Some(afd::ERROR_INVALID_HANDLE),
            }
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration").field("socket", &self.socket).finish_non_exhaustive()
    }
}

/// What a poll says of one source: its token and what it is ready for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Event {
    token: Token,
    /// Of what was asked for: `READ` if it can be read, `WRITE` if it can be written.
    ready: u32,
    /// What the driver found.
    found: u32,
}

impl Event {
    /// The token that the source was registered with.
    #[inline]
    pub fn id(&self) -> Token {
        self.token
    }

    /// A read will not block: there is data, the end of the stream, a connection to accept, or an error to pick up. An error
    /// counts for both directions, whichever you asked for.
    #[inline]
    pub fn is_readable(&self) -> bool {
        self.ready & READ != 0 || self.found & FAILED != 0
    }

    /// A write will not block: there is room, the connection stands, or there is an error to pick up. An error counts for
    /// both directions, whichever you asked for.
    #[inline]
    pub fn is_writable(&self) -> bool {
        self.ready & WRITE != 0 || self.found & FAILED != 0
    }

    /// The peer will send no more. What it sent before can still be read.
    #[inline]
    pub fn is_read_closed(&self) -> bool {
        self.found & (afd::READ_CLOSED | FAILED) != 0
    }

    /// Nothing more can be sent: the connection has failed, or has ended in both directions.
    ///
    /// # Platform notes
    ///
    /// After your own `shutdown` of writing kqueue says it at once, the others need not. On Linux a pipe that is full and whose
    /// reader has gone says writable and error, not this; and a TCP stream with a message in its error queue (you asked for
    /// `MSG_ZEROCOPY` or time stamps) says this though it is open.
    #[inline]
    pub fn is_write_closed(&self) -> bool {
        self.found & FAILED != 0
    }

    /// The source has failed: a refused connect, a reset. On a stream `take_error` says why.
    ///
    /// # Platform notes
    ///
    /// On Linux also a pipe whose reader has gone, and a socket with a message in its error queue (you asked for `MSG_ZEROCOPY`
    /// or time stamps), which has not failed.
    #[inline]
    pub fn is_error(&self) -> bool {
        self.found & afd::ERROR != 0
    }
}

/// Makes a poll return from another thread, with an event of its own: readable, under its token.
///
/// Wakes between two polls come as one event; none is lost, even if the waker is dropped before the poll. A clone
/// is another handle to the same waker.
///
/// # Examples
///
/// ```
/// use minimio::{Events, Poll, Waker};
///
/// # fn main() -> std::io::Result<()> {
/// let mut poll = Poll::new()?;
/// let waker = Waker::new(poll.registry(), 7)?;
/// std::thread::spawn(move || waker.wake());
///
/// let mut events = Events::new();
/// poll.poll(&mut events, None)?;
/// assert!(events[0].id() == 7 && events[0].is_readable());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Waker {
    inner: Arc<WakerInner>,
}

#[derive(Debug)]
struct WakerInner {
    queue: Arc<Queue>,
    token: Token,
    /// Somebody woke, and no event has said so yet.
    is_pending: AtomicBool,
    /// How many packets are in the port, as far as those who put them there and took them out have got round to count. More than
    /// one only if several threads wake at the same moment.
    packets: AtomicIsize,
}

impl Waker {
    /// Makes a waker for the queue of a [`Registrator`] or of a [`Registry`](crate::Registry).
    ///
    /// # Errors
    ///
    /// * [`Interrupted`](io::ErrorKind::Interrupted): the queue is closed.
    /// * The system's error when it has no room for another one (on Linux a waker is a descriptor).
    pub fn new(registrator: &impl AsRef<Registrator>, token: Token) -> io::Result<Waker> {
        let queue = Arc::clone(&registrator.as_ref().queue);
        if queue.is_closed() {
            return Err(closed());
        }
        let inner =
            WakerInner { queue, token, is_pending: AtomicBool::new(false), packets: AtomicIsize::new(0) };
        Ok(Waker { inner: Arc::new(inner) })
    }

    /// Makes the current or the next poll deliver this waker's event. Never blocks.
    ///
    /// Once the queue is closed there is nobody left to wake and this is `Ok`.
    ///
    /// # Errors
    ///
    /// The system's error in the rare case that it cannot signal.
    ///
    /// # Platform notes
    ///
    /// On Unix it may be called from a signal handler.
    pub fn wake(&self) -> io::Result<()> {
        let WakerInner { queue, is_pending, packets, .. } = &*self.inner;
        // It writes even where it changes nothing: whatever the caller did before is seen by the thread that it wakes.
        is_pending.swap(true, Ordering::SeqCst);
        // One that is in the port is taken out after this, and who takes it out looks at `is_pending`.
        if packets.load(Ordering::SeqCst) > 0 {
            return Ok(());
        }
        // First announce the packet, then look: a selector that ends meanwhile waits for it, or we see that it has ended.
        queue.in_flight.fetch_add(1, Ordering::SeqCst);
        let owned = Arc::into_raw(Arc::clone(&self.inner));
        let posted =
            if queue.is_closed() { Ok(false) } else { queue.post(KEY_WAKE, owned.cast()).map(|()| true) };
        if matches!(posted, Ok(true)) {
            packets.fetch_add(1, Ordering::SeqCst);
        } else {
            queue.in_flight.fetch_sub(1, Ordering::SeqCst);
            // SAFETY: the reference was given away just above, and there is no packet that could give it back.
            drop(unsafe { Arc::from_raw(owned) });
        }
        posted.map(drop)
    }
}

impl WakerInner {
    /// A packet was taken out. Whoever wakes from here on must post another.
    fn answered(&self) -> Option<Event> {
        self.packets.fetch_sub(1, Ordering::SeqCst);
        let event = Event { token: self.token, ready: READ, found: 0 };
        self.is_pending.swap(false, Ordering::SeqCst).then_some(event)
    }
}

/// What one of our sockets knows of its registration: it re-arms it in edge mode, and ends it when it is dropped.
#[derive(Debug, Default)]
pub struct Edge {
    registration: Mutex<Weak<Registration>>,
}

impl Edge {
    /// Of a socket that was just made.
    pub(crate) fn new(_socket: &impl AsSocket) -> Edge {
        Edge::default()
    }

    /// Of a socket that somebody hands over, its registration included.
    pub(crate) fn adopt(_socket: &impl AsSocket) -> Edge {
        Edge::default()
    }

    /// Of `_clone`, which is another handle to the same socket.
    pub(crate) fn share(&self, _clone: &impl AsSocket) -> Edge {
        Edge::default()
    }

    /// A call in this `direction` said `WouldBlock`.
    pub(crate) fn blocked(&self, direction: Interests) {
        let registration = self.slot().upgrade();
        if let Some(registration) = registration {
            registration.blocked(direction);
        }
    }

    /// The socket lives on as another type; so does its registration.
    pub(crate) fn leave(self) {
        if let Some(registration) = mem::take(&mut *self.slot()).upgrade() {
            registration.state().is_own = false;
        }
    }

    fn set(&self, registration: &Arc<Registration>) {
        *self.slot() = Arc::downgrade(registration);
    }

    fn knows(&self, registration: &Arc<Registration>) -> bool {
        ptr::eq(self.slot().as_ptr(), Arc::as_ptr(registration))
    }

    fn slot(&self) -> MutexGuard<'_, Weak<Registration>> {
        self.registration.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        let registration = self.slot().upgrade();
        if let Some(registration) = registration {
            registration.gone(registration.state());
        }
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

    const READABLE: Interests = Interests::READABLE;

    fn pair() -> (TcpStream, net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (stream, listener.accept().unwrap().0)
    }

    /// The registration of `stream`, without owning it.
    fn registration(stream: &TcpStream) -> Weak<Registration> {
        stream.edge.slot().clone()
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
        assert_eq!(held.strong_count(), 1, "the packet alone");
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
    fn a_request_that_cannot_be_sent_again_is_an_event() {
        let mut poll = Poll::new().unwrap();
        let mut events = Events::with_capacity(4);
        let (stream, mut peer) = pair();
        let (other, mut other_peer) = pair();
        poll.registry().register(&stream, 1, READABLE).unwrap();
        poll.registry().register(&other, 2, READABLE).unwrap();
        peer.write_all(b"x").unwrap();
        assert_eq!(poll.poll(&mut events, None).unwrap(), 1);

        let registration = registration(&stream).upgrade().unwrap();
        let mut state = registration.state();
        state.wanted = READ;
        registration.fail(&mut state);
        drop(state);
        assert_eq!(poll.poll(&mut events, None).unwrap(), 1);
        let event = events[0];
        assert!(event.id() == 1 && event.is_readable() && event.is_error());

        // It was one event, and the others go on.
        other_peer.write_all(b"x").unwrap();
        assert_eq!(poll.poll(&mut events, None).unwrap(), 1);
        assert_eq!(events[0].id(), 2);
        poll.registry().reregister(&stream, 3, READABLE).unwrap();
        assert_eq!(poll.poll(&mut events, None).unwrap(), 1);
        assert!(events[0].id() == 3 && !events[0].is_error());
    }

    #[test]
    fn a_wake_without_its_packet_in_the_port_posts_another() {
        let mut poll = Poll::new().unwrap();
        let mut events = Events::with_capacity(4);
        let waker = Waker::new(&poll.registrator(), 1).unwrap();
        // Another thread is between its two steps: it has said that it wakes, and posted nothing yet.
        waker.inner.is_pending.store(true, Ordering::SeqCst);
        waker.wake().unwrap();
        assert_eq!(poll.poll(&mut events, Some(0)).unwrap(), 1);
        // Now it posts. Its wake has had its event already.
        waker.inner.is_pending.store(true, Ordering::SeqCst);
        waker.wake().unwrap();
        waker.inner.is_pending.store(false, Ordering::SeqCst);
        assert_eq!(poll.poll(&mut events, Some(0)).unwrap(), 0);
        assert_eq!(waker.inner.packets.load(Ordering::SeqCst), 0);
    }
}
