//! Polling: timeouts, batches, and the words for readiness.

mod util;

use minimio::{Events, Poll, TcpStream, Waker};
use std::io::{ErrorKind, Read, Write};
use std::net::{self, Shutdown, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};
use util::*;

#[test]
fn a_poll_returns_how_many_events_it_delivered() {
    let mut poll = Poll::new().unwrap();
    let pairs: Vec<_> = (0..5).map(|_| pair()).collect();
    for (token, (stream, _)) in pairs.iter().enumerate() {
        poll.registry().register(stream, token, WRITABLE).unwrap();
    }
    let mut seen = [false; 5];
    let mut events = Events::with_capacity(16);
    while seen.contains(&false) {
        let n = poll.poll_timeout(&mut events, DEADLINE).unwrap();
        assert!(n > 0 && n == events.len());
        for event in &events {
            assert!(event.is_writable());
            assert!(!seen[event.id()], "one-shot, so once each");
            seen[event.id()] = true;
        }
    }
    expect_nothing(&mut poll);
}

#[test]
fn a_poll_clears_what_an_earlier_one_left() {
    let mut poll = Poll::new().unwrap();
    let (stream, _peer) = pair();
    poll.registry().register(&stream, 1, WRITABLE).unwrap();
    let mut events = Events::with_capacity(4);
    assert_eq!(poll.poll_timeout(&mut events, DEADLINE).unwrap(), 1);
    assert_eq!(poll.poll(&mut events, Some(0)).unwrap(), 0);
    assert!(events.is_empty());
}

#[test]
fn a_poll_with_nothing_registered_waits_for_its_timeout() {
    let mut poll = Poll::new().unwrap();
    for ms in [1, 5, 40] {
        let begin = Instant::now();
        assert_eq!(poll.poll(&mut Events::new(), Some(ms)).unwrap(), 0);
        assert!(begin.elapsed() >= Duration::from_millis(ms as u64), "{} ms were cut short", ms);
    }
}

#[test]
fn a_poll_without_timeout_blocks_until_there_is_an_event() {
    let mut poll = Poll::new().unwrap();
    let (stream, mut peer) = pair();
    poll.registry().register(&stream, 1, READABLE).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| peer.write_all(b"x").unwrap());
        let mut events = Events::new();
        assert_eq!(poll.poll(&mut events, None).unwrap(), 1);
        assert_eq!(events[0].id(), 1);
    });
}

#[test]
fn a_timeout_of_zero_never_blocks_and_sees_what_is_ready() {
    let mut poll = Poll::new().unwrap();
    let (stream, mut peer) = pair();
    poll.registry().register(&stream, 1, READABLE | LEVEL).unwrap();
    let mut events = Events::new();
    for timeout in [0, -1, i32::MIN] {
        assert_eq!(poll.poll(&mut events, Some(timeout)).unwrap(), 0);
    }
    peer.write_all(b"x").unwrap();
    // By now the bytes have arrived for certain; from here on no poll needs to wait.
    expect_event(&mut poll, 1);
    for timeout in [0, -1, i32::MIN] {
        assert_eq!(poll.poll(&mut events, Some(timeout)).unwrap(), 1);
    }
}

#[test]
fn a_fine_timeout_is_never_cut_short() {
    let mut poll = Poll::new().unwrap();
    for micros in [1, 10, 300, 999, 1001, 2500, 10_700] {
        let timeout = Duration::from_micros(micros);
        let begin = Instant::now();
        assert_eq!(poll.poll_timeout(&mut Events::new(), timeout).unwrap(), 0);
        assert!(begin.elapsed() >= timeout, "{:?} were cut short", timeout);
    }
    assert_eq!(poll.poll_timeout(&mut Events::new(), Duration::ZERO).unwrap(), 0);
}

#[test]
fn a_timeout_may_be_left_open() {
    let mut poll = Poll::new().unwrap();
    let waker = Waker::new(poll.registry(), 1).unwrap();
    let mut events = Events::new();
    for timeout in [None, Some(DEADLINE)] {
        waker.wake().unwrap();
        assert_eq!(poll.poll_timeout(&mut events, timeout).unwrap(), 1);
    }
    waker.wake().unwrap();
    assert_eq!(poll.poll_timeout(&mut events, None).unwrap(), 1);
    // For ever is not the same as not at all.
    thread::scope(|scope| {
        scope.spawn(|| waker.wake().unwrap());
        assert_eq!(poll.poll_timeout(&mut events, None).unwrap(), 1);
    });
    assert_eq!(poll.poll_timeout(&mut events, Some(Duration::ZERO)).unwrap(), 0);
}

