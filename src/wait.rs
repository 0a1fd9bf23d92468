//! The part of waiting that is the same on every kernel: room for the events, one deadline, signals, the end.

use crate::{closed, Events};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What an `Events` without capacity is given.
const DEFAULT_CAPACITY: usize = 256;

/// When a wait without events ends.
enum Limit {
    Never,
    AtOnce,
    At(Instant),
}

/// Calls the kernel until there are events, the time is up or the queue is closed.
///
/// `kernel` waits once, for as long as it is told or shorter, and adds what it got to `events`, which is empty and has
/// room. Nothing follows from its coming back without an event: a signal, a timer that was a hair too early, a long
/// timeout cut into pieces and the queue's own bookkeeping all look like that, and the wait goes on with the time that
/// is left.
#[inline]
pub(crate) fn wait(
    events: &mut Events,
    timeout: Option<Duration>,
    is_closed: &AtomicBool,
    mut kernel: impl FnMut(&mut Events, Option<Duration>) -> io::Result<()>,
) -> io::Result<()> {
    events.clear();
    if events.capacity() == 0 {
        events.reserve(DEFAULT_CAPACITY);
    }
    if is_closed.load(Ordering::Acquire) {
        return Err(closed());
    }
    // The clock is read only when a limit lies ahead; one that the clock cannot express is none.
    let limit = match timeout {
        None => Limit::Never,
        Some(Duration::ZERO) => Limit::AtOnce,
        Some(timeout) => Instant::now()
            .checked_add(timeout)
            .map_or(Limit::Never, Limit::At),
    };
    let mut left = timeout;
    loop {
        let result = kernel(events, left);
        if is_closed.load(Ordering::Acquire) {
            events.clear();
            return Err(closed());
        }
        match result {
            Ok(()) if !events.is_empty() => return Ok(()),
            Ok(()) if matches!(limit, Limit::AtOnce) => return Ok(()),
            Ok(()) => {}
            // A signal. A program whose handler wants the loop to notice calls `Waker::wake` there.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                events.clear();
                return Err(error);
            }
        }
        if let Limit::At(deadline) = limit {
            match deadline.checked_duration_since(Instant::now()) {
                Some(rest) if rest > Duration::ZERO => left = Some(rest),
                _ => return Ok(()),
            }
        }
    }
}
