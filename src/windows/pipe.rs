//! Pipes on Windows: completion at work, as chapter 6 of the guide explains it.
//!
//! AFD knows sockets only, so nobody can be asked whether a pipe is ready. What there is instead is the classic way of
//! a completion port: start an operation, continue, and take a packet out of the port when it has ended. Each end of a
//! pipe has one operation that can be under way:
//!
//! * Reading: a read of *no bytes*. It ends as soon as there is something to read, or the end, and takes nothing, so it
//!   lends no buffer. The read that you call asks how many bytes are there (`PeekNamedPipe`), and takes so many.
//! * Writing: your bytes are copied into a buffer, and the buffer is lent to the kernel. If they fit into the pipe the
//!   operation has ended at once. If not, it ends once the reader has made room, and until then the pipe is not
//!   writable. It is never called off: what has been accepted must arrive, and nobody could say how much already has.
//!
//! ```text
//!      operation: Some(block)              operation: None
//!      the block is ours    ── submit ──►  the kernel has the block
//!                           ◄── packet ──  and whatever it lends
//! ```
//!
//! Who takes the packet out? Not your queue. It may not be polled any more, or have been dropped, while a child still
//! waits for the end of its input: that comes when the handle is closed, and the handle must stay open until the write
//! has ended. So all pipes of the process share a port of their own, with a thread that sleeps there. It gets the block
//! back, closes the handle of a writer that has been dropped meanwhile, and posts the news to the port of the queue
//! that watches the pipe. So an end can also be used without a queue, and can move from one queue to another, although
//! Windows associates a handle with one port for ever.
//!
//! A packet of news says: look. `select` takes it out, looks whether the pipe is ready at that moment, and makes an
//! [`Event`] of it. A watched pipe is *armed* until it has had its event. In one-shot mode registering arms it, in level
//! mode the next `select`, in edge mode a read that leaves nothing, or a write that finds no room.

use super::afd::check_status;
use super::afd::ffi::{SetFileCompletionNotificationModes, IO_STATUS_BLOCK, NTSTATUS};
use super::{
    check_bool, check_handle, make_port, Event, Queue, Selector, Target, Watched, KEY_DONE, KEY_PIPE,
};
use super::{ERROR, READABLE, READ_CLOSED, WRITABLE, WRITE_CLOSED};
use crate::trace::trace;
use crate::{closed, not_registered, Interests, PipeReader, PipeWriter, Token};
use std::collections::hash_map::RandomState;
use std::fmt;
use std::fs::OpenOptions;
use std::hash::{BuildHasher, Hasher};
use std::io::{self, ErrorKind};
use std::mem::size_of;
use std::os::windows::fs::OpenOptionsExt;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle, RawHandle};
use std::process;
use std::ptr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;

/// What owns the handle of a pipe.
pub(crate) type Owned = OwnedHandle;

/// How many bytes a pipe of ours holds, and the most that one write takes.
const ROOM: usize = 1 << 16;

/// The end to read from.
#[derive(Debug)]
pub(crate) struct ReadEnd {
    pipe: Arc<Pipe>,
    /// What a read waits for that somebody else's has outrun.
    event: OwnedHandle,
}

/// The end to write to.
#[derive(Debug)]
pub(crate) struct WriteEnd {
    pipe: Arc<Pipe>,
}

/// One end of a pipe: shared by its owner, by the operation that is under way, and by packets of news.
pub struct Pipe {
    direction: Interests,
    state: Mutex<State>,
}

struct State {
    /// Open until the owner is dropped; a writer's until its last write has ended.
    handle: Option<OwnedHandle>,
    /// The block of the next operation. `None`: the kernel has it.
    operation: Option<Box<Operation>>,
    /// The owner was dropped before the last write has ended.
    is_left: bool,
    /// A write has failed: nobody can read any more.
    has_failed: bool,
    watch: Option<Watch>,
    /// The queue that has a packet of news in its port.
    posted: Weak<Queue>,
}

