//! The listener: std's, but it never waits.

mod util;

use minimio::{Events, Interests, Poll, TcpListener};
use std::io::{ErrorKind, Read, Write};
use std::net::{self, Ipv6Addr, SocketAddr};
use util::*;

const MODES: [(&str, Interests); 3] = [("one-shot", READABLE), ("level", LEVEL), ("edge", EDGE)];

fn own_listener() -> TcpListener {
    TcpListener::bind(localhost()).expect("a listener on loopback")
}

fn connect(listener: &TcpListener) -> net::TcpStream {
    let client = net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    client
}

#[test]
fn accept_gives_a_stream_that_does_not_block() {
    let listener = own_listener();
    expect_kind(listener.accept(), ErrorKind::WouldBlock);
    let mut client = connect(&listener);
    let (mut stream, address) = accept_one(&listener);
    assert_eq!(address, client.local_addr().unwrap());
    assert_eq!(stream.peer_addr().unwrap(), address);
    assert_eq!(stream.local_addr().unwrap(), listener.local_addr().unwrap());

    expect_kind(stream.read(&mut [0; 8]), ErrorKind::WouldBlock);
    let sent = fill(&stream);
    client.read_exact(&mut vec![0; sent]).unwrap();
    client.write_all(b"hello").unwrap();
    let mut poll = Poll::new().unwrap();
    poll.registry().register(&stream, 1, READABLE).unwrap();
    assert!(expect_event(&mut poll, 1).readable);
    assert_eq!(drain(&stream), b"hello");
}

#[test]
fn accept_knows_ipv6() {
    let listener = match TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) {
        Ok(listener) => listener,
        // A machine without IPv6.
        Err(error) => {
            assert_eq!(error.kind(), net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).unwrap_err().kind());
            return;
        }
    };
    let client = connect(&listener);
    let (stream, address) = accept_one(&listener);
    assert_eq!(address, client.local_addr().unwrap());
    assert_eq!(stream.peer_addr().unwrap(), address);
}

#[test]
fn a_listener_is_reported_in_every_mode() {
    for (name, mode) in MODES {
        println!("{}", name);
        let mut poll = Poll::new().unwrap();
        let listener = own_listener();
        poll.registry().register(&listener, 1, READABLE | mode).unwrap();
        expect_nothing(&mut poll);
        for _ in 0..3 {
            let _clients = [connect(&listener), connect(&listener)];
            let mut accepted = 0;
            while accepted < 2 {
                assert!(expect_event(&mut poll, 1).readable);
                // Several may have come with one event: to the last.
                while let Ok((mut stream, _)) = listener.accept() {
                    expect_kind(stream.read(&mut [0; 8]), ErrorKind::WouldBlock);
                    accepted += 1;
                }
                if mode.is_oneshot() {
                    expect_nothing(&mut poll);
                    poll.registry().reregister(&listener, 1, READABLE).unwrap();
                }
            }
            assert_eq!(accepted, 2);
            expect_nothing(&mut poll);
        }
    }
}

#[test]
fn a_level_listener_is_reported_until_the_last_connection_was_accepted() {
    let mut poll = Poll::new().unwrap();
    let listener = own_listener();
    poll.registry().register(&listener, 1, READABLE | LEVEL).unwrap();
    let _clients = [connect(&listener), connect(&listener)];
    for _ in 0..2 {
        assert!(expect_event(&mut poll, 1).readable);
        listener.accept().unwrap();
    }
    expect_nothing(&mut poll);
}

#[test]
fn a_client_that_has_left_again_does_no_harm() {
    let mut poll = Poll::new().unwrap();
    let listener = own_listener();
    poll.registry().register(&listener, 1, READABLE | EDGE).unwrap();
    for _ in 0..3 {
        // One by a reset, one in good order.
        reset(connect(&listener));
        drop(connect(&listener));
        let last = connect(&listener);
        let address = last.local_addr().unwrap();
        let mut events = Events::with_capacity(4);
        let (mut is_there, mut failed) = (false, 0);
        while !is_there {
            assert!(poll.poll_timeout(&mut events, DEADLINE).unwrap() > 0, "the last client never came");
            loop {
                match listener.accept() {
                    Ok((_, from)) => is_there |= from == address,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    // Whether a system tells of the one that has left, and how, is its own affair.
                    Err(_) => failed += 1,
                }
                assert!(failed <= 2, "two have left");
            }
        }
    }
}

#[test]
fn the_users_own_call_may_be_the_one_that_blocks() {
    let mut poll = Poll::new().unwrap();
    let listener = own_listener();
    poll.registry().register(&listener, 1, READABLE | EDGE).unwrap();
    for _ in 0..3 {
        expect_kind(listener.try_io(READABLE, |listener| listener.accept()), ErrorKind::WouldBlock);
        expect_nothing(&mut poll);
        let client = connect(&listener);
        assert!(expect_event(&mut poll, 1).readable);
        let (_, address) = listener.try_io(READABLE, |listener| listener.accept()).unwrap();
        assert_eq!(address, client.local_addr().unwrap());
    }
}

