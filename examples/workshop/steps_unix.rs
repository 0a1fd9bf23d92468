//! The steps on Linux, macOS and the BSDs: the same fifteen on epoll and on kqueue, each with its check.

use crate::checks::{self, *};
use crate::delays;
use crate::queue::{source, Event, Interests, Mode, Queue};
use crate::step::{expect, Outcome, Step};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::os::raw::{c_int, c_short};
use std::os::unix::io::{AsRawFd, BorrowedFd, FromRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

const KQUEUE: bool = !cfg!(any(target_os = "linux", target_os = "android"));

pub const FAREWELL: &str = either(
    "The queue is yours. Compare it with solution_epoll.rs. Then read src/linux.rs: you will recognize most of it.",
    "The queue is yours. Compare it with solution_kqueue.rs. Then read src/macos.rs: you will recognize most of it.",
);

/// The words for the system at hand.
const fn either(epoll: &'static str, kqueue: &'static str) -> &'static str {
    if KQUEUE {
        kqueue
    } else {
        epoll
    }
}

const CHAPTER: &str = either("ch04_epoll", "ch05_kqueue");

pub fn all<Q: Queue>() -> Vec<Step> {
    vec![
        Step {
            title: "Make the queue",
            chapters: &["ch02_system_calls", CHAPTER],
            task: either(
                "Write `new`: ask the kernel for an epoll instance with `epoll_create1`, turn its -1 into an \
                 error with `check`, and keep the descriptor in an `OwnedFd` in the struct. The flag \
                 EPOLL_CLOEXEC keeps it from the programs that yours starts. Write `as_fd`, which lends that \
                 descriptor.",
                "Write `new`: ask the kernel for a queue with `kqueue`, turn its -1 into an error with \
                 `check`, and keep the descriptor in an `OwnedFd` in the struct. Write `as_fd`, which lends \
                 that descriptor.",
            ),
            check: make::<Q>,
        },
        Step {
            title: "Add a socket",
            chapters: &[CHAPTER],
            task: either(
                "Write `register` for reading: `epoll_ctl` with EPOLL_CTL_ADD, the source's descriptor, and \
                 an `epoll_event` that says EPOLLIN and carries the token. Leave the mode and the other \
                 direction for later.",
                "Write `register` for reading: `kevent` with one change, which is EV_ADD for the source's \
                 descriptor and EVFILT_READ, with the token in `udata`. Give it no room for events. Leave the \
                 mode and the other direction for later.",
            ),
            check: add::<Q>,
        },
        Step {
            title: "Wait, and get the token",
            chapters: &[CHAPTER],
            task: either(
                "Write `poll` for a timeout of `None`: clear `events`, and let `epoll_wait` fill an array of \
                 records. For each record that it has filled, push an `Event` with the token; it is readable \
                 if EPOLLIN is among the record's bits.",
                "Write `poll` for a timeout of `None`: clear `events`, and let `kevent` fill an array of \
                 records (no changes, no timeout). For each record that it has filled, push an `Event` with \
                 the token from `udata`; it is readable if the filter is EVFILT_READ.",
            ),
            check: wait::<Q>,
        },
        Step {
            title: "A timeout",
            chapters: &[CHAPTER],
            task: either(
                "Now make `poll` respect its timeout. `epoll_wait` counts in milliseconds, in a `c_int`, and \
                 -1 means for ever. Round up: 0.3 ms rounded down is 0, and a loop that waits for 0 ms spins. \
                 And what do you do with a timeout that does not fit into a `c_int`?",
                "Now make `poll` respect its timeout. `kevent` takes a pointer to a `timespec`, and null \
                 means for ever. The kernels refuse very long timeouts: cut anything longer than a day, and \
                 wait again if you have cut it.",
            ),
            check: timeout::<Q>,
        },
        Step {
            title: "Level, and registering again",
            chapters: &["ch09_modes", "ch08_one_api", CHAPTER],
            task: either(
                "In level mode every poll reports a source as long as it is ready; epoll does that by itself. \
                 But a second `register` of the same source must replace the first, and epoll refuses it with \
                 EEXIST, in Rust `ErrorKind::AlreadyExists`. When that happens, change the entry with \
                 EPOLL_CTL_MOD. Write `reregister`, which does so at once.",
                "In level mode every poll reports a source as long as it is ready; a kqueue does that by \
                 itself. A second EV_ADD brings the new token. Write `reregister`; it may do the same as \
                 `register`.",
            ),
            check: level::<Q>,
        },
        Step {
            title: "One-shot",
            chapters: &["ch09_modes", CHAPTER],
            task: either(
                "Now make `register` and `reregister` respect the mode. With EPOLLONESHOT a source is \
                 reported once and then stays silent until EPOLL_CTL_MOD arms it again.",
                "Now make `register` and `reregister` respect the mode. With EV_DISPATCH a source is reported \
                 once and then disabled, until EV_ENABLE. (EV_ONESHOT would delete it.)",
            ),
            check: one_shot::<Q>,
        },
        Step {
            title: "Edge",
            chapters: &["ch09_modes", CHAPTER],
            task: either(
                "EPOLLET reports a source when something arrives, and not again for the same bytes. When a \
                 source is registered again, it takes the new mode.",
                "EV_CLEAR reports a source when something arrives, and not again for the same bytes. When a \
                 source is registered again, it must take the new mode, but a knote keeps the mode that it \
                 was born with. So delete it first, in the same call: two changes, each with EV_RECEIPT, and \
                 room for two receipts. Then the ENOENT for a knote that was not there does not stop the \
                 other change. Any other error number in a receipt's `data` is an error.",
            ),
            check: edge::<Q>,
        },
        Step {
            title: "Two directions",
            chapters: &["ch08_one_api", CHAPTER],
            task: either(
                "Now make `register` respect both directions, EPOLLIN and EPOLLOUT, and `poll` report both. \
                 Report only what the last registration asked for.",
                "Now make `register` respect both directions, with a knote for each, EVFILT_READ and \
                 EVFILT_WRITE, and make `poll` report both. Report only what was asked for: a direction that \
                 is no longer wanted has to be deleted.",
            ),
            check: directions::<Q>,
        },
        Step {
            title: "Deregister",
            chapters: &[CHAPTER],
            task: either(
                "Write `deregister`: EPOLL_CTL_DEL. For a source that is not registered, return the kernel's \
                 ENOENT, in Rust `ErrorKind::NotFound`.",
                "Write `deregister`: delete both knotes, with receipts. If one of them was not there \
                 (ENOENT), that is no error; if neither was, return `ErrorKind::NotFound`.",
            ),
            check: deregister::<Q>,
        },
        Step {
            title: "The end of a stream",
            chapters: &[CHAPTER, "ch11_hard_parts"],
            task: either(
                "When the other side has sent its last byte, report `read_closed`, and `readable`, because a \
                 read will not block. You have to ask for EPOLLRDHUP, or epoll does not tell you. EPOLLHUP \
                 and EPOLLERR come without being asked for, and they may come alone. No read or write will \
                 block then, so report both directions, and EPOLLHUP is `read_closed`, too.",
                "When the other side has sent its last byte, report `read_closed`, and `readable`, because a \
                 read will not block. The sign is EV_EOF in the flags of the event for EVFILT_READ.",
            ),
            check: end_of_stream::<Q>,
        },
        Step {
            title: "Wake it from another thread",
            chapters: &["ch10_threads"],
            task: either(
                "Write `wake`. `new` makes an eventfd (a `File` can own it) and watches it under the token \
                 WAKE; `wake` writes a `u64` to it, 8 bytes. Many wakes before a poll become one event, and \
                 after that there is silence: edge mode does just that.",
                "Write `wake`. `new` adds a knote with the filter EVFILT_USER, the token WAKE and EV_CLEAR; \
                 `wake` triggers it, with NOTE_TRIGGER in `fflags`. (NetBSD before 10 and OpenBSD before 7.8 \
                 do not have this filter. Use a `UnixStream::pair` there: watch one end in edge mode, and \
                 write a byte to the other.)",
            ),
            check: || checks::wake::<Q>(WAKE_LOOK),
        },
        Step {
            title: "Close the loop",
            chapters: &["ch10_threads"],
            task: "Write `close_loop`: it ends the poll that sleeps, and every later one. They return \
                   `ErrorKind::Interrupted`. An `AtomicBool` holds the fact, and `wake` spreads the word: first \
                   the fact, then the wake. `poll` checks the fact before it sleeps and after.",
            check: checks::close_loop::<Q>,
        },
        Step {
            title: "A signal in between",
            chapters: &["ch02_system_calls"],
            task: "A signal that arrives during the wait ends it with EINTR, which Rust also calls \
                   `ErrorKind::Interrupted`. But it is neither the end nor an event: `poll` has to go on, with \
                   the time that is left. So it needs to know its deadline, an `Instant`. (`Instant + Duration` \
                   panics when it overflows; `checked_add` does not.)",
            check: signals::<Q>,
        },
        Step {
            title: "A thousand sockets",
            chapters: &["ch11_hard_parts"],
            task: "More sockets may be ready than your array has room for. What did not fit comes with the next \
                   poll: nothing is lost, and nothing comes twice. If you have looked only at the records that \
                   the kernel has filled, there is nothing left to write.",
            check: thousand::<Q>,
        },
        Step {
            title: "The delays",
            chapters: &["ch01_threads", "ch12_reactor_executor"],
            task: "The book's own program on your queue: six requests, each answered after a different delay, \
                   and one thread that waits for all of them. There is nothing left to write. Watch it.",
            check: delays::run::<Q>,
        },
    ]
}

