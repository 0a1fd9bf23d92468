//! A web page that shows the event queue it is served by, live.
//!
//! Run:  cargo run --example dashboard              then open http://127.0.0.1:7004 in a browser, or in two
//!       cargo run --example dashboard -- ADDRESS   listens there; port 0 takes any that is free
//! See:  each poll as it returns: how long it slept, its events with their tokens and readiness words, and what the loop
//!       did about them. The buttons open connections in each mode, send, half-close, reset and wake, so that one
//!       sees what the queue says to it. No network is needed, and no library either: one thread, this one file.
//!
//! How it works: a tab asks for `/events` and gets an answer that never ends, one message for each poll (server-sent
//! events). Buttons are requests as well, so they show up in the picture themselves. To write a message makes no event,
//! or the page would keep itself busy for ever.

use minimio::{Event, Events, Interests, Poll, Source, TcpStream, Token, Waker};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt::Display;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{self, Shutdown, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

/// The tokens of what is always there. Everything later gets the next number, and none is used twice.
const LISTENER: Token = 0;
const DOOR: Token = 1;
const WAKER: Token = 2;
const FIRST_FREE: Token = 3;

/// The most bytes of a request.
const MAX_REQUEST: usize = 8 * 1024;
/// The most bytes that wait for one browser. A tab that falls behind is cut off; it comes back by itself.
const MAX_OUTPUT: usize = 256 * 1024;
/// The most connections to play with.
const MAX_CONNECTIONS: usize = 12;
/// How many polls a new tab is told about.
const HISTORY: usize = 40;
/// A level-triggered connection that is not read ends every poll at once. After so many times we read it ourselves.
const MAX_UNREAD: u32 = 3;
/// How long to leave the listeners alone after one failed, for instance because all descriptors are in use.
const REST: Duration = Duration::from_millis(100);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.as_slice() {
        [] => serve("127.0.0.1:7004"),
        [address] if !address.starts_with('-') => serve(address),
        _ => Err("usage: dashboard [ADDRESS:PORT]".to_string()),
    };
    if let Err(message) = result {
        eprintln!("dashboard: {}", message);
        std::process::exit(2);
    }
}

fn serve(address: &str) -> Result<(), String> {
    let listener = listen(address).map_err(|error| format!("cannot listen on {}: {}", address, error))?;
    let dashboard = Dashboard::new(listener);
    dashboard
        .and_then(|mut dashboard| dashboard.run())
        .map_err(|error| format!("the event queue failed: {}", error))
}

fn listen(address: &str) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    say(format_args!("listening on http://{}", listener.local_addr()?));
    Ok(listener)
}

// ---- The queue, and a diary of what is done with it ----

struct Queue {
    poll: Poll,
    /// What was done since the last report, a line for each.
    diary: Vec<String>,
    /// How many events each source had so far.
    counts: HashMap<Token, u64>,
}

impl Queue {
    fn note(&mut self, line: impl Display) {
        self.diary.push(line.to_string());
    }

    fn register(&mut self, source: &impl Source, token: Token, interests: Interests) -> io::Result<()> {
        self.note(format_args!("register(…, {}, {:?})", token, interests));
        self.poll.registry().register(source, token, interests)
    }

    fn reregister(&mut self, source: &impl Source, token: Token, interests: Interests) -> io::Result<()> {
        self.note(format_args!("reregister(…, {}, {:?})", token, interests));
        self.poll.registry().reregister(source, token, interests)
    }
}

struct Dashboard {
    queue: Queue,
    /// Where browsers come in.
    listener: TcpListener,
    /// Where the connections to play with come in. Their other ends are ours, too.
    door: TcpListener,
    waker: Waker,
    browsers: BTreeMap<Token, Browser>,
    connections: BTreeMap<Token, Connection>,
    /// Other ends that have connected to the door and are not let in yet, by their address.
    arriving: HashMap<SocketAddr, Arrival>,
    next_token: Token,
    /// While the listeners rest: when to try again.
    resume: Option<Instant>,
    /// The button "sleep at most a second": when the second is over.
    timer: Option<Instant>,
    history: VecDeque<String>,
    started: Instant,
    polls: u64,
    events: u64,
    asleep: Duration,
}

impl Dashboard {
    fn new(listener: TcpListener) -> io::Result<Dashboard> {
        let door = TcpListener::bind("127.0.0.1:0")?;
        door.set_nonblocking(true)?;
        let poll = Poll::new()?;
        let waker = Waker::new(&poll.registrator(), WAKER)?;
        let mut queue = Queue { poll, diary: Vec::new(), counts: HashMap::new() };
        // One-shot: when accepting fails, we can leave a listener as it is, and it stays silent.
        queue.register(&listener, LISTENER, Interests::READABLE)?;
        queue.register(&door, DOOR, Interests::READABLE)?;
        Ok(Dashboard {
            queue,
            listener,
            door,
            waker,
            browsers: BTreeMap::new(),
            connections: BTreeMap::new(),
            arriving: HashMap::new(),
            next_token: FIRST_FREE,
            resume: None,
            timer: None,
            history: VecDeque::new(),
            started: Instant::now(),
            polls: 0,
            events: 0,
            asleep: Duration::ZERO,
        })
    }

