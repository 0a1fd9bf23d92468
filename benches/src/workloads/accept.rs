//! Accepting connections, registering them, and closing them when the client is gone.

use super::Plan;
use crate::contestants::take_turns;
use crate::queue::{Listener, Mode, Queue, Registry};
use crate::report::Report;
use crate::sys::{self, Stopwatch};
use std::hint::black_box;
use std::net::TcpStream;
use std::os::fd::AsFd;

/// Connections that come at a time.
pub const BATCH: usize = 64;
/// System calls of the client for each connection: socket, connect, setsockopt, close.
pub const CLIENT_CALLS: f64 = 4.0;
const LISTENER: usize = BATCH;

pub fn run(plan: Plan, report: &mut Report) {
    report.title("Accepting and closing");
    let mut contestants = crate::contestants!(round as fn(usize) -> f64);
    let samples = take_turns(&mut contestants, plan.rounds, |round| round(plan.length));
    let name = "accept, register, close";
    report.scattered("accept", name, "ns of the server for each connection", &samples);
    println!("  Connections for each second of the server's processor time, median:");
    for sample in &samples {
        let each = crate::report::median(&sample.values);
        println!("    {:18}{:>8.0}", sample.contestant, 1e9 / each);
    }
    report.ratio_bound(name, 1.02, &samples);
}

fn round<Q: Queue>(times: usize) -> f64 {
    let mut server = Server::<Q>::new();
    let mut watch = Stopwatch::new();
    for _ in 0..times {
        let clients = server.clients();
        watch.time(|| server.accept());
        drop(clients);
        watch.time(|| server.close());
    }
    watch.nanos() / (times * BATCH) as f64
}

/// For counting system calls.
pub fn probe<Q: Queue>(_: usize, rounds: usize) {
    let mut server = Server::<Q>::new();
    for _ in 0..rounds {
        let clients = server.clients();
        server.accept();
        drop(clients);
        server.close();
    }
}

struct Server<Q: Queue> {
    queue: Q,
    listener: Q::Listener,
    connections: Vec<Option<<Q::Listener as Listener>::Stream>>,
}

impl<Q: Queue> Server<Q> {
    fn new() -> Server<Q> {
        let listener = Q::Listener::bind();
        let queue = Q::new(256);
        queue.registry().add(listener.as_fd(), LISTENER, Q::MODE);
        Server { queue, listener, connections: Vec::with_capacity(BATCH) }
    }

    fn clients(&self) -> Vec<TcpStream> {
        let address = self.listener.address();
        let connect = |_| {
            let client = TcpStream::connect(address).unwrap();
            sys::reset_on_close(client.as_fd());
            client
        };
        (0..BATCH).map(connect).collect()
    }

    fn accept(&mut self) {
        let Server { queue, listener, connections } = self;
        connections.clear();
        while connections.len() < BATCH {
            queue.poll(None, |registry, token| {
                assert_eq!(token, LISTENER);
                while let Some((stream, address)) = listener.accept() {
                    black_box(address);
                    registry.add(stream.as_fd(), connections.len(), Q::MODE);
                    connections.push(Some(stream));
                }
                if Q::MODE == Mode::OneShot {
                    registry.change(listener.as_fd(), LISTENER, Q::MODE);
                }
            });
        }
    }

    fn close(&mut self) {
        let Server { queue, connections, .. } = self;
        let mut open = connections.len();
        while open > 0 {
            queue.poll(None, |registry, token| {
                if let Some(stream) = connections[token].take() {
                    // The end of the stream, or the reset.
                    assert!(matches!(sys::read(stream.as_fd(), &mut [0; 64]), None | Some(0)));
                    if Q::REMOVE_BEFORE_CLOSE {
                        registry.remove(stream.as_fd());
                    }
                    open -= 1;
                }
            });
        }
    }
}
