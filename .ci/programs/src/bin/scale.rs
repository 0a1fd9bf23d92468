//! Many connections and registrations: `scale [CONNECTIONS]`.
//!
//! One process serves as many connections as the hard limit for descriptors allows, 20,000 at most unless it is told
//! another number. A second one, this program again, is the clients. All of it is one queue on each side:
//!
//! * a storm: all connect as fast as they can,
//! * all are idle but a few, which talk,
//! * all talk at once,
//! * slow readers, who leave megabytes unread while others talk,
//! * all close at once.
//!
//! Every message carries the number of its connection and its own, and both sides check that none is lost, doubled or out of
//! order. Then a thousand datagram sockets pass numbered datagrams round in a ring. At the end: what a poll costs with one active source among 10 to 100,000 registrations. What is printed are
//! measurements, not promises; what is asserted is that nothing is lost.

use minimio::{Event, Events, Interests, Poll, TcpListener, TcpStream, Token, UdpSocket};
use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::raw::c_int;
use std::os::unix::io::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const LEVEL: Interests = Interests::LEVEL;
const EDGE: Interests = Interests::EDGE;
const READABLE: Interests = Interests::READABLE;
const WRITABLE: Interests = Interests::WRITABLE;

/// A poll that takes longer has lost an event.
const SOON: Duration = Duration::from_secs(20);

/// How many talk while the others are idle, and how many round trips each.
const FEW: usize = 10;
const TALKS: usize = 1000;
/// How many messages each sends when all talk at once.
const MESSAGES: usize = 8;
/// Slow readers, and what each is sent.
const SLOW: usize = 20;
const SLOW_BYTES: usize = 8 << 20;

/// The system's allocator, counting.
struct Counting;

static HEAP: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HEAP.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        HEAP.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

extern "C" {
    fn getrlimit(resource: c_int, limit: *mut [u64; 2]) -> c_int;
    fn setrlimit(resource: c_int, limit: *const [u64; 2]) -> c_int;
    fn dup2(old: c_int, new: c_int) -> c_int;
}

/// Raises the soft limit for descriptors to the hard one, which it returns.
fn raise_limit() -> usize {
    const RLIMIT_NOFILE: c_int = 7;
    let mut limit = [0; 2];
    // SAFETY: the kernel writes the two numbers, soft and hard.
    assert_eq!(unsafe { getrlimit(RLIMIT_NOFILE, &mut limit) }, 0);
    limit[0] = limit[1];
    // SAFETY: the kernel reads the two numbers.
    assert_eq!(unsafe { setrlimit(RLIMIT_NOFILE, &limit) }, 0);
    limit[1] as usize
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn main() -> io::Result<()> {
    let limit = raise_limit();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, port, count] = &arguments[..] {
        assert_eq!(role, "clients");
        return Clients::new(port.parse().unwrap(), count.parse().unwrap()).run();
    }
    let wanted = arguments.first().map_or(20_000, |n| n.parse().unwrap());
    // Some descriptors are needed besides.
    let count = wanted.min(limit - 64);
    println!("{} connections; the hard limit is {} descriptors", count, limit);
    let before = (open_descriptors(), HEAP.load(Ordering::Relaxed));
    Server::new(count)?.run()?;
    assert_eq!(open_descriptors(), before.0, "descriptors leak");
    // What a process gets ready once may stay, but not a byte for each connection.
    let left = HEAP.load(Ordering::Relaxed).saturating_sub(before.1);
    assert!(left < count, "{} bytes of heap leak", left);
    datagrams(count.min(1000))?;
    assert_eq!(open_descriptors(), before.0, "descriptors leak");
    one_among_many()
}

/// A message: which connection, and its number there.
fn message(connection: usize, number: usize) -> [u8; 8] {
    ((connection as u64) << 32 | number as u64).to_le_bytes()
}

/// The number that asks for the bytes of a slow reader.
const SEND_MUCH: usize = u32::MAX as usize;

/// The bytes of a slow reader: each says its place.
fn much() -> Vec<u8> {
    (0..SLOW_BYTES).map(|place| (place % 251) as u8).collect()
}

/// One connection of the server: it sends back what comes.
struct Connection {
    stream: TcpStream,
    /// What is read and not yet a whole message.
    input: Vec<u8>,
    /// What could not be sent yet, from `sent` on.
    output: Vec<u8>,
    sent: usize,
    /// Its name on the other side, once it has spoken, and the number of its next message.
    name: Option<usize>,
    next: usize,
    waits_for_room: bool,
}

