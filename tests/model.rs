//! A long random walk through all that a program can do with a queue, against a model of what each poll may say and
//! what it must say.
//!
//! A walk that fails prints its seed and its last steps. `MINIMIO_SEED=seed cargo test --test model` walks it again, step
//! by step the same: each step throws its dice from the seed and its own number alone.
//!
//! * `MINIMIO_SEED`: walk this one only.
//! * `MINIMIO_STEPS`: how long a walk is.
//! * `MINIMIO_SECONDS`: go on with new seeds for so long.

mod util;

use minimio::{Events, Interests, Poll, Registrator, TcpStream, Token, Waker};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{self, Shutdown, SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use std::{env, fmt, thread};
use util::*;

#[test]
fn a_random_walk_meets_only_what_the_model_allows_and_all_that_it_demands() {
    let number = |name| env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let steps = number("MINIMIO_STEPS").unwrap_or(1000);
    if let Some(seed) = number("MINIMIO_SEED") {
        return Walk::new(seed).run(steps);
    }
    let end = number("MINIMIO_SECONDS").map(|s| Instant::now() + Duration::from_secs(s));
    let (mut walks, mut grew) = (0, 0);
    while end.map_or(walks < 4, |end| Instant::now() < end) {
        let seed = new_seed();
        println!("MINIMIO_SEED={}", seed);
        let (handles, bytes) = (open_handles(), BYTES.load(Ordering::Relaxed));
        Walk::new(seed).run(steps);
        walks += 1;
        // The first walk warms the process up.
        if walks > 1 {
            let left = open_handles();
            assert!(left <= handles, "{} handles before, {} after", handles, left);
            // The harness has notes of its own, now and then; a leak of ours is there every time.
            grew = if BYTES.load(Ordering::Relaxed) > bytes { grew + 1 } else { 0 };
            assert!(grew < 3, "the heap grows with each walk");
        }
    }
    println!("{} walks of {} steps", walks, steps);
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Another one each time: std's hash maps are keyed at random.
fn new_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

/// Random numbers (splitmix64): enough to choose steps.
struct Dice(u64);

impl Dice {
    /// The dice of one step.
    fn of_step(seed: u64, step: u64) -> Dice {
        let mut dice = Dice(seed ^ step.wrapping_mul(0xd605_1ba0_71af_9e2d));
        dice.next();
        dice
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of `0..sides`.
    fn roll(&mut self, sides: usize) -> usize {
        (self.next() % sides as u64) as usize
    }

    fn coin(&mut self) -> bool {
        self.roll(2) == 0
    }

    fn interests(&mut self) -> Interests {
        let direction = [READABLE, WRITABLE, READABLE | WRITABLE][self.roll(3)];
        match self.roll(3) {
            0 => direction,
            1 => direction | LEVEL,
            _ => direction | EDGE,
        }
    }
}

/// How many sources there are at most, how many wakers, how many queues.
const SOURCES: usize = 8;
const WAKERS: usize = 3;
const QUEUES: usize = 2;

/// As long as the peer has no more than this before it, the stream is certainly writable. With more it depends on the
/// system's buffers.
const CERTAINLY_ROOM: usize = 8192;

/// The peer never has more than this on its way, so that it never blocks.
const IN_FLIGHT: usize = 30_000;

/// How many spurious events in a row are bad luck. One more is a loop that spins.
const BAD_LUCK: u32 = 8;

enum Socket {
    Own(TcpStream),
    Stream(net::TcpStream),
    Listener(TcpListener),
    Datagrams(UdpSocket),
}

/// Runs one expression with whatever the socket is.
macro_rules! with_socket {
    ($socket:expr, $name:ident => $what:expr) => {
        match $socket {
            Socket::Own($name) => $what,
            Socket::Stream($name) => $what,
            Socket::Listener($name) => $what,
            Socket::Datagrams($name) => $what,
        }
    };
}

impl Socket {
    fn local_addr(&self) -> SocketAddr {
        with_socket!(self, socket => socket.local_addr().unwrap())
    }

    fn register(&self, to: &Registrator, token: Token, interests: Interests) -> io::Result<()> {
        with_socket!(self, socket => to.register(socket, token, interests))
    }

    fn reregister(&self, to: &Registrator, token: Token, interests: Interests) -> io::Result<()> {
        with_socket!(self, socket => to.reregister(socket, token, interests))
    }

    fn deregister(&self, from: &Registrator) -> io::Result<()> {
        with_socket!(self, socket => from.deregister(socket))
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self {
            Socket::Own(stream) => stream.shutdown(how),
            Socket::Stream(stream) => stream.shutdown(how),
            _ => unreachable!("only streams are shut down"),
        }
    }

    /// Whether there certainly is something to read, found out without the queue. A listener cannot be asked.
    fn peeks(&self) -> bool {
        let peeked = match self {
            Socket::Own(stream) => stream.peek(&mut [0]),
            Socket::Stream(stream) => stream.peek(&mut [0]),
            Socket::Datagrams(socket) => socket.peek(&mut [0; 64]),
            Socket::Listener(_) => return false,
        };
        !matches!(peeked, Err(error) if error.kind() == ErrorKind::WouldBlock)
    }

    /// Edge mode, on Windows, is for minimio's own streams.
    fn can_edge(&self) -> bool {
        matches!(self, Socket::Own(_)) || cfg!(not(windows))
    }
}

impl Read for &Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Own(stream) => (&*stream).read(buffer),
            Socket::Stream(stream) => (&*stream).read(buffer),
            _ => unreachable!("only streams are read"),
        }
    }
}

