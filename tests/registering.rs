//! Registering: the newest registration wins, readiness is looked at anew, modes, closed sources, bad input.

mod util;

use minimio::{Events, Interests, Poll, Source};
use std::io::{ErrorKind, Write};
use std::net::{Shutdown, UdpSocket};
use std::thread;
use util::*;

const MODES: [(&str, Interests); 3] =
    [("one-shot", READABLE), ("level", Interests::LEVEL), ("edge", Interests::EDGE)];

#[test]
fn a_stream_registered_as_the_book_writes_it_reports_its_token() {
    let mut poll = Poll::new().unwrap();
    let (mut stream, mut peer) = pair();
    let registrator = poll.registrator();
    #[allow(clippy::unnecessary_mut_passed)] // what the book writes compiles
    registrator.register(&mut stream, 10, Interests::READABLE).unwrap();

    peer.write_all(b"hello").unwrap();

    let said = expect_event(&mut poll, 10);
    assert!(said.readable && !said.writable && !said.read_closed && !said.error);
}

#[test]
fn nothing_is_reported_before_there_is_something_to_read() {
    let mut poll = Poll::new().unwrap();
    let (stream, mut peer) = pair();
    poll.registry().register(&stream, 1, READABLE | LEVEL).unwrap();
    expect_nothing(&mut poll);

    peer.write_all(b"x").unwrap();
    assert!(expect_event(&mut poll, 1).readable);
}

#[test]
fn every_token_is_the_users() {
    for token in [0, 1, 2, 3, usize::MAX, usize::MAX - 1, usize::MAX / 2, usize::MAX / 2 + 1, 1 << 31] {
        let mut poll = Poll::new().unwrap();
        let (stream, mut peer) = pair();
        poll.registry().register(&stream, token, READABLE).unwrap();
        expect_nothing_at_once(&mut poll);
        peer.write_all(b"x").unwrap();
        assert!(expect_event(&mut poll, token).readable);
    }
}

#[track_caller]
fn expect_nothing_at_once(poll: &mut Poll) {
    assert_eq!(poll.poll(&mut Events::new(), Some(0)).unwrap(), 0);
}

#[test]
fn two_sources_may_share_a_token() {
    let mut poll = Poll::new().unwrap();
    let (first, mut first_peer) = pair();
    let (second, mut second_peer) = pair();
    poll.registry().register(&first, 5, READABLE).unwrap();
    poll.registry().register(&second, 5, READABLE).unwrap();

    first_peer.write_all(b"x").unwrap();
    assert!(expect_event(&mut poll, 5).readable);
    second_peer.write_all(b"x").unwrap();
    assert!(expect_event(&mut poll, 5).readable);
    expect_nothing(&mut poll);
}

#[test]
fn registering_again_replaces_the_token() {
    let mut poll = Poll::new().unwrap();
    let (stream, mut peer) = pair();
    peer.write_all(b"x").unwrap();
    poll.registry().register(&stream, 1, READABLE | LEVEL).unwrap();
    assert!(expect_event(&mut poll, 1).readable);

    poll.registry().register(&stream, 2, READABLE | LEVEL).unwrap();

    // `expect_event` fails for any other token, here and in the polls that follow.
    for _ in 0..3 {
        assert!(expect_event(&mut poll, 2).readable);
    }
}

#[test]
fn registering_again_replaces_a_token_whose_event_was_ready_but_not_yet_polled() {
    let mut poll = Poll::new().unwrap();
    let (stream, mut peer) = pair();
    poll.registry().register(&stream, 1, READABLE).unwrap();
    peer.write_all(b"x").unwrap();
    poll.registry().register(&stream, 2, READABLE).unwrap();
    assert!(expect_event(&mut poll, 2).readable);
    expect_nothing(&mut poll);
}

