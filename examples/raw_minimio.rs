//! The echo server of raw_epoll, raw_kqueue and raw_iocp once more, on this library.
//!
//! Run:  cargo run --example raw_minimio              then, in another terminal:  nc 127.0.0.1 7000
//!       cargo run --example raw_minimio -- ADDRESS   listens there; port 0 takes any that is free
//! See:  each line you type comes back, in as many terminals as you like; the server prints who comes and goes.
//!
//! The server is examples/raw/minimio.rs, explained in chapter 8 of the guide. `diff` it with raw/epoll.rs: what is
//! gone is what the library does. (The example `echo` also copes with a listener that has run out of descriptors.)

#[path = "raw/minimio.rs"]
mod server;

fn main() -> std::io::Result<()> {
    server::main()
}