impl Write for &Socket {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Own(stream) => (&*stream).write(buffer),
            Socket::Stream(stream) => (&*stream).write(buffer),
            _ => unreachable!("only streams are written"),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The byte at this place of every stream.
fn pattern(place: usize) -> u8 {
    (place % 251) as u8
}

fn patterns(from: usize, length: usize) -> Vec<u8> {
    (from..from + length).map(pattern).collect()
}

/// What the model knows of one registration.
#[derive(Debug)]
struct Registration {
    queue: usize,
    token: Token,
    interests: Interests,
    /// One-shot: not yet reported since it was armed.
    armed: bool,
    /// Edge: it has become ready and was not reported since.
    owes_readable: bool,
    owes_writable: bool,
    /// How many more events without a reason are still bad luck.
    patience: u32,
}

/// One source, and what the model knows of it.
struct Source {
    socket: Socket,
    registration: Option<Registration>,
    /// The other end of a stream, until it is closed.
    peer: Option<net::TcpStream>,
    /// Bytes, connections or datagrams that were sent to it, and how many of them were read.
    sent: usize,
    read: usize,
    /// Bytes that it wrote, and how many of them the peer has read.
    written: usize,
    received: usize,
    /// The last read met `WouldBlock` (or there was nothing from the beginning), so edge mode owes the next arrival.
    drained: bool,
    /// The last write met `WouldBlock`, so edge mode owes the next room.
    blocked: bool,
    /// The peer will send no more.
    ended: bool,
    /// It will write no more itself.
    shut: bool,
    /// The connection was reset, or may have been: it wrote to a peer that was gone.
    reset: bool,
    may_be_reset: bool,
}

impl Source {
    fn new(socket: Socket, peer: Option<net::TcpStream>) -> Source {
        Source {
            socket,
            registration: None,
            peer,
            sent: 0,
            read: 0,
            written: 0,
            received: 0,
            drained: true,
            blocked: false,
            ended: false,
            shut: false,
            reset: false,
            may_be_reset: false,
        }
    }

    fn is_stream(&self) -> bool {
        matches!(self.socket, Socket::Own(_) | Socket::Stream(_))
    }

    /// It has dialled and nobody has accepted it yet. Some systems let it write, others call it not connected.
    fn is_dialling(&self) -> bool {
        self.is_stream() && self.peer.is_none() && !self.ended
    }

    /// Certainly readable; if not, it certainly is not.
    fn readable(&self) -> bool {
        self.sent > self.read || self.ended || self.reset
    }

    /// Certainly writable; if not, it may be all the same.
    fn writable(&self) -> bool {
        match self.socket {
            Socket::Listener(_) => false,
            _ => self.reset || self.written - self.received <= CERTAINLY_ROOM,
        }
    }

    /// Something was done to it or by its peer: it may be reported for that.
    fn touch(&mut self) {
        if let Some(registration) = &mut self.registration {
            registration.patience = BAD_LUCK;
        }
    }

    /// Something to read has arrived.
    fn arrived(&mut self) {
        let drained = std::mem::replace(&mut self.drained, false);
        if let Some(registration) = &mut self.registration {
            registration.owes_readable |= drained;
        }
        self.touch();
    }

    /// A read met `WouldBlock`.
    fn found_empty(&mut self) {
        // What is still on its way arrives later, and that will be news.
        let underway = self.readable();
        self.drained = !underway;
        if let Some(registration) = &mut self.registration {
            registration.owes_readable = underway;
        }
    }

    /// The peer has read, or the connection broke.
    fn found_room(&mut self) {
        if self.blocked && self.writable() {
            self.blocked = false;
            if let Some(registration) = &mut self.registration {
                registration.owes_writable = true;
            }
        }
        self.touch();
    }

    fn was_reset(&mut self) {
        self.reset = true;
        self.arrived();
        self.found_room();
    }