/// Who watches an end, and what for.
struct Watch {
    queue: Weak<Queue>,
    token: Token,
    interests: Interests,
    /// An event is due as soon as the pipe is ready.
    is_armed: bool,
}

/// What an operation lends to the kernel. The kernel knows it by the address of its first field.
#[repr(C)]
struct Operation {
    overlapped: ffi::OVERLAPPED,
    /// What is being written.
    buffer: Vec<u8>,
    /// Whose operation it is, while the kernel has it.
    pipe: Option<Arc<Pipe>>,
}

// SAFETY: the pointers in the first field are the kernel's; ours point nowhere.
unsafe impl Send for Operation {}

/// Makes a pipe with both ends overlapped and not inherited by child processes.
pub(crate) fn pipe() -> io::Result<(ReadEnd, WriteEnd)> {
    let name =
        format!(r"\\.\pipe\minimio.{}.{:x}", process::id(), RandomState::new().build_hasher().finish());
    let letters: Vec<u16> = name.encode_utf16().chain([0]).collect();
    let access = ffi::PIPE_ACCESS_INBOUND | ffi::FILE_FLAG_OVERLAPPED | ffi::FILE_FLAG_FIRST_PIPE_INSTANCE;
    // SAFETY: the name ends with 0, and a null pointer asks for a handle that is not inherited.
    let reader = unsafe {
        ffi::CreateNamedPipeW(
            letters.as_ptr(),
            access,
            ffi::PIPE_REJECT_REMOTE_CLIENTS,
            1,
            0,
            ROOM as u32,
            0,
            ptr::null_mut(),
        )
    };
    let made = if reader == super::ffi::INVALID_HANDLE_VALUE { ptr::null_mut() } else { reader };
    check_handle(made, format_args!("CreateNamedPipeW({name})"))?;
    // SAFETY: the handle was just made and nobody else knows it.
    let reader = unsafe { OwnedHandle::from_raw_handle(reader) };
    let writer = OpenOptions::new().write(true).custom_flags(ffi::FILE_FLAG_OVERLAPPED).open(name)?;
    Ok((ReadEnd::new(reader)?, WriteEnd::new(writer.into())?))
}

impl ReadEnd {
    pub(crate) fn new(handle: OwnedHandle) -> io::Result<ReadEnd> {
        let pipe = Pipe::adopt(handle, Interests::READABLE)?;
        // SAFETY: the null pointers ask for an event that has no name and is not inherited.
        let event = unsafe { ffi::CreateEventW(ptr::null_mut(), 1, 0, ptr::null()) };
        check_handle(event, format_args!("CreateEventW(NULL, TRUE, FALSE, NULL)"))?;
        // SAFETY: the handle was just made and nobody else knows it.
        Ok(ReadEnd { pipe, event: unsafe { OwnedHandle::from_raw_handle(event) } })
    }

    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let mut state = self.pipe.state();
        let there = match available(state.raw()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(0),
            there => there?,
        };
        let room = buffer.len().min(there);
        let taken = match there {
            0 => Err(ErrorKind::WouldBlock.into()),
            _ => self.take(state.raw(), &mut buffer[..room]),
        };
        // Nothing is left: what comes next is another edge, and so is the end.
        if !matches!(taken, Ok(taken) if taken < there) {
            state.arm_edge();
            let _ = self.pipe.arm(&mut state);
        }
        taken
    }

    /// Takes bytes that are there. Only if somebody else has a handle to the same end may they be gone.
    fn take(&self, handle: RawHandle, buffer: &mut [u8]) -> io::Result<usize> {
        let event = self.event.as_raw_handle();
        // The lowest bit says that no packet is to come.
        let mut overlapped =
            ffi::OVERLAPPED { hEvent: (event as usize | 1) as RawHandle, ..Default::default() };
        let (first, length) = (buffer.as_mut_ptr(), buffer.len());
        // SAFETY: both stay where they are until the read has ended, which is waited for below.
        match unsafe { self.pipe.start(handle, first, length, &mut overlapped) } {
            Err(error) if error.raw_os_error() == Some(ffi::ERROR_IO_PENDING) => {
                // SAFETY: the kernel looks for an operation with this address and does not look behind it.
                let ret = unsafe { ffi::CancelIoEx(handle, &mut overlapped) };
                // It may have ended by itself.
                let _ = check_bool(ret, format_args!("CancelIoEx({handle:?}, {event:?})"));
            }
            ended => ended?,
        }
        let mut taken = 0;
        // SAFETY: both are locals, and the event is signalled when the read has ended.
        let ret = unsafe { ffi::GetOverlappedResult(handle, &mut overlapped, &mut taken, 1) };
        match check_bool(ret, format_args!("GetOverlappedResult({handle:?}, {event:?}, [{taken}], TRUE)")) {
            Err(error) if error.raw_os_error() == Some(ffi::ERROR_OPERATION_ABORTED) => {
                Err(ErrorKind::WouldBlock.into())
            }
            result => result.map(|()| taken as usize),
        }
    }
}

