//! A TCP proxy: everything that comes in goes on to another server, and back.
//!
//! Run:  cargo run --example echo              in one terminal,
//!       cargo run --example proxy             in the next: it listens on 127.0.0.1:7003 and goes to 127.0.0.1:7000,
//!       nc 127.0.0.1 7003                     in the third.
//!       cargo run --example proxy -- ADDRESS TARGET   listens there, and goes to any other HOST:PORT
//! See:  your lines come back, through the proxy; it prints who came, and how many bytes went each way. Ctrl-C ends it.
//!
//! The point is back-pressure. What we have read from one side goes to the other side at once. What does not fit there
//! waits, and while anything waits we read no more: the kernel's buffers fill up, and then the sender itself has to wait,
//! as if it were connected to its slow reader directly. Both directions work like this, independent of each other, and each
//! ends by itself: the end of what one side sends is passed on as the same end to the other side.
//!
//! One buffer serves all connections, because only one of them is read at a time. A pair with nothing waiting costs no memory.

use minimio::{Event, Events, Interests, Poll, Registry, TcpListener, TcpStream, Token, Waker};
use std::collections::HashMap;
use std::fmt::Display;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

#[path = "shutdown/ctrl_c.rs"]
mod ctrl_c;

const LISTENER: Token = 0;
const CTRL_C: Token = Token::MAX;
/// How many bytes are read at once, so the most that can wait in one direction.
const ROOM: usize = 64 * 1024;
/// How long to leave the listener alone after it failed, for instance because all descriptors are in use.
const REST: Duration = Duration::from_millis(100);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments[..] {
        [] => serve("127.0.0.1:7003", "127.0.0.1:7000"),
        [address, target] if !address.starts_with('-') => serve(address, target),
        _ => Err("usage: proxy [ADDRESS:PORT TARGET:PORT]".to_string()),
    };
    if let Err(message) = result {
        eprintln!("proxy: {}", message);
        std::process::exit(2);
    }
}

fn serve(address: &str, target: &str) -> Result<(), String> {
    // Looking up a name may take a while, so we do it once, here.
    let targets = target.to_socket_addrs().map_err(|error| format!("cannot go to {}: {}", target, error))?;
    let listener = TcpListener::bind(address);
    let listener = listener.map_err(|error| format!("cannot listen on {}: {}", address, error))?;
    let proxy = Proxy::new(listener, targets.collect());
    proxy.and_then(|mut proxy| proxy.run()).map_err(|error| format!("the event queue failed: {}", error))
}

struct Proxy {
    poll: Poll,
    listener: TcpListener,
    /// While the listener rests: when to try again.
    resume: Option<Instant>,
    /// The addresses of the server; the first that answers is taken.
    targets: Vec<SocketAddr>,
    /// Two tokens for each pair: an even one for the client, and the next, odd one for the server. They are filed
    /// under the even one.
    pairs: HashMap<Token, Pair>,
    /// Never used twice, so an event cannot be taken for one of a later pair.
    next_token: Token,
    /// Where bytes are between a read and the write that follows.
    buffer: Vec<u8>,
}

impl Proxy {
    fn new(listener: TcpListener, targets: Vec<SocketAddr>) -> io::Result<Proxy> {
        let poll = Poll::new()?;
        // One-shot: when accepting fails, we can leave the listener as it is, and it stays silent.
        poll.registry().register(&listener, LISTENER, Interests::READABLE)?;
        ctrl_c::wakes(Waker::new(poll.registry(), CTRL_C)?)?;
        Ok(Proxy {
            poll,
            listener,
            resume: None,
            targets,
            pairs: HashMap::new(),
            next_token: LISTENER + 2,
            buffer: vec![0; ROOM],
        })
    }

    fn run(&mut self) -> io::Result<()> {
        say(format_args!("listening on {}", self.listener.local_addr()?));
        let mut events = Events::with_capacity(256);
        loop {
            let left = self.resume.map(|time| time.saturating_duration_since(Instant::now()));
            self.poll.poll_timeout(&mut events, left)?;
            for event in &events {
                match event.id() {
                    LISTENER => self.accept()?,
                    CTRL_C => {
                        say(format_args!("good-bye: {} pairs are disconnected", self.pairs.len()));
                        return Ok(());
                    }
                    _ => self.serve_pair(event),
                }
            }
            if self.resume.map_or(false, |time| time <= Instant::now()) {
                self.accept()?;
            }
        }
    }

