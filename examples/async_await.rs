//! async/await from scratch: tasks, timers, TCP and work on other threads, on top of one event queue.
//!
//! An `async` block is a state machine that the compiler wrote. Something has to call its `poll`: the executor. The
//! block runs until it would have to wait, and leaves a `Waker` with whatever it waits for: the reactor. Large runtimes
//! have more threads, more kinds of sources and more speed, but the parts are these:
//!
//! * `Runtime`: the tasks, the list of those that can continue, and the loop that polls them and then the event queue,
//! * `Async`: a source whose operations wait for an event instead of answering `WouldBlock`,
//! * `Sleep`: a timer,
//! * `Slot`: a place for a result that a task waits for, perhaps from another thread.
//!
//! Run:  cargo run --example async_await
//! See:  three clients talk to an echo server, another thread computes, and one answer comes too late. The clients and
//!       the server take turns on one thread, and yet the code reads from top to bottom, as if it blocked.

use minimio::{Events, Interests, Poll, Registrator, Source, TcpListener, TcpStream, Token};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt::Display;
use std::future::Future;
use std::io::{self, ErrorKind, Read, Write};
use std::mem;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{self, Context, Wake, Waker};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

type Task = Pin<Box<dyn Future<Output = ()>>>;
type TaskId = usize;

const BELL: Token = 0; // the sources have the tokens from 1 on

// ---- The runtime: executor and reactor ----

/// A handle; clones are handles to the same runtime. It stays on its thread.
#[derive(Clone)]
struct Runtime(Rc<Inner>);

struct Inner {
    queue: RefCell<(Poll, Events)>,
    registrator: Registrator,
    tasks: RefCell<HashMap<TaskId, Task>>,
    ready: Arc<Ready>,
    /// Which tasks wait for which source.
    sources: RefCell<HashMap<Token, Waiting>>,
    /// Which task waits for which moment, sorted. The number tells apart two timers for the same moment.
    timers: RefCell<BTreeMap<(Instant, usize), Waker>>,
    numbers: Cell<usize>,
}

/// The waker of the task that wants to read a source, and of the one that wants to write to it.
#[derive(Default)]
struct Waiting {
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// The tasks that can continue. This is the only part of the runtime that other threads see.
struct Ready {
    tasks: Mutex<VecDeque<TaskId>>,
    bell: minimio::Waker,
    executor: ThreadId,
}

/// What is behind the `Waker` of a task: waking it puts it on the list.
struct TaskWaker {
    id: TaskId,
    ready: Arc<Ready>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        lock(&self.ready.tasks).push_back(self.id);
        // If another thread calls this, the executor may be asleep inside `poll`.
        if thread::current().id() != self.ready.executor {
            // An error here means a system without memory, and there is nobody to tell.
            let _ = self.ready.bell.wake();
        }
    }
}

impl Runtime {
    fn new() -> io::Result<Runtime> {
        let poll = Poll::new()?;
        let registrator = poll.registrator();
        let ready = Ready {
            tasks: Mutex::default(),
            bell: minimio::Waker::new(&registrator, BELL)?,
            executor: thread::current().id(),
        };
        Ok(Runtime(Rc::new(Inner {
            queue: RefCell::new((poll, Events::with_capacity(64))),
            registrator,
            tasks: RefCell::default(),
            ready: Arc::new(ready),
            sources: RefCell::default(),
            timers: RefCell::default(),
            numbers: Cell::new(BELL),
        })))
    }

    /// A number that has not been used before: for a task, a token, a timer.
    fn number(&self) -> usize {
        self.0.numbers.set(self.0.numbers.get() + 1);
        self.0.numbers.get()
    }

    /// Starts a task. It runs whether or not anybody awaits its result.
    fn spawn<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> Slot<T> {
        let slot = Slot::new();
        let result = slot.share();
        let id = self.number();
        let task = async move { result.fill(future.await) };
        self.0.tasks.borrow_mut().insert(id, Box::pin(task));
        lock(&self.0.ready.tasks).push_back(id);
        slot
    }