impl Drop for ReadEnd {
    fn drop(&mut self) {
        let mut state = self.pipe.state();
        state.watch = None;
        if state.operation.is_none() {
            let handle = state.raw();
            // SAFETY: no pointer asks for all operations on the handle.
            let ret = unsafe { ffi::CancelIoEx(handle, ptr::null_mut()) };
            let _ = check_bool(ret, format_args!("CancelIoEx({handle:?}, NULL)"));
        }
        // Writers learn it now. The block comes back by itself.
        state.handle = None;
    }
}

impl WriteEnd {
    pub(crate) fn new(handle: OwnedHandle) -> io::Result<WriteEnd> {
        Ok(WriteEnd { pipe: Pipe::adopt(handle, Interests::WRITABLE)? })
    }

    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        // Writing nothing would look like the end to a reader.
        if bytes.is_empty() {
            return Ok(0);
        }
        let bytes = &bytes[..bytes.len().min(ROOM)];
        let mut state = self.pipe.state();
        let written = self.pipe.submit(&mut state, bytes);
        match &written {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => state.arm_edge(),
            Err(_) => state.has_failed = true,
        }
        written.map(|_| bytes.len())
    }

    /// All that was accepted is in the pipe, or has been read.
    pub(crate) fn flush(&self) -> io::Result<()> {
        let mut state = self.pipe.state();
        if state.operation.is_some() {
            return Ok(());
        }
        state.arm_edge();
        Err(ErrorKind::WouldBlock.into())
    }
}

impl Drop for WriteEnd {
    fn drop(&mut self) {
        let mut state = self.pipe.state();
        state.watch = None;
        if state.operation.is_some() {
            state.handle = None;
        } else {
            state.is_left = true;
        }
    }
}

