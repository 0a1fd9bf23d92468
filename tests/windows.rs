//! What only Windows has: sockets known by number, handles that are no sockets, and memory that the kernel holds.
#![cfg(windows)]

mod util;

use minimio::{Events, Interests, Poll, Source, TcpStream};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{self, TcpListener, UdpSocket};
use std::os::raw::c_void;
use std::os::windows::io::{AsRawHandle, AsRawSocket, BorrowedSocket, OwnedSocket, RawSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use std::{env, thread};
use util::*;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The tests of this program wait for a number to be reused and count what belongs to the whole process, so they run one after
/// another.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A socket under a number that has just become free.
#[track_caller]
fn successor<T: AsRawSocket>(number: RawSocket, mut make: impl FnMut() -> T) -> T {
    let mut others = Vec::new();
    for _ in 0..100 {
        let socket = make();
        if socket.as_raw_socket() == number {
            return socket;
        }
        others.push(socket);
    }
    panic!("the number {} does not come back", number);
}

/// How a registration may stand when its socket is closed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    /// The kernel is asked, and there is nothing to tell.
    Waiting,
    /// There is an event, and nobody has polled yet.
    Ready,
    /// A poll has delivered the event.
    Reported,
}

const STAGES: [Stage; 3] = [Stage::Waiting, Stage::Ready, Stage::Reported];

/// Registers `stream`, brings it to `stage`, closes it with `close` and gives its number to another stream, which nobody has
/// registered. Returns that one.
fn closed_and_reused<S: Source + AsRawSocket>(
    poll: &mut Poll,
    stream: S,
    mut peer: net::TcpStream,
    interests: Interests,
    stage: Stage,
    close: impl FnOnce(S),
) -> (net::TcpStream, net::TcpStream) {
    let number = stream.as_raw_socket();
    poll.registry().register(&stream, 1, interests).unwrap();
    if stage != Stage::Waiting {
        peer.write_all(b"x").unwrap();
    }
    if stage == Stage::Reported {
        assert!(expect_event(poll, 1).readable);
    }
    let listener = listener();
    let address = listener.local_addr().unwrap();
    close(stream);
    let stream = successor(number, || net::TcpStream::connect(address).unwrap());
    // The newest connection is the last one in the queue of the listener.
    let own = stream.local_addr().unwrap();
    let peer = loop {
        let (peer, from) = listener.accept().unwrap();
        if from == own {
            break peer;
        }
    };
    (stream, peer)
}

#[test]
fn a_number_that_another_socket_has_now_has_no_registration() {
    let _alone = alone();
    for mode in [READABLE, LEVEL] {
        for stage in STAGES {
            println!("{:?} {:?}", mode, stage);
            let mut poll = Poll::new().unwrap();
            let (stream, peer) = std_pair();
            let (other, mut peer) = closed_and_reused(&mut poll, stream, peer, READABLE | mode, stage, drop);
            let registry = poll.registry();
            expect_kind(registry.reregister(&other, 2, READABLE), ErrorKind::NotFound);
            expect_kind(registry.deregister(&other), ErrorKind::NotFound);
            registry.register(&other, 3, READABLE).unwrap();
            expect_nothing(&mut poll);
            peer.write_all(b"y").unwrap();
            assert!(expect_event(&mut poll, 3).readable);
            poll.registry().deregister(&other).unwrap();
        }
    }
}

#[test]
fn a_closed_socket_of_std_gives_one_last_event_at_most_and_none_for_its_successor() {
    let _alone = alone();
    for mode in [READABLE, LEVEL] {
        for stage in STAGES {
            println!("{:?} {:?}", mode, stage);
            let mut poll = Poll::new().unwrap();
            let (stream, peer) = std_pair();
            let (_other, mut peer) = closed_and_reused(&mut poll, stream, peer, READABLE | mode, stage, drop);
            peer.write_all(b"y").unwrap();
            let mut events = Events::new();
            let last = poll.poll(&mut events, Some(SILENCE_MS)).unwrap();
            assert!(last <= usize::from(stage == Stage::Ready), "{:?}", events);
            expect_nothing(&mut poll);
        }
    }
}

