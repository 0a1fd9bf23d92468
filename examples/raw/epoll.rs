use std::collections::HashMap;
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{TcpListener, TcpStream};
use std::os::raw::c_int;
use std::os::unix::io::{AsRawFd, FromRawFd, OwnedFd};

/// The listener's token. Clients count up from here, and no token is given twice: one that
/// is left over in a batch of events cannot be taken for that of a newer client.
const LISTENER: u64 = 0;

pub fn main() -> Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7000".to_string());
    let mut server = Server::new(TcpListener::bind(address)?)?;
    say(format_args!("listening on {}", server.listener.local_addr()?));
    loop {
        server.turn()?;
    }
}

struct Server {
    queue: Queue,
    listener: TcpListener,
    clients: HashMap<u64, Client>,
    newest: u64,
}

struct Client {
    stream: TcpStream,
    /// What it sent and has not got back yet.
    pending: Vec<u8>,
}

/// What we wait for: that a socket can be read, or that it can be written.
#[derive(Clone, Copy, PartialEq)]
enum Direction {
    Read,
    Write,
}

impl Server {
    fn new(listener: TcpListener) -> Result<Server> {
        listener.set_nonblocking(true)?;
        let queue = Queue::new()?;
        queue.add(&listener, LISTENER, Direction::Read)?;
        Ok(Server { queue, listener, clients: HashMap::new(), newest: LISTENER })
    }

    /// One turn of the loop: sleep until something happens, then deal with all of it.
    fn turn(&mut self) -> Result<()> {
        for token in self.queue.wait()? {
            match token {
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
        stream.set_nonblocking(true)?;
        let token = self.newest + 1;
        let client = Client { stream, pending: Vec::new() };
        self.queue.add(&client.stream, token, client.waits_for())?;
        self.clients.insert(token, client);
        self.newest = token;
        Ok(())
    }

    fn serve(&mut self, token: u64) {
        let client = match self.clients.get_mut(&token) {
            Some(client) => client,
            None => return, // it left earlier in this batch
        };
        let before = client.waits_for();
        let result = client.advance().and_then(|stays| {
            let now = client.waits_for();
            if stays && now != before {
                self.queue.change(&client.stream, token, now)?;
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
    fn waits_for(&self) -> Direction {
        if self.pending.is_empty() {
            Direction::Read
        } else {
            Direction::Write
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

/// An epoll instance. This is all of the program that knows it.
struct Queue(OwnedFd);

impl Queue {
    fn new() -> Result<Queue> {
        // SAFETY: the call takes no memory.
        let fd = check(unsafe { ffi::epoll_create1(ffi::EPOLL_CLOEXEC) })?;
        // SAFETY: the descriptor is new, so nobody else will close it.
        Ok(Queue(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    fn add(&self, source: &impl AsRawFd, token: u64, direction: Direction) -> Result<()> {
        self.control(ffi::EPOLL_CTL_ADD, source, token, direction)
    }

    fn change(&self, source: &impl AsRawFd, token: u64, direction: Direction) -> Result<()> {
        self.control(ffi::EPOLL_CTL_MOD, source, token, direction)
    }

    /// Edits the interest list.
    fn control(&self, op: c_int, source: &impl AsRawFd, token: u64, direction: Direction) -> Result<()> {
        let events = match direction {
            Direction::Read => ffi::EPOLLIN,
            Direction::Write => ffi::EPOLLOUT,
        };
        let mut event = ffi::epoll_event { events, data: token };
        // SAFETY: `event` is initialized and outlives the call, which copies it.
        check(unsafe { ffi::epoll_ctl(self.0.as_raw_fd(), op, source.as_raw_fd(), &mut event) })?;
        Ok(())
    }

    /// Sleeps until the ready list is not empty, and says whose entries are on it.
    fn wait(&self) -> Result<Vec<u64>> {
        let mut records = [ffi::epoll_event { events: 0, data: 0 }; 64];
        let room = records.len() as c_int;
        // SAFETY: the kernel writes at most `room` records. -1 is no timeout.
        let ready = check(unsafe { ffi::epoll_wait(self.0.as_raw_fd(), records.as_mut_ptr(), room, -1) });
        match ready {
            Ok(n) => Ok(records[..n as usize].iter().map(|record| record.data).collect()),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(Vec::new()), // a signal
            Err(error) => Err(error),
        }
    }
}

/// Unix calls return -1 and leave the reason in `errno`.
fn check(ret: c_int) -> Result<c_int> {
    if ret == -1 {
        Err(Error::last_os_error())
    } else {
        Ok(ret)
    }
}

#[allow(non_camel_case_types)] // the kernel's own names
mod ffi {
    use std::os::raw::c_int;

    pub const EPOLL_CLOEXEC: c_int = 0x80000;
    pub const EPOLL_CTL_ADD: c_int = 1;
    pub const EPOLL_CTL_MOD: c_int = 3;
    pub const EPOLLIN: u32 = 0x1;
    pub const EPOLLOUT: u32 = 0x4;

    /// What to watch for, or what happened, and 64 bits of ours. Packed on x86-64, and there
    /// alone.
    #[derive(Clone, Copy)]
    #[cfg_attr(target_arch = "x86_64", repr(C, packed))]
    #[cfg_attr(not(target_arch = "x86_64"), repr(C))]
    pub struct epoll_event {
        pub events: u32,
        pub data: u64,
    }

    // std links the C library already, so we only have to say what is in it.
    extern "C" {
        pub fn epoll_create1(flags: c_int) -> c_int;
        pub fn epoll_ctl(epfd: c_int, op: c_int, fd: c_int, event: *mut epoll_event) -> c_int;
        pub fn epoll_wait(epfd: c_int, events: *mut epoll_event, room: c_int, millis: c_int) -> c_int;
    }
}
