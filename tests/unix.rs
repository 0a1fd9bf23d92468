//! What only Unix has: pipes, descriptors of all kinds, signals, a queue inside a queue.
#![cfg(unix)]

mod util;

use minimio::{Events, Poll, Waker};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net;
use std::os::raw::c_int;
use std::os::unix::io::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::thread::{JoinHandleExt, RawPthread};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};
use util::*;

/// Signals are numbered in two ways, MIPS aside.
const SIGUSR1: c_int = if cfg!(any(target_arch = "mips", target_arch = "mips64")) {
    16
} else if cfg!(any(target_os = "linux", target_os = "android")) {
    10
} else {
    30
};
const SIGUSR2: c_int = if cfg!(any(target_arch = "mips", target_arch = "mips64")) {
    17
} else if cfg!(any(target_os = "linux", target_os = "android")) {
    12
} else {
    31
};

extern "C" {
    fn signal(number: c_int, handler: usize) -> usize;
    fn pthread_kill(thread: RawPthread, number: c_int) -> c_int;
}

static SIGNALS: AtomicUsize = AtomicUsize::new(0);

extern "C" fn count_signal(_: c_int) {
    SIGNALS.fetch_add(1, Ordering::Relaxed);
}

fn handle(number: c_int, handler: extern "C" fn(c_int)) {
    // SAFETY: both handlers of this file do only what a signal handler may do.
    unsafe { signal(number, handler as usize) };
}

/// Sends the thread a signal again and again until it has ended.
fn pester<T>(thread: thread::JoinHandle<T>, done: &AtomicBool) -> T {
    let pthread = thread.as_pthread_t();
    while !done.load(Ordering::Acquire) {
        // SAFETY: the thread was not joined yet, so its handle is valid.
        unsafe { pthread_kill(pthread, SIGUSR1) };
        thread::yield_now();
    }
    thread.join().unwrap()
}

#[test]
fn a_signal_does_not_end_a_wait_and_does_not_lengthen_it() {
    handle(SIGUSR1, count_signal);
    static DONE: AtomicBool = AtomicBool::new(false);
    let before = SIGNALS.load(Ordering::Relaxed);
    let waiter = thread::spawn(|| {
        let mut poll = Poll::new().unwrap();
        let begin = Instant::now();
        let coarse = poll.poll(&mut Events::new(), Some(150));
        let coarse_took = begin.elapsed();
        let begin = Instant::now();
        let fine = poll.poll_timeout(&mut Events::new(), Duration::from_micros(150_500));
        let fine_took = begin.elapsed();
        DONE.store(true, Ordering::Release);
        (coarse, coarse_took, fine, fine_took)
    });
    let (coarse, coarse_took, fine, fine_took) = pester(waiter, &DONE);
    assert_eq!((coarse.unwrap(), fine.unwrap()), (0, 0));
    assert!(coarse_took >= Duration::from_millis(150), "{:?}", coarse_took);
    assert!(fine_took >= Duration::from_micros(150_500), "{:?}", fine_took);
    // Signals came all the while. Had each begun the wait anew, it would have gone on for as long as they came.
    assert!(SIGNALS.load(Ordering::Relaxed) > before);
}

#[test]
fn a_signal_does_not_end_a_wait_without_timeout() {
    handle(SIGUSR1, count_signal);
    static DONE: AtomicBool = AtomicBool::new(false);
    let mut poll = Poll::new().unwrap();
    let waker = Waker::new(&poll.registrator(), 5).unwrap();
    let before = SIGNALS.load(Ordering::Relaxed);
    let waiter = thread::spawn(move || {
        let mut events = Events::new();
        let n = poll.poll(&mut events, None);
        DONE.store(true, Ordering::Release);
        (n, events)
    });
    let pthread = waiter.as_pthread_t();
    while SIGNALS.load(Ordering::Relaxed) < before + 20 {
        // SAFETY: the thread was not joined yet, so its handle is valid.
        unsafe { pthread_kill(pthread, SIGUSR1) };
        thread::yield_now();
    }
    assert!(!DONE.load(Ordering::Acquire), "the poll ended without an event");
    waker.wake().unwrap();
    let (n, events) = waiter.join().unwrap();
    assert_eq!(n.unwrap(), 1);
    assert_eq!(events[0].id(), 5);
}

