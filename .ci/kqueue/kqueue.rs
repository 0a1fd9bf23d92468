//! kqueue in a few hundred lines: an imitation that runs on Linux.
//!
//! A program that calls `kqueue` and `kevent` as macOS or one of the BSDs has them is linked with this library instead.
//! Which system it imitates says the environment variable `KQUEUE` (see `systems.rs`); `run` builds and runs programs
//! in this way, this project's tests and anybody's. It tells what we believe of kqueue, and whether a program could live
//! with that. It is no proof of what a real kernel does.
//!
//! A queue is a table of *knotes*, by (filter, descriptor), and a list of those that are *ready*. The news come from two
//! epoll instances in edge mode, one for reading and one for writing, so that a change in one direction is not taken for one in
//! the other. Each piece of news makes the knote look at its descriptor ([`Knote::look`]); if it has something to say it
//! becomes ready. `kevent` carries out changes, each of which may make a knote look, then walks the ready list. There a knote
//! looks once more, says what it sees, and does what its mode demands: stay in the list (level), leave it (`EV_CLEAR`),
//! be disabled (`EV_DISPATCH`), be gone (`EV_ONESHOT`).
//!
//! The queue's own descriptor is a third epoll instance, which holds the other two and an eventfd that is readable
//! while the list is not empty. So a queue can be waited for as anything else: by another queue, and by `kevent` itself.
//!
//! All of it happens under one lock, with signals blocked: as in a kernel, a signal is noticed in the sleep alone.
//!
//! Timers count in milliseconds, and are heard of by a thread that goes to sleep after they were started.
//!
//! What is not imitated: the filters for processes, signals and files; regular files; `NOTE_LOWAT` and the flags of
//! `EVFILT_USER`; the `ext` words of FreeBSD; that a child of `fork` has no queue; the end of a local socket by its own
//! `shutdown(SHUT_WR)`.

#![allow(clippy::missing_safety_doc)] // the functions for C: their manual pages say it

mod linux;
mod slow;
mod systems;

use linux::{Errno, Fd, Result, Signals, Socket, Timespec, EBADF, EINVAL, ENOENT};
use slow::UnderWay;
use std::collections::{BTreeMap, VecDeque};
use std::os::raw::{c_int, c_short};
use std::os::unix::fs::FileTypeExt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use systems::{system, Record, System, WithoutRoom};

// What is the same on all five.
const EV_ADD: u32 = 0x1;
const EV_DELETE: u32 = 0x2;
const EV_ENABLE: u32 = 0x4;
const EV_DISABLE: u32 = 0x8;
const EV_ONESHOT: u32 = 0x10;
const EV_CLEAR: u32 = 0x20;
const EV_RECEIPT: u32 = 0x40;
const EV_DISPATCH: u32 = 0x80;
const EV_ERROR: u32 = 0x4000;
const EV_EOF: u32 = 0x8000;
const NOTE_TRIGGER: u32 = 0x0100_0000;
const ECONNRESET: u32 = 54;
const ECONNREFUSED: u32 = 61;

/// The one lock, and what it protects: the queues, by descriptor. Whoever works with a queue takes it out and puts it back.
static KERNEL: Mutex<Kernel> = Mutex::new(Kernel { queues: Vec::new(), under_way: UnderWay::new() });

/// The thread gets no signals while this lives.
struct NoSignals {
    before: Signals,
}

impl NoSignals {
    fn new() -> NoSignals {
        NoSignals { before: linux::block_signals() }
    }
}

impl Drop for NoSignals {
    fn drop(&mut self) {
        linux::replace_signals(&self.before);
    }
}

struct Kernel {
    queues: Vec<Option<Queue>>,
    under_way: UnderWay,
}

/// Which of the questions about a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Filter {
    Read,
    Write,
    User,
    Timer,
}

impl Filter {
    fn is_about_descriptor(self) -> bool {
        matches!(self, Filter::Read | Filter::Write)
    }
}

type Key = (Filter, usize);

