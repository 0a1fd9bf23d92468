//! kqueue without a library: an echo server on two system calls, declared by hand.
//!
//! Run:  cargo run --example raw_kqueue              then, in another terminal:  nc 127.0.0.1 7000
//!       cargo run --example raw_kqueue -- ADDRESS   listens there; port 0 takes any that is free
//! See:  each line you type comes back, in as many terminals as you like; the server prints who comes and goes.
//!
//! The server is examples/raw/kqueue.rs, explained in chapter 5 of the guide. Its sisters raw_epoll, raw_iocp and
//! raw_minimio are the same server on the other systems and on this library, laid out alike: `diff` them.

#[cfg(any(
    target_vendor = "apple",
    target_os = "freebsd",
    target_os = "netbsd",
    target_os = "openbsd",
    target_os = "dragonfly"
))]
#[path = "raw/kqueue.rs"]
mod server;

#[cfg(any(
    target_vendor = "apple",
    target_os = "freebsd",
    target_os = "netbsd",
    target_os = "openbsd",
    target_os = "dragonfly"
))]
fn main() -> std::io::Result<()> {
    server::main()
}

#[cfg(not(any(
    target_vendor = "apple",
    target_os = "freebsd",
    target_os = "netbsd",
    target_os = "openbsd",
    target_os = "dragonfly"
)))]
fn main() {
    println!("raw_kqueue is for macOS, iOS and the BSDs; try raw_epoll on Linux, raw_iocp on Windows");
}
