//! Datagrams: std's `UdpSocket`, registered as it is. One thread is a server and three clients at once.
//!
//! Datagrams get lost, so the server loses every fourth question on purpose. A client that hears nothing for a while asks
//! again: the timeout of the poll is the time until the first of them has waited long enough.
//!
//! Run:  cargo run --example udp
//! See:  three clients ask four questions each. Some are lost and asked again; in the end all are answered.

use minimio::{Events, Interests, Poll, Token};
use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

const SERVER: Token = 0; // the clients have the tokens 1 to CLIENTS
const CLIENTS: usize = 3;
const QUESTIONS: u32 = 4;
const PATIENCE: Duration = Duration::from_millis(100);

fn main() -> io::Result<()> {
    if std::env::args().len() > 1 {
        eprintln!("udp takes no arguments");
        std::process::exit(2);
    }
    let mut poll = Poll::new()?;
    let mut server = Server::new(&poll)?;
    let address = server.socket.local_addr()?;
    let mut clients =
        (1..=CLIENTS).map(|token| Client::new(&poll, token, address)).collect::<io::Result<Vec<Client>>>()?;
    for client in &mut clients {
        client.ask()?;
    }

    let mut events = Events::with_capacity(16);
    while let Some(patience) = clients.iter().filter_map(Client::patience_left).min() {
        poll.poll_timeout(&mut events, patience)?;
        for event in &events {
            match event.id() {
                SERVER => server.answer()?,
                token => clients[token - 1].listen()?,
            }
        }
        for client in &mut clients {
            client.ask_again_if_late()?;
        }
    }
    for client in &clients {
        say(format_args!(
            "client {}: {} questions answered, {} datagrams sent",
            client.token, QUESTIONS, client.sent
        ));
    }
    Ok(())
}

/// A non-blocking socket on a port that the system chooses. Level mode: each poll reports it while datagrams wait.
fn socket(poll: &Poll, token: Token) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_nonblocking(true)?;
    poll.registry().register(&socket, token, Interests::READABLE | Interests::LEVEL)?;
    Ok(socket)
}

/// Takes one datagram, if there is one. A read never returns half a datagram or two.
fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Option<(usize, SocketAddr)>> {
    loop {
        match socket.recv_from(buffer) {
            Ok(received) => return Ok(Some(received)),
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock => return Ok(None),
                // An earlier datagram reached nobody. It is lost, like others; read on.
                ErrorKind::ConnectionReset | ErrorKind::ConnectionRefused => {}
                _ => return Err(error),
            },
        }
    }
}

/// What cannot be sent now is lost, like a datagram on its way; a client that waits for it asks again.
fn lost_if_full(sent: io::Result<usize>) -> io::Result<()> {
    match sent {
        Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
        _ => Ok(()),
    }
}

/// One socket for all clients: there are no connections, and each datagram says where it comes from.
struct Server {
    socket: UdpSocket,
    received: u32,
}

impl Server {
    fn new(poll: &Poll) -> io::Result<Server> {
        let socket = socket(poll, SERVER)?;
        Ok(Server { socket, received: 0 })
    }

    fn answer(&mut self) -> io::Result<()> {
        let mut buffer = [0; 1500];
        while let Some((length, client)) = receive(&self.socket, &mut buffer)? {
            let question = &buffer[..length];
            self.received += 1;
            if self.received % 4 == 0 {
                say(format_args!("server: loses {:?}", String::from_utf8_lossy(question)));
            } else {
                lost_if_full(self.socket.send_to(question, client))?;
            }
        }
        Ok(())
    }
}

struct Client {
    token: Token,
    socket: UdpSocket,
    /// The number of the question that awaits its answer.
    question: u32,
    asked_at: Instant,
    sent: u32,
}

impl Client {
    fn new(poll: &Poll, token: Token, server: SocketAddr) -> io::Result<Client> {
        let socket = socket(poll, token)?;
        // This sends nothing. It only names the one peer to send to and to listen to.
        socket.connect(server)?;
        Ok(Client { token, socket, question: 1, asked_at: Instant::now(), sent: 0 })
    }

    fn ask(&mut self) -> io::Result<()> {
        let text = format!("question {} of client {}", self.question, self.token);
        self.asked_at = Instant::now();
        self.sent += 1;
        lost_if_full(self.socket.send(text.as_bytes()))
    }

    fn listen(&mut self) -> io::Result<()> {
        let mut buffer = [0; 1500];
        while let Some((length, _)) = receive(&self.socket, &mut buffer)? {
            let text = String::from_utf8_lossy(&buffer[..length]);
            // A question asked twice may be answered twice, so look which question it is.
            if text != format!("question {} of client {}", self.question, self.token) {
                continue;
            }
            say(format_args!("client {}: question {} answered", self.token, self.question));
            self.question += 1;
            if self.question <= QUESTIONS {
                self.ask()?;
            }
        }
        Ok(())
    }

    /// How much longer it waits for an answer; `None` if it has all of them.
    fn patience_left(&self) -> Option<Duration> {
        if self.question > QUESTIONS {
            return None;
        }
        Some(PATIENCE.saturating_sub(self.asked_at.elapsed()))
    }

    fn ask_again_if_late(&mut self) -> io::Result<()> {
        if self.patience_left() == Some(Duration::ZERO) {
            say(format_args!(
                "client {}: nothing for {:?}, asks question {} again",
                self.token, PATIENCE, self.question
            ));
            self.ask()?;
        }
        Ok(())
    }
}

/// Prints a line. When nobody reads it any more (`| head -1`) the program is over, where `println!` would panic.
fn say(line: impl Display) {
    if let Err(error) = writeln!(io::stdout(), "{}", line) {
        if error.kind() == ErrorKind::BrokenPipe {
            std::process::exit(0);
        }
        eprintln!("cannot print: {}", error);
        std::process::exit(1);
    }
}