    /// The loop: sleep, handle what happened, report it.
    fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(64);
        loop {
            let begin = Instant::now();
            self.wait(&mut events)?;
            let woke = Instant::now();
            self.polls += 1;
            self.events += events.len() as u64;
            self.asleep += woke - begin;

            let seen: Vec<String> = events.iter().map(|event| self.describe(event)).collect();
            for event in &events {
                *self.queue.counts.entry(event.id()).or_insert(0) += 1;
                self.handle(event)?;
            }
            self.look_at_the_clock(woke)?;
            self.report(&seen, begin, woke);
            self.settle();
        }
    }

    /// Sleeps until there are events, or until it is time to do something without one.
    fn wait(&mut self, events: &mut Events) -> io::Result<usize> {
        let times = [self.resume, self.timer];
        match times.iter().flatten().min() {
            None => self.queue.poll.poll(events, None),
            Some(time) => {
                let left = time.saturating_duration_since(Instant::now());
                self.queue.poll.poll_timeout(events, left)
            }
        }
    }

    fn look_at_the_clock(&mut self, now: Instant) -> io::Result<()> {
        if self.timer.map_or(false, |time| time <= now) {
            self.timer = None;
            self.queue.note("the second is over");
        }
        if self.resume.map_or(false, |time| time <= now) {
            self.resume = None;
            self.accept_browsers()?;
            self.accept_connections()?;
        }
        Ok(())
    }

    fn handle(&mut self, event: &Event) -> io::Result<()> {
        match event.id() {
            LISTENER => self.accept_browsers(),
            DOOR => self.accept_connections(),
            WAKER => Ok(()), // Nothing to do: to have woken up is all.
            token if self.connections.contains_key(&token) => {
                self.serve_connection(token);
                Ok(())
            }
            token => {
                self.serve_browser(token);
                Ok(())
            }
        }
    }

    // ---- Browsers: a small HTTP server ----

    fn accept_browsers(&mut self) -> io::Result<()> {
        loop {
            let (stream, peer) = match self.listener.accept() {
                Ok(accepted) => accepted,
                Err(error) => return self.accepted_all(LISTENER, error),
            };
            let token = self.take_token();
            self.queue.note(format_args!("accept() = a browser at {}", peer));
            if let Err(error) = self.add_browser(stream, token) {
                self.queue.note(format_args!("but it failed: {}", error));
            }
        }
    }

    fn add_browser(&mut self, stream: net::TcpStream, token: Token) -> io::Result<()> {
        let browser = Browser::new(stream)?;
        self.queue.register(&browser.stream, token, browser.asked)?;
        self.browsers.insert(token, browser);
        Ok(())
    }

    /// `accept` has no more for us: because nobody is waiting, or because something is wrong.
    fn accepted_all(&mut self, token: Token, error: io::Error) -> io::Result<()> {
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset => {
                let listener = if token == DOOR { &self.door } else { &self.listener };
                self.queue.reregister(listener, token, Interests::READABLE)
            }
            _ => {
                // Nothing changes by trying again at once; the others go on meanwhile.
                self.queue.note(format_args!("accept() failed: {}", error));
                self.resume = Some(Instant::now() + REST);
                Ok(())
            }
        }
    }

    fn take_token(&mut self) -> Token {
        self.next_token += 1;
        self.next_token - 1
    }

    fn serve_browser(&mut self, token: Token) {
        let browser = match self.browsers.get_mut(&token) {
            Some(browser) => browser,
            None => return, // It left earlier in this batch of events.
        };
        browser.read();
        while let Some((method, path)) = self.browsers.get_mut(&token).and_then(Browser::next_request) {
            self.queue.note(format_args!("{} {}", method, path));
            self.answer(token, &method, &path);
        }
    }

    fn answer(&mut self, token: Token, method: &str, path: &str) {
        let answer = match (method, path) {
            ("GET", "/") => http_answer("200 OK", "text/html; charset=utf-8", PAGE),
            ("GET", "/events") => self.begin_stream(token),
            ("POST", _) => match self.act(path) {
                Ok(()) => http_answer("204 No Content", "text/plain", ""),
                Err(reason) => {
                    self.queue.note(format_args!("refused: {}", reason));
                    http_answer("409 Conflict", "text/plain; charset=utf-8", &reason)
                }
            },
            _ => http_answer("404 Not Found", "text/plain", "there is no such page\n"),
        };
        if let Some(browser) = self.browsers.get_mut(&token) {
            browser.send(&answer);
        }
    }

    /// From now on this browser is a tab: its answer never ends. It begins with what happened so far.
    fn begin_stream(&mut self, token: Token) -> String {
        if let Some(browser) = self.browsers.get_mut(&token) {
            browser.is_tab = true;
        }
        let history: Vec<&str> = self.history.iter().map(String::as_str).collect();
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n\r\n\
             event: hello\ndata: {{\"now\":{},\"rows\":{},\"polls\":[{}]}}\n\n",
            self.started.elapsed().as_micros(),
            self.rows(),
            history.join(",")
        )
    }

    // ---- The buttons ----

    fn act(&mut self, path: &str) -> Result<(), String> {
        let mut words = path.trim_start_matches('/').split('/');
        let action = words.next().unwrap_or("");
        let subject = words.next().unwrap_or("");
        match action {
            "open" => self.open(subject, words.next() == Some("byhand")),
            "wake" => {
                self.queue.note("wake() three times");
                for _ in 0..3 {
                    self.waker.wake().map_err(|error| error.to_string())?;
                }
                Ok(())
            }
            "timer" => {
                self.timer = Some(Instant::now() + Duration::from_secs(1));
                Ok(())
            }
            _ => {
                let token = subject.parse().map_err(|_| "which connection?")?;
                self.act_on_connection(action, token)
            }
        }
    }

    fn act_on_connection(&mut self, action: &str, token: Token) -> Result<(), String> {
        let connection = self.connections.get_mut(&token);
        let connection = connection.ok_or_else(|| format!("connection {} is gone", token))?;
        match action {
            "read" => {
                self.read_connection(token);
                Ok(())
            }
            "arm" => {
                connection.armed = true;
                self.queue
                    .reregister(&connection.stream, token, connection.interests)
                    .map_err(|error| error.to_string())
            }
            _ => {
                let line = connection.act_as_peer(action)?;
                self.queue.note(line);
                Ok(())
            }
        }
    }

    /// Makes a connection from us to us. One end goes to the door and will be accepted there; the other one is the peer
    /// that the buttons move.
    fn open(&mut self, mode: &str, by_hand: bool) -> Result<(), String> {
        let interests = match mode {
            "oneshot" => Interests::READABLE,
            "level" => Interests::READABLE | Interests::LEVEL,
            "edge" => Interests::READABLE | Interests::EDGE,
            _ => return Err("a mode is oneshot, level or edge".to_string()),
        };
        if self.connections.len() + self.arriving.len() >= MAX_CONNECTIONS {
            return Err(format!("{} connections are enough", MAX_CONNECTIONS));
        }
        let arrival = self.connect(interests, by_hand);
        arrival.map_err(|error| error.to_string())
    }

    fn connect(&mut self, interests: Interests, by_hand: bool) -> io::Result<()> {
        // This does not wait for our `accept`: the kernel itself answers for a listener.
        let peer = net::TcpStream::connect(self.door.local_addr()?)?;
        peer.set_nonblocking(true)?;
        let address = peer.local_addr()?;
        self.queue.note(format_args!("a peer connects from {}", address));
        let arrival = Arrival { peer, interests, by_hand };
        self.arriving.insert(address, arrival);
        Ok(())
    }

    // ---- Connections to play with ----

    fn accept_connections(&mut self) -> io::Result<()> {
        loop {
            let (stream, address) = match self.door.accept() {
                Ok(accepted) => accepted,
                Err(error) => return self.accepted_all(DOOR, error),
            };
            // Somebody else at our door is sent away.
            let arrival = match self.arriving.remove(&address) {
                Some(arrival) => arrival,
                None => continue,
            };
            let token = self.take_token();
            self.queue.note(format_args!("accept() = connection {}", token));
            if let Err(error) = self.add_connection(stream, arrival, token) {
                self.queue.note(format_args!("but it failed: {}", error));
            }
        }
    }

    fn add_connection(&mut self, stream: net::TcpStream, arrival: Arrival, token: Token) -> io::Result<()> {
        let connection = Connection::new(stream, arrival)?;
        self.queue.register(&connection.stream, token, connection.interests)?;
        self.connections.insert(token, connection);
        Ok(())
    }

    /// Reads at once, or leaves it to whoever watches.
    fn serve_connection(&mut self, token: Token) {
        let connection = match self.connections.get_mut(&token) {
            Some(connection) => connection,
            None => return,
        };
        if connection.interests.is_oneshot() {
            connection.armed = false;
        }
        if !connection.by_hand {
            return self.read_connection(token);
        }
        connection.unread += 1;
        if !connection.interests.is_level() {
            self.queue.note(format_args!("{} is left unread, as you wish", token));
        } else if connection.unread < MAX_UNREAD {
            let unread = connection.unread;
            self.queue.note(format_args!("{} is left unread ({} of {})", token, unread, MAX_UNREAD));
        } else {
            self.queue.note("enough, or the loop would never sleep again:");
            self.read_connection(token);
        }
    }

    /// Reads until there is no more, for now or for good.
    fn read_connection(&mut self, token: Token) {
        let connection = match self.connections.get_mut(&token) {
            Some(connection) => connection,
            None => return,
        };
        connection.unread = 0;
        match connection.read() {
            Ok((bytes, false)) => {
                self.queue.note(format_args!("read({}) = {} bytes, then WouldBlock", token, bytes));
                if connection.interests.is_oneshot() && !connection.by_hand {
                    connection.armed = true;
                    let again = self.queue.reregister(&connection.stream, token, connection.interests);
                    if again.is_err() {
                        self.connections.remove(&token);
                    }
                }
            }
            Ok((bytes, true)) => {
                // The peer sends no more. It may still read, so there can be an answer.
                let answer = connection.stream.write(b"bye");
                let answer = answer.map_or_else(|error| error.to_string(), |n| format!("{} bytes", n));
                self.queue.note(format_args!("read({}) = {} bytes, then 0: the end", token, bytes));
                self.queue.note(format_args!("write({}, \"bye\") = {}", token, answer));
                self.close_connection(token);
            }
            Err(error) => {
                self.queue.note(format_args!("read({}) = {}", token, error));
                self.close_connection(token);
            }
        }
    }

    /// Dropping the stream closes it, and a closed stream leaves the queue by itself.
    fn close_connection(&mut self, token: Token) {
        self.connections.remove(&token);
        self.queue.note(format_args!("close({})", token));
    }

    // ---- What the tabs are told ----

    /// One event as JSON.
    fn describe(&self, event: &Event) -> String {
        let words = [
            (event.is_readable(), "readable"),
            (event.is_writable(), "writable"),
            (event.is_read_closed(), "read-closed"),
            (event.is_write_closed(), "write-closed"),
            (event.is_error(), "error"),
        ];
        let words = words.iter().filter(|(said, _)| *said);
        let words: Vec<String> = words.map(|(_, word)| quote(word)).collect();
        let token = event.id();
        format!("{{\"token\":{},\"who\":{},\"words\":[{}]}}", token, quote(self.name(token)), words.join(","))
    }

    fn name(&self, token: Token) -> &'static str {
        match token {
            LISTENER => "listener",
            DOOR => "door",
            WAKER => "waker",
            _ if self.connections.contains_key(&token) => "connection",
            _ => match self.browsers.get(&token) {
                Some(browser) if browser.is_tab => "tab",
                Some(_) => "browser",
                None => "gone",
            },
        }
    }

    /// Everything that is registered, as JSON.
    fn rows(&self) -> String {
        let listens = format!("{:?}", Interests::READABLE);
        let mut rows =
            vec![self.row(LISTENER, &listens, ""), self.row(DOOR, &listens, ""), self.row(WAKER, "", "")];
        for (token, browser) in &self.browsers {
            rows.push(self.row(*token, &format!("{:?}", browser.asked), ""));
        }
        for (token, connection) in &self.connections {
            let more = format!(
                ",\"armed\":{},\"byHand\":{},\"peer\":{}",
                connection.armed,
                connection.by_hand,
                quote(connection.peer_state())
            );
            rows.push(self.row(*token, &format!("{:?}", connection.interests), &more));
        }
        format!("[{}]", rows.join(","))
    }

    fn row(&self, token: Token, interests: &str, more: &str) -> String {
        format!(
            "{{\"token\":{},\"who\":{},\"interests\":{},\"events\":{}{}}}",
            token,
            quote(self.name(token)),
            quote(interests),
            self.queue.counts.get(&token).unwrap_or(&0),
            more
        )
    }

    /// Tells all tabs about the poll that ended at `woke`. Times are in microseconds.
    fn report(&mut self, seen: &[String], begin: Instant, woke: Instant) {
        let diary: Vec<String> = self.queue.diary.drain(..).map(|line| quote(&line)).collect();
        let poll = format!(
            "{{\"poll\":{},\"at\":{},\"asleep\":{},\"awake\":{},\"events\":[{}],\"did\":[{}],\
             \"total\":{{\"events\":{},\"asleep\":{},\"elapsed\":{}}}}}",
            self.polls,
            (woke - self.started).as_micros(),
            (woke - begin).as_micros(),
            woke.elapsed().as_micros(),
            seen.join(","),
            diary.join(","),
            self.events,
            self.asleep.as_micros(),
            self.started.elapsed().as_micros(),
        );
        let message = format!("event: poll\ndata: {{\"poll\":{},\"rows\":{}}}\n\n", poll, self.rows());
        for tab in self.browsers.values_mut().filter(|browser| browser.is_tab) {
            tab.send(&message);
        }
        self.history.push_back(poll);
        if self.history.len() > HISTORY {
            self.history.pop_front();
        }
    }

    /// After each batch: writes what waits, asks for the right events next time, and lets go who is done.
    fn settle(&mut self) {
        let mut done = Vec::new();
        for (token, browser) in &mut self.browsers {
            browser.flush();
            let wanted = browser.interests();
            if wanted != browser.asked && !browser.is_gone {
                browser.asked = wanted;
                let again = self.queue.reregister(&browser.stream, *token, wanted);
                browser.is_gone = again.is_err();
            }
            if browser.is_gone {
                done.push(*token);
            }
        }
        for token in done {
            self.browsers.remove(&token);
            self.queue.note(format_args!("close({})", token));
        }
        let (connections, browsers) = (&self.connections, &self.browsers);
        self.queue.counts.retain(|token, _| {
            *token < FIRST_FREE || connections.contains_key(token) || browsers.contains_key(token)
        });
    }
}

