//! An HTTP/1.1 server: keep-alive, pipelining, request bodies, and clear answers to bad requests.
//!
//! Run:  cargo run --release --example http              then open http://127.0.0.1:7002 or:
//!         curl -d hello http://127.0.0.1:7002/echo
//!         wrk -c 100 http://127.0.0.1:7002/               (a load generator, if you have it)
//!       cargo run --release --example http -- ADDRESS   listens there; port 0 takes any that is free
//! See:  answers. One thread gives all of them, tens of thousands in a second. Ctrl-C ends it.
//!
//! A connection is a small machine: bytes come in, complete requests are cut off the front, answers are queued, bytes
//! go out. It stops wherever the next step would block, and continues at the next event. Every buffer has a limit:
//! while answers wait for a client to read them, the server looks at no further request of that client.

use minimio::{Event, Events, Interests, Poll, Registry, TcpListener, TcpStream, Token, Waker};
use std::collections::HashMap;
use std::fmt::Display;
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::str;
use std::time::{Duration, Instant};

#[path = "shutdown/ctrl_c.rs"]
mod ctrl_c;

const LISTENER: Token = 0;
const CTRL_C: Token = Token::MAX;

/// The most bytes of a request before its body: request line and header fields.
const MAX_HEAD: usize = 8 * 1024;
/// The most bytes of a body, in either direction.
const MAX_BODY: usize = 1024 * 1024;
/// While this much waits to be written, no further request is answered.
const MAX_OUTPUT: usize = 64 * 1024;
/// A client that neither sends nor reads for this long is disconnected.
const PATIENCE: Duration = Duration::from_secs(20);
/// A request must be complete this long after its first byte, however steadily it trickles in.
const REQUEST_TIME: Duration = Duration::from_secs(10);
/// How often to look for such clients.
const SWEEP: Duration = Duration::from_secs(1);

const PAGE: &str = "<!doctype html><title>minimio</title><h1>Hello from one thread</h1>\n\
    <p>GET <a href=/bytes/1000>/bytes/N</a> answers N bytes, POST /echo what you sent.</p>\n";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.as_slice() {
        [] => serve("127.0.0.1:7002"),
        [address] if !address.starts_with('-') => serve(address),
        _ => Err("usage: http [ADDRESS:PORT]".to_string()),
    };
    if let Err(message) = result {
        eprintln!("http: {}", message);
        std::process::exit(2);
    }
}

fn serve(address: &str) -> Result<(), String> {
    let listener = TcpListener::bind(address);
    let listener = listener.map_err(|error| format!("cannot listen on {}: {}", address, error))?;
    let server = Server::new(listener);
    server.and_then(|mut server| server.run()).map_err(|error| format!("the event queue failed: {}", error))
}

// ---- The server: who is there, and whose turn it is ----

struct Server {
    poll: Poll,
    listener: TcpListener,
    /// Accepting failed; the next sweep tries again.
    resting: bool,
    clients: HashMap<Token, Client>,
    /// Never used twice, so an event cannot be taken for one of a later client.
    next_token: Token,
}

impl Server {
    fn new(listener: TcpListener) -> io::Result<Server> {
        let poll = Poll::new()?;
        // One-shot: when accepting fails, we can leave the listener as it is, and it stays silent.
        poll.registry().register(&listener, LISTENER, Interests::READABLE)?;
        ctrl_c::wakes(Waker::new(poll.registry(), CTRL_C)?)?;
        Ok(Server { poll, listener, resting: false, clients: HashMap::new(), next_token: LISTENER + 1 })
    }

    fn run(&mut self) -> io::Result<()> {
        say(format_args!("listening on http://{}", self.listener.local_addr()?));
        let mut events = Events::with_capacity(1024);
        let mut sweep = Instant::now() + SWEEP;
        loop {
            if self.clients.is_empty() && !self.resting {
                self.poll.poll(&mut events, None)?;
            } else {
                let left = sweep.saturating_duration_since(Instant::now());
                self.poll.poll_timeout(&mut events, left)?;
            }
            let now = Instant::now();
            for event in &events {
                match event.id() {
                    LISTENER => self.accept(now)?,
                    CTRL_C => {
                        say(format_args!("good-bye: {} clients are disconnected", self.clients.len()));
                        return Ok(());
                    }
                    _ => self.serve_client(event, now),
                }
            }
            if sweep <= now {
                sweep = now + SWEEP;
                self.sweep(now);
                if self.resting {
                    self.accept(now)?;
                }
            }
        }
    }

