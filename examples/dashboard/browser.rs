//! One connection of a browser: a small HTTP server that never blocks.

use minimio::{Interests, TcpStream};
use std::io::{ErrorKind, Read, Write};

/// The most bytes of a request.
const MAX_REQUEST: usize = 8 * 1024;
/// The most bytes that wait for one browser. A tab that falls behind is cut off; it comes back by itself.
const MAX_OUTPUT: usize = 256 * 1024;

pub struct Browser {
    pub stream: TcpStream,
    /// The beginning of a request whose end has not come yet.
    input: Vec<u8>,
    /// What waits until the browser reads.
    output: Vec<u8>,
    /// Its answer never ends: it gets a message for each poll.
    pub is_tab: bool,
    /// No further request; close when the output is written.
    pub is_closing: bool,
    pub is_gone: bool,
    /// What the stream is registered for.
    pub asked: Interests,
}

pub struct Request {
    pub method: String,
    pub path: String,
    /// A browser names the page that makes a POST. Another site's page must not press our buttons.
    pub is_foreign: bool,
}

impl Browser {
    pub fn new(stream: TcpStream) -> Browser {
        let _ = stream.set_nodelay(true);
        Browser {
            stream,
            input: Vec::new(),
            output: Vec::new(),
            is_tab: false,
            is_closing: false,
            is_gone: false,
            asked: Interests::READABLE | Interests::LEVEL,
        }
    }

    /// `WRITABLE` only while something waits, and no further request until then. A tab makes no more requests; it is
    /// watched for its end.
    pub fn interests(&self) -> Interests {
        let direction = match (self.output.is_empty(), self.is_tab) {
            (true, _) => Interests::READABLE,
            (false, true) => Interests::READABLE | Interests::WRITABLE,
            (false, false) => Interests::WRITABLE,
        };
        direction | Interests::LEVEL
    }

    /// Reads once, so that nobody keeps the loop from the others.
    pub fn read(&mut self) {
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

    /// Takes the next complete request out of what was read.
    pub fn next_request(&mut self) -> Option<Request> {
        if self.is_tab || self.is_closing || self.is_gone {
            return None;
        }
        let end = self.input.windows(4).position(|four| four == b"\r\n\r\n");
        if end.unwrap_or(self.input.len()) > MAX_REQUEST {
            return self.refuse("431 Request Header Fields Too Large");
        }
        let head: Vec<u8> = self.input.drain(..end? + 4).collect();
        let head = String::from_utf8_lossy(&head).into_owned();
        if has_body(&head) {
            return self.refuse("413 Content Too Large");
        }
        let words: Vec<&str> = head.lines().next().unwrap_or("").split(' ').collect();
        match words[..] {
            [method @ ("GET" | "POST"), path, "HTTP/1.1"] if path.starts_with('/') => {
                let (method, path) = (method.to_string(), path.to_string());
                Some(Request { method, path, is_foreign: is_foreign(&head) })
            }
            _ => self.refuse("400 Bad Request"),
        }
    }

    fn refuse<T>(&mut self, status: &str) -> Option<T> {
        self.send(&answer(status, "text/plain", "no\n"));
        self.is_closing = true;
        None
    }

    pub fn send(&mut self, text: &str) {
        self.output.extend_from_slice(text.as_bytes());
        if self.output.len() > MAX_OUTPUT {
            self.is_gone = true;
        }
    }

    pub fn flush(&mut self) {
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

/// The headers of a request, by name and value.
fn headers(head: &str) -> impl Iterator<Item = (&str, &str)> {
    let lines = head.lines().skip(1);
    lines.filter_map(|line| line.split_once(':')).map(|(name, value)| (name, value.trim()))
}

fn header<'a>(head: &'a str, wanted: &str) -> Option<&'a str> {
    headers(head).find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value)
}

/// A request of this page is complete with its head.
fn has_body(head: &str) -> bool {
    headers(head).any(|(name, value)| match name.to_ascii_lowercase().as_str() {
        "content-length" => value != "0",
        "transfer-encoding" => true,
        _ => false,
    })
}

/// Whether a page of another origin sent it. Programs such as `curl` send no `Origin`, and may do what they want.
fn is_foreign(head: &str) -> bool {
    let own = header(head, "host").map(|host| format!("http://{}", host));
    match header(head, "origin") {
        Some(origin) => Some(origin) != own.as_deref(),
        None => false,
    }
}

pub fn answer(status: &str, content_type: &str, body: &str) -> String {
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
