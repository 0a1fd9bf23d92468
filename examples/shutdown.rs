//! A server that says goodbye: on Ctrl-C nothing is cut off, and nobody new comes in.
//!
//! Run:  cargo run --example shutdown              then, in another terminal:  nc 127.0.0.1 7006
//!       cargo run --example shutdown -- ADDRESS   listens there; port 0 takes any that is free
//! See:  type a number, and you get as many lines. Press Ctrl-C at the server (or `kill` it): each client gets the lines that
//!       it still has to come, then a last one, and the server ends with status 0. A second Ctrl-C ends it at once.
//!
//! A graceful shutdown has four steps, and each is there because of something that goes wrong without it:
//!
//! 1. The signal does nothing but wake the queue (`shutdown/ctrl_c.rs`), for a signal handler may do next to nothing.
//! 2. Close the listener, so that nobody comes in who would only be sent away.
//! 3. Send what is queued, and a last line, and then end the sending direction alone: `shutdown(Write)`.
//! 4. Read on until the client ends its direction too. If you close a socket while something unread is in it, the system
//!    sends a reset, and the client may lose what it has not read yet. But do not wait for ever.

use minimio::{Events, Interests, Poll, TcpListener, TcpStream, Token, Waker};
use std::collections::HashMap;
use std::fmt::Display;
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

#[path = "shutdown/ctrl_c.rs"]
mod ctrl_c;

const LISTENER: Token = 0;
const CTRL_C: Token = 1;
const FIRST_CLIENT: Token = 2;

/// The most lines that a client gets for one number.
const MAX_LINES: usize = 200_000;
/// How long the clients have to read what they still get.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long to leave the listener alone after it failed, for instance because all descriptors are in use.
const REST: Duration = Duration::from_millis(100);
const GOODBYE: &[u8] = b"goodbye: this server is closing\n";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.as_slice() {
        [] => serve("127.0.0.1:7006"),
        [address] if !address.starts_with('-') => serve(address),
        _ => Err("usage: shutdown [ADDRESS:PORT]".to_string()),
    };
    if let Err(message) = result {
        eprintln!("shutdown: {}", message);
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
    /// `None` once the server closes.
    listener: Option<TcpListener>,
    /// While the listener rests: when to try again.
    resume: Option<Instant>,
    clients: HashMap<Token, Client>,
    /// Never used twice, so an event cannot be taken for one of a later client.
    next_token: Token,
    /// Once the server closes: when it ends, whoever is still there.
    end: Option<Instant>,
}

struct Client {
    stream: TcpStream,
    /// What it has typed and is not answered yet.
    input: Vec<u8>,
    /// What it has still to get. While there is some, nothing is read: so this cannot grow without end.
    output: Vec<u8>,
    /// The goodbye is in `output`, or sent: what the client says is no longer listened to.
    is_leaving: bool,
}

impl Server {
    fn new(listener: TcpListener) -> io::Result<Server> {
        let poll = Poll::new()?;
        // One-shot: when accepting fails, we can leave the listener as it is, and it stays silent.
        poll.registry().register(&listener, LISTENER, Interests::READABLE)?;
        ctrl_c::wakes(Waker::new(poll.registry(), CTRL_C)?)?;
        say(format_args!("listening on {}", listener.local_addr()?));
        Ok(Server {
            poll,
            listener: Some(listener),
            resume: None,
            clients: HashMap::new(),
            next_token: FIRST_CLIENT,
            end: None,
        })
    }

    fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(256);
        while !self.is_over() {
            let next = [self.resume, self.end].into_iter().flatten().min();
            let left = next.map(|time| time.saturating_duration_since(Instant::now()));
            self.poll.poll_timeout(&mut events, left)?;
            for event in &events {
                match event.id() {
                    LISTENER => self.accept()?,
                    CTRL_C => self.close(),
                    token => self.serve_client(token),
                }
            }
            if self.resume.map_or(false, |time| time <= Instant::now()) {
                self.accept()?;
            }
        }
        match self.clients.len() {
            0 => say("closed: everybody has got everything"),
            n => say(format_args!("closed: {} did not listen", n)),
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.end.map_or(false, |time| self.clients.is_empty() || time <= Instant::now())
    }

