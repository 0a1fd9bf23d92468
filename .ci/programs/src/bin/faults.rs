//! What a program sees when a system call of the library fails: `faults STORY ERROR`.
//!
//! `.ci/faults` runs it under strace, which makes one call fail with ERROR, and this program tells one story around that
//! call: what is reported, that nothing was half done, that nothing leaks, and that the queue works afterwards. It says
//! nothing and ends with status 0 when all of that holds.

use minimio::{Events, Interests, Poll, TcpStream, UdpSocket, Waker};
use std::fmt::Debug;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{self, TcpListener};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

const READABLE: Interests = Interests::READABLE;
const WRITABLE: Interests = Interests::WRITABLE;
const LEVEL: Interests = Interests::LEVEL;

/// A poll that takes longer has lost an event.
const SOON: Option<i32> = Some(5000);

/// Linux's own numbers, the same on every processor for the first 34; the others are x86-64's and most others'.
const ERRORS: [(&str, i32); 28] = [
    ("EPERM", 1),
    ("ENOENT", 2),
    ("EINTR", 4),
    ("EIO", 5),
    ("EBADF", 9),
    ("EAGAIN", 11),
    ("ENOMEM", 12),
    ("EACCES", 13),
    ("EFAULT", 14),
    ("ENODEV", 19),
    ("EINVAL", 22),
    ("ENFILE", 23),
    ("EMFILE", 24),
    ("ENOTTY", 25),
    ("ENOSPC", 28),
    ("EPIPE", 32),
    ("ENOSYS", 38),
    ("EPROTO", 71),
    ("EAFNOSUPPORT", 97),
    ("EADDRNOTAVAIL", 99),
    ("ENETUNREACH", 101),
    ("ECONNABORTED", 103),
    ("ECONNRESET", 104),
    ("ENOBUFS", 105),
    ("ETIMEDOUT", 110),
    ("ECONNREFUSED", 111),
    ("EHOSTUNREACH", 113),
    ("none", 0),
];

type Story = fn(Fault);

const STORIES: [(&str, Story); 26] = [
    ("new", new),
    ("register", register),
    ("register-again", register_again),
    ("register-meanwhile", register_meanwhile),
    ("reregister", reregister),
    ("deregister", deregister),
    ("wait", wait),
    ("wait-on", wait_on),
    ("wait-fine", wait_fine),
    ("wait-fine-fails", wait_fine_fails),
    ("wake-fails", wake_fails),
    ("close-loop", close_loop),
    ("close-loop-fails", close_loop_fails),
    ("connect", connect),
    ("connect-interrupted", connect_interrupted),
    ("read", read),
    ("write", write),
    ("write-vectored", write_vectored),
    ("stream", stream),
    ("accept", accept),
    ("bind", bind),
    ("send", send),
    ("receive", receive),
    ("pipe", pipe),
    ("pipe-of-others", pipe_of_others),
    ("pipe-write", pipe_write),
];

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (story, error) = (arguments.next().unwrap(), arguments.next().unwrap());
    let (_, story) = STORIES.iter().find(|(name, _)| *name == story).expect("a story");
    let (_, errno) = ERRORS.iter().find(|(name, _)| *name == error).expect("an error");
    // Opened before, so that all that is opened after must be gone in the end.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let before = open_descriptors();
    story(Fault { errno: *errno, listener: &listener });
    assert_eq!(open_descriptors(), before, "descriptors leak");
    works(&mut Poll::new().unwrap(), &listener);
    assert_eq!(open_descriptors(), before, "descriptors leak");
}

fn open_descriptors() -> Vec<String> {
    let entries = std::fs::read_dir("/proc/self/fd").unwrap();
    let mut numbers: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    numbers.sort_unstable();
    numbers
}

struct Fault<'a> {
    errno: i32,
    listener: &'a TcpListener,
}

impl Fault<'_> {
    /// The error came through as the kernel gave it.
    #[track_caller]
    fn is_in<T: Debug>(&self, result: io::Result<T>) {
        let error = result.expect_err("the fault");
        // What is not registered is said in words of the library's own.
        let errno = if error.kind() == ErrorKind::NotFound { Some(2) } else { error.raw_os_error() };
        assert_eq!(errno, Some(self.errno), "{}", error);
    }

    fn pair(&self) -> (TcpStream, net::TcpStream) {
        pair(self.listener)
    }
}

