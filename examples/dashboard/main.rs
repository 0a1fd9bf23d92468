//! A web page with ten live lessons about event queues, served by the queue that it shows.
//!
//! Run:  cargo run --example dashboard              then open http://127.0.0.1:7004 in a browser, or in two
//!       cargo run --example dashboard -- ADDRESS   listens there; port 0 takes any that is free
//! See:  each poll as it returns: how long it slept, its events with their tokens and readiness words, what the loop did
//!       about them, and what became of the kernel's lists. The buttons open connections in each mode, send, half-close,
//!       reset and wake; the lessons say which to press and why the queue answers as it does. No network is needed. Ctrl-C ends it.
//!
//! How it works: a tab asks for `/events` and gets an answer that never ends, one message for each poll (server-sent
//! events). Buttons are requests as well, so they show up in the picture themselves. To write a message makes no event,
//! or the page would keep its own loop awake for ever.
//!
//! `browser.rs` is the HTTP server, `connection.rs` what the buttons move; the other files are the page.

mod browser;
mod connection;
#[path = "../shutdown/ctrl_c.rs"]
mod ctrl_c;

use browser::{answer, Browser, Request};
use connection::{Arrival, Connection, Outcome};
use minimio::{Event, Events, Interests, Poll, Source, TcpListener, TcpStream, Token, Waker};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::net::{self, SocketAddr};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

/// The tokens of what is always there. Everything later gets the next number, and none is used twice.
const WEB_LISTENER: Token = 1;
const PRACTICE_LISTENER: Token = 2;
const WAKER: Token = 3;
const CTRL_C: Token = 4;
const FIRST_FREE: Token = 5;

/// The most connections to practice with.
const MAX_CONNECTIONS: usize = 12;
/// A browser opens at most six connections to one server, and a tab's stream takes one for good. So that the buttons have some
/// left, only so many tabs are told at a time; one more takes the place of the oldest.
const MAX_TABS: usize = 4;
/// How many polls a new tab is told about.
const HISTORY: usize = 40;
/// A level-triggered connection that is left unread ends every poll at once. To be watched, that is slowed down.
const SLOW_MOTION: Duration = Duration::from_millis(250);
/// And after so many times the loop reads it without being asked.
const MAX_UNREAD: u32 = 240;
/// How long to leave the listeners alone after one failed, for instance because all descriptors are in use.
const REST: Duration = Duration::from_millis(100);

const HTML: &str = "text/html; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

const SYSTEM: &str = if cfg!(windows) {
    "iocp"
} else if cfg!(any(target_os = "linux", target_os = "android")) {
    "epoll"
} else {
    "kqueue"
};

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
    say(format_args!("listening on http://{}", listener.local_addr()?));
    Ok(listener)
}

// ---- The queue, and a diary of what is done with it ----

struct Queue {
    poll: Poll,
    /// What was done since the last report: entries in JSON.
    diary: Vec<String>,
    /// How many events each source had so far.
    counts: HashMap<Token, u64>,
}

impl Queue {
    /// `what` is for the page, which looks for it; `line` is for the reader.
    fn note(&mut self, what: &str, token: Token, line: impl Display) {
        let line = quote(&line.to_string());
        self.diary.push(format!("{{\"what\":{},\"token\":{},\"line\":{}}}", quote(what), token, line));
    }

    fn register(&mut self, source: &impl Source, token: Token, interests: Interests) -> io::Result<()> {
        self.note("register", token, format_args!("register(…, {}, {:?})", token, interests));
        self.poll.registry().register(source, token, interests)
    }

    fn reregister(&mut self, source: &impl Source, token: Token, interests: Interests) -> io::Result<()> {
        self.note("reregister", token, format_args!("reregister(…, {}, {:?})", token, interests));
        self.poll.registry().reregister(source, token, interests)
    }
}