    /// Takes in everybody who is waiting at the door.
    fn accept(&mut self) -> io::Result<()> {
        self.resume = None;
        loop {
            match self.accept_one() {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // It came and went before we opened the door.
                Err(error) if is_gone(&error) => {}
                Err(error) => {
                    // Trying again at once would change nothing; the others go on meanwhile.
                    say(format_args!("cannot accept: {}", error));
                    self.resume = Some(Instant::now() + REST);
                    return Ok(());
                }
            }
        }
        self.poll.registry().reregister(&self.listener, LISTENER, Interests::READABLE)
    }

    fn accept_one(&mut self) -> io::Result<()> {
        let (client, peer) = self.listener.accept()?;
        let client = Side::new(client, self.next_token);
        say(format_args!("{}: {} came", self.next_token, peer));
        let mut pair = Pair::new(client, self.targets.clone());
        match pair.connect(self.poll.registry()) {
            Ok(()) => {
                self.pairs.insert(self.next_token, pair);
            }
            // This client is turned away; the next one may have more luck.
            Err(error) => say(format_args!("{}: {}", self.next_token, error)),
        }
        self.next_token += 2;
        Ok(())
    }

    fn serve_pair(&mut self, event: &Event) {
        let token = event.id() & !1;
        let pair = match self.pairs.get_mut(&token) {
            Some(pair) => pair,
            None => return, // It ended earlier in this batch of events.
        };
        // An error of one side is the end of both.
        let result = pair.advance(event, self.poll.registry(), &mut self.buffer);
        match &result {
            Ok(true) => return,
            Ok(false) => say(format_args!("{}: {}, done", token, pair)),
            Err(error) => say(format_args!("{}: {}, {}", token, pair, error)),
        }
        // Dropping the streams closes them, and a closed stream leaves the queue by itself.
        self.pairs.remove(&token);
    }
}

/// A client, the server it talks to, and what is under way between them.
struct Pair {
    client: Side,
    /// Set by `connect`; replaced when it has to try the next address.
    server: Option<Side>,
    connected: bool,
    /// Addresses that were not tried yet.
    targets: Vec<SocketAddr>,
    up: Lane,
    down: Lane,
}

impl Pair {
    fn new(client: Side, mut targets: Vec<SocketAddr>) -> Pair {
        targets.reverse(); // Taken from the end.
        Pair { client, server: None, connected: false, targets, up: Lane::default(), down: Lane::default() }
    }

    /// Begins to connect to the next address of the server. When it has an outcome, its stream becomes writable.
    fn connect(&mut self, registry: &Registry) -> io::Result<()> {
        let mut reason = io::Error::new(ErrorKind::NotFound, "the server has no address");
        while let Some(target) = self.targets.pop() {
            let stream = match TcpStream::connect_nonblocking(target) {
                Ok(stream) => stream,
                Err(error) => {
                    reason = error;
                    continue;
                }
            };
            let mut server = Side::new(stream, self.client.token + 1);
            server.watch(registry, false, true)?;
            self.server = Some(server);
            return Ok(());
        }
        Err(reason)
    }

    /// Does what can be done without waiting. `false`: both directions have ended.
    fn advance(&mut self, event: &Event, registry: &Registry, buffer: &mut [u8]) -> io::Result<bool> {
        let (client, server) = match &mut self.server {
            Some(server) => (&mut self.client, server),
            None => return Ok(true),
        };
        if !self.connected {
            match server.connection(event) {
                Ok(true) => self.connected = true,
                Ok(false) => return Ok(true), // A spurious event; its time will come.
                Err(error) if self.targets.is_empty() => return Err(error),
                Err(_) => return self.connect(registry).map(|()| true),
            }
            // Small pieces must not wait for company, in either direction.
            let _ = client.stream.set_nodelay(true);
            let _ = server.stream.set_nodelay(true);
        }
        self.up.carry(&client.stream, &server.stream, buffer)?;
        self.down.carry(&server.stream, &client.stream, buffer)?;
        client.watch(registry, self.up.can_read(), self.down.has_load())?;
        server.watch(registry, self.down.can_read(), self.up.has_load())?;
        Ok(!(self.up.is_done && self.down.is_done))
    }
}