const WAKE_LOOK: Look = Look {
    wake: either(
        "`wake`: 8 bytes into the eventfd, which is registered with the token WAKE, and which `wake` does not close: a closed one leaves the queue",
        "`wake`: NOTE_TRIGGER for the knote of EVFILT_USER, which has the token WAKE",
    ),
    once: either(
        "the eventfd: it stays readable until it is read. Read it, or watch it in edge mode",
        "EV_CLEAR, when the knote is added",
    ),
};

fn make<Q: Queue>() -> Outcome {
    let look = either("`new`, and where the `OwnedFd` ends up", "`new`, and where the `OwnedFd` ends up");
    let expected = expect("a new queue", look);
    let queue = new::<Q>(&expected)?;
    let number = queue.as_fd().as_raw_fd();
    let expected = expect(
        "a queue with a descriptor that is open",
        "an `OwnedFd` closes when it is dropped: the struct has to keep it",
    );
    if fcntl_getfd(number) == -1 {
        return expected.but(format!("descriptor {}, which is not open", number));
    }
    if !KQUEUE {
        let expected = expect("the descriptor of an epoll instance", "what `as_fd` lends");
        // Where there is no /proc, the next steps will tell.
        let target = fs::read_link(format!("/proc/self/fd/{}", number));
        match target.as_ref().map(|target| target.to_string_lossy()) {
            Ok(target) if !target.contains("eventpoll") => {
                return expected.but(format!("descriptor {} of {}", number, target))
            }
            _ => {}
        }
        let expected = expect(
            "a descriptor that no child process inherits",
            "the argument of `epoll_create1`: EPOLL_CLOEXEC",
        );
        if fcntl_getfd(number) & FD_CLOEXEC == 0 {
            return expected.but(format!("descriptor {}, which every child inherits", number));
        }
    }
    let expected = expect("a second queue beside the first", look);
    let second = new::<Q>(&expected)?;
    if second.as_fd().as_raw_fd() == number {
        return expected.but(format!("descriptor {} for both", number));
    }
    let expected = expect(
        "a queue that closes its descriptor when it is dropped",
        "`OwnedFd` does that; a bare number does not",
    );
    drop(queue);
    match fcntl_getfd(number) {
        -1 => Ok(()),
        _ => expected.but(format!("descriptor {} is still open", number)),
    }
}