    /// Takes in everybody who is waiting at the door.
    fn accept(&mut self, now: Instant) -> io::Result<()> {
        self.resting = false;
        loop {
            match self.accept_one(now) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // It came and went before we opened the door.
                Err(error) if is_gone(&error) => {}
                Err(error) => {
                    // Perhaps all descriptors are in use. Trying again at once would change nothing.
                    say(format_args!("cannot accept: {}", error));
                    self.resting = true;
                    return Ok(());
                }
            }
        }
        self.poll.registry().reregister(&self.listener, LISTENER, Interests::READABLE)
    }

    fn accept_one(&mut self, now: Instant) -> io::Result<()> {
        let (stream, _) = self.listener.accept()?;
        // An answer is one write, so there is nothing to gather. If the client is gone already, its event says so.
        let _ = stream.set_nodelay(true);
        let client = Client::new(stream, now);
        self.poll.registry().register(&client.stream, self.next_token, client.asked)?;
        self.clients.insert(self.next_token, client);
        self.next_token += 1;
        Ok(())
    }

    /// Disconnects whoever holds a connection and does nothing with it.
    fn sweep(&mut self, now: Instant) {
        let registry = self.poll.registry();
        self.clients.retain(|token, client| {
            client.progress + PATIENCE > now
                && (!client.is_late(now)
                    || client.refuse_late(now).is_ok() && client.watch(registry, *token).is_ok())
        });
    }

    fn serve_client(&mut self, event: &Event, now: Instant) {
        let token = event.id();
        let client = match self.clients.get_mut(&token) {
            Some(client) => client,
            None => return, // It left earlier in this batch of events.
        };
        let stays = client.advance(now).unwrap_or(false) && client.watch(self.poll.registry(), token).is_ok();
        if !stays {
            // Dropping the stream closes it, and a closed stream leaves the queue by itself.
            self.clients.remove(&token);
        }
    }
}

// ---- One connection: bytes in, requests, answers, bytes out ----

struct Client {
    stream: TcpStream,
    /// The beginning of a request, or of several, whose end has not come yet.
    input: Vec<u8>,
    /// Since when the first request in `input` has been incomplete.
    begun: Instant,
    /// Answers that wait until the client reads.
    output: Vec<u8>,
    /// We have asked for the body of the request in `input` (`100 Continue`).
    continued: bool,
    state: State,
    /// What the stream is registered for.
    asked: Interests,
    /// When it last read or wrote something.
    progress: Instant,
}

#[derive(PartialEq)]
enum State {
    Serving,
    /// No more requests; when the output is written, say so to the client.
    Closing,
    /// Everything is said. We wait for the client to hang up: closing while its bytes are still coming would be a
    /// reset, and might take the last answer from it.
    Lingering,
}

impl Client {
    fn new(stream: TcpStream, now: Instant) -> Client {
        Client {
            stream,
            input: Vec::new(),
            begun: now,
            output: Vec::new(),
            continued: false,
            state: State::Serving,
            asked: Interests::READABLE | Interests::LEVEL,
            progress: now,
        }
    }

    /// Registers again if we now wait for something else: while there is output, for the client to read it; otherwise
    /// for the client to send.
    fn watch(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let direction = if self.output.is_empty() { Interests::READABLE } else { Interests::WRITABLE };
        let wanted = direction | Interests::LEVEL;
        if wanted != self.asked {
            registry.reregister(&self.stream, token, wanted)?;
            self.asked = wanted;
        }
        Ok(())
    }

