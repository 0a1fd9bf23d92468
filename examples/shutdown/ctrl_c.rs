//! Ctrl-C as an event of a queue. A program that is asked to end (by Ctrl-C, on Unix also by `kill`) would die at once;
//! with this its [`Waker`] rings instead, and the program can say goodbye. Whoever asks a second time means it: then it dies.
//!
//! It is used by every server among the examples. On Unix what runs here is a signal handler. It interrupts any thread at any
//! point, so it must not allocate, lock or print. Waking is one of the few things that it may do.

use minimio::Waker;
use std::io;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// Taken by the first Ctrl-C.
static WAKER: AtomicPtr<Waker> = AtomicPtr::new(ptr::null_mut());

/// From now on the first Ctrl-C wakes the queue of `waker`.
pub fn wakes(waker: Waker) -> io::Result<()> {
    WAKER.store(Box::into_raw(Box::new(waker)), Ordering::SeqCst);
    system::install()
}

/// Rings. `false` if it has rung before.
fn ring() -> bool {
    let waker = WAKER.swap(ptr::null_mut(), Ordering::SeqCst);
    if waker.is_null() {
        return false;
    }
    // SAFETY: it came from `Box::into_raw`, and the swap gave it to us alone. It is never freed: a handler must not.
    let waker = unsafe { &*waker };
    let _ = waker.wake();
    true
}

#[cfg(unix)]
mod system {
    use std::io;
    use std::os::raw::c_int;

    const SIGINT: c_int = 2;
    const SIGTERM: c_int = 15;
    const SIG_DFL: usize = 0;
    const SIG_ERR: usize = usize::MAX;

    extern "C" {
        /// Says what a signal does: calls a function, or one of the two values above. Returns what it did before, `SIG_ERR`
        /// on failure. <https://man7.org/linux/man-pages/man2/signal.2.html>
        fn signal(number: c_int, handler: usize) -> usize;
    }

    pub fn install() -> io::Result<()> {
        for number in [SIGINT, SIGTERM] {
            // SAFETY: the handler has the type that the system calls it with, and does only what a handler may do.
            if unsafe { signal(number, on_signal as extern "C" fn(c_int) as usize) } == SIG_ERR {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    }

    extern "C" fn on_signal(number: c_int) {
        super::ring();
        // The next one ends the program, as if we had never been here.
        // SAFETY: the call takes no memory, and a handler may make it.
        unsafe { signal(number, SIG_DFL) };
    }
}

#[cfg(windows)]
mod system {
    use std::io;

    type Handler = extern "system" fn(u32) -> i32;

    #[link(name = "kernel32")]
    extern "system" {
        /// Adds a function that is called, in a thread of its own, when the console wants the program to end. Returns 0 on
        /// failure. <https://learn.microsoft.com/windows/console/setconsolectrlhandler>
        fn SetConsoleCtrlHandler(handler: Handler, add: i32) -> i32;
    }

    pub fn install() -> io::Result<()> {
        // SAFETY: the handler has the type that the system calls it with, and may run in any thread.
        match unsafe { SetConsoleCtrlHandler(on_event, 1) } {
            0 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }

    /// "Handled" the first time, for Ctrl-C, Ctrl-Break and the closing of the window alike; then the system does what it
    /// always does, and ends the program.
    extern "system" fn on_event(_event: u32) -> i32 {
        super::ring().into()
    }
}
