//! Edge mode through every method of a stream, and through a call of the user's own: whichever says `WouldBlock`, the next change
//! is reported, and that of its own direction only. The end and an error are always reported.

mod util;

use minimio::{Events, Poll, TcpStream, Token};
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::net::Shutdown;
use std::thread;
use std::time::Instant;
use util::*;

type Transfer = fn(&mut TcpStream) -> io::Result<usize>;

#[test]
fn every_way_to_read_notices_that_there_is_nothing_left() {
    let ways: [(&str, Transfer); 5] = [
        ("read", |stream| stream.read(&mut [0; 8])),
        ("read of a reference", |stream| (&*stream).read(&mut [0; 8])),
        ("read_vectored", |stream| {
            let (mut one, mut two) = ([0; 4], [0; 4]);
            stream.read_vectored(&mut [IoSliceMut::new(&mut one), IoSliceMut::new(&mut two)])
        }),
        ("peek", |stream| stream.peek(&mut [0; 8])),
        ("try_io", |stream| stream.try_io(READABLE, |mut stream| stream.read(&mut [0; 8]))),
    ];
    for (name, read) in ways {
        println!("{}", name);
        let mut poll = Poll::new().unwrap();
        let (mut stream, mut peer) = pair();
        poll.registry().register(&stream, 1, READABLE | WRITABLE | EDGE).unwrap();
        assert!(expect_event(&mut poll, 1).writable);
        for _ in 0..3 {
            expect_kind(read(&mut stream), ErrorKind::WouldBlock);
            expect_nothing(&mut poll);
            peer.write_all(b"hello").unwrap();
            assert!(expect_event(&mut poll, 1).readable);
            stream.read_exact(&mut [0; 5]).unwrap();
        }
    }
}

#[test]
fn every_way_to_write_notices_that_there_is_no_room_left() {
    let ways: [(&str, Transfer); 4] = [
        ("write", |stream| stream.write(&[7; 65536])),
        ("write of a reference", |stream| (&*stream).write(&[7; 65536])),
        ("write_vectored", |stream| {
            let half = [7; 32768];
            stream.write_vectored(&[IoSlice::new(&half), IoSlice::new(&half)])
        }),
        ("try_io", |stream| stream.try_io(WRITABLE, |mut stream| stream.write(&[7; 65536]))),
    ];
    for (name, write) in ways {
        println!("{}", name);
        let mut poll = Poll::new().unwrap();
        let (mut stream, mut peer) = pair();
        poll.registry().register(&stream, 1, READABLE | WRITABLE | EDGE).unwrap();
        for _ in 0..2 {
            assert!(expect_event(&mut poll, 1).writable);
            let mut sent = 0;
            let error = loop {
                match write(&mut stream) {
                    Ok(n) => sent += n,
                    Err(error) => break error,
                }
            };
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            let mut bytes = vec![0; sent];
            peer.read_exact(&mut bytes).unwrap();
        }
        assert!(expect_event(&mut poll, 1).writable);
    }
}

#[test]
fn a_call_of_ones_own_is_given_std_s_stream_and_its_result_is_returned() {
    let (stream, _peer) = pair();
    let address = stream.try_io(READABLE | WRITABLE, |stream| stream.local_addr()).unwrap();
    assert_eq!(address, stream.local_addr().unwrap());
    let refused = stream.try_io(WRITABLE, |_| Err::<(), _>(ErrorKind::AddrInUse.into()));
    expect_kind(refused, ErrorKind::AddrInUse);
    // Without a direction nobody knows what to look out for.
    let without = stream.try_io(EDGE, |_| -> io::Result<()> { panic!("it was called all the same") });
    expect_kind(without, ErrorKind::InvalidInput);
}

#[test]
fn a_would_block_met_before_the_event_was_polled_counts() {
    for read_before in [false, true] {
        let mut poll = Poll::new().unwrap();
        let (mut stream, mut peer) = pair();
        poll.registry().register(&stream, 1, READABLE | EDGE).unwrap();
        if read_before {
            expect_kind(stream.read(&mut [0]), ErrorKind::WouldBlock);
        }
        for byte in 0..5 {
            peer.write_all(&[byte]).unwrap();
            // Somebody reads it before anybody polls, and meets the end of what there is.
            assert_eq!(read_one_then_would_block(&mut stream), byte);
            // There may be an event that was on its way. Nothing follows from it.
            let mut events = Events::with_capacity(4);
            poll.poll(&mut events, Some(SILENCE_MS)).unwrap();
            expect_nothing(&mut poll);
            peer.write_all(&[byte]).unwrap();
            assert!(expect_event(&mut poll, 1).readable);
            assert_eq!(drain(&stream), [byte]);
        }
    }
}

