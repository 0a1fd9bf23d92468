//! Waking a poll from other threads.
//!
//! A thread that sleeps in the kernel hears nothing but its queue. So each queue has a *bell*: something of its own in
//! the kernel object, which anybody can make ready. It ends the sleep, and says only that there is news. What the news
//! is, we keep ourselves: each waker has a mark, and sets it before the bell is rung. The poll that hears the bell goes
//! through the marks and makes an event of each that is set.
//!
//! Ringing is a system call, and a hundred wakes should not be a hundred of them. So one bit says that the bell is
//! ringing. A wake that sets the bit rings; a wake that finds it set need not. The poll that takes the bell's record
//! out of the kernel clears the bit, and goes through the marks *after that*: a wake that comes too late for this look
//! finds the bit clear, and rings again.
//!
//! While the bit is set, every poll goes through the marks, whether it has the bell's record or not. The wake that set
//! the bit may not have rung yet, and a second wake may have relied on it and returned: a poll that does not wait must
//! find that one.

use crate::platform::{Queue, Registrator};
use crate::{closed, Token};
use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a poll and those who want something from it share.
#[derive(Debug, Default)]
pub(crate) struct Wakes {
    /// `RINGING`, `CLOSED`, both or, as a rule, nothing. All that the end of a wait has to look at.
    news: AtomicU8,
    /// Of all wakers, and of those that are gone but still owe their event.
    marks: Mutex<VecDeque<Arc<Mark>>>,
}

/// The bell was rung, or somebody is about to.
const RINGING: u8 = 1;
/// The queue is closed, for good.
const CLOSED: u8 = 2;

/// What a waker and its queue share.
#[derive(Debug)]
struct Mark {
    token: Token,
    /// Set by each wake, cleared by the poll that makes an event of it.
    is_set: AtomicBool,
}

impl Wakes {
    /// Whether there may be more to do than to hand out the events of the kernel.
    #[inline(always)]
    pub(crate) fn are_news(&self) -> bool {
        self.news.load(Ordering::Acquire) != 0
    }

    #[inline(always)]
    pub(crate) fn is_closed(&self) -> bool {
        self.news.load(Ordering::Acquire) & CLOSED != 0
    }

    /// Closes the queue. Returns whether it was closed already.
    pub(crate) fn close(&self) -> bool {
        self.news.fetch_or(CLOSED, Ordering::AcqRel) & CLOSED != 0
    }

    /// Marks the bell as ringing. Returns whether the caller has to ring it.
    ///
    /// This writes even if it changes nothing. So it comes before or after the `silence` of a poll: either that poll
    /// sees what the caller did before, or the caller rings.
    fn must_ring(&self) -> bool {
        self.news.fetch_or(RINGING, Ordering::AcqRel) & (RINGING | CLOSED) == 0
    }

    /// The bell's record is out of the kernel, or never got there. A wake from here on must ring again.
    pub(crate) fn silence(&self) {
        self.news.fetch_and(!RINGING, Ordering::AcqRel);
    }

    /// Makes an `event` of each mark that is set, as long as there is room. Returns whether the bell must be rung for the rest.
    pub(crate) fn deliver<E>(&self, events: &mut Vec<E>, event: impl Fn(Token) -> E) -> bool {
        let mut marks = self.marks();
        for _ in 0..marks.len() {
            if let Some(mut mark) = marks.pop_front() {
                // Asked first: once nobody else has it, nobody can set it any more.
                let is_gone = Arc::get_mut(&mut mark).is_some();
                if events.len() < events.capacity() {
                    if mark.is_set.swap(false, Ordering::AcqRel) {
                        events.push(event(mark.token));
                    }
                } else if mark.is_set.load(Ordering::Acquire) {
                    // It is the first the next time.
                    marks.push_front(mark);
                    return self.must_ring();
                }
                if !is_gone {
                    marks.push_back(mark);
                }
            }
        }
        false
    }

    fn add(&self, token: Token) -> Arc<Mark> {
        let mark = Arc::new(Mark { token, is_set: AtomicBool::new(false) });
        let mut marks = self.marks();
        if marks.len() == marks.capacity() {
            // Those that are gone and owe nothing make room. It is made so large that this need not be done again soon.
            marks.retain_mut(|mark| Arc::get_mut(mark).is_none() || mark.is_set.load(Ordering::Acquire));
            let room = marks.len() + 1;
            marks.reserve(room);
        }
        marks.push_back(Arc::clone(&mark));
        mark
    }

    fn marks(&self) -> MutexGuard<'_, VecDeque<Arc<Mark>>> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends a wait from another thread, with an event of its own: readable, under its token.
///
/// All wakes between two polls come as one event. None is lost, even if the waker is dropped before the poll. A clone
/// is another handle to the same waker.
///
/// # Examples
///
/// ```
/// use minimio::{Events, Poll, Waker};
///
/// # fn main() -> std::io::Result<()> {
/// let mut poll = Poll::new()?;
/// let waker = Waker::new(poll.registry(), 7)?;
/// std::thread::spawn(move || waker.wake());
///
/// let mut events = Events::new();
/// poll.poll(&mut events, None)?;
/// assert!(events[0].id() == 7 && events[0].is_readable());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Waker {
    queue: Arc<Queue>,
    mark: Arc<Mark>,
}

impl Waker {
    /// Creates a waker for the queue of a [`Registrator`] or of a [`Registry`](crate::Registry).
    ///
    /// # Errors
    ///
    /// [`Interrupted`](io::ErrorKind::Interrupted): the queue is closed.
    pub fn new(registrator: &impl AsRef<Registrator>, token: Token) -> io::Result<Waker> {
        let queue = Arc::clone(&registrator.as_ref().queue);
        if queue.wakes.is_closed() {
            return Err(closed());
        }
        let mark = queue.wakes.add(token);
        Ok(Waker { queue, mark })
    }

    /// Makes the current or the next poll deliver this waker's event. Never blocks.
    ///
    /// Once the queue is closed there is nobody left to wake, and this returns `Ok`.
    ///
    /// # Errors
    ///
    /// The system's error, in the rare case that it cannot signal.
    ///
    /// # Platform notes
    ///
    /// On Unix you may call it from a signal handler.
    #[inline]
    pub fn wake(&self) -> io::Result<()> {
        // First the mark, then the bell.
        self.mark.is_set.swap(true, Ordering::AcqRel);
        if !self.queue.wakes.must_ring() {
            return Ok(());
        }
        let rang = self.queue.ring();
        if rang.is_err() {
            self.queue.wakes.silence();
        }
        rang
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Events, Poll};

    #[test]
    fn wakers_that_are_gone_leave_only_what_they_owe() {
        let mut poll = Poll::new().unwrap();
        for token in 0..1000 {
            drop(Waker::new(poll.registry(), token).unwrap());
        }
        let owing = Waker::new(poll.registry(), 7).unwrap();
        owing.wake().unwrap();
        drop(owing);
        let left = Waker::new(poll.registry(), 8).unwrap();
        let tokens = |poll: &Poll| -> Vec<Token> {
            poll.registrator().queue.wakes.marks().iter().map(|mark| mark.token).collect()
        };
        // Those that owe nothing go now and then, when there is no room for another one.
        assert!(tokens(&poll).len() < 20, "{:?}", tokens(&poll));

        let mut events = Events::new();
        poll.poll(&mut events, None).unwrap();
        assert_eq!(events[0].id(), 7);
        assert_eq!(tokens(&poll), [8]);
        drop(left);
    }
}
