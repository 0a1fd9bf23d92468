//! One step: how its check says what it expects, and how it is kept from doing harm.
//!
//! Unsafe code may do anything: crash, sleep for ever, overwrite memory. So each check runs in a process of its own, the
//! same program started again. It tells its parent on standard output what it is about to do; whatever happens then, the
//! parent knows where it was.

use std::env;
use std::fmt::Display;
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
#[cfg(unix)]
use std::os::unix::process::ExitStatusExt;
use std::panic;
use std::process::{self, Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// A check that says nothing for this long hangs.
const PATIENCE: Duration = Duration::from_secs(5);

/// The argument that makes the program check a step instead of starting processes that do.
pub const CHECK: &str = "--check-in-this-process";

/// A line that begins with this is for the parent; all others are the learner's own.
const MARK: char = '\u{1}';

pub struct Step {
    pub title: &'static str,
    /// Where the guide speaks of it: names of files.
    pub chapters: &'static [&'static str],
    pub task: &'static str,
    pub check: fn() -> Outcome,
}

pub type Outcome = Result<(), Failure>;

/// Why a step is not passed.
#[derive(Default)]
pub struct Failure {
    pub expected: String,
    pub instead: String,
    pub look: String,
}

/// What should happen next, and where to look if it does not.
pub struct Expected {
    expected: String,
    look: String,
}

/// Says what should happen next. If the code then hangs or crashes, these are the words for it.
pub fn expect(expected: impl Display, look: impl Display) -> Expected {
    let (expected, look) = (expected.to_string(), look.to_string());
    tell("look", &look);
    tell("expected", &expected);
    Expected { expected, look }
}

impl Expected {
    /// Something else happened.
    pub fn but<T>(&self, instead: impl Display) -> Result<T, Failure> {
        let (expected, look) = (self.expected.clone(), self.look.clone());
        Err(Failure { expected, instead: instead.to_string(), look })
    }

    /// The same from a thread beside the check, which may be asleep for good: the parent ends it on these words.
    pub fn but_asleep(&self, instead: impl Display) {
        tell("instead", &instead.to_string());
    }
}

/// An error that is not what the step is about.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure {
            expected: "no error from what this step builds on".to_string(),
            instead: format!("the error \"{}\"", error),
            look: "the steps before this one; or is this machine out of descriptors or ports?".to_string(),
        }
    }
}

/// In the child: a line for the parent.
fn tell(what: &str, words: &str) {
    let words = words.replace('\n', " ");
    // The learner may have left a line unfinished.
    let _ = writeln!(io::stdout(), "\n{}{}:{}", MARK, what, words);
}

/// In the child: checks the step, and does not return.
pub fn check_in_this_process(step: &Step) -> ! {
    // A panic in any thread ends the process, with words instead of a backtrace.
    panic::set_hook(Box::new(|info| {
        let message = match (info.payload().downcast_ref::<&str>(), info.payload().downcast_ref::<String>()) {
            (Some(message), _) => message,
            (_, Some(message)) => message.as_str(),
            _ => "",
        };
        if let Some(place) = info.location() {
            tell("place", &format!("{}:{}", place.file().replace('\\', "/"), place.line()));
        }
        tell("panic", message);
        process::exit(1);
    }));
    match (step.check)() {
        Ok(()) => tell("passed", ""),
        Err(Failure { expected, instead, look }) => {
            tell("look", &look);
            tell("expected", &expected);
            tell("instead", &instead);
        }
    }
    process::exit(0)
}

/// In the parent: checks step `number` in a child.
pub fn check(number: usize, solution: bool) -> Outcome {
    let mut command = Command::new(env::current_exe()?);
    command.arg(CHECK).arg(number.to_string()).stdin(Stdio::null()).stdout(Stdio::piped());
    if solution {
        command.arg("--solution");
    }
    let mut child = command.spawn()?;
    let lines = BufReader::new(child.stdout.take().expect("it was asked for")).split(b'\n');
    let (sender, received) = mpsc::channel();
    thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.send(line)));

    let mut failure = Failure::default();
    let mut place = String::new();
    let mut deadline = Instant::now() + PATIENCE;
    failure.instead = loop {
        let line = match received.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => String::from_utf8_lossy(&line).into_owned(),
            Err(RecvTimeoutError::Timeout) => break too_long(),
            Err(RecvTimeoutError::Disconnected) => break how_it_died(&mut child, deadline)?,
        };
        let (what, words) = match line.strip_prefix(MARK).and_then(|line| line.split_once(':')) {
            Some((what, words)) => (what, words.to_string()),
            None => {
                if !line.is_empty() {
                    say(format_args!("       | {}", line));
                }
                continue;
            }
        };
        deadline = Instant::now() + PATIENCE;
        match what {
            "passed" => {
                end(&mut child);
                return Ok(());
            }
            "look" => failure.look = words,
            "expected" => failure.expected = words,
            "instead" => break words,
            "place" => place = words,
            _ => {
                // A panic. That of `todo!` says only that there is something to do. A place inside std tells the learner
                // nothing, so then the step's own words stay.
                if !place.contains("/library/") {
                    failure.look = place;
                }
                let is_todo = words.starts_with("not yet implemented");
                break if is_todo { String::new() } else { format!("a panic: {}", words) };
            }
        }
    };
    end(&mut child);
    Err(failure)
}

/// The child has said all it had to say, or never will.
fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

fn too_long() -> String {
    format!("nothing for {} seconds, so the check was ended", PATIENCE.as_secs())
}

/// It ended without a last word.
fn how_it_died(child: &mut Child, deadline: Instant) -> io::Result<String> {
    const MEMORY: &str =
        "it used memory that is not its own, or no longer. Compare each address and length that your code \
                          gives to the system, and ask how long the memory behind it stays";
    let status = loop {
        match child.try_wait()? {
            Some(status) => break status,
            None if Instant::now() > deadline => return Ok(too_long()),
            None => thread::sleep(Duration::from_millis(10)),
        }
    };
    #[cfg(unix)]
    let cause = match status.signal() {
        Some(6) => "SIGABRT: it gave itself up, and said why above".to_string(),
        Some(7 | 10) => format!("SIGBUS: {}", MEMORY),
        Some(11) => format!("SIGSEGV: {}", MEMORY),
        _ => format!("{}. Did your code close a descriptor that is not its own?", status),
    };
    #[cfg(windows)]
    let cause = match status.code().map(|code| code as u32) {
        Some(0xC000_0005) => format!("an access violation: {}", MEMORY),
        Some(0xC000_0374) => format!("a damaged heap: {}", MEMORY),
        _ => format!("{}. Did your code close a handle that is not its own?", status),
    };
    Ok(format!("the process died: {}", cause))
}

/// Prints a line. When nobody reads it any more (`| head -1`) the program is over, where `println!` would panic.
pub fn say(line: impl Display) {
    if let Err(error) = writeln!(io::stdout(), "{}", line) {
        if error.kind() == ErrorKind::BrokenPipe {
            process::exit(0);
        }
        eprintln!("cannot print: {}", error);
        process::exit(1);
    }
}