impl Pipe {
    /// Takes over the handle of an overlapped pipe, if it can be used in this direction.
    fn adopt(handle: OwnedHandle, direction: Interests) -> io::Result<Arc<Pipe>> {
        let refuse = |why| Err(io::Error::new(ErrorKind::InvalidInput, why));
        let raw = handle.as_raw_handle();
        // SAFETY: the call takes no memory.
        let kind = unsafe { ffi::GetFileType(raw) };
        trace(format_args!("GetFileType({raw:?})"), &Ok(kind));
        if kind != ffi::FILE_TYPE_PIPE {
            return refuse("this is not the end of a pipe");
        }
        let needed = if direction.is_readable() { ffi::FILE_READ_DATA } else { ffi::FILE_WRITE_DATA };
        if access(raw)? & needed == 0 {
            return refuse("this is the other end of a pipe");
        }
        if modes(raw) & (ffi::PIPE_NOWAIT | ffi::PIPE_READMODE_MESSAGE) != 0 {
            return refuse("this pipe has messages, or operations that do not wait");
        }
        if make_port(raw, port()?.port.as_raw_handle(), KEY_DONE).is_err() {
            return refuse("this pipe is not overlapped, or is associated with a completion port already");
        }
        // What ends at once ends without a packet.
        let mode = ffi::FILE_SKIP_COMPLETION_PORT_ON_SUCCESS;
        // SAFETY: the call takes no memory, and the handle is open.
        let ret = unsafe { SetFileCompletionNotificationModes(raw, mode) };
        let call = "SetFileCompletionNotificationModes";
        check_bool(ret, format_args!("{call}({raw:?}, FILE_SKIP_COMPLETION_PORT_ON_SUCCESS)"))?;
        let operation = Operation { overlapped: ffi::OVERLAPPED::default(), buffer: Vec::new(), pipe: None };
        let state = State {
            handle: Some(handle),
            operation: Some(Box::new(operation)),
            is_left: false,
            has_failed: false,
            watch: None,
            posted: Weak::new(),
        };
        Ok(Arc::new(Pipe { direction, state: Mutex::new(state) }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts watching it for `queue`, or replaces what it is watched for.
    pub(super) fn watch(
        self: &Arc<Self>,
        queue: &Arc<Queue>,
        token: Token,
        interests: Interests,
        is_new: bool,
    ) -> io::Result<()> {
        let mut state = self.state();
        match state.watcher() {
            _ if queue.is_closed() => return Err(closed()),
            Some(watcher) if Arc::ptr_eq(&watcher, queue) => {}
            _ if !is_new => return Err(not_registered()),
            Some(_) => {
                let why = "the pipe is registered with another queue: deregister it there first";
                return Err(io::Error::new(ErrorKind::Unsupported, why));
            }
            None => {}
        }
        let is_armed = match self.direction {
            Interests::READABLE => interests.is_readable(),
            _ => interests.is_writable(),
        };
        state.watch = Some(Watch { queue: Arc::downgrade(queue), token, interests, is_armed });
        let armed = self.arm(&mut state);
        if armed.is_err() {
            state.watch = None;
        }
        armed
    }

    /// Stops watching it for `queue`. An operation that is under way stays so, and nobody hears of its end.
    pub(super) fn unwatch(&self, queue: &Arc<Queue>) -> io::Result<()> {
        let mut state = self.state();
        match state.watcher() {
            _ if queue.is_closed() => Err(closed()),
            Some(watcher) if Arc::ptr_eq(&watcher, queue) => {
                state.watch = None;
                Ok(())
            }
            _ => Err(not_registered()),
        }
    }

    /// Sees to it that a queue for which it is armed hears when it is ready.
    fn arm(self: &Arc<Self>, state: &mut State) -> io::Result<()> {
        let queue = match &state.watch {
            Some(watch) if watch.is_armed => watch.queue.upgrade(),
            _ => None,
        };
        let queue = match queue {
            Some(queue) => queue,
            None => return Ok(()),
        };
        if self.ready(state) == 0 {
            // Its end brings us here again.
            if state.operation.is_none() {
                return Ok(());
            }
            // Only a reader comes here. If the read of no bytes ends at once, in whatever way, then there is news.
            if let Ok(true) = self.submit(state, &[]) {
                return Ok(());
            }
        }
        if ptr::eq(state.posted.as_ptr(), Arc::as_ptr(&queue)) {
            return Ok(());
        }
        // First announce the packet, then look: a queue that ends meanwhile waits for it, or we see that it has ended.
        queue.in_flight.fetch_add(1, Ordering::SeqCst);
        let owned = Arc::into_raw(Arc::clone(self));
        let posted = if queue.is_closed() { Err(closed()) } else { queue.post(KEY_PIPE, owned.cast()) };
        if posted.is_ok() {
            state.posted = Arc::downgrade(&queue);
        } else {
            queue.in_flight.fetch_sub(1, Ordering::SeqCst);
            // SAFETY: the reference was given away just above, and there is no packet that could give it back.
            drop(unsafe { Arc::from_raw(owned) });
        }
        posted
    }

    /// A packet of news was taken out of the port of `queue`. In level mode the next `select` is to arm it again.
    pub(super) fn answered(self: Arc<Self>, queue: &Arc<Queue>, again: &mut Vec<Arc<Pipe>>) -> Option<Event> {
        let mut state = self.state();
        if ptr::eq(state.posted.as_ptr(), Arc::as_ptr(queue)) {
            state.posted = Weak::new();
        }
        let words = self.ready(&state);
        let is_here = |watch: &&mut Watch| ptr::eq(watch.queue.as_ptr(), Arc::as_ptr(queue));
        let watch = state.watch.as_mut().filter(is_here).filter(|watch| watch.is_armed)?;
        if words == 0 {
            // Somebody has read it meanwhile, or filled it.
            let _ = self.arm(&mut state);
            return None;
        }
        watch.is_armed = false;
        let (token, is_level) = (watch.token, watch.interests.is_level());
        drop(state);
        if is_level {
            again.push(self);
        }
        Some(Event { token, words })
    }

    /// The `select` after the one that had an event of it in level mode.
    pub(super) fn again(self: &Arc<Self>) {
        let mut state = self.state();
        if let Some(watch) = state.watch.as_mut().filter(|watch| watch.interests.is_level()) {
            watch.is_armed = true;
        }
        let _ = self.arm(&mut state);
    }

    /// What it is ready for, in the words of an event.
    fn ready(&self, state: &State) -> u8 {
        if self.direction == Interests::READABLE {
            match available(state.raw()) {
                Ok(0) => 0,
                Ok(_) => READABLE,
                Err(error) if error.kind() == ErrorKind::BrokenPipe => READABLE | READ_CLOSED,
                Err(_) => READABLE | READ_CLOSED | ERROR,
            }
        } else {
            match (&state.operation, state.has_failed) {
                (None, _) => 0,
                (Some(_), false) => WRITABLE,
                (Some(_), true) => WRITABLE | WRITE_CLOSED | ERROR,
            }
        }
    }

    /// Lends the block to the kernel: to write these bytes, or to find out when there are some to read. Returns whether a
    /// packet will come when that has ended; otherwise it has.
    fn submit(self: &Arc<Self>, state: &mut State, bytes: &[u8]) -> io::Result<bool> {
        let mut operation = match state.operation.take() {
            Some(operation) => operation,
            None => return Err(ErrorKind::WouldBlock.into()),
        };
        operation.overlapped = ffi::OVERLAPPED::default();
        operation.buffer.clear();
        operation.buffer.extend_from_slice(bytes);
        operation.pipe = Some(Arc::clone(self));
        let (buffer, length) = (operation.buffer.as_mut_ptr(), bytes.len());
        let handle = state.raw();
        let lent = Box::into_raw(operation);
        // SAFETY: the block, which owns the buffer, is the kernel's until `serve` gets it back with the packet, or until it is
        // taken back below.
        let started = unsafe { self.start(handle, buffer, length, lent.cast()) };
        match started {
            Err(error) if error.raw_os_error() == Some(ffi::ERROR_IO_PENDING) => Ok(true),
            // A pipe that has been turned to messages meanwhile. To the kernel that is no error, so there may be a packet.
            Err(error) if error.raw_os_error() == Some(ffi::ERROR_MORE_DATA) => Ok(true),
            ended => {
                // SAFETY: it has ended, and no packet comes for what ends at once.
                let mut operation = unsafe { Box::from_raw(lent) };
                operation.pipe = None;
                state.operation = Some(operation);
                ended.map(|()| false)
            }
        }
    }

    /// Begins to read or to write.
    ///
    /// # Safety
    ///
    /// The kernel may use the buffer and `overlapped` until the operation has ended.
    unsafe fn start(
        &self,
        handle: RawHandle,
        buffer: *mut u8,
        length: usize,
        overlapped: *mut ffi::OVERLAPPED,
    ) -> io::Result<()> {
        let (buffer, size, count) = (buffer.cast(), length as u32, ptr::null_mut());
        let (name, ret) = if self.direction == Interests::READABLE {
            // SAFETY: the caller's promise.
            ("ReadFile", unsafe { ffi::ReadFile(handle, buffer, size, count, overlapped) })
        } else {
            // SAFETY: the caller's promise.
            ("WriteFile", unsafe { ffi::WriteFile(handle, buffer, size, count, overlapped) })
        };
        check_pipe(ret, format_args!("{name}({handle:?}, {length}, {overlapped:?})"))
    }

    /// The block has come back.
    fn ended(self: &Arc<Self>, operation: Box<Operation>) {
        let mut state = self.state();
        let has_failed = operation.overlapped.Internal as i32 != 0;
        state.operation = Some(operation);
        if state.is_left {
            state.handle = None;
        }
        if has_failed {
            state.has_failed = true;
            // An error is an edge of its own.
            state.arm_edge();
        }
        // If the news cannot be posted, there is nothing left to tell it with.
        let _ = self.arm(&mut state);
    }
}

impl State {
    /// The handle, for a call. Once the owner is gone there is none, and the call says so.
    fn raw(&self) -> RawHandle {
        self.handle.as_ref().map_or(ptr::null_mut(), AsRawHandle::as_raw_handle)
    }

    /// The queue that watches it.
    fn watcher(&self) -> Option<Arc<Queue>> {
        let queue = self.watch.as_ref()?.queue.upgrade()?;
        (!queue.is_closed()).then_some(queue)
    }

    /// In edge mode the next event is due.
    fn arm_edge(&mut self) {
        if let Some(watch) = self.watch.as_mut().filter(|watch| watch.interests.is_edge()) {
            watch.is_armed = true;
        }
    }
}

impl fmt::Debug for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pipe").field(&self.state().handle).finish()
    }
}

impl Watched for PipeReader {
    fn target(&self) -> Target<'_> {
        Target::Pipe(&self.end.pipe)
    }
}

