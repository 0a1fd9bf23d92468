//! One connection on which a message comes, is reported and is read, again and again: for counting what Windows is asked.
//!
//!     windows LIBRARY ROUNDS
//!
//! LIBRARY is minimio-level, minimio-edge or minimio-one-shot, with a stream of its own; std-level or std-one-shot, the same with one
//! of std; or mio. Prints how many allocations the polls made once warm.

#[path = "../allocator.rs"]
#[allow(dead_code)]
mod allocator;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

#[global_allocator]
static ALLOCATOR: allocator::Counting = allocator::Counting;

const WARM_UP: usize = 10;

/// A poll that must bring one event, and what follows it.
trait Library {
    fn poll(&mut self);
    fn answer(&mut self);
}

struct Minimio<S> {
    poll: minimio::Poll,
    events: minimio::Events,
    stream: S,
    interests: minimio::Interests,
}

impl<S: minimio::Source> Minimio<S> {
    fn new(stream: S, mode: &str) -> Minimio<S> {
        use minimio::Interests;
        let interests = match mode {
            "level" => Interests::READABLE | Interests::LEVEL,
            "edge" => Interests::READABLE | Interests::EDGE,
            _ => Interests::READABLE,
        };
        let poll = minimio::Poll::new().unwrap();
        poll.registry().register(&stream, 7, interests).unwrap();
        Minimio { poll, events: minimio::Events::with_capacity(16), stream, interests }
    }
}

impl<S: minimio::Source + Read> Library for Minimio<S> {
    fn poll(&mut self) {
        self.poll.poll(&mut self.events, None).unwrap();
        assert!(self.events.len() == 1 && self.events[0].is_readable());
    }

    fn answer(&mut self) {
        drain(&mut self.stream, self.interests.is_edge());
        if self.interests.is_oneshot() {
            self.poll.registry().reregister(&self.stream, 7, self.interests).unwrap();
        }
    }
}

struct Mio {
    poll: mio::Poll,
    events: mio::Events,
    stream: mio::net::TcpStream,
}

impl Mio {
    fn new(stream: TcpStream) -> Mio {
        let mut stream = mio::net::TcpStream::from_std(stream);
        let poll = mio::Poll::new().unwrap();
        poll.registry().register(&mut stream, mio::Token(7), mio::Interest::READABLE).unwrap();
        Mio { poll, events: mio::Events::with_capacity(16), stream }
    }
}

impl Library for Mio {
    fn poll(&mut self) {
        self.poll.poll(&mut self.events, None).unwrap();
        assert!(self.events.iter().count() == 1);
    }

    fn answer(&mut self) {
        drain(&mut self.stream, true);
    }
}

/// Reads once, or until there is nothing left.
fn drain(stream: &mut impl Read, all: bool) {
    assert_eq!(stream.read(&mut [0; 1024]).unwrap(), 64);
    if all {
        assert!(stream.read(&mut [0; 1024]).is_err());
    }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [library, rounds] = &args[..] else {
        panic!("windows LIBRARY ROUNDS");
    };
    let rounds: usize = rounds.parse().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    client.set_nodelay(true).unwrap();
    let (stream, _) = listener.accept().unwrap();
    stream.set_nonblocking(true).unwrap();
    let mut library: Box<dyn Library> = match library.split_once('-') {
        Some(("minimio", mode)) => {
            Box::new(Minimio::new(minimio::TcpStream::from_std(stream).unwrap(), mode))
        }
        Some((_, mode)) => Box::new(Minimio::new(stream, mode)),
        None => Box::new(Mio::new(stream)),
    };
    let (mut polls, mut answers) = (0, 0);
    for round in 0..rounds {
        client.write_all(&[b'x'; 64]).unwrap();
        let before = allocator::allocations();
        library.poll();
        let between = allocator::allocations();
        library.answer();
        if round >= WARM_UP {
            polls += between - before;
            answers += allocator::allocations() - between;
        }
    }
    println!("{polls} allocations in {} polls, {answers} after them", rounds - WARM_UP);
}
