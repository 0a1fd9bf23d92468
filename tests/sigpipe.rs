//! Writing to a closed peer is an error and never a signal, also where SIGPIPE would end the program. A program of
//! its own, for it changes what the signal does to all of it.
#![cfg(unix)]

mod util;

use minimio::{PipeReader, PipeWriter, TcpListener, TcpStream};
use std::io::{ErrorKind, IoSlice, Write};
use std::net;
use std::os::raw::c_int;
use std::os::unix::io::OwnedFd;
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd", target_os = "openbsd"))]
use std::os::unix::thread::RawPthread;
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

#[test]
fn a_pipe_that_nobody_reads_raises_no_signal() {
    // SAFETY: the default action is none of our code.
    unsafe { signal(SIGPIPE, SIG_DFL) };
    let adopted = || {
        let (reader, writer) = pipe_pair();
        (PipeReader::try_from(reader).unwrap(), PipeWriter::try_from(writer).unwrap())
    };
    for (reader, mut writer) in [minimio::pipe().unwrap(), adopted()] {
        writer.write_all(b"x").unwrap();
        drop(reader);
        for _ in 0..3 {
            assert_eq!(writer.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
        }
    }
}

/// Where the library holds the signal back while it writes, the program's own is not taken away, nor is what it holds back
/// itself let go.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd", target_os = "openbsd"))]
#[test]
fn a_signal_that_the_program_holds_back_still_waits_afterwards() {
    /// As large as it is anywhere.
    type Signals = [u64; 16];
    extern "C" {
        fn pthread_sigmask(how: c_int, set: *const Signals, old: *mut Signals) -> c_int;
        fn sigaddset(set: *mut Signals, number: c_int) -> c_int;
        fn sigismember(set: *const Signals, number: c_int) -> c_int;
        fn sigpending(set: *mut Signals) -> c_int;
        fn sigwait(set: *const Signals, number: *mut c_int) -> c_int;
        fn pthread_self() -> RawPthread;
        fn pthread_kill(thread: RawPthread, number: c_int) -> c_int;
    }
    const SIG_BLOCK: c_int = if cfg!(any(target_os = "linux", target_os = "android")) { 0 } else { 1 };

    // SAFETY: the calls read and write sets of signals, for which there is room, and a number.
    unsafe {
        signal(SIGPIPE, SIG_DFL);
        let (mut sigpipe, mut held_back, mut waiting): (Signals, Signals, Signals) = Default::default();
        let is_waiting = |waiting: &mut Signals| {
            sigpending(waiting);
            sigismember(waiting, SIGPIPE) == 1
        };
        sigaddset(&mut sigpipe, SIGPIPE);
        pthread_sigmask(SIG_BLOCK, &sigpipe, std::ptr::null_mut());

        let (reader, mut writer) = minimio::pipe().unwrap();
        drop(reader);
        assert_eq!(writer.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
        assert!(!is_waiting(&mut waiting), "the one of the write is taken away");
        pthread_kill(pthread_self(), SIGPIPE);
        assert!(is_waiting(&mut waiting));
        assert_eq!(writer.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
        assert!(is_waiting(&mut waiting), "the program's own is not");
        pthread_sigmask(SIG_BLOCK, &[0; 16], &mut held_back);
        assert_eq!(sigismember(&held_back, SIGPIPE), 1, "and it is held back still");
        // Or it would come when the thread ends.
        let mut number = 0;
        sigwait(&sigpipe, &mut number);
        assert_eq!(number, SIGPIPE);
    }
}
