//! Commands: a handful of programs at once, from one thread, and each line of theirs as it comes.
//!
//! Run:  cargo run --example commands                                  five programs: itself, in five roles
//!       cargo run --example commands -- "cargo --version" "rustc -vV"  yours, each in one argument
//! See:  the lines of all of them with the time, `|` for what they say and `!` for what they complain about. One takes too long
//!       and is ended. At the end: what became of each.
//!
//! Listening to one child is easy: read until the end. Listening to two outputs of each of five children, and filling the
//! input of one of them meanwhile, takes eleven threads, or one queue. `PipeReader` and `PipeWriter` turn what `Command`
//! gives you into sources.

use minimio::{Events, Interests, PipeReader, PipeWriter, Poll, Token};
use std::fmt::Display;
use std::io::{self, BufRead, ErrorKind, Read, Write};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long a program may take.
const LIMIT: Duration = Duration::from_secs(4);
/// A line that is longer comes in pieces: nobody may fill our memory.
const MAX_LINE: usize = 1000;
/// How often to ask whether a program has ended that says nothing any more.
const PATIENCE: Duration = Duration::from_millis(10);
const ROLES: [&str; 5] = ["count", "complain", ADD, "fail", "dawdle"];
/// The one that has an input.
const ADD: &str = "add";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.as_slice() {
        [flag, role] if flag == "--as" && ROLES.contains(&role.as_str()) => play(role),
        [] => run_all(&ROLES, itself_as, Some(ADD)),
        lines if lines.iter().all(|line| !line.trim().is_empty() && !line.starts_with('-')) => {
            run_all(lines, command, None)
        }
        _ => {
            eprintln!("usage: commands [\"PROGRAM ARGUMENT...\"]...");
            std::process::exit(2);
        }
    };
    match result {
        Ok(()) => {}
        // Nobody reads what we print any more (`| head -1`): that is the end, and no failure.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
        Err(error) => {
            eprintln!("commands: {}", error);
            std::process::exit(1);
        }
    }
}

/// A command line of the user's, cut at the spaces: there is no shell in between.
fn command(line: &str) -> io::Result<Command> {
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words);
    Ok(command)
}

fn itself_as(role: &str) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--as", role]);
    Ok(command)
}

/// What one of the five does. It knows nothing of queues: it reads, prints and sleeps.
fn play(role: &str) -> io::Result<()> {
    let wait = |ms| thread::sleep(Duration::from_millis(ms));
    match role {
        "count" => {
            for number in 1..=5 {
                say(number)?;
                wait(200);
            }
        }
        "complain" => {
            for what in ["weather", "food"] {
                say(format_args!("about the {} I have nothing to say", what))?;
                wait(150);
                eprintln!("the {} is terrible", what);
                wait(150);
            }
        }
        ADD => {
            let numbers =
                io::stdin().lock().lines().map(|line| line.unwrap_or_default().parse().unwrap_or(0));
            let sum: u64 = numbers.sum();
            say(format_args!("the sum of what I was told is {}", sum))?;
        }
        "fail" => {
            eprintln!("I give up");
            std::process::exit(3);
        }
        _ => {
            say("this may take a minute")?;
            wait(60_000);
        }
    }
    Ok(())
}

/// One program, from its start to what became of it.
struct Job {
    name: String,
    start: Instant,
    /// `None` before and after.
    child: Option<Child>,
    /// What it says and what it complains about; `None` at the end of each.
    outputs: [Option<Output>; 2],
    /// `None` when all is written, and for a program that is to hear nothing.
    input: Option<Input>,
    lines: usize,
    /// In the end: what became of it, and how long it took.
    outcome: Option<(String, Duration)>,
}

struct Output {
    pipe: PipeReader,
    /// The beginning of a line.
    line: Vec<u8>,
}

struct Input {
    pipe: PipeWriter,
    /// What is still to be written.
    rest: Vec<u8>,
}

/// The sources of a job have three tokens in a row: its two outputs, and this.
const INPUT: usize = 2;

/// Runs what `command` makes of each line. `told` is the line of the one that hears something from us.
fn run_all<T: AsRef<str>>(
    lines: &[T],
    command: fn(&str) -> io::Result<Command>,
    told: Option<&str>,
) -> io::Result<()> {
    let mut poll = Poll::new()?;
    let begin = Instant::now();
    let mut jobs = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        let mut job = Job::new(line.as_ref());
        let is_told = told == Some(line.as_ref());
        if let Err(error) = job.start(command(line.as_ref())?, is_told, &poll, 3 * number) {
            job.end(format!("cannot start: {}", error));
        }
        jobs.push(job);
    }
    let width = jobs.iter().map(|job| job.name.chars().count()).max().unwrap_or(0);

    let mut events = Events::with_capacity(64);
    while jobs.iter().any(|job| job.outcome.is_none()) {
        let next = jobs.iter().filter_map(Job::time_left).min();
        poll.poll_timeout(&mut events, next)?;
        for event in &events {
            let (job, source) = (&mut jobs[event.id() / 3], event.id() % 3);
            if source == INPUT {
                job.write();
                continue;
            }
            for line in job.read(source) {
                let (time, mark) = (begin.elapsed().as_secs_f64(), ['|', '!'][source]);
                say(format_args!("{:6.3} s  {:width$} {} {}", time, job.name, mark, line))?;
            }
        }
        for job in &mut jobs {
            job.end_if_over()?;
        }
    }

    say("")?;
    for job in &jobs {
        if let Some((outcome, time)) = &job.outcome {
            let time = time.as_secs_f64();
            say(format_args!("{:width$}  {:5.2} s  {:3} lines  {}", job.name, time, job.lines, outcome))?;
        }
    }
    Ok(())
}

