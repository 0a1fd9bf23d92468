//! An echo server on loopback and its clients, in one thread: the clients write, the server answers all of them, the
//! clients read. So the server meets the same in each round, and what is measured is its work and not the scheduler's.

use super::Plan;
use crate::contestants::take_turns;
use crate::queue::{Mode, Queue, Registry};
use crate::report::Report;
use crate::sys::{self, Stopwatch};
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;

const MESSAGE: [u8; 64] = [b'x'; 64];
/// System calls of the client for each round trip: it writes and reads.
pub const CLIENT_CALLS: f64 = 2.0;

/// Both ends of a connection.
pub struct Connection {
    client: TcpStream,
    server: TcpStream,
}

pub fn connect(count: usize) -> Vec<Connection> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let connection = |_| {
        let client = TcpStream::connect(address).unwrap();
        let server = listener.accept().unwrap().0;
        client.set_nodelay(true).unwrap();
        server.set_nodelay(true).unwrap();
        server.set_nonblocking(true).unwrap();
        Connection { client, server }
    };
    (0..count).map(connection).collect()
}

pub fn run(plan: Plan, report: &mut Report) {
    report.title("Echo over TCP on loopback, 64 bytes");
    let all = connect(512);
    for count in [1, 64, 512] {
        let case = Case { connections: &all[..count], times: (plan.length * 512 / count).max(4) };
        let mut contestants = crate::contestants!(round as fn(&Case) -> f64);
        let samples = take_turns(&mut contestants, plan.rounds, |round| round(&case));
        let name = format!("echo, {count} connections");
        report.scattered("echo", &name, "ns of the server for each round trip", &samples);
        report.ratio_bound(&name, 1.02, &samples);
        let best = |library: &str| {
            let of = |s: &&crate::contestants::Samples| s.contestant.starts_with(library);
            let medians = samples.iter().filter(of).map(|s| crate::report::median(&s.values));
            medians.fold(f64::INFINITY, f64::min)
        };
        let (ours, mio) = (best("minimio"), best("mio"));
        report
            .bound(format!("{name}, best mode: {ours:.0} ns, no slower than mio with {mio:.0}"), ours <= mio);
    }
}

struct Case<'a> {
    connections: &'a [Connection],
    times: usize,
}

fn round<Q: Queue>(case: &Case) -> f64 {
    let mut queue = watch::<Q>(case.connections);
    let mut watch = Stopwatch::new();
    for _ in 0..case.times {
        write_all(case.connections);
        watch.time(|| serve(&mut queue, case.connections));
        read_all(case.connections);
    }
    watch.nanos() / (case.times * case.connections.len()) as f64
}

/// For counting system calls.
pub fn probe<Q: Queue>(connections: usize, rounds: usize) {
    let connections = connect(connections);
    let mut queue = watch::<Q>(&connections);
    for _ in 0..rounds {
        write_all(&connections);
        serve(&mut queue, &connections);
        read_all(&connections);
    }
}

fn watch<Q: Queue>(connections: &[Connection]) -> Q {
    let queue = Q::new(1024);
    for (token, connection) in connections.iter().enumerate() {
        queue.registry().add(connection.server.as_fd(), token, Q::MODE);
    }
    queue
}

fn write_all(connections: &[Connection]) {
    for connection in connections {
        sys::write(connection.client.as_fd(), &MESSAGE);
    }
}

fn read_all(connections: &[Connection]) {
    let mut buffer = [0; 1024];
    for connection in connections {
        assert_eq!(sys::read(connection.client.as_fd(), &mut buffer), Some(MESSAGE.len()));
    }
}

/// Answers everybody once.
fn serve<Q: Queue>(queue: &mut Q, connections: &[Connection]) {
    let mut buffer = [0; 1024];
    let mut answered = 0;
    while answered < connections.len() {
        queue.poll(None, |registry, token| {
            let mut stream = &connections[token].server;
            loop {
                match stream.read(&mut buffer) {
                    Ok(n) => {
                        assert_eq!(stream.write(&buffer[..n]).unwrap(), MESSAGE.len());
                        answered += 1;
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => panic!("{error}"),
                }
                if Q::MODE != Mode::Edge {
                    break;
                }
            }
            if Q::MODE == Mode::OneShot {
                registry.change(stream.as_fd(), token, Q::MODE);
            }
        });
    }
}