    /// Runs all tasks until this one is done. The others end wherever they are then.
    fn block_on<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> io::Result<T> {
        let main = self.spawn(future);
        let result = loop {
            self.run_ready_tasks();
            if let Some(result) = main.take() {
                break result;
            }
            self.wait_for_events()?;
        };
        // Tasks own handles to the runtime, and the runtime owns the tasks: break the circle.
        let tasks = mem::take(&mut *self.0.tasks.borrow_mut());
        drop(tasks);
        Ok(result)
    }

    /// The executor: lets each task on the list run until it has to wait for something.
    fn run_ready_tasks(&self) {
        // Not the tasks that join the list meanwhile, or tasks that wake each other would keep all events waiting.
        let now = mem::take(&mut *lock(&self.0.ready.tasks));
        for id in now {
            // Out of the map while it runs, because it may spawn others. `None`: it was woken after its end.
            let task = self.0.tasks.borrow_mut().remove(&id);
            let mut task = match task {
                Some(task) => task,
                None => continue,
            };
            let ready = Arc::clone(&self.0.ready);
            let waker = Waker::from(Arc::new(TaskWaker { id, ready }));
            let state = task.as_mut().poll(&mut Context::from_waker(&waker));
            if state.is_pending() {
                self.0.tasks.borrow_mut().insert(id, task);
            }
        }
    }

    /// The reactor: sleeps until an event or the next timer, and wakes the tasks that waited for it.
    fn wait_for_events(&self) -> io::Result<()> {
        let (poll, events) = &mut *self.0.queue.borrow_mut();
        poll.poll_timeout(events, self.time_to_sleep())?;
        for event in events.iter() {
            // The source is silent now, in both directions. So wake both; whichever cannot continue registers again.
            if let Some(waiting) = self.0.sources.borrow_mut().get_mut(&event.id()) {
                waiting.reader.take().into_iter().for_each(Waker::wake);
                waiting.writer.take().into_iter().for_each(Waker::wake);
            }
        }
        let mut timers = self.0.timers.borrow_mut();
        let later = timers.split_off(&(Instant::now(), usize::MAX));
        mem::replace(&mut *timers, later).into_values().for_each(Waker::wake);
        Ok(())
    }

    fn time_to_sleep(&self) -> Option<Duration> {
        if !lock(&self.0.ready.tasks).is_empty() {
            return Some(Duration::ZERO);
        }
        let timers = self.0.timers.borrow();
        let (at, _) = timers.keys().next()?;
        Some(at.saturating_duration_since(Instant::now()))
    }
}

/// A panic in another thread does not leave this data in disorder.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// ---- Sources ----

/// A source whose operations wait, task by task, instead of answering `WouldBlock`.
struct Async<S: Source> {
    runtime: Runtime,
    token: Token,
    source: S,
}

impl<S: Source> Async<S> {
    /// Takes a source that does not block.
    fn new(runtime: &Runtime, source: S) -> io::Result<Async<S>> {
        let token = runtime.number();
        // This may cause one event before anybody has asked; it does no harm.
        runtime.0.registrator.register(&source, token, Interests::READABLE)?;
        runtime.0.sources.borrow_mut().insert(token, Waiting::default());
        Ok(Async { runtime: runtime.clone(), token, source })
    }

    /// Repeats `operation` after each event until it no longer says `WouldBlock`.
    async fn retry<T>(
        &self,
        direction: Interests,
        mut operation: impl FnMut(&S) -> io::Result<T>,
    ) -> io::Result<T> {
        PollFn(|context: &mut Context<'_>| match operation(&self.source) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                match self.wake_when_ready(direction, context.waker().clone()) {
                    Ok(()) => task::Poll::Pending,
                    Err(error) => task::Poll::Ready(Err(error)),
                }
            }
            result => task::Poll::Ready(result),
        })
        .await
    }

    fn wake_when_ready(&self, direction: Interests, waker: Waker) -> io::Result<()> {
        let mut sources = self.runtime.0.sources.borrow_mut();
        let waiting = sources.entry(self.token).or_default();
        let mut interests = direction;
        if direction.is_readable() {
            waiting.reader = Some(waker);
        } else {
            waiting.writer = Some(waker);
        }
        // One task may read while another one writes, so the newest registration must be for both.
        if waiting.reader.is_some() {
            interests |= Interests::READABLE;
        }
        if waiting.writer.is_some() {
            interests |= Interests::WRITABLE;
        }
        self.runtime.0.registrator.reregister(&self.source, self.token, interests)
    }
}

