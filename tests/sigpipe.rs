//! Writing to a closed peer is an error and never a signal, also where SIGPIPE would end the program. A program of
//! its own, for it changes what the signal does to all of it.
#![cfg(unix)]

mod util;

use minimio::TcpStream;
use std::io::{ErrorKind, IoSlice, Write};
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
        for adopted in [false, true] {
            let (near, peer) = std_pair();
            let mut stream = match adopted {
                false => TcpStream::from_std(near).unwrap(),
                true => TcpStream::from(OwnedFd::from(near)),
            };
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