struct Dashboard {
    queue: Queue,
    /// Where browsers come in.
    web_listener: TcpListener,
    /// Where the loop's ends of the practice connections come in.
    practice_listener: TcpListener,
    waker: Waker,
    browsers: BTreeMap<Token, Browser>,
    connections: BTreeMap<Token, Connection>,
    /// Your ends that have connected and are not accepted yet, by their address.
    arriving: HashMap<SocketAddr, Arrival>,
    /// Connections that are being tried where nobody listens.
    attempts: BTreeMap<Token, TcpStream>,
    next_token: Token,
    /// While the listeners rest: when to try again.
    resume: Option<Instant>,
    /// The button "wait one second at most": when the second is over.
    timer: Option<Instant>,
    history: VecDeque<String>,
    /// Tells a new server from the one that a tab knew.
    born: u128,
    started: Instant,
    polls: u64,
    events: u64,
    asleep: Duration,
}

impl Dashboard {
    fn new(web_listener: TcpListener) -> io::Result<Dashboard> {
        let practice_listener = TcpListener::bind("127.0.0.1:0")?;
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let mut queue = Queue { poll, diary: Vec::new(), counts: HashMap::new() };
        // One-shot: when accepting fails, a listener can be left as it is, and it stays silent.
        queue.register(&web_listener, WEB_LISTENER, Interests::READABLE)?;
        queue.register(&practice_listener, PRACTICE_LISTENER, Interests::READABLE)?;
        ctrl_c::wakes(Waker::new(queue.poll.registry(), CTRL_C)?)?;
        let born = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Ok(Dashboard {
            queue,
            web_listener,
            practice_listener,
            waker,
            browsers: BTreeMap::new(),
            connections: BTreeMap::new(),
            arriving: HashMap::new(),
            attempts: BTreeMap::new(),
            next_token: FIRST_FREE,
            resume: None,
            timer: None,
            history: VecDeque::new(),
            born: born.map_or(0, |since| since.as_millis()),
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
                if event.id() == CTRL_C {
                    say("good-bye: the page will say that the connection is lost");
                    return Ok(());
                }
                *self.queue.counts.entry(event.id()).or_insert(0) += 1;
                self.handle(event)?;
            }
            self.look_at_the_clock(woke)?;
            let is_slow = self.connections.values().any(Connection::keeps_awake);
            self.report(&seen, begin, woke, if is_slow { SLOW_MOTION } else { Duration::ZERO });
            self.settle();
            if is_slow {
                // No server should ever do this: while it sleeps here, it serves nobody.
                thread::sleep(SLOW_MOTION);
            }
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
            self.queue.note("time-is-up", 0, "the second is over");
        }
        if self.resume.map_or(false, |time| time <= now) {
            self.resume = None;
            self.accept_browsers()?;
            self.accept_connections()?;
        }
        Ok(())
    }

    fn handle(&mut self, event: &Event) -> io::Result<()> {
        let token = event.id();
        match token {
            WEB_LISTENER => self.accept_browsers()?,
            PRACTICE_LISTENER => self.accept_connections()?,
            WAKER => {} // Nothing to do: to have woken up is all.
            _ if self.connections.contains_key(&token) => self.serve_connection(token, event),
            _ if self.attempts.contains_key(&token) => self.end_attempt(token),
            _ => self.serve_browser(token),
        }
        Ok(())
    }

    // ---- Browsers ----

    fn accept_browsers(&mut self) -> io::Result<()> {
        loop {
            let (stream, address) = match self.web_listener.accept() {
                Ok(accepted) => accepted,
                Err(error) => return self.accepted_all(WEB_LISTENER, error),
            };
            let token = self.take_token();
            self.queue.note("browser", token, format_args!("accept() = a browser at {}", address));
            if let Err(error) = self.add_browser(stream, token) {
                self.queue.note("failed", token, format_args!("but it failed: {}", error));
            }
        }
    }

    fn add_browser(&mut self, stream: TcpStream, token: Token) -> io::Result<()> {
        let browser = Browser::new(stream);
        self.queue.register(&browser.stream, token, browser.asked)?;
        self.browsers.insert(token, browser);
        Ok(())
    }