#[test]
fn registering_again_replaces_the_direction() {
    let mut poll = Poll::new().unwrap();
    let (stream, mut peer) = pair();
    peer.write_all(b"x").unwrap();
    poll.registry().register(&stream, 1, READABLE | LEVEL).unwrap();
    assert!(expect_event(&mut poll, 1).readable);

    // There is something to read, but it is no longer asked for.
    poll.registry().register(&stream, 1, WRITABLE | LEVEL).unwrap();
    for _ in 0..2 {
        let said = expect_event(&mut poll, 1);
        assert!(said.writable && !said.readable);
    }

    poll.registry().register(&stream, 1, READABLE | LEVEL).unwrap();
    let said = expect_event(&mut poll, 1);
    assert!(said.readable && !said.writable);
}

#[test]
fn the_end_of_a_direction_that_is_no_longer_asked_for_is_not_reported() {
    let mut poll = Poll::new().unwrap();
    let (stream, peer) = pair();
    peer.shutdown(Shutdown::Write).unwrap();
    // The kernel has its answer ready when only writing is asked for.
    for _ in 0..3 {
        poll.registry().register(&stream, 1, READABLE | WRITABLE | LEVEL).unwrap();
        expect_until(&mut poll, 1, |said| said.read_closed);
        poll.registry().register(&stream, 1, READABLE | WRITABLE).unwrap();
        poll.registry().reregister(&stream, 2, WRITABLE | LEVEL).unwrap();
        for _ in 0..3 {
            let said = expect_event(&mut poll, 2);
            assert!(said.writable && !said.readable && !said.read_closed, "{:?}", said);
        }
    }
}

#[test]
fn changing_the_mode_takes_effect_at_once() {
    for (from_name, from) in MODES {
        for (to_name, to) in MODES {
            for again in [false, true] {
                println!("from {} to {}, reregister: {}", from_name, to_name, again);
                let mut poll = Poll::new().unwrap();
                let (stream, mut peer) = pair();
                peer.write_all(b"x").unwrap();
                poll.registry().register(&stream, 1, READABLE | from).unwrap();
                assert!(expect_event(&mut poll, 1).readable);

                if again {
                    poll.registry().reregister(&stream, 2, READABLE | to).unwrap();
                } else {
                    poll.registry().register(&stream, 2, READABLE | to).unwrap();
                }

                // Readiness is looked at anew, whatever the mode; then each mode goes its own way.
                assert!(expect_event(&mut poll, 2).readable);
                if to.is_level() {
                    assert!(expect_event(&mut poll, 2).readable);
                    continue;
                }
                expect_nothing(&mut poll);
                assert_eq!(drain(&stream), b"x");
                peer.write_all(b"y").unwrap();
                if to.is_edge() {
                    assert!(expect_event(&mut poll, 2).readable);
                } else {
                    expect_nothing(&mut poll);
                }
            }
        }
    }
}

#[test]
fn reregister_without_a_registration_is_not_found() {
    let poll = Poll::new().unwrap();
    let (stream, _peer) = pair();
    expect_kind(poll.registry().reregister(&stream, 1, READABLE), ErrorKind::NotFound);
    expect_kind(poll.registrator().reregister(&stream, 1, READABLE), ErrorKind::NotFound);

    poll.registry().register(&stream, 1, READABLE).unwrap();
    poll.registry().reregister(&stream, 1, READABLE).unwrap();
    poll.registry().deregister(&stream).unwrap();
    expect_kind(poll.registry().reregister(&stream, 1, READABLE), ErrorKind::NotFound);
}

#[test]
fn deregister_without_a_registration_is_not_found() {
    let poll = Poll::new().unwrap();
    let (stream, _peer) = pair();
    expect_kind(poll.registry().deregister(&stream), ErrorKind::NotFound);
    expect_kind(poll.registrator().deregister(&stream), ErrorKind::NotFound);

    poll.registry().register(&stream, 1, READABLE | WRITABLE).unwrap();
    poll.registry().deregister(&stream).unwrap();
    expect_kind(poll.registry().deregister(&stream), ErrorKind::NotFound);
}

#[test]
fn what_is_not_found_is_said_in_words() {
    let poll = Poll::new().unwrap();
    let (stream, _peer) = pair();
    for refused in [poll.registry().reregister(&stream, 1, READABLE), poll.registry().deregister(&stream)] {
        assert_eq!(refused.unwrap_err().to_string(), "the source is not registered with this queue");
    }
}

