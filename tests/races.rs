//! Many threads at once: registering during a poll, storms of wakes, an end in the midst of everything, drops in every order.

mod util;

use minimio::{Events, Interests, Poll, Registrator, TcpStream, Waker};
use std::io::{self, ErrorKind, Read, Write};
use std::net;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{mpsc, Barrier, Mutex};
use std::time::{Duration, Instant};
use std::{env, thread};
use util::*;

const MODES: [Interests; 3] = [READABLE, LEVEL, EDGE];

/// How many threads make trouble, and how often each.
const THREADS: usize = 8;
const ROUNDS: usize = 300;

/// Each call is answered by success or by the end of the loop, by nothing else.
#[track_caller]
fn is_open<T: std::fmt::Debug>(result: io::Result<T>) -> bool {
    match result {
        Ok(_) => true,
        closed => {
            expect_closed(closed);
            false
        }
    }
}

/// A source in the hands of one thread while another one polls. Its token tells its place and its generation, which
/// grows with every registration.
struct Contested {
    stream: TcpStream,
    _peer: net::TcpStream,
    /// The oldest generation that a poll may report which begins now.
    oldest: AtomicUsize,
    /// The youngest that anybody has asked for.
    youngest: AtomicUsize,
}

impl Contested {
    fn new() -> Contested {
        let (stream, mut peer) = pair();
        peer.write_all(b"x").unwrap();
        Contested { stream, _peer: peer, oldest: AtomicUsize::new(usize::MAX), youngest: AtomicUsize::new(0) }
    }

    fn interests(generation: usize) -> Interests {
        READABLE | WRITABLE | MODES[generation % 3]
    }
}

#[test]
fn eight_threads_register_rearm_and_deregister_while_one_polls() {
    const EACH: usize = 4;
    const SOURCES: usize = THREADS * EACH;
    let mut poll = Poll::new().unwrap();
    let registrator = poll.registrator();
    let sources: Vec<_> = (0..SOURCES).map(|_| Contested::new()).collect();
    let busy = AtomicUsize::new(THREADS);

    let trouble = |thread: usize| {
        for round in 1..=ROUNDS {
            let place = thread * EACH + round % EACH;
            let source = &sources[place];
            // The last one of each source is one-shot and stays.
            let last = round > ROUNDS - EACH;
            let generation = if last { 3 * ROUNDS } else { round };
            let token = place + SOURCES * generation;
            let interests = Contested::interests(generation);
            source.youngest.store(generation, Ordering::SeqCst);
            if round % 2 == 0 {
                registrator.register(&source.stream, token, interests).unwrap();
            } else {
                match registrator.reregister(&source.stream, token, interests) {
                    Err(error) if error.kind() == ErrorKind::NotFound => {
                        registrator.register(&source.stream, token, interests).unwrap();
                    }
                    result => result.unwrap(),
                }
            }
            source.oldest.store(generation, Ordering::SeqCst);
            if round % 7 == 0 && !last {
                registrator.deregister(&source.stream).unwrap();
                source.oldest.store(generation + 1, Ordering::SeqCst);
            }
        }
        busy.fetch_sub(1, Ordering::SeqCst);
    };

    thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || trouble(thread));
        }
        let mut reported = [0; SOURCES];
        let mut events = Events::with_capacity(7);
        let deadline = Instant::now() + DEADLINE;
        while reported.iter().any(|generation| *generation < 3 * ROUNDS) {
            assert!(Instant::now() < deadline, "still busy: {:?}; {:?}", busy, reported);
            let oldest: Vec<_> = sources.iter().map(|s| s.oldest.load(Ordering::SeqCst)).collect();
            // It waits only when nothing more is to come from the threads.
            let wait = if busy.load(Ordering::SeqCst) == 0 { DEADLINE } else { Duration::ZERO };
            poll.poll_timeout(&mut events, wait).unwrap();
            let mut now: Vec<_> = events.iter().map(|event| event.id()).collect();
            now.sort_unstable();
            now.dedup();
            for token in now {
                let (place, generation) = (token % SOURCES, token / SOURCES);
                assert!(
                    oldest[place] == usize::MAX || generation >= oldest[place],
                    "generation {} of source {} is older than {}",
                    generation,
                    place,
                    oldest[place]
                );
                assert!(generation <= sources[place].youngest.load(Ordering::SeqCst));
                let again = generation == reported[place];
                let oneshot = Contested::interests(generation).is_oneshot();
                assert!(!again || !oneshot, "a spent one-shot is reported again");
                reported[place] = generation;
            }
        }
    });
    // All that is left are one-shots, and all of them are spent.
    expect_nothing(&mut poll);
}

