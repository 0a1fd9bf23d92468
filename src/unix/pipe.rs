//! The ends of a pipe: descriptors that do not block.
//!
//! `O_NONBLOCK` belongs to the open file, not to the descriptor. The two ends of a pipe are two open files, so making ours
//! non-blocking changes nothing about the end that a child process has.
//!
//! A write to a pipe that nobody can read any more raises `SIGPIPE`, which ends the program unless it has other plans, and no
//! call that writes to a pipe can be told not to, as `send` can. Apple's systems and NetBSD can switch the signal off for an
//! open file. The others send it to the very thread that writes: so that thread holds it back for the time of the write, and
//! takes it away if it came. Neither depends on what the program does with the signal, or changes it.

use super::{fcntl, pipe2};
use crate::platform::ffi::{F_SETFL, O_NONBLOCK};
use crate::platform::silence_pipe;
use crate::trace::trace;
use crate::{PipeReader, PipeWriter};
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::raw::c_int;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::io::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::ptr;

/// The end to read from.
#[derive(Debug)]
pub(crate) struct ReadEnd {
    file: File,
}

/// The end to write to.
#[derive(Debug)]
pub(crate) struct WriteEnd {
    file: File,
    /// The system raises no `SIGPIPE` for it.
    is_silent: bool,
}

/// Makes a pipe with both ends non-blocking and not inherited by child processes.
pub(crate) fn pipe() -> io::Result<(ReadEnd, WriteEnd)> {
    let [reader, writer] = pipe2()?;
    let is_silent = silence_pipe(&writer)?;
    Ok((ReadEnd { file: reader.into() }, WriteEnd { file: writer.into(), is_silent }))
}

impl ReadEnd {
    pub(crate) fn new(fd: OwnedFd) -> io::Result<ReadEnd> {
        let fd = adopt(fd, ffi::O_WRONLY)?;
        Ok(ReadEnd { file: fd.into() })
    }

    #[inline]
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.file).read(buffer)
    }
}

impl WriteEnd {
    pub(crate) fn new(fd: OwnedFd) -> io::Result<WriteEnd> {
        let fd = adopt(fd, ffi::O_RDONLY)?;
        let is_silent = silence_pipe(&fd)?;
        Ok(WriteEnd { file: fd.into(), is_silent })
    }

    #[inline]
    pub(crate) fn write(&self, buffer: &[u8]) -> io::Result<usize> {
        if self.is_silent {
            (&self.file).write(buffer)
        } else {
            without_sigpipe(|| (&self.file).write(buffer))
        }
    }

    /// Nothing is kept back here: what a write has taken, the kernel has.
    pub(crate) fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

/// Makes a descriptor non-blocking if it is the end of a pipe, and not the one that is for the `other` direction alone.
fn adopt(fd: OwnedFd, other: c_int) -> io::Result<OwnedFd> {
    let refuse = |why| Err(io::Error::new(ErrorKind::InvalidInput, why));
    let file = File::from(fd);
    if !file.metadata()?.file_type().is_fifo() {
        return refuse("this is not the end of a pipe");
    }
    let fd = OwnedFd::from(file);
    let flags = fcntl(&fd, ffi::F_GETFL, 0, "F_GETFL")?;
    if flags & ffi::O_ACCMODE == other {
        return refuse("this is the other end of a pipe");
    }
    fcntl(&fd, F_SETFL, flags | O_NONBLOCK, "F_SETFL, O_NONBLOCK")?;
    Ok(fd)
}

/// Runs a write, and nobody sees a `SIGPIPE` that it raises.
fn without_sigpipe(write: impl FnOnce() -> io::Result<usize>) -> io::Result<usize> {
    let sigpipe = Signals::sigpipe();
    let before = sigpipe.hold_back();
    // One that waits already is the program's own. It can wait only where it was held back before.
    let is_ours = !(before.has_sigpipe() && Signals::waiting().has_sigpipe());
    let result = write();
    let is_broken = matches!(&result, Err(error) if error.kind() == ErrorKind::BrokenPipe);
    if is_broken && is_ours && Signals::waiting().has_sigpipe() {
        sigpipe.take();
    }
    before.restore();
    result
}

/// A set of signals. The calls fail only for signals and orders that do not exist.
#[derive(Default)]
struct Signals(ffi::sigset_t);

impl Signals {
    fn sigpipe() -> Signals {
        // All zeros are the empty set.
        let mut set = Signals::default();
        // SAFETY: the call changes one bit of the set.
        unsafe { ffi::sigaddset(&mut set.0, ffi::SIGPIPE) };
        set
    }

    fn has_sigpipe(&self) -> bool {
        // SAFETY: the call reads the set.
        unsafe { ffi::sigismember(&self.0, ffi::SIGPIPE) == 1 }
    }

    /// Those that this thread holds back and that have come.
    fn waiting() -> Signals {
        let mut waiting = Signals::default();
        // SAFETY: the kernel writes the set.
        let ret = unsafe { ffi::sigpending(&mut waiting.0) };
        trace(format_args!("sigpending([..])"), &Ok(ret));
        waiting
    }

