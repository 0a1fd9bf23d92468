//! What every platform module provides. A file that drifts stops compiling here.

// Old compilers call unused what only unnamed constants use.
#![allow(dead_code)]

use crate::{Event, Events, Interests, Registrator, Registry, Selector, Source, TcpStream, Token, Waker};
use std::fmt::Debug;
use std::io::{self, Read, Write};
use std::net::{self, SocketAddr};
use std::time::Duration;

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
const _: fn(net::TcpStream) -> io::Result<TcpStream> = TcpStream::from_std;
const _: fn(TcpStream) -> net::TcpStream = TcpStream::into_std;

const fn shared<T: Send + Sync + Debug>() {}
const fn handle<T: Clone + Send + Sync + Debug>() {}
const fn record<T: Copy + Eq + Send + Sync + Debug>() {}
const fn source<T: Source + ?Sized>() {}
const fn stream<T: Read + Write>() {}

const _: () = {
    shared::<crate::Poll>();
    shared::<Registry>();
    shared::<Selector>();
    shared::<TcpStream>();
    handle::<Registrator>();
    handle::<Waker>();
    record::<Event>();
    record::<Interests>();
    source::<TcpStream>();
    source::<net::TcpStream>();
    source::<net::TcpListener>();
    source::<net::UdpSocket>();
    source::<&net::TcpStream>();
    source::<dyn Source>();
    stream::<TcpStream>();
    stream::<&TcpStream>();
};
