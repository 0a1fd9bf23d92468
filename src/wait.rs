//! The part of waiting that is the same on every kernel: room for the events, one deadline, signals, the end.

use crate::{closed, Events};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The capacity given to an `Events` that has none.
const DEFAULT_CAPACITY: usize = 256;

/// Calls the kernel until there are events, the time is up or the queue is closed.
///
/// `kernel` waits once, for as long as it is told or shorter, and adds what it got to `events`, which is empty and has
/// room. If the queue is closed it returns at once. If it returns without an event, that means nothing by itself: a
/// signal, a timer that was a hair early, a long timeout cut into pieces and the queue's own bookkeeping all look the
/// same from here, and the wait continues with the time that is left.
///
/// This much is compiled into the caller's own loop, where it is a few instructions around the system call; everything
/// rare is one call away. Left to itself, the compiler puts this out of line with the rest, which doubles its length.
#[inline(always)]
pub(crate) fn wait(
    events: &mut Events,
    timeout: Option<Duration>,
    is_closed: &AtomicBool,
    mut kernel: impl FnMut(&mut Events, Option<Duration>) -> io::Result<()>,
) -> io::Result<()> {
    events.clear();
    if events.capacity() == 0 {
        make_room(events);
    }
    // The clock is read only when a limit lies ahead.
    let start = match timeout {
        None | Some(Duration::ZERO) => None,
        Some(_) => Some(Instant::now()),
    };
    let result = kernel(events, timeout);
    // The usual case.
    if !is_closed.load(Ordering::Acquire) && result.is_ok() && !events.is_empty() {
        return Ok(());
    }
    wait_on(events, timeout, start, is_closed, kernel, result)
}

/// Goes on where the first call of the kernel, of which `result` came, did not settle it.
#[cold]
fn wait_on(
    events: &mut Events,
    timeout: Option<Duration>,
    start: Option<Instant>,
    is_closed: &AtomicBool,
    mut kernel: impl FnMut(&mut Events, Option<Duration>) -> io::Result<()>,
    mut result: io::Result<()>,
) -> io::Result<()> {
    loop {
        if is_closed.load(Ordering::Acquire) {
            events.clear();
            return Err(closed());
        }
        let is_signal = match result {
            Ok(()) if !events.is_empty() => return Ok(()),
            Ok(()) => false,
            // A program whose signal handler wants the loop to notice calls `Waker::wake` there.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => true,
            Err(error) => {
                events.clear();
                return Err(error);
            }
        };
        let left = match (timeout, start) {
            (None, _) => None,
            (Some(timeout), Some(start)) => match timeout.checked_sub(start.elapsed()) {
                Some(rest) if rest > Duration::ZERO => Some(rest),
                _ => return Ok(()),
            },
            // A wait of no time at all is over, unless a signal kept it from looking.
            (Some(_), None) if !is_signal => return Ok(()),
            (Some(timeout), None) => Some(timeout),
        };
        result = kernel(events, left);
    }
}

#[cold]
fn make_room(events: &mut Events) {
    events.reserve(DEFAULT_CAPACITY);
}
