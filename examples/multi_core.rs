//! One `Poll` for each core: a server that uses them all, without a lock between them.
//!
//! One thread accepts and deals the connections out, in turn, to the workers. Each worker has a queue of its own and keeps a
//! connection to its end, so nothing of it is shared. A channel hands the connection over, and a `Waker` tells the worker
//! to look into the channel.
//!
//! Run:  cargo run --example multi_core            or, with as many workers as you like:  cargo run --example multi_core 4
//! See:  the same requests are answered by one worker and by one for each core, in turn, several times: how many each of them
//!       answered, and how much faster they are together. (`--release` and an idle machine show it best; on a busy one the
//!       program says that it cannot tell.)

use minimio::{Events, Interests, Poll, TcpStream, Token, Waker};
use std::collections::HashMap;
use std::fmt::Display;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{self, SocketAddr, TcpListener};
use std::sync::mpsc::{channel, Receiver, Sender, TryRecvError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const ROUNDS: usize = 5; // of each kind
const CLIENTS: usize = 16;
const REQUESTS: usize = 25; // of each client
const RECORD: usize = 8; // a request is a number of 8 bytes, and so is an answer
const LIMIT: u64 = 5000; // the request: how many primes are there below?
const PRIMES: u64 = 669; // the answer
const INBOX: Token = 0; // the connections have the tokens from 1 on

fn main() -> io::Result<()> {
    let workers = match workers_wanted() {
        Ok(workers) => workers,
        Err(why) => {
            eprintln!("{}\nusage: multi_core [WORKERS]", why);
            std::process::exit(2);
        }
    };
    say(format_args!("{} rounds with 1 worker and {} with {}, in turn", ROUNDS, ROUNDS, workers));
    let (mut alone, mut together) = (Series::new(1), Series::new(workers));
    // The first round of each finds cold caches and a processor that is still asleep: it does not count.
    alone.run_a_round()?;
    together.run_a_round()?;
    alone.times.clear();
    together.times.clear();
    // In turn, so that whatever else the machine is doing meets both alike.
    for _ in 0..ROUNDS {
        alone.run_a_round()?;
        together.run_a_round()?;
    }
    alone.report();
    together.report();
    if alone.is_steady() && together.is_steady() {
        let factor = alone.median().as_secs_f64() / together.median().as_secs_f64();
        say(format_args!("{} workers are {:.1} times as fast as one", workers, factor));
    } else {
        say("the machine was too busy to tell how much faster: equal rounds took very different times");
    }
    Ok(())
}

fn workers_wanted() -> Result<usize, String> {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    match arguments.as_slice() {
        // One for each core, but two at least, or there would be nothing to see.
        [] => Ok(thread::available_parallelism().map_or(2, |cores| cores.get().max(2))),
        [number] => match number.to_string_lossy().parse() {
            Ok(workers) if (1..=64).contains(&workers) => Ok(workers),
            _ => Err(format!("{:?} is no number from 1 to 64", number)),
        },
        _ => Err("too many arguments".to_string()),
    }
}

/// Rounds with the same number of workers.
struct Series {
    workers: usize,
    times: Vec<Duration>,
    /// How many requests each worker answered in the last round.
    shares: Vec<usize>,
}

impl Series {
    fn new(workers: usize) -> Series {
        Series { workers, times: Vec::new(), shares: Vec::new() }
    }

    /// Lets the workers answer all requests and notes how long it took.
    fn run_a_round(&mut self) -> io::Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let workers = (0..self.workers).map(|_| Worker::start()).collect::<io::Result<Vec<_>>>()?;

        let start = Instant::now();
        let clients: Vec<_> = (0..CLIENTS).map(|_| thread::spawn(move || ask(address))).collect();
        for worker in workers.iter().cycle().take(CLIENTS) {
            let (stream, _) = listener.accept()?;
            worker.hand_over(stream)?;
        }
        for client in clients {
            client.join().expect("a client does not panic")?;
        }
        self.times.push(start.elapsed());
        self.times.sort_unstable();

        self.shares = workers.into_iter().map(Worker::finish).collect::<io::Result<_>>()?;
        Ok(())
    }

    fn median(&self) -> Duration {
        self.times[self.times.len() / 2]
    }

    /// Whether most rounds took nearly the same time. A few may have been unlucky.
    fn is_steady(&self) -> bool {
        let quarter = self.times.len() / 4;
        let (quick, slow) = (self.times[quarter], self.times[self.times.len() - 1 - quarter]);
        slow.as_secs_f64() <= 1.25 * quick.as_secs_f64()
    }

    fn report(&self) {
        let (requests, median) = (CLIENTS * REQUESTS, self.median());
        let (quickest, slowest) = (self.times[0], self.times[self.times.len() - 1]);
        say(format_args!(
            "{} worker(s): {} requests in {:.1?}, the median; {:.1?} to {:.1?} in all",
            self.workers, requests, median, quickest, slowest
        ));
        for (number, share) in self.shares.iter().enumerate() {
            say(format_args!("  worker {} answered {}", number, share));
        }
    }
}

/// A worker, seen from the thread that accepts.
struct Worker {
    inbox: Sender<net::TcpStream>,
    waker: Waker,
    thread: JoinHandle<io::Result<usize>>,
}

impl Worker {
    fn start() -> io::Result<Worker> {
        let poll = Poll::new()?;
        let waker = Waker::new(&poll.registrator(), INBOX)?;
        let (inbox, receiver) = channel();
        let inside = Loop {
            poll,
            inbox: receiver,
            inbox_open: true,
            connections: HashMap::new(),
            next_token: INBOX + 1,
            answered: 0,
        };
        // The system spreads the threads over the cores.
        let thread = thread::spawn(move || inside.run());
        Ok(Worker { inbox, waker, thread })
    }

