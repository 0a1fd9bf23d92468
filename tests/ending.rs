//! Ending and waking: close_loop, wakers, drops in every order.

mod util;

use minimio::{Events, Poll, Registrator, Selector, Waker};
use std::io::{Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use util::*;

#[test]
fn close_loop_ends_a_poll_that_waits() {
    let mut poll = Poll::new().unwrap();
    let registrator = poll.registrator();
    thread::scope(|scope| {
        let (started, starts) = mpsc::channel();
        scope.spawn(move || {
            starts.recv().unwrap();
            registrator.close_loop().unwrap();
        });
        started.send(()).unwrap();
        let mut events = Events::new();
        expect_closed(poll.poll(&mut events, None));
        assert!(events.is_empty());
    });
}

#[test]
fn close_loop_before_the_first_poll_is_not_forgotten() {
    let mut poll = Poll::new().unwrap();
    poll.registrator().close_loop().unwrap();
    expect_closed(poll.poll(&mut Events::new(), None));
}

#[test]
fn a_closed_loop_stays_closed() {
    let mut poll = Poll::new().unwrap();
    let (stream, mut peer) = pair();
    let registrator = poll.registrator();
    let waker = Waker::new(&registrator, 2).unwrap();
    registrator.register(&stream, 1, READABLE | LEVEL).unwrap();
    peer.write_all(b"x").unwrap();
    let mut events = Events::with_capacity(4);
    assert_eq!(poll.poll_timeout(&mut events, DEADLINE).unwrap(), 1);

    registrator.close_loop().unwrap();

    for timeout in [None, Some(0), Some(100_000)] {
        expect_closed(poll.poll(&mut events, timeout));
        assert!(events.is_empty(), "an error leaves no events");
    }
    expect_closed(poll.poll_timeout(&mut events, DEADLINE));
    expect_closed(registrator.close_loop());
    expect_closed(registrator.register(&stream, 1, READABLE));
    expect_closed(registrator.reregister(&stream, 1, READABLE));
    expect_closed(registrator.deregister(&stream));
    expect_closed(poll.registry().register(&stream, 1, READABLE));
    expect_closed(poll.registry().reregister(&stream, 1, READABLE));
    expect_closed(poll.registry().deregister(&stream));
    expect_closed(poll.registrator().close_loop());
    expect_closed(Waker::new(&registrator, 3));
    waker.wake().expect("there is nobody left to wake, which is no error");
    expect_closed(poll.poll(&mut events, None));
}

#[test]
fn of_many_that_close_a_loop_one_succeeds() {
    for _ in 0..50 {
        let mut poll = Poll::new().unwrap();
        let closed = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| match poll_registrator(&poll).close_loop() {
                    Ok(()) => drop(closed.fetch_add(1, Ordering::Relaxed)),
                    refused => expect_closed(refused),
                });
            }
        });
        assert_eq!(closed.into_inner(), 1);
        expect_closed(poll.poll(&mut Events::new(), None));
    }
}

fn poll_registrator(poll: &Poll) -> Registrator {
    poll.registrator()
}

#[test]
fn dropping_the_poll_ends_the_loop_for_its_registrators_and_wakers() {
    let poll = Poll::new().unwrap();
    let (stream, mut peer) = pair();
    let registrator = poll.registrator();
    let clone = registrator.clone();
    let waker = Waker::new(&registrator, 2).unwrap();
    registrator.register(&stream, 1, READABLE).unwrap();

    drop(poll);

    expect_closed(registrator.register(&stream, 1, READABLE));
    expect_closed(registrator.reregister(&stream, 1, READABLE));
    expect_closed(registrator.deregister(&stream));
    expect_closed(clone.close_loop());
    expect_closed(Waker::new(&clone, 3));
    waker.wake().unwrap();

    // The stream is a plain non-blocking socket now.
    peer.write_all(b"x").unwrap();
    let mut next = Poll::new().unwrap();
    next.registry().register(&stream, 5, READABLE).unwrap();
    assert!(expect_event(&mut next, 5).readable);
    assert_eq!(drain(&stream), b"x");
}

#[test]
fn a_selector_can_be_driven_without_a_poll() {
    let mut selector = Selector::new().unwrap();
    let (stream, mut peer) = pair();
    let registrator = selector.registrator();
    registrator.register(&stream, 1, READABLE).unwrap();
    peer.write_all(b"x").unwrap();
    let mut events = Events::new();
    selector.select(&mut events, None).unwrap();
    assert_eq!(events[0].id(), 1);
    registrator.close_loop().unwrap();
    expect_closed(selector.select(&mut events, None));
}

