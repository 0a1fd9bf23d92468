//! The workshop: build your own event queue, step by step, checked on your own system.
//!
//! Run:  cargo run --example workshop                    tells you the next step; edit your file and run it again
//!       cargo run --example workshop -- 7               checks step 7 alone
//!       cargo run --example workshop -- --list          all steps
//!       cargo run --example workshop -- --solution      checks the solution instead
//! See:  the steps that your queue has passed, and the first that it has not: what was expected, what happened instead,
//!       and where to look.
//!
//! Your file is `mine_epoll.rs` on Linux, `mine_kqueue.rs` on macOS and the BSDs, `mine_iocp.rs` on Windows, all beside this
//! one. `queue.rs` says what your queue has to do. If you get stuck for good, look into `solution_epoll.rs` and so on. Nothing is
//! stored: every run finds out anew how far you are. (`git checkout examples/workshop` starts over.)

mod checks;
mod delays;
#[cfg_attr(any(target_os = "linux", target_os = "android"), path = "mine_epoll.rs")]
#[cfg_attr(not(any(target_os = "linux", target_os = "android", windows)), path = "mine_kqueue.rs")]
#[cfg_attr(windows, path = "mine_iocp.rs")]
mod mine;
mod queue;
#[cfg_attr(any(target_os = "linux", target_os = "android"), path = "solution_epoll.rs")]
#[cfg_attr(not(any(target_os = "linux", target_os = "android", windows)), path = "solution_kqueue.rs")]
#[cfg_attr(windows, path = "solution_iocp.rs")]
mod solution;
mod step;
#[cfg_attr(unix, path = "steps_unix.rs")]
#[cfg_attr(windows, path = "steps_windows.rs")]
mod steps;

use std::process::exit;
use step::{say, Failure, Step};

#[cfg(any(target_os = "linux", target_os = "android"))]
mod system {
    pub const NAME: &str = "epoll";
    pub type Mine = crate::mine::Epoll;
    pub type Solution = crate::solution::Epoll;
}
#[cfg(not(any(target_os = "linux", target_os = "android", windows)))]
mod system {
    pub const NAME: &str = "kqueue";
    pub type Mine = crate::mine::Kqueue;
    pub type Solution = crate::solution::Kqueue;
}
#[cfg(windows)]
mod system {
    pub const NAME: &str = "iocp";
    pub type Mine = (crate::mine::Iocp, crate::mine::Afd);
    pub type Solution = (crate::solution::Iocp, crate::solution::Afd);
}

const USAGE: &str = "usage: workshop [--solution] [--list | STEP]";

fn main() {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let before = arguments.len();
    arguments.retain(|argument| argument != "--solution");
    let solution = arguments.len() < before;
    let steps = if solution { steps::all::<system::Solution>() } else { steps::all::<system::Mine>() };

    let number_of = |argument: &str| match argument.parse::<usize>() {
        Ok(number) if (1..=steps.len()).contains(&number) => number,
        _ => {
            eprintln!("{}; the steps are 1 to {}", USAGE, steps.len());
            exit(2)
        }
    };
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [step::CHECK, number] => step::check_in_this_process(&steps[number_of(number) - 1]),
        ["--list"] => {
            steps.iter().enumerate().for_each(|(index, step)| introduce(index + 1, step, steps.len()))
        }
        [number] => go(&steps, number_of(number)..=number_of(number), solution),
        [] => go(&steps, 1..=steps.len(), solution),
        _ => {
            eprintln!("{}", USAGE);
            exit(2)
        }
    }
}

/// Checks these steps in turn, up to the first that is not passed.
fn go(steps: &[Step], numbers: std::ops::RangeInclusive<usize>, solution: bool) {
    let file =
        format!("examples/workshop/{}_{}.rs", if solution { "solution" } else { "mine" }, system::NAME);
    say(format_args!(
        "Build your own queue. {} {}\n",
        if solution { "This checks" } else { "You write" },
        file
    ));
    let is_all = numbers == (1..=steps.len());
    for number in numbers {
        let step = &steps[number - 1];
        match step::check(number, solution) {
            Ok(()) => say(format_args!("  {:2}  passed   {}", number, step.title)),
            Err(failure) => {
                say(format_args!("  {:2}  NOT YET  {}\n", number, step.title));
                introduce(number, step, steps.len());
                explain(&failure, &file);
                say(format_args!("\nChange {}, then run this again.", file));
                exit(1);
            }
        }
    }
    if is_all {
        say("");
        wrap("", "", &format!("All {} steps. {}", steps.len(), steps::FAREWELL));
    }
}

/// Says what a step is about.
fn introduce(number: usize, step: &Step, of: usize) {
    say(format_args!("Step {} of {}: {}", number, of, step.title));
    for chapter in step.chapters {
        let number = chapter[2..4].trim_start_matches('0');
        say(format_args!("Read chapter {}: src/guide/{}.md", number, chapter));
    }
    say("");
    step.task.split('\n').for_each(|paragraph| wrap("  ", "  ", paragraph));
    say("");
}

/// Says why it is not passed.
fn explain(failure: &Failure, file: &str) {
    if failure.instead.is_empty() {
        // Nothing is wrong: it has not been written yet.
        let place = if failure.look.is_empty() { file } else { &failure.look };
        return wrap("  Next        ", "              ", &format!("this part is not written yet: {}", place));
    }
    for (head, words) in [
        ("  Expected    ", &failure.expected),
        ("  Instead     ", &failure.instead),
        ("  Look at     ", &failure.look),
    ] {
        if !words.is_empty() {
            wrap(head, "              ", words);
        }
    }
}

/// Prints `words` in lines that fit a terminal.
fn wrap(head: &str, indent: &str, words: &str) {
    let mut line = head.to_string();
    for word in words.split(' ') {
        if line.chars().count() + word.chars().count() >= 100 {
            say(format_args!("{}", line.trim_end()));
            line = indent.to_string();
        }
        line += word;
        line.push(' ');
    }
    say(format_args!("{}", line.trim_end()));
}
