//! One socket in one queue: who owns what while the kernel is asked about it.
//!
//! A registration has a block of memory with one request in it. At every moment the request is in one of three states:
//!
//! ```text
//!             submit              cancel
//!     Idle ───────────► Pending ───────────► Cancelled
//!      ▲                   │                     │
//!      └───────────────────┴─────────────────────┘
//!         its packet: an event      its packet: nothing
//! ```
//!
//! * *Idle*: the block is ours. A one-shot registration rests here after its event. In level mode it rests until the
//!   next `select` asks again, in edge mode until a read or write says `WouldBlock`.
//! * *Pending*: the kernel holds the block and may write to it at any moment. What was asked cannot be changed, only
//!   called off.
//! * *Cancelled*: the kernel holds the block until its packet has been taken out, and whatever the packet says is
//!   ignored. If more is wanted, we ask again then: AFD tells states, so nothing is lost by asking once more. We do not
//!   ask earlier, because with two requests for one socket the driver mixes up the answers.
//!
//! It also has an owner ([`Owner`]), which says who vouches that the number still belongs to the socket: one of
//! minimio's types, whose drop ends the registration; or the addresses of the socket; or nobody, because the
//! registration has ended.
//!
//! One socket, one place: the process has one table of the numbers of all watched sockets ([`places`]). Registering a
//! number ends the older registration under it, in whatever queue, because that socket has been closed or has moved. A
//! registration that has ended stays in the table for as long as the kernel holds its block, and the next registration
//! of its number in the same queue revives it, so that there is one request at a time. A socket that moves to another
//! queue cannot wait for the packet, because only the old queue can take it. But its request there has been called off
//! before, and the driver lets go of a request before the call that calls it off returns.
//!
//! Locks are taken in this order: the [`Edge`] of the socket, the table, the state of a registration. System calls are
//! made under the first and the last of them; only calls about the same socket wait for those.

use super::afd::{self, FAILED, GONE, READ, READ_CLOSED, WRITE};
use super::winsock::{self, Addresses};
use super::{Event, Queue, KEY_POLL};
use crate::{closed, not_registered, Interests, Token};
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::mem;
use std::os::windows::io::{AsRawSocket, AsSocket, OwnedHandle, RawSocket};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Where each socket is watched, by its number.
type Places = HashMap<RawSocket, Arc<Registration>>;

/// Does something with the one table of the process.
pub(super) fn places<T>(work: impl FnOnce(&mut Places) -> T) -> T {
    static PLACES: Mutex<Option<Places>> = Mutex::new(None);
    let mut places = PLACES.lock().unwrap_or_else(PoisonError::into_inner);
    work(places.get_or_insert_with(HashMap::new))
}

/// One socket in one queue.
///
/// It is owned by the table of places while it is the newest under its number, and by each packet that is in the port or will
/// come. So the block that the kernel writes to lives until that packet was taken out, whoever else lets go of it.
pub(super) struct Registration {
    pub(super) queue: Arc<Queue>,
    /// The handle of the driver that its requests are sent through.
    helper: Arc<OwnedHandle>,
    pub(super) number: RawSocket,
    state: Mutex<State>,
    /// Ours while the state of the request is idle, and the kernel's otherwise.
    pub(super) request: afd::Request,
}

struct State {
    owner: Owner,
    /// The system's own socket, where a layered service provider has put one of its own on top.
    base: RawSocket,
    request: Request,
    token: Token,
    interests: Interests,
    /// The states of the socket that an event may still come for: all that belong to `interests` after registering, none
    /// in one-shot mode after an event, and fewer in edge mode.
    wanted: u32,
    /// What is wanted again as soon as the pending request has its answer: it may be older than the `WouldBlock` which was
    /// met since it was sent.
    met: u32,
}

/// Who vouches that the number still is that of the socket which was registered.
enum Owner {
    /// One of minimio's types, whose drop ends the registration.
    Ours,
    /// It is anybody's socket, and told from others by its addresses.
    Others(Addresses),
    /// It has ended: by `deregister`, by closing the socket, by another registration of its number.
    Nobody,
}