    /// `accept` has no more for now: because nobody is waiting, or because something is wrong.
    fn accepted_all(&mut self, token: Token, error: io::Error) -> io::Result<()> {
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset => {
                let practice = token == PRACTICE_LISTENER;
                let listener = if practice { &self.practice_listener } else { &self.web_listener };
                self.queue.reregister(listener, token, Interests::READABLE)
            }
            _ => {
                // Nothing changes by trying again at once; the others go on meanwhile.
                self.queue.note("failed", token, format_args!("accept() failed: {}", error));
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
        while let Some(request) = self.browsers.get_mut(&token).and_then(Browser::next_request) {
            self.queue.note("request", token, format_args!("{} {}", request.method, request.path));
            let answer = self.answer(token, &request);
            if let Some(browser) = self.browsers.get_mut(&token) {
                browser.send(&answer);
            }
        }
    }

    fn answer(&mut self, token: Token, request: &Request) -> String {
        let refused = |status, reason: &str| answer(status, "text/plain; charset=utf-8", reason);
        match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/") => answer("200 OK", HTML, include_str!("page.html")),
            ("GET", "/page.css") => answer("200 OK", "text/css; charset=utf-8", include_str!("page.css")),
            ("GET", "/lessons.js") => answer("200 OK", JAVASCRIPT, include_str!("lessons.js")),
            ("GET", "/page.js") => answer("200 OK", JAVASCRIPT, include_str!("page.js")),
            ("GET", "/events") => self.begin_stream(token),
            ("GET", path) => match path.strip_prefix("/guide/").and_then(guide) {
                Some((kind, text)) => answer("200 OK", kind, &text),
                None => refused("404 Not Found", "there is no such page\n"),
            },
            ("POST", _) if request.is_foreign => {
                self.queue.note("refused", token, "refused: another site's page sent this");
                refused("403 Forbidden", "this is for the dashboard's own page\n")
            }
            (_, path) => match self.act(path) {
                Ok(()) => answer("204 No Content", "text/plain", ""),
                Err(reason) => {
                    self.queue.note("refused", token, format_args!("refused: {}", reason));
                    refused("409 Conflict", &reason)
                }
            },
        }
    }

    /// From now on this browser is a tab: its answer never ends. It begins with what happened so far.
    fn begin_stream(&mut self, token: Token) -> String {
        let tabs = self.browsers.values_mut().filter(|browser| browser.is_tab && !browser.is_closing);
        let mut tabs: Vec<&mut Browser> = tabs.collect();
        if tabs.len() >= MAX_TABS {
            // The oldest: the lowest token.
            tabs[0].send("event: moved\ndata: {}\n\n");
            tabs[0].is_closing = true;
        }
        if let Some(browser) = self.browsers.get_mut(&token) {
            browser.is_tab = true;
        }
        let history: Vec<&str> = self.history.iter().map(String::as_str).collect();
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n\r\n\
             retry: 1000\nevent: hello\n\
             data: {{\"born\":{},\"system\":\"{}\",\"now\":{},\"rows\":{},\"polls\":[{}]}}\n\n",
            self.born,
            SYSTEM,
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
                self.queue.note("wake", WAKER, "wake() three times");
                for _ in 0..3 {
                    self.waker.wake().map_err(|error| error.to_string())?;
                }
                Ok(())
            }
            "timer" => {
                self.queue.note("timer", 0, "the next poll waits one second at most");
                self.timer = Some(Instant::now() + Duration::from_secs(1));
                Ok(())
            }
            "refused" => self.attempt().map_err(|error| error.to_string()),
            _ => {
                // One token, or several with commas between them.
                for token in subject.split(',') {
                    let token = token.parse().map_err(|_| "which connection?")?;
                    self.act_on_connection(action, token)?;
                }
                Ok(())
            }
        }
    }

    fn act_on_connection(&mut self, action: &str, token: Token) -> Result<(), String> {
        let connection = self.connections.get_mut(&token);
        let connection = connection.ok_or_else(|| format!("connection {} is gone", token))?;
        match action {
            "read" => self.read_connection(token),
            "close" => self.close_connection(token),
            "write" => {
                let line = format!("write({}, \"bye\") = {}", token, connection.write());
                self.queue.note("write", token, line);
            }
            "fill" => match connection.fill() {
                Ok(bytes) => {
                    let line = format!("write({}) = {} bytes, then WouldBlock: it is full", token, bytes);
                    self.queue.note("fill", token, line);
                    self.arm(token);
                }
                Err(error) => self.queue.note("failed", token, format_args!("write({}) = {}", token, error)),
            },
            "arm" => {
                self.queue.note("arm", token, "you arm it again:");
                self.arm(token);
            }
            _ => {
                let line = connection.move_your_end(action)?;
                self.queue.note(action, token, line);
            }
        }
        Ok(())
    }