#[test]
fn a_registration_is_known_to_its_own_queue_only() {
    let here = Poll::new().unwrap();
    let there = Poll::new().unwrap();
    let (stream, _peer) = pair();
    here.registry().register(&stream, 1, READABLE).unwrap();
    expect_kind(there.registry().reregister(&stream, 1, READABLE), ErrorKind::NotFound);
    expect_kind(there.registry().deregister(&stream), ErrorKind::NotFound);
    here.registry().deregister(&stream).unwrap();
}

#[test]
fn a_deregistered_source_is_not_reported() {
    for (name, mode) in MODES {
        println!("{}", name);
        let mut poll = Poll::new().unwrap();
        let (stream, mut peer) = pair();
        poll.registry().register(&stream, 1, READABLE | WRITABLE | mode).unwrap();
        // Its event is ready, and not yet polled.
        peer.write_all(b"x").unwrap();
        poll.registry().deregister(&stream).unwrap();
        expect_nothing(&mut poll);
        peer.write_all(b"y").unwrap();
        drop(peer);
        expect_nothing(&mut poll);
    }
}

#[test]
fn a_deregistered_source_can_be_registered_again_here() {
    let mut poll = Poll::new().unwrap();
    let (stream, mut peer) = pair();
    poll.registry().register(&stream, 1, READABLE).unwrap();
    poll.registry().deregister(&stream).unwrap();
    poll.registry().register(&stream, 2, READABLE).unwrap();
    peer.write_all(b"x").unwrap();
    assert!(expect_event(&mut poll, 2).readable);
    expect_nothing(&mut poll);
}

#[test]
fn a_deregistered_source_can_move_to_another_queue_and_back() {
    let mut here = Poll::new().unwrap();
    let mut there = Poll::new().unwrap();
    let (stream, mut peer) = pair();
    for round in 0..5 {
        here.registry().register(&stream, round, READABLE).unwrap();
        peer.write_all(b"x").unwrap();
        assert!(expect_event(&mut here, round).readable);
        here.registry().deregister(&stream).unwrap();

        there.registry().register(&stream, 100 + round, READABLE).unwrap();
        assert!(expect_event(&mut there, 100 + round).readable);
        assert_eq!(drain(&stream), b"x");
        there.registry().deregister(&stream).unwrap();
    }
    expect_nothing(&mut here);
    expect_nothing(&mut there);
}

#[test]
fn a_source_that_is_ready_when_registered_delivers_an_event_in_every_mode() {
    for (name, mode) in MODES {
        println!("{}", name);
        let mut poll = Poll::new().unwrap();
        let (stream, mut peer) = pair();
        peer.write_all(b"x").unwrap();
        poll.registry().register(&stream, 1, READABLE | mode).unwrap();
        assert!(expect_event(&mut poll, 1).readable);
        // Again and again, though nothing has changed.
        for token in 2..5 {
            poll.registry().register(&stream, token, READABLE | mode).unwrap();
            assert!(expect_event(&mut poll, token).readable);
            poll.registry().reregister(&stream, token, READABLE | mode).unwrap();
            assert!(expect_event(&mut poll, token).readable);
        }
    }
}

#[test]
fn what_came_between_a_one_shot_event_and_its_re_arming_is_not_lost() {
    let mut poll = Poll::new().unwrap();
    let (stream, mut peer) = pair();
    poll.registry().register(&stream, 1, READABLE).unwrap();
    for _ in 0..20 {
        peer.write_all(b"x").unwrap();
        assert!(expect_event(&mut poll, 1).readable);
        assert_eq!(drain(&stream), b"x");
        peer.write_all(b"y").unwrap();
        poll.registry().reregister(&stream, 1, READABLE).unwrap();
        assert!(expect_event(&mut poll, 1).readable);
        assert_eq!(drain(&stream), b"y");
        poll.registry().reregister(&stream, 1, READABLE).unwrap();
    }
}

