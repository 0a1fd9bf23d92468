//! Your two queues on Windows.
//!
//! `cargo run --example workshop` says what to write next. Each `todo!` is the place for one step; some steps add to what an
//! earlier one has written. `queue.rs` says what each function promises. What you need of the system is declared at the end of
//! this file; the calls are yours.
//!
//! Three habits: one call in each `unsafe` block, with a comment that says why it is sound; no answer of the system without
//! `check` or `check_status`; and what was lent to the kernel stays where it is until its packet has been taken out.

// The stubs do not use yet what they are given. Take this line out when you have finished.
#![allow(unused)]

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
use std::sync::Mutex;
use std::time::{Duration, Instant};

// First half: completion.

pub struct Iocp {
    // Step 1: the port, in an `OwnedHandle`.
}

impl Port for Iocp {
    fn new() -> io::Result<Iocp> {
        // `OwnedHandle::from_raw_handle` takes the handle over. Step 7 makes a port, too: a function of your own will pay.
        todo!("step 1")
    }

    fn as_handle(&self) -> BorrowedHandle<'_> {
        // An `OwnedHandle` has a function of this name.
        todo!("step 1")
    }

    fn tie(&self, socket: &TcpStream, key: usize) -> io::Result<()> {
        // A socket is a handle, too: `socket.as_raw_socket() as RawHandle`.
        todo!("step 2")
    }

    fn start_read(&self, socket: &TcpStream, buffer: Vec<u8>) -> io::Result<usize> {
        // The struct for the box: `#[repr(C)] struct Operation { overlapped: ffi::OVERLAPPED, buffer: Vec<u8> }`.
        todo!("step 2")
    }

    fn next_packet(&self, timeout: Option<Duration>) -> io::Result<Option<Packet>> {
        // Steps 4 and 6 come back to this one.
        todo!("step 3")
    }

    fn cancel(&self, socket: &TcpStream, operation: usize) -> io::Result<()> {
        todo!("step 5")
    }

    fn post(&self, key: usize) -> io::Result<()> {
        todo!("step 6")
    }
}

// Second half: readiness.

pub struct Afd {
    // Step 7: the helper and its port. Step 9 adds a table of what is watched, in a `Mutex`; step 13 what `wake` and `close_loop` need.
}

impl Queue for Afd {
    fn new() -> io::Result<Afd> {
        // The name in UTF-16: `r"\Device\Afd\workshop".encode_utf16().collect::<Vec<u16>>()`.
        todo!("step 7")
    }

    fn helper_and_port(&self) -> (BorrowedHandle<'_>, BorrowedHandle<'_>) {
        todo!("step 7")
    }

    fn register(&self, source: Source<'_>, token: Token, interests: Interests) -> io::Result<()> {
        // Steps 9 and 11 come back to this one.
        todo!("step 8")
    }

    fn reregister(&self, source: Source<'_>, token: Token, interests: Interests) -> io::Result<()> {
        todo!("step 9")
    }

    fn deregister(&self, source: Source<'_>) -> io::Result<()> {
        todo!("step 12")
    }

    fn poll(&self, events: &mut Vec<Event>, timeout: Option<Duration>) -> io::Result<()> {
        // `GetQueuedCompletionStatusEx` fills an array: `[ffi::OVERLAPPED_ENTRY::default(); 64]`. A packet without an event does not
        // end the wait, so there is a loop, and a deadline: `Instant + Duration` panics when it overflows, `checked_add`
        // does not. Steps 9 to 13 come back to this one.
        todo!("step 8")
    }

    fn wake(&self) -> io::Result<()> {
        todo!("step 13")
    }

    fn close_loop(&self) -> io::Result<()> {
        todo!("step 13")
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
