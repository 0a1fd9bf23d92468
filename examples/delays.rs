//! A dozen requests, one thread that waits for all of them.
//!
//! Run:  cargo run --example delays                    it brings its own server, no network needed
//!       cargo run --example delays -- HOST:PORT       the same against a real HTTP server
//! See:  a timeline of the answers. They arrive in the order of their delays, not in the order they were asked for, and
//!       all of them together take as long as the slowest one.
//!
//! Two threads share the work. The *reactor* owns the `Poll`: it sleeps in the kernel until sockets have news and passes
//! their tokens on. The *executor* owns the requests: it sends them, registers their sockets through a
//! `Registrator`, and reads whichever the reactor names. Frameworks for asynchronous Rust are built in this shape.

use minimio::{Events, Interests, Poll, Registrator, TcpStream, Token};
use std::collections::HashMap;
use std::fmt::Display;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{self, TcpListener};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long our own server is asked to wait with each answer, in milliseconds.
const DELAYS: [u64; 12] = [700, 200, 1100, 400, 900, 100, 1200, 600, 300, 1000, 500, 800];
/// One bar of the timeline is this long.
const BAR: Duration = Duration::from_millis(50);
/// All answers must be complete by then.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longer answers are given up.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.as_slice() {
        [] => run_with_own_server(),
        [server] if !server.starts_with('-') => run(server, DELAYS.map(|_| "/".to_string())),
        _ => Err("usage: delays [HOST:PORT]".to_string()),
    };
    if let Err(message) = result {
        eprintln!("delays: {}", message);
        std::process::exit(2);
    }
}

fn run_with_own_server() -> Result<(), String> {
    let server = start_server().map_err(|error| format!("cannot start a server: {}", error))?;
    run(&server, DELAYS.map(|delay| format!("/delay/{}", delay)))
}

/// Asks `server` for all `paths`, waits for all answers, and compares the times.
fn run(server: &str, paths: [String; DELAYS.len()]) -> Result<(), String> {
    let poll = Poll::new().map_err(|error| format!("cannot make an event queue: {}", error))?;
    let registrator = poll.registrator();
    let (sender, receiver) = mpsc::channel();
    let reactor = start_reactor(poll, sender);

    say(format_args!("{} requests to {}", paths.len(), server));
    let mut executor = Executor::new(registrator.clone(), receiver);
    for (token, path) in paths.into_iter().enumerate() {
        executor
            .send_request(server, token, path)
            .map_err(|error| format!("cannot ask {}: {}", server, error))?;
    }
    let result = executor.run();

    // The reactor sleeps in the kernel. Closing the loop wakes it up and ends it.
    let closed = registrator.close_loop();
    let ended = reactor.join().expect("the reactor does not panic");
    result?;
    closed.and(ended).map_err(|error| format!("the event queue failed: {}", error))?;
    executor.say_proof()
}

/// The reactor: one thread that waits for every socket there is.
fn start_reactor(mut poll: Poll, news: Sender<Token>) -> JoinHandle<io::Result<()>> {
    thread::spawn(move || {
        let mut events = Events::with_capacity(64);
        loop {
            match poll.poll(&mut events, None) {
                Ok(_) => {}
                // This is how a closed loop ends, and the only meaning of `Interrupted` here.
                Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
                Err(error) => return Err(error),
            }
            for event in &events {
                if news.send(event.id()).is_err() {
                    return Ok(()); // The executor is gone.
                }
            }
        }
    })
}

/// The executor: all requests that are under way, and what is known of them.
struct Executor {
    registrator: Registrator,
    news: Receiver<Token>,
    started: Instant,
    /// Requests without a complete answer.
    waiting: HashMap<Token, Request>,
    /// How long each answer took that is complete.
    answered: Vec<Duration>,
    failed: usize,
    /// How often the reactor named a socket.
    events: usize,
}

/// One request and as much of its answer as has arrived.
struct Request {
    stream: TcpStream,
    path: String,
    sent: Instant,
    first_line: Vec<u8>,
    bytes: usize,
}

/// Where a request stands after a read.
enum Progress {
    Waiting,
    Answered,
}

impl Executor {
    fn new(registrator: Registrator, news: Receiver<Token>) -> Executor {
        Executor {
            registrator,
            news,
            started: Instant::now(),
            waiting: HashMap::new(),
            answered: Vec::new(),
            failed: 0,
            events: 0,
        }
    }

    /// Connects and sends. From here on the request needs no thread, only a place in `waiting`.
    fn send_request(&mut self, server: &str, token: Token, path: String) -> io::Result<()> {
        let mut stream = TcpStream::connect(server)?;
        let sent = Instant::now();
        let request = format!("GET {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", path, server);
        // The stream never blocks, but a new one has room for a hundred bytes.
        stream.write_all(request.as_bytes())?;
        // One-shot: one event, then silence until we register again. If the answer is there already, it comes at once.
        self.registrator.register(&stream, token, Interests::READABLE)?;
        let request = Request { stream, path, sent, first_line: Vec::new(), bytes: 0 };
        self.waiting.insert(token, request);
        Ok(())
    }

