//! What the checks of all systems are made of, and those that are the same everywhere.

use crate::queue::{source, Event, Interests, Mode, Queue, Token, WAKE};
use crate::step::{expect, Expected, Failure, Outcome};
use std::io::{self, ErrorKind, Write};
use std::thread;
use std::time::{Duration, Instant};

#[cfg(windows)]
pub use std::net::TcpStream as Stream;
#[cfg(unix)]
pub use std::os::unix::net::UnixStream as Stream;

pub const READABLE: Interests = Interests { readable: true, writable: false, mode: Mode::Level };
pub const WRITABLE: Interests = Interests { readable: false, writable: true, mode: Mode::Level };
pub const BOTH: Interests = Interests { readable: true, writable: true, mode: Mode::Level };

pub const A_MOMENT: Duration = Duration::from_millis(50);
pub const A_SECOND: Duration = Duration::from_secs(1);

/// Where to look when `wake` does not do what it should.
pub struct Look {
    /// It was not heard.
    pub wake: &'static str,
    /// It was heard more than once.
    pub once: &'static str,
}

pub fn wake<Q: Queue>(look: Look) -> Outcome {
    let queue = Q::new()?;
    let Look { wake: look, once } = look;
    let expected = expect("the token WAKE: another thread woke this poll while it slept", look);
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(A_MOMENT);
            if let Err(error) = queue.wake() {
                expected.but_asleep(format!("`wake` returned {}", describe(&error)));
            }
        });
        one(&queue, None, WAKE, &expected)
    })?;
    let look = once;
    let expected = expect("silence: that wake was reported", look);
    quiet(&queue, A_MOMENT, &expected)?;

    let expected = expect("one event with the token WAKE: there were a hundred wakes before this poll", look);
    for _ in 0..100 {
        if let Err(error) = queue.wake() {
            return expected.but(format!("`wake` returned {}", describe(&error)));
        }
    }
    one(&queue, Some(A_SECOND), WAKE, &expected)?;
    quiet(&queue, A_MOMENT, &expected)?;

    let (socket, mut peer) = pair()?;
    queue.register(source(&socket), 1, READABLE)?;
    peer.write_all(b"hello")?;
    let expected = expect("both tokens, 1 and WAKE: bytes arrived, and there was a wake", look);
    if let Err(error) = queue.wake() {
        return expected.but(format!("`wake` returned {}", describe(&error)));
    }
    let mut seen = tokens(&poll(&queue, Some(A_SECOND), &expected)?);
    seen.extend(tokens(&poll(&queue, Some(A_MOMENT), &expected)?));
    match seen.contains(&1) && seen.contains(&WAKE) {
        true => Ok(()),
        false => expected.but(format!("only {:?}", seen)),
    }
}

pub fn close_loop<Q: Queue>() -> Outcome {
    let queue = Q::new()?;
    let look =
        "`close_loop`: first the fact, then the wake; `poll`: look at the fact before it sleeps and after";
    let expected = expect("`Interrupted` from the poll that sleeps: another thread closes the loop", look);
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(A_MOMENT);
            if let Err(error) = queue.close_loop() {
                expected.but_asleep(format!("`close_loop` returned {}", describe(&error)));
            }
        });
        is_end(queue.poll(&mut Vec::new(), None), &expected)
    })?;
    let expected = expect("`Interrupted` from every later poll", look);
    for _ in 0..3 {
        is_end(queue.poll(&mut Vec::new(), None), &expected)?;
    }
    let queue = Q::new()?;
    let expected = expect("`Interrupted` from the first poll: the loop was closed before it", look);
    queue.close_loop()?;
    is_end(queue.poll(&mut Vec::new(), Some(A_SECOND)), &expected)?;
    is_end(queue.poll(&mut Vec::new(), Some(A_SECOND)), &expected)
}