    /// Makes a connection from this program to itself. The loop's end will be accepted as that of any client would be; the
    /// other one is yours, and the buttons move it.
    fn open(&mut self, mode: &str, by_hand: bool) -> Result<(), String> {
        let mode = match mode {
            "oneshot" => Interests::READABLE,
            "level" => Interests::READABLE | Interests::LEVEL,
            "edge" => Interests::READABLE | Interests::EDGE,
            _ => return Err("a mode is oneshot, level or edge".to_string()),
        };
        if self.connections.len() + self.arriving.len() >= MAX_CONNECTIONS {
            return Err(format!("{} connections are enough: close one first", MAX_CONNECTIONS));
        }
        self.connect(mode, by_hand).map_err(|error| error.to_string())
    }

    fn connect(&mut self, mode: Interests, by_hand: bool) -> io::Result<()> {
        // This does not wait for the loop's `accept`: the kernel itself answers for a listener.
        let yours = net::TcpStream::connect(self.practice_listener.local_addr()?)?;
        yours.set_nonblocking(true)?;
        let address = yours.local_addr()?;
        self.queue.note("connect", 0, format_args!("your end connects from {}", address));
        self.arriving.insert(address, Arrival { yours, mode, by_hand });
        Ok(())
    }

    // ---- Connections to practice with ----

    fn accept_connections(&mut self) -> io::Result<()> {
        loop {
            let (stream, address) = match self.practice_listener.accept() {
                Ok(accepted) => accepted,
                Err(error) => return self.accepted_all(PRACTICE_LISTENER, error),
            };
            // Somebody else who knocks there is sent away.
            let arrival = match self.arriving.remove(&address) {
                Some(arrival) => arrival,
                None => continue,
            };
            let token = self.take_token();
            self.queue.note("open", token, format_args!("accept() = connection {}", token));
            if let Err(error) = self.add_connection(stream, arrival, token) {
                self.queue.note("failed", token, format_args!("but it failed: {}", error));
            }
        }
    }

    fn add_connection(&mut self, stream: TcpStream, arrival: Arrival, token: Token) -> io::Result<()> {
        let connection = Connection::new(stream, arrival);
        self.queue.register(&connection.stream, token, connection.interests())?;
        self.connections.insert(token, connection);
        Ok(())
    }

    /// Registers it again, for what it wants now. A one-shot registration is armed by that.
    fn arm(&mut self, token: Token) {
        if let Some(connection) = self.connections.get_mut(&token) {
            connection.armed = true;
            let again = self.queue.reregister(&connection.stream, token, connection.interests());
            if let Err(error) = again {
                self.queue.note("failed", token, format_args!("but it failed: {}", error));
                self.close_connection(token);
            }
        }
    }

    fn serve_connection(&mut self, token: Token, event: &Event) {
        let connection = match self.connections.get_mut(&token) {
            Some(connection) => connection,
            None => return,
        };
        let has_news = connection.saw(event, self.polls);
        if connection.wants_room && event.is_writable() {
            connection.wants_room = false;
            self.queue.note("room", token, format_args!("{} has room again", token));
            // Whoever stays interested in WRITABLE is told with every poll, or each time, that there is room.
            if connection.armed || !connection.by_hand {
                self.arm(token);
            }
        }
        if has_news {
            self.read_or_leave(token);
        }
    }