    /// Whether a poll of its queue must report it by and by. `certain` asks more: whether one that does not wait must.
    fn is_owed(&self, certain: bool) -> bool {
        let registration = match &self.registration {
            Some(registration) => registration,
            None => return false,
        };
        let interests = registration.interests;
        let readable = interests.is_readable() && self.readable();
        let writable = interests.is_writable() && self.writable();
        let (readable, writable) = if interests.is_edge() {
            let owes = registration;
            (readable && owes.owes_readable, writable && owes.owes_writable)
        } else {
            let silent = interests.is_oneshot() && !registration.armed;
            (readable && !silent, writable && !silent)
        };
        if certain {
            // The bytes may still be on their way through the system, even on loopback.
            readable && self.socket.peeks()
        } else {
            readable || writable
        }
    }

    /// One poll has said this of it.
    fn reported(&mut self, said: Said) {
        let readable = self.readable();
        let (ended, broken) = (self.ended, self.reset || self.may_be_reset);
        let all_read = self.sent == self.read;
        let (shut, is_listener) = (self.shut, matches!(self.socket, Socket::Listener(_)));
        let registration = self.registration.as_mut().expect("a registration");
        let interests = registration.interests;

        // Nothing that was not asked for, except along with an error or a hang-up.
        if !said.error && !said.write_closed {
            let asked = interests.is_readable() || !(said.readable || said.read_closed);
            assert!(asked, "readable was not asked for: {:?}", said);
            let asked = interests.is_writable() || !said.writable;
            assert!(asked, "writable was not asked for: {:?}", said);
        }
        assert!(said.readable || said.writable, "it says nothing: {:?}", said);
        // Nothing that is not true.
        assert!(ended || broken || !said.read_closed, "{:?}", said);
        assert!(shut || broken || !said.write_closed, "{:?}", said);
        assert!(broken || !said.error, "{:?}", said);
        assert!(!is_listener || !said.writable, "{:?}", said);
        // At the end it says so. (On Windows the answer may be older than the end.)
        let at_end = ended && all_read && !broken && interests.is_readable() && said.readable;
        assert!(!at_end || said.read_closed || cfg!(windows), "{:?}", said);

        let mut justified = interests.is_level()
            && (interests.is_readable() && readable || interests.is_writable() && !is_listener)
            || said.readable && registration.owes_readable
            || said.writable && registration.owes_writable;
        if interests.is_oneshot() {
            assert!(registration.armed, "a spent one-shot source: {:?}", said);
            registration.armed = false;
            justified = true;
        }
        // Edge mode owes the next event after the next `WouldBlock`.
        if said.readable {
            registration.owes_readable = false;
            self.drained = false;
        }
        if said.writable {
            registration.owes_writable = false;
            self.blocked = false;
        }
        if !justified {
            assert_ne!(registration.patience, 0, "reported again and again without a reason: {:?}", said);
            registration.patience -= 1;
        }
    }
}

/// A waker, and whether its event is still to come. The value may be gone by then.
struct Wake {
    waker: Option<Waker>,
    queue: usize,
    token: Token,
    pending: bool,
}

/// What a poll has to report by and by: a source or a waker, by its token.
type Owed = Vec<Token>;

struct Walk {
    seed: u64,
    step: u64,
    polls: Vec<Poll>,
    sources: Vec<Option<Source>>,
    wakes: Vec<Wake>,
    /// Peers of sources that were closed: they stay to make noise.
    ghosts: VecDeque<net::TcpStream>,
    tokens: usize,
    /// The buffer of the poll before, with what that left in it.
    events: Events,
    log: VecDeque<String>,
}

impl Drop for Walk {
    fn drop(&mut self) {
        if thread::panicking() {
            for line in &self.log {
                println!("{}", line);
            }
            println!(
                "failed at step {}. Walk it again: MINIMIO_SEED={} cargo test --test model",
                self.step, self.seed
            );
        }
    }
}

impl Walk {
    fn new(seed: u64) -> Walk {
        let listener = listener();
        listener.set_nonblocking(true).unwrap();
        let datagrams = UdpSocket::bind(localhost()).unwrap();
        datagrams.set_nonblocking(true).unwrap();
        let mut sources: Vec<_> = (0..SOURCES).map(|_| None).collect();
        sources[0] = Some(Source::new(Socket::Listener(listener), None));
        sources[1] = Some(Source::new(Socket::Datagrams(datagrams), None));
        Walk {
            seed,
            step: 0,
            polls: (0..QUEUES).map(|_| Poll::new().unwrap()).collect(),
            sources,
            wakes: Vec::new(),
            ghosts: VecDeque::new(),
            tokens: 0,
            events: Events::new(),
            log: VecDeque::new(),
        }
    }

