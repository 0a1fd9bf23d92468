//! The stream: std's, but it never waits.

mod util;

use minimio::{Poll, TcpStream};
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::net::{self, Ipv6Addr, Shutdown, SocketAddr, TcpListener};
use util::*;

#[test]
fn connect_returns_a_stream_that_does_not_block() {
    let listener = listener();
    let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    expect_kind(stream.read(&mut [0; 8]), ErrorKind::WouldBlock);
    expect_kind((&stream).read(&mut [0; 8]), ErrorKind::WouldBlock);
    expect_kind(stream.peek(&mut [0; 8]), ErrorKind::WouldBlock);
    expect_kind(stream.read_vectored(&mut [IoSliceMut::new(&mut [0; 8])]), ErrorKind::WouldBlock);
    // Room comes back as bytes move on, so each fills it for itself.
    let bytes = [7; 65536];
    let mut blocked = |write: fn(&mut TcpStream, &[u8]) -> io::Result<usize>| loop {
        if let Err(error) = write(&mut stream, &bytes) {
            return error.kind();
        }
    };
    assert_eq!(blocked(|stream, bytes| stream.write(bytes)), ErrorKind::WouldBlock);
    let vectored = blocked(|stream, bytes| stream.write_vectored(&[IoSlice::new(bytes)]));
    assert_eq!(vectored, ErrorKind::WouldBlock);
}

#[test]
fn connect_tries_every_address() {
    let (_owner, refusing) = refusing_address();
    let listener = listener();
    let addresses = [refusing, listener.local_addr().unwrap()];
    let stream = TcpStream::connect(&addresses[..]).unwrap();
    assert_eq!(stream.peer_addr().unwrap(), addresses[1]);
}

#[test]
fn connect_looks_names_up() {
    let listener = listener();
    let port = listener.local_addr().unwrap().port();
    let stream = TcpStream::connect(("localhost", port)).unwrap();
    assert_eq!(stream.peer_addr().unwrap().port(), port);
}

#[test]
fn connect_tells_why_it_failed() {
    let (_owner, refusing) = refusing_address();
    expect_kind(TcpStream::connect(refusing), ErrorKind::ConnectionRefused);
    expect_kind(TcpStream::connect(&[][..] as &[SocketAddr]), ErrorKind::InvalidInput);
    // A name without a meaning; what exactly the resolver answers is its own affair.
    TcpStream::connect("no such host:80").unwrap_err();
    TcpStream::connect("127.0.0.1:no-port").unwrap_err();
}

#[test]
fn a_connect_that_does_not_block_stands_when_the_stream_is_writable() {
    connects_without_blocking(listener());
}

#[test]
fn a_connect_that_does_not_block_knows_ipv6() {
    match TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) {
        Ok(listener) => connects_without_blocking(listener),
        // A machine without IPv6 says so to both sides.
        Err(_) => {
            let address = SocketAddr::from((Ipv6Addr::LOCALHOST, 9));
            if let Ok(stream) = TcpStream::connect_nonblocking(address) {
                let mut poll = Poll::new().unwrap();
                poll.registry().register(&stream, 1, WRITABLE).unwrap();
                assert!(expect_event(&mut poll, 1).error);
            }
        }
    }
}

fn connects_without_blocking(listener: TcpListener) {
    let mut poll = Poll::new().unwrap();
    let address = listener.local_addr().unwrap();
    let mut stream = TcpStream::connect_nonblocking(address).unwrap();
    poll.registry().register(&stream, 1, WRITABLE).unwrap();
    assert!(expect_event(&mut poll, 1).writable);
    assert!(stream.take_error().unwrap().is_none());
    assert_eq!(stream.peer_addr().unwrap(), address);

    let (mut peer, from) = listener.accept().unwrap();
    assert_eq!(from, stream.local_addr().unwrap());
    stream.write_all(b"ping").unwrap();
    let mut buffer = [0; 4];
    peer.read_exact(&mut buffer).unwrap();
    assert_eq!(&buffer, b"ping");
    expect_kind(stream.read(&mut buffer), ErrorKind::WouldBlock);
}

#[test]
fn a_connect_that_does_not_block_can_be_read_before_it_is_written() {
    // Registered for reading only, it becomes readable when the peer speaks, not before.
    let mut poll = Poll::new().unwrap();
    let listener = listener();
    let mut stream = TcpStream::connect_nonblocking(listener.local_addr().unwrap()).unwrap();
    poll.registry().register(&stream, 1, READABLE).unwrap();
    let (mut peer, _) = listener.accept().unwrap();
    expect_nothing(&mut poll);
    peer.write_all(b"hello").unwrap();
    assert!(expect_event(&mut poll, 1).readable);
    let mut buffer = [0; 8];
    assert_eq!(stream.read(&mut buffer).unwrap(), 5);
}