#[test]
fn registering_a_source_succeeds_whoever_deregisters_it_meanwhile() {
    let mut poll = Poll::new().unwrap();
    let registrator = poll.registrator();
    let (stream, mut peer) = pair();
    let done = AtomicBool::new(false);
    let met = AtomicUsize::new(0);
    let result = thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(Ordering::SeqCst) {
                    match registrator.deregister(&stream) {
                        Ok(()) => drop(met.fetch_add(1, Ordering::SeqCst)),
                        Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound),
                    }
                }
            });
        }
        let mut round = 0;
        let mut result = Ok(());
        // And then until they have met often enough.
        while result.is_ok() && (round < 10 * ROUNDS || met.load(Ordering::SeqCst) < ROUNDS) {
            round += 1;
            let interests = READABLE | MODES[round % 3];
            result = registrator.register(&stream, round, interests);
        }
        done.store(true, Ordering::SeqCst);
        result
    });
    result.unwrap();
    peer.write_all(b"x").unwrap();
    registrator.register(&stream, 7, READABLE).unwrap();
    assert!(expect_event(&mut poll, 7).readable);
    expect_nothing(&mut poll);
}

#[test]
fn a_source_that_all_threads_register_belongs_to_one_of_them_in_the_end() {
    let mut poll = Poll::new().unwrap();
    let registrator = poll.registrator();
    for _ in 0..20 {
        let (stream, mut peer) = pair();
        peer.write_all(b"x").unwrap();
        let start = Barrier::new(THREADS);
        thread::scope(|scope| {
            for token in 0..THREADS {
                let (start, stream, registrator) = (&start, &stream, &registrator);
                scope.spawn(move || {
                    start.wait();
                    let interests = READABLE | MODES[token % 3];
                    registrator.register(stream, token, interests).unwrap();
                });
            }
        });
        let mut events = Events::with_capacity(16);
        poll.poll_timeout(&mut events, DEADLINE).unwrap();
        assert_eq!(events.len(), 1, "{:?}", events);
        assert!(events[0].id() < THREADS);
        registrator.deregister(&stream).unwrap();
        expect_kind(registrator.deregister(&stream), ErrorKind::NotFound);
    }
    expect_nothing(&mut poll);
}

/// A stream that goes from thread to thread, and what was read of it.
struct Baton {
    stream: TcpStream,
    /// Somebody has it.
    taken: AtomicBool,
    read: AtomicUsize,
}

#[test]
fn a_one_shot_source_is_never_seen_by_two_threads() {
    const BATONS: usize = 6;
    const BYTES: usize = 2000;
    let poll = Poll::new().unwrap();
    let registrator = poll.registrator();
    let (batons, peers): (Vec<_>, Vec<_>) = (0..BATONS)
        .map(|_| {
            let (stream, peer) = pair();
            let baton = Baton { stream, taken: AtomicBool::new(false), read: AtomicUsize::new(0) };
            (baton, peer)
        })
        .unzip();
    for (token, baton) in batons.iter().enumerate() {
        registrator.register(&baton.stream, token, READABLE).unwrap();
    }
    // They take turns at the queue and work side by side.
    let poll = Mutex::new(poll);
    let rest = AtomicUsize::new(BATONS * BYTES);

    let work = || loop {
        let mut events = Events::with_capacity(2);
        let result = poll.lock().unwrap().poll_timeout(&mut events, DEADLINE);
        if !is_open(result) {
            return;
        }
        assert!(!events.is_empty(), "{} bytes did not come", rest.load(Ordering::SeqCst));
        let mut tokens: Vec<_> = events.iter().map(|event| event.id()).collect();
        tokens.dedup();
        for token in tokens {
            let baton = &batons[token];
            assert!(!baton.taken.swap(true, Ordering::SeqCst), "two have it");
            let mut buffer = [0; 16];
            let n = (&baton.stream).read(&mut buffer).unwrap();
            let place = baton.read.fetch_add(n, Ordering::SeqCst);
            for (i, byte) in buffer[..n].iter().enumerate() {
                assert_eq!(usize::from(*byte), (place + i) % 251, "out of order");
            }
            let left = rest.fetch_sub(n, Ordering::SeqCst) - n;
            baton.taken.store(false, Ordering::SeqCst);
            // From here on it may be anybody's.
            if left == 0 {
                registrator.close_loop().unwrap();
            } else {
                is_open(registrator.reregister(&baton.stream, token, READABLE));
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(work);
        }
        for place in 0..BYTES {
            for mut peer in &peers {
                peer.write_all(&[(place % 251) as u8]).unwrap();
            }
        }
    });
    assert_eq!(rest.into_inner(), 0);
}

