//! A chat room: many users of `nc`, one thread, and a keyboard.
//!
//! Run:  cargo run --example chat              then, in two other terminals:  nc 127.0.0.1 7001
//!       cargo run --example chat -- ADDRESS   listens there; port 0 takes any that is free
//! See:  what one user types, all others see. What you type at the server is an announcement; Ctrl-D (on Windows
//!       Ctrl-Z and Enter) or Ctrl-C says goodbye to everybody and ends it.
//!
//! Two things here are typical of servers. A user who does not read must not cost memory without end, so the number of
//! bytes that wait for each user is limited, and a user with more is disconnected. And not everything is a socket: the
//! keyboard is read by a thread that blocks, hands lines over through a channel, and wakes the loop with a `Waker`.

use minimio::{Event, Events, Interests, Poll, Registry, TcpListener, TcpStream, Token, Waker};
use std::collections::HashMap;
use std::fmt::Display;
use std::io::{self, BufRead, ErrorKind, Read, Write};
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

#[path = "shutdown/ctrl_c.rs"]
mod ctrl_c;

const LISTENER: Token = 0;
const KEYBOARD: Token = 1;
const CTRL_C: Token = 2;
const FIRST_USER: Token = 3;

/// At most this many bytes wait for one user to read them.
const MAX_OUTPUT: usize = 64 * 1024;
const MAX_LINE: usize = 1024;
/// How long to leave the listener alone after it failed, for instance because all descriptors are in use.
const REST: Duration = Duration::from_millis(100);
/// How long everybody has to read the last words.
const GOODBYE: Duration = Duration::from_secs(1);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.as_slice() {
        [] => serve("127.0.0.1:7001"),
        [address] if !address.starts_with('-') => serve(address),
        _ => Err("usage: chat [ADDRESS:PORT]".to_string()),
    };
    if let Err(message) = result {
        eprintln!("chat: {}", message);
        std::process::exit(2);
    }
}

fn serve(address: &str) -> Result<(), String> {
    let listener = TcpListener::bind(address);
    let listener = listener.map_err(|error| format!("cannot listen on {}: {}", address, error))?;
    let room = Room::new(listener);
    room.and_then(|mut room| room.run()).map_err(|error| format!("the event queue failed: {}", error))
}

/// Reads the keyboard on a thread of its own, because that blocks. The channel closes at the end of the input.
fn read_keyboard(lines: Sender<String>, waker: Waker) {
    thread::spawn(move || {
        let mut keyboard = io::stdin().lock();
        loop {
            let mut line = Vec::new();
            match keyboard.read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
            if lines.send(clean(&line)).is_err() || waker.wake().is_err() {
                return;
            }
        }
        // First close the channel, then wake, so that whoever wakes up finds it closed.
        drop(lines);
        let _ = waker.wake();
    });
}

struct Room {
    poll: Poll,
    listener: TcpListener,
    /// While the listener rests: when to try again.
    resume: Option<Instant>,
    keyboard: Receiver<String>,
    users: HashMap<Token, User>,
    /// Never used twice, so an event cannot be taken for one of a later user.
    next_token: Token,
    /// Once the room is closing: the end of the time for the last words.
    closing: Option<Instant>,
}

impl Room {
    fn new(listener: TcpListener) -> io::Result<Room> {
        let poll = Poll::new()?;
        // One-shot: when accepting fails, we can leave the listener as it is, and it stays silent.
        poll.registry().register(&listener, LISTENER, Interests::READABLE)?;
        let (sender, keyboard) = mpsc::channel();
        read_keyboard(sender, Waker::new(poll.registry(), KEYBOARD)?);
        ctrl_c::wakes(Waker::new(poll.registry(), CTRL_C)?)?;
        Ok(Room {
            poll,
            listener,
            resume: None,
            keyboard,
            users: HashMap::new(),
            next_token: FIRST_USER,
            closing: None,
        })
    }

    fn run(&mut self) -> io::Result<()> {
        say(format_args!("listening on {}", self.listener.local_addr()?));
        let mut events = Events::with_capacity(256);
        while !self.is_over() {
            self.wait(&mut events)?;
            for event in &events {
                self.handle(event)?;
            }
            if self.resume.map_or(false, |time| time <= Instant::now()) {
                self.accept()?;
            }
            self.settle();
        }
        say("the room is closed");
        Ok(())
    }

    /// After the goodbye: everybody has read it, or had the time to.
    fn is_over(&self) -> bool {
        match self.closing {
            None => false,
            Some(time) => self.users.is_empty() || time <= Instant::now(),
        }
    }