#[test]
fn a_listener_turns_into_that_of_std_and_back() {
    let mut poll = Poll::new().unwrap();
    let listener = TcpListener::from_std(listener()).unwrap();
    let address = listener.local_addr().unwrap();
    poll.registry().register(&listener, 1, READABLE | LEVEL).unwrap();
    let listener = net::TcpListener::from(listener);
    assert_eq!(listener.local_addr().unwrap(), address);
    // Registered where it was, and non-blocking.
    expect_kind(listener.accept(), ErrorKind::WouldBlock);
    let client = net::TcpStream::connect(address).unwrap();
    assert!(expect_event(&mut poll, 1).readable);
    let listener = TcpListener::from_std(listener).unwrap();
    assert_eq!(listener.accept().unwrap().1, client.local_addr().unwrap());
    expect_nothing(&mut poll);
    poll.registry().deregister(&listener).unwrap();
    assert!(format!("{:?}", listener).contains("TcpListener"));
    assert_eq!(listener.into_std().local_addr().unwrap(), address);
}

#[test]
fn a_listener_has_the_methods_of_std() {
    let mut poll = Poll::new().unwrap();
    let listener = own_listener();
    listener.set_ttl(42).unwrap();
    assert_eq!(listener.ttl().unwrap(), 42);
    assert!(listener.take_error().unwrap().is_none());
    let other = own_listener();
    expect_kind(TcpListener::bind(other.local_addr().unwrap()), ErrorKind::AddrInUse);
    expect_kind(TcpListener::bind(&[][..] as &[SocketAddr]), ErrorKind::InvalidInput);
    // The first address that can be had.
    let addresses = [other.local_addr().unwrap(), localhost()];
    assert_ne!(TcpListener::bind(&addresses[..]).unwrap().local_addr().unwrap(), addresses[0]);

    let clone = listener.try_clone().unwrap();
    assert_eq!(clone.local_addr().unwrap(), listener.local_addr().unwrap());
    expect_kind(clone.accept(), ErrorKind::WouldBlock);
    poll.registry().register(&clone, 2, READABLE).unwrap();
    let _client = connect(&listener);
    assert!(expect_event(&mut poll, 2).readable);
    listener.accept().unwrap();
}

#[test]
fn a_listener_outlives_its_poll() {
    let poll = Poll::new().unwrap();
    let listener = own_listener();
    poll.registry().register(&listener, 1, READABLE | EDGE).unwrap();
    drop(poll);
    expect_kind(listener.accept(), ErrorKind::WouldBlock);
    let client = connect(&listener);
    assert_eq!(accept_one(&listener).1, client.local_addr().unwrap());
}

#[cfg(unix)]
#[test]
fn a_listener_made_from_a_descriptor_keeps_its_mode() {
    use std::os::unix::io::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
    // It blocks; what it accepts does not.
    let listener = TcpListener::from(OwnedFd::from(listener()));
    let client = connect(&listener);
    let (mut stream, address) = listener.accept().unwrap();
    assert_eq!(address, client.local_addr().unwrap());
    if cfg!(not(target_vendor = "apple")) {
        expect_kind(stream.read(&mut [0; 8]), ErrorKind::WouldBlock);
    }
    let fd = listener.as_raw_fd();
    assert_eq!(listener.into_raw_fd(), fd);
    // SAFETY: the descriptor was given up by the listener in the line above.
    let listener = unsafe { TcpListener::from_raw_fd(fd) };
    net::TcpListener::from(OwnedFd::from(listener)).local_addr().unwrap();
}

#[cfg(unix)]
#[test]
fn a_listener_that_is_none_of_tcp_is_refused_in_words() {
    use std::os::unix::io::OwnedFd;
    use std::os::unix::net::{UnixListener, UnixStream};
    let folder = std::env::temp_dir().join(format!("minimio-listener-{}", std::process::id()));
    let _ = std::fs::remove_file(&folder);
    let local = UnixListener::bind(&folder).unwrap();
    let _client = UnixStream::connect(&folder).unwrap();
    std::fs::remove_file(&folder).unwrap();
    let listener = TcpListener::from(OwnedFd::from(local));
    expect_kind(listener.accept(), ErrorKind::InvalidInput);
}

#[cfg(windows)]
#[test]
fn a_listener_made_from_a_socket_keeps_its_mode() {
    use std::os::windows::io::{AsRawSocket, FromRawSocket, IntoRawSocket, OwnedSocket};
    let listener = TcpListener::from(OwnedSocket::from(listener()));
    let client = connect(&listener);
    assert_eq!(listener.accept().unwrap().1, client.local_addr().unwrap());
    let socket = listener.as_raw_socket();
    assert_eq!(listener.into_raw_socket(), socket);
    // SAFETY: the socket was given up by the listener in the line above.
    let listener = unsafe { TcpListener::from_raw_socket(socket) };
    net::TcpListener::from(OwnedSocket::from(listener)).local_addr().unwrap();
}