fn add<Q: Queue>() -> Outcome {
    let queue = Q::new()?;
    let (socket, mut peer) = pair()?;
    let expected = expect(
        "a queue without news: a socket was registered, and nothing has been sent to it",
        either("what you ask for: EPOLLIN alone", "which filter you ask for: EVFILT_READ alone"),
    );
    register(&queue, &socket, 7, READABLE, &expected)?;
    if has_news(&queue, Duration::ZERO) {
        return expected.but("there is news");
    }
    let expected = expect(
        "news in the queue: bytes have arrived at the socket that was registered",
        either(
            "`epoll_ctl`: the queue's descriptor, EPOLL_CTL_ADD, the source's descriptor, an event that says EPOLLIN",
            "`kevent`: the queue's descriptor, one change with EV_ADD, the source's descriptor, EVFILT_READ",
        ),
    );
    peer.write_all(b"hello")?;
    if !has_news(&queue, A_SECOND) {
        return expected.but("none after a second");
    }
    // What cannot be watched. epoll refuses a file, a kqueue only a number that is not open.
    let file = File::open(std::env::current_exe()?)?;
    // SAFETY: the number is far above those that are open, and the queue does nothing with it but refuse it.
    let closed = unsafe { BorrowedFd::borrow_raw(9999) };
    let (what, refused) =
        if KQUEUE { ("a closed descriptor", closed) } else { ("a file on a disk", source(&file)) };
    let expected = expect(
        format!("an error from the kernel: {} cannot be watched", what),
        "the -1 that the call returned: `check` makes an error of it",
    );
    match queue.register(refused, 8, READABLE) {
        Ok(()) => expected.but("`Ok`"),
        Err(_) => Ok(()),
    }
}

