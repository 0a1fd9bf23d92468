//! The same echo server on each library, for the time of its build and its size:
//!
//!     cargo build --release --bin server --no-default-features --features minimio
//!
//! It prints its address. A client that sends and does not read is cut off.

#[allow(dead_code)]
#[path = "../queue/mod.rs"]
mod queue;

use queue::{Listener, Mode, Queue, Registry};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;

// The first of those that were asked for.
#[cfg(feature = "minimio")]
type Library = queue::minimio::Minimio<{ queue::LEVEL }>;
#[cfg(all(feature = "mio", not(feature = "minimio")))]
type Library = queue::mio::Mio;
#[cfg(all(feature = "polling", not(any(feature = "minimio", feature = "mio"))))]
type Library = queue::polling::Polling<{ queue::LEVEL }>;
#[cfg(not(any(feature = "minimio", feature = "mio", feature = "polling")))]
type Library = queue::raw::Raw<{ queue::LEVEL }>;

/// Of the listener; the connections have those from 0.
const LISTENER: usize = usize::MAX;

fn main() {
    serve(Library::new(1024));
}

fn serve<Q: Queue>(mut queue: Q) {
    let listener = Q::Listener::bind();
    println!("{}: {}", Q::LIBRARY, listener.address());
    let mut connections: Vec<Option<<Q::Listener as Listener>::Stream>> = Vec::new();
    queue.registry().add(listener.as_fd(), LISTENER, Q::MODE);
    loop {
        queue.poll(None, |registry, token| {
            if token == LISTENER {
                while let Some((stream, _)) = listener.accept() {
                    let free = connections.iter().position(Option::is_none);
                    let token = free.unwrap_or(connections.len());
                    registry.add(stream.as_fd(), token, Q::MODE);
                    if token == connections.len() {
                        connections.push(None);
                    }
                    connections[token] = Some(stream);
                }
            } else if let Some(stream) = &mut connections[token] {
                if answer::<Q>(stream) {
                    return;
                }
                if Q::REMOVE_BEFORE_CLOSE {
                    registry.remove(stream.as_fd());
                }
                connections[token] = None;
            }
        });
    }
}

/// Sends back what came. Whether the connection goes on.
fn answer<Q: Queue>(stream: &mut (impl Read + Write)) -> bool {
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return false,
            Ok(n) => {
                if stream.write_all(&buffer[..n]).is_err() {
                    return false;
                }
            }
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
        if Q::MODE != Mode::Edge {
            return true;
        }
    }
}