#[test]
fn a_one_shot_source_is_reported_once_and_then_silent() {
    let mut poll = Poll::new().unwrap();
    let (stream, mut peer) = pair();
    poll.registry().register(&stream, 1, READABLE).unwrap();
    peer.write_all(b"x").unwrap();
    assert!(expect_event(&mut poll, 1).readable);
    expect_nothing(&mut poll);
    // Neither new data nor the end of the stream break the silence.
    peer.write_all(b"y").unwrap();
    expect_nothing(&mut poll);
    drop(peer);
    expect_nothing(&mut poll);
    poll.registry().reregister(&stream, 1, READABLE).unwrap();
    assert!(expect_event(&mut poll, 1).readable);
}

#[test]
fn one_direction_of_a_one_shot_source_silences_the_other_too() {
    let mut poll = Poll::new().unwrap();
    let (stream, mut peer) = pair();
    poll.registry().register(&stream, 1, READABLE | WRITABLE).unwrap();
    let said = expect_event(&mut poll, 1);
    assert!(said.writable && !said.readable);
    peer.write_all(b"x").unwrap();
    expect_nothing(&mut poll);

    poll.registry().reregister(&stream, 1, READABLE | WRITABLE).unwrap();
    let said = expect_event(&mut poll, 1);
    assert!(said.readable || said.writable);
    expect_nothing(&mut poll);
}

#[test]
fn a_spent_one_shot_source_is_still_registered() {
    let mut poll = Poll::new().unwrap();
    for interests in [READABLE, READABLE | WRITABLE] {
        let (stream, mut peer) = pair();
        poll.registry().register(&stream, 1, interests).unwrap();
        peer.write_all(b"x").unwrap();
        expect_event(&mut poll, 1);
        poll.registry().deregister(&stream).unwrap();
        expect_kind(poll.registry().deregister(&stream), ErrorKind::NotFound);
    }
}

#[test]
fn a_level_source_is_reported_by_every_poll_while_it_is_ready() {
    let mut poll = Poll::new().unwrap();
    let (stream, mut peer) = pair();
    poll.registry().register(&stream, 1, READABLE | LEVEL).unwrap();
    peer.write_all(b"x").unwrap();
    for _ in 0..5 {
        assert!(expect_event(&mut poll, 1).readable);
    }
    assert_eq!(drain(&stream), b"x");
    expect_nothing(&mut poll);
    peer.write_all(b"y").unwrap();
    assert!(expect_event(&mut poll, 1).readable);
}

#[test]
fn an_edge_source_is_reported_each_time_it_becomes_ready() {
    let mut poll = Poll::new().unwrap();
    let (stream, mut peer) = pair();
    poll.registry().register(&stream, 1, READABLE | EDGE).unwrap();
    for _ in 0..5 {
        peer.write_all(b"x").unwrap();
        assert!(expect_event(&mut poll, 1).readable);
        expect_nothing(&mut poll);
        assert_eq!(drain(&stream), b"x");
    }
}

#[test]
fn an_edge_source_becomes_writable_again_after_the_peer_has_read() {
    let mut poll = Poll::new().unwrap();
    let (stream, mut peer) = pair();
    poll.registry().register(&stream, 1, WRITABLE | EDGE).unwrap();
    assert!(expect_event(&mut poll, 1).writable);
    let sent = fill(&stream);
    expect_nothing(&mut poll);

    let mut received = vec![0; sent];
    std::io::Read::read_exact(&mut peer, &mut received).unwrap();
    assert!(expect_event(&mut poll, 1).writable);
}

#[test]
fn an_edge_source_that_blocked_in_one_direction_is_not_reported_for_the_other() {
    let mut poll = Poll::new().unwrap();
    let (stream, mut peer) = pair();
    poll.registry().register(&stream, 1, READABLE | WRITABLE | EDGE).unwrap();
    assert!(expect_event(&mut poll, 1).writable);
    // The stream is writable all the while; each blocked read is no reason to say so again.
    for _ in 0..5 {
        assert_eq!(drain(&stream), b"");
        expect_nothing(&mut poll);
    }
    peer.write_all(b"x").unwrap();
    assert!(expect_event(&mut poll, 1).readable);
}

