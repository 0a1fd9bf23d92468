//! The part of waiting that is the same on every kernel: room for the events, one deadline, signals, the end.

use crate::Events;
use std::io;
use std::time::{Duration, Instant};

/// The capacity given to an `Events` that has none.
const DEFAULT_CAPACITY: usize = 256;

/// How long a wait may last, in the caller's own unit. A caller that counts in milliseconds gets the kernel's plain
/// wait from beginning to end, even when a signal leaves half a millisecond of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timeout {
    /// As the kernels take them: -1 is for ever.
    Millis(i32),
    /// As finely as the kernel can.
    Exactly(Duration),
}

impl Timeout {
    /// `None` is for ever.
    pub(crate) fn duration(self) -> Option<Duration> {
        match self {
            Timeout::Millis(millis) => u64::try_from(millis).ok().map(Duration::from_millis),
            Timeout::Exactly(timeout) => Some(timeout),
        }
    }

    /// What is left of it, in the same unit; `None` when it is over.
    fn left(self, since: Instant) -> Option<Timeout> {
        let total = match self.duration() {
            None => return Some(self),
            Some(total) => total,
        };
        let left = total.checked_sub(since.elapsed()).filter(|left| !left.is_zero())?;
        Some(match self {
            Timeout::Millis(_) => Timeout::Millis(millis(left)),
            Timeout::Exactly(_) => Timeout::Exactly(left),
        })
    }
}

/// A timeout in milliseconds: rounded up, because a wait must not end early; cut to what fits, because the caller waits
/// again.
pub(crate) fn millis(timeout: Duration) -> i32 {
    let up = u64::from((timeout.subsec_nanos() + 999_999) / 1_000_000);
    let millis = timeout.as_secs().saturating_mul(1000).saturating_add(up);
    i32::try_from(millis).unwrap_or(i32::MAX)
}

impl From<Option<Duration>> for Timeout {
    #[inline]
    fn from(timeout: Option<Duration>) -> Timeout {
        match timeout {
            None => Timeout::Millis(-1),
            Some(timeout) if timeout == Duration::from_millis(millis(timeout) as u64) => {
                Timeout::Millis(millis(timeout))
            }
            Some(timeout) => Timeout::Exactly(timeout),
        }
    }
}

/// The part of waiting that differs from platform to platform.
pub(crate) trait Kernel {
    /// Waits once, for `timeout` or shorter, and adds what there is to the empty `events`. A closed queue is an error.
    fn wait_once(&mut self, events: &mut Events, timeout: Timeout) -> io::Result<()>;
}

/// Calls the kernel until there are events, the time is up or the queue is closed.
///
/// This much is compiled into the caller's own loop, where it is a few instructions around the system call; everything
/// rare is one call away. Left to itself, the compiler puts this out of line with the rest, which doubles its length.
#[inline(always)]
pub(crate) fn wait(kernel: impl Kernel, events: &mut Events, timeout: Timeout) -> io::Result<()> {
    match timeout {
        Timeout::Millis(millis) if millis < 0 => wait_with(kernel, events, timeout, &|_| FOR_EVER),
        // It is over, unless a signal kept it from looking.
        Timeout::Millis(0) => {
            wait_with(kernel, events, timeout, &|was_signal| Some(Timeout::Millis(0)).filter(|_| was_signal))
        }
        // The clock is read only when a limit lies ahead.
        Timeout::Millis(millis) => {
            let start = Instant::now();
            wait_with(kernel, events, timeout, &move |_| Timeout::Millis(millis).left(start))
        }
        Timeout::Exactly(_) => {
            let start = Instant::now();
            wait_with(kernel, events, timeout, &move |_| timeout.left(start))
        }
    }
}

const FOR_EVER: Option<Timeout> = Some(Timeout::Millis(-1));

/// What is left of the time; whether it was a signal that ended the last wait may matter.
type Left<'a> = &'a dyn Fn(bool) -> Option<Timeout>;

#[inline(always)]
fn wait_with(
    mut kernel: impl Kernel,
    events: &mut Events,
    timeout: Timeout,
    left: Left<'_>,
) -> io::Result<()> {
    events.clear();
    match kernel.wait_once(events, timeout) {
        // The usual case.
        Ok(()) if !events.is_empty() => Ok(()),
        result => wait_on(kernel, events, left, result),
    }
}

