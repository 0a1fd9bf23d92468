//! A dozen requests at once, and one thread that waits for all of them.
//!
//! Run:  cargo run --example delays                    it brings its own server, no network needed
//!       cargo run --example delays -- HOST:PORT       the same against a real HTTP server
//! See:  a timeline of the answers. They arrive in the order of their delays, not in the order they were asked for. All
//!       of them together take as long as the slowest one, and the thread sleeps through almost all of it.
//!
//! A request connects, sends and reads, and no step ever blocks. When the next one would, the request asks the queue for an
//! event, and the thread turns to another request. When none can go on, the thread sleeps in `poll` until the kernel has news.

use minimio::{Events, Interests, Poll, TcpStream, Token};
use std::fmt::Display;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{self, SocketAddr, TcpListener, ToSocketAddrs};
use std::thread;
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

/// Asks `server` for all `paths` at once and waits for all answers.
fn run(server: &str, paths: [String; DELAYS.len()]) -> Result<(), String> {
    // Looking up a name blocks, so we do it once, before the loop.
    let addresses = server.to_socket_addrs().map_err(|error| format!("cannot find {}: {}", server, error))?;
    let addresses: Vec<SocketAddr> = addresses.collect();
    say(format_args!("1 thread waits for {} sockets: {} requests to {}\n", paths.len(), paths.len(), server));

    let cannot_wait = |error| format!("the event queue failed: {}", error);
    let mut poll = Poll::new().map_err(cannot_wait)?;
    let mut requests: Vec<Request> =
        paths.into_iter().map(|path| Request::new(path, server, &addresses)).collect();
    let mut tally = Tally::new();
    for (token, request) in requests.iter_mut().enumerate() {
        tally.note(token, request, &poll);
    }

    let mut events = Events::with_capacity(64);
    while tally.answered.len() + tally.failed < requests.len() {
        let left = PATIENCE.saturating_sub(tally.started.elapsed());
        let fell_asleep = Instant::now();
        poll.poll_timeout(&mut events, left).map_err(cannot_wait)?;
        tally.asleep += fell_asleep.elapsed();
        if events.is_empty() {
            let open = requests.len() - tally.answered.len() - tally.failed;
            return Err(format!("{} answers incomplete after {} s", open, PATIENCE.as_secs()));
        }
        for event in &events {
            tally.events += 1;
            tally.note(event.id(), &mut requests[event.id()], &poll);
        }
    }
    tally.say_gain()
}

/// What is known of all requests together.
struct Tally {
    started: Instant,
    /// How long the thread slept in `poll`.
    asleep: Duration,
    events: usize,
    /// How long each complete answer took.
    answered: Vec<Duration>,
    failed: usize,
}

impl Tally {
    fn new() -> Tally {
        Tally { started: Instant::now(), asleep: Duration::ZERO, events: 0, answered: Vec::new(), failed: 0 }
    }

