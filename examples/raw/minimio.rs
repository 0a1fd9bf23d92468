use minimio::{Events, Interests, Poll, TcpListener, TcpStream, Token};
use std::collections::HashMap;
use std::io::{ErrorKind, Read, Result, Write};

/// The listener's token. Clients count up from here, and no token is given twice: one that
/// is left over in a batch of events cannot be taken for that of a newer client.
const LISTENER: Token = 0;

pub fn main() -> Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7000".to_string());
    let mut server = Server::new(TcpListener::bind(address)?)?;
    say(format_args!("listening on {}", server.listener.local_addr()?));
    loop {
        server.turn()?;
    }
}

struct Server {
    poll: Poll,
    events: Events,
    listener: TcpListener,
    clients: HashMap<Token, Client>,
    newest: Token,
}

struct Client {
    stream: TcpStream,
    /// What it sent and has not got back yet.
    pending: Vec<u8>,
}

impl Server {
    fn new(listener: TcpListener) -> Result<Server> {
        let poll = Poll::new()?;
        poll.registry().register(&listener, LISTENER, Interests::READABLE | Interests::LEVEL)?;
        let events = Events::with_capacity(64);
        Ok(Server { poll, events, listener, clients: HashMap::new(), newest: LISTENER })
    }

    /// One turn of the loop: sleep until something happens, then deal with all of it.
    fn turn(&mut self) -> Result<()> {
        self.poll.poll(&mut self.events, None)?;
        for i in 0..self.events.len() {
            match self.events[i].id() {
                LISTENER => self.accept(),
                token => self.serve(token),
            }
        }
        Ok(())
    }

    /// Takes in everyone who is waiting at the door.
    fn accept(&mut self) {
        loop {
            match self.listener.accept().and_then(|(stream, _)| self.welcome(stream)) {
                Ok(()) => say(format_args!("client {}: welcome", self.newest)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => return say(format_args!("nobody came in: {}", error)),
            }
        }
    }

    fn welcome(&mut self, stream: TcpStream) -> Result<()> {
        let token = self.newest + 1;
        let client = Client { stream, pending: Vec::new() };
        self.poll.registry().register(&client.stream, token, client.waits_for())?;
        self.clients.insert(token, client);
        self.newest = token;
        Ok(())
    }

    fn serve(&mut self, token: Token) {
        let client = match self.clients.get_mut(&token) {
            Some(client) => client,
            None => return, // it left earlier in this batch
        };
        let before = client.waits_for();
        let result = client.advance().and_then(|stays| {
            let now = client.waits_for();
            if stays && now != before {
                self.poll.registry().reregister(&client.stream, token, now)?;
            }
            Ok(stays)
        });
        match result {
            Ok(true) => return,
            Ok(false) => say(format_args!("client {}: goodbye", token)),
            Err(error) => say(format_args!("client {}: {}", token, error)),
        }
        // Dropping the stream closes it, and a closed socket leaves the queue by itself.
        self.clients.remove(&token);
    }
}

impl Client {
    /// While something is left over we wait for room to write it, and read nothing more. So a
    /// client that does not read slows down itself and nobody else.
    fn waits_for(&self) -> Interests {
        if self.pending.is_empty() {
            Interests::READABLE | Interests::LEVEL
        } else {
            Interests::WRITABLE | Interests::LEVEL
        }
    }

    /// Does what can be done without waiting. `false`: it has ended and has got everything.
    fn advance(&mut self) -> Result<bool> {
        if self.pending.is_empty() {
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer) {
                Ok(0) => return Ok(false),
                Ok(n) => self.pending.extend_from_slice(&buffer[..n]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        while !self.pending.is_empty() {
            match self.stream.write(&self.pending) {
                Ok(n) => drop(self.pending.drain(..n)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

/// Prints a line. A server goes on when nobody reads its log any more; `println!` would panic.
fn say(line: std::fmt::Arguments) {
    let _ = writeln!(std::io::stdout(), "{}", line);
}