#[test]
fn a_wake_before_the_poll_is_delivered() {
    let mut poll = Poll::new().unwrap();
    let waker = Waker::new(&poll.registrator(), 7).unwrap();
    expect_nothing(&mut poll);
    waker.wake().unwrap();
    let said = expect_event(&mut poll, 7);
    assert_eq!(said, Said { readable: true, ..Said::default() });
    expect_nothing(&mut poll);
}

#[test]
fn a_wake_ends_a_poll_that_waits() {
    let mut poll = Poll::new().unwrap();
    let waker = Waker::new(&poll.registrator(), 7).unwrap();
    for _ in 0..100 {
        thread::scope(|scope| {
            scope.spawn(|| waker.wake().unwrap());
            assert!(expect_event(&mut poll, 7).readable);
        });
    }
    expect_nothing(&mut poll);
}

#[test]
fn wakes_between_two_polls_come_as_one_event() {
    let mut poll = Poll::new().unwrap();
    let waker = Waker::new(&poll.registrator(), 7).unwrap();
    for round in 1..4 {
        for _ in 0..1000 * round {
            waker.wake().unwrap();
        }
        let mut events = Events::with_capacity(16);
        assert_eq!(poll.poll_timeout(&mut events, DEADLINE).unwrap(), 1);
        assert_eq!(events[0].id(), 7);
        expect_nothing(&mut poll);
    }
}

#[test]
fn no_wake_is_lost_however_they_meet_the_poll() {
    const WAKES: usize = 20_000;
    let mut poll = Poll::new().unwrap();
    let waker = Waker::new(&poll.registrator(), 7).unwrap();
    let done = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..WAKES {
                    // First the news, then the wake: a poll that returns it must show the news.
                    done.fetch_add(1, Ordering::Relaxed);
                    waker.wake().unwrap();
                }
            });
        }
        let mut events = Events::with_capacity(4);
        while done.load(Ordering::Relaxed) < 2 * WAKES {
            // A lost wake would leave this poll without an event until its deadline.
            assert!(poll.poll_timeout(&mut events, DEADLINE).unwrap() > 0);
        }
    });
}

#[test]
fn several_wakers_have_a_token_each() {
    let mut poll = Poll::new().unwrap();
    let registrator = poll.registrator();
    let wakers: Vec<_> = (0..5).map(|token| Waker::new(&registrator, token).unwrap()).collect();
    for round in 0..3 {
        for waker in &wakers[round..] {
            waker.wake().unwrap();
            waker.wake().unwrap();
        }
        let mut seen = Vec::new();
        let mut events = Events::with_capacity(2);
        while seen.len() < 5 - round {
            assert!(poll.poll_timeout(&mut events, DEADLINE).unwrap() > 0);
            seen.extend(events.iter().map(|event| event.id()));
        }
        seen.sort_unstable();
        assert_eq!(seen, (round..5).collect::<Vec<_>>());
        expect_nothing(&mut poll);
    }
}

#[test]
fn wakers_with_equal_tokens_come_as_one_event_or_one_each() {
    let mut poll = Poll::new().unwrap();
    let registrator = poll.registrator();
    let first = Waker::new(&registrator, 7).unwrap();
    let second = Waker::new(&registrator, 7).unwrap();
    first.wake().unwrap();
    second.wake().unwrap();
    let mut events = Events::with_capacity(16);
    let n = poll.poll_timeout(&mut events, DEADLINE).unwrap();
    assert!((1..=2).contains(&n) && events.iter().all(|event| event.id() == 7), "{:?}", events);
    // Each can be heard on its own.
    while poll.poll(&mut events, Some(SILENCE_MS)).unwrap() > 0 {}
    for waker in [&first, &second] {
        waker.wake().unwrap();
        expect_event(&mut poll, 7);
        expect_nothing(&mut poll);
    }
}

#[test]
fn a_waker_may_share_its_token_with_a_source() {
    let mut poll = Poll::new().unwrap();
    let (stream, mut peer) = pair();
    poll.registry().register(&stream, 0, READABLE | LEVEL).unwrap();
    let waker = Waker::new(&poll.registrator(), 0).unwrap();
    waker.wake().unwrap();
    assert!(expect_event(&mut poll, 0).readable);
    expect_nothing(&mut poll);
    peer.write_all(b"x").unwrap();
    for _ in 0..3 {
        waker.wake().unwrap();
        assert!(expect_event(&mut poll, 0).readable);
    }
}

