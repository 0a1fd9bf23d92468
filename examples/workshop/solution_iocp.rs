//! The workshop's two queues on Windows: the solution.
//!
//! `Iocp` is completion: it lends the kernel a buffer and gets it back filled. `Afd` is readiness made of completion: it
//! lends the kernel a question about a socket, and gets it back answered. Both keep the same law: what was lent stays where
//! it is until its packet has been taken out of the port.

use crate::queue::{Event, Interests, Mode, Packet, Port, Queue, Source, Token, WAKE};
use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::mem::{self, size_of};
use std::net::TcpStream;
use std::os::windows::io::{
    AsHandle, AsRawHandle, AsRawSocket, BorrowedHandle, FromRawHandle, OwnedHandle, RawHandle, RawSocket,
};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

// First half: completion.

pub struct Iocp {
    port: OwnedHandle,
}

/// What the kernel holds while it reads. Its own record comes first, so that the address of one is the address of the other.
#[repr(C)]
struct Operation {
    overlapped: ffi::OVERLAPPED,
    buffer: Vec<u8>,
}

impl Port for Iocp {
    fn new() -> io::Result<Iocp> {
        Ok(Iocp { port: new_port()? })
    }

    fn as_handle(&self) -> BorrowedHandle<'_> {
        self.port.as_handle()
    }

    fn tie(&self, socket: &TcpStream, key: usize) -> io::Result<()> {
        tie(socket.as_raw_socket() as RawHandle, &self.port, key)
    }

    fn start_read(&self, socket: &TcpStream, buffer: Vec<u8>) -> io::Result<usize> {
        let operation = Box::into_raw(Box::new(Operation { overlapped: ffi::OVERLAPPED::default(), buffer }));
        // SAFETY: nobody else has the operation yet.
        let buffer = unsafe { &mut (*operation).buffer };
        let lent = ffi::WSABUF { length: buffer.len() as u32, buffer: buffer.as_mut_ptr() };
        let (socket, overlapped) = (socket.as_raw_socket() as usize, operation.cast());
        let mut flags = 0;
        // SAFETY: the operation and its buffer stay where they are until the packet is taken out. `lent` and `flags` are
        // used during the call only.
        let ret =
            unsafe { ffi::WSARecv(socket, &lent, 1, ptr::null_mut(), &mut flags, overlapped, ptr::null()) };
        match check(ret == 0) {
            Err(error) if error.raw_os_error() != Some(ffi::WSA_IO_PENDING) => {
                // SAFETY: it failed, so no packet will come, and the operation is ours again.
                drop(unsafe { Box::from_raw(operation) });
                Err(error)
            }
            _ => Ok(operation as usize), // pending or done: either way a packet comes
        }
    }

    fn next_packet(&self, timeout: Option<Duration>) -> io::Result<Option<Packet>> {
        let (port, timeout) = (self.port.as_raw_handle(), millis(timeout));
        let (mut bytes, mut key, mut overlapped) = (0, 0, ptr::null_mut());
        // SAFETY: the three places to write to outlive the call.
        let ok =
            unsafe { ffi::GetQueuedCompletionStatus(port, &mut bytes, &mut key, &mut overlapped, timeout) };
        let result = check(ok != 0).map(|()| bytes as usize);
        if !overlapped.is_null() {
            // SAFETY: every operation on this port is a box of ours, and its packet comes once.
            let operation = unsafe { Box::from_raw(overlapped.cast::<Operation>()) };
            // FALSE with an operation: the wait went well, the operation did not.
            return Ok(Some(Packet { key, buffer: Some(operation.buffer), result }));
        }
        match result {
            Ok(_) => Ok(Some(Packet { key, buffer: None, result })),
            Err(error) if error.raw_os_error() == Some(ffi::WAIT_TIMEOUT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn cancel(&self, socket: &TcpStream, operation: usize) -> io::Result<()> {
        let socket = socket.as_raw_socket() as RawHandle;
        // SAFETY: the kernel looks for an operation with this address, and does not look behind it.
        match check(unsafe { ffi::CancelIoEx(socket, operation as *mut _) } != 0) {
            // It has just ended: too late, and its packet is on its way.
            Err(error) if error.raw_os_error() == Some(ffi::ERROR_NOT_FOUND) => Ok(()),
            result => result,
        }
    }

    fn post(&self, key: usize) -> io::Result<()> {
        post(&self.port, key)
    }
}

// Second half: readiness.

/// The keys of `Afd`'s packets.
const KEY_ANSWER: usize = 0;
const KEY_WAKE: usize = 1;

/// The most packets that are taken out at a time. What did not fit comes with the next wait.
const ROOM: usize = 64;

/// A queue of questions about sockets.
pub struct Afd {
    /// A handle to the driver. All questions are sent through it, and it is tied to the port.
    helper: OwnedHandle,
    port: OwnedHandle,
    watched: Mutex<HashMap<RawSocket, Watched>>,
    /// There is a wake in the port already.
    woken: AtomicBool,
    closed: AtomicBool,
}

/// What we know of a socket.
#[derive(Default)]
struct Watched {
    /// What is wanted; `None` once it was deregistered, while the kernel still has a question.
    wanted: Option<(Token, Interests)>,
    /// The question that the kernel has, if it has one.
    pending: Option<Lent>,
    /// That question is out of date. It was called off, or its answer is to be thrown away.
    cancelled: bool,
}

/// A question that was lent to the kernel.
#[derive(Clone, Copy)]
struct Lent(*mut AfdPoll);

// SAFETY: it is an address. Whoever follows it has the packet in hand, and so the question to itself.
unsafe impl Send for Lent {}

/// A question, and over it the answer. Its address comes back with the packet.
#[repr(C)]
struct AfdPoll {
    status: ffi::IO_STATUS_BLOCK,
    info: ffi::AFD_POLL_INFO,
}

impl Queue for Afd {
    fn new() -> io::Result<Afd> {
        let (helper, port) = (open_helper()?, new_port()?);
        tie(helper.as_raw_handle(), &port, KEY_ANSWER)?;
        Ok(Afd {
            helper,
            port,
            watched: Mutex::default(),
            woken: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        })
    }

    fn helper_and_port(&self) -> (BorrowedHandle<'_>, BorrowedHandle<'_>) {
        (self.helper.as_handle(), self.port.as_handle())
    }

    fn register(&self, source: Source<'_>, token: Token, interests: Interests) -> io::Result<()> {
        let mut table = self.table();
        let watched = table.entry(source.as_raw_socket()).or_default();
        watched.wanted = Some((token, interests));
        match watched.pending {
            None => self.submit(source.as_raw_socket(), watched),
            // There must not be two questions about one socket. Call the first one off; its packet will send the second.
            Some(question) => {
                watched.cancelled = true;
                self.cancel(question);
                Ok(())
            }
        }
    }

    fn reregister(&self, source: Source<'_>, token: Token, interests: Interests) -> io::Result<()> {
        self.register(source, token, interests)
    }

    fn deregister(&self, source: Source<'_>) -> io::Result<()> {
        let mut table = self.table();
        let socket = source.as_raw_socket();
        let watched = table.get_mut(&socket).filter(|watched| watched.wanted.is_some());
        let watched = watched.ok_or(ErrorKind::NotFound)?;
        watched.wanted = None;
        match watched.pending {
            Some(question) => self.cancel(question), // its packet will end the entry
            None => drop(table.remove(&socket)),
        }
        Ok(())
    }

    fn poll(&self, events: &mut Vec<Event>, timeout: Option<Duration>) -> io::Result<()> {
        events.clear();
        // A time too far away to be written down is never.
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        self.submit_again();
        loop {
            self.check_open()?; // before the sleep …
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            self.wait(events, left)?;
            self.check_open()?; // … and after it
            if !events.is_empty() || left == Some(Duration::ZERO) {
                return Ok(());
            }
        }
    }

    fn wake(&self) -> io::Result<()> {
        if self.woken.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        post(&self.port, KEY_WAKE)
    }

    fn close_loop(&self) -> io::Result<()> {
        self.closed.store(true, Ordering::Release); // first the fact, then the wake
        post(&self.port, KEY_WAKE)
    }
}

impl Afd {
    fn table(&self) -> MutexGuard<'_, HashMap<RawSocket, Watched>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_open(&self) -> io::Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(io::Error::new(ErrorKind::Interrupted, "the loop is closed"));
        }
        Ok(())
    }

    /// Sends the question that is wanted. From here on the kernel holds it, until its packet is taken out.
    fn submit(&self, socket: RawSocket, watched: &mut Watched) -> io::Result<()> {
        let (_, interests) = match watched.wanted {
            Some(wanted) => wanted,
            None => return Ok(()),
        };
        let info = ffi::AFD_POLL_INFO {
            timeout: i64::MAX, // none
            count: 1,
            exclusive: 0,
            handle: socket,
            events: states(interests),
            status: 0,
        };
        let question = Box::into_raw(Box::new(AfdPoll { status: ffi::IO_STATUS_BLOCK::default(), info }));
        let length = size_of::<ffi::AFD_POLL_INFO>() as u32;
        // SAFETY: the question stays where it is until its packet is taken out. The lengths are those of its second part.
        let status = unsafe {
            let (status, info) =
                (ptr::addr_of_mut!((*question).status), ptr::addr_of_mut!((*question).info).cast());
            ffi::NtDeviceIoControlFile(
                self.helper.as_raw_handle(),
                ptr::null_mut(),
                ptr::null_mut(),
                question.cast(),
                status,
                ffi::IOCTL_AFD_POLL,
                info,
                length,
                info,
                length,
            )
        };
        if let Err(error) = check_status(status) {
            // SAFETY: it failed, so no packet will come, and the question is ours again.
            drop(unsafe { Box::from_raw(question) });
            return Err(error);
        }
        watched.pending = Some(Lent(question));
        Ok(())
    }

    /// Asks the kernel for a question back. Its packet comes all the same, answered or not.
    fn cancel(&self, Lent(question): Lent) {
        let helper = self.helper.as_raw_handle();
        let mut status = ffi::IO_STATUS_BLOCK::default();
        // SAFETY: the kernel looks for a question with this address, and does not look behind it.
        unsafe { ffi::NtCancelIoFileEx(helper, question.cast(), &mut status) };
    }

    /// A question is answered once. For a source in level mode it is asked again before each wait.
    fn submit_again(&self) {
        self.table().retain(|socket, watched| match watched.wanted {
            Some((_, Interests { mode: Mode::Level, .. })) if watched.pending.is_none() => {
                self.submit(*socket, watched).is_ok() // the socket was closed
            }
            _ => true,
        });
    }

    /// Sleeps once, takes packets out, and translates what they say.
    fn wait(&self, events: &mut Vec<Event>, timeout: Option<Duration>) -> io::Result<()> {
        for packet in take(&self.port, timeout)? {
            match packet.key {
                KEY_WAKE => {
                    // Whoever wakes from here on posts again.
                    self.woken.store(false, Ordering::Release);
                    events.push(Event { token: WAKE, readable: true, writable: false, read_closed: false });
                }
                _ => events.extend(self.answered(packet.overlapped as *mut AfdPoll)),
            }
        }
        Ok(())
    }

    /// A question has come back.
    fn answered(&self, question: *mut AfdPoll) -> Option<Event> {
        // SAFETY: every question is a box of ours, and its packet comes once.
        let answer = unsafe { Box::from_raw(question) };
        let socket = answer.info.handle;
        let mut table = self.table();
        let watched = table.get_mut(&socket)?;
        watched.pending = None;
        let states = answer.info.events;
        let was_cancelled = mem::take(&mut watched.cancelled);
        let (token, wanted) = match watched.wanted {
            Some(wanted) => wanted,
            None => {
                table.remove(&socket);
                return None;
            }
        };
        if was_cancelled {
            // Something else is wanted by now.
            if self.submit(socket, watched).is_err() {
                table.remove(&socket);
            }
            return None;
        }
        if answer.status.status < 0 || states & ffi::AFD_POLL_LOCAL_CLOSE != 0 {
            table.remove(&socket); // closed, by ourselves
            return None;
        }
        let failed = states & (ffi::AFD_POLL_ABORT | ffi::AFD_POLL_CONNECT_FAIL) != 0;
        Some(Event {
            token,
            readable: states & READ != 0 || failed && wanted.readable,
            writable: states & ffi::AFD_POLL_SEND != 0 || failed && wanted.writable,
            read_closed: states & (ffi::AFD_POLL_DISCONNECT | ffi::AFD_POLL_ABORT) != 0,
        })
    }
}

