//! A connection to experiment with. Both of its ends are in this program: the loop's end is registered with the queue,
//! your end is moved by the buttons of the page.

use minimio::{Event, Interests, TcpStream};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{self, Shutdown};

/// The most that "write until it is full" writes, should a system never say that it is.
const MAX_FILL: usize = 64 * 1024 * 1024;

/// Your end, while its other end waits to be accepted.
pub struct Arrival {
    pub yours: net::TcpStream,
    /// How the loop's end will be registered.
    pub mode: Interests,
    pub by_hand: bool,
}

pub struct Connection {
    pub stream: TcpStream,
    mode: Interests,
    /// Somebody at a browser decides when to read and when to re-arm.
    pub by_hand: bool,
    /// A one-shot registration is armed until its event, and again after `reregister`.
    pub armed: bool,
    /// The last write met a full buffer: tell when there is room again.
    pub wants_room: bool,
    /// How many events came since the last read.
    pub unread: u32,
    /// The poll whose events were handled when it was read last.
    read_in: u64,
    /// The last read met the end of the stream.
    pub is_at_end: bool,
    yours: Option<net::TcpStream>,
    half_closed: bool,
}

/// What came of reading until there is no more.
pub enum Outcome {
    WouldBlock,
    End,
    Failed(io::Error),
}

impl Connection {
    pub fn new(stream: TcpStream, arrival: Arrival) -> Connection {
        Connection {
            stream,
            mode: arrival.mode,
            by_hand: arrival.by_hand,
            armed: true,
            wants_room: false,
            unread: 0,
            read_in: 0,
            is_at_end: false,
            yours: Some(arrival.yours),
            half_closed: false,
        }
    }

    /// What to register for. `WRITABLE` only while something waits to be written: an idle connection is always writable.
    pub fn interests(&self) -> Interests {
        match self.wants_room {
            true => self.mode | Interests::WRITABLE,
            false => self.mode,
        }
    }

    pub fn mode(&self) -> &'static str {
        match self.mode {
            mode if mode.is_level() => "level",
            mode if mode.is_edge() => "edge",
            _ => "oneshot",
        }
    }

    /// Takes note of an event, before anything is done about it. Whether it tells of something to read: a button may have read
    /// all there was just now, in answer to another event of the same poll.
    pub fn saw(&mut self, event: &Event, poll: u64) -> bool {
        if self.mode.is_oneshot() {
            self.armed = false;
        }
        let is_news = event.is_readable() && self.read_in != poll;
        self.unread += u32::from(is_news);
        is_news
    }

    /// A level registration reports what is unread with every poll, so the next one will not sleep.
    pub fn keeps_awake(&self) -> bool {
        self.mode.is_level() && self.unread > 0
    }

    // ---- The loop's end ----

    /// Reads all there is.
    pub fn read(&mut self, poll: u64) -> (usize, Outcome) {
        self.unread = 0;
        self.read_in = poll;
        let (bytes, outcome) = read_up_to(&mut self.stream, usize::MAX);
        self.is_at_end = matches!(outcome, Outcome::End);
        (bytes, outcome)
    }

    pub fn write(&mut self) -> String {
        match self.stream.write(b"bye") {
            Ok(n) => format!("{} bytes", n),
            Err(error) => error.to_string(),
        }
    }

    /// Writes until the connection takes no more. Returns how much it took.
    pub fn fill(&mut self) -> io::Result<usize> {
        let block = [b'x'; 64 * 1024];
        let mut written = 0;
        while written < MAX_FILL {
            match self.stream.write(&block) {
                Ok(n) => written += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.wants_room = true;
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(written)
    }

    // ---- Your end ----

    pub fn your_end(&self) -> &'static str {
        match (&self.yours, self.half_closed) {
            (None, _) => "closed",
            (Some(_), true) => "half-closed",
            (Some(_), false) => "open",
        }
    }

    /// Presses one of the buttons of your end and says what happened.
    pub fn move_your_end(&mut self, action: &str) -> Result<String, String> {
        let yours = self.yours.as_mut().ok_or("your end is closed")?;
        match action {
            "send" => match yours.write(b"hello") {
                Ok(n) => Ok(format!("your end sends {} bytes", n)),
                Err(error) => Ok(format!("your end cannot send: {}", error)),
            },
            "sip" => Ok(describe(read_up_to(yours, 64 * 1024))),
            "drain" => Ok(describe(read_up_to(yours, usize::MAX))),
            "half" => {
                yours.shutdown(Shutdown::Write).map_err(|error| error.to_string())?;
                self.half_closed = true;
                Ok("your end half-closes: it sends no more, but it still reads".to_string())
            }
            "hangup" => {
                // Read first, or this would be a reset.
                read_up_to(yours, usize::MAX);
                self.yours = None;
                Ok("your end closes".to_string())
            }
            // To close with bytes unread tells the other side that they are lost: a reset. So see to it that there are some.
            // (On macOS and the BSDs the reset comes only in answer to what is written next.)
            "reset" => {
                let _ = self.stream.write(b"hello");
                self.yours = None;
                Ok("your end closes with bytes unread: a reset".to_string())
            }
            _ => Err(format!("there is no button {}", action)),
        }
    }
}

fn read_up_to(stream: &mut impl Read, limit: usize) -> (usize, Outcome) {
    let mut buffer = [0; 64 * 1024];
    let mut bytes = 0;
    while bytes < limit {
        match stream.read(&mut buffer) {
            Ok(0) => return (bytes, Outcome::End),
            Ok(n) => bytes += n,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return (bytes, Outcome::Failed(error)),
        }
    }
    (bytes, Outcome::WouldBlock)
}

fn describe((bytes, outcome): (usize, Outcome)) -> String {
    match outcome {
        Outcome::WouldBlock => format!("your end reads {} bytes", bytes),
        Outcome::End => format!("your end reads {} bytes, then 0: the end", bytes),
        Outcome::Failed(error) => format!("your end reads {} bytes, then: {}", bytes, error),
    }
}