fn wait<Q: Queue>() -> Outcome {
    let queue = Q::new()?;
    let (first, mut first_peer) = pair()?;
    let (second, mut second_peer) = pair()?;
    // The kernel keeps the token. It has room for a big one.
    let big = usize::MAX - 1;
    queue.register(source(&first), 7, READABLE)?;
    queue.register(source(&second), big, READABLE)?;

    second_peer.write_all(b"hello")?;
    let expected = expect(
        format!("one event with the token {}, readable: five bytes arrived at that socket, none at the one with 7", big),
        either(
            "the token: it goes into `data` at `epoll_ctl` and comes back in `data`; how many records does `epoll_wait` say it has filled? And `events` is to be cleared first",
            "the token: it goes into `udata` and comes back in `udata`; how many records does `kevent` say it has filled? And `events` is to be cleared first",
        ),
    );
    let events = poll(&queue, None, &expected)?;
    let right = Event { token: big, readable: true, writable: false, read_closed: false };
    if events != [right] {
        return expected.but(list(&events));
    }

    first_peer.write_all(b"hello")?;
    let expected = expect(
        "both tokens, one after the other or together: bytes arrived at both sockets",
        either(
            "how you walk through the records: each has its own place in the array",
            "how you walk through the records",
        ),
    );
    let mut seen = Vec::new();
    while seen.len() < 2 {
        for event in poll(&queue, None, &expected)? {
            if ![7, big].contains(&event.token) {
                return expected.but(list(&[event]));
            }
            if !seen.contains(&event.token) {
                seen.push(event.token);
            }
        }
        if seen.is_empty() {
            return expected.but("no event, and `poll` did not wait");
        }
    }

    // A sleeping poll must notice what comes later.
    let (third, mut third_peer) = pair()?;
    let queue = Q::new()?;
    queue.register(source(&third), 9, READABLE)?;
    let expected = expect(
        "a poll that sleeps until bytes arrive, 50 ms later",
        "without a timeout the call sleeps for ever",
    );
    let events = thread::scope(|scope| {
        scope.spawn(move || {
            thread::sleep(A_MOMENT);
            third_peer.write_all(b"hello")
        });
        poll(&queue, None, &expected)
    })?;
    match tokens(&events)[..] {
        [9] => Ok(()),
        _ => expected.but(list(&events)),
    }
}

fn timeout<Q: Queue>() -> Outcome {
    let queue = Q::new()?;
    let (socket, mut peer) = pair()?;
    queue.register(source(&socket), 7, READABLE)?;

    let expected = expect(
        "a poll of 50 ms, with nothing to report, that takes 50 ms",
        either("the unit of `epoll_wait` is 1 ms: round up", "a `timespec` is seconds and nanoseconds"),
    );
    thread::scope(|scope| {
        // A poll that ignores the timeout must not sleep for ever.
        let (over, is_over) = mpsc::channel::<()>();
        let mut peer = &peer;
        scope.spawn(move || {
            if let Err(RecvTimeoutError::Timeout) = is_over.recv_timeout(A_SECOND) {
                let _ = peer.write_all(b"hello");
            }
        });
        let start = Instant::now();
        let result = quiet(&queue, A_MOMENT, &expected);
        drop(over);
        match result {
            Err(_) if start.elapsed() > A_SECOND => {
                expected.but("it slept on, until bytes arrived a second later")
            }
            result => result,
        }
    })?;

    let expected = expect(
        "a poll with a timeout of zero that returns at once",
        either(
            "0 is at once, -1 is for ever",
            "a `timespec` of zeros is at once, a null pointer is for ever",
        ),
    );
    let start = Instant::now();
    quiet(&queue, Duration::ZERO, &expected)?;
    if start.elapsed() > A_SECOND {
        return expected.but(format!("it took {:?}", start.elapsed()));
    }

    let expected = expect(
        "a poll of 0.3 ms that sleeps at least that long",
        either("rounding: 0.3 ms in whole milliseconds is 1, not 0", "the nanoseconds of the `timespec`"),
    );
    quiet(&queue, Duration::from_micros(300), &expected)?;

    peer.write_all(b"hello")?;
    has_news(&queue, A_SECOND);
    let expected = expect(
        "a poll with a timeout of zero that reports what is ready",
        "the timeout, and then the records",
    );
    one(&queue, Some(Duration::ZERO), 7, &expected)?;
    (&socket).read_exact(&mut [0; 5])?;

    let long = [("49 days", Duration::from_millis(1 << 32)), ("`Duration::MAX`", Duration::MAX)];
    for (name, long) in long {
        let expected = expect(
            format!("a poll with a timeout of {} that sleeps until bytes arrive, 50 ms later", name),
            either(
                "what becomes of it in a `c_int`: cut it to `c_int::MAX`, do not cast",
                "what becomes of it in a `timespec`: cut it",
            ),
        );
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(A_MOMENT);
                (&peer).write_all(b"hello")
            });
            let before = sleeps();
            one(&queue, Some(long), 7, &expected)?;
            slept(before, &expected)
        })?;
        (&socket).read_exact(&mut [0; 5])?;
    }
    Ok(())
}

