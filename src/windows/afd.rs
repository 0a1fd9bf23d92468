//! AFD, the driver below Winsock: asking it what a socket is ready for.

use crate::platform::{check_bool, ffi::BOOL};
use crate::trace::{self, trace};
use std::cell::UnsafeCell;
use std::fmt;
use std::io;
use std::mem::size_of;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle, RawSocket};
use std::ptr;

pub(crate) use ffi::ERROR_INVALID_HANDLE;

// What a socket can be in, in the words of the driver.
pub(crate) const READ: u32 = ffi::AFD_POLL_RECEIVE | ffi::AFD_POLL_ACCEPT | ffi::AFD_POLL_DISCONNECT;
/// Not `AFD_POLL_CONNECT`, which stays set for ever: an established connection can be written to.
pub(crate) const WRITE: u32 = ffi::AFD_POLL_SEND;
/// The peer will send no more.
pub(crate) const READ_CLOSED: u32 = ffi::AFD_POLL_DISCONNECT;
/// The connection could not be made, or the peer has reset it, or what else went wrong.
pub(crate) const FAILED: u32 = ffi::AFD_POLL_CONNECT_FAIL | ffi::AFD_POLL_ABORT;
/// The socket was closed, here.
pub(crate) const GONE: u32 = ffi::AFD_POLL_LOCAL_CLOSE;

/// Opens the driver, for requests that end some time later.
pub(crate) fn open() -> io::Result<OwnedHandle> {
    // Any name below the device will do, but there must be one.
    const NAME: &str = "\\Device\\Afd\\minimio";
    let mut letters: Vec<u16> = NAME.encode_utf16().collect();
    let bytes = (letters.len() * size_of::<u16>()) as u16;
    let mut name = ffi::UNICODE_STRING { Length: bytes, MaximumLength: bytes, Buffer: letters.as_mut_ptr() };
    let mut attributes = ffi::OBJECT_ATTRIBUTES {
        Length: size_of::<ffi::OBJECT_ATTRIBUTES>() as u32,
        RootDirectory: ptr::null_mut(),
        ObjectName: &mut name,
        // Not OBJ_INHERIT: child processes do not get it.
        Attributes: 0,
        SecurityDescriptor: ptr::null_mut(),
        SecurityQualityOfService: ptr::null_mut(),
    };
    let mut handle = ptr::null_mut();
    let mut iosb = ffi::IO_STATUS_BLOCK::default();
    // SAFETY: the pointers are null or to locals that outlive the call, and opening the driver ends within it.
    let status = unsafe {
        ffi::NtCreateFile(
            &mut handle,
            ffi::SYNCHRONIZE,
            &mut attributes,
            &mut iosb,
            ptr::null_mut(),
            0,
            ffi::FILE_SHARE_READ | ffi::FILE_SHARE_WRITE,
            ffi::FILE_OPEN,
            0,
            ptr::null_mut(),
            0,
        )
    };
    check_status(status, format_args!("NtCreateFile({NAME})"))?;
    // SAFETY: the handle was just made and nobody else knows it.
    let handle = unsafe { OwnedHandle::from_raw_handle(handle) };
    silence(&handle)?;
    Ok(handle)
}

/// A question about one socket, and the place for the answer. The kernel holds it from `send` until the packet of the answer
/// was taken out of the port.
pub(crate) struct Request {
    block: UnsafeCell<Block>,
}

/// What the kernel writes to: how the request ended, and over the question, the answer.
#[derive(Default)]
struct Block {
    iosb: ffi::IO_STATUS_BLOCK,
    info: ffi::AFD_POLL_INFO,
}

// SAFETY: only the unsafe functions below touch the block, and who calls them promises to be alone.
unsafe impl Sync for Request {}

impl Request {
    pub(crate) fn new() -> Request {
        Request { block: UnsafeCell::default() }
    }