#[test]
fn from_std_makes_a_stream_that_does_not_block_and_into_std_gives_it_back() {
    let (near, mut peer) = std_pair();
    near.set_nonblocking(false).unwrap();
    let mut stream = TcpStream::from_std(near).unwrap();
    expect_kind(stream.read(&mut [0; 8]), ErrorKind::WouldBlock);
    let mut near: net::TcpStream = stream.into_std();
    expect_kind(near.read(&mut [0; 8]), ErrorKind::WouldBlock);
    peer.write_all(b"x").unwrap();
    near.set_nonblocking(false).unwrap();
    near.read_exact(&mut [0]).unwrap();
}

#[test]
fn into_std_keeps_the_registration() {
    let mut poll = Poll::new().unwrap();
    let (stream, mut peer) = pair();
    poll.registry().register(&stream, 1, READABLE | LEVEL).unwrap();
    let near = stream.into_std();
    peer.write_all(b"x").unwrap();
    assert!(expect_event(&mut poll, 1).readable);
    assert_eq!(drain(&near), b"x");
    poll.registry().deregister(&near).unwrap();
}

#[test]
fn a_stream_that_was_registered_as_one_of_std_is_silent_once_it_is_dropped_as_one_of_minimio() {
    for mode in [READABLE, LEVEL] {
        let mut poll = Poll::new().unwrap();
        let (near, mut peer) = std_pair();
        poll.registry().register(&near, 1, READABLE | mode).unwrap();
        let stream = TcpStream::from_std(near).unwrap();
        // The event is there when it goes.
        peer.write_all(b"x").unwrap();
        while stream.peek(&mut [0]).is_err() {}
        drop(stream);
        expect_nothing(&mut poll);
    }
}

#[test]
fn from_std_takes_the_registration_over() {
    for mode in [READABLE, LEVEL] {
        let mut poll = Poll::new().unwrap();
        let (near, mut peer) = std_pair();
        poll.registry().register(&near, 1, READABLE | mode).unwrap();
        let stream = TcpStream::from_std(near).unwrap();
        peer.write_all(b"x").unwrap();
        assert!(expect_event(&mut poll, 1).readable);
        poll.registry().reregister(&stream, 2, READABLE | EDGE).unwrap();
        assert!(expect_event(&mut poll, 2).readable);
        assert_eq!(drain(&stream), b"x");
        peer.write_all(b"y").unwrap();
        assert!(expect_event(&mut poll, 2).readable);
        poll.registry().reregister(&stream, 3, READABLE | mode).unwrap();
        // Now as one of minimio's: what was on its way does not come, and nothing else does.
        drop(stream);
        expect_nothing(&mut poll);
    }
}

#[test]
fn options_are_those_of_std() {
    let (stream, peer) = pair();
    assert_eq!(stream.local_addr().unwrap(), peer.peer_addr().unwrap());
    assert_eq!(stream.peer_addr().unwrap(), peer.local_addr().unwrap());
    for nodelay in [true, false] {
        stream.set_nodelay(nodelay).unwrap();
        assert_eq!(stream.nodelay().unwrap(), nodelay);
    }
    stream.set_ttl(42).unwrap();
    assert_eq!(stream.ttl().unwrap(), 42);
    assert!(stream.take_error().unwrap().is_none());
    assert!(format!("{:?}", stream).contains("TcpStream"));
}

#[test]
fn peek_leaves_the_bytes_where_they_are() {
    let mut poll = Poll::new().unwrap();
    let (mut stream, mut peer) = pair();
    poll.registry().register(&stream, 1, READABLE).unwrap();
    peer.write_all(b"peek").unwrap();
    expect_event(&mut poll, 1);
    let mut buffer = [0; 8];
    assert_eq!(stream.peek(&mut buffer).unwrap(), 4);
    assert_eq!(stream.read(&mut buffer).unwrap(), 4);
    expect_kind(stream.peek(&mut buffer), ErrorKind::WouldBlock);
}

#[test]
fn shutdown_ends_one_direction() {
    let (mut stream, mut peer) = pair();
    stream.write_all(b"bye").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut heard = Vec::new();
    peer.read_to_end(&mut heard).unwrap();
    assert_eq!(heard, b"bye");
    stream.write(b"x").expect_err("this direction has ended");

    let mut poll = Poll::new().unwrap();
    poll.registry().register(&stream, 1, READABLE).unwrap();
    peer.write_all(b"and you").unwrap();
    assert!(expect_event(&mut poll, 1).readable);
    assert_eq!(drain(&stream), b"and you");
}