impl Drop for Afd {
    /// Calls everything off, and takes packets out until nothing of ours is with the kernel. Only then the port is closed.
    fn drop(&mut self) {
        let table = mem::take(&mut *self.table());
        let mut pending = 0;
        for question in table.values().filter_map(|watched| watched.pending) {
            self.cancel(question);
            pending += 1;
        }
        while pending > 0 {
            // Better to leak than to hang, should a packet ever not come.
            let packets = take(&self.port, Some(Duration::from_secs(1))).unwrap_or_default();
            if packets.is_empty() {
                return;
            }
            for packet in packets.iter().filter(|packet| packet.key == KEY_ANSWER) {
                // SAFETY: every question is a box of ours, and its packet comes once.
                drop(unsafe { Box::from_raw(packet.overlapped as *mut AfdPoll) });
                pending -= 1;
            }
        }
    }
}

/// A socket with one of these can be read: bytes, the end, a connection to accept.
const READ: u32 = ffi::AFD_POLL_RECEIVE | ffi::AFD_POLL_DISCONNECT | ffi::AFD_POLL_ACCEPT;

/// What to ask for, in the words of the driver. What ends a socket is always asked for.
fn states(interests: Interests) -> u32 {
    let readable = if interests.readable { READ } else { 0 };
    let writable = if interests.writable { ffi::AFD_POLL_SEND } else { 0 };
    readable | writable | ffi::AFD_POLL_ABORT | ffi::AFD_POLL_CONNECT_FAIL | ffi::AFD_POLL_LOCAL_CLOSE
}

