//! The datagram socket: std's, but it never waits.

mod util;

use minimio::{Interests, Poll, UdpSocket};
use std::io::{self, ErrorKind};
use std::net::{self, Ipv4Addr, Ipv6Addr, SocketAddr};
use util::*;

const MODES: [(&str, Interests); 3] = [("one-shot", READABLE), ("level", LEVEL), ("edge", EDGE)];

fn socket() -> UdpSocket {
    UdpSocket::bind(localhost()).expect("a datagram socket on loopback")
}

/// Two sockets that have chosen each other.
fn connected() -> (UdpSocket, UdpSocket) {
    let (near, far) = (socket(), socket());
    near.connect(far.local_addr().unwrap()).unwrap();
    far.connect(near.local_addr().unwrap()).unwrap();
    (near, far)
}

#[test]
fn whoever_receives_does_not_wait() {
    let (near, _far) = connected();
    let mut buffer = [0; 8];
    expect_kind(near.recv(&mut buffer), ErrorKind::WouldBlock);
    expect_kind(near.recv_from(&mut buffer), ErrorKind::WouldBlock);
    expect_kind(near.peek(&mut buffer), ErrorKind::WouldBlock);
    expect_kind(near.peek_from(&mut buffer), ErrorKind::WouldBlock);
}

#[test]
fn datagrams_go_there_and_back() {
    let mut poll = Poll::new().unwrap();
    let (one, other) = (socket(), socket());
    let (from, to) = (one.local_addr().unwrap(), other.local_addr().unwrap());
    poll.registry().register(&other, 1, READABLE | LEVEL).unwrap();
    let mut buffer = [0; 16];

    assert_eq!(one.send_to(b"hello", to).unwrap(), 5);
    assert!(expect_event(&mut poll, 1).readable);
    assert_eq!(other.peek_from(&mut buffer).unwrap(), (5, from));
    assert_eq!(other.recv_from(&mut buffer).unwrap(), (5, from));
    assert_eq!(&buffer[..5], b"hello");

    expect_kind(one.peer_addr(), ErrorKind::NotConnected);
    one.connect(to).unwrap();
    other.connect(from).unwrap();
    assert_eq!(one.peer_addr().unwrap(), to);
    assert_eq!(one.send(b"again").unwrap(), 5);
    assert!(expect_event(&mut poll, 1).readable);
    assert_eq!(other.peek(&mut buffer).unwrap(), 5);
    assert_eq!(other.recv(&mut buffer).unwrap(), 5);
    assert_eq!(&buffer[..5], b"again");
    expect_nothing(&mut poll);

    // Nothing at all is a datagram too.
    assert_eq!(one.send(b"").unwrap(), 0);
    assert!(expect_event(&mut poll, 1).readable);
    assert_eq!(other.recv(&mut buffer).unwrap(), 0);
    expect_nothing(&mut poll);
}

#[test]
fn datagrams_are_reported_in_every_mode() {
    for (name, mode) in MODES {
        println!("{}", name);
        let mut poll = Poll::new().unwrap();
        let (near, far) = connected();
        poll.registry().register(&near, 1, READABLE | mode).unwrap();
        expect_nothing(&mut poll);
        for _ in 0..3 {
            far.send(b"one").unwrap();
            far.send(b"two").unwrap();
            let mut taken = 0;
            while taken < 2 {
                assert!(expect_event(&mut poll, 1).readable);
                while let Ok(length) = near.recv(&mut [0; 8]) {
                    assert_eq!(length, 3);
                    taken += 1;
                }
                if mode.is_oneshot() {
                    poll.registry().reregister(&near, 1, READABLE).unwrap();
                }
            }
            expect_nothing(&mut poll);
        }
        poll.registry().register(&near, 2, WRITABLE | mode).unwrap();
        assert!(expect_event(&mut poll, 2).writable);
    }
}

#[test]
fn every_way_to_receive_notices_that_there_is_nothing_left() {
    type Receive = fn(&UdpSocket) -> io::Result<usize>;
    let ways: [(&str, Receive); 5] = [
        ("recv", |socket| socket.recv(&mut [0; 8])),
        ("recv_from", |socket| socket.recv_from(&mut [0; 8]).map(|(n, _)| n)),
        ("peek", |socket| socket.peek(&mut [0; 8])),
        ("peek_from", |socket| socket.peek_from(&mut [0; 8]).map(|(n, _)| n)),
        ("try_io", |socket| socket.try_io(READABLE, |socket| socket.recv(&mut [0; 8]))),
    ];
    for (name, receive) in ways {
        println!("{}", name);
        let mut poll = Poll::new().unwrap();
        let (near, far) = connected();
        poll.registry().register(&near, 1, READABLE | WRITABLE | EDGE).unwrap();
        assert!(expect_event(&mut poll, 1).writable);
        for _ in 0..3 {
            expect_kind(receive(&near), ErrorKind::WouldBlock);
            expect_nothing(&mut poll);
            far.send(b"hello").unwrap();
            assert!(expect_event(&mut poll, 1).readable);
            near.recv(&mut [0; 8]).unwrap();
        }
    }
}

#[test]
fn a_socket_turns_into_that_of_std_and_back() {
    let mut poll = Poll::new().unwrap();
    let near = UdpSocket::from_std(net::UdpSocket::bind(localhost()).unwrap()).unwrap();
    let address = near.local_addr().unwrap();
    poll.registry().register(&near, 1, READABLE | LEVEL).unwrap();
    let near = net::UdpSocket::from(near);
    // Registered where it was, and non-blocking.
    expect_kind(near.recv(&mut [0; 8]), ErrorKind::WouldBlock);
    socket().send_to(b"x", address).unwrap();
    assert!(expect_event(&mut poll, 1).readable);
    let near = UdpSocket::from_std(near).unwrap();
    assert_eq!(near.recv(&mut [0; 8]).unwrap(), 1);
    expect_nothing(&mut poll);
    poll.registry().deregister(&near).unwrap();
    assert!(format!("{:?}", near).contains("UdpSocket"));
    assert_eq!(near.into_std().local_addr().unwrap(), address);
}

