//! macOS, iOS and family, FreeBSD, NetBSD, OpenBSD, DragonFly: kqueue.
//!
//! A kqueue is a kernel object that holds *knotes*. A knote is one question about one thing: "can descriptor 5 be read?"
//! is one, "can descriptor 5 be written?" is another. So a socket has up to two of them, and where epoll has one entry
//! with a mask and reports one event, a kqueue may report two. `kqueue` makes the queue; `kevent` does all the rest: it
//! carries out a list of changes, sleeps until a knote has an answer, and copies the answers out.
//!
//! One registration: `register` deletes the source's knotes, if there are any, and adds the ones that are wanted; bytes
//! arrive and the kernel queues the read knote; `select` hands it back as an [`Event`] with our token; closing the
//! descriptor deletes its knotes.
//!
//! Why delete first? Because a knote keeps the mode that it was born with: no flag is level, `EV_CLEAR` is edge, and
//! `EV_DISPATCH`, which disables a knote when it is reported, is one-shot. And a new knote looks at its descriptor
//! anew. Every change asks for a receipt, and there is room for the receipts alone, so a change that fails does not
//! stop the others, and no call but a poll carries off an event.
//!
//! There are two things that the kernel does not do. First, while `select` takes a report out, another thread may
//! register the source again, or close it and register another one under the same descriptor; then the report is out of
//! date. So each registration has a number. The kernel keeps the number, and a table of ours, by descriptor, says which
//! number is the newest and what its token is. Registering and going through a batch of events exclude each other, and
//! whatever comes under an older number is dropped. Second, a one-shot source has to be silent after one report, but
//! its other knote is still armed. The table remembers that the source has been reported, and whatever the other knote
//! says in a later batch is dropped as well.
//!
//! To end a wait from outside there is `EVFILT_USER`, a knote about nothing, which becomes active when somebody
//! triggers it. The queue has one, its bell, for closing and for all wakers (`waker.rs`).

use crate::trace;
use crate::unix::{check, fcntl};
use crate::wait::{room, wait, Kernel, Timeout};
use crate::waker::Wakes;
use crate::{closed, not_registered, Events, Interests, Token};
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::mem::{size_of, ManuallyDrop};
use std::net::{Shutdown, SocketAddrV4, SocketAddrV6};
use std::os::raw::{c_int, c_long};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::io::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process;
use std::ptr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub(crate) use crate::unix::pipe::{pipe, ReadEnd, WriteEnd};
pub use crate::unix::Source;
pub(crate) use crate::unix::{accept, connect, send_vectored, Edge};
pub use crate::waker::Waker;
pub(crate) use std::os::unix::io::OwnedFd as Owned;

/// The most records the kernel fills in one call: most systems count them in an `int`.
const MAX_EVENTS: usize = c_int::MAX as usize;

/// Longer waits are cut, because the caller waits again: each system refuses or miscounts very long ones, beyond a
/// limit of its own.
const MAX_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// The most changes one call makes: both knotes of a source deleted, both added.
const MAX_CHANGES: usize = 4;

/// The number that the bell is registered with. Those of sources begin at 1.
const BELL: usize = 0;

/// The knotes that a source may have.
const KNOTES: [ffi::filter_t; 2] = [ffi::EVFILT_READ, ffi::EVFILT_WRITE];

/// In an event: what both knotes would say. The kernel has no such filter.
const BOTH: ffi::filter_t = 99;

/// What the selector, its registrators and its wakers share.
pub(crate) struct Queue {
    kqueue: ManuallyDrop<OwnedFd>,
    /// The process that made it: a child of `fork` has no queue under this descriptor, but soon something else.
    process: u32,
    /// Rings once the queue is closed, and for wakers.
    bell: Bell,
    pub(crate) wakes: Wakes,
    /// Locked while a source is registered and while a batch of events is gone through, so that each happens before
    /// or after the other. Never while the kernel waits, and never by a wake, which may come from a signal handler.
    table: Mutex<Table>,
}

/// What the kernel cannot remember for us.
#[derive(Debug, Default)]
struct Table {
    /// By descriptor. One that was closed leaves its last registration behind, until its number is used again.
    registrations: Vec<Registration>,
    last_number: usize,
    /// Counts the batches of events.
    batch: usize,
}

/// The newest registration of a descriptor.
#[derive(Clone, Copy, Debug)]
struct Registration {
    number: usize,
    token: Token,
    interests: Interests,
    /// A pipe that was asked for writing: its read knote says, for both directions, that the other end is gone.
    is_pipe: bool,
    /// The batch of events that it was last part of, 0 for none.
    reported_in: usize,
}

/// In a place of the table that was never used.
const NOTHING: Registration =
    Registration { number: BELL, token: 0, interests: Interests::READABLE, is_pipe: false, reported_in: 0 };

impl Registration {
    /// Adds its knotes: the first one or both of these.
    fn adds(&self, fd: usize) -> ([ffi::kevent; 2], usize) {
        let is_spent = self.interests.is_oneshot() && self.reported_in != 0;
        let flags = ffi::EV_ADD | mode(self.interests) | if is_spent { ffi::EV_DISABLE } else { 0 };
        let [read, write] = KNOTES.map(|filter| change(fd, filter, flags, self.number));
        match (self.interests.is_readable() || self.is_pipe, self.interests.is_writable()) {
            (true, true) => ([read, write], 2),
            (true, false) => ([read, write], 1),
            (false, _) => ([write, read], 1),
        }
    }
}