    fn hand_over(&self, stream: net::TcpStream) -> io::Result<()> {
        // First the connection, then the bell: so the worker that hears the bell finds the connection.
        match self.inbox.send(stream) {
            Ok(()) => self.waker.wake(),
            Err(_) => Err(io::Error::new(ErrorKind::BrokenPipe, "a worker ended early")),
        }
    }

    /// Lets it end when its last connection has ended. Returns how many requests it answered.
    fn finish(self) -> io::Result<usize> {
        drop(self.inbox);
        self.waker.wake()?;
        self.thread.join().expect("a worker does not panic")
    }
}

/// A worker from inside: a queue, and connections that nobody else knows.
struct Loop {
    poll: Poll,
    inbox: Receiver<net::TcpStream>,
    inbox_open: bool,
    connections: HashMap<Token, Connection>,
    next_token: Token,
    answered: usize,
}

impl Loop {
    fn run(mut self) -> io::Result<usize> {
        let mut events = Events::with_capacity(256);
        while self.inbox_open || !self.connections.is_empty() {
            self.poll.poll(&mut events, None)?;
            for event in &events {
                match event.id() {
                    INBOX => self.look_into_inbox()?,
                    token => self.serve(token)?,
                }
            }
        }
        Ok(self.answered)
    }

    /// One ring of the bell may be for several connections: takes all there are.
    fn look_into_inbox(&mut self) -> io::Result<()> {
        loop {
            match self.inbox.try_recv() {
                Ok(stream) => self.add(TcpStream::from_std(stream)?)?,
                Err(TryRecvError::Empty) => return Ok(()),
                Err(TryRecvError::Disconnected) => {
                    self.inbox_open = false;
                    return Ok(());
                }
            }
        }
    }

    fn add(&mut self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let token = self.next_token;
        self.next_token += 1;
        self.poll.registry().register(&stream, token, Interests::READABLE)?;
        self.connections.insert(token, Connection { stream, input: Vec::new(), output: Vec::new() });
        Ok(())
    }

    fn serve(&mut self, token: Token) -> io::Result<()> {
        // None: it ended at an earlier event of the same batch.
        let connection = match self.connections.get_mut(&token) {
            Some(connection) => connection,
            None => return Ok(()),
        };
        match connection.go_on(&mut self.answered) {
            Ok(Some(interests)) => self.poll.registry().reregister(&connection.stream, token, interests),
            // The end, or a peer that vanished: one connection fewer, the others go on. Closing it takes it off the queue.
            Ok(None) | Err(_) => {
                self.connections.remove(&token);
                Ok(())
            }
        }
    }
}

struct Connection {
    stream: TcpStream,
    /// Less than one request.
    input: Vec<u8>,
    /// Answers that did not fit yet.
    output: Vec<u8>,
}

impl Connection {
    /// At most one read and one write, then it is the others' turn. Returns what to wait for next; `None` at the end.
    fn go_on(&mut self, answered: &mut usize) -> io::Result<Option<Interests>> {
        // A client that does not read its answers need not ask for more.
        if self.output.is_empty() {
            let mut buffer = [0; 1024];
            match self.stream.read(&mut buffer) {
                Ok(0) => return Ok(None),
                Ok(n) => self.input.extend_from_slice(&buffer[..n]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Some(Interests::READABLE)),
                Err(error) => return Err(error),
            }
            *answered += self.answer_requests();
        }
        if self.output.is_empty() {
            return Ok(Some(Interests::READABLE)); // a part of a request only
        }
        match self.stream.write(&self.output) {
            Ok(n) => drop(self.output.drain(..n)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(Some(if self.output.is_empty() { Interests::READABLE } else { Interests::WRITABLE }))
    }

    /// Answers the requests that are complete. Returns how many there were.
    fn answer_requests(&mut self) -> usize {
        let complete = self.input.len() / RECORD;
        for record in self.input[..complete * RECORD].chunks_exact(RECORD) {
            let limit = u64::from_le_bytes(record.try_into().expect("a chunk of 8 bytes"));
            // Strangers may ask for anything.
            let answer = primes_below(limit.min(LIMIT));
            self.output.extend_from_slice(&answer.to_le_bytes());
        }
        self.input.drain(..complete * RECORD);
        complete
    }
}

/// Something that keeps a core busy for a moment.
fn primes_below(limit: u64) -> u64 {
    let is_prime = |n: &u64| (2..*n).take_while(|d| d * d <= *n).all(|d| n % d != 0);
    (2..limit).filter(is_prime).count() as u64
}

/// A client: asks, waits for the answer, asks again.
fn ask(address: SocketAddr) -> io::Result<()> {
    let mut stream = net::TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    for _ in 0..REQUESTS {
        stream.write_all(&LIMIT.to_le_bytes())?;
        let mut answer = [0; RECORD];
        stream.read_exact(&mut answer)?;
        if u64::from_le_bytes(answer) != PRIMES {
            return Err(io::Error::new(ErrorKind::InvalidData, "a wrong answer"));
        }
    }
    Ok(())
}

/// Prints a line. When nobody reads it any more (`| head -1`) the program is over, where `println!` would panic.
fn say(line: impl Display) {
    if let Err(error) = writeln!(io::stdout(), "{}", line) {
        if error.kind() == ErrorKind::BrokenPipe {
            std::process::exit(0);
        }
        eprintln!("cannot print: {}", error);
        std::process::exit(1);
    }
}