#[test]
fn a_socket_has_the_methods_of_std() {
    let mut poll = Poll::new().unwrap();
    let near = socket();
    near.set_broadcast(true).unwrap();
    assert!(near.broadcast().unwrap());
    near.set_ttl(42).unwrap();
    assert_eq!(near.ttl().unwrap(), 42);
    near.set_multicast_loop_v4(false).unwrap();
    assert!(!near.multicast_loop_v4().unwrap());
    near.set_multicast_ttl_v4(7).unwrap();
    assert_eq!(near.multicast_ttl_v4().unwrap(), 7);
    assert!(near.take_error().unwrap().is_none());
    expect_kind(UdpSocket::bind(near.local_addr().unwrap()), ErrorKind::AddrInUse);
    expect_kind(UdpSocket::bind(&[][..] as &[SocketAddr]), ErrorKind::InvalidInput);

    let clone = near.try_clone().unwrap();
    expect_kind(clone.recv(&mut [0; 8]), ErrorKind::WouldBlock);
    poll.registry().register(&clone, 2, READABLE).unwrap();
    socket().send_to(b"x", near.local_addr().unwrap()).unwrap();
    assert!(expect_event(&mut poll, 2).readable);
    assert_eq!(near.recv(&mut [0; 8]).unwrap(), 1);
}

#[test]
fn groups_are_joined_and_left_as_with_std() {
    // What a machine without such a network answers is its own affair, but it is the same. Nothing is sent to a group.
    let same = |ours: io::Result<()>, std: io::Result<()>| {
        assert_eq!(ours.map_err(|error| error.kind()), std.map_err(|error| error.kind()));
    };
    let (near, std) = (socket(), net::UdpSocket::bind(localhost()).unwrap());
    let (group, interface) = (Ipv4Addr::new(224, 0, 0, 251), Ipv4Addr::LOCALHOST);
    same(near.join_multicast_v4(&group, &interface), std.join_multicast_v4(&group, &interface));
    same(near.leave_multicast_v4(&group, &interface), std.leave_multicast_v4(&group, &interface));
    let nobody = Ipv4Addr::LOCALHOST;
    same(near.join_multicast_v4(&nobody, &interface), std.join_multicast_v4(&nobody, &interface));
    assert!(near.join_multicast_v4(&nobody, &interface).is_err(), "it is the address of no group");

    let address = (Ipv6Addr::LOCALHOST, 0);
    if let (Ok(near), Ok(std)) = (UdpSocket::bind(address), net::UdpSocket::bind(address)) {
        near.set_multicast_loop_v6(false).unwrap();
        assert!(!near.multicast_loop_v6().unwrap());
        // An interface that does not exist.
        let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);
        same(near.join_multicast_v6(&group, 9999), std.join_multicast_v6(&group, 9999));
        same(near.leave_multicast_v6(&group, 9999), std.leave_multicast_v6(&group, 9999));
    }
}

#[test]
fn a_socket_outlives_its_poll() {
    let poll = Poll::new().unwrap();
    let (near, far) = connected();
    poll.registry().register(&near, 1, READABLE | EDGE).unwrap();
    drop(poll);
    expect_kind(near.recv(&mut [0; 8]), ErrorKind::WouldBlock);
    near.send(b"x").unwrap();
    let mut poll = Poll::new().unwrap();
    poll.registry().register(&far, 1, READABLE).unwrap();
    assert!(expect_event(&mut poll, 1).readable);
    assert_eq!(far.recv(&mut [0; 8]).unwrap(), 1);
}

#[cfg(unix)]
#[test]
fn a_socket_made_from_a_descriptor_keeps_its_mode() {
    use std::os::unix::io::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
    let std = net::UdpSocket::bind(localhost()).unwrap();
    std.set_read_timeout(Some(DEADLINE)).unwrap();
    let near = UdpSocket::from(OwnedFd::from(std));
    socket().send_to(b"x", near.local_addr().unwrap()).unwrap();
    assert_eq!(near.recv(&mut [0; 8]).unwrap(), 1);
    let fd = near.as_raw_fd();
    assert_eq!(near.into_raw_fd(), fd);
    // SAFETY: the descriptor was given up by the socket in the line above.
    let near = unsafe { UdpSocket::from_raw_fd(fd) };
    net::UdpSocket::from(OwnedFd::from(near)).local_addr().unwrap();
}

#[cfg(windows)]
#[test]
fn a_socket_made_from_a_socket_keeps_its_mode() {
    use std::os::windows::io::{AsRawSocket, FromRawSocket, IntoRawSocket, OwnedSocket};
    let std = net::UdpSocket::bind(localhost()).unwrap();
    std.set_read_timeout(Some(DEADLINE)).unwrap();
    let near = UdpSocket::from(OwnedSocket::from(std));
    socket().send_to(b"x", near.local_addr().unwrap()).unwrap();
    assert_eq!(near.recv(&mut [0; 8]).unwrap(), 1);
    let number = near.as_raw_socket();
    assert_eq!(near.into_raw_socket(), number);
    // SAFETY: the socket was given up in the line above.
    let near = unsafe { UdpSocket::from_raw_socket(number) };
    net::UdpSocket::from(OwnedSocket::from(near)).local_addr().unwrap();
}