fn level<Q: Queue>() -> Outcome {
    let queue = Q::new()?;
    let (socket, mut peer) = pair()?;
    queue.register(source(&socket), 1, READABLE)?;
    peer.write_all(b"hello")?;
    let expected = expect(
        "an event from every poll: in level mode, a socket has unread bytes",
        "the mode: level is what the kernel does without a flag",
    );
    for _ in 0..3 {
        one(&queue, Some(A_SECOND), 1, &expected)?;
    }
    (&socket).read_exact(&mut [0; 5])?;
    let expected = expect(
        "silence: all bytes were read",
        "whether `events` was cleared, and whether `poll` has a way to report what the kernel did not",
    );
    quiet(&queue, A_MOMENT, &expected)?;

    let expected = expect(
        "the new token, after a second `register` of the same source",
        either(
            "the error EEXIST (`AlreadyExists`): change the entry with EPOLL_CTL_MOD then",
            "a second EV_ADD with a new `udata`",
        ),
    );
    register(&queue, &socket, 2, READABLE, &expected)?;
    peer.write_all(b"hello")?;
    one(&queue, Some(A_SECOND), 2, &expected)?;
    let expected = expect(
        "the new token, after `reregister`, too",
        either("`reregister`: EPOLL_CTL_MOD", "`reregister`: it may call `register`"),
    );
    reregister(&queue, &socket, 3, READABLE, &expected)?;
    one(&queue, Some(A_SECOND), 3, &expected)
}

fn one_shot<Q: Queue>() -> Outcome {
    let queue = Q::new()?;
    let (socket, mut peer) = pair()?;
    let once = Interests { mode: Mode::OneShot, ..READABLE };
    queue.register(source(&socket), 1, once)?;
    peer.write_all(b"hello")?;
    let expected = expect("an event: a one-shot source has unread bytes", "the flags of its mode");
    one(&queue, Some(A_SECOND), 1, &expected)?;
    let expected = expect(
        "no second event, although the bytes are still unread",
        either("the mode: EPOLLONESHOT", "the mode: EV_DISPATCH"),
    );
    quiet(&queue, A_MOMENT, &expected)?;
    let expected = expect(
        "no event either when more bytes arrive",
        either("the mode: EPOLLONESHOT, not EPOLLET", "the mode: EV_DISPATCH, not EV_CLEAR"),
    );
    peer.write_all(b"hello")?;
    quiet(&queue, A_MOMENT, &expected)?;
    let expected = expect(
        "a new event after `reregister`: what arrived in between is not lost",
        either(
            "`reregister`: EPOLL_CTL_MOD, with the mode again",
            "`reregister`: EV_ADD does not wake a disabled knote, EV_ENABLE does",
        ),
    );
    reregister(&queue, &socket, 2, once, &expected)?;
    one(&queue, Some(A_SECOND), 2, &expected)?;
    let expected = expect(
        "a new event after `register`, too",
        either("`register`: what it does about EEXIST", "`register`: EV_ENABLE"),
    );
    register(&queue, &socket, 3, once, &expected)?;
    one(&queue, Some(A_SECOND), 3, &expected)?;
    quiet(&queue, A_MOMENT, &expected)
}