#[derive(Clone, Copy)]
enum Request {
    /// The block is ours.
    Idle,
    /// It is the kernel's, until the packet of the answer is taken out. `is_older`: the socket was registered again since,
    /// and if the answer is that it was closed, that may have been an earlier one with the same number.
    Pending { asked: u32, is_older: bool },
    /// It is the kernel's still, until the packet is taken out that tells how it ended.
    Cancelled,
}

/// What the registration of a number is to a queue and a socket that has this number now.
enum Place {
    /// This queue watches this socket.
    Here,
    /// Another queue does, and the socket is of minimio's types.
    Elsewhere,
    /// It has ended or may be ended: it is of a socket that was closed, or of one that moves.
    Nowhere,
}

impl Registration {
    /// Finds the registration that `queue` has of a socket; with `is_new` makes one if there is none. `edge` is locked if the
    /// socket is one of ours.
    pub(super) fn find(
        queue: &Arc<Queue>,
        number: RawSocket,
        edge: Option<&Weak<Registration>>,
        is_new: bool,
    ) -> io::Result<Arc<Registration>> {
        if queue.is_closed() {
            return Err(closed());
        }
        let refuse = |place| match place {
            // Its end may be that of the queue, which has begun meanwhile.
            _ if !is_new && queue.is_closed() => Err(closed()),
            _ if !is_new => Err(not_registered()),
            Place::Nowhere => Ok(()),
            _ => Err(watched_already()),
        };
        // The usual way to the registration of a socket of ours, and the only one to that of its clone.
        if let Some(known) = edge.and_then(Weak::upgrade) {
            let is_same = known.number == number;
            match known.place(queue, is_same) {
                Place::Here if is_same => return Ok(known),
                Place::Nowhere if is_new => known.end(),
                place => refuse(place)?,
            }
        }
        let mut fresh = None;
        loop {
            let known = registered(number);
            if let Some(known) = &known {
                match known.place(queue, edge.is_some()) {
                    Place::Here => return Ok(Arc::clone(known)),
                    place => refuse(place)?,
                }
            } else {
                refuse(Place::Nowhere)?;
            }
            let made = match fresh.take() {
                Some(made) => made,
                None => Registration::new(queue, number, edge.is_some())?,
            };
            let entered = places(|places| {
                if queue.is_closed() {
                    return Err(closed());
                }
                let now = places.get(&number);
                if now.map(Arc::as_ptr) != known.as_ref().map(Arc::as_ptr) {
                    // Somebody was quicker.
                    return Ok(None);
                }
                let revived = now.filter(|now| Arc::ptr_eq(&now.queue, queue) && now.revive(&made));
                let entered = Arc::clone(revived.unwrap_or(&made));
                Ok(Some((places.insert(number, Arc::clone(&entered)), entered)))
            })?;
            match entered {
                None => fresh = Some(made),
                Some((old, entered)) => {
                    if let Some(old) = old.filter(|old| !Arc::ptr_eq(old, &entered)) {
                        old.end();
                    }
                    return Ok(entered);
                }
            }
        }
    }