    /// Has this thread hold them back, and returns those that it held back before.
    fn hold_back(&self) -> Signals {
        let mut before = Signals::default();
        // SAFETY: the kernel reads the one set and writes the other.
        let ret = unsafe { ffi::pthread_sigmask(ffi::SIG_BLOCK, &self.0, &mut before.0) };
        trace(format_args!("pthread_sigmask(SIG_BLOCK, [SIGPIPE], [..])"), &Ok(ret));
        before
    }

    /// Has this thread hold back these and no others.
    fn restore(&self) {
        // SAFETY: the kernel reads the set; where nothing is to be written it takes a null pointer.
        let ret = unsafe { ffi::pthread_sigmask(ffi::SIG_SETMASK, &self.0, ptr::null_mut()) };
        trace(format_args!("pthread_sigmask(SIG_SETMASK, [..], NULL)"), &Ok(ret));
    }

    /// Takes one of them away that has come; waits if there is none.
    fn take(&self) {
        let mut number = 0;
        // SAFETY: the kernel reads the set and writes the number.
        let ret = unsafe { ffi::sigwait(&self.0, &mut number) };
        trace(format_args!("sigwait([SIGPIPE], [{number}])"), &Ok(ret));
    }
}

/// The way from either end to the descriptor.
macro_rules! descriptor {
    ($name:ident) => {
        impl AsFd for $name {
            #[inline]
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.end.file.as_fd()
            }
        }

        impl AsRawFd for $name {
            #[inline]
            fn as_raw_fd(&self) -> RawFd {
                self.end.file.as_raw_fd()
            }
        }

        impl IntoRawFd for $name {
            fn into_raw_fd(self) -> RawFd {
                self.end.file.into_raw_fd()
            }
        }

        /// It stays non-blocking.
        impl From<$name> for OwnedFd {
            fn from(pipe: $name) -> OwnedFd {
                pipe.end.file.into()
            }
        }
    };
}

descriptor!(PipeReader);
descriptor!(PipeWriter);

/// The systems' own names.
#[allow(non_camel_case_types)]
pub(crate) mod ffi {
    use std::os::raw::c_int;

    /// MIPS, SPARC and the BSDs number the orders of `pthread_sigmask` from 1.
    const FIRST: c_int = if cfg!(any(target_os = "linux", target_os = "android"))
        && !cfg!(any(target_arch = "mips", target_arch = "mips64"))
        && !cfg!(any(target_arch = "sparc", target_arch = "sparc64"))
    {
        0
    } else {
        1
    };

    pub const SIG_BLOCK: c_int = FIRST;
    pub const SIG_SETMASK: c_int =
        if cfg!(any(target_arch = "sparc", target_arch = "sparc64")) && cfg!(target_os = "linux") {
            4
        } else {
            FIRST + 2
        };
    pub const SIGPIPE: c_int = 13;
    pub const F_GETFL: c_int = 3;
    pub const O_ACCMODE: c_int = 3;
    pub const O_RDONLY: c_int = 0;
    pub const O_WRONLY: c_int = 1;

    /// A set of signals: as many bytes as it has on any of the systems.
    #[derive(Default)]
    #[repr(C)]
    pub struct sigset_t {
        bits: [u64; 16],
    }

    extern "C" {
        /// Adds a signal to a set. Returns 0, -1 with `errno` on failure.
        /// <https://man.freebsd.org/cgi/man.cgi?query=sigaddset&sektion=3>
        #[cfg_attr(target_os = "netbsd", link_name = "__sigaddset14")]
        pub fn sigaddset(set: *mut sigset_t, signal: c_int) -> c_int;

        /// Whether a set has a signal: 1 or 0, -1 with `errno` on failure.
        /// <https://man.freebsd.org/cgi/man.cgi?query=sigismember&sektion=3>
        #[cfg_attr(target_os = "netbsd", link_name = "__sigismember14")]
        pub fn sigismember(set: *const sigset_t, signal: c_int) -> c_int;

        /// Writes the signals that have come and are held back. Returns 0, -1 with `errno` on failure.
        /// <https://man.freebsd.org/cgi/man.cgi?query=sigpending&sektion=2>
        #[cfg_attr(target_os = "netbsd", link_name = "__sigpending14")]
        pub fn sigpending(set: *mut sigset_t) -> c_int;

        /// Changes which signals this thread holds back, and writes which they were. Returns 0 or an error number.
        /// <https://man.freebsd.org/cgi/man.cgi?query=pthread_sigmask&sektion=3>
        pub fn pthread_sigmask(how: c_int, set: *const sigset_t, old: *mut sigset_t) -> c_int;

        /// Takes a signal of the set that has come, or waits for one. Returns 0 or an error number.
        /// <https://man.freebsd.org/cgi/man.cgi?query=sigwait&sektion=3>
        pub fn sigwait(set: *const sigset_t, signal: *mut c_int) -> c_int;
    }
}