fn pair(listener: &TcpListener) -> (TcpStream, net::TcpStream) {
    let stream = net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (peer, _) = listener.accept().unwrap();
    peer.set_nonblocking(true).unwrap();
    (TcpStream::from_std(stream).unwrap(), peer)
}

/// The queue does all that a queue does.
#[track_caller]
fn works(poll: &mut Poll, listener: &TcpListener) {
    let registrator = poll.registrator();
    let mut events = Events::with_capacity(8);
    let (stream, mut peer) = pair(listener);
    registrator.register(&stream, 101, READABLE).unwrap();
    peer.write_all(b"x").unwrap();
    assert_eq!(poll.poll(&mut events, SOON).unwrap(), 1);
    assert_eq!(events[0].id(), 101);
    registrator.reregister(&stream, 102, READABLE | LEVEL).unwrap();
    assert_eq!(poll.poll(&mut events, SOON).unwrap(), 1);
    assert_eq!(events[0].id(), 102);
    registrator.deregister(&stream).unwrap();
    let waker = Waker::new(&registrator, 103).unwrap();
    for _ in 0..2 {
        waker.wake().unwrap();
        assert_eq!(poll.poll(&mut events, SOON).unwrap(), 1);
        assert_eq!(events[0].id(), 103);
    }
    assert_eq!(poll.poll(&mut events, Some(1)).unwrap(), 0);
    assert_eq!(poll.poll_timeout(&mut events, Duration::from_micros(300)).unwrap(), 0);
}

/// The source is known to the queue under this token, or not at all.
#[track_caller]
fn is_known_as(poll: &mut Poll, stream: &TcpStream, peer: &mut net::TcpStream, token: Option<usize>) {
    let mut events = Events::with_capacity(8);
    peer.write_all(b"x").unwrap();
    match token {
        Some(token) => {
            assert_eq!(poll.poll(&mut events, SOON).unwrap(), 1);
            assert_eq!(events[0].id(), token);
            poll.registry().deregister(stream).unwrap();
        }
        None => {
            assert_eq!(poll.poll(&mut events, Some(10)).unwrap(), 0);
            let error = poll.registry().deregister(stream).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound);
        }
    }
}

#[track_caller]
fn is_closed<T: Debug>(result: io::Result<T>) {
    let error = result.unwrap_err();
    assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::Interrupted, None));
}

fn new(fault: Fault) {
    fault.is_in(Poll::new());
}

fn register(fault: Fault) {
    let mut poll = Poll::new().unwrap();
    let (stream, mut peer) = fault.pair();
    fault.is_in(poll.registry().register(&stream, 1, READABLE));
    is_known_as(&mut poll, &stream, &mut peer, None);
    works(&mut poll, fault.listener);
}

/// It was registered before, and stays so.
fn register_again(fault: Fault) {
    let mut poll = Poll::new().unwrap();
    let (stream, mut peer) = fault.pair();
    poll.registry().register(&stream, 1, READABLE).unwrap();
    fault.is_in(poll.registry().register(&stream, 2, READABLE));
    is_known_as(&mut poll, &stream, &mut peer, Some(1));
    works(&mut poll, fault.listener);
}

/// Between two looks of `register` the source was gone, and there again.
fn register_meanwhile(fault: Fault) {
    let mut poll = Poll::new().unwrap();
    let (stream, mut peer) = fault.pair();
    poll.registry().register(&stream, 1, READABLE).unwrap();
    poll.registry().register(&stream, 2, READABLE).unwrap();
    is_known_as(&mut poll, &stream, &mut peer, Some(2));
    works(&mut poll, fault.listener);
}

fn reregister(fault: Fault) {
    let mut poll = Poll::new().unwrap();
    let (stream, mut peer) = fault.pair();
    poll.registry().register(&stream, 1, READABLE).unwrap();
    fault.is_in(poll.registry().reregister(&stream, 2, READABLE));
    is_known_as(&mut poll, &stream, &mut peer, Some(1));
    works(&mut poll, fault.listener);
}