/// What the log says at the end.
impl Display for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (up, down) = (self.up.carried, self.down.carried);
        write!(f, "{} bytes there, {} bytes back", up, down)
    }
}

/// One end of a pair.
struct Side {
    stream: TcpStream,
    token: Token,
    /// What the stream is registered for: to read, to write.
    asked: (bool, bool),
}

impl Side {
    fn new(stream: TcpStream, token: Token) -> Side {
        Side { stream, token, asked: (false, false) }
    }

    /// After an event of a stream that is connecting: whether the connection is established, or why it never will be.
    fn connection(&self, event: &Event) -> io::Result<bool> {
        if let Some(error) = self.stream.take_error()? {
            return Err(error);
        }
        match self.stream.peer_addr() {
            Ok(_) => Ok(true),
            Err(error) if event.is_error() || event.is_write_closed() => Err(error),
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Registers again if we now wait for something else. A side that can do nothing now, because its lanes wait for the
    /// other side, is not watched at all.
    fn watch(&mut self, registry: &Registry, read: bool, write: bool) -> io::Result<()> {
        if self.asked == (read, write) {
            return Ok(());
        }
        let interests = match (read, write) {
            (true, true) => Interests::READABLE | Interests::WRITABLE,
            (true, false) => Interests::READABLE,
            (false, true) => Interests::WRITABLE,
            (false, false) => {
                self.asked = (false, false);
                return registry.deregister(&self.stream);
            }
        };
        self.asked = (read, write);
        registry.register(&self.stream, self.token, interests | Interests::LEVEL)
    }
}

/// One direction: from a stream that is read to a stream that is written.
#[derive(Default)]
struct Lane {
    /// What was read and did not fit into the writer yet. Mostly nothing.
    waiting: Vec<u8>,
    carried: u64,
    /// The reader has seen the end.
    is_ending: bool,
    /// The writer has passed it on.
    is_done: bool,
}

impl Lane {
    fn can_read(&self) -> bool {
        self.waiting.is_empty() && !self.is_ending
    }

    fn has_load(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Moves once what can be moved without waiting.
    fn carry(&mut self, from: &TcpStream, to: &TcpStream, buffer: &mut [u8]) -> io::Result<()> {
        if self.has_load() {
            let written = write(to, &self.waiting)?;
            self.carried += written as u64;
            self.waiting.drain(..written);
        }
        if self.can_read() {
            // An empty lane gives its memory back.
            self.waiting = Vec::new();
            let read = self.read(from, buffer)?;
            let written = write(to, &buffer[..read])?;
            self.carried += written as u64;
            self.waiting.extend_from_slice(&buffer[written..read]);
        }
        if self.is_ending && !self.has_load() && !self.is_done {
            self.is_done = true;
            match to.shutdown(Shutdown::Write) {
                // It has gone away by itself.
                Err(error) if error.kind() == ErrorKind::NotConnected => {}
                result => return result,
            }
        }
        Ok(())
    }

    /// Reads once, so that nobody keeps us from the others. Returns how many bytes came.
    fn read(&mut self, mut from: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
        match from.read(buffer) {
            Ok(0) => self.is_ending = true,
            Ok(n) => return Ok(n),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(0)
    }
}

/// Writes as much as fits. Returns how many bytes that was.
fn write(mut to: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let mut written = 0;
    while written < bytes.len() {
        match to.write(&bytes[written..]) {
            Ok(n) => written += n,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(written)
}

/// Errors of `accept` that concern one connection only.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset)
}

/// Prints a line. `println!` panics when nobody reads it any more (`proxy | head -1`); this does not.
fn say(line: impl Display) {
    let _ = writeln!(io::stdout(), "{}", line);
}
