//! Timers: ten thousand of them, a clock and an idle connection on one poll.
//!
//! The kernel needs to know only one moment: the next one. So the timers are kept sorted, the time until the first is
//! the timeout of the poll, and after each poll those that are due go off.
//!
//! Run:  cargo run --example timers
//! See:  a tick every 200 ms; a connection that is closed once it was silent for 300 ms; and after a second, how
//!       late the ten thousand were.

use minimio::{Events, Interests, Poll, TcpStream, Token};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

const MANY: u32 = 10_000;
const TICK: Duration = Duration::from_millis(200);
const TICKS: u32 = 5;
const IDLE: Duration = Duration::from_millis(300);
const PEER: Token = 1;

/// What to do when the time has come.
enum Action {
    Count,
    Tick(u32),
    CloseIdlePeer,
}

/// A timer that was set. Two of them may be for the same moment, so a number tells them apart.
type Timer = (Instant, u64);

/// All timers, sorted: the next one is the first one, and each can be found and taken out.
#[derive(Default)]
struct Timers {
    sorted: BTreeMap<Timer, Action>,
    number: u64,
}

impl Timers {
    fn set(&mut self, at: Instant, action: Action) -> Timer {
        self.number += 1;
        let timer = (at, self.number);
        self.sorted.insert(timer, action);
        timer
    }

    fn cancel(&mut self, timer: Timer) {
        self.sorted.remove(&timer);
    }

    /// How long to sleep: not at all when the next one is due, and `None` when there is nothing to wait for.
    fn time_left(&self) -> Option<Duration> {
        let (at, _) = self.sorted.keys().next()?;
        Some(at.saturating_duration_since(Instant::now()))
    }

    /// Takes out the next timer if it is due.
    fn pop_due(&mut self) -> Option<(Instant, Action)> {
        let timer = *self.sorted.keys().next()?;
        if timer.0 > Instant::now() {
            return None;
        }
        let action = self.sorted.remove(&timer)?;
        Some((timer.0, action))
    }
}

/// The program: its timers, its one connection and what it counts.
struct Program {
    start: Instant,
    timers: Timers,
    peer: Option<TcpStream>,
    idle: Timer,
    counted: u32,
    latest: Duration,
}

fn main() -> io::Result<()> {
    if std::env::args().len() > 1 {
        eprintln!("timers takes no arguments");
        std::process::exit(2);
    }
    let mut poll = Poll::new()?;
    let mut program = Program::new(&poll)?;
    let mut events = Events::with_capacity(16);
    let mut polls = 0;
    // When the last timer has gone off there is nothing left to do.
    while let Some(time_left) = program.timers.time_left() {
        // Events end the sleep early, so each turn looks at the clock again.
        poll.poll_timeout(&mut events, time_left)?;
        polls += 1;
        if events.iter().any(|event| event.id() == PEER) {
            program.hear_peer()?;
        }
        while let Some((at, action)) = program.timers.pop_due() {
            program.latest = program.latest.max(at.elapsed());
            program.act(at, action);
        }
    }
    say(format_args!(
        "{} timers went off in {} polls, the latest of all {:.1?} late",
        program.counted, polls, program.latest
    ));
    Ok(())
}

impl Program {
    fn new(poll: &Poll) -> io::Result<Program> {
        let peer = connect_to_peer()?;
        poll.registry().register(&peer, PEER, Interests::READABLE | Interests::LEVEL)?;

        let start = Instant::now();
        let mut timers = Timers::default();
        for micros in scattered(1_000_000).take(MANY as usize) {
            timers.set(start + Duration::from_micros(micros), Action::Count);
        }
        timers.set(start + TICK, Action::Tick(1));
        let idle = timers.set(start + IDLE, Action::CloseIdlePeer);
        say(format_args!("   0 ms  {} timers set, for moments of the next second", MANY));
        Ok(Program { start, timers, peer: Some(peer), idle, counted: 0, latest: Duration::ZERO })
    }

    fn act(&mut self, at: Instant, action: Action) {
        match action {
            Action::Count => self.counted += 1,
            Action::Tick(number) => {
                self.log(&format!("tick {}", number));
                if number < TICKS {
                    // Counted from when it should have been, not from now: so a late tick does not delay all others.
                    self.timers.set(at + TICK, Action::Tick(number + 1));
                }
            }
            Action::CloseIdlePeer => {
                self.log(&format!("nothing was heard for {:?}: connection closed", IDLE));
                self.peer = None;
            }
        }
    }

    /// Whatever the peer says, the timer that waits for its silence starts again.
    fn hear_peer(&mut self) -> io::Result<()> {
        let peer = match &mut self.peer {
            Some(peer) => peer,
            None => return Ok(()),
        };
        match peer.read(&mut [0; 64]) {
            Ok(0) => {
                self.log("the peer hung up");
                self.timers.cancel(self.idle);
                self.peer = None;
            }
            Ok(_) => {
                self.log("the peer said something");
                self.timers.cancel(self.idle);
                let at = Instant::now() + IDLE;
                self.idle = self.timers.set(at, Action::CloseIdlePeer);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn log(&self, what: &str) {
        say(format_args!("{:4} ms  {}", self.start.elapsed().as_millis(), what));
    }
}

/// Connects to a peer that says something three times and then nothing, but never hangs up first.
fn connect_to_peer() -> io::Result<TcpStream> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let stream = TcpStream::connect(listener.local_addr()?)?;
    let (mut peer, _) = listener.accept()?;
    thread::spawn(move || -> io::Result<()> {
        for _ in 0..3 {
            thread::sleep(Duration::from_millis(100));
            peer.write_all(b"still here")?;
        }
        // The end of this is the other side's close.
        peer.read_to_end(&mut Vec::new()).map(drop)
    });
    Ok(stream)
}

/// Numbers below `limit` in no order that one could see: as good as random here.
fn scattered(limit: u64) -> impl Iterator<Item = u64> {
    let mut state = 1u64;
    std::iter::repeat_with(move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 32) % limit
    })
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