#[test]
fn a_wake_outlives_its_waker() {
    let mut poll = Poll::new().unwrap();
    for token in 0..100 {
        let waker = Waker::new(&poll.registrator(), token).unwrap();
        let clone = waker.clone();
        drop(waker);
        clone.wake().unwrap();
        drop(clone);
        assert!(expect_event(&mut poll, token).readable);
    }
    expect_nothing(&mut poll);
}

#[test]
fn a_wake_outlives_its_waker_though_many_others_come_and_go() {
    let mut poll = Poll::new().unwrap();
    Waker::new(poll.registry(), 1000).unwrap().wake().unwrap();
    for token in 0..100 {
        drop(Waker::new(poll.registry(), token).unwrap());
    }
    assert!(expect_event(&mut poll, 1000).readable);
    expect_nothing(&mut poll);
}

#[test]
fn wakes_of_many_dropped_wakers_all_arrive_in_small_batches() {
    let mut poll = Poll::new().unwrap();
    for token in 0..50 {
        Waker::new(&poll.registrator(), token).unwrap().wake().unwrap();
    }
    let mut seen = Vec::new();
    let mut events = Events::with_capacity(1);
    while seen.len() < 50 {
        assert!(poll.poll_timeout(&mut events, DEADLINE).unwrap() > 0);
        seen.extend(events.iter().map(|event| event.id()));
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..50).collect::<Vec<_>>());
    expect_nothing(&mut poll);
}

#[test]
fn a_waker_that_was_never_used_is_dropped_in_silence() {
    let mut poll = Poll::new().unwrap();
    drop(Waker::new(&poll.registrator(), 7).unwrap());
    expect_nothing(&mut poll);
}

#[test]
fn a_wake_does_not_crowd_out_a_source() {
    let mut poll = Poll::new().unwrap();
    let (stream, mut peer) = pair();
    poll.registry().register(&stream, 1, READABLE | LEVEL).unwrap();
    let waker = Waker::new(&poll.registrator(), 2).unwrap();
    peer.write_all(b"x").unwrap();
    // The byte is there before the wakes begin, and stays.
    assert!(expect_event(&mut poll, 1).readable);
    let (mut source, mut wake) = (0, 0);
    let mut events = Events::with_capacity(1);
    for _ in 0..50 {
        waker.wake().unwrap();
        poll.poll_timeout(&mut events, DEADLINE).unwrap();
        match events[0].id() {
            1 => source += 1,
            _ => wake += 1,
        }
    }
    assert!(source >= 10 && wake >= 10, "{} events of the source, {} of the waker", source, wake);
}

#[test]
fn any_order_of_dropping_is_fine() {
    // Every order of four things, each as a number in base 4.
    for order in 0..256_usize {
        let order: Vec<usize> = (0..4).map(|place| order >> (2 * place) & 3).collect();
        if (0..4).any(|thing| !order.contains(&thing)) {
            continue;
        }
        let poll = Poll::new().unwrap();
        let registrator = poll.registrator();
        let waker = Waker::new(&registrator, 2).unwrap();
        let (stream, mut peer) = pair();
        registrator.register(&stream, 1, READABLE | WRITABLE | LEVEL).unwrap();
        waker.wake().unwrap();
        peer.write_all(b"x").unwrap();
        let (mut poll, mut registrator) = (Some(poll), Some(registrator));
        let (mut waker, mut stream) = (Some(waker), Some(stream));
        for thing in &order {
            match thing {
                0 => drop(poll.take()),
                1 => drop(registrator.take()),
                2 => drop(waker.take()),
                _ => drop(stream.take()),
            }
            // What is left still answers.
            if let Some(poll) = &mut poll {
                poll.poll(&mut Events::new(), Some(0)).unwrap();
            }
            if let Some(waker) = &waker {
                waker.wake().unwrap();
            }
            if let Some(mut stream) = stream.as_ref() {
                stream.write_all(b"y").unwrap();
            }
        }
        let mut rest = Vec::new();
        // The stream closed with a byte unread, so its peer sees the end or a reset; either is fine here.
        let _ = peer.read_to_end(&mut rest);
    }
}