#[test]
fn a_signal_handler_can_wake_the_loop() {
    static WAKER: AtomicPtr<Waker> = AtomicPtr::new(ptr::null_mut());
    extern "C" fn wake(_: c_int) {
        // SAFETY: the pointer is null or that of a leaked waker.
        if let Some(waker) = unsafe { WAKER.load(Ordering::Acquire).as_ref() } {
            let _ = waker.wake();
        }
    }
    let mut poll = Poll::new().unwrap();
    let waker = Waker::new(&poll.registrator(), 6).unwrap();
    WAKER.store(Box::into_raw(Box::new(waker)), Ordering::Release);
    handle(SIGUSR2, wake);

    let (ready, waits) = mpsc::channel();
    let waiter = thread::spawn(move || {
        let mut events = Events::new();
        ready.send(()).unwrap();
        poll.poll_timeout(&mut events, DEADLINE).unwrap();
        events
    });
    waits.recv().unwrap();
    // SAFETY: the thread was not joined yet, so its handle is valid.
    unsafe { pthread_kill(waiter.as_pthread_t(), SIGUSR2) };
    let events = waiter.join().unwrap();
    assert_eq!(events[0].id(), 6);
}

#[test]
fn a_pipe_is_a_source_as_it_is() {
    let mut poll = Poll::new().unwrap();
    let (read, write) = pipe_pair();
    poll.registry().register(&read, 1, READABLE | LEVEL).unwrap();
    poll.registry().register(&write, 2, WRITABLE).unwrap();
    assert!(expect_event(&mut poll, 2).writable);
    File::from(write.try_clone().unwrap()).write_all(b"x").unwrap();
    assert!(expect_event(&mut poll, 1).readable);
    File::from(read.try_clone().unwrap()).read_exact(&mut [0]).unwrap();
    expect_nothing(&mut poll);
}

#[test]
fn a_pipe_whose_writer_is_gone_is_readable_to_its_end() {
    let mut poll = Poll::new().unwrap();
    let (read, write) = pipe_pair();
    poll.registry().register(&read, 1, READABLE | LEVEL).unwrap();
    File::from(write).write_all(b"last").unwrap();
    let said = expect_event(&mut poll, 1);
    assert!(said.readable && said.read_closed);
    let mut rest = String::new();
    File::from(read).read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "last");
}

/// Writes into a pipe until it is full.
fn fill_pipe(write: &OwnedFd) {
    // The call knows nothing of sockets, and a duplicate shares the mode.
    UnixStream::from(write.try_clone().unwrap()).set_nonblocking(true).unwrap();
    fill(&File::from(write.try_clone().unwrap()));
}

/// When it is registered, and what is in it.
const PIPES: [(bool, bool); 4] = [(true, false), (true, true), (false, false), (false, true)];

#[test]
fn a_pipe_whose_reader_is_gone_is_writable_and_write_closed() {
    for (early, full) in PIPES {
        for mode in [WRITABLE, WRITABLE | EDGE, WRITABLE | LEVEL] {
            println!("early: {}, full: {}, {:?}", early, full, mode);
            let mut poll = Poll::new().unwrap();
            let (read, write) = pipe_pair();
            let expect_end = |poll: &mut Poll| {
                let said = expect_event(poll, 1);
                // What Linux says of a full one it says of any error.
                let is_told = said.write_closed || (full && said.error);
                assert!(said.writable && is_told && !said.readable | said.error, "{:?}", said);
            };
            if full {
                fill_pipe(&write);
            }
            if early {
                poll.registry().register(&write, 1, mode).unwrap();
                if full {
                    expect_nothing(&mut poll);
                } else {
                    assert!(expect_event(&mut poll, 1).writable);
                    // Not spent, if it was one.
                    poll.registry().reregister(&write, 1, mode).unwrap();
                    assert!(mode.is_oneshot() || expect_event(&mut poll, 1).writable);
                }
            }
            drop(read);
            if !early {
                poll.registry().register(&write, 1, mode).unwrap();
            }
            expect_end(&mut poll);
            if mode.is_level() {
                expect_end(&mut poll);
                expect_end(&mut poll);
            }
            if mode.is_oneshot() {
                expect_nothing(&mut poll);
            }
            // It is registered all the while.
            poll.registry().reregister(&write, 1, mode).unwrap();
            expect_end(&mut poll);
            poll.registry().deregister(&write).unwrap();
            expect_kind(poll.registry().deregister(&write), ErrorKind::NotFound);
            expect_nothing(&mut poll);
        }
    }
}