impl<S: Source> Drop for Async<S> {
    fn drop(&mut self) {
        self.runtime.0.sources.borrow_mut().remove(&self.token);
        // Nothing is lost if this fails: the source is closed next.
        let _ = self.runtime.0.registrator.deregister(&self.source);
    }
}

impl Async<TcpListener> {
    fn bind(runtime: &Runtime, address: &str) -> io::Result<Async<TcpListener>> {
        Async::new(runtime, TcpListener::bind(address)?)
    }

    async fn accept(&self) -> io::Result<Async<TcpStream>> {
        let (stream, _) = self.retry(Interests::READABLE, TcpListener::accept).await?;
        Async::new(&self.runtime, stream)
    }
}

impl Async<TcpStream> {
    async fn connect(runtime: &Runtime, address: SocketAddr) -> io::Result<Async<TcpStream>> {
        let stream = Async::new(runtime, TcpStream::connect_nonblocking(address)?)?;
        stream.retry(Interests::WRITABLE, is_connected).await?;
        Ok(stream)
    }

    async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.retry(Interests::READABLE, |mut stream| stream.read(buffer)).await
    }

    async fn write_all(&self, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            let written = self.retry(Interests::WRITABLE, |mut stream| stream.write(data)).await?;
            data = &data[written..];
        }
        Ok(())
    }
}

/// `WouldBlock` while the outcome is open.
fn is_connected(stream: &TcpStream) -> io::Result<()> {
    if let Some(error) = stream.take_error()? {
        return Err(error);
    }
    match stream.peer_addr() {
        Err(error) if error.kind() == ErrorKind::NotConnected => Err(ErrorKind::WouldBlock.into()),
        answer => answer.map(drop),
    }
}

// ---- Futures written by hand ----

/// A future made of a closure.
struct PollFn<F>(F);

impl<T, F: FnMut(&mut Context<'_>) -> task::Poll<T> + Unpin> Future for PollFn<F> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> task::Poll<T> {
        (self.0)(context)
    }
}

/// Done when its moment has come.
struct Sleep {
    runtime: Runtime,
    timer: (Instant, usize),
}

impl Sleep {
    fn new(runtime: &Runtime, time: Duration) -> Sleep {
        let timer = (Instant::now() + time, runtime.number());
        Sleep { runtime: runtime.clone(), timer }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> task::Poll<()> {
        if self.timer.0 <= Instant::now() {
            return task::Poll::Ready(());
        }
        let mut timers = self.runtime.0.timers.borrow_mut();
        timers.insert(self.timer, context.waker().clone());
        task::Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.runtime.0.timers.borrow_mut().remove(&self.timer);
    }
}

/// Gives up on `future` after `time`. Dropping a future cancels it: it takes itself off whatever it waited for.
async fn timeout<T>(runtime: &Runtime, time: Duration, future: impl Future<Output = T>) -> Option<T> {
    let mut future = Box::pin(future);
    let mut sleep = Sleep::new(runtime, time);
    PollFn(|context: &mut Context<'_>| {
        if let task::Poll::Ready(result) = future.as_mut().poll(context) {
            return task::Poll::Ready(Some(result));
        }
        Pin::new(&mut sleep).poll(context).map(|()| None)
    })
    .await
}

/// A place for one result, and for the waker of the task that awaits it.
struct Slot<T>(Arc<Mutex<(Option<T>, Option<Waker>)>>);

impl<T> Slot<T> {
    fn new() -> Slot<T> {
        Slot(Arc::new(Mutex::new((None, None))))
    }

    fn share(&self) -> Slot<T> {
        Slot(Arc::clone(&self.0))
    }