#[test]
fn a_closed_stream_of_ours_gives_nothing_more_under_its_number() {
    let _alone = alone();
    for mode in [READABLE, LEVEL, EDGE] {
        for stage in STAGES {
            println!("{:?} {:?}", mode, stage);
            let mut poll = Poll::new().unwrap();
            let (stream, peer) = pair();
            let (other, mut peer) = closed_and_reused(&mut poll, stream, peer, READABLE | mode, stage, drop);
            peer.write_all(b"y").unwrap();
            expect_nothing(&mut poll);
            expect_kind(poll.registry().deregister(&other), ErrorKind::NotFound);
        }
    }
}

#[test]
fn a_stream_that_has_become_one_of_std_is_still_told_from_its_successor() {
    let _alone = alone();
    for mode in [READABLE, LEVEL, EDGE] {
        println!("{:?}", mode);
        let mut poll = Poll::new().unwrap();
        let (stream, peer) = pair();
        let (other, mut peer) =
            closed_and_reused(&mut poll, stream, peer, READABLE | mode, Stage::Reported, |stream| {
                drop(stream.into_std())
            });
        peer.write_all(b"y").unwrap();
        expect_nothing(&mut poll);
        expect_kind(poll.registry().deregister(&other), ErrorKind::NotFound);
    }
}

#[test]
fn nothing_is_set_on_a_socket() {
    #[repr(C)]
    #[derive(Default)]
    struct IoStatusBlock(usize, usize);
    #[link(name = "ntdll")]
    extern "system" {
        fn NtQueryInformationFile(
            handle: *mut c_void,
            iosb: *mut IoStatusBlock,
            information: *mut u32,
            length: u32,
            class: i32,
        ) -> i32;
    }
    #[allow(non_upper_case_globals)]
    const FileIoCompletionNotificationInformation: i32 = 41;
    let modes = |socket: RawSocket| {
        let mut modes = u32::MAX;
        let (handle, class) = (socket as *mut c_void, FileIoCompletionNotificationInformation);
        // SAFETY: the kernel writes 4 bytes to `modes`.
        let status =
            unsafe { NtQueryInformationFile(handle, &mut IoStatusBlock::default(), &mut modes, 4, class) };
        assert_eq!(status, 0);
        modes
    };
    let _alone = alone();
    let mut poll = Poll::new().unwrap();
    let (near, mut far) = std_pair();
    let before = modes(near.as_raw_socket());
    poll.registry().register(&near, 1, READABLE | LEVEL).unwrap();
    far.write_all(b"x").unwrap();
    expect_event(&mut poll, 1);
    poll.registry().deregister(&near).unwrap();
    let stream = TcpStream::from_std(near).unwrap();
    poll.registry().register(&stream, 1, READABLE | EDGE).unwrap();
    expect_event(&mut poll, 1);
    assert_eq!(modes(stream.as_raw_socket()), before);
}

#[test]
fn a_socket_of_std_moves_to_the_queue_that_registered_it_last() {
    let _alone = alone();
    for mode in [READABLE, LEVEL] {
        let (mut here, mut there) = (Poll::new().unwrap(), Poll::new().unwrap());
        let (stream, mut peer) = std_pair();
        for round in 0..5 {
            here.registry().register(&stream, 10 + round, READABLE | mode).unwrap();
            there.registry().register(&stream, 20 + round, READABLE | mode).unwrap();
            expect_kind(here.registry().deregister(&stream), ErrorKind::NotFound);
            expect_kind(here.registry().reregister(&stream, 3, READABLE), ErrorKind::NotFound);
            peer.write_all(b"x").unwrap();
            assert!(expect_event(&mut there, 20 + round).readable);
            expect_nothing(&mut here);
            assert_eq!(drain(&stream), b"x");
        }
    }
}

#[test]
fn a_closed_socket_does_not_come_back_to_life_as_the_socket_of_another_queue() {
    let _alone = alone();
    for stage in STAGES {
        println!("{:?}", stage);
        let (mut here, mut there) = (Poll::new().unwrap(), Poll::new().unwrap());
        let (stream, peer) = std_pair();
        let (other, mut peer) = closed_and_reused(&mut here, stream, peer, READABLE | LEVEL, stage, drop);
        there.registry().register(&other, 2, READABLE | LEVEL).unwrap();
        expect_kind(here.registry().deregister(&other), ErrorKind::NotFound);
        peer.write_all(b"y").unwrap();
        for _ in 0..3 {
            expect_nothing(&mut here);
            assert!(expect_event(&mut there, 2).readable);
        }
        there.registry().deregister(&other).unwrap();
    }
}

