//! A completion port without a library: an echo server in completion style.
//!
//! epoll and kqueue say when a read would not wait; then you read. A completion port says when a read is done: you
//! lend the kernel a buffer with each request and get it back filled.
//!
//! Run:  cargo run --example raw_iocp              then, in another terminal:  ncat 127.0.0.1 7000
//!       cargo run --example raw_iocp -- ADDRESS   listens there; port 0 takes any that is free
//! See:  each line you type comes back, in as many terminals as you like; the server prints who comes and goes.
//!
//! The server is examples/raw/iocp.rs, explained in chapter 6 of the guide. Its sisters raw_epoll, raw_kqueue and
//! raw_minimio are the same server on the other systems and on this library, laid out alike: `diff` them.

#[cfg(windows)]
#[path = "raw/iocp.rs"]
mod server;

#[cfg(windows)]
fn main() -> std::io::Result<()> {
    server::main()
}

#[cfg(not(windows))]
fn main() {
    println!("raw_iocp is for Windows; try raw_epoll on Linux, raw_kqueue on macOS and the BSDs");
}