#[test]
fn a_pipe_whose_reader_is_gone_has_ended_in_both_directions_if_both_were_asked_for() {
    for (early, full) in PIPES {
        println!("early: {}, full: {}", early, full);
        let mut poll = Poll::new().unwrap();
        let (read, write) = pipe_pair();
        if full {
            fill_pipe(&write);
        }
        if early {
            poll.registry().register(&write, 1, READABLE | WRITABLE | LEVEL).unwrap();
        }
        drop(read);
        if !early {
            poll.registry().register(&write, 1, READABLE | WRITABLE | LEVEL).unwrap();
        }
        for _ in 0..3 {
            let said = expect_event(&mut poll, 1);
            assert!(said.writable && said.readable, "{:?}", said);
            assert!(said.error || said.read_closed && said.write_closed, "{:?}", said);
        }
    }
}

#[test]
fn a_pipe_that_was_reported_and_broke_afterwards_is_still_registered() {
    for mode in [WRITABLE, WRITABLE | EDGE, WRITABLE | LEVEL] {
        let mut poll = Poll::new().unwrap();
        let (read, write) = pipe_pair();
        poll.registry().register(&write, 1, mode).unwrap();
        assert!(expect_event(&mut poll, 1).writable);
        drop(read);
        if mode.is_oneshot() {
            expect_nothing(&mut poll);
        } else {
            assert!(expect_event(&mut poll, 1).write_closed);
        }
        poll.registry().deregister(&write).unwrap();
        // Nothing of it meets the next one under its number.
        drop(write);
        let (_read, write) = pipe_pair();
        expect_kind(poll.registry().reregister(&write, 1, mode), ErrorKind::NotFound);
        expect_nothing(&mut poll);
    }
}

#[test]
fn a_local_socket_is_a_source_as_it_is() {
    let mut poll = Poll::new().unwrap();
    let (near, mut far) = UnixStream::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    poll.registry().register(&near, 1, READABLE | EDGE).unwrap();
    expect_nothing(&mut poll);
    far.write_all(b"x").unwrap();
    assert!(expect_event(&mut poll, 1).readable);
    drop(far);
    assert!(expect_event(&mut poll, 1).read_closed);
}

#[test]
fn whatever_has_a_descriptor_is_a_source_behind_its_trait() {
    let mut poll = Poll::new().unwrap();
    let (reader, _writer) = pipe_pair();
    let listener = listener();
    let sources: [&dyn AsFd; 2] = [&reader, &listener];
    for (token, source) in sources.into_iter().enumerate() {
        poll.registry().register(source, token, READABLE).unwrap();
    }
    let _peer = net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    assert!(expect_event(&mut poll, 1).readable);
}

#[test]
fn a_borrowed_descriptor_is_a_source() {
    let mut poll = Poll::new().unwrap();
    let (read, write) = pipe_pair();
    poll.registry().register(&read.as_fd(), 1, READABLE).unwrap();
    File::from(write).write_all(b"x").unwrap();
    assert!(expect_event(&mut poll, 1).readable);
    poll.registry().deregister(&read).unwrap();
}

#[cfg(any(target_os = "linux", target_os = "android"))]
#[test]
fn a_regular_file_gets_the_kernels_own_answer() {
    let mut poll = Poll::new().unwrap();
    let file = File::open(std::env::current_exe().unwrap()).unwrap();
    const EPERM: i32 = 1;
    for result in [
        poll.registry().register(&file, 1, READABLE),
        poll.registry().reregister(&file, 1, READABLE),
        poll.registry().deregister(&file),
    ] {
        assert_eq!(result.unwrap_err().raw_os_error(), Some(EPERM));
    }
    // The queue is as good as before.
    let (stream, mut peer) = pair();
    poll.registry().register(&stream, 1, READABLE).unwrap();
    peer.write_all(b"x").unwrap();
    assert!(expect_event(&mut poll, 1).readable);
}