impl Watched for PipeWriter {
    fn target(&self) -> Target<'_> {
        Target::Pipe(&self.end.pipe)
    }
}

/// The port of all pipes. It is made for the first of them, with its thread, and both stay for ever.
fn port() -> io::Result<Arc<Queue>> {
    static PORT: Mutex<Option<Arc<Queue>>> = Mutex::new(None);
    let mut port = PORT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(port) = &*port {
        return Ok(Arc::clone(port));
    }
    let mut selector = Selector::new()?;
    let made = Arc::clone(&selector.queue);
    thread::Builder::new().name("minimio pipes".to_string()).spawn(move || loop {
        serve(&mut selector);
    })?;
    Ok(Arc::clone(port.insert(made)))
}

/// Waits for operations that have ended, and gives their blocks back.
fn serve(selector: &mut Selector) {
    const MOST: usize = 64;
    let Selector { queue, packets, .. } = selector;
    let _ = queue.take(packets, MOST, None);
    for packet in packets.drain(..) {
        // SAFETY: the packet is that of a block which `submit` gave away, and there is one packet for each.
        let mut operation = unsafe { Box::from_raw(packet.lpOverlapped.cast::<Operation>()) };
        if let Some(pipe) = operation.pipe.take() {
            pipe.ended(operation);
        }
    }
}

