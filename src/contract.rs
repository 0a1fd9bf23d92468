//! What every platform module provides. A file that drifts stops compiling here.

// Old compilers call unused what only unnamed constants use.
#![allow(dead_code)]

use crate::{Event, Events, Interests, Registrator, Registry, Selector, Source, Token, Waker};
use crate::{TcpListener, TcpStream, UdpSocket};
use std::fmt::Debug;
use std::io::{self, Read, Write};
use std::net::{self, SocketAddr};
use std::time::Duration;

// What owns the handle of a socket has two names, and that of a pipe another on Windows.
#[cfg(unix)]
use std::os::unix::io::OwnedFd as Owned;
#[cfg(windows)]
use std::os::windows::io::OwnedSocket as Owned;

type Registers = fn(&Registrator, &TcpStream, Token, Interests) -> io::Result<()>;

const _: fn() -> io::Result<Selector> = Selector::new;
const _: fn(&mut Selector, &mut Events, Option<Duration>) -> io::Result<()> = Selector::select;
const _: fn(&Selector) -> Registrator = Selector::registrator;

const _: Registers = Registrator::register;
const _: Registers = Registrator::reregister;
const _: fn(&Registrator, &TcpStream) -> io::Result<()> = Registrator::deregister;
const _: fn(&Registrator) -> io::Result<()> = Registrator::close_loop;

const _: fn(&Event) -> Token = Event::id;
const _: [fn(&Event) -> bool; 5] =
    [Event::is_readable, Event::is_writable, Event::is_read_closed, Event::is_write_closed, Event::is_error];

const _: fn(&Registrator, Token) -> io::Result<Waker> = Waker::new;
const _: fn(&Registry, Token) -> io::Result<Waker> = Waker::new;
const _: fn(&Waker) -> io::Result<()> = Waker::wake;

const _: fn(SocketAddr) -> io::Result<TcpStream> = TcpStream::connect_nonblocking;
const _: fn(&TcpListener) -> io::Result<(TcpStream, SocketAddr)> = TcpListener::accept;

const _: fn() -> io::Result<(crate::PipeReader, crate::PipeWriter)> = crate::pipe;

/// What each socket is made of and turns into, and the call of the user's own.
macro_rules! socket {
    ($name:ident) => {
        const _: fn(net::$name) -> io::Result<$name> = $name::from_std;
        const _: fn($name) -> net::$name = $name::into_std;
        const _: fn($name) -> net::$name = net::$name::from;
        const _: fn(&$name, Interests, fn(&net::$name) -> io::Result<u8>) -> io::Result<u8> = $name::try_io;
        const _: fn(&$name) -> io::Result<$name> = $name::try_clone;
    };
}
socket!(TcpStream);
socket!(TcpListener);
socket!(UdpSocket);

const fn pipes() {
    use crate::{PipeReader, PipeWriter};
    use std::process::{ChildStderr, ChildStdin, ChildStdout};
    const fn becomes<T, U: TryFrom<T, Error = io::Error>>() {}
    const fn reads<T: Read>() {}
    const fn writes<T: Write>() {}
    shared::<PipeReader>();
    shared::<PipeWriter>();
    source::<PipeReader>();
    source::<PipeWriter>();
    reads::<PipeReader>();
    reads::<&PipeReader>();
    writes::<PipeWriter>();
    writes::<&PipeWriter>();
    becomes::<crate::platform::Owned, PipeReader>();
    becomes::<crate::platform::Owned, PipeWriter>();
    becomes::<ChildStdout, PipeReader>();
    becomes::<ChildStderr, PipeReader>();
    becomes::<ChildStdin, PipeWriter>();
}

const fn shared<T: Send + Sync + Debug>() {}
const fn handle<T: Clone + Send + Sync + Debug>() {}
const fn record<T: Copy + Eq + Send + Sync + Debug>() {}
const fn source<T: Source + ?Sized>() {}
const fn stream<T: Read + Write>() {}
const fn converts<T: Into<U> + From<U>, U>() {}

const _: () = {
    shared::<crate::Poll>();
    shared::<Registry>();
    shared::<Selector>();
    shared::<TcpStream>();
    shared::<TcpListener>();
    shared::<UdpSocket>();
    handle::<Registrator>();
    handle::<Waker>();
    record::<Event>();
    record::<Interests>();
    source::<TcpStream>();
    source::<TcpListener>();
    source::<UdpSocket>();
    source::<net::TcpStream>();
    source::<net::TcpListener>();
    source::<net::UdpSocket>();
    source::<&net::TcpStream>();
    source::<dyn Source>();
    stream::<TcpStream>();
    stream::<&TcpStream>();
    pipes();
    converts::<TcpStream, Owned>();
    converts::<TcpListener, Owned>();
    converts::<UdpSocket, Owned>();
};