    /// Takes in everybody who is waiting at the door.
    fn accept(&mut self) -> io::Result<()> {
        self.resume = None;
        while let Some(listener) = &self.listener {
            let (stream, peer) = match listener.accept() {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return self.poll.registry().reregister(listener, LISTENER, Interests::READABLE);
                }
                // It came and went before we opened the door.
                Err(error) if is_gone(&error) => continue,
                Err(error) => {
                    // Nothing changes by trying again at once; the others go on meanwhile.
                    say(format_args!("cannot accept: {}", error));
                    self.resume = Some(Instant::now() + REST);
                    break;
                }
            };
            let token = self.next_token;
            let client = Client { stream, input: Vec::new(), output: Vec::new(), is_leaving: false };
            // If it cannot be watched, it is let go here.
            match self.poll.registry().register(&client.stream, token, client.interests()) {
                Ok(()) => {
                    say(format_args!("client {} is {}", token, peer));
                    self.next_token += 1;
                    self.clients.insert(token, client);
                }
                Err(error) => say(format_args!("cannot watch {}: {}", peer, error)),
            }
        }
        Ok(())
    }

    /// Ctrl-C: nobody comes in any more, and everybody inside is told.
    fn close(&mut self) {
        say(format_args!("goodbye to {} clients", self.clients.len()));
        // A closed source leaves the queue by itself.
        self.listener = None;
        self.resume = None;
        self.end = Some(Instant::now() + PATIENCE);
        for client in self.clients.values_mut() {
            client.input.clear();
            client.output.extend_from_slice(GOODBYE);
            client.is_leaving = true;
        }
        for token in self.clients.keys().copied().collect::<Vec<_>>() {
            self.serve_client(token);
        }
    }

    fn serve_client(&mut self, token: Token) {
        let client = match self.clients.get_mut(&token) {
            Some(client) => client,
            None => return, // It left earlier in this batch of events.
        };
        let stays = client.turn().and_then(|stays| {
            if stays {
                self.poll.registry().reregister(&client.stream, token, client.interests())?;
            }
            Ok(stays)
        });
        match stays {
            Ok(true) => return,
            Ok(false) => say(format_args!("client {} has left", token)),
            Err(error) => say(format_args!("client {} is gone: {}", token, error)),
        }
        self.clients.remove(&token);
    }
}

impl Client {
    /// What has to happen before this client can go on. One-shot: each turn ends with the next registration.
    fn interests(&self) -> Interests {
        if self.output.is_empty() && !self.has_question() {
            Interests::READABLE
        } else {
            Interests::WRITABLE
        }
    }

    fn has_question(&self) -> bool {
        self.input.contains(&b'\n')
    }

    /// Does one turn. `false`: the client has ended what it sends, so it needs nothing more of us.
    fn turn(&mut self) -> io::Result<bool> {
        if self.output.is_empty() && !self.has_question() {
            let mut buffer = [0; 4096];
            match unless_it_blocks(self.stream.read(&mut buffer))? {
                Some(0) => return Ok(false),
                // What it says now comes too late.
                Some(_) if self.is_leaving => {}
                Some(n) => self.input.extend_from_slice(&buffer[..n]),
                None => {}
            }
        }
        if self.output.is_empty() {
            self.answer()?;
        }
        let had_output = !self.output.is_empty();
        let mut sent = 0;
        while sent < self.output.len() {
            match unless_it_blocks(self.stream.write(&self.output[sent..]))? {
                Some(n) => sent += n,
                None => break,
            }
        }
        self.output.drain(..sent);
        if self.is_leaving && had_output && self.output.is_empty() {
            // The end of our direction. The client reads to it and, as a rule, ends its own.
            self.stream.shutdown(Shutdown::Write)?;
        }
        Ok(true)
    }

    /// Queues the lines that the client has asked for: one number at a time, or a page full of them would fill our memory.
    fn answer(&mut self) -> io::Result<()> {
        if let Some(end) = self.input.iter().position(|byte| *byte == b'\n') {
            let question: Vec<u8> = self.input.drain(..=end).collect();
            match String::from_utf8_lossy(&question).trim().parse() {
                Ok(count) if count <= MAX_LINES => {
                    for number in 1..=count {
                        writeln!(self.output, "line {} of {}", number, count)?;
                    }
                }
                _ => writeln!(self.output, "how many lines? up to {}, please", MAX_LINES)?,
            }
        } else {
            // No number is that long.
            self.input.truncate(64);
        }
        Ok(())
    }
}

/// `None` instead of `WouldBlock`.
fn unless_it_blocks<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// Errors of `accept` that concern one connection only.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset)
}

/// Prints a line. `println!` panics when nobody reads it any more (`shutdown | head -1`); this does not.
fn say(line: impl Display) {
    let _ = writeln!(io::stdout(), "{}", line);
}