#[test]
fn no_wake_of_a_storm_is_lost() {
    let mut poll = Poll::new().unwrap();
    let registrator = poll.registrator();
    let news: Vec<_> = (0..THREADS).map(|_| AtomicUsize::new(0)).collect();
    let shared = Waker::new(&registrator, THREADS).unwrap();
    let storm = |thread: usize| {
        let mut own = Waker::new(&registrator, thread).unwrap();
        for round in 0..5 * ROUNDS {
            news[thread].fetch_add(1, Ordering::SeqCst);
            match round % 100 {
                // A waker may go at any time, its wake stays.
                99 => own = Waker::new(&registrator, thread).unwrap(),
                n if n % 3 == 0 => shared.wake().unwrap(),
                _ => {}
            }
            own.wake().unwrap();
        }
    };
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let storm = &storm;
            scope.spawn(move || storm(thread));
        }
        let mut heard = [0; THREADS];
        let mut events = Events::with_capacity(3);
        while heard.iter().any(|news| *news < 5 * ROUNDS) {
            // A lost wake leaves this without an event.
            let n = poll.poll_timeout(&mut events, DEADLINE).unwrap();
            assert!(n > 0, "of {} each were heard {:?}", 5 * ROUNDS, heard);
            for event in events.iter().filter(|event| event.id() < THREADS) {
                assert!(event.is_readable());
                heard[event.id()] = news[event.id()].load(Ordering::SeqCst);
            }
        }
    });
    drop(shared);
    // What is still there are wakes that were merged with nothing; it ends.
    let mut events = Events::new();
    while poll.poll(&mut events, Some(SILENCE_MS)).unwrap() > 0 {}
    expect_nothing(&mut poll);
}

#[test]
fn a_wake_that_was_merged_into_another_is_there_for_a_poll_that_does_not_wait() {
    let mut poll = Poll::new().unwrap();
    let waker = Waker::new(&poll.registrator(), 7).unwrap();
    let turn = AtomicUsize::new(0);
    // A barrier that spins, so that both get going at the same moment.
    let meet = |place: usize| {
        turn.fetch_add(1, Ordering::SeqCst);
        while turn.load(Ordering::SeqCst) < 2 * place {
            thread::yield_now();
        }
    };
    const MEETINGS: usize = 10 * ROUNDS;
    let missing = thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..MEETINGS {
                meet(2 * round + 1);
                waker.wake().unwrap();
                meet(2 * round + 2);
            }
        });
        let mut missing = 0;
        let mut events = Events::with_capacity(4);
        for round in 0..MEETINGS {
            meet(2 * round + 1);
            waker.wake().unwrap();
            // Ours has returned, whatever the other one is about.
            if poll.poll(&mut events, Some(0)).unwrap() == 0 {
                missing += 1;
            }
            meet(2 * round + 2);
            while poll.poll(&mut events, Some(0)).unwrap() > 0 {}
        }
        missing
    });
    assert_eq!(missing, 0, "wakes returned and their events were not there");
}