#[test]
fn a_huge_timeout_waits() {
    let huge = [
        Duration::MAX,
        Duration::from_secs(u64::MAX / 1000),
        Duration::from_secs(1 << 40),
        Duration::from_millis(u32::MAX.into()),
        Duration::from_nanos(u64::MAX),
        Duration::new(i32::MAX as u64, 999_999_999),
    ];
    for timeout in huge {
        let mut poll = Poll::new().unwrap();
        let waker = Waker::new(&poll.registrator(), 9).unwrap();
        assert_eq!(poll.poll(&mut Events::new(), Some(0)).unwrap(), 0);
        let begin = Instant::now();
        thread::scope(|scope| {
            // The wake comes after a poll's worth of silence, from a thread that waits on a queue of its own.
            scope.spawn(|| {
                Poll::new().unwrap().poll(&mut Events::new(), Some(SILENCE_MS)).unwrap();
                waker.wake().unwrap();
            });
            let mut events = Events::new();
            assert_eq!(poll.poll_timeout(&mut events, timeout).unwrap(), 1);
            assert_eq!(events[0].id(), 9);
        });
        assert!(begin.elapsed() >= Duration::from_millis(SILENCE_MS as u64));
    }
    let mut poll = Poll::new().unwrap();
    let waker = Waker::new(&poll.registrator(), 9).unwrap();
    waker.wake().unwrap();
    assert_eq!(poll.poll(&mut Events::new(), Some(i32::MAX)).unwrap(), 1);
}

#[test]
fn what_does_not_fit_comes_with_the_next_poll() {
    let mut poll = Poll::new().unwrap();
    let pairs: Vec<_> = (0..10).map(|_| pair()).collect();
    for (token, (stream, _)) in pairs.iter().enumerate() {
        poll.registry().register(stream, token, WRITABLE).unwrap();
    }
    let mut seen = Vec::new();
    let mut events = Events::with_capacity(3);
    let room = events.capacity();
    while seen.len() < pairs.len() {
        let n = poll.poll_timeout(&mut events, DEADLINE).unwrap();
        assert!(n > 0 && n <= room);
        assert_eq!(events.capacity(), room, "the capacity is the caller's");
        seen.extend(events.iter().map(|event| event.id()));
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..10).collect::<Vec<_>>());
    expect_nothing(&mut poll);
}

#[test]
fn nobody_starves_in_a_small_batch() {
    let mut poll = Poll::new().unwrap();
    let pairs: Vec<_> = (0..4).map(|_| pair()).collect();
    for (token, (stream, _)) in pairs.iter().enumerate() {
        poll.registry().register(stream, token, WRITABLE | LEVEL).unwrap();
    }
    let mut count = [0; 4];
    let mut events = Events::with_capacity(1);
    for _ in 0..80 {
        poll.poll_timeout(&mut events, DEADLINE).unwrap();
        assert_eq!(events.len(), 1);
        count[events[0].id()] += 1;
    }
    assert!(count.iter().all(|n| *n >= 10), "{:?}", count);
}

#[test]
fn events_without_capacity_are_given_some() {
    let mut poll = Poll::new().unwrap();
    let (stream, _peer) = pair();
    poll.registry().register(&stream, 1, WRITABLE | LEVEL).unwrap();
    let mut events = Events::new();
    assert_eq!(poll.poll_timeout(&mut events, DEADLINE).unwrap(), 1);
    assert!(events.capacity() > 0);
    // With nothing ready as well.
    let mut events = Events::new();
    poll.registry().deregister(&stream).unwrap();
    assert_eq!(poll.poll(&mut events, Some(1)).unwrap(), 0);
}

#[test]
fn a_drained_and_unchanged_source_is_not_reported_again() {
    for mode in [LEVEL, EDGE] {
        let mut poll = Poll::new().unwrap();
        let (stream, mut peer) = pair();
        poll.registry().register(&stream, 1, READABLE | mode).unwrap();
        peer.write_all(b"x").unwrap();
        expect_event(&mut poll, 1);
        assert_eq!(drain(&stream), b"x");
        expect_nothing(&mut poll);
        expect_nothing(&mut poll);
    }
}