struct Queue {
    /// Tells of news about reading, and about writing.
    epolls: [Fd; 2],
    /// Readable while something is ready.
    mark: Fd,
    is_marked: bool,
    knotes: BTreeMap<Key, Knote>,
    ready: VecDeque<Key>,
    /// Those that are to look at a certain time.
    later: Vec<(Instant, Key)>,
}

struct Knote {
    about: About,
    /// `EV_CLEAR`, `EV_ONESHOT`, `EV_DISPATCH`: from birth.
    mode: u32,
    udata: usize,
    is_disabled: bool,
    /// It had something to say when it last looked: this. Kept when it is disabled, until it is enabled.
    active: Option<Answer>,
    /// It is in the list.
    is_ready: bool,
}

/// What a knote asks about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum About {
    Tcp {
        is_listener: bool,
    },
    LocalStream,
    PipeReader,
    PipeWriter,
    Queue,
    /// Datagram sockets, terminals and all the rest.
    Other,
    /// `EVFILT_USER`.
    Trigger {
        pulled: bool,
    },
    /// `EVFILT_TIMER`.
    Timer {
        next: Instant,
        period: Duration,
    },
}

/// What a knote has to say.
#[derive(Clone, Copy, Default)]
struct Answer {
    /// `EV_EOF`, or none.
    flags: u32,
    fflags: u32,
    data: i64,
}

impl Answer {
    fn data(data: i64) -> Answer {
        Answer { data, ..Answer::default() }
    }

    fn end(fflags: u32, data: i64) -> Answer {
        Answer { flags: EV_EOF, fflags, data }
    }
}