    /// Sleeps until there are events, or until it is time to do something without one.
    fn wait(&mut self, events: &mut Events) -> io::Result<usize> {
        let next = self.closing.or(self.resume);
        let left = next.map(|time| time.saturating_duration_since(Instant::now()));
        self.poll.poll_timeout(events, left)
    }

    fn handle(&mut self, event: &Event) -> io::Result<()> {
        match event.id() {
            LISTENER => self.accept()?,
            KEYBOARD => self.announce_lines()?,
            CTRL_C => self.close()?,
            token => {
                if event.is_readable() {
                    self.read(token);
                }
                if event.is_writable() {
                    if let Some(user) = self.users.get_mut(&token) {
                        user.flush();
                    }
                }
            }
        }
        Ok(())
    }

    /// Lets in everybody who is waiting at the door.
    fn accept(&mut self) -> io::Result<()> {
        self.resume = None;
        if self.closing.is_some() {
            return Ok(());
        }
        loop {
            match self.accept_one() {
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

    fn accept_one(&mut self) -> io::Result<()> {
        let (stream, _) = self.listener.accept()?;
        let mut user = User::new(stream);
        self.poll.registry().register(&user.stream, self.next_token, user.asked)?;
        user.send("* welcome, what is your name?");
        self.users.insert(self.next_token, user);
        self.next_token += 1;
        Ok(())
    }

    /// Sends everybody what was typed at the server. The end of that input closes the room.
    fn announce_lines(&mut self) -> io::Result<()> {
        loop {
            match self.keyboard.try_recv() {
                Ok(line) if line.is_empty() => {}
                Ok(line) => self.tell_all(&format!("* {}", line)),
                Err(TryRecvError::Empty) => return Ok(()),
                Err(TryRecvError::Disconnected) => return self.close(),
            }
        }
    }

    fn close(&mut self) -> io::Result<()> {
        if self.closing.is_some() {
            return Ok(());
        }
        self.closing = Some(Instant::now() + GOODBYE);
        self.poll.registry().deregister(&self.listener)?;
        for user in self.users.values_mut() {
            user.send("* the room is closing, goodbye");
            user.leave();
        }
        Ok(())
    }

    /// Reads what a user has sent, and handles each line.
    fn read(&mut self, token: Token) {
        let ended = match self.users.get_mut(&token) {
            Some(user) => user.read(),
            None => return,
        };
        while let Some(line) = self.users.get_mut(&token).and_then(User::next_line) {
            self.hear(token, &line);
        }
        if ended {
            self.hear_the_end(token);
        }
    }

    /// One line of a user: first the name, then everything else.
    fn hear(&mut self, token: Token, line: &str) {
        match self.users.get(&token).map(|user| &user.name) {
            Some(Some(name)) if !line.is_empty() => {
                let line = format!("{}: {}", name, line);
                self.tell_others(token, &line);
            }
            Some(None) => self.introduce(token, line),
            _ => {}
        }
    }

    /// The user has closed at least one direction: there is no more to come.
    fn hear_the_end(&mut self, token: Token) {
        if let Some(user) = self.users.get_mut(&token) {
            user.leave();
            // Nobody has heard of a user without a name.
            if let Some(name) = user.name.take() {
                self.tell_others(token, &format!("* {} has left", name));
            }
        }
    }

    fn introduce(&mut self, token: Token, name: &str) {
        let mut others: Vec<&str> = self.users.values().filter_map(User::name).collect();
        others.sort_unstable();
        let is_taken = others.contains(&name);
        let hello = format!("* hello {}; also here: [{}]", name, others.join(", "));
        let user = match self.users.get_mut(&token) {
            Some(user) => user,
            None => return,
        };
        if !is_name(name) {
            user.send("* up to 20 letters and digits, please: what is your name?");
        } else if is_taken {
            user.send(&format!("* {} is taken, who are you?", name));
        } else {
            user.send(&hello);
            user.name = Some(name.to_string());
            self.tell_others(token, &format!("* {} has joined", name));
        }
    }

    fn tell_all(&mut self, line: &str) {
        say(line);
        for user in self.users.values_mut().filter(|user| user.name.is_some()) {
            user.send(line);
        }
    }

    fn tell_others(&mut self, speaker: Token, line: &str) {
        say(line);
        for (token, user) in &mut self.users {
            if *token != speaker && user.name.is_some() {
                user.send(line);
            }
        }
    }

    /// After each batch of events: registers everybody for the right ones next time, and removes those who are done. The
    /// others are told of each departure, and that line may be one too many for somebody; so repeat until nobody leaves.
    fn settle(&mut self) {
        loop {
            let mut done = Vec::new();
            for (token, user) in &mut self.users {
                user.watch(self.poll.registry(), *token);
                if user.is_done() {
                    done.push(*token);
                }
            }
            if done.is_empty() {
                return;
            }
            for token in done {
                self.remove(token);
            }
        }
    }

    /// Dropping the stream closes it, and a closed stream leaves the queue by itself.
    fn remove(&mut self, token: Token) {
        if let Some(user) = self.users.remove(&token) {
            if let (Some(name), State::Gone(why)) = (user.name, user.state) {
                self.tell_all(&format!("* {} is gone: {}", name, why));
            }
        }
    }
}

struct User {
    stream: TcpStream,
    name: Option<String>,
    /// The beginning of a line whose end has not come yet.
    input: Vec<u8>,
    /// What waits until the user reads.
    output: Vec<u8>,
    state: State,
    /// What the stream is registered for.
    asked: Interests,
}

enum State {
    Here,
    /// Has nothing more to say, but still gets what is waiting.
    Leaving,
    /// Cannot be reached any more, and why.
    Gone(String),
}

impl User {
    fn new(stream: TcpStream) -> User {
        User {
            stream,
            name: None,
            input: Vec::new(),
            output: Vec::new(),
            state: State::Here,
            asked: Interests::READABLE | Interests::LEVEL,
        }
    }

    fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// What has to happen before there is something to do: `WRITABLE` only while something waits to be written.
    fn interests(&self) -> Interests {
        let direction = match (&self.state, self.output.is_empty()) {
            (State::Here, true) => Interests::READABLE,
            (State::Here, false) => Interests::READABLE | Interests::WRITABLE,
            _ => Interests::WRITABLE,
        };
        direction | Interests::LEVEL
    }

    /// Registers the stream again if the interest has changed.
    fn watch(&mut self, registry: &Registry, token: Token) {
        let wanted = self.interests();
        if wanted == self.asked || self.is_done() {
            return;
        }
        self.asked = wanted;
        if let Err(error) = registry.reregister(&self.stream, token, wanted) {
            self.state = State::Gone(error.to_string());
        }
    }

    fn leave(&mut self) {
        if let State::Here = self.state {
            self.state = State::Leaving;
        }
    }

    fn is_done(&self) -> bool {
        match self.state {
            State::Here => false,
            State::Leaving => self.output.is_empty(),
            State::Gone(_) => true,
        }
    }

    /// Reads once, so that nobody keeps us from the others. Returns whether that was the end of the stream.
    fn read(&mut self) -> bool {
        if !matches!(self.state, State::Here) {
            return false;
        }
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer) {
            Ok(0) => {
                self.input.push(b'\n'); // The last line may come without its end.
                return true;
            }
            Ok(n) => self.input.extend_from_slice(&buffer[..n]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => self.state = State::Gone(error.to_string()),
        }
        false
    }

    /// Takes the next complete line out of the bytes read so far.
    fn next_line(&mut self) -> Option<String> {
        if !matches!(self.state, State::Here) {
            return None;
        }
        let end = self.input.iter().position(|byte| *byte == b'\n');
        if end.unwrap_or(self.input.len()) > MAX_LINE {
            self.state = State::Gone(format!("a line of more than {} bytes", MAX_LINE));
            return None;
        }
        let line: Vec<u8> = self.input.drain(..=end?).collect();
        Some(clean(&line))
    }

    /// Queues a line, and sends as much as the kernel takes at once.
    fn send(&mut self, line: &str) {
        if !matches!(self.state, State::Here) {
            return;
        }
        let was_empty = self.output.is_empty();
        self.output.extend_from_slice(line.as_bytes());
        self.output.push(b'\n');
        // While older lines wait there is no room. An event will say when there is.
        if was_empty {
            self.flush();
        }
        if self.output.len() > MAX_OUTPUT {
            self.state = State::Gone("too slow".to_string());
        }
    }

    fn flush(&mut self) {
        let mut written = 0;
        while written < self.output.len() {
            match self.stream.write(&self.output[written..]) {
                Ok(n) => written += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => {
                    self.state = State::Gone(error.to_string());
                    break;
                }
            }
        }
        self.output.drain(..written);
    }
}

fn is_name(name: &str) -> bool {
    (1..=20).contains(&name.chars().count()) && name.chars().all(char::is_alphanumeric)
}

/// Text as it may appear on other people's terminals: no control characters.
fn clean(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let text: String = text.chars().filter(|char| !char.is_control()).collect();
    text.trim().to_string()
}

/// Errors of `accept` that concern one connection only.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset)
}

/// Prints a line. `println!` panics when nobody reads it any more (`chat | head -1`); this does not.
fn say(line: impl Display) {
    let _ = writeln!(io::stdout(), "{}", line);
}