#[test]
fn one_queue_can_watch_another() {
    let mut outer = Poll::new().unwrap();
    let mut inner = Poll::new().unwrap();
    let (stream, mut peer) = pair();
    inner.registry().register(&stream, 1, READABLE | LEVEL).unwrap();
    outer.registry().register(&inner, 9, READABLE | LEVEL).unwrap();
    assert!(inner.as_raw_fd() != outer.as_raw_fd());
    expect_nothing(&mut outer);

    peer.write_all(b"x").unwrap();
    assert!(expect_event(&mut outer, 9).readable);
    assert!(expect_event(&mut inner, 1).readable);
    assert_eq!(drain(&stream), b"x");
    assert_eq!(inner.poll(&mut Events::new(), Some(0)).unwrap(), 0);
    expect_nothing(&mut outer);

    // A wake and the end are news too.
    let waker = Waker::new(&inner.registrator(), 2).unwrap();
    waker.wake().unwrap();
    assert!(expect_event(&mut outer, 9).readable);
    assert!(expect_event(&mut inner, 2).readable);
    expect_nothing(&mut outer);
    inner.registrator().close_loop().unwrap();
    assert!(expect_event(&mut outer, 9).readable);
    expect_closed(inner.poll(&mut Events::new(), None));
}

#[test]
fn one_source_can_be_in_two_queues() {
    let (mut first, mut second) = (Poll::new().unwrap(), Poll::new().unwrap());
    let (stream, mut peer) = pair();
    first.registry().register(&stream, 1, READABLE).unwrap();
    second.registry().register(&stream, 2, READABLE).unwrap();
    peer.write_all(b"x").unwrap();
    assert!(expect_event(&mut first, 1).readable);
    assert!(expect_event(&mut second, 2).readable);
}

#[test]
fn a_datagram_socket_with_an_error_to_pick_up_is_not_closed() {
    let mut poll = Poll::new().unwrap();
    let socket = std::net::UdpSocket::bind(localhost()).unwrap();
    socket.set_nonblocking(true).unwrap();
    // Nobody is there: the port was given back.
    let nobody = std::net::UdpSocket::bind(localhost()).unwrap().local_addr().unwrap();
    socket.connect(nobody).unwrap();
    socket.send(b"anybody?").unwrap();
    poll.registry().register(&socket, 1, READABLE | WRITABLE | LEVEL).unwrap();
    let said = expect_until(&mut poll, 1, |said| said.readable);
    assert!(said.writable && !said.write_closed && !said.read_closed, "{:?}", said);
    expect_kind(socket.recv(&mut [0; 8]), ErrorKind::ConnectionRefused);
}

#[test]
fn a_closed_number_is_not_touched_by_a_waker_or_registrator_that_is_left() {
    let poll = Poll::new().unwrap();
    let registrator = poll.registrator();
    let waker = Waker::new(&registrator, 1).unwrap();
    drop(poll);
    // These may have got the numbers of what was closed, if anything was.
    let pipes: Vec<_> = (0..8).map(|_| pipe_pair()).collect();
    waker.wake().unwrap();
    expect_closed(registrator.register(&pipes[0].0, 2, READABLE));
    expect_closed(registrator.close_loop());
    drop((waker, registrator));
    for (read, write) in pipes {
        drop(write);
        let mut rest = Vec::new();
        File::from(read).read_to_end(&mut rest).expect("still open, and ours");
        assert!(rest.is_empty(), "a wake was written into somebody else's descriptor");
    }
}

/// A signal handler that wakes interrupts code that may be about to look at `errno`.
#[test]
fn a_wake_leaves_errno_alone() {
    let poll = Poll::new().unwrap();
    let waker = Waker::new(poll.registry(), 1).unwrap();
    for _ in 0..3 {
        std::fs::File::open("/there/is/no/such/file").unwrap_err();
        let before = std::io::Error::last_os_error().raw_os_error();
        waker.wake().unwrap();
        assert_eq!(std::io::Error::last_os_error().raw_os_error(), before);
    }
}
