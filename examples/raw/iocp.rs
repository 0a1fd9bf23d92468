use std::io::{Error, Result, Write};
use std::mem::size_of;
use std::net::{TcpListener, TcpStream};
use std::os::windows::io::{AsRawHandle, AsRawSocket, FromRawHandle, FromRawSocket};
use std::os::windows::io::{OwnedHandle, RawHandle};
use std::ptr;

pub fn main() -> Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7000".to_string());
    let mut server = Server::new(TcpListener::bind(address)?)?;
    say(format_args!("listening on {}", server.listener.local_addr()?));
    loop {
        server.turn()?;
    }
}

struct Server {
    port: Port,
    listener: TcpListener,
    newest: usize,
}

/// A client, with all that the kernel may touch while it works for us. It is in the kernel's
/// hands or in ours, never in both, and each packet brings one back: no table is needed.
#[repr(C)] // `overlapped` comes first: its address is that of the client
struct Client {
    overlapped: ffi::OVERLAPPED,
    doing: Doing,
    number: usize,
    stream: TcpStream,
    buffer: [u8; 4096],
    /// What it sent and has not got back yet: the part of `buffer` from here …
    start: usize,
    /// … to here.
    end: usize,
}

/// Which operation the kernel has in hand.
#[derive(Clone, Copy)]
enum Doing {
    Accept,
    Receive,
    Send,
}

impl Server {
    fn new(listener: TcpListener) -> Result<Server> {
        let port = Port::new()?;
        port.tie(&listener)?;
        let mut server = Server { port, listener, newest: 0 };
        server.expect_client()?;
        Ok(server)
    }

    /// One turn of the loop: sleep until something is done, then start what comes next.
    fn turn(&mut self) -> Result<()> {
        let (mut client, result) = self.port.wait()?;
        let number = client.number;
        if let Doing::Accept = client.doing {
            self.expect_client()?;
        }
        let next = result.and_then(|bytes| match client.doing {
            Doing::Accept => self.welcome(client),
            Doing::Receive if bytes == 0 => {
                say(format_args!("client {}: goodbye", number));
                Ok(())
            }
            Doing::Receive => client.send(0, bytes),
            Doing::Send => {
                client.start += bytes;
                if client.start < client.end {
                    let (start, end) = (client.start, client.end);
                    client.send(start, end)
                } else {
                    client.receive()
                }
            }
        });
        if let Err(error) = next {
            say(format_args!("client {}: {}", number, error)); // it is dropped already
        }
        Ok(())
    }

    /// Lends the kernel a client with a new socket, for whoever comes next.
    fn expect_client(&mut self) -> Result<()> {
        self.newest += 1;
        let stream = new_socket(self.listener.local_addr()?.is_ipv6())?;
        Box::new(Client {
            overlapped: ffi::OVERLAPPED::default(),
            doing: Doing::Accept,
            number: self.newest,
            stream,
            buffer: [0; 4096],
            start: 0,
            end: 0,
        })
        .accept(&self.listener)
    }

    fn welcome(&self, client: Box<Client>) -> Result<()> {
        inherit(&client.stream, &self.listener)?;
        self.port.tie(&client.stream)?;
        say(format_args!("client {}: welcome", client.number));
        client.receive()
    }
}

/// Each of these starts an operation and gives the client away with it.
impl Client {
    fn accept(mut self: Box<Self>, listener: &TcpListener) -> Result<()> {
        self.doing = Doing::Accept;
        let (door, socket) = (raw(listener), raw(&self.stream));
        self.lend(|buffer, overlapped| {
            let (data, room, mut received) = (0, ffi::ADDRESS + 16, 0);
            // SAFETY: the buffer and the record stay where they are until the packet comes, and
            // there is room for two addresses.
            let ok = unsafe {
                let first = buffer.cast();
                ffi::AcceptEx(door, socket, first, data, room, room, &mut received, overlapped)
            };
            ok != 0
        })
    }

    fn receive(mut self: Box<Self>) -> Result<()> {
        self.doing = Doing::Receive;
        let (socket, length) = (raw(&self.stream), self.buffer.len());
        self.lend(|buffer, overlapped| {
            let lent = ffi::WSABUF { length: length as u32, buffer };
            let (none, mut flags) = (ptr::null_mut(), 0);
            // SAFETY: the buffer and the record stay where they are until the packet comes; the
            // rest is used during the call only.
            let ret = unsafe { ffi::WSARecv(socket, &lent, 1, none, &mut flags, overlapped, ptr::null()) };
            ret == 0
        })
    }