    fn new(queue: &Arc<Queue>, number: RawSocket, is_ours: bool) -> io::Result<Arc<Registration>> {
        let base = winsock::base_socket(number)?;
        let owner = if is_ours { Owner::Ours } else { Owner::Others(Addresses::of(number)) };
        Ok(Arc::new(Registration {
            queue: Arc::clone(queue),
            helper: queue.helper()?,
            number,
            state: Mutex::new(State {
                owner,
                base,
                request: Request::Idle,
                token: 0,
                interests: Interests::READABLE,
                wanted: 0,
                met: 0,
            }),
            request: afd::Request::new(),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it is to `queue` and a socket that has its number now; `is_sure` if that socket had it already when this was made.
    fn place(&self, queue: &Arc<Queue>, is_sure: bool) -> Place {
        let mut state = self.state();
        let is_ours = matches!(state.owner, Owner::Ours);
        if !is_sure && !state.is_same_socket(self.number) || matches!(state.owner, Owner::Nobody) {
            Place::Nowhere
        } else if Arc::ptr_eq(&self.queue, queue) {
            Place::Here
        } else if is_ours && !self.queue.is_closed() {
            Place::Elsewhere
        } else {
            Place::Nowhere
        }
    }

    /// Begins anew as what `fresh` is, if it has ended and waits for its packet.
    fn revive(&self, fresh: &Registration) -> bool {
        let mut state = self.state();
        let is_over = matches!((&state.owner, state.request), (Owner::Nobody, Request::Cancelled));
        if is_over {
            mem::swap(&mut *state, &mut *fresh.state());
            state.request = Request::Cancelled;
        }
        is_over
    }

    /// Watches from now on, for this.
    pub(super) fn watch(
        self: &Arc<Self>,
        is_ours: bool,
        token: Token,
        interests: Interests,
    ) -> io::Result<()> {
        let mut state = self.state();
        if let Owner::Nobody = state.owner {
            // Somebody has ended it meanwhile, just after this, so to speak. The end of the queue is another matter.
            return if self.queue.is_closed() { Err(closed()) } else { Ok(()) };
        }
        if is_ours {
            state.owner = Owner::Ours;
        }
        state.token = token;
        state.interests = interests;
        state.wanted = mask(interests) | FAILED;
        state.met = 0;
        if let Request::Pending { is_older, .. } = &mut state.request {
            *is_older = true;
        }
        let armed = self.arm(&mut state);
        if armed.is_err() {
            drop(state);
            self.end();
        }
        armed
    }

    /// Sees to it that the kernel is asked for all that is wanted, sooner or later.
    fn arm(self: &Arc<Self>, state: &mut State) -> io::Result<()> {
        match state.request {
            _ if state.wanted == 0 => Ok(()),
            // The block is ours: lend it to the kernel.
            Request::Idle => self.submit(state),
            // The kernel has it, and was asked for all of this.
            Request::Pending { asked, .. } if state.wanted & !asked == 0 => Ok(()),
            // The kernel has it, and was asked for less. That cannot be changed, only called off.
            Request::Pending { .. } => {
                self.cancel(state);
                Ok(())
            }
            // The kernel gives it back soon, and `answered` sends it out again for what is wanted then.
            Request::Cancelled => Ok(()),
        }
    }

    /// Asks again, where no caller vouches for the socket: a `select` for what had its event in the one before.
    pub(super) fn again(self: &Arc<Self>) {
        self.rearm(self.state());
    }

    /// Arms by the number alone. There is nobody to return an error to: it becomes an event.
    fn rearm(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        if let Owner::Nobody = state.owner {
            return;
        }
        let sends = state.wanted != 0 && matches!(state.request, Request::Idle);
        let armed = if sends && !state.is_same_socket(self.number) {
            Err(io::Error::from_raw_os_error(afd::ERROR_INVALID_HANDLE))
        } else {
            self.arm(&mut state)
        };
        match armed {
            Ok(()) => {}
            // The socket is closed.
            Err(error) if error.raw_os_error() == Some(afd::ERROR_INVALID_HANDLE) => {
                drop(state);
                self.end();
            }
            Err(_) => self.fail(&mut state),
        }
    }

    /// Gives a reference away, to the packet that is to come.
    fn lend(self: &Arc<Self>, state: &mut State, asked: u32) -> *const Registration {
        state.request = Request::Pending { asked, is_older: false };
        self.queue.in_flight.fetch_add(1, Ordering::SeqCst);
        Arc::into_raw(Arc::clone(self))
    }

    /// Takes it back: there will be no packet.
    fn unlend(&self, state: &mut State, lent: *const Registration) {
        state.request = Request::Idle;
        self.queue.in_flight.fetch_sub(1, Ordering::SeqCst);
        // SAFETY: `lent` is from `lend`, and no packet that could give it back as well was made.
        drop(unsafe { Arc::from_raw(lent) });
    }

    /// Sends the request.
    fn submit(self: &Arc<Self>, state: &mut State) -> io::Result<()> {
        let asked = state.wanted | GONE;
        state.met = 0;
        let lent = self.lend(state, asked);
        // SAFETY: it was idle, so the kernel does not have it, and the lock of `state` keeps other threads away. The reference
        // `lent` keeps it where it is; `Queue::open` frees that with the packet.
        let sent = unsafe { self.request.send(&self.helper, state.base, asked, lent.cast()) };
        if sent.is_err() {
            self.unlend(state, lent);
        }
        sent
    }

    /// Calls the request off.
    fn cancel(&self, state: &mut State) {
        self.request.cancel(&self.helper);
        state.request = Request::Cancelled;
    }

    /// Answers the request that could not be sent, as if the driver had: the socket has failed.
    fn fail(self: &Arc<Self>, state: &mut State) {
        // SAFETY: it is idle, so the kernel does not have it, and the lock of `state` keeps other threads away.
        unsafe { self.request.fail() };
        let lent = self.lend(state, FAILED);
        if self.queue.post(KEY_POLL, lent.cast()).is_err() {
            // Neither the driver nor the port: there is nothing left to tell it with.
            self.unlend(state, lent);
        }
    }

    /// The registration is over; what the kernel holds is called off.
    pub(super) fn end(&self) {
        let mut state = self.state();
        state.owner = Owner::Nobody;
        if let Request::Pending { .. } = state.request {
            self.cancel(&mut state);
        }
        drop(state);
        self.leave_place();
    }

    /// Leaves the table, unless the kernel still holds the block or somebody has revived it.
    fn leave_place(&self) {
        let left = places(|places| {
            let is_there = places.get(&self.number).map_or(false, |there| Arc::as_ptr(there) == self);
            let is_over = is_there
                && matches!(&*self.state(), State { owner: Owner::Nobody, request: Request::Idle, .. });
            is_over.then(|| places.remove(&self.number))
        });
        drop(left);
    }

    /// Its packet was taken out, the block is ours again: what does it say? What is to be asked again in the next `select` is
    /// added to `again`.
    pub(super) fn answered(self: Arc<Self>, again: &mut Vec<Arc<Registration>>) -> Option<Event> {
        let mut state = self.state();
        // SAFETY: its packet was taken out, so the kernel is done with it, and the lock of `state` keeps other threads away.
        let found = unsafe { self.request.answer() };
        let request = mem::replace(&mut state.request, Request::Idle);
        if let Owner::Nobody = state.owner {
            drop(state);
            self.leave_place();
            return None;
        }
        let is_older = match request {
            Request::Pending { is_older, .. } => is_older,
            _ => {
                self.rearm(state);
                return None;
            }
        };
        if found & GONE != 0 {
            if is_older {
                self.rearm(state);
            } else {
                drop(state);
                self.end();
            }
            return None;
        }
        // It may know of what nobody wants to know any more.
        let found = found & (state.wanted | FAILED);
        if found == 0 {
            self.rearm(state);
            return None;
        }
        let is_datagram = found & FAILED != 0 && winsock::is_datagram(self.number);
        let event = Event::new(state.token, found, is_datagram);
        if state.interests.is_oneshot() {
            state.wanted = 0;
        } else {
            if state.interests.is_edge() {
                state.wanted = state.met | state.wanted & !spent(found);
            }
            again.push(Arc::clone(&self));
        }
        Some(event)
    }

    /// The socket has become one of minimio's. Says whether it is still the one that was registered.
    fn take_over(self: &Arc<Self>) -> bool {
        let mut state = self.state();
        let is_it = state.is_same_socket(self.number) && !self.queue.is_closed();
        if is_it {
            state.owner = Owner::Ours;
            if state.interests.is_edge() {
                // What was said to it as another type, `WouldBlock` perhaps, is not known.
                state.wanted = mask(state.interests) | FAILED;
                self.rearm(state);
            }
        }
        is_it
    }

    /// The socket is no longer one of minimio's.
    fn let_go(&self) {
        let mut state = self.state();
        if let Owner::Ours = state.owner {
            state.owner = Owner::Others(Addresses::of(self.number));
        }
    }

    /// A read or write said `WouldBlock`: in edge mode that direction is wanted again.
    fn blocked(self: &Arc<Self>, direction: Interests) {
        let mut state = self.state();
        if state.interests.is_edge() {
            let direction = mask(state.interests) & mask(direction);
            state.met |= direction;
            // What says so has not failed, or no longer: if it does, that is another edge.
            let more = direction | FAILED;
            if more & !state.wanted != 0 {
                state.wanted |= more;
                self.rearm(state);
            }
        }
    }
}

impl State {
    /// Whether `number` still is that of the socket which was registered, as far as can be told.
    fn is_same_socket(&mut self, number: RawSocket) -> bool {
        match &mut self.owner {
            Owner::Ours => true,
            Owner::Others(addresses) => addresses.are_still_of(number),
            Owner::Nobody => false,
        }
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration").field("number", &self.number).finish_non_exhaustive()
    }
}

/// What a socket of minimio's types knows about its registration: it re-arms it in edge mode, and ends it when it is
/// dropped.
#[derive(Debug)]
pub struct Edge {
    number: RawSocket,
    /// The newest registration of the socket under any number: clones share this. It is locked while the socket is
    /// registered, so that no two of them are.
    newest: Arc<Mutex<Weak<Registration>>>,
}

impl Edge {
    /// Of a socket that was just made. If there is a registration of its number, it is of one that was closed.
    pub(crate) fn new(socket: &impl AsSocket) -> Edge {
        Edge::with(socket, Arc::default())
    }

    /// Of a socket that somebody hands over, its registration included.
    pub(crate) fn adopt(socket: &impl AsSocket) -> Edge {
        let number = socket.as_socket().as_raw_socket();
        match registered(number).filter(Registration::take_over) {
            Some(known) => Edge { number, newest: Arc::new(Mutex::new(Arc::downgrade(&known))) },
            None => Edge::new(socket),
        }
    }

    /// Of `clone`, which is another handle to the same socket.
    pub(crate) fn share(&self, clone: &impl AsSocket) -> Edge {
        Edge::with(clone, Arc::clone(&self.newest))
    }

    fn with(socket: &impl AsSocket, newest: Arc<Mutex<Weak<Registration>>>) -> Edge {
        let number = socket.as_socket().as_raw_socket();
        if let Some(old) = registered(number) {
            old.end();
        }
        Edge { number, newest }
    }

    pub(super) fn newest(&self) -> MutexGuard<'_, Weak<Registration>> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call in this `direction` said `WouldBlock`.
    pub(crate) fn blocked(&self, direction: Interests) {
        let newest = self.newest().upgrade();
        if let Some(registration) = newest {
            registration.blocked(direction);
        }
    }

    /// The socket lives on as another type, and so does its registration.
    pub(crate) fn leave(mut self) {
        if let Some(registration) = registered(self.number) {
            registration.let_go();
        }
        self.number = winsock::ffi::INVALID_SOCKET;
    }
}

impl Drop for Edge {
    /// The number still is that of the socket, so what is registered under it is too.
    fn drop(&mut self) {
        if let Some(registration) = registered(self.number) {
            registration.end();
        }
    }
}

fn registered(number: RawSocket) -> Option<Arc<Registration>> {
    places(|places| places.get(&number).cloned())
}

/// The states of a socket that belong to these directions.
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

/// What has had its edge when an event said `found`.
fn spent(found: u32) -> u32 {
    let mut spent = found & WRITE;
    if found & READ != 0 {
        // Data are no end: that is an edge of its own.
        spent |= READ & !READ_CLOSED | found;
    }
    if found & FAILED != 0 {
        // An error is one for all.
        spent = READ | WRITE | FAILED;
    }
    spent
}

fn watched_already() -> io::Error {
    let why =
        "the socket or a clone of it is already registered, and Windows cannot watch it twice: deregister that one first";
    io::Error::new(io::ErrorKind::Unsupported, why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Events, Poll, TcpStream};
    use std::io::Write;
    use std::net::{self, TcpListener};

    const READABLE: Interests = Interests::READABLE;

    fn pair() -> (TcpStream, net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (stream, listener.accept().unwrap().0)
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

        let registration = stream.edge.newest().upgrade().unwrap();
        let mut state = registration.state();
        state.wanted = READ | FAILED;
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
}
