//! Nothing leaks: descriptors, handles and memory are back to where they were, and a child process inherits none.

mod util;

use minimio::{Events, Poll, Registrator, TcpListener, TcpStream, UdpSocket, Waker};
use std::io::Write;
use std::net;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use util::*;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The tests of this program count what belongs to the whole process, so they run one after another.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `work` until the process is warm, then again, and expects handles and heap to be as before.
///
/// The harness has threads and notes of its own, so a difference counts only if it is there every time; a leak of
/// ours is.
#[track_caller]
fn expect_no_leak(mut work: impl FnMut()) {
    for _ in 0..3 {
        work();
    }
    let mut leaks = Vec::new();
    for _ in 0..5 {
        let before = (open_handles(), BYTES.load(Ordering::Relaxed));
        for _ in 0..5 {
            work();
        }
        let after = (open_handles(), BYTES.load(Ordering::Relaxed));
        if after.0 <= before.0 && after.1 <= before.1 {
            return;
        }
        leaks.push((before, after));
    }
    panic!("handles and heap bytes before and after: {:?}", leaks);
}

/// Runs `work` with a queue, drops what it returns, and expects no more handles than before. The harness has some as well, so
/// that here too a difference counts only if it is there every time.
#[track_caller]
fn expect_no_leak_once<T>(work: impl Fn(Poll, &Registrator) -> T) {
    let mut leaks = Vec::new();
    for _ in 0..5 {
        let poll = Poll::new().unwrap();
        // It keeps the queue itself.
        let registrator = poll.registrator();
        let before = open_handles();
        drop(work(poll, &registrator));
        let after = open_handles();
        if after <= before {
            return;
        }
        leaks.push((before, after));
    }
    panic!("handles before and after: {:?}", leaks);
}

/// The fewest allocations that `work` makes in several tries: what the harness does meanwhile is not in all of them.
fn allocations(mut work: impl FnMut()) -> usize {
    let tries = (0..5).map(|_| {
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        work();
        ALLOCATIONS.load(Ordering::Relaxed) - before
    });
    tries.min().unwrap()
}

#[test]
fn a_queue_gives_everything_back() {
    let _alone = alone();
    expect_no_leak(|| {
        let mut poll = Poll::new().unwrap();
        let registrator = poll.registrator();
        let waker = Waker::new(&registrator, 1).unwrap();
        let unused = Waker::new(&registrator, 2).unwrap();
        let (stream, mut peer) = pair();
        registrator.register(&stream, 3, READABLE | LEVEL).unwrap();
        peer.write_all(b"x").unwrap();
        expect_event(&mut poll, 3);
        registrator.deregister(&stream).unwrap();
        waker.wake().unwrap();
        expect_event(&mut poll, 1);
        waker.wake().unwrap();
        drop((waker, unused));
        registrator.close_loop().unwrap();
        expect_closed(poll.poll(&mut Events::new(), None));
    });
}

#[test]
fn a_queue_dropped_in_the_middle_of_things_gives_everything_back() {
    let _alone = alone();
    expect_no_leak(|| {
        let poll = Poll::new().unwrap();
        let pairs: Vec<_> = (0..8).map(|_| pair()).collect();
        for (token, (stream, _)) in pairs.iter().enumerate() {
            let mode = [READABLE, LEVEL, EDGE][token % 3];
            poll.registry().register(stream, token, READABLE | WRITABLE | mode).unwrap();
        }
        let waker = Waker::new(&poll.registrator(), 99).unwrap();
        waker.wake().unwrap();
        drop(poll);
    });
}

#[test]
fn sources_closed_without_deregister_leave_nothing_behind() {
    let _alone = alone();
    let mut poll = Poll::new().unwrap();
    let mut events = Events::with_capacity(64);
    expect_no_leak(|| {
        for token in 0..30 {
            let (stream, mut peer) = pair();
            let mode = [READABLE, LEVEL, EDGE][token % 3];
            poll.registry().register(&stream, token, READABLE | mode).unwrap();
            if token % 2 == 0 {
                peer.write_all(b"x").unwrap();
            }
        }
        while poll.poll(&mut events, Some(0)).unwrap() > 0 {}
    });
    expect_nothing(&mut poll);
}