    fn send(mut self: Box<Self>, start: usize, end: usize) -> Result<()> {
        self.doing = Doing::Send;
        self.start = start;
        self.end = end;
        let socket = raw(&self.stream);
        self.lend(|buffer, overlapped| {
            let length = (end - start) as u32;
            let lent = ffi::WSABUF { length, buffer: buffer.wrapping_add(start) };
            let none = ptr::null_mut();
            // SAFETY: as above. The kernel only reads the buffer this time.
            let ret = unsafe { ffi::WSASend(socket, &lent, 1, none, 0, overlapped, ptr::null()) };
            ret == 0
        })
    }

    /// From here on the client belongs to the kernel; `Port::wait` brings it back. `start` is
    /// handed what the kernel may write to, and says whether the call succeeded.
    fn lend(self: Box<Self>, start: impl FnOnce(*mut u8, *mut ffi::OVERLAPPED) -> bool) -> Result<()> {
        let client = Box::into_raw(self);
        // SAFETY: the client is alive; only addresses are taken, nothing is read.
        let buffer = unsafe { ptr::addr_of_mut!((*client).buffer) };
        let success = start(buffer.cast(), client.cast());
        let error = Error::last_os_error();
        // Pending is the usual answer. After a success the packet comes all the same.
        if success || error.raw_os_error() == Some(ffi::WSA_IO_PENDING) {
            return Ok(());
        }
        // SAFETY: the kernel has refused, so no packet will come and the client is ours again.
        drop(unsafe { Box::from_raw(client) });
        Err(error)
    }
}

/// Prints a line. A server goes on when nobody reads its log any more; `println!` would panic.
fn say(line: std::fmt::Arguments) {
    let _ = writeln!(std::io::stdout(), "{}", line);
}

/// A completion port. Together with `Client` this is all of the program that knows it.
struct Port(OwnedHandle);

impl Port {
    fn new() -> Result<Port> {
        let (no_file, no_port) = (ffi::INVALID_HANDLE_VALUE, ptr::null_mut());
        // SAFETY: the call takes no memory.
        let port = check(unsafe { ffi::CreateIoCompletionPort(no_file, no_port, 0, 0) })?;
        // SAFETY: the handle is new, so nobody else will close it.
        Ok(Port(unsafe { OwnedHandle::from_raw_handle(port) }))
    }

    /// What ends on this socket comes to this port from now on.
    fn tie(&self, socket: &impl AsRawSocket) -> Result<()> {
        let (file, port) = (raw(socket) as RawHandle, self.0.as_raw_handle());
        // SAFETY: both handles are open.
        check(unsafe { ffi::CreateIoCompletionPort(file, port, 0, 0) })?;
        Ok(())
    }

    /// Sleeps until an operation has ended: the client it was for, which is ours again, and how
    /// many bytes were moved, or why not.
    fn wait(&self) -> Result<(Box<Client>, Result<usize>)> {
        let port = self.0.as_raw_handle();
        let (mut bytes, mut key, mut packet) = (0, 0, ptr::null_mut());
        // SAFETY: the call writes to three variables, which outlive it.
        let ok = unsafe {
            let forever = ffi::INFINITE;
            ffi::GetQueuedCompletionStatus(port, &mut bytes, &mut key, &mut packet, forever)
        };
        let error = Error::last_os_error();
        if packet.is_null() {
            return Err(error); // it is the wait that failed
        }
        // SAFETY: each operation of this port was started by `lend`, with the address of a boxed
        // client, and its packet comes once.
        let client = unsafe { Box::from_raw(packet.cast::<Client>()) };
        Ok((client, if ok != 0 { Ok(bytes as usize) } else { Err(error) }))
    }
}

fn raw(socket: &impl AsRawSocket) -> usize {
    socket.as_raw_socket() as usize
}

