//! The code of `src/waker.rs` itself, under the model checker, with a kernel that is nothing but the bell.
#![cfg(test)]

use std::io;

type Token = usize;

fn closed() -> io::Error {
    io::ErrorKind::Interrupted.into()
}

#[allow(dead_code)]
mod waker {
    include!(concat!(env!("OUT_DIR"), "/waker.rs"));
}

/// What a platform file has around it. `wait` and `hear` are twins of those in `src/linux.rs`, and do what the other two do; a
/// test holds them together.
mod platform {
    use super::{closed, waker::Wakes, Token};
    use loom::sync::{Arc, Condvar, Mutex};
    use std::io;

    #[derive(Debug, Default)]
    pub struct Queue {
        pub wakes: Wakes,
        /// Whether the bell's record is on the ready list of the kernel.
        ready: Mutex<bool>,
        became_ready: Condvar,
    }

    #[derive(Clone, Debug, Default)]
    pub struct Registrator {
        pub queue: Arc<Queue>,
    }

    impl AsRef<Registrator> for Registrator {
        fn as_ref(&self) -> &Registrator {
            self
        }
    }

    impl Queue {
        pub fn ring(&self) -> io::Result<()> {
            *self.ready.lock().unwrap() = true;
            self.became_ready.notify_one();
            Ok(())
        }

        pub fn close(&self) {
            self.wakes.close();
            self.ring().unwrap();
        }

        /// Asks the kernel once. Returns whether the bell was heard.
        fn wait(&self, sleeps: bool) -> bool {
            let mut ready = self.ready.lock().unwrap();
            // A call on a closed queue waits for nothing.
            while sleeps && !*ready && !self.wakes.is_closed() {
                ready = self.became_ready.wait(ready).unwrap();
            }
            std::mem::take(&mut *ready)
        }

        fn hear(&self, rang: bool, events: &mut Vec<Token>) -> io::Result<()> {
            if self.wakes.is_closed() {
                return Err(closed());
            }
            if rang {
                self.wakes.silence();
            }
            if self.wakes.deliver(events, |token| token) {
                self.ring()?;
            }
            Ok(())
        }

        /// Waits until there are events or the queue is closed, or looks once.
        pub fn poll(&self, events: &mut Vec<Token>, sleeps: bool) -> io::Result<()> {
            events.clear();
            loop {
                let rang = self.wait(sleeps);
                if self.wakes.are_news() {
                    self.hear(rang, events)?;
                } else {
                    assert!(!rang, "the user would see the bell's own record");
                }
                if !sleeps || !events.is_empty() {
                    return Ok(());
                }
            }
        }
    }
}

mod tests {
    use super::platform::Registrator;
    use super::waker::Waker;
    use super::Token;
    use loom::sync::atomic::{AtomicBool, Ordering};
    use loom::sync::Arc;
    use loom::{model, thread};

    const SLEEP: bool = true;

    /// Polls until each of `tokens` was reported; one that is lost is a sleep without end, which the checker reports.
    fn poll_until(registrator: &Registrator, capacity: usize, tokens: &[Token]) {
        let mut events = Vec::with_capacity(capacity);
        let mut missing = tokens.to_vec();
        while !missing.is_empty() {
            registrator.queue.poll(&mut events, SLEEP).unwrap();
            assert!(events.len() <= capacity);
            missing.retain(|token| !events.contains(token));
        }
    }

    #[test]
    fn two_wakers_and_a_poll() {
        model(|| {
            let registrator = Registrator::default();
            for token in [1, 2] {
                let waker = Waker::new(&registrator, token).unwrap();
                thread::spawn(move || waker.wake().unwrap());
            }
            poll_until(&registrator, 4, &[1, 2]);
        });
    }

    #[test]
    fn two_wakers_and_room_for_one() {
        model(|| {
            let registrator = Registrator::default();
            let first = Waker::new(&registrator, 1).unwrap();
            let second = Waker::new(&registrator, 2).unwrap();
            thread::spawn(move || first.wake().unwrap());
            second.wake().unwrap();
            poll_until(&registrator, 1, &[1, 2]);
        });
    }

    #[test]
    fn a_wake_against_the_drop_of_its_waker_while_others_are_made() {
        model(|| {
            let registrator = Registrator::default();
            let waker = Waker::new(&registrator, 1).unwrap();
            thread::spawn(move || {
                waker.wake().unwrap();
                drop(waker);
            });
            let others = registrator.clone();
            // As many as make the list of marks clear itself of those that are gone.
            thread::spawn(move || (2..7).for_each(|token| drop(Waker::new(&others, token).unwrap())));
            poll_until(&registrator, 4, &[1]);
        });
    }