fn edge<Q: Queue>() -> Outcome {
    let queue = Q::new()?;
    let (socket, mut peer) = pair()?;
    let edge = Interests { mode: Mode::Edge, ..READABLE };
    queue.register(source(&socket), 1, edge)?;
    let look = either("the mode: EPOLLET", "the mode: EV_CLEAR");
    let expected = expect("an event: in edge mode, bytes arrive", look);
    peer.write_all(b"hello")?;
    one(&queue, Some(A_SECOND), 1, &expected)?;
    let expected = expect("no second event for the same bytes", look);
    quiet(&queue, A_MOMENT, &expected)?;
    let expected = expect("an event when more bytes arrive, without registering again", look);
    (&socket).read_exact(&mut [0; 5])?;
    peer.write_all(b"hello")?;
    one(&queue, Some(A_SECOND), 1, &expected)?;

    let expected = expect(
        "an event from every poll: a source that was in edge mode is now in level mode",
        either(
            "what EPOLL_CTL_MOD is given: all bits anew",
            "a knote keeps its mode: delete it before you add it again",
        ),
    );
    register(&queue, &socket, 2, READABLE, &expected)?;
    for _ in 0..3 {
        one(&queue, Some(A_SECOND), 2, &expected)?;
    }
    let expected = expect(
        "one event: a source that was in level mode is now in edge mode",
        either(
            "what EPOLL_CTL_MOD is given: all bits anew",
            "a knote keeps its mode: delete it before you add it again",
        ),
    );
    register(&queue, &socket, 3, edge, &expected)?;
    one(&queue, Some(A_SECOND), 3, &expected)?;
    quiet(&queue, A_MOMENT, &expected)
}

fn directions<Q: Queue>() -> Outcome {
    let queue = Q::new()?;
    let (socket, mut peer) = pair()?;
    let expected = expect(
        "only writable: that was asked for, and there is room",
        either("EPOLLOUT, and the bits of the record", "EVFILT_WRITE, and the filter of the record"),
    );
    register(&queue, &socket, 1, WRITABLE, &expected)?;
    let words = said(&queue, 1, &expected)?;
    if (words.readable, words.writable) != (false, true) {
        return expected.but(list(&[words]));
    }
    let expected = expect(
        "readable and writable: both were asked for, and bytes have arrived",
        either("both bits, EPOLLIN and EPOLLOUT", "two changes, one for each filter"),
    );
    peer.write_all(b"hello")?;
    register(&queue, &socket, 2, BOTH, &expected)?;
    let words = said(&queue, 2, &expected)?;
    if (words.readable, words.writable) != (true, true) {
        return expected.but(list(&[words]));
    }
    let expected = expect(
        "only readable: writable was asked for before, and no longer is",
        either("EPOLL_CTL_MOD: it replaces all bits", "the knote of EVFILT_WRITE: delete it"),
    );
    register(&queue, &socket, 3, READABLE, &expected)?;
    let words = said(&queue, 3, &expected)?;
    if (words.readable, words.writable) != (true, false) {
        return expected.but(list(&[words]));
    }
    (&socket).read_exact(&mut [0; 5])?;
    quiet(&queue, A_MOMENT, &expected)?;

    let expected = expect(
        "silence: nothing to read, and the other side takes nothing more",
        "whether you report what the kernel did not say",
    );
    register(&queue, &socket, 4, BOTH, &expected)?;
    while (&socket).write(&[0; 4096]).is_ok() {}
    quiet(&queue, A_MOMENT, &expected)?;
    let expected = expect("writable: the other side has read everything", either("EPOLLOUT", "EVFILT_WRITE"));
    peer.set_nonblocking(true)?;
    while peer.read(&mut [0; 4096]).is_ok() {}
    let words = said(&queue, 4, &expected)?;
    if (words.readable, words.writable) != (false, true) {
        return expected.but(list(&[words]));
    }
    Ok(())
}