/// A socket for `AcceptEx`, which fills one where Unix makes one.
fn new_socket(is_ipv6: bool) -> Result<TcpStream> {
    let family = if is_ipv6 { ffi::AF_INET6 } else { ffi::AF_INET };
    let flags = ffi::WSA_FLAG_OVERLAPPED | ffi::WSA_FLAG_NO_HANDLE_INHERIT;
    // SAFETY: the call takes no memory.
    let socket = unsafe { ffi::WSASocketW(family, ffi::SOCK_STREAM, 0, ptr::null(), 0, flags) };
    if socket == ffi::INVALID_SOCKET {
        return Err(Error::last_os_error());
    }
    // SAFETY: the socket is new, so nobody else will close it.
    Ok(unsafe { TcpStream::from_raw_socket(socket as _) })
}

/// Until this is done, an accepted socket does not know that it is connected.
fn inherit(stream: &TcpStream, listener: &TcpListener) -> Result<()> {
    let door = raw(listener);
    let (option, size) = (ffi::SO_UPDATE_ACCEPT_CONTEXT, size_of::<usize>() as i32);
    let value: *const usize = &door;
    // SAFETY: the kernel reads `size` bytes of `door`.
    let ret = unsafe { ffi::setsockopt(raw(stream), ffi::SOL_SOCKET, option, value.cast(), size) };
    if ret != 0 {
        return Err(Error::last_os_error());
    }
    Ok(())
}

/// Calls that return a handle return null on failure.
fn check(handle: RawHandle) -> Result<RawHandle> {
    if handle.is_null() {
        Err(Error::last_os_error())
    } else {
        Ok(handle)
    }
}

#[allow(non_snake_case, clippy::upper_case_acronyms)] // the system's own names
mod ffi {
    use std::os::raw::c_void;
    use std::os::windows::io::RawHandle as HANDLE;

    pub const INVALID_HANDLE_VALUE: HANDLE = -1isize as HANDLE;
    pub const INFINITE: u32 = u32::MAX;
    pub const INVALID_SOCKET: usize = usize::MAX;
    pub const AF_INET: i32 = 2;
    pub const AF_INET6: i32 = 23;
    pub const SOCK_STREAM: i32 = 1;
    pub const SOL_SOCKET: i32 = 0xffff;
    pub const SO_UPDATE_ACCEPT_CONTEXT: i32 = 0x700b;
    pub const WSA_FLAG_OVERLAPPED: u32 = 0x01;
    pub const WSA_FLAG_NO_HANDLE_INHERIT: u32 = 0x80;
    pub const WSA_IO_PENDING: i32 = 997;
    /// The size of the longest address that a TCP socket has.
    pub const ADDRESS: u32 = 28;

    /// The kernel's note of one operation in flight. Zeros are right for a socket.
    #[derive(Default)]
    #[repr(C)]
    pub struct OVERLAPPED {
        pub status: usize,
        pub bytes: usize,
        pub offset: [u32; 2],
        pub event: usize,
    }

    #[repr(C)]
    pub struct WSABUF {
        pub length: u32,
        pub buffer: *mut u8,
    }

    #[link(name = "kernel32")]
    extern "system" {
        pub fn CreateIoCompletionPort(file: HANDLE, port: HANDLE, key: usize, threads: u32) -> HANDLE;
        pub fn GetQueuedCompletionStatus(
            port: HANDLE,
            bytes: *mut u32,
            key: *mut usize,
            packet: *mut *mut OVERLAPPED,
            millis: u32,
        ) -> i32;
    }

    #[link(name = "mswsock")]
    extern "system" {
        pub fn AcceptEx(
            listener: usize,
            socket: usize,
            buffer: *mut c_void,
            data: u32,
            local_address: u32,
            remote_address: u32,
            received: *mut u32,
            overlapped: *mut OVERLAPPED,
        ) -> i32;
    }

    #[link(name = "ws2_32")]
    extern "system" {
        pub fn WSASocketW(
            family: i32,
            kind: i32,
            protocol: i32,
            info: *const c_void,
            group: u32,
            flags: u32,
        ) -> usize;
        pub fn WSARecv(
            socket: usize,
            buffers: *const WSABUF,
            count: u32,
            received: *mut u32,
            flags: *mut u32,
            overlapped: *mut OVERLAPPED,
            routine: *const c_void,
        ) -> i32;
        pub fn WSASend(
            socket: usize,
            buffers: *const WSABUF,
            count: u32,
            sent: *mut u32,
            flags: u32,
            overlapped: *mut OVERLAPPED,
            routine: *const c_void,
        ) -> i32;
        pub fn setsockopt(socket: usize, level: i32, option: i32, value: *const c_void, size: i32) -> i32;
    }
}
