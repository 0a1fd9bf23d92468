//! The last step: the book's program. A server that answers after the delay it was asked for, and clients that all wait in
//! one queue, yours.

use crate::queue::{source, Event, Interests, Mode, Queue};
use crate::step::{expect, Failure, Outcome};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::{Duration, Instant};

/// How long the server is asked to wait with each answer, in milliseconds.
const DELAYS: [u64; 6] = [500, 200, 700, 100, 400, 600];

const ONE_SHOT: Interests = Interests { readable: true, writable: false, mode: Mode::OneShot };

pub fn run<Q: Queue>() -> Outcome {
    let address = start_server()?;
    let queue = Q::new()?;
    let start = Instant::now();
    let expected = expect(
        format!("the answers to {} requests, each after its delay", DELAYS.len()),
        "`poll` and `reregister`: each answer comes in two parts, and a one-shot source is armed again in between",
    );

    // The reactor, one thread, sleeps in your queue. The executor, this one, reads whatever the reactor names.
    let (sender, news) = mpsc::channel();
    let (answers, ended) = thread::scope(|scope| {
        let reactor = scope.spawn(|| react(&queue, sender));
        let answers = execute(&queue, address, start, || match news.recv_timeout(Duration::from_secs(3)) {
            Ok(token) => Ok(token),
            Err(_) => expected.but("no news in 3 seconds"),
        });
        let closed = queue.close_loop();
        (answers, closed.and(reactor.join().expect("the reactor does not panic")))
    });
    let answers = answers?;
    let total = start.elapsed().as_millis();
    let sum: u64 = DELAYS.iter().sum();
    println!("{} answers in {} ms; one after the other they would take {} ms", answers, total, sum);
    let expected =
        expect("a reactor that ends when the loop is closed", "`close_loop` and `poll`: steps 11 and 12");
    match ended {
        Ok(()) => Ok(()),
        Err(error) => expected.but(format!("the error {:?}", error)),
    }
}

/// Passes on the token of every event until the loop is closed.
fn react(queue: &impl Queue, news: Sender<usize>) -> io::Result<()> {
    let mut events: Vec<Event> = Vec::new();
    loop {
        match queue.poll(&mut events, None) {
            Ok(()) => {
                for event in &events {
                    // The executor may have given up.
                    let _ = news.send(event.token);
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Sends all requests, then reads until all are answered. Returns how many are.
fn execute(
    queue: &impl Queue,
    address: SocketAddr,
    start: Instant,
    next: impl Fn() -> Result<usize, Failure>,
) -> Result<usize, Failure> {
    let mut waiting = Vec::new();
    for (token, delay) in DELAYS.iter().enumerate() {
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(&delay.to_be_bytes())?;
        stream.set_nonblocking(true)?;
        queue.register(source(&stream), token, ONE_SHOT)?;
        waiting.push(Some((stream, String::new())));
    }
    let mut answered = 0;
    while answered < DELAYS.len() {
        let token = next()?;
        let (stream, answer) = match waiting.get_mut(token) {
            Some(Some(request)) => request,
            _ => continue, // it is answered already
        };
        match stream.read_to_string(answer) {
            Ok(_) => {
                println!("{:4} ms  request {}: {}", start.elapsed().as_millis(), token, answer);
                queue.deregister(source(stream))?;
                waiting[token] = None;
                answered += 1;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                queue.reregister(source(stream), token, ONE_SHOT)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(answered)
}

/// The rest of the world, written in the old way: a thread for each connection, which sleeps as long as it was asked to.
fn start_server() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || answer_late(stream));
        }
    });
    Ok(address)
}

/// Half of the answer at half time, the other half at the end, so that the client has to read twice.
fn answer_late(mut stream: TcpStream) -> io::Result<()> {
    let mut delay = [0; 8];
    stream.read_exact(&mut delay)?;
    let half = Duration::from_millis(u64::from_be_bytes(delay)) / 2;
    thread::sleep(half);
    stream.write_all(format!("{} ms", half.as_millis() * 2).as_bytes())?;
    thread::sleep(half);
    stream.write_all(b" have passed")
}