fn deregister<Q: Queue>() -> Outcome {
    let queue = Q::new()?;
    let (socket, mut peer) = pair()?;
    peer.write_all(b"hello")?;
    for interests in [BOTH, READABLE, Interests { mode: Mode::OneShot, ..READABLE }] {
        queue.register(source(&socket), 3, interests)?;
        let expected = expect("an event with token 3, which is registered", "`register`");
        said(&queue, 3, &expected)?;
        let expected = expect(
            "`deregister` of a source that is registered",
            either("EPOLL_CTL_DEL", "EV_DELETE for both filters; ENOENT from one of them is no error"),
        );
        if let Err(error) = queue.deregister(source(&socket)) {
            return expected.but(describe(&error));
        }
        let expected = expect(
            "silence: token 3 was deregistered",
            either("`epoll_ctl`'s second argument: EPOLL_CTL_DEL is 2", "EV_DELETE, for both filters"),
        );
        quiet(&queue, A_MOMENT, &expected)?;
        let expected = expect(
            "`NotFound` from a second `deregister`",
            either("the kernel's ENOENT: return it", "both receipts: if neither knote was there"),
        );
        match queue.deregister(source(&socket)) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return expected.but(describe(&error)),
            Ok(()) => return expected.but("`Ok`"),
        }
    }
    let expected = expect("an event: the source was registered again", "`register`");
    register(&queue, &socket, 4, READABLE, &expected)?;
    one(&queue, Some(A_SECOND), 4, &expected)
}

fn end_of_stream<Q: Queue>() -> Outcome {
    let queue = Q::new()?;
    let (socket, mut peer) = pair()?;
    queue.register(source(&socket), 1, READABLE)?;
    let look = either("EPOLLRDHUP: you must ask for it, and look for it", "EV_EOF, in `flags`");
    let expected = expect("readable, not closed: bytes have arrived", look);
    peer.write_all(b"hello")?;
    let words = said(&queue, 1, &expected)?;
    if words.read_closed {
        return expected.but(list(&[words]));
    }
    let expected = expect("readable and read_closed: the other side has shut down its writing", look);
    peer.shutdown(std::net::Shutdown::Write)?;
    let words = said(&queue, 1, &expected)?;
    if !(words.readable && words.read_closed) {
        return expected.but(list(&[words]));
    }
    (&socket).read_exact(&mut [0; 5])?;
    let words = said(&queue, 1, &expected)?;
    if !(words.readable && words.read_closed) {
        return expected.but(list(&[words]));
    }

    // The end of a pipe: on Linux it is EPOLLHUP alone.
    let (reader, writer) = pipe()?;
    queue.register(source(&reader), 2, READABLE)?;
    queue.deregister(source(&socket))?;
    let expected = expect(
        "readable and read_closed: nobody can write to this pipe any more",
        either("EPOLLHUP: it comes unasked, and alone; a read will not block then", "EV_EOF, in `flags`"),
    );
    drop(writer);
    let words = said(&queue, 2, &expected)?;
    if !(words.readable && words.read_closed) {
        return expected.but(list(&[words]));
    }
    if !KQUEUE {
        // The other end of a pipe, watched for reading: EPOLLERR alone.
        queue.deregister(source(&reader))?;
        let (reader, writer) = pipe()?;
        queue.register(source(&writer), 3, READABLE)?;
        let expected = expect(
            "readable and writable: nobody can read from this pipe any more",
            "EPOLLERR: it comes unasked, and alone; neither a read nor a write will block then",
        );
        drop(reader);
        let words = said(&queue, 3, &expected)?;
        if !(words.readable && words.writable) {
            return expected.but(list(&[words]));
        }
    }
    Ok(())
}

fn signals<Q: Queue>() -> Outcome {
    // SAFETY: the handler does nothing, which is always allowed.
    unsafe { ffi::signal(SIGALRM, on_signal) };
    let queue = Q::new()?;
    let (socket, peer) = pair()?;
    queue.register(source(&socket), 1, READABLE)?;
    let time = Duration::from_millis(200);
    let expected = expect(
        "a poll of 200 ms, with nothing to report, that takes 200 ms, although a signal arrives every 20 ms",
        "EINTR: neither an end nor an event. Wait again, with the time that is left until the deadline",
    );
    let start = Instant::now();
    disturbed(|| quiet(&queue, time, &expected))?;
    if start.elapsed() > 2 * A_SECOND {
        return expected.but(format!("it took {:?}: each signal made it longer", start.elapsed()));
    }
    let expected = expect(
        "a poll without a timeout that goes on after a signal, until bytes arrive",
        "EINTR, where there is no deadline",
    );
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(time);
            (&peer).write_all(b"hello")
        });
        disturbed(|| one(&queue, None, 1, &expected))
    })?;
    let expected = expect(
        "`Interrupted` from `poll`: the end of the loop is no signal",
        "how `poll` tells EINTR from the end: by where it comes from",
    );
    queue.close_loop()?;
    is_end(disturbed(|| queue.poll(&mut Vec::new(), None)), &expected)
}