fn deregister(fault: Fault) {
    let mut poll = Poll::new().unwrap();
    let (stream, mut peer) = fault.pair();
    poll.registry().register(&stream, 1, READABLE).unwrap();
    fault.is_in(poll.registry().deregister(&stream));
    is_known_as(&mut poll, &stream, &mut peer, Some(1));
    works(&mut poll, fault.listener);
}

fn wait(fault: Fault) {
    let mut poll = Poll::new().unwrap();
    let (stream, mut peer) = fault.pair();
    poll.registry().register(&stream, 1, READABLE).unwrap();
    // What was left in it must not be taken for news.
    let mut events = Events::with_capacity(8);
    fault.is_in(poll.poll(&mut events, SOON));
    assert!(events.is_empty());
    is_known_as(&mut poll, &stream, &mut peer, Some(1));
    works(&mut poll, fault.listener);
}

/// A wait that ends early, by a signal or for no reason, goes on with the time that is left.
fn wait_on(fault: Fault) {
    let mut poll = Poll::new().unwrap();
    let mut events = Events::with_capacity(8);
    for timeout in [Duration::from_millis(40), Duration::from_micros(40_100)] {
        let begin = Instant::now();
        assert_eq!(poll.poll_timeout(&mut events, timeout).unwrap(), 0);
        let took = begin.elapsed();
        assert!(took >= timeout && took < Duration::from_secs(5), "{:?}", took);
    }
    let (stream, mut peer) = fault.pair();
    for timeout in [None, Some(5000)] {
        poll.registry().register(&stream, 1, READABLE).unwrap();
        peer.write_all(b"x").unwrap();
        assert_eq!(poll.poll(&mut events, timeout).unwrap(), 1);
    }
    works(&mut poll, fault.listener);
}

/// Without the finer wait it waits longer, never shorter.
fn wait_fine(fault: Fault) {
    let mut poll = Poll::new().unwrap();
    let mut events = Events::with_capacity(8);
    for timeout in [Duration::from_micros(1500), Duration::from_nanos(1)] {
        let begin = Instant::now();
        assert_eq!(poll.poll_timeout(&mut events, timeout).unwrap(), 0);
        assert!(begin.elapsed() >= timeout);
    }
    works(&mut poll, fault.listener);
}

fn wait_fine_fails(fault: Fault) {
    let mut poll = Poll::new().unwrap();
    let mut events = Events::with_capacity(8);
    fault.is_in(poll.poll_timeout(&mut events, Duration::from_micros(1500)));
    assert!(events.is_empty());
    works(&mut poll, fault.listener);
}

/// The one after it does not rely on a wake that failed.
fn wake_fails(fault: Fault) {
    let mut poll = Poll::new().unwrap();
    let waker = Waker::new(&poll.registrator(), 1).unwrap();
    fault.is_in(waker.wake());
    waker.wake().unwrap();
    assert_eq!(poll.poll(&mut Events::new(), SOON).unwrap(), 1);
    works(&mut poll, fault.listener);
}

fn close_loop(_: Fault) {
    let mut poll = Poll::new().unwrap();
    poll.registrator().close_loop().unwrap();
    is_closed(poll.poll(&mut Events::new(), None));
    is_closed(poll.registrator().close_loop());
}

/// It is reported, and the loop is closed all the same. Said again, it is heard.
fn close_loop_fails(fault: Fault) {
    let mut poll = Poll::new().unwrap();
    fault.is_in(poll.registrator().close_loop());
    is_closed(poll.registry().register(fault.listener, 1, READABLE));
    is_closed(poll.poll(&mut Events::new(), None));
    is_closed(poll.registrator().close_loop());
    is_closed(poll.poll(&mut Events::new(), None));
}

fn connect(fault: Fault) {
    let address = fault.listener.local_addr().unwrap();
    fault.is_in(TcpStream::connect_nonblocking(address));
}