    fn run(mut self, steps: u64) {
        while self.step < steps {
            let mut dice = Dice::of_step(self.seed, self.step);
            self.take_step(&mut dice);
            self.step += 1;
        }
        self.settle(&mut Dice::of_step(self.seed, steps));
    }

    fn note(&mut self, what: fmt::Arguments<'_>) {
        const KEPT: usize = 80;
        if self.log.len() == KEPT {
            self.log.pop_front();
        }
        self.log.push_back(format!("{}: {}", self.step, what));
    }

    /// A token that was never used before. It is anything from the smallest to the largest.
    fn new_token(&mut self) -> Token {
        self.tokens += 1;
        // Odd, so each number comes once: small ones, large ones.
        match self.tokens % 3 {
            0 => self.tokens,
            1 => usize::MAX - self.tokens,
            _ => usize::MAX / 2 + self.tokens,
        }
    }

    fn take_step(&mut self, dice: &mut Dice) {
        let slot = dice.roll(SOURCES);
        match dice.roll(100) {
            0..=14 => self.register(slot, dice),
            15..=22 => self.reregister(slot, dice),
            23..=26 => self.deregister(slot),
            27 => self.register_nonsense(slot, dice),
            28..=29 => self.ask_the_wrong_queue(slot),
            30..=39 => self.send(slot, dice),
            40..=45 => self.read_some(slot, dice),
            46..=51 => self.read_all(slot),
            52..=55 => self.write_some(slot, dice),
            56 => self.fill(slot, dice),
            57..=59 => self.peer_reads(slot, dice),
            60..=61 => self.half_close(slot),
            62 => self.close_peer(slot),
            63 => self.reset(slot),
            64 => self.shut(slot),
            65..=66 => self.close(slot, dice),
            67..=73 => self.open(slot, dice),
            74..=76 => self.wake(dice),
            77 => self.new_waker(dice),
            78 => self.drop_waker(dice),
            79 if dice.roll(5) == 0 => self.end_queue(dice),
            80..=94 => self.poll_once(dice),
            _ => self.settle(dice),
        }
    }

    // Registering.

    fn register(&mut self, slot: usize, dice: &mut Dice) {
        let (token, interests) = (self.new_token(), dice.interests());
        let queue = dice.roll(QUEUES);
        let Walk { sources, polls, .. } = self;
        let source = match &mut sources[slot] {
            Some(source) => source,
            None => return,
        };
        // One queue at a time: to move it, it is deregistered first.
        let queue = source.registration.as_ref().map_or(queue, |r| r.queue);
        let registrator = polls[queue].registrator();
        let result = source.socket.register(&registrator, token, interests);
        self.registered(slot, queue, token, interests, result, "register");
    }

    fn reregister(&mut self, slot: usize, dice: &mut Dice) {
        let (token, interests) = (self.new_token(), dice.interests());
        let Walk { sources, polls, .. } = self;
        let source = match &mut sources[slot] {
            Some(source) => source,
            None => return,
        };
        match source.registration.as_ref().map(|r| r.queue) {
            None => {
                let registrator = polls[dice.roll(QUEUES)].registrator();
                let result = source.socket.reregister(&registrator, token, READABLE);
                expect_kind(result, ErrorKind::NotFound);
            }
            Some(queue) => {
                let registrator = polls[queue].registrator();
                let result = source.socket.reregister(&registrator, token, interests);
                self.registered(slot, queue, token, interests, result, "reregister");
            }
        }
    }

    fn registered(
        &mut self,
        slot: usize,
        queue: usize,
        token: Token,
        interests: Interests,
        result: io::Result<()>,
        how: &str,
    ) {
        self.note(format_args!("{} source {} with queue {} as {}: {:?}", how, slot, queue, token, interests));
        let source = self.sources[slot].as_mut().unwrap();
        if interests.is_edge() && !source.socket.can_edge() {
            return expect_kind(result, ErrorKind::Unsupported);
        }
        result.unwrap();
        // Readiness is looked at anew.
        source.registration = Some(Registration {
            queue,
            token,
            interests,
            armed: true,
            owes_readable: source.readable(),
            owes_writable: source.writable(),
            patience: BAD_LUCK,
        });
        source.drained = !source.readable();
    }

    fn deregister(&mut self, slot: usize) {
        if let Some(source) = &mut self.sources[slot] {
            match source.registration.take() {
                Some(registration) => {
                    let registrator = self.polls[registration.queue].registrator();
                    source.socket.deregister(&registrator).unwrap();
                    self.note(format_args!("deregister source {}", slot));
                }
                None => {
                    let result = source.socket.deregister(&self.polls[0].registrator());
                    expect_kind(result, ErrorKind::NotFound);
                }
            }
        }
    }