/// Opens the driver below Winsock: the helper.
fn open_helper() -> io::Result<OwnedHandle> {
    // The last part of the name is ours to choose, but there must be one.
    let path: Vec<u16> = r"\Device\Afd\workshop".encode_utf16().collect();
    let bytes = (path.len() * size_of::<u16>()) as u16;
    let name = ffi::UNICODE_STRING { length: bytes, maximum: bytes, buffer: path.as_ptr() };
    let attributes = ffi::OBJECT_ATTRIBUTES {
        length: size_of::<ffi::OBJECT_ATTRIBUTES>() as u32,
        root: ptr::null_mut(),
        name: &name,
        attributes: 0,
        security: [ptr::null(); 2],
    };
    let mut helper = ptr::null_mut();
    let mut status = ffi::IO_STATUS_BLOCK::default();
    // SAFETY: every argument outlives the call, which is over when it returns.
    check_status(unsafe {
        ffi::NtCreateFile(
            &mut helper,
            ffi::SYNCHRONIZE,
            &attributes,
            &mut status,
            ptr::null(),
            0,
            ffi::FILE_SHARE_READ | ffi::FILE_SHARE_WRITE,
            ffi::FILE_OPEN,
            0,
            ptr::null(),
            0,
        )
    })?;
    // SAFETY: the handle is new, so nobody else will close it.
    Ok(unsafe { OwnedHandle::from_raw_handle(helper) })
}

