//! [`PipeReader`] and [`PipeWriter`]: bytes between threads, and to and from child processes, without waiting.

use crate::platform::{self, Owned, ReadEnd, WriteEnd};
use std::fmt;
use std::io::{self, Read, Write};
use std::process::{ChildStderr, ChildStdin, ChildStdout};

/// Makes a pipe: what is written to the one end is read from the other. Neither blocks, and neither is inherited by a child
/// process.
///
/// To talk to a child process, take the ends that [`Command`](std::process::Command) makes: [`PipeReader`] and [`PipeWriter`]
/// can be made of them.
///
/// # Errors
///
/// The system's error, for instance when no descriptor is left.
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

/// The end of a pipe to read from: a read never waits. It answers [`WouldBlock`](io::ErrorKind::WouldBlock), with bytes, or with
/// 0 at the end, when nobody can write any more.
///
/// A child's output becomes one by `PipeReader::try_from(child.stdout)`. The child's own end stays as it is and blocks, as
/// programs expect it.
///
/// # Errors
///
/// Converting fails with [`InvalidInput`](io::ErrorKind::InvalidInput) when the handle is not the end of a pipe that can be
/// read, and is closed then.
///
/// # Examples
///
/// The output of a child, while it comes:
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

/// The end of a pipe to write to: a write never waits. It takes some bytes or answers
/// [`WouldBlock`](io::ErrorKind::WouldBlock). When nobody can read any more it fails with
/// [`BrokenPipe`](io::ErrorKind::BrokenPipe), never with a signal.
///
/// What a write has taken arrives, also when the writer is dropped at once. A child's input becomes one by
/// `PipeWriter::try_from(child.stdin)`; dropping it is how the child learns that there is no more.
///
/// # Errors
///
/// Converting fails with [`InvalidInput`](io::ErrorKind::InvalidInput) when the handle is not the end of a pipe that can be
/// written to, and is closed then.
///
/// # Platform notes
///
/// On Linux, FreeBSD, OpenBSD and DragonFly a write is three system calls: the thread has to hold `SIGPIPE` back meanwhile. A few
/// large writes are cheaper than many small ones.
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

/// Takes the handle over, and makes it non-blocking.
impl TryFrom<Owned> for PipeReader {
    type Error = io::Error;

    fn try_from(handle: Owned) -> io::Result<PipeReader> {
        Ok(PipeReader { end: ReadEnd::new(handle)? })
    }
}

/// Takes the handle over, and makes it non-blocking.
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