/// A connection of a browser.
struct Browser {
    stream: TcpStream,
    /// The beginning of a request whose end has not come yet.
    input: Vec<u8>,
    /// What waits until the browser reads.
    output: Vec<u8>,
    /// It gets a message for each poll.
    is_tab: bool,
    /// No further request; close when the output is written.
    is_closing: bool,
    is_gone: bool,
    /// What the stream is registered for.
    asked: Interests,
}

impl Browser {
    fn new(stream: net::TcpStream) -> io::Result<Browser> {
        let stream = TcpStream::from_std(stream)?;
        let _ = stream.set_nodelay(true);
        Ok(Browser {
            stream,
            input: Vec::new(),
            output: Vec::new(),
            is_tab: false,
            is_closing: false,
            is_gone: false,
            asked: Interests::READABLE | Interests::LEVEL,
        })
    }

    /// `WRITABLE` only while something waits, and no further request until then. But a tab has no more requests; it
    /// is watched for its end.
    fn interests(&self) -> Interests {
        let direction = match (self.output.is_empty(), self.is_tab) {
            (true, _) => Interests::READABLE,
            (false, true) => Interests::READABLE | Interests::WRITABLE,
            (false, false) => Interests::WRITABLE,
        };
        direction | Interests::LEVEL
    }