/// Goes on where the first call of the kernel, of which `result` came, did not settle it.
///
/// Nothing follows from its coming back without an event: a signal, a timer that was a hair too early, a long timeout cut
/// into pieces and the queue's own bookkeeping all look the same from here, and the wait goes on with the time that is left.
#[cold]
#[inline(never)]
fn wait_on(
    mut kernel: impl Kernel,
    events: &mut Events,
    left: Left<'_>,
    mut result: io::Result<()>,
) -> io::Result<()> {
    loop {
        let was_signal = match result {
            Ok(()) if !events.is_empty() => return Ok(()),
            Ok(()) => false,
            // The end says the same, but has no number of the system. A program whose signal handler wants the loop to
            // notice calls `Waker::wake` there.
            Err(error) if error.kind() == io::ErrorKind::Interrupted && error.raw_os_error().is_some() => {
                true
            }
            Err(error) => {
                events.clear();
                return Err(error);
            }
        };
        result = match left(was_signal) {
            Some(timeout) => kernel.wait_once(events, timeout),
            None => return Ok(()),
        };
    }
}

/// How many events may come, but at `most` so many: as many as there is room for, and there always is.
#[inline(always)]
pub(crate) fn room(events: &mut Events, most: usize) -> usize {
    let room = events.capacity();
    if (1..=most).contains(&room) {
        room
    } else {
        make_room(events, most)
    }
}

#[cold]
fn make_room(events: &mut Events, most: usize) -> usize {
    if events.capacity() == 0 {
        events.reserve(DEFAULT_CAPACITY);
    }
    events.capacity().min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_are_rounded_up_and_never_overflow() {
        let round_up = |nanos| millis(Duration::from_nanos(nanos));
        assert_eq!([0, 1, 999_999, 1_000_000, 1_000_001].map(round_up), [0, 1, 1, 1, 2]);
        for huge in [Duration::MAX, Duration::from_millis(1 << 31), Duration::new(2_147_483, 646_000_001)] {
            assert_eq!(millis(huge), i32::MAX);
            assert_eq!(Timeout::from(Some(huge)), Timeout::Exactly(huge));
        }
        assert_eq!(Timeout::from(Some(Duration::from_secs(1))), Timeout::Millis(1000));
    }

    #[test]
    fn what_is_left_is_counted_as_the_caller_counts() {
        let before = |ms| Instant::now() - Duration::from_millis(ms);
        let left = |timeout, since| Timeout::from(Some(timeout)).left(since);
        match left(Duration::from_millis(1_000_000), before(1)) {
            Some(Timeout::Millis(left)) => assert!(left > 900_000 && left < 1_000_000, "{}", left),
            left => panic!("{:?}", left),
        }
        match left(Duration::from_micros(1_000_000_001), before(1)) {
            Some(Timeout::Exactly(left)) => assert!(left < Duration::from_micros(999_999_001), "{:?}", left),
            left => panic!("{:?}", left),
        }
        assert_eq!(left(Duration::from_millis(1), before(1)), None);
        assert_eq!(Timeout::Millis(-1).left(before(1)), Some(Timeout::Millis(-1)));
    }

    /// Waits as the closure does, which is told how long, and how many times it was called before.
    struct Fake<F>(F, usize);

    impl<F: FnMut(Timeout, usize) -> io::Result<()>> Kernel for &mut Fake<F> {
        fn wait_once(&mut self, _events: &mut Events, timeout: Timeout) -> io::Result<()> {
            self.1 += 1;
            (self.0)(timeout, self.1 - 1)
        }
    }

    // Windows has no signals, and no error that is taken for one.
    #[cfg(unix)]
    fn signal() -> io::Result<()> {
        let error = io::Error::from_raw_os_error(4);
        assert_eq!(error.kind(), io::ErrorKind::Interrupted);
        Err(error)
    }

    #[cfg(unix)]
    fn pass(millis: i32) {
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(millis as u64) {}
    }

    #[cfg(unix)]
    #[test]
    fn one_late_signal_leaves_what_is_left() {
        let mut kernel = Fake(
            |timeout, call| match (timeout, call) {
                (Timeout::Millis(60), 0) => {
                    pass(45);
                    signal()
                }
                (Timeout::Millis(left), 1) => {
                    assert!((1..=15).contains(&left), "{}", left);
                    pass(left);
                    Ok(())
                }
                other => panic!("{:?}", other),
            },
            0,
        );
        wait(&mut kernel, &mut Events::new(), Timeout::Millis(60)).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn a_signal_does_not_keep_a_wait_of_no_time_from_looking() {
        let mut kernel = Fake(
            |timeout, call| {
                assert_eq!(timeout, Timeout::Millis(0));
                if call < 3 {
                    signal()
                } else {
                    Ok(())
                }
            },
            0,
        );
        wait(&mut kernel, &mut Events::new(), Timeout::Millis(0)).unwrap();
        assert_eq!(kernel.1, 4);
    }

    #[test]
    fn the_end_is_not_taken_for_a_signal() {
        let mut kernel = Fake(
            |_, call| {
                assert_eq!(call, 0);
                Err(crate::closed())
            },
            0,
        );
        wait(&mut kernel, &mut Events::new(), Timeout::Millis(-1)).unwrap_err();
    }
}
