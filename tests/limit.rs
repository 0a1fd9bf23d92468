//! When no descriptor is left: the system's error, nothing leaked, and everything works again afterwards. A program
//! of its own, for it takes them all.
#![cfg(unix)]

mod util;

use minimio::{Poll, TcpListener, TcpStream, UdpSocket, Waker};
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::net;
use std::os::raw::c_int;
use util::*;

#[cfg(any(target_os = "linux", target_os = "android"))]
type Limit = std::os::raw::c_ulong;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
type Limit = u64;

const RLIMIT_NOFILE: c_int = if cfg!(any(target_arch = "mips", target_arch = "mips64")) {
    5
} else if cfg!(any(target_os = "linux", target_os = "android")) {
    7
} else {
    8
};
const EMFILE: i32 = 24;

extern "C" {
    fn getrlimit(resource: c_int, limit: *mut [Limit; 2]) -> c_int;
    fn setrlimit(resource: c_int, limit: *const [Limit; 2]) -> c_int;
}

/// Lowers the soft limit, so that there is little to take.
fn lower_the_limit(descriptors: Limit) {
    let mut limit: [Limit; 2] = [0, 0];
    // SAFETY: the kernel writes the soft and the hard limit, and there is room for both.
    assert_eq!(unsafe { getrlimit(RLIMIT_NOFILE, &mut limit) }, 0);
    limit[0] = descriptors;
    // SAFETY: it reads the two limits.
    assert_eq!(unsafe { setrlimit(RLIMIT_NOFILE, &limit) }, 0);
}

/// Takes every descriptor that is left but `spare`.
fn take_all_but(spare: usize) -> Vec<File> {
    let mut taken = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        taken.push(file);
    }
    taken.truncate(taken.len() - spare);
    taken
}

/// A connection that cannot be accepted for want of a descriptor waits until there is one.
fn a_listener_survives_it(listener: &TcpListener) {
    let mut poll = Poll::new().unwrap();
    poll.registry().register(listener, 1, READABLE | LEVEL).unwrap();
    let client = net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    assert!(expect_event(&mut poll, 1).readable);
    let taken = take_all_but(0);
    for _ in 0..3 {
        assert_eq!(listener.accept().unwrap_err().raw_os_error(), Some(EMFILE));
        assert!(expect_event(&mut poll, 1).readable);
    }
    drop(taken);
    // What a server does: out, and in again once a descriptor is free.
    poll.registry().deregister(listener).unwrap();
    poll.registry().register(listener, 2, READABLE | EDGE).unwrap();
    assert!(expect_event(&mut poll, 2).readable);
    assert_eq!(listener.accept().unwrap().1, client.local_addr().unwrap());
    expect_kind(listener.accept(), ErrorKind::WouldBlock);
}

#[test]
fn a_queue_survives_the_descriptor_limit() {
    lower_the_limit(128);
    let mut poll = Poll::new().unwrap();
    let (stream, mut peer) = pair();
    let listener = TcpListener::bind(localhost()).unwrap();
    let address = listener.local_addr().unwrap();
    poll.registry().register(&stream, 1, READABLE | LEVEL).unwrap();

    // With each number of descriptors that a half-finished constructor could get hold of.
    for spare in 0..4 {
        let taken = take_all_but(spare);
        let before = open_descriptors();

        let made = Poll::new();
        if spare == 0 {
            assert_eq!(made.as_ref().unwrap_err().raw_os_error(), Some(EMFILE));
        }
        drop(made);
        assert_eq!(open_descriptors(), before, "Poll::new, {} spare", spare);

        let made = Waker::new(&poll.registrator(), 2);
        if spare == 0 {
            // On some systems a waker costs no descriptor.
            if let Err(error) = &made {
                assert_eq!(error.raw_os_error(), Some(EMFILE));
            }
        }
        drop(made);
        assert_eq!(open_descriptors(), before, "Waker::new, {} spare", spare);

        if spare == 0 {
            for result in [TcpStream::connect(address), TcpStream::connect_nonblocking(address)] {
                assert_eq!(result.unwrap_err().raw_os_error(), Some(EMFILE));
            }
            assert_eq!(stream.try_clone().unwrap_err().raw_os_error(), Some(EMFILE));
            assert_eq!(TcpListener::bind(localhost()).unwrap_err().raw_os_error(), Some(EMFILE));
            assert_eq!(UdpSocket::bind(localhost()).unwrap_err().raw_os_error(), Some(EMFILE));
            assert_eq!(open_descriptors(), before);
        }

        // What there was goes on working all the while.
        peer.write_all(b"x").unwrap();
        assert!(expect_event(&mut poll, 1).readable);
        assert_eq!(drain(&stream), b"x");
        drop(taken);
    }
    a_listener_survives_it(&listener);

    let mut other = Poll::new().unwrap();
    let waker = Waker::new(&other.registrator(), 3).unwrap();
    waker.wake().unwrap();
    assert!(expect_event(&mut other, 3).readable);
    let late = TcpStream::connect(address).unwrap();
    poll.registry().register(&late, 4, WRITABLE).unwrap();
    assert!(expect_event(&mut poll, 4).writable);
}
