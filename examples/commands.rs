//! Commands: a handful of programs at once, from one thread, and each line of theirs as it comes.
//!
//! Run:  cargo run --example commands
//!
//! The program is `commands/program.rs`. On Windows it does not run yet: the library has pipes on Unix alone.

#[cfg(unix)]
#[path = "commands/program.rs"]
mod program;

fn main() {
    #[cfg(unix)]
    program::main();
    #[cfg(not(unix))]
    {
        eprintln!("commands: there are no pipes on this system yet");
        std::process::exit(2);
    }
}
