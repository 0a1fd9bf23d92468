//! Writing to a closed peer is an error and never a signal, also where SIGPIPE would end the program. A program of
//! its own, for it changes what the signal does to all of it.
#![cfg(unix)]

mod util;

use minimio::{TcpListener, TcpStream};
use std::io::{ErrorKind, IoSlice, Write};
use std::net;
use std::os::raw::c_int;
use std::os::unix::io::OwnedFd;
use util::*;

const SIGPIPE: c_int = 13;
const SIG_DFL: usize = 0;

extern "C" {
    fn signal(number: c_int, handler: usize) -> usize;
}

#[test]
fn a_closed_peer_raises_no_signal() {
    // Rust's start-up code ignores the signal; a program may have its own ideas.
    // SAFETY: the default action is none of our code.
    unsafe { signal(SIGPIPE, SIG_DFL) };

    type Send = fn(&mut TcpStream) -> std::io::Result<usize>;
    let plain: Send = |stream| stream.write(b"x");
    let vectored: Send = |stream| stream.write_vectored(&[IoSlice::new(b"x"), IoSlice::new(b"y")]);
    for write in [plain, vectored] {
        type Make = fn() -> (TcpStream, net::TcpStream);
        let from_std: Make = pair;
        let adopted: Make = || {
            let (near, peer) = std_pair();
            (TcpStream::from(OwnedFd::from(near)), peer)
        };
        let accepted: Make = || {
            let listener = TcpListener::bind(localhost()).unwrap();
            let peer = net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            (accept_one(&listener).0, peer)
        };
        for make in [from_std, adopted, accepted] {
            let (mut stream, peer) = make();
            drop(peer);
            let error = loop {
                match write(&mut stream) {
                    Err(error) if error.kind() != ErrorKind::WouldBlock => break error,
                    _ => {}
                }
            };
            assert!(
                matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset),
                "{:?}",
                error
            );
            // And once more, now that the stream knows.
            assert_eq!(write(&mut stream).unwrap_err().kind(), ErrorKind::BrokenPipe);
        }
    }
}