#[test]
fn a_stream_or_its_clone_is_watched_in_one_place_only() {
    let _alone = alone();
    let (mut here, there) = (Poll::new().unwrap(), Poll::new().unwrap());
    let (stream, mut peer) = pair();
    let clone = stream.try_clone().unwrap();
    let other_clone = clone.try_clone().unwrap();
    for mode in [READABLE, LEVEL, EDGE] {
        here.registry().register(&stream, 1, READABLE | mode).unwrap();
        expect_kind(there.registry().register(&stream, 2, READABLE), ErrorKind::Unsupported);
        for poll in [&here, &there] {
            for source in [&clone, &other_clone] {
                expect_kind(poll.registry().register(source, 2, READABLE), ErrorKind::Unsupported);
                expect_kind(poll.registry().reregister(source, 2, READABLE), ErrorKind::NotFound);
                expect_kind(poll.registry().deregister(source), ErrorKind::NotFound);
            }
        }
        // Nothing has changed.
        peer.write_all(b"x").unwrap();
        assert!(expect_event(&mut here, 1).readable);
        assert_eq!(drain(&stream), b"x");
        here.registry().reregister(&stream, 1, READABLE | mode).unwrap();
        here.registry().deregister(&stream).unwrap();
        // The next one may be the clone.
        here.registry().register(&clone, 3, READABLE | mode).unwrap();
        expect_kind(here.registry().register(&stream, 1, READABLE), ErrorKind::Unsupported);
        peer.write_all(b"y").unwrap();
        assert!(expect_event(&mut here, 3).readable);
        assert_eq!(drain(&clone), b"y");
        here.registry().deregister(&clone).unwrap();
    }
    // A clone that is dropped is no longer in the way, and neither is a queue.
    here.registry().register(&clone, 1, READABLE).unwrap();
    drop(clone);
    there.registry().register(&other_clone, 2, READABLE).unwrap();
    expect_kind(here.registry().register(&stream, 1, READABLE), ErrorKind::Unsupported);
    drop(there);
    here.registry().register(&stream, 4, READABLE).unwrap();
    let another = Poll::new().unwrap();
    here.registrator().close_loop().unwrap();
    another.registry().register(&stream, 5, READABLE).unwrap();
}

#[test]
fn a_clone_does_not_end_what_has_become_stds() {
    let _alone = alone();
    let (mut here, there) = (Poll::new().unwrap(), Poll::new().unwrap());
    let (stream, mut peer) = pair();
    let clone = stream.try_clone().unwrap();
    here.registry().register(&stream, 1, READABLE).unwrap();
    let std = stream.into_std();
    expect_kind(there.registry().deregister(&clone), ErrorKind::NotFound);
    expect_kind(here.registry().reregister(&clone, 2, READABLE), ErrorKind::NotFound);
    peer.write_all(b"x").unwrap();
    assert!(expect_event(&mut here, 1).readable);
    here.registry().deregister(&std).unwrap();
}

#[test]
fn a_would_block_of_a_clone_counts_too() {
    let _alone = alone();
    let mut poll = Poll::new().unwrap();
    let (stream, mut peer) = pair();
    let clone = stream.try_clone().unwrap();
    poll.registry().register(&stream, 1, READABLE | EDGE).unwrap();
    for _ in 0..3 {
        peer.write_all(b"x").unwrap();
        assert!(expect_event(&mut poll, 1).readable);
        assert_eq!(drain(&clone), b"x");
    }
}