#[test]
fn a_direction_that_was_not_asked_for_is_not_reported() {
    let mut poll = Poll::new().unwrap();
    let (stream, mut peer) = pair();
    peer.write_all(b"x").unwrap();
    poll.registry().register(&stream, 1, READABLE | LEVEL).unwrap();
    assert!(!expect_event(&mut poll, 1).writable);
    poll.registry().register(&stream, 1, WRITABLE | LEVEL).unwrap();
    assert!(!expect_event(&mut poll, 1).readable);
    // The peer's half-close is none of a writer's business either.
    peer.shutdown(Shutdown::Write).unwrap();
    let said = expect_event(&mut poll, 1);
    assert!(said.writable && !said.readable && !said.write_closed && !said.error);
}

#[test]
fn a_half_close_is_read_closed_and_still_writable() {
    let mut poll = Poll::new().unwrap();
    let (stream, mut peer) = pair();
    poll.registry().register(&stream, 1, READABLE | LEVEL).unwrap();
    peer.shutdown(Shutdown::Write).unwrap();

    let said = expect_until(&mut poll, 1, |said| said.read_closed);
    assert!(said.readable, "the end of the stream is something to read");
    assert!(!said.write_closed && !said.error);
    assert_eq!((&stream).read(&mut [0; 8]).unwrap(), 0);

    (&stream).write_all(b"still here").unwrap();
    let mut buffer = [0; 10];
    peer.read_exact(&mut buffer).unwrap();
    assert_eq!(&buffer, b"still here");

    poll.registry().register(&stream, 1, READABLE | WRITABLE | LEVEL).unwrap();
    let said = expect_until(&mut poll, 1, |said| said.writable);
    assert!(!said.write_closed && !said.error);
}

#[test]
fn what_was_sent_before_a_half_close_can_be_read_to_the_end() {
    let mut poll = Poll::new().unwrap();
    let (stream, mut peer) = pair();
    poll.registry().register(&stream, 1, READABLE | LEVEL).unwrap();
    peer.write_all(b"last words").unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    let mut heard = Vec::new();
    loop {
        assert!(expect_event(&mut poll, 1).readable);
        let mut buffer = [0; 4];
        match (&stream).read(&mut buffer).unwrap() {
            0 => break,
            n => heard.extend_from_slice(&buffer[..n]),
        }
    }
    assert_eq!(heard, b"last words");
}

#[test]
fn a_closed_peer_is_readable() {
    for mode in [LEVEL, EDGE, READABLE] {
        let mut poll = Poll::new().unwrap();
        let (stream, peer) = pair();
        poll.registry().register(&stream, 1, READABLE | mode).unwrap();
        drop(peer);
        let said = expect_event(&mut poll, 1);
        assert!(said.readable && said.read_closed);
        assert_eq!((&stream).read(&mut [0; 8]).unwrap(), 0);
    }
}

#[test]
fn a_reset_wakes_a_reader() {
    let mut poll = Poll::new().unwrap();
    let (stream, peer) = pair();
    poll.registry().register(&stream, 1, READABLE | LEVEL).unwrap();
    reset(peer);
    let said = expect_until(&mut poll, 1, |said| said.write_closed);
    // Writable as well, though nobody asked: an error is there for both directions.
    assert!(said.readable && said.writable && said.read_closed);
}

#[test]
fn a_reset_is_an_error_in_every_mode() {
    for mode in [READABLE, LEVEL, EDGE] {
        let mut poll = Poll::new().unwrap();
        let (stream, peer) = pair();
        poll.registry().register(&stream, 1, READABLE | mode).unwrap();
        reset(peer);
        let said = expect_event(&mut poll, 1);
        assert!(said.error && said.readable && said.writable, "{:?}", said);
        assert!(said.read_closed && said.write_closed, "{:?}", said);
    }
}