    /// Bad interests change nothing.
    fn register_nonsense(&mut self, slot: usize, dice: &mut Dice) {
        let nonsense = [LEVEL, EDGE, LEVEL | EDGE, READABLE | WRITABLE | LEVEL | EDGE];
        let nonsense = nonsense[dice.roll(4)];
        if let Some(source) = &self.sources[slot] {
            let queue = source.registration.as_ref().map_or(0, |r| r.queue);
            let registrator = self.polls[queue].registrator();
            let result = source.socket.register(&registrator, 1, nonsense);
            expect_kind(result, ErrorKind::InvalidInput);
        }
    }

    /// A registration is known to its own queue only.
    fn ask_the_wrong_queue(&mut self, slot: usize) {
        if let Some(source) = &self.sources[slot] {
            if let Some(registration) = &source.registration {
                let wrong = self.polls[1 - registration.queue].registrator();
                expect_kind(source.socket.deregister(&wrong), ErrorKind::NotFound);
                let result = source.socket.reregister(&wrong, 1, READABLE);
                expect_kind(result, ErrorKind::NotFound);
            }
        }
    }

    // What happens on the sockets.

    /// Something to read: bytes, a datagram, a connection.
    fn send(&mut self, slot: usize, dice: &mut Dice) {
        let amount = 1 + dice.roll(5000);
        match &mut self.sources[slot] {
            Some(source) if source.is_stream() => {
                let underway = source.sent - source.read;
                if source.ended || source.reset || underway + amount > IN_FLIGHT {
                    return;
                }
                if let Some(peer) = &mut source.peer {
                    peer.write_all(&patterns(source.sent, amount)).unwrap();
                    source.sent += amount;
                    source.arrived();
                    self.note(format_args!("{} bytes to source {}", amount, slot));
                }
            }
            Some(source) if matches!(source.socket, Socket::Datagrams(_)) => {
                self.send_datagram(slot);
            }
            Some(_) => self.dial(dice),
            None => {}
        }
    }

    fn send_datagram(&mut self, slot: usize) {
        let source = self.sources[slot].as_mut().unwrap();
        if source.sent - source.read < 8 {
            let sender = UdpSocket::bind(localhost()).unwrap();
            let number = [pattern(source.sent)];
            sender.send_to(&number, source.socket.local_addr()).unwrap();
            source.sent += 1;
            source.arrived();
            self.note(format_args!("a datagram to source {}", slot));
        }
    }

    /// A new stream that connects to the listener. Its peer is there once somebody accepts it.
    fn dial(&mut self, dice: &mut Dice) {
        let address = self.listener().socket.local_addr();
        if let Some(free) = self.sources.iter().position(Option::is_none) {
            let stream = TcpStream::connect_nonblocking(address).unwrap();
            self.note(format_args!("source {} dials", free));
            self.sources[free] = Some(Source::new(Socket::Own(stream), None));
            let listener = self.listener();
            listener.sent += 1;
            listener.arrived();
            self.register(free, dice);
        }
    }

    fn listener(&mut self) -> &mut Source {
        self.sources[0].as_mut().unwrap()
    }

    /// Accepts one connection and returns whether there was one.
    fn accept(&mut self) -> bool {
        let source = self.listener();
        let accepted = match &source.socket {
            Socket::Listener(listener) => listener.accept(),
            _ => unreachable!("the first source is the listener"),
        };
        source.touch();
        match accepted {
            Ok((peer, address)) => {
                source.read += 1;
                peer.set_nonblocking(false).unwrap();
                peer.set_read_timeout(Some(DEADLINE)).unwrap();
                peer.set_write_timeout(Some(DEADLINE)).unwrap();
                let mut dialled = self.sources.iter_mut().flatten().skip(2);
                // Who has a peer may have the same port: what tells two connections apart is both their ends.
                let dialled = dialled.find(|s| s.is_dialling() && s.socket.local_addr() == address);
                dialled.expect("who dialled waits").peer = Some(peer);
                true
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                source.found_empty();
                false
            }
        }
    }

    fn read_some(&mut self, slot: usize, dice: &mut Dice) {
        let amount = 1 + dice.roll(3000);
        self.read(slot, amount);
    }

    fn read_all(&mut self, slot: usize) {
        while self.read(slot, 4096) {}
    }