    /// Reads once, so that nobody keeps us from the others.
    fn read(&mut self) {
        let mut buffer = [0; 4096];
        if self.interests().is_readable() {
            match self.stream.read(&mut buffer) {
                Ok(0) => self.is_gone = true,
                Ok(_) if self.is_tab => {}
                Ok(n) => self.input.extend_from_slice(&buffer[..n]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => self.is_gone = true,
            }
        }
    }

    /// Takes the next complete request out of what was read: its method and its path.
    fn next_request(&mut self) -> Option<(String, String)> {
        if self.is_tab || self.is_closing || self.is_gone {
            return None;
        }
        let end = self.input.windows(4).position(|four| four == b"\r\n\r\n");
        if end.unwrap_or(self.input.len()) > MAX_REQUEST {
            return self.refuse("431 Request Header Fields Too Large");
        }
        let head: Vec<u8> = self.input.drain(..end? + 4).collect();
        let head = String::from_utf8_lossy(&head).into_owned();
        let mut lines = head.lines();
        if lines.any(has_body) {
            return self.refuse("413 Content Too Large");
        }
        let words: Vec<&str> = head.lines().next().unwrap_or("").split(' ').collect();
        match words[..] {
            [method @ ("GET" | "POST"), path, "HTTP/1.1"] if path.starts_with('/') => {
                Some((method.to_string(), path.to_string()))
            }
            _ => self.refuse("400 Bad Request"),
        }
    }

    fn refuse<T>(&mut self, status: &str) -> Option<T> {
        self.send(&http_answer(status, "text/plain", "no\n"));
        self.is_closing = true;
        None
    }

    fn send(&mut self, text: &str) {
        self.output.extend_from_slice(text.as_bytes());
        if self.output.len() > MAX_OUTPUT {
            self.is_gone = true;
        }
    }

    fn flush(&mut self) {
        let mut written = 0;
        while written < self.output.len() {
            match self.stream.write(&self.output[written..]) {
                Ok(n) => written += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => {
                    self.is_gone = true;
                    break;
                }
            }
        }
        self.output.drain(..written);
        if self.is_closing && self.output.is_empty() {
            self.is_gone = true;
        }
    }
}

/// Nobody needs to send us more than a head.
fn has_body(line: &str) -> bool {
    let line = line.to_ascii_lowercase();
    match line.split_once(':') {
        Some(("content-length", length)) => length.trim() != "0",
        Some(("transfer-encoding", _)) => true,
        _ => false,
    }
}

fn http_answer(status: &str, content_type: &str, body: &str) -> String {
    // An answer without content has no length either.
    let length = match body {
        "" => String::new(),
        body => format!("Content-Length: {}\r\n", body.len()),
    };
    format!(
        "HTTP/1.1 {}\r\nContent-Type: {}\r\nCache-Control: no-store\r\n{}\r\n{}",
        status, content_type, length, body
    )
}

/// The other end of a connection that waits at the door.
struct Arrival {
    peer: net::TcpStream,
    interests: Interests,
    by_hand: bool,
}

/// Both ends of a connection: the stream that the queue watches, and the peer that the buttons move.
struct Connection {
    stream: TcpStream,
    interests: Interests,
    /// Somebody at a browser decides when to read and when to re-arm.
    by_hand: bool,
    /// A one-shot registration is armed until its event, and again after `reregister`.
    armed: bool,
    /// How many events came since the last read.
    unread: u32,
    peer: Option<net::TcpStream>,
    peer_is_half_closed: bool,
}

impl Connection {
    fn new(stream: net::TcpStream, arrival: Arrival) -> io::Result<Connection> {
        let mut stream = TcpStream::from_std(stream)?;
        // The peer leaves this unread, for the sake of the reset button.
        stream.write_all(b"hello")?;
        Ok(Connection {
            stream,
            interests: arrival.interests,
            by_hand: arrival.by_hand,
            armed: true,
            unread: 0,
            peer: Some(arrival.peer),
            peer_is_half_closed: false,
        })
    }

