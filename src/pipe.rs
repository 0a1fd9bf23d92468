//! [`PipeReader`] and [`PipeWriter`]: bytes between threads, and to and from child processes, without blocking.

use crate::platform::{self, Owned, ReadEnd, WriteEnd};
use std::fmt;
use std::io::{self, Read, Write};
use std::process::{ChildStderr, ChildStdin, ChildStdout};

/// Creates a pipe: what you write to one end, you read from the other. Neither end blocks, and no child process
/// inherits either.
///
/// To talk to a child process, take the ends that [`Command`](std::process::Command) creates: you can convert them to
/// [`PipeReader`] and [`PipeWriter`].
///
/// # Errors
///
/// The system's error, for instance if no descriptor is left.
///
/// # Examples
///
/// ```
/// use minimio::{Events, Interests, Poll};
/// use std::io::{Read, Write};
///
/// # fn main() -> std::io::Result<()> {
/// let (mut reader, mut writer) = minimio::pipe()?;
/// let mut poll = Poll::new()?;
/// poll.registry().register(&reader, 1, Interests::READABLE)?;
///
/// let thread = std::thread::spawn(move || writer.write_all(b"hello"));
/// poll.poll(&mut Events::new(), None)?;
/// let mut buffer = [0; 64];
/// assert_eq!(reader.read(&mut buffer)?, 5);
/// # thread.join().unwrap()
/// # }
/// ```
pub fn pipe() -> io::Result<(PipeReader, PipeWriter)> {
    let (reader, writer) = platform::pipe()?;
    Ok((PipeReader { end: reader }, PipeWriter { end: writer }))
}

/// The reading end of a pipe. A read never waits: it returns bytes, or [`WouldBlock`](io::ErrorKind::WouldBlock), or 0
/// at the end, when nobody can write any more.
///
/// `PipeReader::try_from` turns a child's output into one. The child's own end stays as it is, and blocks, as programs
/// expect.
///
/// # Errors
///
/// Converting fails with [`InvalidInput`](io::ErrorKind::InvalidInput) if the handle is not the reading end of a pipe,
/// and on Windows if the pipe is not overlapped (those of `Command` are). The handle is closed then.
///
/// # Platform notes
///
/// On Windows an event of a pipe may come a moment after its cause, because a thread of the library brings it to your
/// queue; a poll with a timeout of 0 may be too early. One queue at a time can watch an end.
///
/// # Examples
///
/// The output of a child, as it comes:
///
/// ```
/// use minimio::{Events, Interests, PipeReader, Poll};
/// use std::io::{ErrorKind, Read};
/// use std::process::{Command, Stdio};
///
/// # fn main() -> std::io::Result<()> {
/// # let program = std::env::var("CARGO").unwrap_or("cargo".to_string());
/// let mut child = Command::new(program).arg("--version").stdout(Stdio::piped()).spawn()?;
/// let mut output = PipeReader::try_from(child.stdout.take().unwrap())?;
///
/// let mut poll = Poll::new()?;
/// let mut events = Events::new();
/// poll.registry().register(&output, 1, Interests::READABLE | Interests::LEVEL)?;
/// let mut text = Vec::new();
/// loop {
///     poll.poll(&mut events, None)?; // a place for other sources, too
///     match output.read_to_end(&mut text) {
///         Ok(_) => break,
///         Err(error) if error.kind() == ErrorKind::WouldBlock => {}
///         Err(error) => return Err(error),
///     }
/// }
/// assert!(child.wait()?.success() && text.starts_with(b"cargo"));
/// # Ok(())
/// # }
/// ```
pub struct PipeReader {
    pub(crate) end: ReadEnd,
}

/// The writing end of a pipe. A write never waits: it takes some bytes, or returns
/// [`WouldBlock`](io::ErrorKind::WouldBlock). When nobody can read any more it fails with
/// [`BrokenPipe`](io::ErrorKind::BrokenPipe), never with a signal.
///
/// What a write has taken arrives, even if you drop the writer at once. `PipeWriter::try_from` turns a child's input
/// into one; when you drop it, the child learns that there is no more to come.
///
/// # Errors
///
/// Converting fails with [`InvalidInput`](io::ErrorKind::InvalidInput) if the handle is not the writing end of a pipe,
/// and on Windows if the pipe is not overlapped (those of `Command` are). The handle is closed then.
///
/// # Platform notes
///
/// On Windows a write may be accepted before there is room for all of it. It goes on by itself, even after you have
/// dropped the writer or the queue, but not after your process has ended: `flush` returns `WouldBlock` until all is
/// out. Nor are you told that the reader has gone unless a write is under way: the next write says so. One queue at a
/// time can watch an end.
///
/// On Linux, FreeBSD, OpenBSD and DragonFly a write is three system calls, because the thread has to hold `SIGPIPE`
/// back meanwhile. A few large writes are cheaper than many small ones.
pub struct PipeWriter {
    pub(crate) end: WriteEnd,
}

impl Read for &PipeReader {
    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.end.read(buffer)
    }
}

impl Read for PipeReader {
    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.end.read(buffer)
    }
}

impl Write for &PipeWriter {
    #[inline]
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.end.write(buffer)
    }

    #[inline]
    fn flush(&mut self) -> io::Result<()> {
        self.end.flush()
    }
}

impl Write for PipeWriter {
    #[inline]
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.end.write(buffer)
    }

    #[inline]
    fn flush(&mut self) -> io::Result<()> {
        self.end.flush()
    }
}

/// Takes over the handle, and makes it non-blocking.
impl TryFrom<Owned> for PipeReader {
    type Error = io::Error;

    fn try_from(handle: Owned) -> io::Result<PipeReader> {
        Ok(PipeReader { end: ReadEnd::new(handle)? })
    }
}

/// Takes over the handle, and makes it non-blocking.
impl TryFrom<Owned> for PipeWriter {
    type Error = io::Error;

    fn try_from(handle: Owned) -> io::Result<PipeWriter> {
        Ok(PipeWriter { end: WriteEnd::new(handle)? })
    }
}

impl TryFrom<ChildStdout> for PipeReader {
    type Error = io::Error;

    fn try_from(output: ChildStdout) -> io::Result<PipeReader> {
        PipeReader::try_from(Owned::from(output))
    }
}

impl TryFrom<ChildStderr> for PipeReader {
    type Error = io::Error;

    fn try_from(output: ChildStderr) -> io::Result<PipeReader> {
        PipeReader::try_from(Owned::from(output))
    }
}

impl TryFrom<ChildStdin> for PipeWriter {
    type Error = io::Error;

    fn try_from(input: ChildStdin) -> io::Result<PipeWriter> {
        PipeWriter::try_from(Owned::from(input))
    }
}

impl fmt::Debug for PipeReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PipeReader").field(&self.end).finish()
    }
}

impl fmt::Debug for PipeWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PipeWriter").field(&self.end).finish()
    }
}