    /// Asks through `helper` whether `socket` is in one of the states `asked`; the answer is due when it is. A packet with
    /// `context` comes with the answer, also when there was one at once; if this fails, none comes.
    ///
    /// # Safety
    ///
    /// Nobody else uses the request meanwhile, and neither does the kernel; and it stays where it is until the packet
    /// was taken out.
    pub(crate) unsafe fn send(
        &self,
        helper: &OwnedHandle,
        socket: RawSocket,
        asked: u32,
        context: *const (),
    ) -> io::Result<()> {
        let mut question = Block::default();
        question.info.Timeout = i64::MAX;
        question.info.NumberOfHandles = 1;
        question.info.Handles[0].Handle = socket;
        question.info.Handles[0].Events = asked;
        let block = self.block.get();
        // SAFETY: the caller promises that nobody else uses it.
        unsafe { block.write(question) };
        let helper = helper.as_raw_handle();
        let size = size_of::<ffi::AFD_POLL_INFO>() as u32;
        // SAFETY: the kernel writes to both parts of the block until it has put the packet into the port, and the caller
        // promises that they stay until it is taken out. The lengths are those of the second part.
        let status = unsafe {
            ffi::NtDeviceIoControlFile(
                helper,
                ptr::null_mut(),
                ptr::null_mut(),
                context as *mut _,
                ptr::addr_of_mut!((*block).iosb),
                ffi::IOCTL_AFD_POLL,
                ptr::addr_of_mut!((*block).info).cast(),
                size,
                ptr::addr_of_mut!((*block).info).cast(),
                size,
            )
        };
        let events = trace::events(asked);
        check_status(
            status,
            format_args!(
                "NtDeviceIoControlFile({helper:?}, {block:?}, IOCTL_AFD_POLL, {{{socket:#x}, {events}}})"
            ),
        )
    }

    /// Calls the request off that was sent through `helper`. Its packet comes all the same.
    pub(crate) fn cancel(&self, helper: &OwnedHandle) {
        let helper = helper.as_raw_handle();
        let mut iosb = ffi::IO_STATUS_BLOCK::default();
        // SAFETY: the kernel looks for a request with this address and does not look behind it; `iosb` is a local.
        let status = unsafe {
            let request = ptr::addr_of_mut!((*self.block.get()).iosb);
            ffi::NtCancelIoFileEx(helper, request, &mut iosb)
        };
        // It is not found if it has just ended by itself.
        let block = self.block.get();
        let _ = check_status(status, format_args!("NtCancelIoFileEx({helper:?}, {block:?})"));
    }

    /// Writes an answer of our own: the socket has failed.
    ///
    /// # Safety
    ///
    /// Nobody else uses the request meanwhile, and neither does the kernel.
    pub(crate) unsafe fn fail(&self) {
        let mut answer = Block::default();
        answer.iosb.Status = ffi::STATUS_UNSUCCESSFUL;
        // SAFETY: the caller promises that nobody else uses it.
        unsafe { self.block.get().write(answer) };
    }

    /// The answer: the states that the socket is in, of those that were asked for; none if the request was called off.
    ///
    /// # Safety
    ///
    /// Nobody else uses the request meanwhile, and neither does the kernel: its packet was taken out.
    pub(crate) unsafe fn answer(&self) -> u32 {
        // SAFETY: the caller promises that nobody else uses it.
        let Block { iosb, info } = unsafe { self.block.get().read() };
        match iosb.Status {
            ffi::STATUS_CANCELLED => 0,
            status if status < 0 => ffi::AFD_POLL_CONNECT_FAIL,
            _ if info.NumberOfHandles == 0 => 0,
            _ => info.Handles[0].Events,
        }
    }
}

/// Tells the kernel not to signal the handle itself when an operation on it ends: nobody waits for that.
fn silence(handle: &OwnedHandle) -> io::Result<()> {
    let handle = handle.as_raw_handle();
    // The other mode, no packet for what ends at once, would lose answers.
    let mode = ffi::FILE_SKIP_SET_EVENT_ON_HANDLE;
    // SAFETY: the call takes no memory, and the handle is open.
    let ret = unsafe { ffi::SetFileCompletionNotificationModes(handle, mode) };
    check_bool(
        ret,
        format_args!("SetFileCompletionNotificationModes({handle:?}, FILE_SKIP_SET_EVENT_ON_HANDLE)"),
    )
}