    fn peer_state(&self) -> &'static str {
        match (&self.peer, self.peer_is_half_closed) {
            (None, _) => "gone",
            (Some(_), true) => "half-closed",
            (Some(_), false) => "open",
        }
    }

    /// Presses one of the peer's buttons and says what happened.
    fn act_as_peer(&mut self, action: &str) -> Result<String, String> {
        let mut peer = self.peer.as_ref().ok_or("the peer is gone")?;
        let done = match action {
            "send" => match peer.write(b"hello") {
                Ok(n) => format!("sends {} bytes", n),
                Err(error) => format!("cannot send: {}", error),
            },
            "half" => {
                let closed = peer.shutdown(Shutdown::Write);
                closed.map_err(|error| error.to_string())?;
                self.peer_is_half_closed = true;
                "half-closes: it sends no more, but reads".to_string()
            }
            "close" => {
                // First read what is there, or this would be a reset.
                let mut buffer = [0; 64];
                while matches!(peer.read(&mut buffer), Ok(n) if n > 0) {}
                self.peer = None;
                "closes".to_string()
            }
            // To close with bytes unread tells the other side that they are lost: a reset. (On macOS and the BSDs the reset
            // comes only in answer to what we write next.)
            "reset" => {
                self.peer = None;
                "resets".to_string()
            }
            _ => return Err(format!("there is no button {}", action)),
        };
        Ok(format!("the peer {}", done))
    }

    /// Reads all there is: how many bytes, and whether that was the end.
    fn read(&mut self) -> io::Result<(usize, bool)> {
        let mut buffer = [0; 4096];
        let mut bytes = 0;
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Ok((bytes, true)),
                Ok(n) => bytes += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok((bytes, false)),
                Err(error) => return Err(error),
            }
        }
    }
}

/// A string as JSON has it.
fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for char in text.chars() {
        match char {
            '"' | '\\' => quoted.extend(['\\', char]),
            char if char.is_control() => quoted.push(' '),
            char => quoted.push(char),
        }
    }
    quoted + "\""
}

/// Prints a line. `println!` panics when nobody reads it any more (`dashboard | head -1`); this does not.
fn say(line: impl Display) {
    let _ = writeln!(io::stdout(), "{}", line);
}