    /// Reads at once, or leaves it to whoever watches.
    fn read_or_leave(&mut self, token: Token) {
        match self.connections.get(&token) {
            Some(connection) if !connection.by_hand => self.read_connection(token),
            Some(connection) if connection.unread >= MAX_UNREAD && connection.keeps_awake() => {
                self.queue.note("enough", token, "enough: the loop reads it after all");
                self.read_connection(token);
                // The end of the stream stays readable for ever. Only closing ends that.
                if self.connections.get(&token).map_or(false, |connection| connection.is_at_end) {
                    self.close_connection(token);
                }
            }
            Some(_) => {
                self.queue.note("unread", token, format_args!("{} is left unread, as you wish", token))
            }
            None => {}
        }
    }

    /// Reads until there is no more, for now or for good.
    fn read_connection(&mut self, token: Token) {
        let connection = match self.connections.get_mut(&token) {
            Some(connection) => connection,
            None => return,
        };
        let by_hand = connection.by_hand;
        let rearm = connection.interests().is_oneshot() && !by_hand;
        let (bytes, outcome) = connection.read(self.polls);
        match outcome {
            Outcome::WouldBlock => {
                let line = format!("read({}) = {} bytes, then WouldBlock", token, bytes);
                self.queue.note("read", token, line);
                if rearm {
                    self.arm(token);
                }
            }
            Outcome::End => {
                let line = format!("read({}) = {} bytes, then 0: the end", token, bytes);
                self.queue.note("end", token, line);
                if !by_hand {
                    // Your end sends no more. It may still read, so there can be an answer.
                    let line = format!("write({}, \"bye\") = {}", token, connection.write());
                    self.queue.note("write", token, line);
                    self.close_connection(token);
                }
            }
            Outcome::Failed(error) => {
                self.queue.note("failed", token, format_args!("read({}) = {}", token, error));
                self.close_connection(token);
            }
        }
    }

    /// Dropping the stream closes it, and a closed stream leaves the queue by itself.
    fn close_connection(&mut self, token: Token) {
        self.connections.remove(&token);
        self.queue.note("close", token, format_args!("close({})", token));
    }

    // ---- A connection that nobody accepts ----

    fn attempt(&mut self) -> io::Result<()> {
        // A port where somebody listened until now.
        let nobody = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let token = self.take_token();
        let line = format!("connect_nonblocking({}) returns at once", nobody);
        self.queue.note("attempt", token, line);
        match TcpStream::connect_nonblocking(nobody) {
            Ok(stream) => {
                self.queue.register(&stream, token, Interests::WRITABLE)?;
                self.attempts.insert(token, stream);
            }
            // Some systems know it before the call returns.
            Err(error) => self.queue.note("not-connected", token, format_args!("with an error: {}", error)),
        }
        Ok(())
    }