/// The injected signal comes in place of the call, so nothing connects; what counts is that nobody waits for ever.
fn connect_interrupted(fault: Fault) {
    let address = fault.listener.local_addr().unwrap();
    let stream = TcpStream::connect_nonblocking(address).unwrap();
    let mut poll = Poll::new().unwrap();
    poll.registry().register(&stream, 1, WRITABLE).unwrap();
    assert_eq!(poll.poll(&mut Events::new(), SOON).unwrap(), 1);
    stream.peer_addr().unwrap_err();
}

fn read(fault: Fault) {
    let (mut stream, mut peer) = fault.pair();
    peer.write_all(b"hello").unwrap();
    let mut buffer = [0; 8];
    fault.is_in(stream.read(&mut buffer));
    assert_eq!(stream.read(&mut buffer).unwrap(), 5);
}

fn write(fault: Fault) {
    let (mut stream, mut peer) = fault.pair();
    fault.is_in(stream.write(b"hello"));
    assert_eq!(stream.write(b"hello").unwrap(), 5);
    assert_eq!(peer.read(&mut [0; 8]).unwrap(), 5);
}

fn write_vectored(fault: Fault) {
    let (mut stream, mut peer) = fault.pair();
    let buffers = [IoSlice::new(b"hel"), IoSlice::new(b"lo")];
    fault.is_in(stream.write_vectored(&buffers));
    assert_eq!(stream.write_vectored(&buffers).unwrap(), 5);
    assert_eq!(peer.read(&mut [0; 8]).unwrap(), 5);
}

/// Calls on a stream that are std's: one of them fails, whichever it is, and nothing is lost by it.
fn stream(fault: Fault) {
    let address = fault.listener.local_addr().unwrap();
    let socket = net::TcpStream::connect(address).unwrap();
    let _peer = fault.listener.accept().unwrap();
    let story = || -> io::Result<()> {
        let stream = TcpStream::from_std(socket)?;
        let clone = stream.try_clone()?;
        clone.set_nodelay(true)?;
        stream.take_error()?;
        stream.peer_addr()?;
        stream.local_addr()?;
        stream.shutdown(net::Shutdown::Write)
    };
    fault.is_in(story());
}

/// The listener is as good afterwards as before, and the connection is still there.
fn accept(fault: Fault) {
    let mut poll = Poll::new().unwrap();
    let listener = minimio::TcpListener::bind("127.0.0.1:0").unwrap();
    poll.registry().register(&listener, 1, READABLE | LEVEL).unwrap();
    let client = net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    for _ in 0..2 {
        assert_eq!(poll.poll(&mut Events::new(), SOON).unwrap(), 1);
        match listener.accept() {
            // The second time round.
            Ok((mut stream, address)) => {
                assert_eq!(address, client.local_addr().unwrap());
                assert_eq!(stream.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
                assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
                return works(&mut poll, fault.listener);
            }
            error => fault.is_in(error),
        }
    }
    panic!("it was never accepted");
}

fn bind(fault: Fault) {
    fault.is_in(minimio::TcpListener::bind("127.0.0.1:0"));
    UdpSocket::bind("127.0.0.1:0").unwrap();
}

fn send(fault: Fault) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    fault.is_in(socket.send_to(b"hello", address));
    assert_eq!(socket.send_to(b"hello", address).unwrap(), 5);
    assert_eq!(socket.recv_from(&mut [0; 8]).unwrap(), (5, address));
}

fn receive(fault: Fault) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    socket.send_to(b"hello", address).unwrap();
    fault.is_in(socket.recv_from(&mut [0; 8]));
    assert_eq!(socket.recv_from(&mut [0; 8]).unwrap(), (5, address));
}

fn pipe(fault: Fault) {
    fault.is_in(minimio::pipe());
}

/// A descriptor that is handed over is closed if it cannot be used.
fn pipe_of_others(fault: Fault) {
    let (reader, _writer) = minimio::pipe().unwrap();
    fault.is_in(minimio::PipeReader::try_from(OwnedFd::from(reader)));
}

fn pipe_write(fault: Fault) {
    let (mut reader, mut writer) = minimio::pipe().unwrap();
    fault.is_in(writer.write(b"hello"));
    assert_eq!(writer.write(b"hello").unwrap(), 5);
    assert_eq!(reader.read(&mut [0; 8]).unwrap(), 5);
}