/// Calls of the kernel itself return a status whose two highest bits are set if it is an error.
#[inline(always)]
pub(crate) fn check_status(status: ffi::NTSTATUS, call: fmt::Arguments<'_>) -> io::Result<()> {
    trace(call, &Ok(trace::Status(status)));
    if status as u32 >> 30 == 3 {
        // SAFETY: the call takes no memory.
        let code = unsafe { ffi::RtlNtStatusToDosError(status) };
        Err(io::Error::from_raw_os_error(code as i32))
    } else {
        Ok(())
    }
}

/// The kernel's own names. <https://learn.microsoft.com/windows-hardware/drivers/ddi/>. Those of AFD are in no header: Winsock's
/// `select` is made of them.
#[allow(non_camel_case_types, non_snake_case, non_upper_case_globals, clippy::upper_case_acronyms)]
pub(crate) mod ffi {
    use super::BOOL;
    use std::mem::size_of;
    use std::os::raw::c_void;
    use std::os::windows::io::{RawHandle, RawSocket};

    pub type HANDLE = RawHandle;
    pub type NTSTATUS = i32;

    pub const ERROR_INVALID_HANDLE: i32 = 6;
    pub const STATUS_CANCELLED: NTSTATUS = 0xC000_0120_u32 as NTSTATUS;
    pub const STATUS_UNSUCCESSFUL: NTSTATUS = 0xC000_0001_u32 as NTSTATUS;

    pub const SYNCHRONIZE: u32 = 0x10_0000;
    pub const FILE_SHARE_READ: u32 = 1;
    pub const FILE_SHARE_WRITE: u32 = 2;
    pub const FILE_OPEN: u32 = 1;
    pub const FILE_SKIP_SET_EVENT_ON_HANDLE: u8 = 2;

    pub const IOCTL_AFD_POLL: u32 = 0x12024;
    /// There is something to read.
    pub const AFD_POLL_RECEIVE: u32 = 0x1;
    /// There is room to write; a connection that now stands has some.
    pub const AFD_POLL_SEND: u32 = 0x4;
    /// The peer will send no more.
    pub const AFD_POLL_DISCONNECT: u32 = 0x8;
    /// The peer has reset the connection.
    pub const AFD_POLL_ABORT: u32 = 0x10;
    /// The socket was closed, here.
    pub const AFD_POLL_LOCAL_CLOSE: u32 = 0x20;
    /// There is a connection to accept.
    pub const AFD_POLL_ACCEPT: u32 = 0x80;
    /// The connection could not be made.
    pub const AFD_POLL_CONNECT_FAIL: u32 = 0x100;

    /// How an operation ended. The status shares its place with a pointer, so what follows is aligned like one.
    #[repr(C)]
    #[derive(Clone, Copy, Default)]
    pub struct IO_STATUS_BLOCK {
        pub Status: NTSTATUS,
        pub Information: usize,
    }

    /// One socket of a request: which, what for, and in the answer what it is in.
    #[repr(C)]
    #[derive(Clone, Copy, Default)]
    pub struct AFD_POLL_HANDLE_INFO {
        pub Handle: RawSocket,
        pub Events: u32,
        pub Status: NTSTATUS,
    }

    /// A request to the driver, here for one socket, and in the same place the answer: for how many sockets
    /// there is one.
    #[repr(C)]
    #[derive(Clone, Copy, Default)]
    pub struct AFD_POLL_INFO {
        /// In 100 ns; the highest value is none.
        pub Timeout: i64,
        pub NumberOfHandles: u32,
        /// Not 0 to end the requests of others for the same socket.
        pub Exclusive: u32,
        pub Handles: [AFD_POLL_HANDLE_INFO; 1],
    }

    /// Lengths in bytes.
    #[repr(C)]
    pub struct UNICODE_STRING {
        pub Length: u16,
        pub MaximumLength: u16,
        pub Buffer: *mut u16,
    }

    #[repr(C)]
    pub struct OBJECT_ATTRIBUTES {
        pub Length: u32,
        pub RootDirectory: HANDLE,
        pub ObjectName: *mut UNICODE_STRING,
        pub Attributes: u32,
        pub SecurityDescriptor: *mut c_void,
        pub SecurityQualityOfService: *mut c_void,
    }