/// What may be done with a handle.
fn access(handle: RawHandle) -> io::Result<u32> {
    let mut iosb = IO_STATUS_BLOCK::default();
    let mut rights = 0u32;
    let (size, class) = (size_of::<u32>() as u32, ffi::FileAccessInformation);
    // SAFETY: the kernel writes to the two locals, and is told the size of the second.
    let status = unsafe {
        ffi::NtQueryInformationFile(handle, &mut iosb, ptr::addr_of_mut!(rights).cast(), size, class)
    };
    let call = "NtQueryInformationFile";
    check_status(status, format_args!("{call}({handle:?}, FileAccessInformation, [{rights:#x}])"))?;
    Ok(rights)
}

/// How a pipe works, as far as the rights of the handle suffice to ask: those of a child's input need not.
fn modes(handle: RawHandle) -> u32 {
    let (mut modes, none) = (0, ptr::null_mut());
    // SAFETY: the kernel writes to a local, and nothing where there is a null pointer.
    let ret = unsafe { ffi::GetNamedPipeHandleStateW(handle, &mut modes, none, none, none, none.cast(), 0) };
    let _ = check_bool(ret, format_args!("GetNamedPipeHandleStateW({handle:?}, [{modes:#x}])"));
    modes
}

/// How many bytes there are to read. At the end, when nobody can write any more, that is `BrokenPipe`.
fn available(handle: RawHandle) -> io::Result<usize> {
    let mut there = 0;
    let (none, unused) = (ptr::null_mut(), ptr::null_mut());
    // SAFETY: the kernel writes to a local, and nothing where there is a null pointer.
    let ret = unsafe { ffi::PeekNamedPipe(handle, none, 0, unused, &mut there, ptr::null_mut()) };
    check_pipe(ret, format_args!("PeekNamedPipe({handle:?}, [{there}])"))?;
    Ok(there as usize)
}

