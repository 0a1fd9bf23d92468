//! What only Windows itself can settle: Wine, where the other tests of Windows run, answers these questions in its own way.
//!
//! On a machine with Windows and Rust, in the folder of the crate:
//!
//! ```text
//! cargo test --test windows_itself -- --ignored --nocapture --test-threads 1
//! ```
//!
//! It takes about a minute and touches nothing but loopback. All must pass; please report what it prints, passed or not.
#![cfg(windows)]

mod util;

use minimio::{Events, Interests, Poll, TcpStream};
use std::io::{ErrorKind, Read, Write};
use std::net::{self, UdpSocket};
use std::os::raw::c_void;
use std::os::windows::io::{AsRawSocket, RawSocket};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{env, thread};
use util::*;

#[link(name = "kernel32")]
extern "system" {
    fn SetProcessMitigationPolicy(policy: i32, buffer: *const c_void, length: usize) -> i32;
}

/// From here on a handle that is not open ends the process, when the kernel is given it.
fn check_handles_strictly() {
    #[allow(non_upper_case_globals)]
    const ProcessStrictHandleCheckPolicy: i32 = 3;
    const RAISE_EXCEPTION: u32 = 1;
    const FOR_EVER: u32 = 2;
    let flags = RAISE_EXCEPTION | FOR_EVER;
    // SAFETY: the system reads the 4 bytes of `flags`.
    let set = unsafe {
        SetProcessMitigationPolicy(ProcessStrictHandleCheckPolicy, (&flags as *const u32).cast(), 4)
    };
    assert_ne!(set, 0, "{}", std::io::Error::last_os_error());
}

/// Sockets are closed in every way and at every moment, and their numbers come back.
fn close_without_deregistering() {
    let mut poll = Poll::new().unwrap();
    let mut events = Events::with_capacity(16);
    for round in 0..2000 {
        let (near, mut peer) = std_pair();
        linger_for_nothing(&near);
        let mode = [READABLE, LEVEL, EDGE][round % 3];
        let ours = round % 2 == 0;
        let stage = round / 6 % 3;
        if stage > 0 {
            peer.write_all(b"x").unwrap();
        }
        if ours {
            let stream = TcpStream::from_std(near).unwrap();
            poll.registry().register(&stream, round, READABLE | mode).unwrap();
            if stage > 1 {
                poll.poll_timeout(&mut events, DEADLINE).unwrap();
            }
            drop(stream);
        } else {
            let mode = if mode.is_edge() { LEVEL } else { mode };
            poll.registry().register(&near, round, READABLE | mode).unwrap();
            if stage > 1 {
                poll.poll_timeout(&mut events, DEADLINE).unwrap();
            }
            drop(near);
        }
        poll.poll(&mut events, Some(0)).unwrap();
        poll.poll(&mut events, Some(0)).unwrap();
        assert!(events.is_empty(), "{:?}", events);
    }
}

#[test]
#[ignore = "for real Windows: the head of this file says how to run it"]
fn no_closed_handle_is_given_to_the_kernel() {
    const CHILD: &str = "MINIMIO_STRICT";
    if env::var_os(CHILD).is_some() {
        check_handles_strictly();
        close_without_deregistering();
        return;
    }
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["no_closed_handle_is_given_to_the_kernel", "--exact", "--ignored"]).env(CHILD, "1");
    let status = command.status().unwrap();
    println!("under strict handle checks: {}", status);
    // 0xc0000008 is STATUS_INVALID_HANDLE.
    assert!(status.success());
}

#[test]
#[ignore = "for real Windows: the head of this file says how to run it"]
fn winsock_refuses_a_closed_number() {
    const WSAENOTSOCK: i32 = 10038;
    #[link(name = "ws2_32")]
    extern "system" {
        fn getpeername(socket: RawSocket, address: *mut c_void, length: *mut i32) -> i32;
        fn WSAGetLastError() -> i32;
    }
    let (near, _far) = std_pair();
    let number = near.as_raw_socket();
    drop(near);
    let (mut address, mut length) = ([0u8; 28], 28);
    // SAFETY: Winsock writes at most `length` bytes to `address`.
    let ret = unsafe { getpeername(number, address.as_mut_ptr().cast(), &mut length) };
    // SAFETY: the call takes no memory.
    let error = unsafe { WSAGetLastError() };
    println!("getpeername of a closed number: {}, error {}", ret, error);
    assert_eq!((ret, error), (-1, WSAENOTSOCK));
}