/// The page: plain HTML, CSS and JavaScript, complete in this file.
const PAGE: &str = r##"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>minimio: the event queue, live</title>
<link rel="icon" href="data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'><circle cx='8' cy='8' r='6' fill='%235b8cff'/></svg>">
<style>
  :root {
    color-scheme: dark;
    --page: #0d1117; --card: #161b22; --line: #2b323d; --text: #e6edf3; --soft: #93a0af;
    --sleep: #33427a; --awake: #ffd257; --accent: #6ea0ff;
    --readable: #3fb970; --writable: #4aa3ff; --closed: #e0a03a; --error: #ff6b6b;
  }
  @media (prefers-color-scheme: light) {
    :root {
      color-scheme: light;
      --page: #f3f5f8; --card: #fff; --line: #d8dee6; --text: #1b2430; --soft: #5d6b7b;
      --sleep: #c5d0f5; --awake: #d98e00; --accent: #2456c9;
      --readable: #14794a; --writable: #1463b8; --closed: #935f00; --error: #c62828;
    }
  }
  * { box-sizing: border-box }
  body { margin: 0; background: var(--page); color: var(--text); font: 15px/1.45 system-ui, sans-serif }
  main { max-width: 1280px; margin: 0 auto; padding: 16px; display: grid; gap: 14px }
  header { display: flex; flex-wrap: wrap; gap: 2px 14px; align-items: baseline }
  h1 { font-size: 22px; margin: 0; letter-spacing: -.02em }
  h2 { font-size: 15px; margin: 0 0 10px }
  h2 small, .soft { color: var(--soft); font-weight: normal }
  header .soft { flex: 1; min-width: 240px }
  .pill { border: 1px solid var(--line); border-radius: 99px; padding: 1px 11px; font-size: 13px; color: var(--soft) }
  .pill::before { content: ""; display: inline-block; width: 8px; height: 8px; margin-right: 7px; border-radius: 50%;
    background: var(--closed) }
  .pill.live::before { background: var(--readable) }
  .card { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 14px; min-width: 0 }
  .tiles { display: grid; grid-template-columns: repeat(5, 1fr); gap: 10px }
  .tile { padding: 10px 14px }
  .tile b { display: block; font-size: 22px; line-height: 1.25; font-variant-numeric: tabular-nums; white-space: nowrap }
  .tile span { color: var(--soft); font-size: 13px }
  canvas { display: block; width: 100% }
  .columns { display: grid; grid-template-columns: minmax(0, 5fr) minmax(0, 6fr); gap: 14px; align-items: start }
  .left { display: grid; gap: 14px }
  .row { display: flex; flex-wrap: wrap; gap: 6px 8px; align-items: center }
  .row + .row { margin-top: 10px }
  button { font: inherit; font-size: 14px; color: inherit; background: transparent; border: 1px solid var(--line);
    border-radius: 8px; padding: 4px 11px; min-height: 32px; cursor: pointer }
  button:hover { border-color: var(--accent); color: var(--accent) }
  button:active { transform: translateY(1px) }
  button:disabled { opacity: .4; pointer-events: none }
  button.main { background: var(--accent); border-color: var(--accent); color: var(--page); font-weight: 600 }
  button.main:hover { filter: brightness(1.1) }
  :focus-visible { outline: 2px solid var(--accent); outline-offset: 2px }
  label { display: inline-flex; gap: 7px; align-items: center; cursor: pointer }
  input { width: 17px; height: 17px; accent-color: var(--accent); margin: 0 }
  .source { display: grid; grid-template-columns: auto 1fr auto; gap: 2px 10px; align-items: center; padding: 8px 0;
    border-top: 1px solid var(--line) }
  .source:first-of-type { border-top: 0; padding-top: 0 }
  .source:last-of-type { padding-bottom: 0 }
  .source .count { color: var(--soft); font-size: 13px; font-variant-numeric: tabular-nums; white-space: nowrap }
  .source .buttons { grid-column: 2 / -1; display: flex; flex-wrap: wrap; gap: 6px; align-items: center; margin-top: 4px;
    font-size: 13px; color: var(--soft) }
  .source .buttons span { width: 44px }
  code { font: 12.5px/1.5 ui-monospace, Menlo, Consolas, monospace; color: var(--soft) }
  .source code { white-space: nowrap }
  .badge { display: inline-grid; place-items: center; min-width: 32px; height: 22px; padding: 0 6px; border-radius: 7px;
    font-size: 13px; font-weight: 700; font-variant-numeric: tabular-nums; color: #0d1117 }
  .word { border-radius: 99px; padding: 0 9px; font-size: 13px; border: 1px solid currentColor }
  .readable { color: var(--readable) } .writable { color: var(--writable) }
  .read-closed, .write-closed { color: var(--closed) } .error { color: var(--error) }
  .off { color: var(--closed); font-size: 13px }
  .columns > .card { position: sticky; top: 14px }
  #log { max-height: min(640px, calc(100vh - 90px)); overflow-y: auto; overscroll-behavior: contain; margin: 0 -14px -14px; padding: 0 14px 14px }
  .poll { border-top: 1px solid var(--line); padding: 9px 0; animation: come .35s ease-out }
  .poll:first-child { border-top: 0 }
  .poll .head { display: flex; flex-wrap: wrap; gap: 0 10px; font-size: 13px; color: var(--soft);
    font-variant-numeric: tabular-nums }
  .poll .head b { color: var(--text) }
  .poll .event { display: flex; flex-wrap: wrap; gap: 6px; align-items: center; margin: 5px 0 }
  .poll code { display: block; overflow-wrap: anywhere; padding-left: 10px; border-left: 2px solid var(--line) }
  @keyframes come { from { background: color-mix(in srgb, var(--awake) 22%, transparent) } }
  #toast { position: fixed; left: 50%; bottom: 22px; transform: translateX(-50%); background: var(--error); color: var(--page);
    padding: 8px 16px; border-radius: 10px; font-weight: 600; opacity: 0; transition: opacity .2s; pointer-events: none }
  #toast.show { opacity: 1 }
  footer { color: var(--soft); font-size: 13px }
  @media (max-width: 800px) {
    main { padding: 12px; gap: 12px }
    .columns { grid-template-columns: minmax(0, 1fr) }
    .tiles { grid-template-columns: repeat(6, 1fr) }
    .tile { grid-column: span 2; padding: 9px 12px } .tile:first-child, .tile:nth-child(2) { grid-column: span 3 }
    .tile b { font-size: 19px }
    header .soft { order: 1; flex-basis: 100% }
    .pill { margin-left: auto }
    button { min-height: 40px; padding: 4px 12px }
    .source .buttons { grid-column: 1 / -1 }
    .source .buttons span { width: 32px }
    .source .buttons button { padding: 4px 10px }
    .columns > .card { position: static }
    #log { max-height: none }
    .poll:nth-child(n + 21) { display: none }
  }
  @media (prefers-reduced-motion: reduce) { .poll { animation: none } }
