//! Sockets that never wait: what is the same of them on every system.

mod stream;

pub use stream::TcpStream;