impl Table {
    fn next_number(&mut self) -> usize {
        self.last_number = self.last_number.wrapping_add(1).max(BELL + 1);
        self.last_number
    }

    fn set(&mut self, fd: usize, registration: Registration) {
        if self.registrations.len() <= fd {
            self.registrations.resize(fd + 1, NOTHING);
        }
        self.registrations[fd] = registration;
    }

    /// Turns a record into what the poll reports, or says that it is out of date.
    fn translate(&mut self, record: &mut ffi::kevent) -> bool {
        let newest = match self.registrations.get_mut(record.ident) {
            Some(newest) if newest.number == record.udata => newest,
            _ => return false,
        };
        let was_reported = newest.reported_in != 0 && newest.reported_in != self.batch;
        if was_reported && newest.interests.is_oneshot() {
            return false;
        }
        newest.reported_in = self.batch;
        record.udata = newest.token;
        if newest.is_pipe && record.filter == ffi::EVFILT_READ {
            record.filter = match (newest.interests.is_readable(), record.flags & ffi::EV_EOF != 0) {
                (true, true) => BOTH,
                (true, false) => ffi::EVFILT_READ,
                (false, _) => ffi::EVFILT_WRITE,
            };
        }
        true
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kqueue: &OwnedFd = &self.kqueue;
        f.debug_struct("Queue")
            .field("kqueue", kqueue)
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}

impl Queue {
    fn is_closed(&self) -> bool {
        self.wakes.is_closed()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries out all `changes`, in order, and returns an `errno` for each, 0 for success.
    fn control(&self, changes: &[ffi::kevent]) -> io::Result<[i32; MAX_CHANGES]> {
        let kqueue = self.kqueue.as_raw_fd();
        let mut receipts = [change(0, 0, 0, 0); MAX_CHANGES];
        let room = &mut receipts[..changes.len()];
        let count = changes.len() as ffi::count_t;
        let at_once = ffi::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `changes` and `room` are slices of `count` records, and the three outlive the call.
        let written =
            unsafe { ffi::kevent(kqueue, changes.as_ptr(), count, room.as_mut_ptr(), count, &at_once) };
        check(
            written,
            format_args!("kevent({kqueue}, {changes:?}, {count}, {room:?}, {count}, {at_once:?})"),
        )?;
        Ok(receipts.map(|receipt| receipt.data as i32))
    }

    /// Waits once, at most `timeout`, and lets the kernel write what is ready into the empty `events`.
    fn wait(&self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        let kqueue = self.kqueue.as_raw_fd();
        let room = room(events, MAX_EVENTS) as ffi::count_t;
        // An `Event` is a `kevent`, laid out alike.
        let buffer: *mut ffi::kevent = events.as_mut_ptr().cast();
        let limit = timeout.map(|timeout| {
            let timeout = timeout.min(MAX_WAIT);
            ffi::timespec {
                tv_sec: timeout.as_secs() as ffi::time_t,
                tv_nsec: timeout.subsec_nanos() as c_long,
            }
        });
        let slept = trace::Slept::begin();
        let limit_or_null = limit.as_ref().map_or(ptr::null(), |limit| limit);
        // SAFETY: `buffer` has room for `room` records, the kernel writes at most that many, and `limit` outlives the call.
        let ready = unsafe { ffi::kevent(kqueue, ptr::null(), 0, buffer, room, limit_or_null) };
        // SAFETY: the kernel has initialized the first `ready` records.
        let records = unsafe { trace::Records::new(buffer, ready) };
        let limit = trace::Limit(&limit);
        let ready =
            check(ready, format_args!("{slept}kevent({kqueue}, NULL, 0, {records:?}, {room}, {limit:?})"))?;
        // SAFETY: the kernel has initialized the first `ready` records, and `ready` is at most the capacity.
        unsafe { events.set_len(ready as usize) };
        Ok(())
    }

    /// Turns what the kernel has written into what the poll delivers: without the bell and whatever is out of date, with
    /// tokens in place of numbers, and with what the wakers have to say.
    fn sift(&self, events: &mut Events) {
        let mut table = self.table();
        table.batch = table.batch.wrapping_add(1).max(1);
        let mut rang = false;
        events.retain_mut(|event| {
            let is_bell = event.record.udata == BELL;
            rang |= is_bell;
            !is_bell && table.translate(&mut event.record)
        });
        drop(table);
        if rang {
            // First room for the next ring, then the wakers: who rings later must be heard.
            self.bell.silence();
            self.wakes.silence();
        }
        let readable = |token| Event { record: change(0, ffi::EVFILT_READ, 0, token) };
        if self.wakes.deliver(events, readable) && self.ring().is_err() {
            // What is in hand is delivered in any case: the rest comes with the next ring.
            self.wakes.silence();
        }
    }

    /// Ends the current wait, or the next one. Never blocks.
    pub(crate) fn ring(&self) -> io::Result<()> {
        match &self.bell {
            Bell::Knote => {
                // Without `EV_CLEAR`: the knote has it, and given along with a trigger it takes that back on some systems.
                let mut trigger = change(0, ffi::EVFILT_USER, ffi::EV_ADD, BELL);
                trigger.fflags = ffi::NOTE_TRIGGER;
                result(self.control(&[trigger])?[0])
            }
            Bell::Pair { ringing, .. } => loop {
                match (&*ringing).write(&[1]) {
                    // Full of rings that nobody has heard yet.
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    result => return result.map(drop),
                }
            },
        }
    }
}

impl Kernel for &Queue {
    fn wait_once(&mut self, events: &mut Events, timeout: Timeout) -> io::Result<()> {
        let mut timeout = timeout.duration();
        loop {
            // The bell rings once for the end, and then is silent.
            if self.is_closed() {
                return Err(closed());
            }
            self.wait(events, timeout)?;
            if self.is_closed() {
                return Err(closed());
            }
            if events.is_empty() && !self.wakes.are_news() {
                return Ok(());
            }
            let is_quiet = events.is_empty();
            self.sift(events);
            if is_quiet || !events.is_empty() {
                return Ok(());
            }
            // Nothing of it was for the caller, but there may be more behind it.
            timeout = Some(Duration::ZERO);
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        if process::id() == self.process {
            // SAFETY: nothing uses the field after this, the end of its owner.
            unsafe { ManuallyDrop::drop(&mut self.kqueue) };
        }
    }
}

/// What to change about one knote; with a receipt, always.
fn change(ident: usize, filter: ffi::filter_t, flags: ffi::flags_t, number: usize) -> ffi::kevent {
    ffi::kevent { ident, filter, flags: flags | ffi::EV_RECEIPT, udata: number, ..ffi::kevent::default() }
}

/// What a receipt says.
fn result(errno: i32) -> io::Result<()> {
    match errno {
        0 => Ok(()),
        ffi::ENOENT => Err(not_registered()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

/// The queue itself, seen from the thread that waits. [`Poll`](crate::Poll) drives it.
#[derive(Debug)]
pub struct Selector {
    queue: Arc<Queue>,
}

impl Selector {
    /// Creates an empty queue.
    ///
    /// # Errors
    ///
    /// The system's error if it has no room for another queue.
    pub fn new() -> io::Result<Selector> {
        Selector::with_bell(ffi::EVFILT_USER)
    }

    /// With a bell of this filter, or a pair of sockets if the kernel does not know it.
    fn with_bell(filter: ffi::filter_t) -> io::Result<Selector> {
        // SAFETY: the call takes nothing.
        let fd = check(unsafe { ffi::kqueue() }, format_args!("kqueue()"))?;
        // SAFETY: the descriptor was just made and nobody else knows it.
        let kqueue = unsafe { OwnedFd::from_raw_fd(fd) };
        // In time: no child of `fork` has it, so this is only about a program that replaces itself.
        fcntl(&kqueue, ffi::F_SETFD, ffi::FD_CLOEXEC, "F_SETFD, FD_CLOEXEC")?;
        let mut queue = Queue {
            kqueue: ManuallyDrop::new(kqueue),
            process: process::id(),
            bell: Bell::Knote,
            wakes: Wakes::default(),
            table: Mutex::default(),
        };
        // An edge for each ring: the bell need not be silenced.
        let mode = ffi::EV_ADD | ffi::EV_CLEAR;
        let mut errors = queue.control(&[change(0, filter, mode, BELL)])?;
        if errors[0] == ffi::EINVAL {
            // `EVFILT_USER` came to NetBSD with 10 and to OpenBSD with 7.8.
            let (watched, ringing) = Bell::pair()?;
            let fd = watched.as_raw_fd() as usize;
            queue.bell = Bell::Pair { watched, ringing };
            errors = queue.control(&[change(fd, ffi::EVFILT_READ, mode, BELL)])?;
        }
        result(errors[0])?;
        Ok(Selector { queue: Arc::new(queue) })
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
        wait(&*self.queue, events, timeout)
    }

    /// A handle that registers sources from any thread.
    pub fn registrator(&self) -> Registrator {
        Registrator { queue: Arc::clone(&self.queue) }
    }
}

impl Drop for Selector {
    /// The loop has ended, and the remaining registrators and wakers must know.
    fn drop(&mut self) {
        self.queue.wakes.close();
    }
}

impl AsFd for Selector {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.queue.kqueue.as_fd()
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
        self.watch(source.as_fd(), token, interests, false)
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
        self.watch(source.as_fd(), token, interests, true)
    }

    /// Stops watching `source`: no poll that starts later delivers its events. You can register it again, here or with
    /// another queue.
    ///
    /// # Errors
    ///
    /// * [`NotFound`](io::ErrorKind::NotFound): this queue does not watch the source.
    /// * [`Interrupted`](io::ErrorKind::Interrupted): the queue is closed.
    pub fn deregister(&self, source: &(impl Source + ?Sized)) -> io::Result<()> {
        if self.queue.is_closed() {
            return Err(closed());
        }
        let _table = self.queue.table();
        let errors = self.queue.control(&deletes(source.as_fd().as_raw_fd() as usize))?;
        // Either of the two will do.
        result(errors[0]).or_else(|_| result(errors[1]))
    }

    /// Ends the loop, from any thread: the current poll and every later one return
    /// [`Interrupted`](io::ErrorKind::Interrupted), even if nobody was polling yet.
    ///
    /// # Errors
    ///
    /// [`Interrupted`](io::ErrorKind::Interrupted): the queue is already closed.
    pub fn close_loop(&self) -> io::Result<()> {
        let was_closed = self.queue.wakes.close();
        // If it was, it is rung for the end once more all the same: the call before may have failed to.
        let rang = self.queue.ring().or_else(|error| match &self.queue.bell {
            // This takes no memory, as a byte may.
            Bell::Pair { ringing, .. } => ringing.shutdown(Shutdown::Write),
            Bell::Knote => Err(error),
        });
        if was_closed {
            return Err(closed());
        }
        rang
    }

    fn watch(
        &self,
        source: BorrowedFd<'_>,
        token: Token,
        interests: Interests,
        must_be_known: bool,
    ) -> io::Result<()> {
        interests.check()?;
        if self.queue.is_closed() {
            return Err(closed());
        }
        let mut table = self.queue.table();
        let fd = source.as_raw_fd() as usize;
        // When the reader of a pipe goes, a write knote is not always what says so. While it waits for room it is not told (NetBSD
        // up to 10, OpenBSD), it is deleted once it has told (FreeBSD), and a new one is refused (all but Apple). So a pipe
        // has a read knote as well, which tells it everywhere.
        let is_pipe = interests.is_writable() && is_pipe(source);
        let newest = Registration { number: table.next_number(), token, interests, is_pipe, ..NOTHING };

        let [delete_read, delete_write] = deletes(fd);
        let ([first, second], count) = newest.adds(fd);
        let changes = [delete_read, delete_write, first, second];
        let mut errors = self.queue.control(&changes[..2 + count])?;
        if is_pipe && matches!(errors[3], ffi::EPIPE | ffi::EBADF) {
            errors[3] = 0;
        }

        let was_known = errors[0] == 0 || errors[1] == 0;
        if must_be_known && !was_known {
            errors[2] = ffi::ENOENT;
        }
        let outcome = result(errors[2]).and_then(|()| result(errors[3]));
        if outcome.is_ok() {
            table.set(fd, newest);
            return outcome;
        }
        // All or nothing. An event that came meanwhile has a number that the table does not know.
        self.queue.control(&deletes(fd))?;
        if was_known {
            let (knotes, count) = table.registrations[fd].adds(fd);
            self.queue.control(&knotes[..count])?;
        }
        outcome
    }
}

/// Takes both knotes of a source away. One that is not there says `ENOENT`.
fn deletes(fd: usize) -> [ffi::kevent; 2] {
    KNOTES.map(|filter| change(fd, filter, ffi::EV_DELETE, 0))
}

fn is_pipe(source: BorrowedFd<'_>) -> bool {
    // SAFETY: the descriptor is open, and `ManuallyDrop` keeps it so.
    let file = ManuallyDrop::new(unsafe { File::from_raw_fd(source.as_raw_fd()) });
    matches!(file.metadata(), Ok(metadata) if metadata.file_type().is_fifo())
}

/// What becomes of a knote that was reported.
fn mode(interests: Interests) -> ffi::flags_t {
    if interests.is_level() {
        0
    } else if interests.is_edge() {
        ffi::EV_CLEAR
    } else {
        // Not `EV_ONESHOT`, which deletes the knote: a spent source is still registered.
        ffi::EV_DISPATCH
    }
}

/// What a poll reports about one source: its token, and what it is ready for.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Event {
    record: ffi::kevent,
}

impl Event {
    /// The token with which the source was registered.
    #[inline]
    pub fn id(&self) -> Token {
        self.record.udata
    }

    /// A read will not block: there is data, the end of the stream, a connection to accept, or an error to pick up. An error
    /// counts for both directions, whichever you asked for.
    #[inline]
    pub fn is_readable(&self) -> bool {
        self.record.filter != ffi::EVFILT_WRITE || self.is_error()
    }

    /// A write will not block: there is room, the connection is established, or there is an error to pick up. An error
    /// counts for both directions, whichever you asked for.
    #[inline]
    pub fn is_writable(&self) -> bool {
        self.record.filter != ffi::EVFILT_READ || self.is_error()
    }

    /// The peer will send no more. What it sent before can still be read.
    #[inline]
    pub fn is_read_closed(&self) -> bool {
        self.has_ended() && self.is_readable()
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
        self.has_ended() && self.is_writable()
    }

    /// The source has failed: its connection was refused or reset, for instance. On a stream, `take_error` says why.
    ///
    /// # Platform notes
    ///
    /// On Linux also a pipe whose reader has gone, and a socket with a message in its error queue (because you asked
    /// for `MSG_ZEROCOPY` or time stamps), which has not failed.
    #[inline]
    pub fn is_error(&self) -> bool {
        // The error stands in `fflags`; in `data` there is the number of bytes.
        self.has_ended() && self.record.fflags != 0
    }

    /// The knote's own direction has ended; after an error both have.
    #[inline]
    fn has_ended(&self) -> bool {
        self.record.flags & ffi::EV_EOF != 0
    }
}

/// Something to watch that others can make ready.
#[derive(Debug)]
enum Bell {
    /// The knote of `EVFILT_USER` with the identifier 0.
    Knote,
    /// For kernels without that filter: one end is watched, and bytes come from the other.
    Pair { watched: UnixStream, ringing: UnixStream },
}

impl Bell {
    fn pair() -> io::Result<(UnixStream, UnixStream)> {
        let (watched, ringing) = UnixStream::pair()?;
        watched.set_nonblocking(true)?;
        ringing.set_nonblocking(true)?;
        Ok((watched, ringing))
    }

    /// Makes room for the next ring. Before the wakers are asked: who rings later must be heard.
    fn silence(&self) {
        if let Bell::Pair { watched, .. } = self {
            while matches!((&*watched).read(&mut [0; 4096]), Ok(1..)) {}
        }
    }
}

/// Sees to it that writing to a closed peer raises no `SIGPIPE`. On Apple's systems, where the calls that send cannot be told
/// so, the socket can; one that is accepted has it from its listener. A connection that is dead in both directions refuses, and
/// a write to it is an error anyway.
pub(crate) fn forbid_sigpipe(socket: &impl AsFd) {
    if ffi::MSG_NOSIGNAL == 0 {
        let (fd, yes): (c_int, c_int) = (socket.as_fd().as_raw_fd(), 1);
        let length = size_of::<c_int>() as ffi::socklen_t;
        // SAFETY: the kernel reads the `length` bytes of `yes`.
        let ret = unsafe {
            ffi::setsockopt(fd, ffi::SOL_SOCKET, ffi::SO_NOSIGPIPE, (&yes as *const c_int).cast(), length)
        };
        let _ = check(ret, format_args!("setsockopt({fd}, SOL_SOCKET, SO_NOSIGPIPE, [1], {length})"));
    }
}

/// Whether the system was told to raise no `SIGPIPE` for this pipe. Those that cannot be told send it to the thread that writes;
/// these, to the whole process.
pub(crate) fn silence_pipe(writer: &OwnedFd) -> io::Result<bool> {
    if ffi::F_SETNOSIGPIPE == 0 {
        return Ok(false);
    }
    fcntl(writer, ffi::F_SETNOSIGPIPE, 1, "F_SETNOSIGPIPE, 1").map(|_| true)
}

impl From<SocketAddrV4> for ffi::sockaddr_in {
    fn from(address: SocketAddrV4) -> Self {
        ffi::sockaddr_in {
            sin_len: size_of::<Self>() as u8,
            sin_family: ffi::AF_INET as u8,
            sin_port: address.port().to_be(),
            sin_addr: address.ip().octets(),
            sin_zero: [0; 8],
        }
    }
}

impl From<SocketAddrV6> for ffi::sockaddr_in6 {
    fn from(address: SocketAddrV6) -> Self {
        ffi::sockaddr_in6 {
            sin6_len: size_of::<Self>() as u8,
            sin6_family: ffi::AF_INET6 as u8,
            sin6_port: address.port().to_be(),
            sin6_flowinfo: address.flowinfo(),
            sin6_addr: address.ip().octets(),
            sin6_scope_id: address.scope_id(),
        }
    }
}

/// The systems' own names. Manual pages: <https://man.freebsd.org/> and <https://man.netbsd.org/>.
#[allow(non_camel_case_types)]
pub(crate) mod ffi {
    use std::mem::size_of;
    use std::os::raw::{c_int, c_long, c_void};

    // All that differs between the systems is here. First what differs in value: one column for each.

    /// The column of this system.
    const SYSTEM: usize = if cfg!(target_vendor = "apple") {
        0
    } else if cfg!(target_os = "freebsd") {
        1
    } else if cfg!(target_os = "netbsd") {
        2
    } else if cfg!(target_os = "openbsd") {
        3
    } else {
        4
    };

    // Apple, FreeBSD, NetBSD, OpenBSD, DragonFly. A flag or option that is 0 is not known there.
    pub const EVFILT_READ: filter_t = [-1, -1, 0, -1, -1][SYSTEM] as filter_t;
    pub const EVFILT_WRITE: filter_t = [-2, -2, 1, -2, -2][SYSTEM] as filter_t;
    pub const EVFILT_USER: filter_t = [-10, -11, 8, -10, -9][SYSTEM] as filter_t;
    pub const AF_INET6: c_int = [30, 28, 24, 24, 28][SYSTEM];
    pub const SOCK_CLOEXEC: c_int = [0, 0x1000_0000, 0x1000_0000, 0x8000, 0x1000_0000][SYSTEM];
    pub const SOCK_NONBLOCK: c_int = [0, 0x2000_0000, 0x2000_0000, 0x4000, 0x2000_0000][SYSTEM];
    pub const MSG_NOSIGNAL: c_int = [0, 0x2_0000, 0x400, 0x400, 0x400][SYSTEM];
    pub const SO_NOSIGPIPE: c_int = [0x1022, 0x800, 0x800, 0, 0x800][SYSTEM];
    pub const F_SETNOSIGPIPE: c_int = [73, 0, 14, 0, 0][SYSTEM];
    pub const O_CLOEXEC: c_int = [0x100_0000, 0x10_0000, 0x40_0000, 0x1_0000, 0x2_0000][SYSTEM];

    // Then what differs in type.

    #[cfg(not(target_os = "netbsd"))]
    mod types {
        pub type filter_t = i16;
        pub type flags_t = u16;
        pub type count_t = std::os::raw::c_int;
    }
    #[cfg(target_os = "netbsd")]
    mod types {
        pub type filter_t = u32;
        pub type flags_t = u32;
        pub type count_t = usize;
    }
    pub use types::*;

    #[cfg(any(target_vendor = "apple", target_os = "dragonfly"))]
    pub type data_t = isize;
    #[cfg(not(any(target_vendor = "apple", target_os = "dragonfly")))]
    pub type data_t = i64;

    #[cfg(target_vendor = "apple")]
    pub type time_t = c_long;
    #[cfg(all(target_os = "freebsd", target_arch = "x86"))]
    pub type time_t = i32;
    #[cfg(not(any(target_vendor = "apple", all(target_os = "freebsd", target_arch = "x86"))))]
    pub type time_t = i64;

    // The rest is the same everywhere.

    pub const EV_ADD: flags_t = 0x1;
    pub const EV_DELETE: flags_t = 0x2;
    pub const EV_DISABLE: flags_t = 0x8;
    pub const EV_CLEAR: flags_t = 0x20;
    pub const EV_RECEIPT: flags_t = 0x40;
    pub const EV_DISPATCH: flags_t = 0x80;
    pub const EV_ERROR: flags_t = 0x4000;
    pub const EV_EOF: flags_t = 0x8000;
    pub const NOTE_TRIGGER: u32 = 0x0100_0000;

    pub const ENOENT: i32 = 2;
    pub const EBADF: i32 = 9;
    pub const EINVAL: i32 = 22;
    pub const EPIPE: i32 = 32;
    pub const EINPROGRESS: i32 = 36;

    pub const F_SETFD: c_int = 2;
    pub const F_SETFL: c_int = 4;
    pub const FD_CLOEXEC: c_int = 1;
    pub const O_NONBLOCK: c_int = 4;
    pub const AF_INET: c_int = 2;
    pub const SOCK_STREAM: c_int = 1;
    pub const SOL_SOCKET: c_int = 0xffff;
    /// The most buffers that `sendmsg` takes.
    pub const IOV_MAX: usize = 1024;

    pub type socklen_t = u32;

    /// One knote: what to change about it, or what it has to say.
    #[derive(Clone, Copy, Default, PartialEq, Eq)]
    #[repr(C)]
    pub struct kevent {
        /// The descriptor, as a rule.
        pub ident: usize,
        pub filter: filter_t,
        pub flags: flags_t,
        /// Of an event with `EV_EOF`: the error of the socket.
        pub fflags: u32,
        /// Of a receipt: the error of the change.
        pub data: data_t,
        /// Ours. The headers say `void *`, but nobody follows it.
        pub udata: usize,
        /// Room for more, since FreeBSD 12.
        #[cfg(target_os = "freebsd")]
        pub ext: [u64; 4],
    }

    // A wrong layout does not compile.
    #[cfg(target_pointer_width = "64")]
    const _: () = assert!(size_of::<kevent>() == [32, 64, 40, 32, 32][SYSTEM]);

    #[repr(C)]
    pub struct timespec {
        pub tv_sec: time_t,
        pub tv_nsec: c_long,
    }

    #[derive(Clone, Copy, Default)]
    #[repr(C)]
    pub struct sockaddr_in {
        pub sin_len: u8,
        pub sin_family: u8,
        /// Big-endian.
        pub sin_port: u16,
        pub sin_addr: [u8; 4],
        pub sin_zero: [u8; 8],
    }

    #[derive(Clone, Copy, Default)]
    #[repr(C)]
    pub struct sockaddr_in6 {
        pub sin6_len: u8,
        pub sin6_family: u8,
        /// Big-endian.
        pub sin6_port: u16,
        pub sin6_flowinfo: u32,
        pub sin6_addr: [u8; 16],
        pub sin6_scope_id: u32,
    }

    const _: () = assert!(size_of::<sockaddr_in>() == 16 && size_of::<sockaddr_in6>() == 28);

    /// A message to send, as the kernel reads it.
    #[repr(C)]
    pub struct msghdr {
        pub msg_name: *const c_void,
        pub msg_namelen: socklen_t,
        pub msg_iov: *const c_void,
        pub msg_iovlen: c_int,
        pub msg_control: *const c_void,
        pub msg_controllen: socklen_t,
        pub msg_flags: c_int,
    }

    /// Apple's systems have none. The flags, which are not known there, are left out.
    #[cfg(target_vendor = "apple")]
    pub unsafe fn accept4(fd: c_int, address: *mut c_void, length: *mut socklen_t, _flags: c_int) -> c_int {
        // SAFETY: as the caller of `accept4` has promised.
        unsafe { accept(fd, address, length) }
    }

    /// Apple's systems have none. The flags are left out.
    #[cfg(target_vendor = "apple")]
    pub unsafe fn pipe2(fds: *mut c_int, _flags: c_int) -> c_int {
        // SAFETY: as the caller of `pipe2` has promised.
        unsafe { pipe(fds) }
    }

    extern "C" {
        /// Makes a kqueue. Returns its descriptor, -1 with `errno` on failure.
        /// <https://man.freebsd.org/cgi/man.cgi?query=kqueue&sektion=2>
        pub fn kqueue() -> c_int;

        /// Makes changes, then waits for events, at most `timeout` (null: for ever). Returns how many records it wrote, -1
        /// with `errno` on failure. With receipts asked for it writes one for each change and does not wait. NetBSD's plain
        /// `kevent` is that of before NetBSD 5, with another `timespec`.
        /// <https://man.freebsd.org/cgi/man.cgi?query=kevent&sektion=2>
        #[cfg_attr(target_os = "netbsd", link_name = "__kevent50")]
        pub fn kevent(
            kq: c_int,
            changelist: *const kevent,
            nchanges: count_t,
            eventlist: *mut kevent,
            nevents: count_t,
            timeout: *const timespec,
        ) -> c_int;

        /// Reads or sets something about a descriptor. Returns a value that depends on `command`, -1 with `errno` on failure.
        /// <https://man.freebsd.org/cgi/man.cgi?query=fcntl&sektion=2>
        pub fn fcntl(fd: c_int, command: c_int, ...) -> c_int;

        /// Makes a socket. Returns its descriptor, -1 with `errno` on failure. NetBSD's plain `socket` is older than the two
        /// flags. <https://man.freebsd.org/cgi/man.cgi?query=socket&sektion=2>
        #[cfg_attr(target_os = "netbsd", link_name = "__socket30")]
        pub fn socket(domain: c_int, ty: c_int, protocol: c_int) -> c_int;

        /// Makes a pipe: `fds[0]` to read, `fds[1]` to write. Returns 0, -1 with `errno` on failure.
        /// <https://man.freebsd.org/cgi/man.cgi?query=pipe&sektion=2>
        #[cfg(not(target_vendor = "apple"))]
        pub fn pipe2(fds: *mut c_int, flags: c_int) -> c_int;

        /// As `pipe2`, without flags.
        #[cfg(target_vendor = "apple")]
        pub fn pipe(fds: *mut c_int) -> c_int;

        /// Sets an option of a socket. Returns 0, -1 with `errno` on failure.
        /// <https://man.freebsd.org/cgi/man.cgi?query=setsockopt&sektion=2>
        pub fn setsockopt(
            fd: c_int,
            level: c_int,
            name: c_int,
            value: *const c_void,
            length: socklen_t,
        ) -> c_int;

        /// Connects, or begins to. Returns 0, -1 with `errno` (`EINPROGRESS`) otherwise.
        /// <https://man.freebsd.org/cgi/man.cgi?query=connect&sektion=2>
        pub fn connect(fd: c_int, address: *const c_void, length: socklen_t) -> c_int;

        /// Takes a connection off a listener and writes the address of its other end. Returns its descriptor, -1 with `errno` on
        /// failure. <https://man.freebsd.org/cgi/man.cgi?query=accept&sektion=2>
        #[cfg(not(target_vendor = "apple"))]
        pub fn accept4(fd: c_int, address: *mut c_void, length: *mut socklen_t, flags: c_int) -> c_int;

        /// As `accept4`, without flags.
        #[cfg(target_vendor = "apple")]
        pub fn accept(fd: c_int, address: *mut c_void, length: *mut socklen_t) -> c_int;

        /// Sends from several buffers. Returns how many bytes, -1 with `errno` on failure.
        /// <https://man.freebsd.org/cgi/man.cgi?query=sendmsg&sektion=2>
        pub fn sendmsg(fd: c_int, message: *const msghdr, flags: c_int) -> isize;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{mem, thread};

    fn registration(number: usize, token: Token) -> Registration {
        Registration { number, token, ..NOTHING }
    }

    fn event(filter: ffi::filter_t, flags: ffi::flags_t, fflags: u32) -> Event {
        let mut record = change(5, filter, flags, 7);
        record.fflags = fflags;
        Event { record }
    }

    #[test]
    fn without_the_user_filter_a_pair_of_sockets_is_the_bell() {
        const NO_FILTER: ffi::filter_t = 99;
        let mut selector = Selector::with_bell(NO_FILTER).unwrap();
        assert!(matches!(selector.queue.bell, Bell::Pair { .. }));

        // Heard by a wait that has begun, once for all wakes, and again after that.
        let waker = Waker::new(&selector.registrator(), 7).unwrap();
        let mut events = Events::new();
        for _ in 0..2 {
            let other = waker.clone();
            let thread = thread::spawn(move || other.wake());
            selector.select(&mut events, None).unwrap();
            thread.join().unwrap().unwrap();
            assert_eq!(events.len(), 1);
            assert!(events[0].id() == 7 && events[0].is_readable());
        }
        let at_once = Some(Duration::ZERO);
        selector.select(&mut events, at_once).unwrap();
        assert_eq!(events, []);

        // More rings than it has room for, and nobody listens.
        for _ in 0..100_000 {
            selector.queue.ring().unwrap();
        }
        waker.wake().unwrap();
        selector.select(&mut events, None).unwrap();
        assert_eq!(events[0].id(), 7);
        selector.select(&mut events, at_once).unwrap();
        assert_eq!(events, []);

        // So is the end.
        let registrator = selector.registrator();
        let thread = thread::spawn(move || registrator.close_loop());
        selector.select(&mut events, None).unwrap_err();
        thread.join().unwrap().unwrap();
    }

    #[test]
    fn a_record_under_an_old_number_is_dropped() {
        let mut table = Table::default();
        table.set(5, registration(1, 100));
        table.set(5, registration(2, 200));
        let mut old = change(5, ffi::EVFILT_READ, 0, 1);
        assert!(!table.translate(&mut old));
        let mut newest = change(5, ffi::EVFILT_READ, 0, 2);
        assert!(table.translate(&mut newest));
        assert_eq!(newest.udata, 200);
        // Of a descriptor that was never registered.
        assert!(!table.translate(&mut change(6, ffi::EVFILT_READ, 0, 2)));
    }

    #[test]
    fn what_the_kernel_said_before_a_source_was_registered_anew_is_dropped() {
        let mut selector = Selector::new().unwrap();
        let (watched, mut peer) = UnixStream::pair().unwrap();
        peer.write_all(b"x").unwrap();
        selector.registrator().register(&watched, 1, Interests::READABLE).unwrap();

        // Another thread may come between these two calls.
        let mut events = Events::with_capacity(4);
        selector.queue.wait(&mut events, None).unwrap();
        assert_eq!(events.len(), 1);
        selector.registrator().register(&watched, 2, Interests::WRITABLE).unwrap();
        selector.queue.sift(&mut events);
        assert_eq!(events, []);

        selector.select(&mut events, None).unwrap();
        assert_eq!(format!("{:?}", events), "[Event(2 writable)]");
    }

    #[test]
    fn a_one_shot_is_reported_in_one_batch_and_no_other() {
        let one_shot = registration(1, 7);
        let level = Registration { interests: Interests::READABLE | Interests::LEVEL, ..one_shot };
        for (registration, is_reported_again) in [(one_shot, false), (level, true)] {
            let mut table = Table { batch: 1, ..Table::default() };
            table.set(5, registration);
            // Both of its knotes, in one batch.
            for filter in KNOTES {
                assert!(table.translate(&mut change(5, filter, 0, 1)));
            }
            table.batch = 2;
            for filter in KNOTES {
                assert_eq!(table.translate(&mut change(5, filter, 0, 1)), is_reported_again);
            }
        }
    }

    #[test]
    fn the_end_of_a_pipe_ends_whatever_it_was_asked_for() {
        let writable = Registration { is_pipe: true, interests: Interests::WRITABLE, ..registration(1, 7) };
        let both = Registration { interests: Interests::READABLE | Interests::WRITABLE, ..writable };
        let expected = [
            (writable, ffi::EV_EOF, "Event(7 writable write-closed)"),
            (both, ffi::EV_EOF, "Event(7 readable writable read-closed write-closed)"),
            // Not the end, and not the end that is written to.
            (both, 0, "Event(7 readable)"),
        ];
        for (registration, flags, words) in expected {
            let mut table = Table { batch: 1, ..Table::default() };
            table.set(5, registration);
            let mut record = change(5, ffi::EVFILT_READ, flags, 1);
            assert!(table.translate(&mut record));
            assert_eq!(format!("{:?}", Event { record }), words);
        }
    }

    #[test]
    fn a_failed_change_leaves_the_earlier_registration_as_it_was() {
        // A queue can be watched for reading only.
        let (mut outer, inner) = (Selector::new().unwrap(), Selector::new().unwrap());
        let mut events = Events::new();
        let at_once = Some(Duration::ZERO);
        for interests in [Interests::READABLE, Interests::READABLE | Interests::LEVEL] {
            outer.registrator().register(&inner, 1, interests).unwrap();
            let refused = outer.registrator().register(&inner, 2, interests | Interests::WRITABLE);
            assert_eq!(refused.unwrap_err().raw_os_error(), Some(ffi::EINVAL));
            inner.queue.ring().unwrap();
            outer.select(&mut events, None).unwrap();
            assert_eq!(events[0].id(), 1);

            // A spent one stays spent.
            outer.registrator().reregister(&inner, 2, interests | Interests::WRITABLE).unwrap_err();
            outer.select(&mut events, at_once).unwrap();
            assert_eq!(events.len(), usize::from(interests.is_level()));
            outer.registrator().deregister(&inner).unwrap();
        }
    }

    #[test]
    fn an_end_that_could_not_be_rung_for_is_rung_for_the_next_time() {
        let mut selector = Selector::new().unwrap();
        // A descriptor that is no queue stands in for one that fails.
        let stand_in = |selector: &mut Selector, fd: OwnedFd| {
            let queue = Arc::get_mut(&mut selector.queue).unwrap();
            ManuallyDrop::into_inner(mem::replace(&mut queue.kqueue, ManuallyDrop::new(fd)))
        };
        let real = stand_in(&mut selector, UnixStream::pair().unwrap().0.into());
        if matches!(selector.queue.bell, Bell::Knote) {
            selector.registrator().close_loop().unwrap_err();
        }
        drop(stand_in(&mut selector, real));

        let again = selector.registrator().close_loop();
        let mut events = Events::with_capacity(1);
        selector.queue.wait(&mut events, Some(Duration::ZERO)).unwrap();
        assert_eq!(events.len(), 1, "{:?}", again);
    }

    #[test]
    fn no_source_has_the_number_of_the_bell() {
        let mut table = Table { last_number: usize::MAX - 1, ..Table::default() };
        let numbers = [(); 3].map(|()| table.next_number());
        assert_eq!(numbers, [usize::MAX, 1, 2]);
    }

    #[test]
    fn each_knote_speaks_of_its_own_direction_and_an_error_of_both() {
        const CONNECTION_REFUSED: u32 = 61;
        let said = |event: Event| format!("{:?}", event);
        assert_eq!(said(event(ffi::EVFILT_READ, 0, 0)), "Event(7 readable)");
        assert_eq!(said(event(ffi::EVFILT_WRITE, 0, 0)), "Event(7 writable)");
        assert_eq!(said(event(ffi::EVFILT_READ, ffi::EV_EOF, 0)), "Event(7 readable read-closed)");
        assert_eq!(said(event(ffi::EVFILT_WRITE, ffi::EV_EOF, 0)), "Event(7 writable write-closed)");
        for filter in [ffi::EVFILT_READ, ffi::EVFILT_WRITE] {
            assert_eq!(
                said(event(filter, ffi::EV_EOF, CONNECTION_REFUSED)),
                "Event(7 readable writable read-closed write-closed error)"
            );
        }
    }

    #[test]
    fn with_room_for_one_the_wakers_take_turns() {
        let mut selector = Selector::new().unwrap();
        let registrator = selector.registrator();
        let wakers = [0, 1, 2].map(|token| Waker::new(&registrator, token).unwrap());
        let mut events = Events::with_capacity(1);
        let mut tokens = Vec::new();
        for _ in 0..6 {
            for waker in &wakers {
                waker.wake().unwrap();
            }
            selector.select(&mut events, None).unwrap();
            assert_eq!(events.len(), 1);
            tokens.push(events[0].id());
        }
        assert_eq!(tokens, [0, 1, 2, 0, 1, 2]);
    }
}
