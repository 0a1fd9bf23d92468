//! Echo server: one thread, one `Poll`, many connections.
//!
//! Run:  cargo run --example echo              then, in another terminal:  nc 127.0.0.1 7000
//!       cargo run --example echo -- ADDRESS   listens there; port 0 takes any that is free
//! See:  each line you type comes back; the server prints one line per event with its token. Ctrl-C ends it.
//!
//! The hard part of an echo server is the client that sends and does not read. Then `write` takes only some of the bytes,
//! and the rest has to wait until there is room. So each client is in one of two states: we wait for it to send, or,
//! while bytes are left over, we wait for it to read. A slow reader slows down itself and nobody else, and we never keep
//! more than one buffer for each client.

use minimio::{Event, Events, Interests, Poll, TcpListener, TcpStream, Token, Waker};
use std::collections::HashMap;
use std::fmt::Display;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

#[path = "shutdown/ctrl_c.rs"]
mod ctrl_c;

const LISTENER: Token = 0;
const CTRL_C: Token = Token::MAX;
/// How long to leave the listener alone after it failed, for instance because all descriptors are in use.
const REST: Duration = Duration::from_millis(100);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.as_slice() {
        [] => serve("127.0.0.1:7000"),
        [address] if !address.starts_with('-') => serve(address),
        _ => Err("usage: echo [ADDRESS:PORT]".to_string()),
    };
    if let Err(message) = result {
        eprintln!("echo: {}", message);
        std::process::exit(2);
    }
}

fn serve(address: &str) -> Result<(), String> {
    let listener = TcpListener::bind(address);
    let listener = listener.map_err(|error| format!("cannot listen on {}: {}", address, error))?;
    let server = Server::new(listener);
    server.and_then(|mut server| server.run()).map_err(|error| format!("the event queue failed: {}", error))
}

struct Server {
    poll: Poll,
    listener: TcpListener,
    /// While the listener rests: when to try again.
    resume: Option<Instant>,
    clients: HashMap<Token, Client>,
    /// Never used twice, so an event cannot be taken for one of a later client.
    next_token: Token,
}

struct Client {
    stream: TcpStream,
    /// Bytes it has sent and not got back yet.
    pending: Vec<u8>,
}

impl Server {
    fn new(listener: TcpListener) -> io::Result<Server> {
        let poll = Poll::new()?;
        // One-shot: when accepting fails, we can leave the listener as it is, and it stays silent.
        poll.registry().register(&listener, LISTENER, Interests::READABLE)?;
        ctrl_c::wakes(Waker::new(poll.registry(), CTRL_C)?)?;
        Ok(Server { poll, listener, resume: None, clients: HashMap::new(), next_token: LISTENER + 1 })
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
                        say(format_args!("good-bye: {} clients are disconnected", self.clients.len()));
                        return Ok(());
                    }
                    token => self.serve_client(token, event),
                }
            }
            if self.resume.map_or(false, |time| time <= Instant::now()) {
                self.accept()?;
            }
        }
    }

    /// Lets in everybody who is waiting at the door.
    fn accept(&mut self) -> io::Result<()> {
        self.resume = None;
        loop {
            let added = match self.listener.accept() {
                Ok((stream, peer)) => self.add_client(stream, peer),
                Err(error) => Err(error),
            };
            match added {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // It came and went before we opened the door.
                Err(error) if is_gone(&error) => {}
                Err(error) => {
                    // Trying again at once would change nothing; meanwhile the others go on.
                    say(format_args!("cannot accept: {}", error));
                    self.resume = Some(Instant::now() + REST);
                    return Ok(());
                }
            }
        }
        self.poll.registry().reregister(&self.listener, LISTENER, Interests::READABLE)
    }

    fn add_client(&mut self, stream: TcpStream, peer: SocketAddr) -> io::Result<()> {
        // Send each line at once. If the client is already gone, its first event will say so.
        let _ = stream.set_nodelay(true);
        let token = self.next_token;
        let client = Client { stream, pending: Vec::new() };
        self.poll.registry().register(&client.stream, token, client.interests())?;
        self.next_token += 1;
        self.clients.insert(token, client);
        say(format_args!("client {} is {}", token, peer));
        Ok(())
    }

    fn serve_client(&mut self, token: Token, event: &Event) {
        let client = match self.clients.get_mut(&token) {
            Some(client) => client,
            None => return, // It left earlier in this batch of events.
        };
        let before = client.interests();
        let result = client.advance();
        match &result {
            Ok(Some(what)) => say(format_args!("{:?}: {}", event, what)),
            Ok(None) => say(format_args!("{:?}: all said and sent, goodbye", event)),
            Err(error) => say(format_args!("{:?}: {}", event, error)),
        }
        let after = client.interests();
        let stays = match result {
            Ok(Some(_)) if after != before => {
                let registry = self.poll.registry();
                registry.reregister(&client.stream, token, after).is_ok()
            }
            Ok(Some(_)) => true,
            Ok(None) | Err(_) => false,
        };
        if !stays {
            // Dropping the stream closes it, and a closed stream leaves the queue by itself.
            self.clients.remove(&token);
        }
    }
}

impl Client {
    /// What has to happen before this client can continue. `LEVEL`: we hear of it again for as long as it is so.
    fn interests(&self) -> Interests {
        if self.pending.is_empty() {
            Interests::READABLE | Interests::LEVEL
        } else {
            Interests::WRITABLE | Interests::LEVEL
        }
    }

    /// Does one turn and says what was done. `None` means that the client has ended and got all of its bytes.
    ///
    /// One turn and no more: a client that sends without end must not keep us from the others.
    fn advance(&mut self) -> io::Result<Option<String>> {
        let mut read = 0;
        if self.pending.is_empty() {
            let mut buffer = [0; 16 * 1024];
            read = match self.stream.read(&mut buffer) {
                // The end of its stream. It may still read (a half-close), but there is nothing left to send.
                Ok(0) => return Ok(None),
                Ok(n) => n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
                Err(error) => return Err(error),
            };
            self.pending.extend_from_slice(&buffer[..read]);
        }
        let written = self.write()?;
        let left = self.pending.len();
        let turn = format!("read {}, wrote {}, {} left", read, written, left);
        Ok(Some(turn))
    }

    /// Writes as much of the pending bytes as fits.
    fn write(&mut self) -> io::Result<usize> {
        let mut written = 0;
        while written < self.pending.len() {
            match self.stream.write(&self.pending[written..]) {
                Ok(n) => written += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        self.pending.drain(..written);
        Ok(written)
    }
}

/// Errors of `accept` that concern one connection only.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset)
}

/// Prints a line. `println!` panics when nobody reads it any more (`echo | head -1`); this does not.
fn say(line: impl Display) {
    let _ = writeln!(io::stdout(), "{}", line);
}