</style>
<main>
  <header>
    <h1>minimio</h1>
    <span class="soft">One thread, one event queue. It serves this page and shows itself at work.</span>
    <span class="pill" id="live">connecting</span>
  </header>
  <section class="tiles">
    <div class="card tile"><b id="state">–</b><span id="stateof">the loop</span></div>
    <div class="card tile"><b id="share">–</b><span>of its time asleep</span></div>
    <div class="card tile"><b id="polls">–</b><span>polls</span></div>
    <div class="card tile"><b id="events">–</b><span>events</span></div>
    <div class="card tile"><b id="sources">–</b><span>registered</span></div>
  </section>
  <section class="card">
    <h2>The last 20 seconds <small>a line for each token, a dot for each event</small></h2>
    <canvas id="time" height="120" role="img" aria-label="Events of the last 20 seconds, by token"></canvas>
  </section>
  <div class="columns">
    <div class="left">
      <section class="card" id="controls">
        <h2>Open a connection <small>the loop gets one end, you move the other</small></h2>
        <div class="row">
          <button class="main" data-open="oneshot">One-shot</button>
          <button class="main" data-open="level">Level</button>
          <button class="main" data-open="edge">Edge</button>
          <label><input type="checkbox" id="byhand"> read by hand</label>
        </div>
        <div class="row">
          <button data-do="/wake">Wake 3 times</button>
          <button data-do="/timer">Sleep 1 s at most</button>
        </div>
      </section>
      <section class="card" id="rows"><h2>Registered <small>token, source, interests</small></h2></section>
    </div>
    <section class="card">
      <h2>Polls <small>the newest first</small></h2>
      <div id="log"></div>
    </section>
  </div>
  <footer>Each button is an HTTP request to the same loop, so it shows up as an event of its own. Telling the tabs makes
    no event, or this page would keep its loop awake for ever.</footer>
</main>
<div id="toast" role="alert"></div>
<script>
"use strict";
const SPAN = 20e6; // The width of the picture, in microseconds as all times here.
const get = id => document.getElementById(id);
let polls = [], rows = [], clock = null, total = null;

// Text is always set as text: nothing that comes from outside is read as HTML.
function make(tag, kind, ...children) {
  const node = document.createElement(tag);
  if (kind) node.className = kind;
  node.append(...children);
  return node;
}
function time(us) {
  if (us < 1000) return Math.round(us) + " µs";
  if (us < 1e6) return (us / 1e3).toFixed(us < 1e4 ? 1 : 0) + " ms";
  return us < 6e7 ? (us / 1e6).toFixed(1) + " s" : Math.floor(us / 6e7) + " min " + Math.floor(us % 6e7 / 1e6) + " s";
}
const color = token => `hsl(${(token * 67 + 205) % 360} 70% 66%)`;
function badge(token) {
  const node = make("span", "badge", String(token));
  node.style.background = color(token);
  return node;
}
const now = () => performance.now() * 1000 - clock;

// ---- What the server tells ----

function listen() {
  const stream = new EventSource("/events");
  stream.addEventListener("hello", message => {
    const hello = JSON.parse(message.data);
    clock = performance.now() * 1000 - hello.now;
    polls = [];
    get("log").replaceChildren();
    hello.polls.forEach(addPoll);
    showRows(hello.rows);
    get("live").className = "pill live";
    get("live").textContent = "live";
  });
  stream.addEventListener("poll", message => {
    const news = JSON.parse(message.data);
    addPoll(news.poll);
    showRows(news.rows);
  });
  stream.onerror = () => {
    get("live").className = "pill";
    get("live").textContent = "connecting again";
    // The browser tries again by itself, unless the server refused.
    if (stream.readyState === EventSource.CLOSED) setTimeout(listen, 2000);
  };
}

function addPoll(poll) {
  polls.push(poll);
  while (polls.length > 400) polls.shift();
  total = poll.total;
  const count = poll.events.length;
  const head = make("div", "head", make("b", "", "#" + poll.poll), "slept " + time(poll.asleep),
    make("b", "", count === 0 ? "no event: time is up" : count === 1 ? "1 event" : count + " events"),
    "awake " + time(poll.awake));
  const node = make("div", "poll", head);
  for (const event of poll.events) {
    const line = make("div", "event", badge(event.token), event.who);
    for (const word of event.words) line.append(make("span", "word " + word, word));
    node.append(line);
  }
  for (const did of poll.did) node.append(make("code", "", did));
  const log = get("log");
  log.prepend(node);
  while (log.childElementCount > 80) log.lastChild.remove();
}

// ---- What is registered; a line is made anew only when it changed, or buttons would vanish under the finger ----

const lines = new Map();
function showRows(next) {
  rows = next;
  const seen = new Set();
  for (const row of rows) {
    const text = JSON.stringify(row), line = lines.get(row.token);
    seen.add(row.token);
    if (line && line.text === text) continue;
    const node = makeRow(row);
    if (line) line.node.replaceWith(node); else get("rows").append(node);
    lines.set(row.token, { text, node });
  }
  for (const [token, line] of lines) {
    if (!seen.has(token)) { line.node.remove(); lines.delete(token); }
  }
}