/// Calls about a pipe have several errors for an other end that has gone. std knows the others by that name.
fn check_pipe(ret: i32, call: fmt::Arguments<'_>) -> io::Result<()> {
    match check_bool(ret, call) {
        Err(error) if error.raw_os_error() == Some(ffi::ERROR_PIPE_NOT_CONNECTED) => {
            Err(ErrorKind::BrokenPipe.into())
        }
        result => result,
    }
}

/// The system's own names. <https://learn.microsoft.com/windows/win32/api/>
#[allow(non_snake_case, non_upper_case_globals, clippy::upper_case_acronyms)]
pub(crate) mod ffi {
    use super::{IO_STATUS_BLOCK, NTSTATUS};
    use std::mem::size_of;
    use std::os::raw::c_void;
    use std::os::windows::io::RawHandle;

    pub const PIPE_NOWAIT: u32 = 1;
    pub const PIPE_READMODE_MESSAGE: u32 = 2;
    pub const ERROR_MORE_DATA: i32 = 234;
    pub const ERROR_PIPE_NOT_CONNECTED: i32 = 233;
    pub const ERROR_OPERATION_ABORTED: i32 = 995;
    pub const ERROR_IO_PENDING: i32 = 997;
    pub const FILE_TYPE_PIPE: u32 = 3;
    pub const FILE_READ_DATA: u32 = 1;
    pub const FILE_WRITE_DATA: u32 = 2;
    pub const FileAccessInformation: i32 = 8;
    pub const FILE_SKIP_COMPLETION_PORT_ON_SUCCESS: u8 = 1;
    pub const FILE_FLAG_OVERLAPPED: u32 = 0x4000_0000;
    pub const FILE_FLAG_FIRST_PIPE_INSTANCE: u32 = 0x8_0000;
    pub const PIPE_ACCESS_INBOUND: u32 = 1;
    pub const PIPE_REJECT_REMOTE_CLIENTS: u32 = 8;

    /// An operation that is under way; the first two fields say how it ended.
    #[repr(C)]
    pub struct OVERLAPPED {
        pub Internal: usize,
        pub InternalHigh: usize,
        pub Offset: u32,
        pub OffsetHigh: u32,
        pub hEvent: RawHandle,
    }

    // A wrong layout does not compile.
    const _: () = assert!(size_of::<OVERLAPPED>() == 3 * size_of::<usize>() + 8);