    /// Does what can be done without waiting. `false`: the connection is over.
    fn advance(&mut self, now: Instant) -> io::Result<bool> {
        if self.output.is_empty() && !self.read(now)? {
            return Ok(false);
        }
        loop {
            self.answer(now);
            self.finish(now)?;
            if !self.output.is_empty() {
                return Ok(true); // The client must read first.
            }
            if self.state == State::Lingering || !self.has_request() {
                return Ok(true); // The client must send first.
            }
        }
    }

    /// Writes what there is to write, and after the last answer says that it was the last.
    fn finish(&mut self, now: Instant) -> io::Result<()> {
        self.write(now)?;
        if self.output.is_empty() && self.state == State::Closing {
            self.stream.shutdown(Shutdown::Write)?;
            self.state = State::Lingering;
        }
        Ok(())
    }

    /// Reads once, so that nobody keeps us from the others. `false` at the end of what the client sends; by then whatever
    /// it asked for has been answered, because we read only while there is no output.
    fn read(&mut self, now: Instant) -> io::Result<bool> {
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => return Ok(false),
            // Sending on and on to somebody who has hung up is no progress.
            Ok(_) if self.state == State::Lingering => {}
            Ok(n) => {
                if self.input.is_empty() {
                    self.begun = now;
                }
                self.input.extend_from_slice(&buffer[..n]);
                self.progress = now;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(true)
    }

    fn has_request(&self) -> bool {
        !matches!(parse(&self.input), Ok(Parsed::Partial { .. }))
    }

    /// Answers the complete requests in `input`, as long as there is room for answers.
    fn answer(&mut self, now: Instant) {
        let mut used = 0;
        while self.state == State::Serving && self.output.len() < MAX_OUTPUT {
            match parse(&self.input[used..]) {
                Ok(Parsed::Request(request, length)) => {
                    used += length;
                    self.begun = now; // the next one
                    self.continued = false;
                    if !request.keep_alive {
                        self.state = State::Closing;
                    }
                    respond(&request, &mut self.output);
                }
                Ok(Parsed::Partial { body_awaits_us }) => {
                    if body_awaits_us && !self.continued {
                        self.continued = true;
                        self.output.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
                    }
                    break;
                }
                Err(refusal) => self.refuse(refusal),
            }
        }
        self.input.drain(..used);
    }

    /// Says why not, and that this was the last answer: where the next request begins is anybody's guess now.
    fn refuse(&mut self, (status, why): Refusal) {
        self.state = State::Closing;
        let text = format!("{}\n", why);
        Answer::text(status, &text).write(&mut self.output, false, false);
    }

    /// Part of a request has been here for too long. While the client has answers to read, the delay may be ours.
    fn is_late(&self, now: Instant) -> bool {
        let is_waiting = self.state == State::Serving && self.output.is_empty() && !self.input.is_empty();
        is_waiting && self.begun + REQUEST_TIME <= now
    }

    fn refuse_late(&mut self, now: Instant) -> io::Result<()> {
        self.input.clear();
        self.refuse((REQUEST_TIMEOUT, "a request must be complete after 10 s"));
        self.finish(now)
    }

    /// Writes as much of the answers as fits.
    fn write(&mut self, now: Instant) -> io::Result<()> {
        let mut written = 0;
        while written < self.output.len() {
            match self.stream.write(&self.output[written..]) {
                Ok(n) => written += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
            self.progress = now;
        }
        self.output.drain(..written);
        Ok(())
    }
}

// ---- Requests ----

struct Request<'a> {
    method: &'a str,
    path: &'a str,
    body: &'a [u8],
    /// The client wants to use the connection again.
    keep_alive: bool,
}

enum Parsed<'a> {
    /// A complete request, and how many bytes it took.
    Request(Request<'a>, usize),
    /// More must come; the client may be waiting for our word before it sends the body.
    Partial { body_awaits_us: bool },
}

/// A status code and its name.
type Status = (u16, &'static str);
/// Why a request cannot be served: the status, and a line for a human.
type Refusal = (Status, &'static str);

const OK: Status = (200, "OK");
const BAD_REQUEST: Status = (400, "Bad Request");
const NOT_FOUND: Status = (404, "Not Found");
const METHOD_NOT_ALLOWED: Status = (405, "Method Not Allowed");
const REQUEST_TIMEOUT: Status = (408, "Request Timeout");
const LENGTH_REQUIRED: Status = (411, "Length Required");
const CONTENT_TOO_LARGE: Status = (413, "Content Too Large");
const FIELDS_TOO_LARGE: Status = (431, "Request Header Fields Too Large");
const VERSION_NOT_SUPPORTED: Status = (505, "HTTP Version Not Supported");

/// What the header fields say that we care about.
#[derive(Default)]
struct Fields {
    host: bool,
    length: Option<usize>,
    close: bool,
    keep_alive: bool,
    awaits_continue: bool,
}

/// Looks for a complete request at the beginning of `input`.
fn parse(input: &[u8]) -> Result<Parsed<'_>, Refusal> {
    let possible_head = &input[..input.len().min(MAX_HEAD)];
    // Some clients send an empty line after a body.
    let blank = possible_head.iter().take_while(|byte| b"\r\n".contains(byte));
    let start = blank.count();
    let head_end = match find_head_end(&possible_head[start..]) {
        Some(length) => start + length,
        None if possible_head.len() < MAX_HEAD => return Ok(Parsed::Partial { body_awaits_us: false }),
        None => return Err((FIELDS_TOO_LARGE, "the head of a request has 8 KiB at most")),
    };
    let head = str::from_utf8(&input[start..head_end])
        .map_err(|_| (BAD_REQUEST, "the head of a request is text"))?;
    let mut lines = head.lines();
    let (method, path, minor) = parse_request_line(lines.next().unwrap_or(""))?;
    let fields = parse_fields(lines)?;
    if minor >= 1 && !fields.host {
        return Err((BAD_REQUEST, "HTTP/1.1 wants one Host field"));
    }

    let length = fields.length.unwrap_or(0);
    if length > MAX_BODY {
        return Err((CONTENT_TOO_LARGE, "a body has 1 MiB at most"));
    }
    let end = head_end + length;
    if input.len() < end {
        let body_awaits_us = fields.awaits_continue && input.len() == head_end;
        return Ok(Parsed::Partial { body_awaits_us });
    }
    let request = Request {
        method,
        path,
        body: &input[head_end..end],
        keep_alive: !fields.close && (minor >= 1 || fields.keep_alive),
    };
    Ok(Parsed::Request(request, end))
}

/// The head ends with an empty line. Lines end with CR LF; people who type them send LF only.
fn find_head_end(input: &[u8]) -> Option<usize> {
    let mut end = 0;
    for line in input.split_inclusive(|byte| *byte == b'\n') {
        end += line.len();
        if matches!(line, b"\n" | b"\r\n") {
            return Some(end);
        }
    }
    None
}

/// `GET /path HTTP/1.1`: the method, the path and the minor version.
fn parse_request_line(line: &str) -> Result<(&str, &str, u8), Refusal> {
    let mut words = line.split(' ');
    let (method, target, version) = match (words.next(), words.next(), words.next(), words.next()) {
        (Some(method), Some(target), Some(version), None) => (method, target, version),
        _ => return Err((BAD_REQUEST, "a request is: method, path, version")),
    };
    let minor = match version.as_bytes() {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor @ b'0'..=b'9'] => minor - b'0',
        _ if version.starts_with("HTTP/") => {
            return Err((VERSION_NOT_SUPPORTED, "this server speaks HTTP/1.1"))
        }
        _ => return Err((BAD_REQUEST, "a request ends with its version")),
    };
    if method.is_empty() || !method.bytes().all(is_token_byte) {
        return Err((BAD_REQUEST, "a method is a word"));
    }
    // A proxy would send the whole address; the path is what comes after the host.
    let path = match target.strip_prefix("http://") {
        Some(rest) => rest.find('/').map_or("/", |slash| &rest[slash..]),
        None => target,
    };
    if !path.starts_with('/') || path.chars().any(char::is_control) {
        return Err((BAD_REQUEST, "a path begins with a slash"));
    }
    Ok((method, path, minor))
}

/// Reads the lines `Name: value`. What two readers could understand in two ways is refused.
fn parse_fields<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Fields, Refusal> {
    let mut fields = Fields::default();
    for line in lines.filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').ok_or((BAD_REQUEST, "a field has a colon"))?;
        if name.is_empty() || !name.bytes().all(is_token_byte) {
            return Err((BAD_REQUEST, "the name of a field is a word"));
        }
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "host" if fields.host => return Err((BAD_REQUEST, "one Host field is enough")),
            "host" => fields.host = true,
            "content-length" => {
                let length = parse_length(value)?;
                if fields.length.map_or(false, |other| other != length) {
                    return Err((BAD_REQUEST, "which Content-Length?"));
                }
                fields.length = Some(length);
            }
            "transfer-encoding" => return Err((LENGTH_REQUIRED, "tell the Content-Length, please")),
            "connection" => {
                for option in value.split(',').map(str::trim) {
                    fields.close |= option.eq_ignore_ascii_case("close");
                    fields.keep_alive |= option.eq_ignore_ascii_case("keep-alive");
                }
            }
            "expect" => fields.awaits_continue |= value.eq_ignore_ascii_case("100-continue"),
            _ => {}
        }
    }
    Ok(fields)
}