function mode(interests) {
  if (interests === "") return "many wakes, one event";
  return /LEVEL|EDGE/.test(interests) ? interests : interests + " (one-shot)";
}

function makeRow(row) {
  const what = make("span", "", row.who + " ", make("code", "", mode(row.interests)));
  const count = make("span", "count", row.events + (row.events === 1 ? " event" : " events"));
  const node = make("div", "source", badge(row.token), what, count);
  if (row.who !== "connection") return node;
  if (!row.armed) what.append(" ", make("span", "off", "disarmed"));
  const button = (text, path, enabled) => {
    const node = make("button", "", text);
    node.dataset.do = `/${path}/${row.token}`;
    node.disabled = !enabled;
    return node;
  };
  const here = row.peer !== "gone";
  node.append(make("div", "buttons", make("span", "", "peer"), button("Send", "send", row.peer === "open"),
    button("Half-close", "half", row.peer === "open"), button("Close", "close", here), button("Reset", "reset", here)));
  if (row.byHand) {
    const ours = make("div", "buttons", make("span", "", "ours"), button("Read", "read", true));
    if (!/LEVEL|EDGE/.test(row.interests)) ours.append(button("Re-arm", "arm", true));
    node.append(ours);
  }
  return node;
}

// ---- Buttons ----

function toast(text) {
  get("toast").textContent = text;
  get("toast").className = "show";
  clearTimeout(toast.timer);
  toast.timer = setTimeout(() => get("toast").className = "", 2500);
}
document.addEventListener("click", async click => {
  const button = click.target.closest("button");
  if (!button) return;
  const open = button.dataset.open;
  const path = open ? `/open/${open}${get("byhand").checked ? "/byhand" : ""}` : button.dataset.do;
  try {
    const answer = await fetch(path, { method: "POST" });
    if (!answer.ok) toast(await answer.text());
  } catch {
    toast("the server does not answer");
  }
});

// ---- The picture ----

function draw() {
  requestAnimationFrame(draw);
  if (clock === null || !total) return;
  const last = polls[polls.length - 1], at = now();
  const asleep = Math.max(0, at - last.at - last.awake);
  get("state").textContent = time(asleep < 1e6 ? Math.floor(asleep / 1e5) * 1e5 : asleep);
  get("stateof").textContent = "asleep in poll #" + (last.poll + 1);
  get("share").textContent = (100 * (total.asleep + asleep) / Math.max(1, total.elapsed + asleep)).toFixed(2) + " %";
  get("polls").textContent = last.poll;
  get("events").textContent = total.events;
  get("sources").textContent = rows.length;

  const recent = polls.filter(poll => poll.at > at - SPAN);
  const names = new Map();
  for (const poll of recent) for (const event of poll.events) names.set(event.token, event.who);
  for (const row of rows) names.set(row.token, row.who);
  const lanes = [...names.keys()].sort((a, b) => a - b);

  const canvas = get("time"), scale = devicePixelRatio || 1;
  const width = canvas.clientWidth, laneHeight = 19, top = 30, height = top + lanes.length * laneHeight + 20;
  if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    canvas.style.height = height + "px";
  }
  const style = getComputedStyle(document.documentElement), paint = name => style.getPropertyValue(name);
  const pen = canvas.getContext("2d");
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, width, height);
  pen.font = "12px system-ui, sans-serif";
  pen.textBaseline = "middle";
  const left = 112, x = when => left + (width - left - 8) * (1 - (at - when) / SPAN);
  const from = Math.max(at - SPAN, 0);

  // The loop itself: asleep is the rule, awake the exception.
  pen.fillStyle = paint("--soft");
  pen.fillText("the loop", 0, 11);
  pen.fillStyle = paint("--sleep");
  pen.fillRect(x(from), 3, x(at) - x(from), 16);
  for (const poll of recent) {
    pen.fillStyle = paint("--awake");
    pen.fillRect(x(poll.at), 1, Math.max(2, x(poll.at + poll.awake) - x(poll.at)), 20);
  }

  lanes.forEach((token, lane) => {
    const y = top + lane * laneHeight + laneHeight / 2;
    pen.fillStyle = color(token);
    pen.beginPath();
    pen.arc(5, y, 4, 0, 7);
    pen.fill();
    pen.fillStyle = paint("--soft");
    pen.fillText(token + " " + names.get(token), 15, y + 1);
    pen.fillStyle = paint("--line");
    pen.fillRect(left, y, width - left - 8, 1);
  });
  for (const poll of recent) {
    for (const event of poll.events) {
      const y = top + lanes.indexOf(event.token) * laneHeight + laneHeight / 2;
      pen.strokeStyle = pen.fillStyle = event.words.includes("error") ? paint("--error") : color(event.token);
      pen.globalAlpha = .25;
      pen.fillRect(x(poll.at), 21, 1, y - 21);
      pen.globalAlpha = 1;
      pen.beginPath();
      pen.arc(x(poll.at), y, 4.5, 0, 7);
      pen.fill();
      if (event.words.some(word => /closed|error/.test(word))) {
        // The end of something: a ring around the dot.
        pen.lineWidth = 1.5;
        pen.beginPath();
        pen.arc(x(poll.at), y, 7.5, 0, 7);
        pen.stroke();
      }
    }
  }

  pen.fillStyle = paint("--soft");
  pen.textAlign = "center";
  for (let ago = 5; ago < 20; ago += 5) pen.fillText(`−${ago} s`, x(at - ago * 1e6), height - 8);
  pen.textAlign = "right";
  pen.fillText("now", width - 8, height - 8);
  pen.textAlign = "left";
}
listen();
draw();
</script>
"##;