    /// Reads once. Returns whether there may be more.
    fn read(&mut self, slot: usize, amount: usize) -> bool {
        let source = match &mut self.sources[slot] {
            Some(source) => source,
            None => return false,
        };
        let mut buffer = vec![0; amount];
        let result = match &source.socket {
            Socket::Listener(_) => return self.accept(),
            Socket::Datagrams(socket) => socket.recv(&mut buffer),
            _ => (&source.socket).read(&mut buffer),
        };
        source.touch();
        let broken = source.reset || source.may_be_reset;
        let more = match &result {
            Ok(0) => {
                assert!(source.ended || broken, "an end that nobody made");
                assert!(broken || source.sent == source.read, "bytes are missing");
                false
            }
            Ok(n) => {
                assert_eq!(buffer[..*n], patterns(source.read, *n)[..]);
                source.read += if source.is_stream() { *n } else { 1 };
                assert!(source.read <= source.sent, "more than was sent");
                true
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                source.found_empty();
                false
            }
            Err(error) => {
                assert!(broken, "{}", error);
                // A reset may take away what was on its way.
                source.read = source.sent;
                source.ended = true;
                false
            }
        };
        self.note(format_args!("read of source {}: {:?}", slot, result));
        more
    }

    fn write_some(&mut self, slot: usize, dice: &mut Dice) {
        let amount = 1 + dice.roll(2000);
        self.write(slot, amount);
    }

    /// Until nothing more goes in.
    fn fill(&mut self, slot: usize, dice: &mut Dice) {
        if dice.coin() {
            while self.write(slot, 1 << 16) {}
        }
    }

    /// Writes once. Returns whether there may be room for more.
    fn write(&mut self, slot: usize, amount: usize) -> bool {
        let source = match &mut self.sources[slot] {
            Some(source) if source.is_stream() && !source.shut => source,
            _ => return false,
        };
        let result = (&source.socket).write(&patterns(source.written, amount));
        source.touch();
        let more = match &result {
            Ok(n) => {
                source.written += n;
                // Nobody accepts the bytes: the answer will be a reset. A peer that only dials is still to come.
                let gone = source.ended && source.peer.is_none();
                source.may_be_reset |= gone;
                !gone
            }
            Err(error)
                if error.kind() == ErrorKind::WouldBlock
                    || error.kind() == ErrorKind::NotConnected && source.is_dialling() =>
            {
                source.blocked = true;
                if let Some(registration) = &mut source.registration {
                    registration.owes_writable = false;
                }
                false
            }
            Err(error) => {
                assert!(source.reset || source.may_be_reset, "{}", error);
                false
            }
        };
        if !more || amount < 1 << 16 {
            self.note(format_args!("write to source {}: {:?}", slot, result));
        }
        more
    }

    fn peer_reads(&mut self, slot: usize, dice: &mut Dice) {
        if let Some(source) = &mut self.sources[slot] {
            let there = source.written - source.received;
            if let Some(peer) = source.peer.as_mut().filter(|_| there > 0 && !source.reset) {
                let amount = if dice.coin() { there } else { 1 + dice.roll(there) };
                let mut buffer = vec![0; amount];
                peer.read_exact(&mut buffer).unwrap();
                assert!(buffer == patterns(source.received, amount), "wrong bytes");
                source.received += amount;
                source.found_room();
                self.note(format_args!("the peer of {} reads {} bytes", slot, amount));
            }
        }
    }

    fn half_close(&mut self, slot: usize) {
        if let Some(source) = &mut self.sources[slot] {
            if let Some(peer) = source.peer.as_ref().filter(|_| !source.ended && !source.reset) {
                peer.shutdown(Shutdown::Write).unwrap();
                source.ended = true;
                source.arrived();
                self.note(format_args!("the peer of {} shuts down writing", slot));
            }
        }
    }

    fn close_peer(&mut self, slot: usize) {
        match &self.sources[slot] {
            // Some systems answer by a reset what it did not read, others in good order: let it be a reset.
            Some(source) if source.written > source.received => return self.reset(slot),
            _ => {}
        }
        if let Some(source) = &mut self.sources[slot] {
            if let Some(peer) = source.peer.take() {
                drop(peer);
                source.ended = true;
                source.arrived();
                self.note(format_args!("the peer of {} closes", slot));
            }
        }
    }

    fn reset(&mut self, slot: usize) {
        if let Some(source) = &mut self.sources[slot] {
            if let Some(peer) = source.peer.take() {
                reset(peer);
                source.ended = true;
                source.was_reset();
                self.note(format_args!("the peer of {} resets the connection", slot));
            }
        }
    }

    fn shut(&mut self, slot: usize) {
        if let Some(source) = &mut self.sources[slot] {
            if source.is_stream() && source.peer.is_some() && !source.shut && !source.reset {
                source.socket.shutdown(Shutdown::Write).unwrap();
                source.shut = true;
                source.touch();
                self.note(format_args!("source {} shuts down writing", slot));
            }
        }
    }