#[test]
fn a_source_closed_without_deregister_delivers_nothing_more() {
    for (name, mode) in MODES {
        println!("{}", name);
        let mut poll = Poll::new().unwrap();
        let (stream, mut peer) = pair();
        poll.registry().register(&stream, 1, READABLE | WRITABLE | mode).unwrap();
        peer.write_all(b"x").unwrap();
        drop(stream);
        expect_nothing(&mut poll);
        drop(peer);
        expect_nothing(&mut poll);
    }
}

#[test]
fn a_reused_number_starts_afresh() {
    let mut poll = Poll::new().unwrap();
    for round in 0..50 {
        let (stream, mut peer) = pair();
        // The number is that of the stream of the round before, most of the time.
        expect_kind(poll.registry().deregister(&stream), ErrorKind::NotFound);
        expect_kind(poll.registry().reregister(&stream, round, READABLE), ErrorKind::NotFound);
        poll.registry().register(&stream, round, READABLE).unwrap();
        peer.write_all(b"x").unwrap();
        if round % 2 == 0 {
            assert!(expect_event(&mut poll, round).readable);
        }
    }
    expect_nothing(&mut poll);
}

#[test]
fn registering_from_another_thread_takes_effect_on_the_poll_that_waits() {
    let mut poll = Poll::new().unwrap();
    let registrator = poll.registrator();
    let (stream, mut peer) = pair();
    thread::scope(|scope| {
        scope.spawn(|| {
            registrator.register(&stream, 1, READABLE).unwrap();
            peer.write_all(b"x").unwrap();
        });
        assert!(expect_event(&mut poll, 1).readable);
    });
    // The same for re-arming: the data is there, the poll that waits learns of it.
    thread::scope(|scope| {
        scope.spawn(|| registrator.reregister(&stream, 2, READABLE).unwrap());
        assert!(expect_event(&mut poll, 2).readable);
    });
}

#[test]
fn deregistering_from_another_thread_takes_effect_on_the_poll_that_waits() {
    let mut poll = Poll::new().unwrap();
    let registrator = poll.registrator();
    let (quiet, mut quiet_peer) = pair();
    let (stream, mut peer) = pair();
    registrator.register(&quiet, 1, READABLE).unwrap();
    registrator.register(&stream, 2, READABLE).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            registrator.deregister(&quiet).unwrap();
            quiet_peer.write_all(b"x").unwrap();
            peer.write_all(b"x").unwrap();
        });
        assert!(expect_event(&mut poll, 2).readable);
    });
    expect_nothing(&mut poll);
}

#[test]
fn register_succeeds_while_another_thread_deregisters_the_source() {
    let poll = Poll::new().unwrap();
    let registrator = poll.registrator();
    let (stream, _peer) = pair();
    let (registrator, stream) = (&registrator, &stream);
    thread::scope(|scope| {
        for token in 0..2 {
            scope.spawn(move || {
                for _ in 0..5000 {
                    registrator.register(stream, token, READABLE).expect("it never fails");
                }
            });
        }
        scope.spawn(move || {
            for _ in 0..5000 {
                match registrator.deregister(stream) {
                    Ok(()) => {}
                    refused => expect_kind(refused, ErrorKind::NotFound),
                }
            }
        });
    });
}

#[test]
fn interests_without_a_direction_or_with_both_modes_are_invalid() {
    let mut poll = Poll::new().unwrap();
    let (stream, mut peer) = pair();
    let bad = [LEVEL, EDGE, LEVEL | EDGE, READABLE | LEVEL | EDGE, READABLE | WRITABLE | LEVEL | EDGE];
    for interests in bad {
        expect_kind(poll.registry().register(&stream, 1, interests), ErrorKind::InvalidInput);
    }
    // Nothing was half done: the source is unknown.
    expect_kind(poll.registry().deregister(&stream), ErrorKind::NotFound);

    // And an earlier registration stays as it was.
    poll.registry().register(&stream, 2, READABLE).unwrap();
    for interests in bad {
        expect_kind(poll.registry().register(&stream, 3, interests), ErrorKind::InvalidInput);
        expect_kind(poll.registry().reregister(&stream, 3, interests), ErrorKind::InvalidInput);
    }
    peer.write_all(b"x").unwrap();
    assert!(expect_event(&mut poll, 2).readable);
}