    #[test]
    fn a_wake_against_the_close() {
        model(|| {
            let registrator = Registrator::default();
            let waker = Waker::new(&registrator, 1).unwrap();
            thread::spawn(move || waker.wake().unwrap());
            let closer = registrator.clone();
            thread::spawn(move || closer.queue.close());
            let mut events = Vec::with_capacity(4);
            // The end comes, whatever else does; and it lasts.
            while registrator.queue.poll(&mut events, SLEEP).is_ok() {}
            assert!(registrator.queue.poll(&mut events, SLEEP).is_err());
        });
    }

    /// Two threads leave work and wake through the same waker. The poll that sees the event sees the work, or is told again.
    #[test]
    fn a_merged_wake_against_the_delivery() {
        model(|| {
            let registrator = Registrator::default();
            let waker = Waker::new(&registrator, 1).unwrap();
            let work = Arc::new([AtomicBool::new(false), AtomicBool::new(false)]);
            for place in 0..2 {
                let (waker, work) = (waker.clone(), Arc::clone(&work));
                thread::spawn(move || {
                    work[place].store(true, Ordering::Relaxed);
                    waker.wake().unwrap();
                });
            }
            let mut events = Vec::with_capacity(4);
            while !work.iter().all(|done| done.load(Ordering::Relaxed)) {
                registrator.queue.poll(&mut events, SLEEP).unwrap();
                assert_eq!(events, [1]);
            }
        });
    }

    #[test]
    fn a_wake_that_has_returned_is_there_for_a_poll_that_does_not_sleep() {
        model(|| {
            let registrator = Registrator::default();
            let waker = Waker::new(&registrator, 1).unwrap();
            let clone = waker.clone();
            thread::spawn(move || clone.wake().unwrap());
            waker.wake().unwrap();
            let mut events = Vec::with_capacity(4);
            registrator.queue.poll(&mut events, !SLEEP).unwrap();
            assert_eq!(events, [1]);
        });
    }

    /// The poll delivers an event, and another thread arms the same waker again at that moment.
    #[test]
    fn a_waker_armed_again_from_another_thread() {
        model(|| {
            let registrator = Registrator::default();
            let waker = Waker::new(&registrator, 1).unwrap();
            waker.wake().unwrap();
            let round = Arc::new(AtomicBool::new(false));
            let second = Arc::clone(&round);
            thread::spawn(move || {
                second.store(true, Ordering::Relaxed);
                waker.wake().unwrap();
            });
            let mut events = Vec::with_capacity(1);
            while !round.load(Ordering::Relaxed) {
                registrator.queue.poll(&mut events, SLEEP).unwrap();
                assert_eq!(events, [1]);
            }
        });
    }

    /// The twins do the same things in the same order.
    #[test]
    fn the_platforms_hear_as_the_model_does() {
        let linux = include_str!("../../../src/linux.rs");
        let (macos, windows) =
            (include_str!("../../../src/macos.rs"), include_str!("../../../src/windows.rs"));
        let body = |file: &'static str, start: &str| {
            let from = file.find(start).unwrap_or_else(|| panic!("{start} is gone"));
            let length = file[from..].find("\n    }\n").unwrap();
            &file[from..from + length]
        };
        let in_order = |text: &str, steps: &[&str]| {
            let mut rest = text;
            for step in steps {
                let at = rest.find(step).unwrap_or_else(|| panic!("no {step} in its place in\n{text}"));
                rest = &rest[at + step.len()..];
            }
        };
        in_order(
            body(linux, "fn hear("),
            &["wakes.is_closed()", "Err(closed())", "wakes.silence()", "wakes.deliver(events", "ring()"],
        );
        in_order(body(linux, "fn wait_once("), &["wait_millis(", "wakes.are_news()", "self.hear(events"]);
        for (file, start) in [(macos, "fn sift("), (windows, "fn wait_once(")] {
            in_order(body(file, start), &["wakes.silence()", "wakes.deliver(events", "ring()"]);
        }
        in_order(body(linux, "fn close("), &["wakes.close()", "number.store(-1"]);
        in_order(body(linux, "pub fn close_loop("), &["queue.close()", "queue.ring()"]);
    }
}