#[test]
fn listeners_and_datagram_sockets_that_come_and_go_leave_nothing_behind() {
    let _alone = alone();
    let mut poll = Poll::new().unwrap();
    let mut events = Events::with_capacity(64);
    expect_no_leak(|| {
        for token in 0..30 {
            let mode = READABLE | [READABLE, LEVEL, EDGE][token % 3];
            let listener = TcpListener::bind(localhost()).unwrap();
            let datagrams = UdpSocket::bind(localhost()).unwrap();
            poll.registry().register(&listener, token, mode).unwrap();
            poll.registry().register(&datagrams, token, mode).unwrap();
            let _client = net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            datagrams.send_to(b"x", datagrams.local_addr().unwrap()).unwrap();
            assert!(poll.poll_timeout(&mut events, DEADLINE).unwrap() > 0);
            // Some leave with all that has come still in them.
            if token % 2 == 0 {
                poll.registry().deregister(&listener).unwrap();
                let (accepted, _) = accept_one(&listener);
                poll.registry().register(&accepted, token, mode).unwrap();
                let _ = listener.accept();
                while datagrams.recv(&mut [0; 8]).is_ok() {}
            }
        }
        while poll.poll(&mut events, Some(0)).unwrap() > 0 {}
    });
    expect_nothing(&mut poll);
}

#[test]
fn wakers_that_come_and_go_leave_nothing_behind() {
    let _alone = alone();
    let mut poll = Poll::new().unwrap();
    let registrator = poll.registrator();
    expect_no_leak(|| {
        for token in 0..20 {
            let waker = Waker::new(&registrator, token).unwrap();
            for _ in 0..token % 3 {
                waker.wake().unwrap();
            }
        }
        // Two polls with room: one to hand the wakes out, one that finds nothing more.
        let mut events = Events::with_capacity(64);
        while poll.poll(&mut events, Some(1)).unwrap() > 0 {}
    });
}

#[test]
fn wakers_that_come_and_go_leave_nothing_behind_though_every_poll_is_full() {
    let _alone = alone();
    let mut poll = Poll::new().unwrap();
    let registrator = poll.registrator();
    let mut events = Events::with_capacity(1);
    // Each is dropped before its event is polled, or after.
    expect_no_leak(|| {
        for token in 0..20 {
            let waker = Waker::new(&registrator, token).unwrap();
            waker.wake().unwrap();
            let _kept = (token % 2 == 0).then_some(waker);
            assert_eq!(poll.poll_timeout(&mut events, DEADLINE).unwrap(), 1);
            assert_eq!(events[0].id(), token);
        }
    });
}

#[test]
fn wakers_that_come_and_go_leave_nothing_behind_while_something_is_always_ready() {
    let _alone = alone();
    let mut poll = Poll::new().unwrap();
    let registrator = poll.registrator();
    let (stream, _peer) = pair();
    registrator.register(&stream, 0, WRITABLE | LEVEL).unwrap();
    // So there is never a batch with room.
    let mut events = Events::with_capacity(1);
    expect_no_leak(|| {
        for token in 1..20 {
            Waker::new(&registrator, token).unwrap().wake().unwrap();
            while poll.poll_timeout(&mut events, DEADLINE).unwrap() == 1 && events[0].id() != token {}
            assert_eq!(events[0].id(), token);
        }
    });
}

#[test]
fn a_waker_that_outlives_the_loop_leaves_nothing_behind() {
    let _alone = alone();
    expect_no_leak_once(|poll, registrator| {
        let rung = Waker::new(registrator, 1).unwrap();
        rung.wake().unwrap();
        registrator.close_loop().unwrap();
        (rung, poll)
    });
    expect_no_leak_once(|poll, registrator| {
        let rung = Waker::new(registrator, 1).unwrap();
        rung.wake().unwrap();
        drop(poll);
        rung
    });
}