#[test]
fn close_loop_in_the_midst_of_everything_ends_everything() {
    for round in 0..40 {
        let mut poll = Poll::new().unwrap();
        let registrator = poll.registrator();
        let (shared, mut peer) = pair();
        peer.write_all(b"x").unwrap();
        let waker = Waker::new(&registrator, 1).unwrap();
        let closers = AtomicUsize::new(0);
        let start = Barrier::new(THREADS + 1);
        let trouble = |thread: usize| {
            let (own, _peer) = pair();
            start.wait();
            let mut n = 0;
            loop {
                n += 1;
                let open = match thread {
                    0 => is_open(registrator.register(&shared, n, READABLE | MODES[n % 3])),
                    1 => match registrator.reregister(&shared, n, READABLE | LEVEL) {
                        Err(error) if error.kind() == ErrorKind::NotFound => true,
                        result => is_open(result),
                    },
                    2 => match registrator.deregister(&shared) {
                        Err(error) if error.kind() == ErrorKind::NotFound => true,
                        result => is_open(result),
                    },
                    3 => {
                        waker.wake().unwrap();
                        is_open(Waker::new(&registrator, 2).and_then(|waker| waker.wake()))
                    }
                    4 | 5 => is_open(registrator.register(&own, n, WRITABLE | LEVEL)),
                    _ if n < round => true,
                    _ => {
                        if is_open(registrator.close_loop()) {
                            closers.fetch_add(1, Ordering::SeqCst);
                        }
                        false
                    }
                };
                if !open {
                    return;
                }
            }
        };
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let trouble = &trouble;
                scope.spawn(move || trouble(thread));
            }
            start.wait();
            let mut events = Events::with_capacity(round % 5);
            while is_open(poll.poll(&mut events, None)) {
                assert!(!events.is_empty());
            }
            assert!(events.is_empty());
        });
        assert_eq!(closers.into_inner(), 1);
        expect_closed(poll.poll(&mut Events::new(), None));
    }
}

/// What four threads have, one thing each. Each still uses its own before it drops it.
enum Thing {
    Poll(Poll),
    Registrator(Registrator, TcpStream),
    Waker(Waker),
    Stream(TcpStream, net::TcpStream),
}

impl Thing {
    fn all() -> Vec<Thing> {
        let poll = Poll::new().unwrap();
        let registrator = poll.registrator();
        let (own, _) = pair();
        let (stream, mut peer) = pair();
        registrator.register(&stream, 1, READABLE | WRITABLE | EDGE).unwrap();
        registrator.register(&own, 2, READABLE | LEVEL).unwrap();
        let waker = Waker::new(&registrator, 3).unwrap();
        waker.wake().unwrap();
        peer.write_all(b"x").unwrap();
        vec![
            Thing::Poll(poll),
            Thing::Registrator(registrator, own),
            Thing::Waker(waker),
            Thing::Stream(stream, peer),
        ]
    }

    fn use_and_drop(self) {
        match self {
            Thing::Poll(mut poll) => {
                poll.poll(&mut Events::new(), Some(0)).unwrap();
            }
            Thing::Registrator(registrator, own) => {
                is_open(registrator.reregister(&own, 4, WRITABLE));
            }
            Thing::Waker(waker) => waker.wake().unwrap(),
            Thing::Stream(mut stream, mut peer) => {
                stream.write_all(b"y").unwrap();
                assert_eq!(receive(&stream), b"x");
                drop(stream);
                let mut rest = Vec::new();
                peer.read_to_end(&mut rest).unwrap();
                assert_eq!(rest, b"y");
            }
        }
    }
}

/// Every order of four things.
fn orders() -> Vec<Vec<usize>> {
    let numbers = (0..256).map(|n| (0..4).map(|place| n >> (2 * place) & 3).collect());
    numbers.filter(|order: &Vec<usize>| (0..4).all(|thing| order.contains(&thing))).collect()
}

#[test]
fn threads_may_drop_what_they_have_in_every_order() {
    let orders = orders();
    assert_eq!(orders.len(), 24);
    for order in orders {
        thread::scope(|scope| {
            let (mut begin, mut ends) = (Vec::new(), Vec::new());
            for thing in Thing::all() {
                let (begins, begun) = mpsc::channel::<()>();
                let (end, ended) = mpsc::channel::<()>();
                begin.push(begins);
                ends.push(ended);
                scope.spawn(move || {
                    begun.recv().unwrap();
                    thing.use_and_drop();
                    end.send(()).unwrap();
                });
            }
            for thing in order {
                begin[thing].send(()).unwrap();
                ends[thing].recv().unwrap();
            }
        });
    }
}

#[test]
fn threads_may_drop_what_they_have_all_at_once() {
    for _ in 0..50 {
        let start = Barrier::new(4);
        thread::scope(|scope| {
            for thing in Thing::all() {
                let start = &start;
                scope.spawn(move || {
                    start.wait();
                    thing.use_and_drop();
                });
            }
        });
    }
}

