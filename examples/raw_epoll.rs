//! epoll without a library: an echo server on three system calls, declared by hand.
//!
//! Run:  cargo run --example raw_epoll              then, in another terminal:  nc 127.0.0.1 7000
//!       cargo run --example raw_epoll -- ADDRESS   listens there; port 0 takes any that is free
//! See:  each line you type comes back, in as many terminals as you like; the server prints who comes and goes.
//!       On Linux, `strace` in front shows its calls.
//!
//! The server is examples/raw/epoll.rs, explained in chapter 4 of the guide. Its sisters raw_kqueue, raw_iocp and
//! raw_minimio are the same server on the other systems and on this library, laid out alike: `diff` them.

#[cfg(any(target_os = "linux", target_os = "android"))]
#[path = "raw/epoll.rs"]
mod server;

#[cfg(any(target_os = "linux", target_os = "android"))]
fn main() -> std::io::Result<()> {
    server::main()
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn main() {
    println!("raw_epoll is for Linux and Android; try raw_kqueue on macOS and the BSDs, raw_iocp on Windows");
}