impl Kernel {
    /// Runs `work` under the lock, without signals.
    fn run<T>(work: impl FnOnce(&mut Kernel) -> T) -> T {
        let _no_signals = NoSignals::new();
        work(&mut KERNEL.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// As `run`, with a queue that is taken out meanwhile.
    fn with<T>(kq: Fd, work: impl FnOnce(&mut Kernel, &mut Queue) -> Result<T>) -> Result<T> {
        Kernel::run(|kernel| {
            let mut queue = kernel.take(kq).ok_or(EBADF)?;
            let result = work(kernel, &mut queue);
            kernel.put_back(kq, queue);
            result
        })
    }

    fn take(&mut self, kq: Fd) -> Option<Queue> {
        self.queues.get_mut(kq as usize)?.take()
    }

    fn put_back(&mut self, kq: Fd, mut queue: Queue) {
        if queue.is_marked == queue.ready.is_empty() {
            queue.is_marked = !queue.is_marked;
            linux::set_counter(queue.mark, queue.is_marked);
        }
        self.queues[kq as usize] = Some(queue);
    }

    fn open(&mut self) -> Result<Fd> {
        let mut fds = Vec::new();
        let made = Kernel::open_all(&mut fds);
        if let Err(errno) = made {
            for fd in fds {
                linux::close(fd)?;
            }
            return Err(errno);
        }
        let (kq, epolls, mark) = (fds[0], [fds[1], fds[2]], fds[3]);
        let place = kq as usize;
        if self.queues.len() <= place {
            self.queues.resize_with(place + 1, || None);
        }
        self.queues[place] = Some(Queue {
            epolls,
            mark,
            is_marked: false,
            knotes: BTreeMap::new(),
            ready: VecDeque::new(),
            later: Vec::new(),
        });
        Ok(kq)
    }

    /// The queue's own descriptor first.
    fn open_all(fds: &mut Vec<Fd>) -> Result<()> {
        for make in [linux::epoll, linux::epoll, linux::epoll, linux::counter] {
            fds.push(make()?);
        }
        fds[1..].iter().try_for_each(|&fd| linux::watch(fds[0], fd, linux::POLLIN, true))
    }

    /// Deletes the knotes about the descriptor from each queue, and closes it.
    fn close(&mut self, fd: Fd) -> Result<()> {
        if let Some(queue) = self.take(fd) {
            for fd in [queue.epolls[0], queue.epolls[1], queue.mark] {
                linux::close(fd)?;
            }
        }
        for queue in self.queues.iter_mut().flatten() {
            for filter in [Filter::Read, Filter::Write] {
                queue.delete((filter, fd as usize));
            }
        }
        for filter in [Filter::Read, Filter::Write] {
            self.under_way.forget(filter, fd);
        }
        linux::close(fd).map(drop)
    }

    /// Has each knote that waits to write look when there will be room.
    fn look_later(&mut self, fd: Fd) {
        let Some(until) = self.under_way.until(Filter::Write, fd) else { return };
        let key = (Filter::Write, fd as usize);
        for queue in self.queues.iter_mut().flatten().filter(|queue| queue.knotes.contains_key(&key)) {
            queue.wait_for(until, key);
            // A thread that sleeps must know.
            linux::set_counter(queue.mark, true);
            queue.is_marked = true;
        }
    }

    /// How many events a queue has that is watched by another one.
    fn count(&mut self, kq: Fd) -> i64 {
        let Some(mut queue) = self.take(kq) else { return 0 };
        queue.hear(self);
        let mut count = 0;
        for _ in 0..queue.ready.len() {
            if let Some((key, _)) = queue.next(self) {
                count += 1;
                queue.push(key);
            }
        }
        self.put_back(kq, queue);
        count
    }
}

impl Queue {
    fn epoll(&self, filter: Filter) -> Fd {
        self.epolls[filter as usize]
    }

    /// Lets each knote look that there is news for.
    fn hear(&mut self, kernel: &mut Kernel) {
        let now = Instant::now();
        while let Some(due) = self.later.iter().position(|(when, _)| *when <= now) {
            let (_, key) = self.later.swap_remove(due);
            self.look(key, kernel);
        }
        for filter in [Filter::Read, Filter::Write] {
            while let Some(fd) = linux::news(self.epoll(filter)) {
                if !(filter == Filter::Write && self.misses_end(fd)) {
                    self.look((filter, fd as usize), kernel);
                }
            }
        }
    }

    /// Some systems wake whoever waits for room in a pipe before they note that the reader has gone.
    fn misses_end(&self, fd: Fd) -> bool {
        let knote = self.knotes.get(&(Filter::Write, fd as usize));
        system().full_pipe_misses_end
            && knote.is_some_and(|knote| knote.about == About::PipeWriter)
            && linux::state(fd) & (linux::POLLOUT | linux::POLLERR) == linux::POLLERR
    }

    /// A knote looks, and is ready if it has something to say.
    fn look(&mut self, key: Key, kernel: &mut Kernel) {
        if let Some(answer) = self.ask(key, kernel) {
            if let Some(knote) = self.knotes.get_mut(&key) {
                knote.active = Some(answer);
            }
            self.push(key);
        }
    }

    /// What a knote sees, unless it will be there only later.
    fn ask(&mut self, key: Key, kernel: &mut Kernel) -> Option<Answer> {
        let knote = self.knotes.get(&key)?;
        let answer = knote.look(key, kernel);
        let (filter, fd) = (key.0, key.1 as Fd);
        let later = match knote.about {
            About::Queue if answer.is_some() => None,
            About::Queue => kernel.queues[fd as usize].as_ref()?.next_look(),
            About::Trigger { .. } => None,
            About::Timer { next, .. } => answer.is_none().then_some(next),
            _ => answer.and_then(|_| kernel.under_way.until(filter, fd)),
        };
        match later {
            None => answer,
            Some(when) => {
                self.wait_for(when, key);
                None
            }
        }
    }

    fn wait_for(&mut self, when: Instant, key: Key) {
        if !self.later.contains(&(when, key)) {
            self.later.push((when, key));
        }
    }

    fn next_look(&self) -> Option<Instant> {
        self.later.iter().map(|(when, _)| *when).min()
    }

    /// Puts an active knote at the end of the list, if it is not disabled.
    fn push(&mut self, key: Key) {
        if let Some(knote) = self.knotes.get_mut(&key) {
            if knote.active.is_some() && !knote.is_disabled && !knote.is_ready {
                knote.is_ready = true;
                self.ready.push_back(key);
            }
        }
    }

    /// Takes the first out of the list. If it has nothing to say any more it is inactive again.
    fn next(&mut self, kernel: &mut Kernel) -> Option<(Key, Answer)> {
        let key = self.ready.pop_front()?;
        let knote = self.knotes.get_mut(&key)?;
        knote.is_ready = false;
        if knote.is_disabled {
            return None;
        }
        let answer = match knote.mode & EV_ONESHOT == 0 || system().one_shot_looks_again {
            true => self.ask(key, kernel),
            false => knote.active,
        };
        self.knotes.get_mut(&key)?.active = answer;
        Some((key, answer?))
    }

    /// What the first of the list has to say. Then its mode decides.
    fn event(&mut self, kernel: &mut Kernel) -> Option<Record> {
        let (key, answer) = self.next(kernel)?;
        let knote = self.knotes.get_mut(&key)?;
        let (filter, ident) = key;
        let mut flags = EV_ADD | EV_RECEIPT | knote.mode | answer.flags;
        if knote.about == About::PipeWriter && filter == Filter::Write && answer.flags & EV_EOF != 0 {
            flags |= if system().broken_pipe_drops_knote { EV_ONESHOT } else { 0 };
        }
        let Answer { fflags, data, .. } = answer;
        let record =
            Record { ident, filter: system().number(filter), flags, fflags, data, udata: knote.udata };
        if flags & EV_ONESHOT != 0 {
            self.delete(key);
        } else if flags & EV_CLEAR != 0 {
            knote.active = None;
            match &mut knote.about {
                About::Trigger { pulled } => *pulled = false,
                About::Timer { next, period } => {
                    *next += *period * data as u32;
                    let next = *next;
                    self.wait_for(next, key);
                }
                _ => {}
            }
        } else if flags & EV_DISPATCH != 0 {
            knote.active = None;
            knote.is_disabled = true;
        } else {
            self.push(key);
        }
        Some(record)
    }

    /// Carries out one change.
    fn change(&mut self, change: &Record, kernel: &mut Kernel) -> Result<()> {
        let filter = system().filter(change.filter).ok_or(EINVAL)?;
        let key = (filter, change.ident);
        let asks = |flag| change.flags & flag != 0;
        if filter.is_about_descriptor() && !linux::is_open(change.ident as Fd) {
            return Err(if asks(EV_ADD) { EBADF } else { system().not_open });
        }
        match self.knotes.get_mut(&key) {
            None if asks(EV_ADD) && !asks(EV_DELETE) => self.add(key, change, kernel)?,
            None => return Err(ENOENT),
            Some(_) if asks(EV_DELETE) => {
                self.delete(key);
                return Ok(());
            }
            // Added again, it starts again.
            Some(knote) if filter == Filter::Timer && asks(EV_ADD) => knote.about = About::timer(change)?,
            Some(knote) => knote.modify(filter, change),
        }
        if let Some(knote) = self.knotes.get_mut(&key) {
            if asks(EV_DISABLE) {
                knote.is_disabled = true;
            } else if asks(EV_ENABLE) {
                knote.is_disabled = false;
            }
        }
        self.look(key, kernel);
        self.push(key);
        Ok(())
    }

    fn add(&mut self, key: Key, change: &Record, kernel: &Kernel) -> Result<()> {
        let (filter, ident) = key;
        let fd = ident as Fd;
        let about = match filter {
            Filter::User => {
                let pulled = change.fflags & NOTE_TRIGGER != 0 && system().trigger_at_birth;
                About::Trigger { pulled }
            }
            Filter::Timer => About::timer(change)?,
            _ => About::of(fd, kernel),
        };
        if about == About::PipeWriter && filter == Filter::Write && linux::state(fd) & linux::POLLERR != 0 {
            if let Some(errno) = system().add_to_broken_pipe {
                return Err(errno);
            }
        }
        if about == About::Queue && filter == Filter::Write {
            return Err(EINVAL);
        }
        match filter {
            Filter::Read => linux::watch(self.epoll(filter), fd, linux::POLLIN | linux::POLLRDHUP, false),
            Filter::Write => linux::watch(self.epoll(filter), fd, linux::POLLOUT, false),
            Filter::User | Filter::Timer => Ok(()),
        }
        // What epoll cannot watch, a regular file, can be watched by some of these systems, but not here.
        .map_err(|Errno(_)| EINVAL)?;
        let mut mode = change.flags & (EV_CLEAR | EV_ONESHOT | EV_DISPATCH);
        mode |= if filter == Filter::Timer { EV_CLEAR } else { 0 };
        let udata = change.udata;
        let knote = Knote { about, mode, udata, is_disabled: false, active: None, is_ready: false };
        self.knotes.insert(key, knote);
        // Room for all: a knote that becomes ready takes no memory, for that may happen in a signal handler.
        self.ready.reserve(2 * self.knotes.len());
        Ok(())
    }

    fn delete(&mut self, key: Key) {
        let (filter, ident) = key;
        if self.knotes.remove(&key).is_some() {
            self.ready.retain(|ready| *ready != key);
            self.later.retain(|(_, later)| *later != key);
            if filter.is_about_descriptor() {
                linux::unwatch(self.epoll(filter), ident as Fd);
            }
        }
    }
}

impl Knote {
    /// `EV_ADD` or less of one that exists: everything but the mode is as the change has it.
    fn modify(&mut self, filter: Filter, change: &Record) {
        let pull = change.fflags & NOTE_TRIGGER != 0;
        if filter != Filter::User || !pull || system().trigger_sets_udata {
            self.udata = change.udata;
        }
        if let About::Trigger { pulled } = &mut self.about {
            *pulled |= pull;
            *pulled &= !(change.flags & EV_CLEAR != 0 && system().clear_undoes_trigger);
        }
    }

    /// What it has to say at this moment, if anything.
    fn look(&self, (filter, ident): Key, kernel: &mut Kernel) -> Option<Answer> {
        let fd = ident as Fd;
        let state = linux::state(fd);
        let is = |bits: c_short| state & bits != 0;
        let read = filter == Filter::Read;
        match self.about {
            About::Tcp { is_listener } => look_at_tcp(fd, read, is_listener),
            About::LocalStream if is(linux::POLLHUP) || read && is(linux::POLLRDHUP) => {
                let error = if is(linux::POLLERR) { ECONNRESET } else { 0 };
                Some(Answer::end(error, if read { linux::unread(fd) } else { 0 }))
            }
            About::PipeReader if read && is(linux::POLLHUP) => Some(Answer::end(0, linux::unread(fd))),
            About::PipeReader if !read => None,
            About::PipeWriter if read => is(linux::POLLERR).then_some(Answer::end(0, 0)),
            About::PipeWriter if is(linux::POLLERR) => Some(Answer::end(0, 0)),
            About::Queue if read => Some(Answer::data(kernel.count(fd))).filter(|answer| answer.data > 0),
            About::Trigger { pulled } => pulled.then_some(Answer::default()),
            About::Timer { next, period } => {
                let late = Instant::now().checked_duration_since(next)?;
                Some(Answer::data(1 + (late.as_millis() / period.as_millis()) as i64))
            }
            _ if read => is(linux::POLLIN | linux::POLLERR).then(|| Answer::data(linux::unread(fd))),
            // Nobody counts on how much room there is.
            _ => is(linux::POLLOUT | linux::POLLERR).then_some(Answer::data(4096)),
        }
    }
}

fn look_at_tcp(fd: Fd, read: bool, is_listener: bool) -> Option<Answer> {
    const SYN_SENT: u8 = 2;
    const SYN_RECV: u8 = 3;
    const FIN_WAIT1: u8 = 4;
    const FIN_WAIT2: u8 = 5;
    const TIME_WAIT: u8 = 6;
    const CLOSE: u8 = 7;
    const LAST_ACK: u8 = 9;
    const LISTEN: u8 = 10;
    const CLOSING: u8 = 11;

    let info = linux::tcp_info(fd);
    let state = linux::state(fd);
    let is = |bits: c_short| state & bits != 0;
    match info.state {
        SYN_SENT | SYN_RECV => None,
        LISTEN => {
            let waiting = info.unacked.into();
            (read && is_listener && waiting > 0).then_some(Answer::data(waiting))
        }
        // Never connected, nor refused.
        CLOSE if !is(linux::POLLRDHUP) => None,
        CLOSE => {
            // The error is not asked for, for then it would be gone.
            let error = match (is(linux::POLLERR), info.rtt) {
                (false, _) => 0,
                (true, 0) => ECONNREFUSED,
                (true, _) => ECONNRESET,
            };
            Some(Answer::end(error, if read { linux::unread(fd) } else { 0 }))
        }
        _ if read => {
            let unread = linux::unread(fd);
            match is(linux::POLLRDHUP) {
                true => Some(Answer::end(0, unread)),
                false => (unread > 0).then_some(Answer::data(unread)),
            }
        }
        FIN_WAIT1 | FIN_WAIT2 | TIME_WAIT | LAST_ACK | CLOSING => Some(Answer::end(0, 0)),
        // Nobody counts on how much room there is.
        _ => is(linux::POLLOUT).then_some(Answer::data(4096)),
    }
}

impl About {
    fn timer(change: &Record) -> Result<About> {
        if change.fflags != 0 {
            return Err(EINVAL); // another unit
        }
        let period = Duration::from_millis(change.data.max(1) as u64);
        Ok(About::Timer { next: Instant::now() + period, period })
    }

    fn of(fd: Fd, kernel: &Kernel) -> About {
        if matches!(kernel.queues.get(fd as usize), Some(Some(_))) {
            return About::Queue;
        }
        if linux::file(fd).metadata().is_ok_and(|metadata| metadata.file_type().is_fifo()) {
            return if linux::is_write_only(fd) { About::PipeWriter } else { About::PipeReader };
        }
        match linux::socket(fd) {
            Some(Socket { is_stream: true, is_local: true }) => About::LocalStream,
            Some(Socket { is_stream: true, .. }) => {
                const LISTEN: u8 = 10;
                let listens = linux::tcp_info(fd).state == LISTEN;
                About::Tcp { is_listener: listens || !system().listener_from_birth }
            }
            _ => About::Other,
        }
    }
}

impl System {
    fn filter(&self, number: i32) -> Option<Filter> {
        match number {
            _ if number == self.read => Some(Filter::Read),
            _ if number == self.write => Some(Filter::Write),
            _ if Some(number) == self.user => Some(Filter::User),
            _ if number == self.timer => Some(Filter::Timer),
            _ => None,
        }
    }

    fn number(&self, filter: Filter) -> i32 {
        match filter {
            Filter::Read => self.read,
            Filter::Write => self.write,
            Filter::User => self.user.unwrap_or(0),
            Filter::Timer => self.timer,
        }
    }
}

/// The two lists of a call.
struct Lists {
    changes: *const u8,
    change_count: usize,
    events: *mut u8,
    room: usize,
}

impl Lists {
    /// The whole of `kevent`: first the changes, then the events.
    unsafe fn serve(&self, kq: Fd, timeout: Option<Timespec>) -> Result<usize> {
        let deadline = match timeout {
            None => None,
            Some(Timespec { seconds, nanoseconds }) => {
                if seconds < 0
                    || seconds > system().longest_wait
                    || !(0..1_000_000_000).contains(&nanoseconds)
                {
                    return Err(EINVAL);
                }
                Instant::now().checked_add(Duration::new(seconds as u64, nanoseconds as u32))
            }
        };
        let no_signals = NoSignals::new();
        // SAFETY: as the caller promised.
        let receipts = unsafe { self.carry_out(kq)? };
        if receipts > 0 || self.room == 0 {
            return Ok(receipts);
        }
        loop {
            let (count, next_look) = Kernel::with(kq, |kernel, queue| {
                queue.hear(kernel);
                let mut count = 0;
                // Each that is ready now has one turn: a level one goes to the end of the list.
                for _ in 0..queue.ready.len() {
                    if count == self.room {
                        break;
                    }
                    if let Some(event) = queue.event(kernel) {
                        // SAFETY: `count` is less than `room`.
                        unsafe { system().layout.write(self.events, count, event) };
                        count += 1;
                    }
                }
                Ok((count, queue.next_look()))
            })?;
            if count > 0 {
                slow::linger();
                return Ok(count);
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Ok(0);
            }
            // Or until somebody has to look.
            let next_look = next_look.map(|when| when.saturating_duration_since(Instant::now()));
            let left = left.into_iter().chain(next_look).min().map(|left| Timespec {
                seconds: left.as_secs() as i64,
                nanoseconds: left.subsec_nanos().into(),
            });
            linux::sleep(kq, left, &no_signals.before)?;
        }
    }

    /// Carries out the changes and returns how many receipts it wrote. Between two changes other threads have their turn.
    unsafe fn carry_out(&self, kq: Fd) -> Result<usize> {
        let mut receipts = 0;
        for index in 0..self.change_count {
            // SAFETY: the caller has so many changes. Where both lists are the same, receipts do not run ahead.
            let change = unsafe { system().layout.read(self.changes, index) };
            let result = Kernel::with(kq, |kernel, queue| Ok(queue.change(&change, kernel)))?;
            let errno = match result {
                Err(Errno(errno)) => errno,
                Ok(()) if change.flags & EV_RECEIPT != 0 => 0,
                Ok(()) => continue,
            };
            if receipts == self.room {
                match system().receipt_without_room {
                    _ if errno != 0 => return Err(Errno(errno)),
                    WithoutRoom::Drop => continue,
                    WithoutRoom::Stop => break,
                    WithoutRoom::Overflow => {
                        panic!("{} receipts and no room: memory is overwritten", index + 1)
                    }
                }
            }
            let kept = if system().receipts_keep_flags { change.flags } else { 0 };
            let receipt = Record { flags: kept | EV_ERROR, data: errno.into(), ..change };
            // SAFETY: there is room.
            unsafe { system().layout.write(self.events, receipts, receipt) };
            receipts += 1;
        }
        Ok(receipts)
    }
}

/// Calls fail with -1 and `errno`.
fn answer(result: Result<usize>) -> c_int {
    match result {
        Ok(value) => value as c_int,
        Err(errno) => {
            linux::set_errno(errno);
            -1
        }
    }
}

#[no_mangle]
pub extern "C" fn kqueue() -> c_int {
    answer(Kernel::run(Kernel::open).map(|kq| kq as usize))
}

#[no_mangle]
pub unsafe extern "C" fn kevent(
    kq: c_int,
    changes: *const u8,
    change_count: c_int,
    events: *mut u8,
    room: c_int,
    timeout: *const Timespec,
) -> c_int {
    // SAFETY: as the caller promised.
    unsafe { __kevent50(kq, changes, change_count.max(0) as usize, events, room.max(0) as usize, timeout) }
}

/// NetBSD's.
#[no_mangle]
pub unsafe extern "C" fn __kevent50(
    kq: c_int,
    changes: *const u8,
    change_count: usize,
    events: *mut u8,
    room: usize,
    timeout: *const Timespec,
) -> c_int {
    let lists = Lists { changes, change_count, events, room };
    // SAFETY: null, or a timeout.
    let timeout = unsafe { timeout.as_ref() }.copied();
    // SAFETY: as the caller promised.
    answer(unsafe { lists.serve(kq, timeout) })
}

#[no_mangle]
pub extern "C" fn close(fd: c_int) -> c_int {
    answer(Kernel::run(|kernel| kernel.close(fd)).map(|()| 0))
}