#[test]
fn a_crowd_of_threads_leaves_nothing_behind() {
    let _alone = alone();
    expect_no_leak(|| {
        let mut poll = Poll::new().unwrap();
        let registrator = poll.registrator();
        let (shared, mut peer) = pair();
        peer.write_all(b"x").unwrap();
        thread::scope(|scope| {
            for token in 0..4 {
                let (registrator, shared) = (registrator.clone(), &shared);
                scope.spawn(move || {
                    for round in 0..20 {
                        let (own, _peer) = pair();
                        let mode = [READABLE, LEVEL, EDGE][round % 3];
                        // The first thread to be done closes the loop; then all this is refused.
                        let _ = registrator.register(&own, token, WRITABLE | mode);
                        let _ = registrator.register(shared, 9, READABLE | mode);
                        if let Ok(waker) = Waker::new(&registrator, token) {
                            waker.wake().unwrap();
                        }
                        if round % 2 == 0 {
                            let _ = registrator.deregister(&own);
                        }
                    }
                    let _ = registrator.close_loop();
                });
            }
            let mut events = Events::with_capacity(3);
            while poll.poll(&mut events, None).is_ok() {}
        });
    });
}

#[test]
fn a_failed_connect_leaves_nothing_behind() {
    let _alone = alone();
    let (_owner, refusing) = refusing_address();
    let mut poll = Poll::new().unwrap();
    let mut events = Events::with_capacity(4);
    // A refusal may take its time, so it is not many.
    let mut work = || {
        if let Ok(stream) = TcpStream::connect_nonblocking(refusing) {
            poll.registry().register(&stream, 1, WRITABLE).unwrap();
            assert_eq!(poll.poll_timeout(&mut events, DEADLINE).unwrap(), 1);
        }
    };
    work();
    assert!(handles_left_by(work) <= 0);
}

#[test]
fn a_warm_poll_allocates_nothing() {
    let _alone = alone();
    let mut poll = Poll::new().unwrap();
    let waker = Waker::new(&poll.registrator(), 1000).unwrap();
    let pairs: Vec<_> = (0..16).map(|_| pair()).collect();
    let mut events = Events::with_capacity(8);
    let mut work = || {
        for (token, (stream, _)) in pairs.iter().enumerate() {
            let mode = [WRITABLE, LEVEL, EDGE][token % 3];
            poll.registry().register(stream, token, WRITABLE | mode).unwrap();
        }
        for _ in 0..10 {
            waker.wake().unwrap();
            assert!(poll.poll_timeout(&mut events, DEADLINE).unwrap() > 0);
        }
        poll.poll(&mut events, Some(0)).unwrap();
        poll.poll_timeout(&mut events, std::time::Duration::from_micros(1)).unwrap();
    };
    work();
    assert_eq!(allocations(work), 0);
}

#[cfg(any(target_os = "linux", target_os = "android"))]
#[test]
fn a_registration_takes_no_memory() {
    let _alone = alone();
    let poll = Poll::new().unwrap();
    let pairs: Vec<_> = (0..16).map(|_| pair()).collect();
    let register_all = || {
        for (token, (stream, _)) in pairs.iter().enumerate() {
            poll.registry().register(stream, token, READABLE).unwrap();
            poll.registry().reregister(stream, token, WRITABLE).unwrap();
            poll.registry().deregister(stream).unwrap();
        }
    };
    assert_eq!(allocations(register_all), 0);
}

#[cfg(unix)]
#[test]
fn no_descriptor_is_inherited_by_a_child() {
    const FD_CLOEXEC: i32 = 1;
    let _alone = alone();
    let before = open_descriptors();
    let poll = Poll::new().unwrap();
    let _waker = Waker::new(&poll.registrator(), 1).unwrap();
    let listener = TcpListener::bind(localhost()).unwrap();
    let _datagrams = UdpSocket::bind(localhost()).unwrap();
    let address = listener.local_addr().unwrap();
    let _streams = [TcpStream::connect(address).unwrap(), TcpStream::connect_nonblocking(address).unwrap()];
    let _clone = _streams[0].try_clone().unwrap();
    let _accepted = accept_one(&listener);
    let _pipe = minimio::pipe().unwrap();
    let ours: Vec<_> = open_descriptors().into_iter().filter(|fd| !before.contains(fd)).collect();
    assert!(ours.len() >= 10, "{:?}", ours);
    for fd in ours {
        assert_eq!(descriptor_flags(fd).unwrap() & FD_CLOEXEC, FD_CLOEXEC, "descriptor {}", fd);
    }
}