    /// Reads whatever the reactor names until no request is left.
    fn run(&mut self) -> Result<(), String> {
        while !self.waiting.is_empty() {
            let left = PATIENCE.saturating_sub(self.started.elapsed());
            match self.news.recv_timeout(left) {
                Ok(token) => self.advance(token),
                Err(RecvTimeoutError::Timeout) => {
                    let (open, limit) = (self.waiting.len(), PATIENCE.as_secs());
                    return Err(format!("{} answers incomplete after {} s", open, limit));
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(()), // The reactor knows why.
            }
        }
        Ok(())
    }

    /// Reads on in one answer. If it is not complete yet, asks for the next event.
    fn advance(&mut self, token: Token) {
        self.events += 1;
        let request = match self.waiting.get_mut(&token) {
            Some(request) => request,
            None => return, // A spurious event: the answer is complete already.
        };
        let progress = request.read().and_then(|progress| {
            if let Progress::Waiting = progress {
                self.registrator.reregister(&request.stream, token, Interests::READABLE)?;
            }
            Ok(progress)
        });
        match progress {
            Ok(Progress::Waiting) => {}
            Ok(Progress::Answered) => self.finish(token),
            Err(error) => self.give_up(token, error),
        }
    }

    fn finish(&mut self, token: Token) {
        if let Some(request) = self.waiting.remove(&token) {
            let time = request.sent.elapsed();
            self.answered.push(time);
            self.say_time(token, &request);
        }
    }

    fn give_up(&mut self, token: Token, error: io::Error) {
        self.waiting.remove(&token);
        self.failed += 1;
        say(format_args!("          request {:2} failed: {}", token, error));
    }

    /// One line of the timeline.
    fn say_time(&self, token: Token, request: &Request) {
        let time = self.started.elapsed();
        let bars = (time.as_millis() / BAR.as_millis()).min(40) as usize;
        say(format_args!(
            "{:5} ms  {:25} request {:2}, GET {}: {}, {} bytes",
            time.as_millis(),
            "=".repeat(bars) + ">",
            token,
            request.path,
            String::from_utf8_lossy(&request.first_line),
            request.bytes,
        ));
    }

    /// The time that all answers took against the time they would take one after the other.
    fn say_proof(&self) -> Result<(), String> {
        let total = self.started.elapsed().as_millis().max(1);
        let sum = self.answered.iter().sum::<Duration>().as_millis();
        say(format_args!(
            "\n{} answers in {} ms, {} events. One after the other: {} ms, {:.1} times as long.",
            self.answered.len(),
            total,
            self.events,
            sum,
            sum as f64 / total as f64
        ));
        match self.failed {
            0 => Ok(()),
            failed => Err(format!("{} of {} requests failed", failed, DELAYS.len())),
        }
    }
}

impl Request {
    /// Reads until the stream has no more to give: for now (`WouldBlock`) or for good (0 bytes).
    fn read(&mut self) -> io::Result<Progress> {
        let mut buffer = [0; 16 * 1024];
        loop {
            match self.stream.read(&mut buffer) {
                // The server has closed the connection, as we asked it to after its answer.
                Ok(0) => return self.check(),
                Ok(n) => self.take(&buffer[..n])?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Progress::Waiting),
                Err(error) => return Err(error),
            }
        }
    }

    /// Keeps the first line and counts the rest.
    fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !self.first_line.ends_with(b"\n") {
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let line = &bytes[..end.map_or(bytes.len(), |end| end + 1)];
            self.first_line.extend_from_slice(line);
        }
        self.bytes += bytes.len();
        if self.bytes > MAX_ANSWER {
            return Err(io::Error::new(ErrorKind::InvalidData, "the answer has no end"));
        }
        Ok(())
    }

    /// The answer is complete; is it one?
    fn check(&mut self) -> io::Result<Progress> {
        if !self.first_line.starts_with(b"HTTP/") {
            return Err(io::Error::new(ErrorKind::InvalidData, "closed without an HTTP answer"));
        }
        let length = self.first_line.len();
        self.first_line.truncate(length.min(40));
        while self.first_line.last().map_or(false, u8::is_ascii_whitespace) {
            self.first_line.pop();
        }
        Ok(Progress::Answered)
    }
}

/// Starts the delay server and returns its address. It stands for the rest of the world, so it is written in the old
/// way: a thread for each connection, which sleeps as long as it was asked to.
fn start_server() -> io::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    thread::spawn(move || {
        // Should it ever fail (too many open files), the listener is closed, and the clients hear of it by a reset.
        while let Ok((stream, _)) = listener.accept() {
            thread::spawn(move || answer_late(stream));
        }
    });
    Ok(address)
}

/// Answers `GET /delay/700` after 700 ms: the head of the answer at half time, the body at the end, so that the client
/// has to read twice.
fn answer_late(mut stream: net::TcpStream) -> io::Result<()> {
    let mut lines = BufReader::new(&stream).lines();
    let request = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    // The head of a request ends with an empty line.
    while lines.next().map_or(false, |line| matches!(line, Ok(line) if !line.is_empty())) {}

    let path = request.split(' ').nth(1).unwrap_or("");
    let delay = path.strip_prefix("/delay/").and_then(|ms| ms.parse().ok());
    let half = Duration::from_millis(delay.unwrap_or(0)) / 2;
    let body = format!("{} ms have passed\n", half.as_millis() * 2);

    thread::sleep(half);
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len())?;
    thread::sleep(half);
    stream.write_all(body.as_bytes())
}

/// Prints a line. `println!` panics when nobody reads it any more (`delays | head -1`); this does not.
fn say(line: impl Display) {
    let _ = writeln!(io::stdout(), "{}", line);
}