#[test]
fn sources_of_several_types_may_stand_behind_one() {
    let mut poll = Poll::new().unwrap();
    let listener = listener();
    let (stream, mut peer) = pair();
    let sources: [&dyn Source; 2] = [&listener, &stream];
    for (token, source) in sources.into_iter().enumerate() {
        poll.registry().register(source, token, READABLE).unwrap();
    }
    peer.write_all(b"x").unwrap();
    assert!(expect_event(&mut poll, 1).readable);
    // What the type knows about edges is not lost behind it.
    drain(&stream);
    poll.registry().reregister(sources[1], 2, READABLE | EDGE).unwrap();
    expect_nothing(&mut poll);
    peer.write_all(b"x").unwrap();
    assert!(expect_event(&mut poll, 2).readable);
    for source in sources {
        poll.registry().deregister(source).unwrap();
    }
}

#[test]
fn a_listener_of_std_is_readable_when_someone_connects() {
    let mut poll = Poll::new().unwrap();
    let listener = listener();
    listener.set_nonblocking(true).unwrap();
    poll.registry().register(&listener, 1, READABLE | LEVEL).unwrap();
    expect_nothing(&mut poll);
    let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    assert!(expect_event(&mut poll, 1).readable);
    listener.accept().unwrap();
    expect_nothing(&mut poll);
}

#[test]
fn a_datagram_socket_of_std_is_a_source_as_it_is() {
    let mut poll = Poll::new().unwrap();
    let receiver = UdpSocket::bind(localhost()).unwrap();
    receiver.set_nonblocking(true).unwrap();
    let sender = UdpSocket::bind(localhost()).unwrap();
    poll.registry().register(&receiver, 1, READABLE | LEVEL).unwrap();
    expect_nothing(&mut poll);

    sender.send_to(b"one", receiver.local_addr().unwrap()).unwrap();
    assert!(expect_event(&mut poll, 1).readable);
    let mut buffer = [0; 16];
    assert_eq!(receiver.recv(&mut buffer).unwrap(), 3);
    expect_nothing(&mut poll);

    poll.registry().register(&receiver, 2, WRITABLE).unwrap();
    assert!(expect_event(&mut poll, 2).writable);
}

#[test]
fn a_stream_of_std_is_a_source_as_it_is() {
    for (name, mode) in &MODES[..2] {
        println!("{}", name);
        let mut poll = Poll::new().unwrap();
        let (stream, mut peer) = std_pair();
        poll.registry().register(&stream, 1, READABLE | *mode).unwrap();
        peer.write_all(b"x").unwrap();
        assert!(expect_event(&mut poll, 1).readable);
        assert_eq!(drain(&stream), b"x");
        poll.registry().reregister(&stream, 2, WRITABLE | *mode).unwrap();
        assert!(expect_event(&mut poll, 2).writable);
        poll.registry().deregister(&stream).unwrap();
    }
}

#[cfg(windows)]
#[test]
fn edge_mode_for_a_foreign_socket_is_unsupported() {
    // The kernel tells a socket's state, not its changes.
    let mut poll = Poll::new().unwrap();
    let (stream, mut peer) = std_pair();
    expect_kind(poll.registry().register(&stream, 1, READABLE | EDGE), ErrorKind::Unsupported);
    poll.registry().register(&stream, 2, READABLE).unwrap();
    expect_kind(poll.registry().register(&stream, 3, READABLE | EDGE), ErrorKind::Unsupported);
    peer.write_all(b"x").unwrap();
    assert!(expect_event(&mut poll, 2).readable);
}

#[cfg(unix)]
#[test]
fn edge_mode_works_for_a_foreign_socket() {
    let mut poll = Poll::new().unwrap();
    let (stream, mut peer) = std_pair();
    poll.registry().register(&stream, 1, READABLE | EDGE).unwrap();
    peer.write_all(b"x").unwrap();
    assert!(expect_event(&mut poll, 1).readable);
    expect_nothing(&mut poll);
}