#[test]
fn one_of_all_threads_that_register_a_stream_or_its_clones_gets_it() {
    const THREADS: usize = 4;
    let _alone = alone();
    let polls: Vec<_> = (0..THREADS).map(|_| Poll::new().unwrap()).collect();
    for _ in 0..50 {
        let (stream, _peer) = pair();
        let clones: Vec<_> = (0..THREADS).map(|_| stream.try_clone().unwrap()).collect();
        let start = Barrier::new(THREADS);
        let winners = AtomicUsize::new(0);
        thread::scope(|scope| {
            for (poll, clone) in polls.iter().zip(&clones) {
                let (start, winners, registrator) = (&start, &winners, poll.registrator());
                scope.spawn(move || {
                    start.wait();
                    match registrator.register(clone, 1, READABLE) {
                        Ok(()) => drop(winners.fetch_add(1, Ordering::SeqCst)),
                        refused => expect_kind(refused, ErrorKind::Unsupported),
                    }
                });
            }
        });
        assert_eq!(winners.into_inner(), 1);
    }
}

#[test]
fn the_handles_of_the_driver_go_with_the_sockets() {
    const SOURCES: usize = 400;
    let _alone = alone();
    let mut poll = Poll::new().unwrap();
    let mut work = || {
        let sockets: Vec<_> = (0..SOURCES).map(|_| UdpSocket::bind(localhost()).unwrap()).collect();
        for (token, socket) in sockets.iter().enumerate() {
            poll.registry().register(socket, token, READABLE).unwrap();
        }
        for socket in sockets {
            poll.registry().deregister(&socket).unwrap();
        }
        while poll.poll(&mut Events::new(), Some(1)).unwrap() > 0 {}
    };
    // The first one leaves a handle for the next ones.
    work();
    assert!(handles_left_by(work) <= 0);
}

#[test]
fn registering_and_deregistering_without_a_poll_between_piles_nothing_up() {
    let _alone = alone();
    let mut poll = Poll::new().unwrap();
    let (stream, mut peer) = pair();
    let (other, mut other_peer) = std_pair();
    let rounds = |rounds: usize| {
        for token in 0..rounds {
            poll.registry().register(&stream, token, READABLE | [READABLE, LEVEL, EDGE][token % 3]).unwrap();
            poll.registry().register(&other, token, WRITABLE).unwrap();
            poll.registry().deregister(&stream).unwrap();
            poll.registry().deregister(&other).unwrap();
        }
    };
    rounds(100);
    let before = BYTES.load(Ordering::Relaxed);
    rounds(2000);
    assert!(BYTES.load(Ordering::Relaxed) < before + 2000, "less than a byte a round");
    poll.registry().register(&stream, 1, READABLE).unwrap();
    poll.registry().register(&other, 2, READABLE).unwrap();
    peer.write_all(b"x").unwrap();
    assert!(expect_event(&mut poll, 1).readable);
    other_peer.write_all(b"x").unwrap();
    assert!(expect_event(&mut poll, 2).readable);
}

#[test]
fn sockets_of_std_that_are_closed_and_forgotten_leave_no_more_than_there_were_at_once() {
    let _alone = alone();
    let mut poll = Poll::new().unwrap();
    let mut events = Events::with_capacity(64);
    let mut work = |rounds: usize| {
        for round in 0..rounds {
            let socket = UdpSocket::bind(localhost()).unwrap();
            let interests = [READABLE, WRITABLE, READABLE | LEVEL][round % 3];
            poll.registry().register(&socket, round, interests).unwrap();
            poll.poll(&mut events, Some(0)).unwrap();
            drop(socket);
        }
    };
    work(1000);
    let before = (open_handles(), BYTES.load(Ordering::Relaxed));
    work(5000);
    let after = (open_handles(), BYTES.load(Ordering::Relaxed));
    // The harness has threads that come and go.
    assert!(after.0 <= before.0 + 10, "{:?} {:?}", before, after);
    assert!(after.1 < before.1 + 5000, "{:?} {:?}", before, after);
}

#[test]
fn a_stream_whose_clone_is_open_is_silent_once_it_is_dropped() {
    let _alone = alone();
    for mode in [READABLE, LEVEL, EDGE] {
        for stage in STAGES {
            println!("{:?} {:?}", mode, stage);
            let mut poll = Poll::new().unwrap();
            let (stream, mut peer) = pair();
            let clone = stream.try_clone().unwrap();
            poll.registry().register(&stream, 1, READABLE | mode).unwrap();
            if stage != Stage::Waiting {
                peer.write_all(b"x").unwrap();
            }
            if stage == Stage::Reported {
                assert!(expect_event(&mut poll, 1).readable);
            }
            drop(stream);
            peer.write_all(b"y").unwrap();
            expect_nothing(&mut poll);
            poll.registry().register(&clone, 2, READABLE).unwrap();
            assert!(expect_event(&mut poll, 2).readable);
        }
    }
}