// What both halves use.

fn new_port() -> io::Result<OwnedHandle> {
    // Without a handle to tie, the call makes a new port.
    // SAFETY: the call takes no memory.
    let port = unsafe { ffi::CreateIoCompletionPort(ffi::INVALID_HANDLE_VALUE, ptr::null_mut(), 0, 0) };
    check(!port.is_null())?;
    // SAFETY: the handle is new, so nobody else will close it.
    Ok(unsafe { OwnedHandle::from_raw_handle(port) })
}

/// From now on the packets of all operations on `handle` come to `port`, with `key` on them.
fn tie(handle: RawHandle, port: &OwnedHandle, key: usize) -> io::Result<()> {
    // SAFETY: the call takes no memory.
    let tied = unsafe { ffi::CreateIoCompletionPort(handle, port.as_raw_handle(), key, 0) };
    check(!tied.is_null())
}

/// Puts a packet of our own into the port.
fn post(port: &OwnedHandle, key: usize) -> io::Result<()> {
    // SAFETY: the call takes no memory: the kernel passes the last argument on and does not look behind it.
    check(unsafe { ffi::PostQueuedCompletionStatus(port.as_raw_handle(), 0, key, ptr::null_mut()) } != 0)
}

/// Sleeps until there are packets, and takes out as many as fit.
fn take(port: &OwnedHandle, timeout: Option<Duration>) -> io::Result<Vec<ffi::OVERLAPPED_ENTRY>> {
    let mut packets = vec![ffi::OVERLAPPED_ENTRY::default(); ROOM];
    let (port, room, timeout) = (port.as_raw_handle(), packets.len() as u32, millis(timeout));
    let mut count = 0;
    // SAFETY: `packets` has room for `room` entries, and the kernel writes at most that many.
    let ok =
        unsafe { ffi::GetQueuedCompletionStatusEx(port, packets.as_mut_ptr(), room, &mut count, timeout, 0) };
    match check(ok != 0) {
        Ok(()) => packets.truncate(count as usize),
        Err(error) if error.raw_os_error() == Some(ffi::WAIT_TIMEOUT) => packets.clear(),
        Err(error) => return Err(error),
    }
    Ok(packets)
}