/// Digits and nothing else: `parse` alone would take a sign as well.
fn parse_length(value: &str) -> Result<usize, Refusal> {
    if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err((BAD_REQUEST, "Content-Length is a number"));
    }
    // A number too big for us is certainly too big a body.
    Ok(value.parse().unwrap_or(usize::MAX))
}

/// The characters of methods and names of fields.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

// ---- Answers ----

struct Answer<'a> {
    status: Status,
    content_type: &'a str,
    /// A further header field, complete with its end of line.
    field: &'a str,
    body: &'a [u8],
}

impl<'a> Answer<'a> {
    fn text(status: Status, body: &'a str) -> Answer<'a> {
        Answer { status, content_type: "text/plain; charset=utf-8", field: "", body: body.as_bytes() }
    }

    fn write(&self, output: &mut Vec<u8>, keep_alive: bool, head_only: bool) {
        let connection = if keep_alive { "keep-alive" } else { "close" };
        let head = format!(
            "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: {}\r\n{}\r\n",
            self.status.0,
            self.status.1,
            self.content_type,
            self.body.len(),
            connection,
            self.field,
        );
        output.extend_from_slice(head.as_bytes());
        if !head_only {
            output.extend_from_slice(self.body);
        }
    }
}

fn respond(request: &Request<'_>, output: &mut Vec<u8>) {
    let path = request.path.split('?').next().unwrap_or("");
    let count = path.strip_prefix("/bytes/");
    let count = count.and_then(|count| count.parse::<usize>().ok());
    let bytes;

    let answer = match (request.method, path) {
        ("GET" | "HEAD", "/") => {
            Answer { content_type: "text/html; charset=utf-8", ..Answer::text(OK, PAGE) }
        }
        ("GET" | "HEAD", _) if count.map_or(false, |count| count <= MAX_BODY) => {
            bytes = "x".repeat(count.unwrap_or(0));
            Answer::text(OK, &bytes)
        }
        ("POST", "/echo") => {
            Answer { content_type: "application/octet-stream", body: request.body, ..Answer::text(OK, "") }
        }
        (_, "/") => Answer {
            field: "Allow: GET, HEAD\r\n",
            ..Answer::text(METHOD_NOT_ALLOWED, "GET or HEAD, please\n")
        },
        (_, "/echo") => {
            Answer { field: "Allow: POST\r\n", ..Answer::text(METHOD_NOT_ALLOWED, "POST, please\n") }
        }
        _ => Answer::text(NOT_FOUND, "there is no such page\n"),
    };
    answer.write(output, request.keep_alive, request.method == "HEAD");
}

/// Errors of `accept` that concern one connection only.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset)
}

/// Prints a line. `println!` panics when nobody reads it any more (`http | head -1`); this does not.
fn say(line: impl Display) {
    let _ = writeln!(io::stdout(), "{}", line);
}