#[test]
fn what_is_no_socket_is_refused_and_the_queue_goes_on() {
    // Windows asks whether it is a socket; Wine only finds out when it is polled.
    const WSAENOTSOCK: i32 = 10038;
    const ERROR_INVALID_HANDLE: i32 = 6;
    let _alone = alone();
    let mut poll = Poll::new().unwrap();
    let (stream, mut peer) = pair();
    poll.registry().register(&stream, 1, READABLE).unwrap();

    let file = File::open(env::current_exe().unwrap()).unwrap();
    let closed = listener().as_raw_socket();
    for number in [file.as_raw_handle() as RawSocket, closed] {
        // SAFETY: a broken promise, on purpose: nothing but the system's error may follow from it.
        let socket = unsafe { BorrowedSocket::borrow_raw(number) };
        let left = handles_left_by(|| {
            for _ in 0..100 {
                let error = poll.registry().register(&socket, 2, READABLE).unwrap_err();
                let code = error.raw_os_error().unwrap();
                assert!([WSAENOTSOCK, ERROR_INVALID_HANDLE].contains(&code), "{}", error);
            }
        });
        assert!(left <= 0);
        expect_kind(poll.registry().reregister(&socket, 2, READABLE), ErrorKind::NotFound);
        expect_kind(poll.registry().deregister(&socket), ErrorKind::NotFound);
    }
    expect_nothing(&mut poll);
    peer.write_all(b"x").unwrap();
    assert!(expect_event(&mut poll, 1).readable);
}

#[test]
fn every_kind_of_socket_is_a_source() {
    let _alone = alone();
    let mut poll = Poll::new().unwrap();
    let (stream, _peer) = pair();
    let mut owned = OwnedSocket::from(UdpSocket::bind(localhost()).unwrap());
    let registry = poll.registry();
    registry.register(&owned, 1, WRITABLE).unwrap();
    registry.reregister(&&mut owned, 1, WRITABLE).unwrap();
    registry.reregister(&&owned, 2, WRITABLE).unwrap();
    assert!(expect_event(&mut poll, 2).writable);
    // SAFETY: the stream is open for longer than this.
    let borrowed = unsafe { BorrowedSocket::borrow_raw(stream.as_raw_socket()) };
    poll.registry().register(&borrowed, 3, WRITABLE).unwrap();
    assert!(expect_event(&mut poll, 3).writable);
    // It is the stream's own registration.
    poll.registry().reregister(&stream, 4, WRITABLE | EDGE).unwrap();
    assert!(expect_event(&mut poll, 4).writable);
    poll.registry().deregister(&borrowed).unwrap();
    expect_kind(poll.registry().deregister(&stream), ErrorKind::NotFound);
}

#[test]
fn no_handle_is_inherited_by_a_child() {
    #[link(name = "kernel32")]
    extern "system" {
        fn GetHandleInformation(handle: *mut c_void, flags: *mut u32) -> i32;
    }
    const HANDLE_FLAG_INHERIT: u32 = 1;
    /// The open handles and their flags. Handles are multiples of four.
    fn handles() -> Vec<(usize, u32)> {
        let mut found = Vec::new();
        for handle in (4..0x4000).step_by(4) {
            let mut flags = 0;
            // SAFETY: the call writes `flags`, and any number may be asked for.
            if unsafe { GetHandleInformation(handle as *mut c_void, &mut flags) } != 0 {
                found.push((handle, flags));
            }
        }
        found
    }
    let _alone = alone();
    let listener = listener();
    let address = listener.local_addr().unwrap();
    /// The handles of five streams, a listener, a datagram socket, the port and the driver.
    const EXPECTED: usize = 9;
    let mut tries = (0..20).map(|_| {
        let before = handles();
        let poll = Poll::new().unwrap();
        let stream = TcpStream::connect(address).unwrap();
        let _others = [TcpStream::connect_nonblocking(address).unwrap(), stream.try_clone().unwrap()];
        let (listener, _datagrams) = (
            minimio::TcpListener::bind(localhost()).unwrap(),
            minimio::UdpSocket::bind(localhost()).unwrap(),
        );
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let _accepted = accept_one(&listener);
        poll.registry().register(&stream, 1, READABLE).unwrap();
        let mut ours = handles();
        ours.retain(|(handle, _)| before.iter().all(|(known, _)| known != handle));
        ours
    });
    // The harness has handles of its own. If it closes one meanwhile, one of ours may have got a number that was known.
    let ours = tries.find(|ours| ours.len() >= EXPECTED).expect("the handles of a queue and its streams");
    for (handle, flags) in ours {
        assert_eq!(flags & HANDLE_FLAG_INHERIT, 0, "handle {:#x}", handle);
    }
}