    // A wrong layout does not compile.
    const _: () = {
        let pointer = size_of::<usize>();
        assert!(size_of::<IO_STATUS_BLOCK>() == 2 * pointer);
        assert!(size_of::<AFD_POLL_HANDLE_INFO>() == pointer + 8);
        assert!(size_of::<AFD_POLL_INFO>() == 32);
        assert!(size_of::<UNICODE_STRING>() == 2 * pointer);
        assert!(size_of::<OBJECT_ATTRIBUTES>() == 6 * pointer);
    };

    #[link(name = "kernel32")]
    extern "system" {
        /// Sets how the end of an operation on a handle is made known. FALSE with `GetLastError` on failure.
        /// <https://learn.microsoft.com/windows/win32/api/winbase/nf-winbase-setfilecompletionnotificationmodes>
        pub fn SetFileCompletionNotificationModes(file: HANDLE, flags: u8) -> BOOL;
    }

    #[link(name = "ntdll")]
    extern "system" {
        /// Opens a file or device. Returns an NTSTATUS.
        /// <https://learn.microsoft.com/windows/win32/api/winternl/nf-winternl-ntcreatefile>
        pub fn NtCreateFile(
            file: *mut HANDLE,
            access: u32,
            attributes: *mut OBJECT_ATTRIBUTES,
            iosb: *mut IO_STATUS_BLOCK,
            allocation: *mut i64,
            file_attributes: u32,
            share: u32,
            disposition: u32,
            options: u32,
            extended: *mut c_void,
            extended_length: u32,
        ) -> NTSTATUS;

        /// Sends a request to a driver. Returns an NTSTATUS: unless that is an error, a packet comes when the request ends,
        /// with `context` in it, and until then `iosb` and `output` are the kernel's.
        /// <https://learn.microsoft.com/windows/win32/api/winternl/nf-winternl-ntdeviceiocontrolfile>
        pub fn NtDeviceIoControlFile(
            file: HANDLE,
            event: HANDLE,
            apc: *mut c_void,
            context: *mut c_void,
            iosb: *mut IO_STATUS_BLOCK,
            code: u32,
            input: *mut c_void,
            input_length: u32,
            output: *mut c_void,
            output_length: u32,
        ) -> NTSTATUS;

        /// Calls off the request on `file` that was sent with `request`. Returns an NTSTATUS: an error if there is none.
        /// <https://learn.microsoft.com/windows/win32/fileio/cancelioex-func> is made of it.
        pub fn NtCancelIoFileEx(
            file: HANDLE,
            request: *mut IO_STATUS_BLOCK,
            iosb: *mut IO_STATUS_BLOCK,
        ) -> NTSTATUS;

        /// The error code of Windows for a status of the kernel.
        /// <https://learn.microsoft.com/windows/win32/api/winternl/nf-winternl-rtlntstatustodoserror>
        pub fn RtlNtStatusToDosError(status: NTSTATUS) -> u32;
    }
}

#[cfg(test)]
mod tests {
    use super::ffi::*;
    use std::mem::size_of;

    /// Where a field begins.
    macro_rules! offset {
        ($record:expr, $($field:tt)+) => {{
            let record = $record;
            let (first, field) = (&record as *const _ as usize, &record.$($field)+ as *const _ as usize);
            field - first
        }};
    }

    #[test]
    fn the_records_are_laid_out_as_the_kernel_has_them() {
        let pointer = size_of::<usize>();
        let iosb = IO_STATUS_BLOCK::default();
        assert_eq!(offset!(iosb, Status), 0);
        assert_eq!(offset!(iosb, Information), pointer);
        let info = AFD_POLL_INFO::default();
        assert_eq!(offset!(info, NumberOfHandles), 8);
        assert_eq!(offset!(info, Exclusive), 12);
        assert_eq!(offset!(info, Handles), 16);
        assert_eq!(offset!(info, Handles[0].Events), 16 + pointer);
        assert_eq!(offset!(info, Handles[0].Status), 20 + pointer);
    }
}