/// So many sockets are ready at the same time. Returns them with their queue.
pub fn many<Q: Queue>(count: usize) -> Result<(Q, Vec<(Stream, Stream)>), Failure> {
    let queue = Q::new()?;
    let mut sockets = Vec::new();
    for token in 0..count {
        let look = "`register`: it should take no longer than for the first one";
        let expected = expect(format!("socket {} of {} is registered", token + 1, count), look);
        let (socket, mut peer) = pair()?;
        register(&queue, &socket, token, Interests { mode: Mode::OneShot, ..READABLE }, &expected)?;
        peer.write_all(b"hello")?;
        sockets.push((socket, peer));
    }
    let expected = expect(
        format!(
            "{} sockets, registered as one-shot, are ready: each token once, in as many polls as it takes",
            count
        ),
        "how many records the kernel may fill, how many it did, and how many of these you look at",
    );
    let mut times = vec![0; count];
    let mut seen = 0;
    while seen < count {
        let events = poll(&queue, Some(A_SECOND), &expected)?;
        if events.is_empty() {
            let missing: Vec<Token> = (0..count).filter(|token| times[*token] == 0).collect();
            let some = &missing[..missing.len().min(10)];
            return expected.but(format!(
                "{} of them, then nothing for a second; missing are {}, such as {:?}",
                seen,
                missing.len(),
                some
            ));
        }
        for event in events {
            match times.get_mut(event.token) {
                Some(0) => times[event.token] = 1,
                Some(_) => return expected.but(format!("token {} twice", event.token)),
                None => return expected.but(format!("token {}, which is nobody's", event.token)),
            }
            seen += 1;
        }
    }
    let expected = expect("and then silence", "whether records of an earlier wait are looked at again");
    quiet(&queue, A_MOMENT, &expected)?;
    Ok((queue, sockets))
}

/// A socket that does not block, and its peer, which does.
#[cfg(unix)]
pub fn pair() -> io::Result<(Stream, Stream)> {
    let (socket, peer) = Stream::pair()?;
    socket.set_nonblocking(true)?;
    Ok((socket, peer))
}

/// A socket that does not block, and its peer, which does.
#[cfg(windows)]
pub fn pair() -> io::Result<(Stream, Stream)> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let peer = Stream::connect(listener.local_addr()?)?;
    let (socket, _) = listener.accept()?;
    socket.set_nonblocking(true)?;
    peer.set_nodelay(true)?;
    Ok((socket, peer))
}

pub fn new<Q: Queue>(expected: &Expected) -> Result<Q, Failure> {
    Q::new().or_else(|error| expected.but(format!("`new` returned {}", describe(&error))))
}

pub fn register(
    queue: &impl Queue,
    socket: &Stream,
    token: Token,
    interests: Interests,
    expected: &Expected,
) -> Outcome {
    let result = queue.register(source(socket), token, interests);
    result.or_else(|error| expected.but(format!("`register` returned {}", describe(&error))))
}

pub fn reregister(
    queue: &impl Queue,
    socket: &Stream,
    token: Token,
    interests: Interests,
    expected: &Expected,
) -> Outcome {
    let result = queue.reregister(source(socket), token, interests);
    result.or_else(|error| expected.but(format!("`reregister` returned {}", describe(&error))))
}

pub fn poll(
    queue: &impl Queue,
    timeout: Option<Duration>,
    expected: &Expected,
) -> Result<Vec<Event>, Failure> {
    // An old event, which `poll` has to clear away.
    let mut events = vec![Event { token: 4711, readable: true, writable: true, read_closed: true }];
    match queue.poll(&mut events, timeout) {
        Ok(()) => Ok(events),
        Err(error) => expected.but(format!("`poll` returned {}", describe(&error))),
    }
}

/// One event, with this token.
pub fn one(queue: &impl Queue, timeout: Option<Duration>, token: Token, expected: &Expected) -> Outcome {
    let events = poll(queue, timeout, expected)?;
    match tokens(&events)[..] {
        [only] if only == token => Ok(()),
        _ => expected.but(list(&events)),
    }
}