    fn end_attempt(&mut self, token: Token) {
        if let Some(stream) = self.attempts.remove(&token) {
            let line = match stream.take_error() {
                Ok(Some(error)) => format!("take_error({}) = {}", token, error),
                other => format!("take_error({}) = {:?}", token, other),
            };
            self.queue.note("not-connected", token, line);
            self.queue.note("close", token, format_args!("close({})", token));
        }
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
            WEB_LISTENER => "web listener",
            PRACTICE_LISTENER => "practice listener",
            WAKER => "waker",
            CTRL_C => "Ctrl-C",
            _ if self.connections.contains_key(&token) => "connection",
            _ if self.attempts.contains_key(&token) => "attempt",
            _ => match self.browsers.get(&token) {
                Some(browser) if browser.is_tab => "tab",
                Some(_) => "browser",
                None => "gone",
            },
        }
    }

    /// Everything that is registered, as JSON.
    fn rows(&self) -> String {
        let masks = kernel_masks(&self.queue.poll);
        let row = |token: Token, interests: Option<Interests>, more: &str| {
            format!(
                "{{\"token\":{},\"who\":{},\"interests\":{},\"mask\":{},\"events\":{}{}}}",
                token,
                quote(self.name(token)),
                interests.map_or("\"\"".to_string(), |interests| quote(&format!("{:?}", interests))),
                masks.get(&token).map_or("null".to_string(), |mask| mask.to_string()),
                self.queue.counts.get(&token).unwrap_or(&0),
                more
            )
        };
        let listens = Some(Interests::READABLE);
        let mut rows = vec![row(WEB_LISTENER, listens, ""), row(PRACTICE_LISTENER, listens, "")];
        rows.extend([row(WAKER, None, ""), row(CTRL_C, None, "")]);
        for (token, browser) in &self.browsers {
            rows.push(row(*token, Some(browser.asked), ""));
        }
        for token in self.attempts.keys() {
            rows.push(row(*token, Some(Interests::WRITABLE), ""));
        }
        for (token, connection) in &self.connections {
            let more = format!(
                ",\"mode\":\"{}\",\"armed\":{},\"byHand\":{},\"unread\":{},\"ready\":{},\"yours\":\"{}\"",
                connection.mode(),
                connection.armed,
                connection.by_hand,
                connection.unread > 0,
                connection.keeps_awake(),
                connection.your_end()
            );
            rows.push(row(*token, Some(connection.interests()), &more));
        }
        format!("[{}]", rows.join(","))
    }

    /// Tells all tabs about the poll that ended at `woke`. Times are in microseconds.
    fn report(&mut self, seen: &[String], begin: Instant, woke: Instant, pause: Duration) {
        let poll = format!(
            "{{\"poll\":{},\"at\":{},\"asleep\":{},\"awake\":{},\"pause\":{},\"events\":[{}],\"did\":[{}],\
             \"total\":{{\"events\":{},\"asleep\":{},\"elapsed\":{}}}}}",
            self.polls,
            (woke - self.started).as_micros(),
            (woke - begin).as_micros(),
            woke.elapsed().as_micros(),
            pause.as_micros(),
            seen.join(","),
            self.queue.diary.join(","),
            self.events,
            self.asleep.as_micros(),
            self.started.elapsed().as_micros(),
        );
        self.queue.diary.clear();
        let message = format!("event: poll\ndata: {{\"poll\":{},\"rows\":{}}}\n\n", poll, self.rows());
        for tab in self.browsers.values_mut().filter(|browser| browser.is_tab && !browser.is_closing) {
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
            self.queue.note("left", token, format_args!("close({})", token));
        }
        let (connections, browsers) = (&self.connections, &self.browsers);
        self.queue.counts.retain(|token, _| {
            *token < FIRST_FREE || connections.contains_key(token) || browsers.contains_key(token)
        });
    }
}

/// What the kernel itself says is on the interest list: the mask that stands beside each token. Linux shows it to whoever
/// asks, in a file for each descriptor.
#[cfg(target_os = "linux")]
fn kernel_masks(poll: &Poll) -> HashMap<Token, u32> {
    use std::os::unix::io::AsRawFd;
    let list = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", poll.as_raw_fd())).unwrap_or_default();
    let mask_of = |line: &str| {
        // tfd:        7 events: 40002001 data:        c  pos:0 ino:1f5a sdev:9
        let words: Vec<&str> = line.split_whitespace().collect();
        let mask = u32::from_str_radix(words.get(3)?, 16).ok()?;
        Some((Token::from_str_radix(words.get(5)?, 16).ok()?, mask))
    };
    list.lines().filter(|line| line.starts_with("tfd:")).filter_map(mask_of).collect()
}

#[cfg(not(target_os = "linux"))]
fn kernel_masks(_: &Poll) -> HashMap<Token, u32> {
    HashMap::new()
}

/// A file of the guide: its type and its text. Chapters and their pictures are read from the source of this crate when
/// somebody asks; a regular file is always ready, so no queue could wait for it.
fn guide(name: &str) -> Option<(&'static str, String)> {
    let is_plain = |part: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        !part.is_empty() && part.bytes().all(allowed)
    };
    let (kind, stem) = match (name.strip_suffix(".md"), name.strip_suffix(".svg")) {
        (Some(chapter), _) => ("text/plain; charset=utf-8", chapter),
        (_, Some(picture)) => ("image/svg+xml", picture.strip_prefix("pictures/")?),
        _ if is_plain(name) => return Some((HTML, include_str!("chapter.html").to_string())),
        _ => return None,
    };
    if !is_plain(stem) {
        return None;
    }
    let text = std::fs::read_to_string(format!("{}/src/guide/{}", env!("CARGO_MANIFEST_DIR"), name));
    text.ok().map(|text| (kind, text))
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