#[test]
fn sources_that_close_while_one_polls_are_never_reported_under_a_new_ones_token() {
    let mut poll = Poll::new().unwrap();
    let registrator = poll.registrator();
    let done = AtomicUsize::new(0);
    thread::scope(|scope| {
        for thread in 0..4 {
            let (registrator, done) = (&registrator, &done);
            scope.spawn(move || {
                for round in 0..50 {
                    let (stream, mut peer) = pair();
                    // Never written to, so never readable, but its number was that of one which was.
                    let (quiet, _quiet_peer) = pair();
                    registrator.register(&quiet, 1, READABLE | LEVEL).unwrap();
                    registrator.register(&stream, 2, READABLE | MODES[round % 3]).unwrap();
                    peer.write_all(b"x").unwrap();
                    if thread % 2 == 0 {
                        registrator.deregister(&quiet).unwrap();
                    }
                    drop((stream, quiet));
                }
                done.fetch_add(1, Ordering::SeqCst);
            });
        }
        let mut events = Events::with_capacity(4);
        while done.load(Ordering::SeqCst) < 4 {
            poll.poll(&mut events, Some(1)).unwrap();
            for event in &events {
                // The quiet ones are closed while their peers are open; nothing ever happens to them.
                assert_eq!(event.id(), 2, "{:?}", events);
            }
        }
    });
    expect_nothing(&mut poll);
}

/// A stream of std's or of minimio's.
enum Either {
    Std(net::TcpStream),
    Ours(TcpStream),
}

/// One that one of many queues watches for a while.
struct Traveller {
    token: usize,
    stream: Either,
    _peer: net::TcpStream,
}

impl Traveller {
    /// Connects and registers one. It has something to read, before that or after.
    fn new(listener: &net::TcpListener, registrator: &Registrator, token: usize) -> Traveller {
        let near = net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        near.set_nonblocking(true).unwrap();
        // So that the ports do not run out.
        linger_for_nothing(&near);
        let before = token % 2 == 0;
        if before {
            peer.write_all(b"x").unwrap();
        }
        let mode = MODES[token % 3];
        let stream = if token % 5 < 2 && !mode.is_edge() {
            registrator.register(&near, token, READABLE | mode).unwrap();
            Either::Std(near)
        } else {
            let near = TcpStream::from_std(near).unwrap();
            registrator.register(&near, token, READABLE | mode).unwrap();
            Either::Ours(near)
        };
        if !before {
            peer.write_all(b"x").unwrap();
        }
        Traveller { token, stream, _peer: peer }
    }
}

/// One thread and its queue. Streams come and go, and their numbers come back as those of other threads.
fn travel(streams: usize) {
    const AT_ONCE: usize = 5;
    let mut poll = Poll::new().unwrap();
    let registrator = poll.registrator();
    let listener = listener();
    let mut events = Events::with_capacity(AT_ONCE);
    let mut open: Vec<Traveller> = Vec::new();
    // Of those closed since the last poll, the ones that may have an event on its way.
    let mut closed = Vec::new();
    let mut next = 0;
    while next < streams {
        open.push(Traveller::new(&listener, &registrator, next));
        // Every seventh is closed before anybody polls.
        let awaited = (next % 7 != 0).then_some(next);
        next += 1;
        let deadline = Instant::now() + DEADLINE;
        let mut heard = false;
        while awaited.is_some() && !heard {
            assert!(Instant::now() < deadline, "the event of {:?} is lost", awaited);
            poll.poll_timeout(&mut events, DEADLINE).unwrap();
            for event in &events {
                let is_open = open.iter().any(|traveller| traveller.token == event.id());
                assert!(is_open || closed.contains(&event.id()), "a stray event: {:?}", event);
                assert!(event.is_readable() && !event.is_error(), "{:?}", event);
                heard |= awaited == Some(event.id());
            }
            closed.clear();
        }
        let gone = if awaited.is_none() {
            open.pop()
        } else if open.len() == AT_ONCE {
            Some(open.swap_remove(next % AT_ONCE))
        } else {
            None
        };
        if let Some(Traveller { token, stream, _peer }) = gone {
            match stream {
                // Windows does not tell when one of these is closed.
                Either::Std(stream) => {
                    closed.extend(cfg!(windows).then_some(token));
                    drop(stream);
                }
                Either::Ours(stream) => drop(stream),
            }
        }
    }
}

#[test]
fn numbers_that_travel_between_queues_bring_no_stray_event_and_lose_none() {
    // MINIMIO_STREAMS: how many in each thread instead.
    let streams = env::var("MINIMIO_STREAMS").map_or(300, |text| text.parse().unwrap());
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(move || travel(streams));
        }
    });
}