#[test]
#[ignore = "for real Windows: the head of this file says how to run it"]
fn a_hundred_thousand_reregistrations_against_a_thread_that_polls() {
    const ROUNDS: usize = 100_000;
    let mut poll = Poll::new().unwrap();
    let registrator = poll.registrator();
    let (stream, mut peer) = pair();
    registrator.register(&stream, 0, READABLE).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let begin = Instant::now();
            for round in 1..=ROUNDS {
                let mode = [READABLE, LEVEL, EDGE][round % 3];
                let interests = [READABLE, WRITABLE, READABLE | WRITABLE][round % 4 % 3];
                registrator.reregister(&stream, round, interests | mode).unwrap();
            }
            registrator.reregister(&stream, ROUNDS + 1, READABLE).unwrap();
            println!("{} reregistrations in {:?}", ROUNDS, begin.elapsed());
            done.store(true, Ordering::SeqCst);
            peer.write_all(b"x").unwrap();
        });
        let mut events = Events::with_capacity(16);
        let (mut count, mut newest) = (0, 0);
        while newest <= ROUNDS {
            let n = poll.poll_timeout(&mut events, DEADLINE).unwrap();
            assert!(n > 0, "the last event is lost; registering has ended: {:?}", done);
            for event in &events {
                assert!(event.id() >= newest, "{:?} after {}", event, newest);
                newest = event.id();
                count += 1;
            }
        }
        println!("{} events", count);
    });
    expect_nothing(&mut poll);
}

#[test]
#[ignore = "for real Windows: the head of this file says how to run it"]
fn three_hundred_connects_before_the_first_accept() {
    const CONNECTS: usize = 300;
    let mut poll = Poll::new().unwrap();
    let listener = listener();
    let address = listener.local_addr().unwrap();
    let begin = Instant::now();
    let streams: Vec<_> = (0..CONNECTS).map(|_| TcpStream::connect_nonblocking(address).unwrap()).collect();
    for (token, stream) in streams.iter().enumerate() {
        poll.registry().register(stream, token, WRITABLE).unwrap();
    }
    let mut open = [false; CONNECTS];
    let mut events = Events::with_capacity(CONNECTS);
    let mut accepted = Vec::new();
    poll.poll(&mut events, Some(200)).unwrap();
    listener.set_nonblocking(true).unwrap();
    loop {
        for event in &events {
            let error = streams[event.id()].take_error().unwrap();
            assert!(
                !event.is_error() && error.is_none(),
                "connection {}: {:?} {:?}",
                event.id(),
                event,
                error
            );
            open[event.id()] = true;
        }
        while let Ok((peer, _)) = listener.accept() {
            accepted.push(peer);
        }
        let count = open.iter().filter(|open| **open).count();
        if count == CONNECTS {
            break;
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "{} stand after {:?}", count, begin.elapsed());
        poll.poll(&mut events, Some(50)).unwrap();
    }
    println!("{} connections stand after {:?}", CONNECTS, begin.elapsed());
}

#[test]
#[ignore = "for real Windows: the head of this file says how to run it"]
fn a_socket_that_moves_is_heard_where_it_is() {
    let mut polls = [Poll::new().unwrap(), Poll::new().unwrap()];
    let (ours, mut peer) = pair();
    let (others, mut other_peer) = std_pair();
    for round in 0..5000 {
        let (mode, here) = ([READABLE, LEVEL][round % 2], round / 2 % 2);
        polls[here].registry().register(&ours, round, READABLE | mode).unwrap();
        polls[here].registry().register(&others, round, READABLE | mode).unwrap();
        // The other queue is not polled before that, so the packets of its requests are still there.
        peer.write_all(b"x").unwrap();
        assert!(expect_event(&mut polls[here], round).readable);
        (&ours).read_exact(&mut [0]).unwrap();
        while let Ok(n) = polls[here].poll(&mut Events::new(), Some(0)) {
            if n == 0 {
                break;
            }
        }
        other_peer.write_all(b"x").unwrap();
        assert!(expect_event(&mut polls[here], round).readable);
        (&others).read_exact(&mut [0]).unwrap();
        polls[here].registry().deregister(&ours).unwrap();
    }
}

#[test]
#[ignore = "for real Windows: the head of this file says how to run it"]
fn what_is_said_of_a_refused_datagram() {
    let mut poll = Poll::new().unwrap();
    let socket = UdpSocket::bind(localhost()).unwrap();
    let gone = UdpSocket::bind(localhost()).unwrap();
    socket.connect(gone.local_addr().unwrap()).unwrap();
    socket.set_nonblocking(true).unwrap();
    drop(gone);
    poll.registry().register(&socket, 1, READABLE | Interests::LEVEL).unwrap();
    socket.send(b"x").unwrap();
    let said = expect_event(&mut poll, 1);
    let read = socket.recv(&mut [0]).map_err(|error| error.kind());
    println!("{:?}, then the read says {:?}", said, read);
    assert!(said.readable && !said.read_closed && !said.write_closed);
}

#[test]
#[ignore = "for real Windows: the head of this file says how to run it"]
fn what_is_said_of_a_refused_connect_and_how_long_it_takes() {
    let (_owner, address) = refusing_address();
    let mut poll = Poll::new().unwrap();
    let begin = Instant::now();
    let stream = TcpStream::connect_nonblocking(address).unwrap();
    poll.registry().register(&stream, 1, WRITABLE).unwrap();
    let said = expect_event(&mut poll, 1);
    println!("minimio: {:?} after {:?}", said, begin.elapsed());
    assert!(said.error && said.read_closed && said.write_closed);
    assert_eq!(stream.take_error().unwrap().map(|error| error.kind()), Some(ErrorKind::ConnectionRefused));
    let begin = Instant::now();
    net::TcpStream::connect(address).unwrap_err();
    println!("std: after {:?}", begin.elapsed());
}
