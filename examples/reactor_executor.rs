//! Reactor and executor: the two halves of every asynchronous runtime, each on a thread of its own.
//!
//! The reactor waits for events and passes their tokens on. The executor keeps, under each token, the code that continues
//! when the token comes. Between them is a channel; neither knows what the other does.
//!
//! Run:  cargo run --example reactor_executor
//! See:  three requests go out and three tasks are suspended. The server answers the last request first, and each answer in
//!       two parts. So the reactor names each token at least twice, and each time the executor resumes its task.

use minimio::{Events, Interests, Poll, Registrator, TcpStream, Token};
use std::collections::HashMap;
use std::fmt::Display;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::{channel, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

const REQUESTS: usize = 3;

fn main() -> io::Result<()> {
    if std::env::args().len() > 1 {
        eprintln!("reactor_executor takes no arguments");
        std::process::exit(2);
    }
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let server = thread::spawn(move || serve(listener));

    let (sender, receiver) = channel();
    let reactor = Reactor::start(sender)?;
    let mut executor = Executor::new(receiver);
    for token in 0..REQUESTS {
        let stream = request(address, token)?;
        // The event may come before the task is suspended: then its token waits in the channel.
        reactor.registrator.register(&stream, token, Interests::READABLE)?;
        executor.suspend(token, read_answer(stream, token, reactor.registrator.clone()));
    }
    executor.block_on_all()?;
    reactor.stop()?;
    server.join().expect("the server does not panic")
}

/// The half that waits. It knows tokens and nothing of what they stand for.
struct Reactor {
    registrator: Registrator,
    thread: JoinHandle<io::Result<()>>,
}

impl Reactor {
    fn start(tokens: Sender<Token>) -> io::Result<Reactor> {
        let poll = Poll::new()?;
        let registrator = poll.registrator();
        let thread = thread::spawn(move || Reactor::run(poll, tokens));
        Ok(Reactor { registrator, thread })
    }

    fn run(mut poll: Poll, tokens: Sender<Token>) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        loop {
            match poll.poll(&mut events, None) {
                Ok(_) => {}
                // Somebody called `close_loop`.
                Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
                Err(error) => return Err(error),
            }
            for event in &events {
                say(format_args!("reactor:  token {} is ready", event.id()));
                if tokens.send(event.id()).is_err() {
                    return Ok(()); // the executor is gone
                }
            }
        }
    }

    fn stop(self) -> io::Result<()> {
        self.registrator.close_loop()?;
        let result = self.thread.join().expect("the reactor does not panic");
        say("reactor:  stopped");
        result
    }
}

/// What a task answers when it has done what it could.
enum Progress {
    Suspended,
    Done,
}

type Task = Box<dyn FnMut() -> io::Result<Progress>>;

/// The half that works. It knows tasks and nothing of what they wait for.
struct Executor {
    tasks: HashMap<Token, Task>,
    tokens: Receiver<Token>,
}

impl Executor {
    fn new(tokens: Receiver<Token>) -> Executor {
        let tasks = HashMap::new();
        Executor { tasks, tokens }
    }

    fn suspend(&mut self, token: Token, task: Task) {
        say(format_args!("executor: suspends task {}", token));
        self.tasks.insert(token, task);
    }

    fn resume(&mut self, token: Token) -> io::Result<()> {
        // A source may give a spurious event. If its task is done by then, there is nothing to do.
        let mut task = match self.tasks.remove(&token) {
            Some(task) => task,
            None => return Ok(()),
        };
        say(format_args!("executor: resumes task {}", token));
        match task()? {
            Progress::Suspended => self.suspend(token, task),
            Progress::Done => say(format_args!("executor: task {} is done", token)),
        }
        Ok(())
    }

    fn block_on_all(&mut self) -> io::Result<()> {
        while !self.tasks.is_empty() {
            match self.tokens.recv() {
                Ok(token) => self.resume(token)?,
                Err(_) => return Err(io::Error::new(ErrorKind::BrokenPipe, "the reactor is gone")),
            }
        }
        Ok(())
    }
}

fn request(address: SocketAddr, token: Token) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(&[token as u8])?;
    Ok(stream)
}

/// A task that reads to the end of the stream. The closure keeps what it has to remember between two events; with
/// `async`, the compiler does just that.
fn read_answer(mut stream: TcpStream, token: Token, registrator: Registrator) -> Task {
    let mut answer = Vec::new();
    Box::new(move || {
        let mut buffer = [0; 1024];
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => {
                    say(format_args!("task {}:   {:?}", token, String::from_utf8_lossy(&answer)));
                    return Ok(Progress::Done);
                }
                Ok(n) => answer.extend_from_slice(&buffer[..n]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    // One-shot: ask for the next event, then let others work.
                    registrator.reregister(&stream, token, Interests::READABLE)?;
                    return Ok(Progress::Suspended);
                }
                Err(error) => return Err(error),
            }
        }
    })
}

/// The other side: reads all requests, then answers the last one first, in two parts.
fn serve(listener: TcpListener) -> io::Result<()> {
    let mut clients = Vec::new();
    for _ in 0..REQUESTS {
        let (mut stream, _) = listener.accept()?;
        let mut number = [0];
        stream.read_exact(&mut number)?;
        clients.push((stream, number[0]));
    }
    while let Some((mut stream, number)) = clients.pop() {
        for part in ["the answer ".to_string(), format!("to request {}", number)] {
            thread::sleep(Duration::from_millis(100));
            stream.write_all(part.as_bytes())?;
        }
    }
    Ok(())
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