fn thousand<Q: Queue>() -> Outcome {
    let count = raise_limit(1000);
    if count < 1000 {
        println!("this system lets a process have {} pairs of sockets, so it is tried with these", count);
    }
    checks::many::<Q>(count)?;
    Ok(())
}

// What the checks are made of.

/// Whether a queue has an event: it is readable then, like any source.
fn has_news(queue: &impl Queue, timeout: Duration) -> bool {
    let mut question = ffi::pollfd { fd: queue.as_fd().as_raw_fd(), events: POLLIN, revents: 0 };
    // SAFETY: the kernel reads and writes one record, which outlives the call.
    unsafe { ffi::poll(&mut question, 1, timeout.as_millis() as c_int) == 1 }
}

fn fcntl_getfd(number: RawFd) -> c_int {
    // SAFETY: the call takes no memory, and a number that is not open is an error.
    unsafe { ffi::fcntl(number, F_GETFD) }
}

fn pipe() -> io::Result<(File, File)> {
    let mut ends = [0; 2];
    // SAFETY: the kernel writes two descriptors.
    if unsafe { ffi::pipe(ends.as_mut_ptr()) } == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: both are new, so nobody else will close them.
    Ok(unsafe { (File::from_raw_fd(ends[0]), File::from_raw_fd(ends[1])) })
}

/// Runs `wait` while this thread gets a signal every 20 ms, for three seconds at most.
fn disturbed<T>(wait: impl FnOnce() -> T) -> T {
    let is_over = AtomicBool::new(false);
    // SAFETY: the call takes nothing.
    let this = unsafe { ffi::pthread_self() };
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..150 {
                thread::sleep(Duration::from_millis(20));
                if is_over.load(Ordering::Acquire) {
                    return;
                }
                // SAFETY: that thread waits for this one, so it is there.
                unsafe { ffi::pthread_kill(this, SIGALRM) };
            }
        });
        let result = wait();
        is_over.store(true, Ordering::Release);
        result
    })
}

extern "C" fn on_signal(_: c_int) {}

/// Asks for room for that many pairs of sockets, and says how many there is room for.
fn raise_limit(pairs: usize) -> usize {
    let needed = 2 * pairs as ffi::rlim_t + 50;
    let mut limit = ffi::rlimit { now: 0, most: 0 };
    // SAFETY: the kernel writes one record.
    unsafe { ffi::getrlimit(RLIMIT_NOFILE, &mut limit) };
    if limit.now < needed {
        limit.now = needed.min(limit.most);
        // SAFETY: the kernel reads one record.
        unsafe { ffi::setrlimit(RLIMIT_NOFILE, &limit) };
        // SAFETY: the kernel writes one record.
        unsafe { ffi::getrlimit(RLIMIT_NOFILE, &mut limit) };
    }
    (limit.now.min(needed) as usize).saturating_sub(50) / 2
}

const POLLIN: c_short = 1;
const F_GETFD: c_int = 1;
const FD_CLOEXEC: c_int = 1;
const SIGALRM: c_int = 14;
const RLIMIT_NOFILE: c_int = if cfg!(any(target_os = "linux", target_os = "android")) { 7 } else { 8 };

#[allow(non_camel_case_types)]
mod ffi {
    use std::os::raw::{c_int, c_short};

    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub type rlim_t = std::os::raw::c_ulong;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    pub type rlim_t = u64;

    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub type nfds_t = std::os::raw::c_ulong;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    pub type nfds_t = std::os::raw::c_uint;

    #[repr(C)]
    pub struct pollfd {
        pub fd: c_int,
        pub events: c_short,
        pub revents: c_short,
    }

    #[repr(C)]
    pub struct rlimit {
        pub now: rlim_t,
        pub most: rlim_t,
    }

    extern "C" {
        pub fn poll(questions: *mut pollfd, count: nfds_t, millis: c_int) -> c_int;
        pub fn fcntl(fd: c_int, command: c_int, ...) -> c_int;
        pub fn pipe(ends: *mut c_int) -> c_int;
        pub fn signal(number: c_int, handler: extern "C" fn(c_int)) -> usize;
        pub fn pthread_self() -> usize;
        pub fn pthread_kill(thread: usize, number: c_int) -> c_int;
        pub fn getrlimit(what: c_int, limit: *mut rlimit) -> c_int;
        pub fn setrlimit(what: c_int, limit: *const rlimit) -> c_int;
    }
}