#[test]
fn a_refused_datagram_is_an_error_to_pick_up_and_closes_nothing() {
    for mode in [READABLE, LEVEL] {
        let mut poll = Poll::new().unwrap();
        let socket = UdpSocket::bind(localhost()).unwrap();
        let gone = UdpSocket::bind(localhost()).unwrap();
        socket.connect(gone.local_addr().unwrap()).unwrap();
        socket.set_nonblocking(true).unwrap();
        drop(gone);
        poll.registry().register(&socket, 1, READABLE | mode).unwrap();
        socket.send(b"x").unwrap();
        let said = expect_event(&mut poll, 1);
        // Windows and kqueue only say that there is something to read; it is the read that tells why.
        let says_why = cfg!(any(target_os = "linux", target_os = "android"));
        assert!(said.readable && (said.error || !says_why), "{:?}", said);
        assert!(!said.read_closed && !said.write_closed, "{:?}", said);
    }
}

#[test]
fn a_reset_wakes_a_writer_whose_buffer_is_full() {
    let mut poll = Poll::new().unwrap();
    let (stream, peer) = pair();
    fill(&stream);
    poll.registry().register(&stream, 1, WRITABLE | LEVEL).unwrap();
    expect_nothing(&mut poll);
    reset(peer);
    let said = expect_until(&mut poll, 1, |said| said.write_closed);
    assert!(said.writable && said.readable);
    (&stream).write(b"x").expect_err("nothing more can be sent");
}

#[test]
fn a_refused_connect_is_an_error_in_both_directions_whichever_was_asked_for() {
    let (_owner, address) = refusing_address();
    for interests in [READABLE, WRITABLE, READABLE | WRITABLE] {
        let mut poll = Poll::new().unwrap();
        let stream = match TcpStream::connect_nonblocking(address) {
            Ok(stream) => stream,
            // Some systems know at once.
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
                continue;
            }
        };
        poll.registry().register(&stream, 1, interests).unwrap();
        let said = expect_event(&mut poll, 1);
        assert!(said.error && said.readable && said.writable, "{:?}", said);
        let error = stream.take_error().unwrap().expect("the reason");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    }
}

#[test]
fn a_connection_that_stands_is_writable_and_no_error() {
    let mut poll = Poll::new().unwrap();
    let listener = listener();
    let stream = TcpStream::connect_nonblocking(listener.local_addr().unwrap()).unwrap();
    poll.registry().register(&stream, 1, READABLE | WRITABLE | LEVEL).unwrap();
    let said = expect_event(&mut poll, 1);
    assert!(said.writable && !said.readable && !said.error && !said.read_closed && !said.write_closed);
    assert!(stream.take_error().unwrap().is_none());
    assert_eq!(stream.peer_addr().unwrap(), listener.local_addr().unwrap());
}

#[test]
fn one_socket_may_read_and_write_at_once() {
    let mut poll = Poll::new().unwrap();
    let (stream, mut peer) = pair();
    peer.write_all(b"x").unwrap();
    poll.registry().register(&stream, 1, READABLE | WRITABLE | LEVEL).unwrap();
    let (mut readable, mut writable) = (false, false);
    while !(readable && writable) {
        let said = expect_event(&mut poll, 1);
        readable |= said.readable;
        writable |= said.writable;
    }
}

#[test]
fn an_event_can_be_copied_compared_and_printed() {
    let mut poll = Poll::new().unwrap();
    let (stream, mut peer) = pair();
    poll.registry().register(&stream, 42, READABLE | LEVEL).unwrap();
    peer.write_all(b"x").unwrap();
    let mut events = Events::new();
    poll.poll_timeout(&mut events, DEADLINE).unwrap();
    let event = events[0];
    assert_eq!(event, events[0]);
    assert_eq!(format!("{:?}", event), "Event(42 readable)");
    drop(stream);
    drop::<net::TcpStream>(peer);
    assert_eq!(event.id(), 42);
}

#[test]
fn a_poll_shows_in_a_line_which_queue_it_is_and_whether_it_is_closed() {
    let poll = Poll::new().unwrap();
    let _waker = Waker::new(poll.registry(), 1).unwrap();
    let shown = format!("{:?}", poll);
    assert_eq!(shown.matches("Queue").count(), 1, "{}", shown);
    assert!(shown.contains("closed: false") && shown.len() < 100, "{}", shown);
    #[cfg(unix)]
    assert!(shown.contains(&format!("fd: {} ", std::os::unix::io::AsRawFd::as_raw_fd(&poll))), "{}", shown);
    poll.registrator().close_loop().unwrap();
    assert!(format!("{:?}", poll).contains("closed: true"));
}