impl Connection {
    /// Reads what there is. Returns whether the other side has closed.
    fn read(&mut self, much: &[u8]) -> io::Result<bool> {
        let mut buffer = [0; 4096];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Ok(true),
                Ok(n) => {
                    self.input.extend_from_slice(&buffer[..n]);
                    self.answer(much);
                    if n < buffer.len() {
                        return Ok(false);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }

    fn answer(&mut self, much: &[u8]) {
        let whole = self.input.len() / 8 * 8;
        for bytes in self.input[..whole].chunks(8) {
            let word = u64::from_le_bytes(bytes.try_into().unwrap());
            let (name, number) = ((word >> 32) as usize, word as u32 as usize);
            assert_eq!(*self.name.get_or_insert(name), name, "another one's message");
            if number == SEND_MUCH {
                self.output.extend_from_slice(much);
            } else {
                assert_eq!(number, self.next, "a message is lost or doubled");
                self.next += 1;
                self.output.extend_from_slice(bytes);
            }
        }
        self.input.drain(..whole);
    }

    /// Writes what there is room for, and asks for more room if that was not all.
    fn write(&mut self, poll: &Poll, token: Token) -> io::Result<()> {
        while self.sent < self.output.len() {
            match self.stream.write(&self.output[self.sent..]) {
                Ok(n) => self.sent += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        let unsent = self.sent < self.output.len();
        if !unsent {
            self.output.clear();
            self.sent = 0;
        }
        if unsent != self.waits_for_room {
            self.waits_for_room = unsent;
            let interests = if unsent { READABLE | WRITABLE } else { READABLE };
            poll.registry().reregister(&self.stream, token, interests | LEVEL)?;
        }
        Ok(())
    }
}

struct Server {
    poll: Poll,
    events: Events,
    listener: TcpListener,
    connections: Vec<Option<Connection>>,
    count: usize,
    closed: usize,
    much: Vec<u8>,
    polls: usize,
    /// How often somebody had to wait for room.
    blocked: usize,
}

/// The listener, and the clients' answers.
const LISTENER: Token = usize::MAX;
const ANSWERS: Token = usize::MAX - 1;

impl Server {
    fn new(count: usize) -> io::Result<Server> {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        Ok(Server {
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            listener,
            connections: Vec::with_capacity(count),
            count,
            closed: 0,
            much: much(),
            polls: 0,
            blocked: 0,
        })
    }

    fn run(mut self) -> io::Result<()> {
        let mut clients = Command::new(std::env::current_exe()?)
            .arg("clients")
            .arg(self.listener.local_addr()?.port().to_string())
            .arg(self.count.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut orders = clients.stdin.take().unwrap();
        let mut answers = BufReader::new(clients.stdout.take().unwrap());
        self.poll.registry().register(&self.listener, LISTENER, READABLE | EDGE)?;
        self.poll.registry().register(answers.get_ref(), ANSWERS, READABLE | LEVEL)?;

        for order in ["storm", "few", "all", "slow", "close"] {
            let (begin, polls) = (Instant::now(), self.polls);
            orders.write_all(format!("{}\n", order).as_bytes())?;
            self.serve()?;
            let mut answer = String::new();
            answers.read_line(&mut answer)?;
            assert!(!answer.is_empty(), "the clients have failed");
            println!(
                "{:6} {:5.2} s, {:7} polls. {}",
                order,
                begin.elapsed().as_secs_f64(),
                self.polls - polls,
                answer.trim_end()
            );
            match order {
                "storm" => self.register_all()?,
                "slow" => {
                    println!("       {} times a connection had to wait for room", self.blocked);
                    assert!(self.blocked >= SLOW);
                }
                _ => {}
            }
        }
        while self.closed < self.count {
            self.serve_once()?;
        }
        assert!(clients.wait()?.success());
        let heard: Vec<_> = self.connections.iter().filter(|c| c.is_some()).collect();
        assert!(heard.is_empty(), "{} connections are left", heard.len());
        Ok(())
    }

    /// Serves until the clients say something.
    fn serve(&mut self) -> io::Result<()> {
        while !self.serve_once()? {}
        Ok(())
    }

    fn serve_once(&mut self) -> io::Result<bool> {
        let mut events = std::mem::take(&mut self.events);
        let n = self.poll.poll_timeout(&mut events, SOON)?;
        assert!(n > 0, "nothing happens any more");
        self.polls += 1;
        let mut answered = false;
        for event in &events {
            match event.id() {
                LISTENER => self.accept()?,
                ANSWERS => answered = true,
                token => self.talk(token, event)?,
            }
        }
        self.events = events;
        Ok(answered)
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => self.connections.push(Some(Connection {
                    stream,
                    input: Vec::new(),
                    output: Vec::new(),
                    sent: 0,
                    name: None,
                    next: 0,
                    waits_for_room: false,
                })),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn register_all(&mut self) -> io::Result<()> {
        while self.connections.len() < self.count {
            self.serve_once()?;
        }
        let (begin, heap) = (Instant::now(), HEAP.load(Ordering::Relaxed));
        for (token, connection) in self.connections.iter().flatten().enumerate() {
            self.poll.registry().register(&connection.stream, token, READABLE | LEVEL)?;
        }
        println!(
            "       {} registered, {} ns and {} bytes of heap each{}",
            self.count,
            begin.elapsed().as_nanos() / self.count as u128,
            (HEAP.load(Ordering::Relaxed) - heap) / self.count,
            kernel_memory()
        );
        Ok(())
    }

    fn talk(&mut self, token: Token, event: &Event) -> io::Result<()> {
        let connection = self.connections[token].as_mut().expect("closed ones are silent");
        let ended = event.is_readable() && connection.read(&self.much)?;
        let waited = connection.waits_for_room;
        connection.write(&self.poll, token)?;
        self.blocked += usize::from(connection.waits_for_room && !waited);
        if ended {
            // Not deregistered: closing is enough.
            self.connections[token] = None;
            self.closed += 1;
        }
        Ok(())
    }
}

/// What the kernel keeps for a registration, where it tells (to root).
fn kernel_memory() -> String {
    let slabs = std::fs::read_to_string("/proc/slabinfo").unwrap_or_default();
    let size = |name: &str| -> Option<usize> {
        let line = slabs.lines().find(|line| line.split(' ').next() == Some(name))?;
        line.split_ascii_whitespace().nth(3)?.parse().ok()
    };
    // The second one is often kept among others of its size, and then not told.
    match (size("eventpoll_epi"), size("eventpoll_pwq")) {
        (Some(entry), Some(hook)) => format!("; {} + {} bytes in the kernel", entry, hook),
        (Some(entry), None) => format!("; {} bytes in the kernel for its entry", entry),
        _ => String::new(),
    }
}

/// The other side.
struct Clients {
    poll: Poll,
    events: Events,
    port: u16,
    count: usize,
    streams: Vec<TcpStream>,
    /// The number of the next message of each, and of the next answer.
    said: Vec<usize>,
    heard: Vec<usize>,
}

impl Clients {
    fn new(port: u16, count: usize) -> Clients {
        Clients {
            poll: Poll::new().unwrap(),
            events: Events::with_capacity(1024),
            port,
            count,
            streams: Vec::with_capacity(count),
            said: vec![0; count],
            heard: vec![0; count],
        }
    }

    fn run(mut self) -> io::Result<()> {
        for order in io::stdin().lock().lines() {
            let answer = match &order?[..] {
                "storm" => self.storm()?,
                "few" => self.few()?,
                "all" => self.all()?,
                "slow" => self.slow()?,
                "close" => {
                    self.streams.clear();
                    println!("{} closed", self.count);
                    return Ok(());
                }
                order => panic!("{}", order),
            };
            println!("{}", answer);
        }
        Ok(())
    }

    fn wait(&mut self) -> io::Result<()> {
        let n = self.poll.poll_timeout(&mut self.events, SOON)?;
        assert!(n > 0, "nothing happens any more");
        Ok(())
    }

    fn storm(&mut self) -> io::Result<String> {
        // The kernel answers for the server until the listener's queue is full; who comes then knocks again a second later. That
        // is what a storm is like, and most of the time it takes.
        const AT_ONCE: usize = 100;
        let begin = Instant::now();
        let mut connected = 0;
        while connected < self.count {
            while self.streams.len() < self.count.min(connected + AT_ONCE) {
                let token = self.streams.len();
                // A port of ours is good for one connection to each address of the server.
                let host = Ipv4Addr::new(127, 0, 0, 1 + (token / 14_000) as u8);
                let stream = TcpStream::connect_nonblocking(SocketAddr::from((host, self.port)))?;
                self.poll.registry().register(&stream, token, WRITABLE)?;
                self.streams.push(stream);
            }
            self.wait()?;
            for event in &self.events {
                assert!(self.streams[event.id()].take_error()?.is_none());
                connected += 1;
            }
        }
        let rate = self.count as f64 / begin.elapsed().as_secs_f64();
        for (token, stream) in self.streams.iter().enumerate() {
            self.poll.registry().reregister(stream, token, READABLE)?;
        }
        Ok(format!("{} connected, {:.0} per second", self.count, rate))
    }

    fn say(&mut self, token: Token) -> io::Result<()> {
        let number = self.said[token];
        self.said[token] += 1;
        // Eight bytes fit.
        assert_eq!(self.streams[token].write(&message(token, number))?, 8);
        Ok(())
    }

    /// Reads the answers that have come, and arms it again.
    fn hear(&mut self, token: Token) -> io::Result<usize> {
        let mut buffer = [0; 8 * 64];
        let mut got = 0;
        // Whole messages only: what is sent at once on loopback comes at once, or the rest comes in a moment.
        match self.streams[token].peek(&mut buffer) {
            Ok(n) if n >= 8 => got = self.streams[token].read(&mut buffer[..n / 8 * 8])?,
            Ok(0) => panic!("the server has closed"),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        for bytes in buffer[..got].chunks(8) {
            assert_eq!(bytes, message(token, self.heard[token]), "lost or doubled");
            self.heard[token] += 1;
        }
        self.poll.registry().reregister(&self.streams[token], token, READABLE)?;
        Ok(got / 8)
    }

    fn few(&mut self) -> io::Result<String> {
        let begin = Instant::now();
        let few: Vec<usize> = (0..FEW).map(|n| n * self.count / FEW).collect();
        self.talk(&few, TALKS)?;
        let trip = begin.elapsed().as_micros() as usize / (few.len() * TALKS);
        Ok(format!("{} of {} talk, {} us each round trip", FEW, self.count, trip))
    }

    /// Round trips on some connections, side by side. Returns the longest.
    fn talk(&mut self, tokens: &[Token], times: usize) -> io::Result<Duration> {
        let mut asked = vec![Instant::now(); self.count];
        let mut longest = Duration::ZERO;
        let goal = self.heard.iter().sum::<usize>() + tokens.len() * times;
        let end: Vec<usize> = tokens.iter().map(|token| self.said[*token] + times).collect();
        for token in tokens {
            self.say(*token)?;
        }
        let mut heard: usize = self.heard.iter().sum();
        while heard < goal {
            self.wait()?;
            for event in self.events.clone() {
                let token = event.id();
                let got = self.hear(token)?;
                heard += got;
                if got > 0 {
                    longest = longest.max(asked[token].elapsed());
                    let place = tokens.iter().position(|t| *t == token).unwrap();
                    if self.said[token] < end[place] {
                        asked[token] = Instant::now();
                        self.say(token)?;
                    }
                }
            }
        }
        Ok(longest)
    }

    fn all(&mut self) -> io::Result<String> {
        let begin = Instant::now();
        for _ in 0..MESSAGES {
            for token in 0..self.count {
                self.say(token)?;
            }
        }
        let mut missing = self.count * MESSAGES;
        while missing > 0 {
            self.wait()?;
            for event in self.events.clone() {
                missing -= self.hear(event.id())?;
            }
        }
        assert_eq!(self.said, self.heard);
        let count = self.count * MESSAGES;
        let rate = count as f64 / begin.elapsed().as_secs_f64();
        Ok(format!("{} messages there and back, {:.0} per second", count, rate))
    }

    fn slow(&mut self) -> io::Result<String> {
        // They ask for much and do not listen.
        for token in 0..SLOW {
            self.poll.registry().deregister(&self.streams[token])?;
            assert_eq!(self.streams[token].write(&message(token, SEND_MUCH))?, 8);
        }
        let others: Vec<usize> = (SLOW..SLOW + 100.min(self.count - SLOW)).collect();
        let longest = self.talk(&others, 20)?;
        // Now they read all of it, in pieces.
        for token in 0..SLOW {
            self.poll.registry().register(&self.streams[token], token, READABLE | LEVEL)?;
        }
        let mut read = [0; SLOW];
        let mut buffer = vec![0; 5000];
        let much = much();
        while read.iter().any(|read| *read < SLOW_BYTES) {
            self.wait()?;
            for event in self.events.clone() {
                let token = event.id();
                let n = self.streams[token].read(&mut buffer)?;
                assert!(n > 0, "the server has closed");
                assert!(much[read[token]..][..n] == buffer[..n], "lost or doubled");
                read[token] += n;
            }
        }
        Ok(format!(
            "{} slow readers of {} MiB each; others waited for an answer {} ms at most",
            SLOW,
            SLOW_BYTES >> 20,
            longest.as_millis()
        ))
    }
}

/// Many datagram sockets in a ring, in edge mode: each hands a datagram on to the next, with the number of its round.
fn datagrams(count: usize) -> io::Result<()> {
    const ROUNDS: usize = 100;
    let (mut poll, mut events) = (Poll::new()?, Events::with_capacity(256));
    let sockets: Vec<UdpSocket> =
        (0..count).map(|_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))).collect::<io::Result<_>>()?;
    let addresses = sockets.iter().map(UdpSocket::local_addr).collect::<io::Result<Vec<_>>>()?;
    for (token, socket) in sockets.iter().enumerate() {
        poll.registry().register(socket, token, READABLE | EDGE)?;
    }
    let begin = Instant::now();
    let send = |token: Token, number| {
        sockets[token].send_to(&message(token, number), addresses[(token + 1) % count]).map(drop)
    };
    for token in 0..count {
        send(token, 0)?;
    }
    // The number of the next one that each is to get.
    let mut next = vec![0; count];
    let mut left = count * ROUNDS;
    while left > 0 {
        assert!(poll.poll_timeout(&mut events, SOON)? > 0, "a datagram is lost");
        for event in &events {
            let token = event.id();
            let previous = (token + count - 1) % count;
            let mut buffer = [0; 16];
            // To the last: in edge mode there is no other event for those that wait.
            loop {
                match sockets[token].recv_from(&mut buffer) {
                    Ok((length, from)) => {
                        assert_eq!(from, addresses[previous]);
                        let expected = message(previous, next[token]);
                        assert_eq!(buffer[..length], expected, "lost, doubled or out of order");
                        next[token] += 1;
                        left -= 1;
                        if next[token] < ROUNDS {
                            send(token, next[token])?;
                        }
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                }
            }
        }
    }
    println!(
        "{:7} datagram sockets, {} datagrams, {:.0} per second",
        count,
        count * ROUNDS,
        (count * ROUNDS) as f64 / begin.elapsed().as_secs_f64()
    );
    Ok(())
}

/// What a poll costs with one active source among many. A registration is of a descriptor and the file behind it, so a few
/// hundred of each make 100,000 registrations without as many descriptors.
fn one_among_many() -> io::Result<()> {
    const NUMBERS: usize = 320;
    let mut poll = Poll::new()?;
    let (mut near, mut far) = UnixStream::pair()?;
    poll.registry().register(&near, usize::MAX, READABLE | LEVEL)?;
    let numbers: Vec<UnixStream> = (0..NUMBERS).map(|_| UnixStream::pair().unwrap().0).collect();
    let mut files = Vec::new();
    let mut registered = 1;
    let mut events = Events::with_capacity(64);
    for goal in [10, 100, 1000, 10_000, 100_000] {
        while registered < goal {
            if registered % NUMBERS == 1 {
                let (file, other) = UnixStream::pair()?;
                files.push((file, other));
            }
            let file = &files.last().unwrap().0;
            let number = numbers[registered % NUMBERS].as_raw_fd();
            // SAFETY: both are open; the second one, ours, becomes another descriptor of the first one's file.
            assert_eq!(unsafe { dup2(file.as_raw_fd(), number) }, number);
            // SAFETY: it is open, its owner lives in `numbers`.
            let duplicate: BorrowedFd<'_> = unsafe { BorrowedFd::borrow_raw(number) };
            poll.registry().register(&duplicate.as_fd(), registered, READABLE | LEVEL)?;
            registered += 1;
        }
        const TIMES: u32 = 20_000;
        let mut best = Duration::MAX;
        for _ in 0..5 {
            let begin = Instant::now();
            for _ in 0..TIMES {
                far.write_all(b"x")?;
                assert_eq!(poll.poll(&mut events, None)?, 1);
                assert_eq!(events[0].id(), usize::MAX);
                near.read_exact(&mut [0])?;
            }
            best = best.min(begin.elapsed() / TIMES);
        }
        println!("{:7} registrations: {} ns for write, poll and read of the one", goal, best.as_nanos());
    }
    Ok(())
}