    fn open(&mut self, slot: usize, dice: &mut Dice) {
        if self.sources[slot].is_none() {
            let source = if dice.coin() {
                let (stream, peer) = pair();
                Source::new(Socket::Own(stream), Some(peer))
            } else {
                let (stream, peer) = std_pair();
                Source::new(Socket::Stream(stream), Some(peer))
            };
            self.sources[slot] = Some(source);
            self.note(format_args!("open source {}", slot));
            self.register(slot, dice);
        }
    }

    fn close(&mut self, slot: usize, dice: &mut Dice) {
        if !self.sources[slot].as_ref().map_or(false, Source::is_stream) {
            return;
        }
        // Nobody hangs up before the call was taken: what the listener sees then differs between systems.
        let deadline = Instant::now() + DEADLINE;
        let waits = |walk: &Walk| walk.sources[slot].as_ref().unwrap().is_dialling();
        while waits(self) {
            assert!(Instant::now() < deadline, "nobody dialled");
            self.accept();
        }
        // On Windows a foreign socket may give one last event that was on its way.
        let source = self.sources[slot].as_ref().unwrap();
        let foreign = cfg!(windows) && matches!(source.socket, Socket::Stream(_));
        if foreign || dice.coin() {
            self.deregister(slot);
        }
        let source = self.sources[slot].take().unwrap();
        self.ghosts.extend(source.peer);
        if self.ghosts.len() > 4 {
            self.ghosts.pop_front();
        }
        self.note(format_args!("close source {}", slot));
    }

    // Waking and ending.

    fn new_waker(&mut self, dice: &mut Dice) {
        if self.wakes.len() < WAKERS {
            let (queue, token) = (dice.roll(QUEUES), self.new_token());
            let waker = Waker::new(&self.polls[queue].registrator(), token).unwrap();
            self.note(format_args!("new waker {} of queue {}", token, queue));
            self.wakes.push(Wake { waker: Some(waker), queue, token, pending: false });
        }
    }

    fn wake(&mut self, dice: &mut Dice) {
        if self.wakes.is_empty() {
            return self.new_waker(dice);
        }
        let chosen = dice.roll(self.wakes.len());
        let wake = &mut self.wakes[chosen];
        if let Some(waker) = &wake.waker {
            for _ in 0..=dice.roll(3) {
                waker.clone().wake().unwrap();
            }
            wake.pending = true;
            let token = wake.token;
            if dice.roll(3) == 0 {
                // A wake that was not delivered yet outlives its waker.
                wake.waker = None;
            }
            self.note(format_args!("wake {}", token));
        }
    }

    fn drop_waker(&mut self, dice: &mut Dice) {
        if !self.wakes.is_empty() {
            let chosen = dice.roll(self.wakes.len());
            self.wakes[chosen].waker = None;
            let token = self.wakes[chosen].token;
            self.note(format_args!("drop waker {}", token));
            self.forget_done_wakes();
        }
    }

    fn forget_done_wakes(&mut self) {
        self.wakes.retain(|wake| wake.waker.is_some() || wake.pending);
    }

    /// Ends a queue, by closing its loop or by dropping it, and begins another one. The sources outlive it.
    fn end_queue(&mut self, dice: &mut Dice) {
        let queue = dice.roll(QUEUES);
        self.note(format_args!("end queue {}", queue));
        let mut old = std::mem::replace(&mut self.polls[queue], Poll::new().unwrap());
        let registrator = old.registrator();
        if dice.coin() {
            registrator.close_loop().unwrap();
            expect_closed(old.poll(&mut self.events, None));
            assert!(self.events.is_empty());
        }
        drop(old);
        expect_closed(registrator.close_loop());
        for source in self.sources.iter_mut().flatten() {
            expect_closed(source.socket.register(&registrator, 1, READABLE));
            if source.registration.as_ref().map(|r| r.queue) == Some(queue) {
                source.registration = None;
            }
        }
        for wake in self.wakes.iter_mut().filter(|wake| wake.queue == queue) {
            if let Some(waker) = wake.waker.take() {
                waker.wake().unwrap();
            }
            wake.pending = false;
        }
        self.forget_done_wakes();
    }

    // Polling.

    /// What the queue has to report by and by. `certain`: at once, even if it does not wait.
    fn owed(&self, queue: usize, certain: bool) -> Owed {
        let registered = self.sources.iter().flatten().filter_map(|source| {
            let registration = source.registration.as_ref()?;
            (registration.queue == queue && source.is_owed(certain)).then_some(registration.token)
        });
        let wakes = self.wakes.iter().filter(|wake| wake.queue == queue && wake.pending);
        registered.chain(wakes.map(|wake| wake.token)).collect()
    }