    /// Lets one request go on as far as it can, and notes its end.
    fn note(&mut self, token: Token, request: &mut Request, poll: &Poll) {
        match request.advance(token, poll) {
            Ok(Progress::Waiting) => {}
            Ok(Progress::Answered) => {
                self.answered.push(request.started.elapsed());
                self.say_time(token, request);
            }
            Err(error) => {
                self.failed += 1;
                say(format_args!("{:9}request {:2} failed: {}", "", token, error));
            }
        }
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

    /// What was gained: the time of all answers against the sum of their times.
    fn say_gain(&self) -> Result<(), String> {
        let total = self.started.elapsed();
        let ms = total.as_millis().max(1);
        let sum = self.answered.iter().sum::<Duration>().as_millis();
        let asleep = 100.0 * self.asleep.as_secs_f64() / total.as_secs_f64();
        say(format_args!(
            "\n{} events: for each request, one when it is connected and one for each part of its answer that comes alone.",
            self.events
        ));
        say(format_args!(
            "1 thread, asleep {:.1} % of the time: {} answers in {} ms. One after the other: {} ms, {:.1} times as long.",
            asleep,
            self.answered.len(),
            ms,
            sum,
            sum as f64 / ms as f64
        ));
        match self.failed {
            0 => Ok(()),
            failed => Err(format!("{} of {} requests failed", failed, DELAYS.len())),
        }
    }
}

/// One request, and as much of its answer as has arrived.
struct Request {
    path: String,
    /// What to send; the part before `sent` is on its way.
    text: String,
    sent: usize,
    /// Connecting or connected; `None` before the first address was tried, and when the request is over.
    stream: Option<TcpStream>,
    /// Addresses of the server that were not tried yet.
    addresses: Vec<SocketAddr>,
    started: Instant,
    first_line: Vec<u8>,
    bytes: usize,
}

/// Where a request stands after a step.
enum Progress {
    Waiting,
    Answered,
}

impl Request {
    fn new(path: String, server: &str, addresses: &[SocketAddr]) -> Request {
        let text = format!("GET {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", path, server);
        let addresses = addresses.iter().rev().copied().collect(); // taken from the end
        let started = Instant::now();
        Request { path, text, sent: 0, stream: None, addresses, started, first_line: Vec::new(), bytes: 0 }
    }

    /// Does all that can be done without waiting. On an error the request is over.
    fn advance(&mut self, token: Token, poll: &Poll) -> io::Result<Progress> {
        loop {
            let stream = match self.stream.take() {
                Some(stream) => stream,
                None => {
                    let stream = self.connect()?;
                    // When the connection is established, or has failed, the stream becomes writable. No mode is named, so
                    // this is one-shot: one event, then silence until we register again.
                    poll.registry().register(&stream, token, Interests::WRITABLE)?;
                    self.stream = Some(stream);
                    return Ok(Progress::Waiting);
                }
            };
            if self.sent == 0 {
                match stream.take_error()? {
                    Some(error) if self.addresses.is_empty() => return Err(error),
                    Some(_) => continue, // Try the next address.
                    None => {}
                }
            }
            let interests = match self.transfer(&stream) {
                Ok(()) => return self.check(),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock if self.sent == self.text.len() => Interests::READABLE,
                    // No room to send, or a spurious event: not connected yet.
                    ErrorKind::WouldBlock | ErrorKind::NotConnected => Interests::WRITABLE,
                    _ => return Err(error),
                },
            };
            poll.registry().reregister(&stream, token, interests)?;
            self.stream = Some(stream);
            return Ok(Progress::Waiting);
        }
    }

    /// Begins to connect to the next address. This does not wait: it returns at once.
    fn connect(&mut self) -> io::Result<TcpStream> {
        let mut reason = io::Error::new(ErrorKind::NotFound, "the server has no address");
        while let Some(address) = self.addresses.pop() {
            match TcpStream::connect_nonblocking(address) {
                Ok(stream) => return Ok(stream),
                Err(error) => reason = error,
            }
        }
        Err(reason)
    }

    /// Sends the request, then reads the answer to its end. `WouldBlock` where that would mean to wait.
    fn transfer(&mut self, mut stream: &TcpStream) -> io::Result<()> {
        while self.sent < self.text.len() {
            self.sent += stream.write(&self.text.as_bytes()[self.sent..])?;
        }
        let mut buffer = [0; 16 * 1024];
        loop {
            match stream.read(&mut buffer)? {
                // The server has closed the connection, as we asked it to after its answer.
                0 => return Ok(()),
                n => self.take(&buffer[..n])?,
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

    /// The stream has ended; was that an answer?
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
        // If accepting ever fails (too many open files), the listener is closed and the clients see a reset.
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

/// Prints a line. When nobody reads it any more (`| head -1`) the program is over, where `println!` would panic.
fn say(line: impl Display) {
    if let Err(error) = writeln!(io::stdout(), "{}", line) {
        if error.kind() == ErrorKind::BrokenPipe {
            std::process::exit(0);
        }
        eprintln!("cannot print: {}", error);
        std::process::exit(1);
    }
}