/// All that is said about this token, in one event or two.
pub fn said(queue: &impl Queue, token: Token, expected: &Expected) -> Result<Event, Failure> {
    let mut words = Event { token, readable: false, writable: false, read_closed: false };
    let events = poll(queue, Some(A_SECOND), expected)?;
    if events.is_empty() || events.iter().any(|event| event.token != token) {
        return expected.but(list(&events));
    }
    for event in events {
        words.readable |= event.readable;
        words.writable |= event.writable;
        words.read_closed |= event.read_closed;
    }
    Ok(words)
}

/// Nothing, for so long, and asleep.
pub fn quiet(queue: &impl Queue, time: Duration, expected: &Expected) -> Outcome {
    let (start, before) = (Instant::now(), sleeps());
    let events = poll(queue, Some(time), expected)?;
    let took = start.elapsed();
    match events.is_empty() {
        false => expected.but(list(&events)),
        true if took < time => expected.but(format!("`poll` returned after {:?} without an event", took)),
        true if time > Duration::ZERO => slept(before, expected),
        true => Ok(()),
    }
}

/// Whether this thread has slept since then. One that asks again and again instead keeps a processor busy for nothing.
pub fn slept(before: Option<u64>, expected: &Expected) -> Outcome {
    match before {
        Some(before) if sleeps() == Some(before) => {
            expected.but("it did not sleep: it asked the kernel again and again until the time was over")
        }
        _ => Ok(()),
    }
}

/// How often this thread has given the processor up to wait for something, where the kernel tells: on Linux.
pub fn sleeps() -> Option<u64> {
    if cfg!(windows) {
        return None; // Wine shows a file of this name, but not what it means
    }
    let status = std::fs::read_to_string("/proc/thread-self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
    line.trim().parse().ok()
}

pub fn is_end(result: io::Result<()>, expected: &Expected) -> Outcome {
    match result {
        Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
        Err(error) => expected.but(format!("`poll` returned {}", describe(&error))),
        Ok(()) => expected.but("`poll` returned `Ok`"),
    }
}

pub fn tokens(events: &[Event]) -> Vec<Token> {
    events.iter().map(|event| event.token).collect()
}

pub fn list(events: &[Event]) -> String {
    let words = |event: &Event| {
        let mut line = match event.token {
            WAKE => "WAKE".to_string(),
            4711 => "4711 (which was in `events` before: clear it)".to_string(),
            token => token.to_string(),
        };
        for (is, word) in [
            (event.readable, " readable"),
            (event.writable, " writable"),
            (event.read_closed, " read_closed"),
        ] {
            line += if is { word } else { "" };
        }
        if !(event.readable || event.writable || event.read_closed) {
            line += ", and nothing about it";
        }
        line
    };
    match events {
        [] => "no event".to_string(),
        [event] => format!("one event: token {}", words(event)),
        [first, .., last] => {
            format!("{} events: token {} … token {}", events.len(), words(first), words(last))
        }
    }
}

/// An error, and what it mostly comes from.
pub fn describe(error: &io::Error) -> String {
    #[cfg(unix)]
    const KNOWN: [(i32, &str); 6] = [
        (2, "ENOENT: there is no such entry in the queue"),
        (4, "EINTR: a signal came"),
        (9, "EBADF: that is not an open descriptor; is it closed already, or the wrong one?"),
        (14, "EFAULT: an address that is none"),
        (17, "EEXIST: that descriptor is in the queue already"),
        (22, "EINVAL: an argument that makes no sense, such as no room for events, an unknown operation, a wrong length, or a timeout that is too long"),
    ];
    #[cfg(windows)]
    const KNOWN: [(i32, &str); 5] = [
        (6, "ERROR_INVALID_HANDLE: that is not an open handle; is it closed already, or the wrong one?"),
        (87, "ERROR_INVALID_PARAMETER: an argument that makes no sense, or a handle that is tied to a port already"),
        (258, "WAIT_TIMEOUT: nothing came in time, which is no error"),
        (997, "WSA_IO_PENDING: the operation has begun, which is no error"),
        (1168, "ERROR_NOT_FOUND: there is no such operation in flight"),
    ];
    match KNOWN.iter().find(|(number, _)| error.raw_os_error() == Some(*number)) {
        Some((_, words)) => format!("the error {}", words),
        None => format!("the error \"{}\"", error),
    }
}