/// A timeout for the port: rounded up, because 0.3 ms are not 0. What is too long is cut: the highest number means for ever.
fn millis(timeout: Option<Duration>) -> u32 {
    match timeout {
        None => ffi::INFINITE,
        Some(timeout) => {
            let up = (timeout.as_nanos() + 999_999) / 1_000_000;
            u32::try_from(up).unwrap_or(ffi::INFINITE).min(ffi::INFINITE - 1)
        }
    }
}

/// Each call has its own way to say that it failed: FALSE, null, anything but 0. The reason is with the thread.
fn check(succeeded: bool) -> io::Result<()> {
    if succeeded {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The kernel's own calls return the error itself. What is below 0 is one.
fn check_status(status: ffi::NTSTATUS) -> io::Result<()> {
    if status < 0 {
        // SAFETY: the call takes no memory.
        let code = unsafe { ffi::RtlNtStatusToDosError(status) };
        Err(io::Error::from_raw_os_error(code as i32))
    } else {
        Ok(())
    }
}

/// The system's own names. <https://learn.microsoft.com/windows/win32/fileio/i-o-completion-ports>; those of AFD are in
/// no header.
#[allow(non_camel_case_types, clippy::upper_case_acronyms)]
mod ffi {
    use std::os::raw::c_void;
    use std::os::windows::io::{RawHandle, RawSocket};

    pub type HANDLE = RawHandle;
    pub type NTSTATUS = i32;

    pub const INVALID_HANDLE_VALUE: HANDLE = -1isize as HANDLE;
    /// A timeout: for ever.
    pub const INFINITE: u32 = u32::MAX;
    /// Nothing came in time.
    pub const WAIT_TIMEOUT: i32 = 258;
    /// The operation has begun.
    pub const WSA_IO_PENDING: i32 = 997;
    /// There is no such operation in flight.
    pub const ERROR_NOT_FOUND: i32 = 1168;

    pub const SYNCHRONIZE: u32 = 0x10_0000;
    pub const FILE_SHARE_READ: u32 = 1;
    pub const FILE_SHARE_WRITE: u32 = 2;
    pub const FILE_OPEN: u32 = 1;

    pub const IOCTL_AFD_POLL: u32 = 0x12024;
    /// There are bytes.
    pub const AFD_POLL_RECEIVE: u32 = 0x1;
    /// There is room.
    pub const AFD_POLL_SEND: u32 = 0x4;
    /// The other side has sent its last byte.
    pub const AFD_POLL_DISCONNECT: u32 = 0x8;
    /// The other side has reset the connection.
    pub const AFD_POLL_ABORT: u32 = 0x10;
    /// The socket was closed on our side.
    pub const AFD_POLL_LOCAL_CLOSE: u32 = 0x20;
    /// A connection waits.
    pub const AFD_POLL_ACCEPT: u32 = 0x80;
    /// The connection was refused.
    pub const AFD_POLL_CONNECT_FAIL: u32 = 0x100;

    /// What the kernel notes down about an operation in flight. All zero is right for a socket.
    #[derive(Default)]
    #[repr(C)]
    pub struct OVERLAPPED {
        pub status: usize,
        pub bytes: usize,
        pub offset: [u32; 2],
        pub event: usize,
    }

    /// A buffer that is lent.
    #[repr(C)]
    pub struct WSABUF {
        pub length: u32,
        pub buffer: *mut u8,
    }

    /// A packet.
    #[derive(Clone, Copy, Default)]
    #[repr(C)]
    pub struct OVERLAPPED_ENTRY {
        pub key: usize,
        /// The address that the operation was started with.
        pub overlapped: usize,
        pub internal: usize,
        pub bytes: u32,
    }

    /// How an operation of the driver ended. The status shares its place with a pointer.
    #[derive(Clone, Copy, Default)]
    #[repr(C)]
    pub struct IO_STATUS_BLOCK {
        pub status: NTSTATUS,
        pub information: usize,
    }

    /// A question to the driver, about one socket: until when, which one, which states. In the answer, the states it is in.
    #[derive(Clone, Copy)]
    #[repr(C)]
    pub struct AFD_POLL_INFO {
        pub timeout: i64,
        pub count: u32,
        pub exclusive: u32,
        pub handle: RawSocket,
        pub events: u32,
        pub status: NTSTATUS,
    }

    /// Lengths in bytes.
    #[repr(C)]
    pub struct UNICODE_STRING {
        pub length: u16,
        pub maximum: u16,
        pub buffer: *const u16,
    }

    #[repr(C)]
    pub struct OBJECT_ATTRIBUTES {
        pub length: u32,
        pub root: HANDLE,
        pub name: *const UNICODE_STRING,
        pub attributes: u32,
        pub security: [*const c_void; 2],
    }

    #[link(name = "kernel32")]
    extern "system" {
        /// Makes a port, if `handle` is INVALID_HANDLE_VALUE and `port` is null; else ties `handle` to `port`. Returns the
        /// port, or null.
        pub fn CreateIoCompletionPort(handle: HANDLE, port: HANDLE, key: usize, threads: u32) -> HANDLE;
        /// Sleeps until there is a packet, or for so many milliseconds, and takes it out. FALSE with an operation: that one
        /// failed. FALSE without: the wait did.
        pub fn GetQueuedCompletionStatus(
            port: HANDLE,
            bytes: *mut u32,
            key: *mut usize,
            overlapped: *mut *mut OVERLAPPED,
            millis: u32,
        ) -> i32;
        /// The same for many packets at a time; `count` says how many. FALSE: the wait failed.
        pub fn GetQueuedCompletionStatusEx(
            port: HANDLE,
            packets: *mut OVERLAPPED_ENTRY,
            room: u32,
            count: *mut u32,
            millis: u32,
            alertable: i32,
        ) -> i32;
        /// Puts a packet in. Returns FALSE on failure.
        pub fn PostQueuedCompletionStatus(
            port: HANDLE,
            bytes: u32,
            key: usize,
            overlapped: *mut OVERLAPPED,
        ) -> i32;
        /// Asks for an operation to be given up. Returns FALSE on failure.
        pub fn CancelIoEx(handle: HANDLE, overlapped: *mut OVERLAPPED) -> i32;
    }

    #[link(name = "ws2_32")]
    extern "system" {
        /// Starts to read. Returns 0 if it is done already, otherwise an error: WSA_IO_PENDING if it has begun.
        pub fn WSARecv(
            socket: usize,
            buffers: *const WSABUF,
            count: u32,
            received: *mut u32,
            flags: *mut u32,
            overlapped: *mut OVERLAPPED,
            routine: *const c_void,
        ) -> i32;
    }

    #[link(name = "ntdll")]
    extern "system" {
        /// Opens a file or device.
        pub fn NtCreateFile(
            file: *mut HANDLE,
            access: u32,
            attributes: *const OBJECT_ATTRIBUTES,
            status: *mut IO_STATUS_BLOCK,
            size: *const i64,
            file_attributes: u32,
            share: u32,
            disposition: u32,
            options: u32,
            extended: *const c_void,
            extended_length: u32,
        ) -> NTSTATUS;
        /// Sends a request to a driver. Unless it fails, a packet with `context` comes when the request ends, and until then
        /// `status` and `output` are the kernel's.
        pub fn NtDeviceIoControlFile(
            file: HANDLE,
            event: HANDLE,
            apc: *mut c_void,
            context: *mut c_void,
            status: *mut IO_STATUS_BLOCK,
            code: u32,
            input: *mut c_void,
            input_length: u32,
            output: *mut c_void,
            output_length: u32,
        ) -> NTSTATUS;
        /// Calls off the request on `file` that was sent with `request`.
        pub fn NtCancelIoFileEx(
            file: HANDLE,
            request: *mut IO_STATUS_BLOCK,
            status: *mut IO_STATUS_BLOCK,
        ) -> NTSTATUS;
        /// Translates an error.
        pub fn RtlNtStatusToDosError(status: NTSTATUS) -> u32;
    }
}