impl Job {
    fn new(name: &str) -> Job {
        Job {
            name: name.to_string(),
            start: Instant::now(),
            child: None,
            outputs: [None, None],
            input: None,
            lines: 0,
            outcome: None,
        }
    }

    /// Starts it, and registers what it says from `token` on. All in `LEVEL` mode: what one turn leaves comes again.
    fn start(&mut self, mut command: Command, is_told: bool, poll: &Poll, token: Token) -> io::Result<()> {
        let input = if is_told { Stdio::piped() } else { Stdio::null() };
        let child = command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let child = self.child.insert(child);
        let stdout = child.stdout.take().map(PipeReader::try_from).transpose()?;
        let stderr = child.stderr.take().map(PipeReader::try_from).transpose()?;
        for (source, pipe) in [stdout, stderr].into_iter().flatten().enumerate() {
            poll.registry().register(&pipe, token + source, Interests::READABLE | Interests::LEVEL)?;
            self.outputs[source] = Some(Output { pipe, line: Vec::new() });
        }
        if let Some(stdin) = child.stdin.take() {
            let pipe = PipeWriter::try_from(stdin)?;
            poll.registry().register(&pipe, token + INPUT, Interests::WRITABLE | Interests::LEVEL)?;
            // Far more than a pipe takes at once.
            let rest: String = (1..=100_000).map(|number| format!("{}\n", number)).collect();
            self.input = Some(Input { pipe, rest: rest.into() });
        }
        Ok(())
    }

    /// When to look at it without an event.
    fn time_left(&self) -> Option<Duration> {
        self.child.as_ref()?;
        let left = (self.start + LIMIT).saturating_duration_since(Instant::now());
        // Nothing tells us when a program ends that has closed its outputs before.
        let is_silent = self.outputs.iter().all(Option::is_none);
        Some(if is_silent { left.min(PATIENCE) } else { left })
    }

    /// Does one turn of reading, and returns the lines that are complete.
    fn read(&mut self, source: usize) -> Vec<String> {
        let mut lines = Vec::new();
        let output = match &mut self.outputs[source] {
            Some(output) => output,
            None => return lines, // It ended earlier in this batch of events.
        };
        let mut buffer = [0; 4096];
        let is_over = match output.pipe.read(&mut buffer) {
            Ok(n) => {
                output.line.extend_from_slice(&buffer[..n]);
                n == 0
            }
            Err(error) => error.kind() != ErrorKind::WouldBlock,
        };
        loop {
            let end = output.line.iter().take(MAX_LINE).position(|byte| *byte == b'\n');
            let length = match end {
                Some(end) => end + 1,
                None if output.line.len() >= MAX_LINE => MAX_LINE,
                // The last one may have no end.
                None if is_over && !output.line.is_empty() => output.line.len(),
                None => break,
            };
            let line: Vec<u8> = output.line.drain(..length).collect();
            lines.push(String::from_utf8_lossy(&line).trim_end().replace(char::is_control, " "));
        }
        if is_over {
            // Dropping it closes it, and what is closed leaves the queue by itself.
            self.outputs[source] = None;
        }
        self.lines += lines.len();
        lines
    }

    /// Does one turn of writing.
    fn write(&mut self) {
        let is_over = match &mut self.input {
            None => return,
            Some(input) => match input.pipe.write(&input.rest) {
                Ok(n) => {
                    input.rest.drain(..n);
                    input.rest.is_empty()
                }
                // It may have ended without reading all: its own affair.
                Err(error) => error.kind() != ErrorKind::WouldBlock,
            },
        };
        if is_over {
            // Closed, it tells the program that there is no more.
            self.input = None;
        }
    }

    /// Looks whether it has ended, and ends it if it takes too long.
    fn end_if_over(&mut self) -> io::Result<()> {
        let child = match &mut self.child {
            Some(child) => child,
            None => return Ok(()),
        };
        if self.start.elapsed() >= LIMIT {
            // Not waiting for the end of its outputs: programs of its own may have them, and live on.
            match child.try_wait()? {
                Some(status) => self.end(format!("{}, but its output is still open", status)),
                None => {
                    // If it has ended this very moment, that is as good.
                    let _ = child.kill();
                    child.wait()?;
                    self.end("took too long, and was ended".to_string());
                }
            }
        } else if self.outputs.iter().all(Option::is_none) {
            if let Some(status) = child.try_wait()? {
                self.end(status.to_string());
            }
        }
        Ok(())
    }

    fn end(&mut self, outcome: String) {
        self.outcome = Some((outcome, self.start.elapsed()));
        self.child = None;
        self.outputs = [None, None];
        self.input = None;
    }
}

/// Whatever ends us, nobody is left behind.
impl Drop for Job {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Prints a line. `println!` panics when nobody reads it any more.
fn say(line: impl Display) -> io::Result<()> {
    writeln!(io::stdout(), "{}", line)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot print: {}", error)))
}