/// Waits for a byte without a queue, and reads on until there is no more.
#[track_caller]
fn read_one_then_would_block(stream: &mut TcpStream) -> u8 {
    let mut byte = [0];
    let begin = Instant::now();
    while let Err(error) = stream.read_exact(&mut byte) {
        assert!(error.kind() == ErrorKind::WouldBlock && begin.elapsed() < DEADLINE, "{}", error);
        thread::yield_now();
    }
    expect_kind(stream.read(&mut [0]), ErrorKind::WouldBlock);
    byte[0]
}

#[test]
fn the_end_is_reported_though_the_last_read_did_not_meet_a_would_block() {
    for both in [false, true] {
        let mut poll = Poll::new().unwrap();
        let (mut stream, mut peer) = pair();
        let interests = if both { READABLE | WRITABLE } else { READABLE };
        poll.registry().register(&stream, 1, interests | EDGE).unwrap();
        peer.write_all(b"x").unwrap();
        expect_until(&mut poll, 1, |said| said.readable);
        assert_eq!(stream.read(&mut [0]).unwrap(), 1);
        expect_quiet(&mut poll, 1, |said| !said.read_closed);
        peer.shutdown(Shutdown::Write).unwrap();
        expect_until(&mut poll, 1, |said| said.read_closed);
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        // It is told once.
        expect_nothing(&mut poll);
    }
}

/// Polls until there is silence; what comes before that must be `harmless`.
#[track_caller]
fn expect_quiet(poll: &mut Poll, token: Token, harmless: impl Fn(&Said) -> bool) {
    let mut events = Events::with_capacity(4);
    while poll.poll(&mut events, Some(SILENCE_MS)).unwrap() > 0 {
        let said = said_of(&events, token).unwrap();
        assert!(harmless(&said), "{:?}", said);
    }
}

#[test]
fn a_reset_is_reported_though_the_last_read_did_not_meet_a_would_block() {
    let mut poll = Poll::new().unwrap();
    let (mut stream, mut peer) = pair();
    poll.registry().register(&stream, 1, READABLE | EDGE).unwrap();
    peer.write_all(b"x").unwrap();
    assert!(expect_event(&mut poll, 1).readable);
    assert_eq!(stream.read(&mut [0]).unwrap(), 1);
    expect_nothing(&mut poll);
    reset(peer);
    assert!(expect_event(&mut poll, 1).error);
    expect_nothing(&mut poll);
}

#[test]
fn a_reset_is_reported_after_the_end() {
    let mut poll = Poll::new().unwrap();
    let (mut stream, peer) = pair();
    poll.registry().register(&stream, 1, READABLE | EDGE).unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    assert!(expect_event(&mut poll, 1).read_closed);
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    expect_nothing(&mut poll);
    reset(peer);
    assert!(expect_event(&mut poll, 1).error);
}

#[test]
fn a_stream_that_was_one_of_std_for_a_while_goes_on() {
    let mut poll = Poll::new().unwrap();
    let (stream, mut peer) = pair();
    poll.registry().register(&stream, 1, READABLE | EDGE).unwrap();
    let mut stream = stream;
    for round in 0..3 {
        peer.write_all(b"x").unwrap();
        assert!(expect_event(&mut poll, 1).readable);
        let std = stream.into_std();
        // By turns it is drained as the one type and as the other.
        if round % 2 == 0 {
            assert_eq!(drain(&std), b"x");
        }
        stream = TcpStream::from_std(std).unwrap();
        if round % 2 == 1 {
            assert_eq!(drain(&stream), b"x");
        }
        expect_quiet(&mut poll, 1, |said| !said.read_closed && !said.error);
    }
    poll.registry().deregister(&stream).unwrap();
}
