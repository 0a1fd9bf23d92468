use std::collections::HashMap;
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{TcpListener, TcpStream};
use std::os::raw::{c_int, c_void};
use std::os::unix::io::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

/// The listener's token. Clients count up from here, and no token is given twice: one that
/// is left over in a batch of events cannot be taken for that of a newer client.
const LISTENER: usize = 0;

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
    clients: HashMap<usize, Client>,
    newest: usize,
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

    fn serve(&mut self, token: usize) {
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

/// A kqueue. This is all of the program that knows it.
struct Queue(OwnedFd);

impl Queue {
    fn new() -> Result<Queue> {
        // SAFETY: the call takes no memory.
        let fd = check(unsafe { ffi::kqueue() })?;
        // SAFETY: the descriptor is new, so nobody else will close it.
        Ok(Queue(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    fn add(&self, source: &impl AsRawFd, token: usize, direction: Direction) -> Result<()> {
        self.apply(&[record(source.as_raw_fd(), token, direction, ffi::EV_ADD)])
    }

    /// A knote has one filter: one knote goes and the other comes, in a single call.
    fn change(&self, source: &impl AsRawFd, token: usize, direction: Direction) -> Result<()> {
        let other = match direction {
            Direction::Read => Direction::Write,
            Direction::Write => Direction::Read,
        };
        self.apply(&[
            record(source.as_raw_fd(), token, other, ffi::EV_DELETE),
            record(source.as_raw_fd(), token, direction, ffi::EV_ADD),
        ])
    }

    /// Changes only: without room for events none can come, and the first error is returned.
    fn apply(&self, changes: &[ffi::kevent]) -> Result<()> {
        let kq = self.0.as_raw_fd();
        let (first, count) = (changes.as_ptr(), changes.len() as ffi::Count);
        // SAFETY: there are `count` changes; of events, none are written.
        check(unsafe { ffi::kevent(kq, first, count, ptr::null_mut(), 0, ptr::null()) })?;
        Ok(())
    }

    /// Sleeps until a knote is active, and says whose.
    fn wait(&self) -> Result<Vec<usize>> {
        let kq = self.0.as_raw_fd();
        let mut records = [record(0, 0, Direction::Read, 0); 64];
        let room = records.len() as ffi::Count;
        // SAFETY: there are no changes, and the kernel writes at most `room` records. Without a
        // timeout it waits for ever.
        let ready =
            check(unsafe { ffi::kevent(kq, ptr::null(), 0, records.as_mut_ptr(), room, ptr::null()) });
        match ready {
            Ok(n) => Ok(records[..n as usize].iter().map(|r| r.udata as usize).collect()),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(Vec::new()), // a signal
            Err(error) => Err(error),
        }
    }
}

/// What goes in as a change and comes out as an event.
fn record(fd: RawFd, token: usize, direction: Direction, flags: ffi::Flags) -> ffi::kevent {
    let filter = match direction {
        Direction::Read => ffi::EVFILT_READ,
        Direction::Write => ffi::EVFILT_WRITE,
    };
    ffi::kevent {
        ident: fd as usize,
        filter,
        flags,
        fflags: 0,
        data: 0,
        udata: token as *mut c_void,
        #[cfg(target_os = "freebsd")]
        ext: [0; 4],
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
    use std::os::raw::{c_int, c_void};

    pub const EV_ADD: Flags = 0x1;
    pub const EV_DELETE: Flags = 0x2;

    // NetBSD has numbers and widths of its own.
    #[cfg(not(target_os = "netbsd"))]
    mod numbers {
        pub type Filter = i16;
        pub type Flags = u16;
        pub type Count = std::os::raw::c_int;
        pub const EVFILT_READ: Filter = -1;
        pub const EVFILT_WRITE: Filter = -2;
    }
    #[cfg(target_os = "netbsd")]
    mod numbers {
        pub type Filter = u32;
        pub type Flags = u32;
        pub type Count = usize;
        pub const EVFILT_READ: Filter = 0;
        pub const EVFILT_WRITE: Filter = 1;
    }
    pub use numbers::*;

    #[derive(Clone, Copy)]
    #[repr(C)]
    pub struct kevent {
        pub ident: usize,       // which descriptor …
        pub filter: Filter,     // … and what about it
        pub flags: Flags,       // what to do; in an event, what happened
        pub fflags: u32,        // details
        pub data: i64,          // in an event: how many bytes, how many connections
        pub udata: *mut c_void, // ours
        #[cfg(target_os = "freebsd")]
        pub ext: [u64; 4], // since FreeBSD 12
    }

    // std links the C library already, so we only have to say what is in it.
    extern "C" {
        pub fn kqueue() -> c_int;
        // Under its plain name NetBSD keeps an older call, for old programs.
        #[cfg_attr(target_os = "netbsd", link_name = "__kevent50")]
        pub fn kevent(
            kq: c_int,
            changes: *const kevent,
            change_count: Count,
            events: *mut kevent,
            room: Count,
            timeout: *const c_void, // a timespec
        ) -> c_int;
    }
}
