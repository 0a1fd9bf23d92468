//! One step: how its check says what it expects, and how it is kept from doing harm.
//!
//! Unsafe code may do anything: crash, sleep for ever, overwrite memory. So each check runs in a process of its own, the
//! same program started again. It tells its parent on standard output what it is about to do; whatever happens then, the
//! parent knows where it was.

use std::env;
use std::fmt::Display;
use std::io::{self, BufRead, BufReader, Write};
use std::panic;
use std::process::{self, Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

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
    pub came: String,
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
    pub fn but<T>(&self, came: impl Display) -> Result<T, Failure> {
        let (expected, look) = (self.expected.clone(), self.look.clone());
        Err(Failure { expected, came: came.to_string(), look })
    }
}

/// An error that is not what the step is about.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure {
            expected: "no error from what this step builds on".to_string(),
            came: format!("the error \"{}\"", error),
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
        Err(Failure { expected, came, look }) => {
            tell("look", &look);
            tell("expected", &expected);
            tell("came", &came);
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
    let lines = BufReader::new(child.stdout.take().expect("it was asked for")).lines();
    let (sender, received) = mpsc::channel();
    thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.send(line)));

    let mut failure = Failure::default();
    let mut place = String::new();
    let came = loop {
        let line = match received.recv_timeout(PATIENCE) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => {
                end(&mut child);
                break format!("nothing for {} seconds, so the check was ended", PATIENCE.as_secs());
            }
            Err(RecvTimeoutError::Disconnected) => break how_it_died(child.wait()?),
        };
        match line.strip_prefix(MARK).and_then(|line| line.split_once(':')) {
            Some(("passed", _)) => {
                end(&mut child);
                return Ok(());
            }
            Some(("look", words)) => failure.look = words.to_string(),
            Some(("expected", words)) => failure.expected = words.to_string(),
            Some(("place", words)) => place = words.to_string(),
            Some(("came", words)) => {
                end(&mut child);
                break words.to_string();
            }
            Some(("panic", words)) => {
                end(&mut child);
                failure.look = place;
                match words.strip_prefix("not yet implemented: ") {
                    Some(_) => failure.expected.clear(), // the task says what to do
                    None => break format!("a panic: {}", words),
                }
                break String::new();
            }
            _ if line.is_empty() => {}
            _ => println!("       | {}", line),
        }
    };
    failure.came = came;
    Err(failure)
}

/// The child has said all it had to say, or never will.
fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// It ended without a last word.
fn how_it_died(status: ExitStatus) -> String {
    #[cfg(unix)]
    let (number, names) = {
        let names: &[(i32, &str)] = &[
            (4, "SIGILL, an illegal instruction"),
            (6, "SIGABRT: it gave itself up"),
            (7, "SIGBUS: it used memory that is not its own"),
            (10, "SIGBUS: it used memory that is not its own"),
            (11, "SIGSEGV: it used memory that is not its own"),
            (13, "SIGPIPE: it wrote where nobody reads"),
            (14, "SIGALRM"),
        ];
        (std::os::unix::process::ExitStatusExt::signal(&status).unwrap_or(0), names)
    };
    #[cfg(windows)]
    let (number, names) = {
        let names: &[(i32, &str)] = &[
            (0xC000_0005_u32 as i32, "an access violation: it used memory that is not its own"),
            (
                0xC000_0374_u32 as i32,
                "a damaged heap: something was freed twice, or written to after it was freed",
            ),
            (0xC000_0409_u32 as i32, "it gave itself up"),
        ];
        (status.code().unwrap_or(0), names)
    };
    match names.iter().find(|(known, _)| *known == number) {
        Some((_, name)) => format!(
            "the process died: {}. Compare each address and length that your code gives to the kernel, and ask how \
             long the memory behind it stays",
            name
        ),
        None => format!("the process ended ({})", status),
    }
}