    /// Whether a spent one-shot may take a place in the kernel's list, and leave it empty: kqueue has an entry for each of
    /// its directions, and the second may have something to say after the source was reported.
    fn has_spent_half(&self, queue: usize) -> bool {
        let is_spent_half = |registration: &Registration| {
            let interests = registration.interests;
            let both = interests.is_readable() && interests.is_writable();
            registration.queue == queue && interests.is_oneshot() && both && !registration.armed
        };
        let has_one_entry = cfg!(any(target_os = "linux", target_os = "android", windows));
        let registrations = self.sources.iter().flatten().filter_map(|source| source.registration.as_ref());
        !has_one_entry && registrations.into_iter().any(is_spent_half)
    }

    fn poll_once(&mut self, dice: &mut Dice) {
        let queue = dice.roll(QUEUES);
        let owed = !self.owed(queue, false).is_empty();
        let certain = !self.owed(queue, true).is_empty();
        let timeout = match dice.roll(6) {
            0 | 1 => Some(Duration::ZERO),
            2 => Some(Duration::from_micros(dice.roll(2000) as u64)),
            3 => Some(Duration::from_millis(dice.roll(3) as u64)),
            4 if certain => None,
            _ if owed => Some(DEADLINE),
            _ => Some(Duration::from_millis(1)),
        };
        self.poll(queue, dice, timeout);
    }

    /// Polls once and holds what it says against the model. Returns the tokens that it reported.
    fn poll(&mut self, queue: usize, dice: &mut Dice, timeout: Option<Duration>) -> Vec<Token> {
        // Registered a moment ago, a source may need a moment more on Windows.
        let certain = if cfg!(windows) { Vec::new() } else { self.owed(queue, true) };
        let may_be_short = self.has_spent_half(queue);
        // Ghosts make noise that nobody must hear.
        for ghost in &mut self.ghosts {
            let _ = ghost.write(b"boo");
        }
        if dice.coin() {
            self.events = Events::with_capacity([0, 1, 2, 5, 64][dice.roll(5)]);
        }
        let mut events = std::mem::take(&mut self.events);
        let poll = &mut self.polls[queue];
        let begin = Instant::now();
        let result = match timeout {
            // Only where something is there for certain.
            None => poll.poll(&mut events, None),
            Some(timeout) if timeout.subsec_nanos() % 1_000_000 == 0 && dice.coin() => {
                poll.poll(&mut events, Some(timeout.as_millis() as i32))
            }
            Some(timeout) => poll.poll_timeout(&mut events, timeout),
        };
        let took = begin.elapsed();
        self.note(format_args!(
            "poll of queue {} for {:?}, room for {}: {:?} {:?}",
            queue,
            timeout,
            events.capacity(),
            result,
            events
        ));
        let n = result.unwrap();
        assert_eq!(n, events.len());
        assert!(n <= events.capacity() && events.capacity() > 0);
        assert!(n > 0 || took >= timeout.expect("None waits for an event"));

        let mut seen: Vec<Token> = events.iter().map(|event| event.id()).collect();
        seen.sort_unstable();
        seen.dedup();
        for token in &seen {
            self.reported(queue, *token, said_of(&events, *token).unwrap());
        }
        if n < events.capacity() && !may_be_short {
            for token in certain {
                assert!(seen.contains(&token), "{} was ready and is missing", token);
            }
        }
        self.forget_done_wakes();
        self.events = events;
        seen
    }

    fn reported(&mut self, queue: usize, token: Token, said: Said) {
        if let Some(wake) = self.wakes.iter_mut().find(|wake| wake.token == token) {
            assert_eq!(wake.queue, queue, "a wake of another queue");
            assert!(wake.pending, "nobody woke {}", token);
            let readable = Said { readable: true, ..Said::default() };
            assert_eq!(said, readable, "of waker {}", token);
            wake.pending = false;
            return;
        }
        let source = self.sources.iter_mut().flatten().find(|source| {
            let registration = source.registration.as_ref();
            registration.map_or(false, |r| r.token == token && r.queue == queue)
        });
        source.unwrap_or_else(|| panic!("an old token, {}: {:?}", token, said)).reported(said);
    }

    /// Polls until all that is owed was reported.
    fn settle(&mut self, dice: &mut Dice) {
        self.note(format_args!("settle"));
        for queue in 0..QUEUES {
            let deadline = Instant::now() + DEADLINE;
            let mut owed = self.owed(queue, false);
            while !owed.is_empty() {
                let seen = self.poll(queue, dice, Some(DEADLINE));
                owed.retain(|token| !seen.contains(token));
                assert!(Instant::now() < deadline, "{:?} were not reported", owed);
            }
        }
    }
}