#[test]
fn a_clone_shares_the_socket() {
    let mut poll = Poll::new().unwrap();
    let (stream, mut peer) = pair();
    let mut clone = stream.try_clone().unwrap();
    expect_kind(clone.read(&mut [0; 8]), ErrorKind::WouldBlock);
    poll.registry().register(&clone, 2, READABLE | LEVEL).unwrap();
    peer.write_all(b"x").unwrap();
    assert!(expect_event(&mut poll, 2).readable);
    assert_eq!(drain(&stream), b"x");
    expect_nothing(&mut poll);
    poll.registry().deregister(&clone).unwrap();
    drop(clone);
    peer.write_all(b"y").unwrap();
    poll.registry().register(&stream, 3, READABLE).unwrap();
    assert!(expect_event(&mut poll, 3).readable);
}

#[test]
fn several_buffers_are_read_and_written_in_one_go() {
    let (mut stream, mut peer) = pair();
    let words: [&[u8]; 4] = [b"one ", b"", b"two ", b"three"];
    let slices: Vec<_> = words.iter().map(|word| IoSlice::new(word)).collect();
    assert_eq!(stream.write_vectored(&slices).unwrap(), 13);
    let mut heard = [0; 13];
    peer.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"one two three");
    assert_eq!((&stream).write_vectored(&[]).unwrap(), 0);

    let mut poll = Poll::new().unwrap();
    poll.registry().register(&stream, 1, READABLE).unwrap();
    peer.write_all(b"abcdef").unwrap();
    expect_event(&mut poll, 1);
    let (mut first, mut second) = ([0; 2], [0; 8]);
    let mut slices = [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)];
    assert_eq!(stream.read_vectored(&mut slices).unwrap(), 6);
    assert_eq!((&first, &second[..4]), (b"ab", &b"cdef"[..]));
}

#[test]
fn more_buffers_than_the_system_takes_are_sent_in_part() {
    let (mut stream, mut peer) = pair();
    let byte = [b'z'];
    let slices = vec![IoSlice::new(&byte); 5000];
    let sent = stream.write_vectored(&slices).unwrap();
    assert!(sent > 0 && sent <= 5000);
    let mut heard = vec![0; sent];
    peer.read_exact(&mut heard).unwrap();
    assert!(heard.iter().all(|byte| *byte == b'z'));
}

#[test]
fn writing_to_a_closed_peer_is_an_error() {
    for vectored in [false, true] {
        let (mut stream, peer) = pair();
        drop(peer);
        // The first writes may still be taken; the answer of the other side makes the later ones fail.
        let error = loop {
            let result = match vectored {
                false => stream.write(b"x"),
                true => stream.write_vectored(&[IoSlice::new(b"x"), IoSlice::new(b"y")]),
            };
            match result {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => break error,
                Ok(_) => {}
            }
        };
        let known = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset, ErrorKind::ConnectionAborted];
        assert!(known.contains(&error.kind()), "{:?}", error);
    }
}

#[test]
fn a_stream_outlives_its_poll() {
    let (mut stream, mut peer) = pair();
    let poll = Poll::new().unwrap();
    poll.registry().register(&stream, 1, READABLE | EDGE).unwrap();
    drop(poll);
    expect_kind(stream.read(&mut [0; 8]), ErrorKind::WouldBlock);
    stream.write_all(b"x").unwrap();
    peer.read_exact(&mut [0]).unwrap();
    expect_kind(stream.read(&mut [0; 8]), ErrorKind::WouldBlock);
}

#[cfg(unix)]
#[test]
fn a_stream_made_from_a_descriptor_keeps_its_mode() {
    use std::os::unix::io::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
    let (near, mut peer) = std_pair();
    near.set_nonblocking(false).unwrap();
    let mut stream = TcpStream::from(OwnedFd::from(near));
    peer.write_all(b"x").unwrap();
    stream.read_exact(&mut [0]).unwrap();
    let fd = stream.as_raw_fd();
    assert_eq!(stream.into_raw_fd(), fd);
    // SAFETY: the descriptor was given up by the stream in the line above.
    let stream = unsafe { TcpStream::from_raw_fd(fd) };
    let near = net::TcpStream::from(OwnedFd::from(stream));
    assert_eq!(near.peer_addr().unwrap(), peer.local_addr().unwrap());
}

#[cfg(windows)]
#[test]
fn a_stream_made_from_a_socket_keeps_its_mode() {
    use std::os::windows::io::{AsRawSocket, FromRawSocket, IntoRawSocket, OwnedSocket};
    let (near, mut peer) = std_pair();
    near.set_nonblocking(false).unwrap();
    let mut stream = TcpStream::from(OwnedSocket::from(near));
    peer.write_all(b"x").unwrap();
    stream.read_exact(&mut [0]).unwrap();
    let socket = stream.as_raw_socket();
    assert_eq!(stream.into_raw_socket(), socket);
    // SAFETY: the socket was given up by the stream in the line above.
    let stream = unsafe { TcpStream::from_raw_socket(socket) };
    let near = net::TcpStream::from(OwnedSocket::from(stream));
    assert_eq!(near.peer_addr().unwrap(), peer.local_addr().unwrap());
}