    #[link(name = "kernel32")]
    extern "system" {
        /// What a handle is of: 0 if that is unknown.
        /// <https://learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-getfiletype>
        pub fn GetFileType(file: RawHandle) -> u32;

        /// Makes a pipe with a name, and returns its first end, `INVALID_HANDLE_VALUE` with `GetLastError` on failure.
        /// <https://learn.microsoft.com/windows/win32/api/namedpipeapi/nf-namedpipeapi-createnamedpipew>
        pub fn CreateNamedPipeW(
            name: *const u16,
            access: u32,
            mode: u32,
            instances: u32,
            out_room: u32,
            in_room: u32,
            timeout: u32,
            security: *mut c_void,
        ) -> RawHandle;

        /// The modes of a pipe, and more where there is no null pointer. FALSE with `GetLastError` on failure.
        /// <https://learn.microsoft.com/windows/win32/api/namedpipeapi/nf-namedpipeapi-getnamedpipehandlestatew>
        pub fn GetNamedPipeHandleStateW(
            pipe: RawHandle,
            modes: *mut u32,
            instances: *mut u32,
            most: *mut u32,
            timeout: *mut u32,
            user: *mut u16,
            user_room: u32,
        ) -> i32;

        /// Makes an event. Returns null with `GetLastError` on failure.
        /// <https://learn.microsoft.com/windows/win32/api/synchapi/nf-synchapi-createeventw>
        pub fn CreateEventW(security: *mut c_void, manual: i32, set: i32, name: *const u16) -> RawHandle;

        /// Copies bytes out of a pipe without taking them, or only says how many there are. FALSE with `GetLastError` on
        /// failure, which is `ERROR_BROKEN_PIPE` at the end.
        /// <https://learn.microsoft.com/windows/win32/api/namedpipeapi/nf-namedpipeapi-peeknamedpipe>
        pub fn PeekNamedPipe(
            pipe: RawHandle,
            buffer: *mut c_void,
            room: u32,
            read: *mut u32,
            available: *mut u32,
            left: *mut u32,
        ) -> i32;

        /// Reads, or begins to. FALSE with `GetLastError` otherwise, which is `ERROR_IO_PENDING` if a packet will come.
        /// <https://learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-readfile>
        pub fn ReadFile(
            file: RawHandle,
            buffer: *mut c_void,
            length: u32,
            read: *mut u32,
            overlapped: *mut OVERLAPPED,
        ) -> i32;

        /// Writes, or begins to. FALSE with `GetLastError` otherwise, which is `ERROR_IO_PENDING` if a packet will come.
        /// <https://learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-writefile>
        pub fn WriteFile(
            file: RawHandle,
            buffer: *const c_void,
            length: u32,
            written: *mut u32,
            overlapped: *mut OVERLAPPED,
        ) -> i32;

        /// Calls an operation off, or with a null pointer all of them on this handle. FALSE with `GetLastError` if there
        /// is none. <https://learn.microsoft.com/windows/win32/fileio/cancelioex-func>
        pub fn CancelIoEx(file: RawHandle, overlapped: *mut OVERLAPPED) -> i32;

        /// How an operation ended; with `wait` sleeps until it has. FALSE with `GetLastError` if it failed.
        /// <https://learn.microsoft.com/windows/win32/api/ioapiset/nf-ioapiset-getoverlappedresult>
        pub fn GetOverlappedResult(
            file: RawHandle,
            overlapped: *mut OVERLAPPED,
            bytes: *mut u32,
            wait: i32,
        ) -> i32;
    }

    #[link(name = "ntdll")]
    extern "system" {
        /// Tells one of many things about an open file. Returns an NTSTATUS.
        /// <https://learn.microsoft.com/windows-hardware/drivers/ddi/ntifs/nf-ntifs-ntqueryinformationfile>
        pub fn NtQueryInformationFile(
            file: RawHandle,
            iosb: *mut IO_STATUS_BLOCK,
            information: *mut c_void,
            length: u32,
            class: i32,
        ) -> NTSTATUS;
    }

    impl Default for OVERLAPPED {
        fn default() -> OVERLAPPED {
            let hEvent = std::ptr::null_mut();
            OVERLAPPED { Internal: 0, InternalHigh: 0, Offset: 0, OffsetHigh: 0, hEvent }
        }
    }
}