#[test]
fn a_queue_moves_from_a_busy_thread_to_another() {
    let _alone = alone();
    let mut poll = Poll::new().unwrap();
    let (stream, mut peer) = pair();
    poll.registry().register(&stream, 1, READABLE | LEVEL).unwrap();
    peer.write_all(b"x").unwrap();
    // A port may keep packets back while the thread that took the last one is busy.
    expect_event(&mut poll, 1);
    let other = thread::spawn(move || expect_event(&mut poll, 1));
    while !other.is_finished() {
        std::hint::spin_loop();
    }
    assert!(other.join().unwrap().readable);
}

#[test]
fn a_poll_keeps_its_time_while_another_thread_makes_packets_without_events() {
    let _alone = alone();
    let mut poll = Poll::new().unwrap();
    let registrator = poll.registrator();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let (stream, _peer) = pair();
            while !stop.load(Ordering::SeqCst) {
                registrator.register(&stream, 1, READABLE).unwrap();
                registrator.deregister(&stream).unwrap();
            }
        });
        let polls = [0, 1, 20, 0, 1, 20].map(|timeout| {
            let mut events = Events::with_capacity(1);
            let begin = Instant::now();
            let n = poll.poll(&mut events, Some(timeout));
            (n, begin.elapsed())
        });
        stop.store(true, Ordering::SeqCst);
        for (n, time) in polls {
            assert_eq!(n.unwrap(), 0);
            assert!(time < DEADLINE, "{:?}", time);
        }
    });
}

#[test]
fn the_thread_that_registered_may_end() {
    let _alone = alone();
    let mut poll = Poll::new().unwrap();
    let (stream, mut peer) = pair();
    let registrator = poll.registrator();
    let stream = thread::spawn(move || {
        registrator.register(&stream, 1, READABLE).unwrap();
        stream
    });
    let stream = stream.join().unwrap();
    expect_nothing(&mut poll);
    peer.write_all(b"x").unwrap();
    assert!(expect_event(&mut poll, 1).readable);
    assert_eq!(drain(&stream), b"x");
}

#[test]
fn dropped_streams_leave_nothing_behind() {
    let _alone = alone();
    // MINIMIO_ROUNDS: how many instead.
    let rounds = env::var("MINIMIO_ROUNDS").map_or(10_000, |text| text.parse().unwrap());
    let mut poll = Poll::new().unwrap();
    let mut events = Events::with_capacity(64);
    let (stream, _peer) = pair();
    let mut work = |rounds: usize| {
        for round in 0..rounds {
            // By turns the last handle of a socket, whose request ends with it, and one of two, whose request does not.
            let dropped = if round % 2 == 0 {
                let socket = UdpSocket::bind(localhost()).unwrap();
                TcpStream::from(OwnedSocket::from(socket))
            } else {
                stream.try_clone().unwrap()
            };
            let mode = [READABLE, LEVEL, EDGE][round % 3];
            let interests = [READABLE, READABLE | WRITABLE][round % 5 % 2];
            poll.registry().register(&dropped, round, interests | mode).unwrap();
            if round % 7 == 0 {
                poll.poll(&mut events, Some(0)).unwrap();
            }
            drop(dropped);
            let n = poll.poll(&mut events, Some(0)).unwrap();
            assert_eq!(n, 0, "{:?}", events);
        }
    };
    work(1000);
    let before = (open_handles(), BYTES.load(Ordering::Relaxed));
    work(rounds);
    let after = (open_handles(), BYTES.load(Ordering::Relaxed));
    // The harness has threads that come and go, and may note something meanwhile, but less than a byte a round.
    assert!(after.0 <= before.0 + 10, "{:?} {:?}", before, after);
    assert!(after.1 < before.1 + rounds / 10, "{:?} {:?}", before, after);
}