    fn fill(&self, result: T) {
        let mut slot = lock(&self.0);
        slot.0 = Some(result);
        slot.1.take().into_iter().for_each(Waker::wake);
    }

    fn take(&self) -> Option<T> {
        lock(&self.0).0.take()
    }
}

impl<T> Future for Slot<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> task::Poll<T> {
        let mut slot = lock(&self.0);
        match slot.0.take() {
            Some(result) => task::Poll::Ready(result),
            None => {
                slot.1 = Some(context.waker().clone());
                task::Poll::Pending
            }
        }
    }
}

/// Does slow work on a thread of its own. When it ends, that thread wakes the task.
fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Slot<T> {
    let slot = Slot::new();
    let result = slot.share();
    thread::spawn(move || result.fill(work()));
    slot
}

// ---- The program ----

fn main() -> io::Result<()> {
    if std::env::args().len() > 1 {
        eprintln!("async_await takes no arguments");
        std::process::exit(2);
    }
    let runtime = Runtime::new()?;
    runtime.block_on(program(runtime.clone()))?
}

async fn program(runtime: Runtime) -> io::Result<()> {
    let start = Instant::now();
    let listener = Async::bind(&runtime, "127.0.0.1:0")?;
    let address = listener.source.local_addr()?;
    runtime.spawn(serve(listener));

    // From here on all of them take turns.
    let clients: Vec<_> =
        (1..=3).map(|number| runtime.spawn(talk(runtime.clone(), start, address, number))).collect();
    let sum = on_a_thread(|| (1..=5_000_000u64).sum::<u64>());
    let late = late_answer(&runtime, address);

    log(start, &format!("the other thread says {}", sum.await));
    match timeout(&runtime, Duration::from_millis(250), late).await {
        Some(answer) => log(start, &format!("the late answer came: {:?}", answer?)),
        None => log(start, "nobody waits for the late answer any longer"),
    }
    for client in clients {
        client.await?;
    }
    log(start, "all clients are done");
    Ok(())
}

/// Accepts for ever. This task ends with the runtime.
async fn serve(listener: Async<TcpListener>) -> io::Result<()> {
    loop {
        let stream = listener.accept().await?;
        listener.runtime.spawn(echo(stream));
    }
}

/// Sends back whatever comes, after a nap if it is asked to be late.
async fn echo(stream: Async<TcpStream>) -> io::Result<()> {
    let mut buffer = [0; 1024];
    loop {
        let n = stream.read(&mut buffer).await?;
        if n == 0 {
            return Ok(());
        }
        if buffer[..n].starts_with(b"late") {
            Sleep::new(&stream.runtime, Duration::from_secs(60)).await;
        }
        stream.write_all(&buffer[..n]).await?;
    }
}

/// Says three words, with a pause between them, and listens for the echo of each.
async fn talk(runtime: Runtime, start: Instant, address: SocketAddr, number: u64) -> io::Result<()> {
    let stream = Async::connect(&runtime, address).await?;
    log(start, &format!("client {} is connected", number));
    for word in ["one", "two", "three"] {
        Sleep::new(&runtime, Duration::from_millis(50 * number)).await;
        stream.write_all(format!("{}\n", word).as_bytes()).await?;
        let answer = read_line(&stream).await?;
        log(start, &format!("client {} hears {:?}", number, answer));
    }
    Ok(())
}

async fn late_answer(runtime: &Runtime, address: SocketAddr) -> io::Result<String> {
    let stream = Async::connect(runtime, address).await?;
    stream.write_all(b"late\n").await?;
    read_line(&stream).await
}

async fn read_line(stream: &Async<TcpStream>) -> io::Result<String> {
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        let mut buffer = [0; 64];
        let n = stream.read(&mut buffer).await?;
        if n == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        line.extend_from_slice(&buffer[..n]);
    }
    Ok(String::from_utf8_lossy(&line).trim_end().to_string())
}

/// A line with the time.
fn log(start: Instant, what: &str) {
    say(format_args!("{:4} ms  {}", start.elapsed().as_millis(), what));
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