#[test]
fn eight_threads_rearm_ten_thousand_times_and_nothing_is_lost() {
    const THREADS: usize = 8;
    const ROUNDS: usize = 10_000;
    let _alone = alone();
    let mut poll = Poll::new().unwrap();
    let registrator = poll.registrator();
    let pairs: Vec<_> = (0..THREADS)
        .map(|_| {
            let (stream, mut peer) = pair();
            peer.write_all(b"x").unwrap();
            (stream, peer)
        })
        .collect();
    let busy = AtomicUsize::new(THREADS);
    let mut heard = [false; THREADS];
    thread::scope(|scope| {
        for (thread, (stream, _)) in pairs.iter().enumerate() {
            let (registrator, busy) = (&registrator, &busy);
            scope.spawn(move || {
                registrator.register(stream, thread, READABLE).unwrap();
                for round in 0..ROUNDS {
                    let mode = [READABLE, LEVEL, EDGE][round % 3];
                    let interests = [READABLE, WRITABLE, READABLE | WRITABLE][round % 4 % 3];
                    if round % 10 == 0 {
                        registrator.deregister(stream).unwrap();
                        registrator.register(stream, thread, interests | mode).unwrap();
                    } else {
                        registrator.reregister(stream, thread, interests | mode).unwrap();
                    }
                }
                // Whatever was under way: this one must be heard.
                registrator.reregister(stream, THREADS + thread, READABLE).unwrap();
                busy.fetch_sub(1, Ordering::SeqCst);
            });
        }
        let mut events = Events::with_capacity(THREADS / 2);
        while heard.contains(&false) {
            let n = poll.poll_timeout(&mut events, DEADLINE).unwrap();
            assert!(n > 0, "not heard: {:?}, busy: {:?}", heard, busy);
            for event in &events {
                if event.id() >= THREADS {
                    assert!(!heard[event.id() - THREADS], "a one-shot comes once");
                    heard[event.id() - THREADS] = true;
                }
            }
        }
    });
    expect_nothing(&mut poll);
}

#[test]
fn a_queue_with_more_sockets_than_one_handle_of_the_driver_takes() {
    const SOURCES: usize = 100;
    let _alone = alone();
    let mut poll = Poll::new().unwrap();
    let sockets: Vec<_> = (0..SOURCES).map(|_| UdpSocket::bind(localhost()).unwrap()).collect();
    for (token, socket) in sockets.iter().enumerate() {
        poll.registry().register(socket, token, READABLE).unwrap();
    }
    expect_nothing(&mut poll);
    for (token, socket) in sockets.iter().enumerate().rev() {
        let address = socket.local_addr().unwrap();
        socket.send_to(b"x", address).unwrap();
        assert!(expect_event(&mut poll, token).readable);
    }
    for socket in sockets {
        poll.registry().deregister(&socket).unwrap();
    }
}

#[test]
fn a_listener_that_moves_is_the_same_listener() {
    let _alone = alone();
    let mut poll = Poll::new().unwrap();
    let listener = listener();
    let address = listener.local_addr().unwrap();
    poll.registry().register(&listener, 1, READABLE | LEVEL).unwrap();
    let moved: Box<TcpListener> = Box::new(listener);
    let mut client = net::TcpStream::connect(address).unwrap();
    assert!(expect_event(&mut poll, 1).readable);
    poll.registry().reregister(&*moved, 2, READABLE).unwrap();
    assert!(expect_event(&mut poll, 2).readable);
    let (mut server, _) = moved.accept().unwrap();
    server.write_all(b"x").unwrap();
    client.read_exact(&mut [0]).unwrap();
    poll.registry().deregister(&moved.as_ref()).unwrap();
}
