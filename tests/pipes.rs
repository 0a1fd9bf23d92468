//! Pipes: between threads, and to and from child processes, in every mode.

mod util;

use minimio::{pipe, Events, Interests, PipeReader, PipeWriter, Poll};
use std::env;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use util::*;

#[cfg(unix)]
use std::os::unix::io::OwnedFd as Owned;
#[cfg(windows)]
use std::os::windows::io::OwnedHandle as Owned;

const MODES: [(&str, Interests); 3] = [("one-shot", READABLE), ("level", LEVEL), ("edge", EDGE)];

/// The tests of this program start children and count handles: one after another, or a child may hold what another test closes.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a child is to do. The child is this program again, with one test, which does nothing else then.
const ROLE: &str = "MINIMIO_CHILD";

/// What comes before it on standard output is the harness's.
const BEGIN: &[u8] = b"<begin>";

fn child(role: &str) -> Command {
    let program = env::current_exe().unwrap();
    // MINIMIO_RUNNER: what runs a program that this machine cannot run by itself, an emulator for instance.
    let mut command = match env::var_os("MINIMIO_RUNNER") {
        None => Command::new(program),
        Some(runner) => {
            let mut command = Command::new(runner);
            command.arg(program);
            command
        }
    };
    command
        .args(["what_the_children_do", "--exact", "--nocapture"])
        .env(ROLE, role)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

#[test]
fn what_the_children_do() {
    let role = match env::var(ROLE) {
        Ok(role) => role,
        Err(_) => return,
    };
    let (mut input, mut output) = (io::stdin().lock(), io::stdout().lock());
    match role.as_str() {
        // Sends back what comes. Reads and writes block, as programs expect it.
        "echo" => {
            output.write_all(BEGIN).unwrap();
            io::copy(&mut input, &mut output).unwrap();
        }
        "talk" => {
            output.write_all(BEGIN).unwrap();
            output.write_all(b"to the one").unwrap();
            io::stderr().write_all(b"to the other").unwrap();
        }
        // Says that it is there, and then waits for the end of its input.
        "wait" => {
            output.write_all(BEGIN).unwrap();
            output.flush().unwrap();
            io::copy(&mut input, &mut io::sink()).unwrap();
        }
        // Never reads, and does not end before it is killed.
        "sleep" => {
            output.write_all(BEGIN).unwrap();
            output.flush().unwrap();
            thread::sleep(3 * DEADLINE);
        }
        _ => panic!("no child does {}", role),
    }
    output.flush().unwrap();
    std::process::exit(0);
}

fn output_of(child: &mut Child) -> PipeReader {
    PipeReader::try_from(child.stdout.take().unwrap()).unwrap()
}

fn input_of(child: &mut Child) -> PipeWriter {
    PipeWriter::try_from(child.stdin.take().unwrap()).unwrap()
}

/// All that comes until the end. Registered anew for each turn, so in any mode.
#[track_caller]
fn read_to_end(reader: &mut PipeReader) -> Vec<u8> {
    let mut poll = Poll::new().unwrap();
    let mut bytes = Vec::new();
    loop {
        poll.registry().register(reader, 1, READABLE).unwrap();
        expect_event(&mut poll, 1);
        match reader.read_to_end(&mut bytes) {
            Ok(_) => return bytes,
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    }
}

/// What the child itself has said.
#[track_caller]
fn own_words(bytes: &[u8]) -> &[u8] {
    let place = bytes.windows(BEGIN.len()).position(|part| part == BEGIN);
    &bytes[place.expect("the child has begun") + BEGIN.len()..]
}

/// Waits until the child has said that it is there.
#[track_caller]
fn wait_for_begin(output: &mut PipeReader) {
    let mut poll = Poll::new().unwrap();
    let mut bytes = Vec::new();
    while !bytes.ends_with(BEGIN) {
        poll.registry().register(output, 1, READABLE).unwrap();
        expect_event(&mut poll, 1);
        bytes.extend(drain(&*output));
    }
    poll.registry().deregister(output).unwrap();
}

#[test]
fn a_pipe_is_reported_in_every_mode() {
    let _alone = alone();
    for (name, mode) in MODES {
        println!("{}", name);
        let mut poll = Poll::new().unwrap();
        let (mut reader, mut writer) = pipe().unwrap();
        expect_kind(reader.read(&mut [0; 8]), ErrorKind::WouldBlock);
        expect_kind((&reader).read(&mut [0; 8]), ErrorKind::WouldBlock);
        poll.registry().register(&reader, 1, READABLE | mode).unwrap();
        expect_nothing(&mut poll);
        for _ in 0..3 {
            writer.write_all(b"one").unwrap();
            (&writer).write_all(b"two").unwrap();
            writer.flush().unwrap();
            let mut bytes = Vec::new();
            while bytes.len() < 6 {
                assert!(expect_event(&mut poll, 1).readable);
                bytes.extend(drain(&reader));
                if mode.is_oneshot() {
                    expect_nothing(&mut poll);
                    poll.registry().reregister(&reader, 1, READABLE).unwrap();
                }
            }
            assert_eq!(bytes, b"onetwo");
            expect_nothing(&mut poll);
        }
        writer.write_all(b"last").unwrap();
        drop(writer);
        // What was written is there, and then the end.
        let mut bytes = Vec::new();
        let is_over = loop {
            let said = expect_event(&mut poll, 1);
            match reader.read_to_end(&mut bytes) {
                Ok(_) => break said.read_closed,
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            if mode.is_oneshot() {
                poll.registry().reregister(&reader, 1, READABLE).unwrap();
            }
        };
        assert_eq!(bytes, b"last");
        // An event from before the end does not know of it; one from after does.
        if !is_over {
            poll.registry().register(&reader, 2, READABLE | mode).unwrap();
            assert!(expect_event(&mut poll, 2).read_closed);
        }
        assert_eq!(reader.read(&mut [0; 8]).unwrap(), 0);
    }
}

#[test]
fn a_full_pipe_is_writable_again_once_it_was_read() {
    let _alone = alone();
    for (name, mode) in MODES {
        println!("{}", name);
        let mut poll = Poll::new().unwrap();
        let (reader, writer) = pipe().unwrap();
        poll.registry().register(&writer, 1, WRITABLE | mode).unwrap();
        for _ in 0..3 {
            assert!(expect_event(&mut poll, 1).writable);
            let sent = fill(&writer);
            assert!(sent > 0);
            poll.registry().reregister(&writer, 1, WRITABLE | mode).unwrap();
            expect_nothing(&mut poll);
            let mut read = 0;
            while read < sent {
                read += drain(&reader).len();
            }
        }
        assert!(expect_event(&mut poll, 1).writable);
    }
}

#[test]
fn a_pipe_whose_reader_has_gone_is_broken() {
    let _alone = alone();
    for (name, mode) in MODES {
        println!("{}", name);
        let mut poll = Poll::new().unwrap();
        let (reader, mut writer) = pipe().unwrap();
        poll.registry().register(&writer, 1, WRITABLE | mode).unwrap();
        assert!(expect_event(&mut poll, 1).writable);
        drop(reader);
        poll.registry().reregister(&writer, 2, WRITABLE | mode).unwrap();
        assert!(expect_event(&mut poll, 2).writable);
        for _ in 0..2 {
            expect_kind(writer.write(b"x"), ErrorKind::BrokenPipe);
        }
    }
}

#[test]
fn what_was_taken_arrives_though_the_queue_and_the_writer_go_at_once() {
    let _alone = alone();
    for mode in [READABLE, LEVEL, EDGE] {
        let poll = Poll::new().unwrap();
        let (mut reader, writer) = pipe().unwrap();
        poll.registry().register(&writer, 1, WRITABLE | mode).unwrap();
        let sent = fill(&writer);
        drop(poll);
        drop(writer);
        assert_eq!(read_to_end(&mut reader).len(), sent);
    }
}

/// A long message. Each byte says its place, and none of the sizes that a system may like divides 251.
fn message(length: usize) -> Vec<u8> {
    let mut message: Vec<u8> = (0..251).collect::<Vec<u8>>().repeat(length / 251 + 1);
    message.truncate(length);
    message
}

/// Writes `length` bytes, as there is room.
fn write_much(mut writer: PipeWriter, mode: Interests, length: usize) {
    let bytes = message(length);
    let mut poll = Poll::new().unwrap();
    poll.registry().register(&writer, 1, WRITABLE | mode).unwrap();
    let mut sent = 0;
    while sent < length {
        assert!(expect_event(&mut poll, 1).writable);
        loop {
            // In pieces of all sizes.
            let size = (1 + sent % 100_003).min(length - sent);
            match writer.write(&bytes[sent..sent + size]) {
                Ok(0) => break,
                Ok(n) => sent += n,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    break;
                }
            }
        }
        if mode.is_oneshot() && sent < length {
            poll.registry().reregister(&writer, 1, WRITABLE).unwrap();
        }
    }
}

/// Reads to the end, and finds every byte in its place. Before the first message may be something else.
fn read_much(mut reader: PipeReader, mode: Interests, length: usize, is_child: bool) {
    let mut poll = Poll::new().unwrap();
    poll.registry().register(&reader, 1, READABLE | mode).unwrap();
    let mut bytes = Vec::new();
    // `read_to_end` would fill all the room that a long vector has left with zeros, each time.
    let mut buffer = vec![0; 100_000];
    'polls: loop {
        assert!(expect_event(&mut poll, 1).readable);
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => break 'polls,
                Ok(n) => bytes.extend_from_slice(&buffer[..n]),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    break;
                }
            }
        }
        if mode.is_oneshot() {
            poll.registry().reregister(&reader, 1, READABLE).unwrap();
        }
    }
    let bytes = if is_child { own_words(&bytes) } else { &bytes };
    assert_eq!(bytes.len(), length);
    assert!(bytes == message(length), "something is out of place");
}

const MUCH: usize = 10 << 20;

#[test]
fn ten_megabytes_go_through_two_queues_byte_for_byte() {
    let _alone = alone();
    for (name, mode) in MODES {
        println!("{}", name);
        let (reader, writer) = pipe().unwrap();
        let thread = thread::spawn(move || write_much(writer, mode, MUCH));
        read_much(reader, mode, MUCH, false);
        thread.join().unwrap();
    }
}

#[test]
fn ten_megabytes_go_through_a_child_byte_for_byte() {
    let _alone = alone();
    for (name, mode) in MODES {
        println!("{}", name);
        let mut child = child("echo").stderr(Stdio::inherit()).spawn().unwrap();
        let (output, input) = (output_of(&mut child), input_of(&mut child));
        let thread = thread::spawn(move || write_much(input, mode, MUCH));
        read_much(output, mode, MUCH, true);
        thread.join().unwrap();
        // Its own ends block as ever, or it would have failed.
        assert!(child.wait().unwrap().success());
    }
}

#[test]
fn one_poll_hears_what_a_child_says_and_complains_and_a_socket_too() {
    let _alone = alone();
    let mut poll = Poll::new().unwrap();
    let (stream, mut peer) = pair();
    let mut child = child("talk").spawn().unwrap();
    let mut pipes = [output_of(&mut child), PipeReader::try_from(child.stderr.take().unwrap()).unwrap()];
    for (token, pipe) in pipes.iter().enumerate() {
        poll.registry().register(pipe, token, READABLE | LEVEL).unwrap();
    }
    poll.registry().register(&stream, 2, READABLE | LEVEL).unwrap();
    peer.write_all(b"from elsewhere").unwrap();

    let mut heard = [Vec::new(), Vec::new(), Vec::new()];
    let mut left = 3;
    let mut events = Events::with_capacity(8);
    while left > 0 {
        assert!(poll.poll_timeout(&mut events, DEADLINE).unwrap() > 0);
        for event in &events {
            let token = event.id();
            if token == 2 {
                heard[2].extend(drain(&stream));
                poll.registry().deregister(&stream).unwrap();
                left -= 1;
            } else if pipes[token].read_to_end(&mut heard[token]).is_ok() {
                poll.registry().deregister(&pipes[token]).unwrap();
                left -= 1;
            }
        }
    }
    assert_eq!(own_words(&heard[0]), b"to the one");
    assert_eq!(heard[1], b"to the other");
    assert_eq!(heard[2], b"from elsewhere");
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_child_that_never_reads_costs_no_memory_and_no_time() {
    let _alone = alone();
    let mut child = child("sleep").spawn().unwrap();
    let mut output = output_of(&mut child);
    wait_for_begin(&mut output);
    let input = input_of(&mut child);
    let mut poll = Poll::new().unwrap();
    poll.registry().register(&input, 1, WRITABLE | LEVEL).unwrap();
    assert!(expect_event(&mut poll, 1).writable);
    let taken = fill(&input);
    assert!(taken < 2 << 20, "{} bytes", taken);
    expect_nothing(&mut poll);
    expect_kind((&input).write(b"x"), ErrorKind::WouldBlock);

    // Killed, it is the end of both.
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(expect_event(&mut poll, 1).writable);
    expect_kind((&input).write(b"x"), ErrorKind::BrokenPipe);
    assert_eq!(read_to_end(&mut output), b"");
}

#[test]
fn the_end_of_a_pipe_comes_though_a_child_lives() {
    let _alone = alone();
    // The child is started while both ends are open, and must have neither.
    let (mut reader, mut writer) = pipe().unwrap();
    let mut child = child("wait").spawn().unwrap();
    let mut output = output_of(&mut child);
    wait_for_begin(&mut output);
    writer.write_all(b"x").unwrap();
    drop(writer);
    assert_eq!(read_to_end(&mut reader), b"x");
    let (reader, mut writer) = pipe().unwrap();
    drop(reader);
    expect_kind(writer.write(b"x"), ErrorKind::BrokenPipe);
    // Nor does it have its own standard input from our side: dropping that ends it.
    drop(input_of(&mut child));
    assert!(child.wait().unwrap().success());
}

#[test]
fn children_leave_no_handle_behind() {
    let _alone = alone();
    // Emulated, each takes its time.
    let count = if env::var_os("MINIMIO_RUNNER").is_some() { 20 } else { 200 };
    let mut poll = Poll::new().unwrap();
    let mut events = Events::with_capacity(64);
    let mut round = |count: usize| {
        let mut children: Vec<_> = (0..count)
            .map(|number| {
                let mut child = child("talk").spawn().unwrap();
                let input = input_of(&mut child);
                let output = output_of(&mut child);
                let errors = PipeReader::try_from(child.stderr.take().unwrap()).unwrap();
                let mode = READABLE | MODES[number % 3].1;
                poll.registry().register(&output, 2 * number, mode).unwrap();
                poll.registry().register(&errors, 2 * number + 1, mode).unwrap();
                poll.registry().register(&input, 2 * count, WRITABLE).unwrap();
                (child, [Some(output), Some(errors)])
            })
            .collect();
        let mut left = 2 * count;
        while left > 0 {
            assert!(poll.poll_timeout(&mut events, DEADLINE).unwrap() > 0);
            for event in events.iter().filter(|event| event.id() < 2 * count) {
                let pipe = &mut children[event.id() / 2].1[event.id() % 2];
                let reader = match pipe {
                    Some(reader) => reader,
                    None => continue,
                };
                if reader.read_to_end(&mut Vec::new()).is_ok() {
                    // Not deregistered: closing is enough.
                    *pipe = None;
                    left -= 1;
                } else {
                    let mode = READABLE | MODES[event.id() / 2 % 3].1;
                    poll.registry().reregister(reader, event.id(), mode).unwrap();
                }
            }
        }
        for (mut child, _) in children {
            assert!(child.wait().unwrap().success());
        }
    };
    round(10);
    let before = open_handles();
    for _ in 0..count / 10 {
        round(10);
    }
    no_more_handles_than(before);
}

/// On Windows a dropped end is closed a moment later, when what it had under way is over.
fn no_more_handles_than(before: usize) {
    let begin = Instant::now();
    loop {
        let now = open_handles();
        if now <= before {
            return;
        }
        assert!(begin.elapsed() < DEADLINE, "{} handles, and {} before", now, before);
        thread::yield_now();
    }
}

#[test]
fn pipes_that_come_and_go_leave_no_handle_behind() {
    let _alone = alone();
    let mut poll = Poll::new().unwrap();
    let mut round = || {
        for (_, mode) in MODES {
            let (reader, mut writer) = pipe().unwrap();
            poll.registry().register(&reader, 1, READABLE | mode).unwrap();
            poll.registry().register(&writer, 2, WRITABLE | mode).unwrap();
            writer.write_all(b"left in it").unwrap();
            poll.poll_timeout(&mut Events::new(), DEADLINE).unwrap();
        }
    };
    round();
    let before = open_handles();
    for _ in 0..100 {
        round();
    }
    no_more_handles_than(before);
    expect_nothing(&mut poll);
}

#[test]
fn what_is_no_pipe_is_refused() {
    let _alone = alone();
    let file = || Owned::from(File::open(env::current_exe().unwrap()).unwrap());
    expect_kind(PipeReader::try_from(file()), ErrorKind::InvalidInput);
    expect_kind(PipeWriter::try_from(file()), ErrorKind::InvalidInput);
}

#[cfg(unix)]
#[test]
fn what_is_a_socket_or_the_other_end_is_refused() {
    use std::os::unix::io::OwnedFd;
    let _alone = alone();
    let (stream, _peer) = std_pair();
    expect_kind(PipeReader::try_from(OwnedFd::from(stream)), ErrorKind::InvalidInput);
    // On some systems a pipe goes both ways.
    if cfg!(any(target_os = "linux", target_os = "android", target_os = "openbsd")) {
        let (reader, writer) = pipe_pair();
        expect_kind(PipeWriter::try_from(reader), ErrorKind::InvalidInput);
        expect_kind(PipeReader::try_from(writer), ErrorKind::InvalidInput);
    }
}

#[cfg(unix)]
#[test]
fn the_ends_turn_into_descriptors_and_back() {
    use std::os::unix::io::{AsRawFd, IntoRawFd, OwnedFd};
    let _alone = alone();
    let (reader, writer) = pipe().unwrap();
    assert!(format!("{:?} {:?}", reader, writer).contains(&format!("fd: {}", writer.as_raw_fd())));
    let (reader, writer) = (OwnedFd::from(reader), OwnedFd::from(writer));
    // Still non-blocking.
    let mut file = File::from(reader);
    expect_kind(file.read(&mut [0; 8]), ErrorKind::WouldBlock);
    let mut reader = PipeReader::try_from(OwnedFd::from(file)).unwrap();
    let mut writer = PipeWriter::try_from(writer).unwrap();
    writer.write_all(b"x").unwrap();
    drop(writer);
    assert_eq!(read_to_end(&mut reader), b"x");
    let fd = reader.as_raw_fd();
    assert_eq!(reader.into_raw_fd(), fd);
}

#[test]
fn the_end_is_an_edge_of_its_own() {
    let _alone = alone();
    let (reader, mut writer) = pipe().unwrap();
    let mut poll = Poll::new().unwrap();
    poll.registry().register(&reader, 1, READABLE | EDGE).unwrap();
    writer.write_all(b"last").unwrap();
    expect_event(&mut poll, 1);
    // All there is, and no `WouldBlock`.
    assert_eq!((&reader).read(&mut [0; 4]).unwrap(), 4);
    drop(writer);
    assert!(expect_event(&mut poll, 1).read_closed);
    assert_eq!((&reader).read(&mut [0; 4]).unwrap(), 0);
}

#[test]
fn a_watched_reader_that_is_dropped_breaks_the_pipe_at_once() {
    let _alone = alone();
    let mut poll = Poll::new().unwrap();
    for (_, mode) in MODES {
        let (reader, mut writer) = pipe().unwrap();
        poll.registry().register(&reader, 1, READABLE | mode).unwrap();
        expect_nothing(&mut poll);
        drop(reader);
        expect_kind(writer.write(b"x"), ErrorKind::BrokenPipe);
        expect_nothing(&mut poll);
    }
}

#[test]
fn both_ends_work_without_a_queue() {
    let _alone = alone();
    let (mut reader, mut writer) = pipe().unwrap();
    for _ in 0..3 {
        let mut sent = fill(&writer);
        expect_kind(writer.write(b"x"), ErrorKind::WouldBlock);
        let begin = Instant::now();
        while sent > 0 || writer.flush().is_err() {
            sent -= drain(&reader).len();
            assert!(begin.elapsed() < DEADLINE);
            thread::yield_now();
        }
    }
    assert_eq!(writer.write(b"").unwrap(), 0);
    assert_eq!(reader.read(&mut []).unwrap(), 0);
    let sent = fill(&writer);
    drop(writer);
    assert_eq!(read_to_end(&mut reader).len(), sent);
}

#[test]
fn a_writer_that_is_dropped_is_the_end_though_nobody_polls() {
    let _alone = alone();
    let poll = Poll::new().unwrap();
    let (mut reader, writer) = pipe().unwrap();
    poll.registry().register(&writer, 1, WRITABLE).unwrap();
    let sent = fill(&writer);
    drop(writer);
    assert_eq!(read_to_end(&mut reader).len(), sent);
}

#[cfg(windows)]
#[test]
fn what_a_write_has_not_got_rid_of_yet_is_not_flushed() {
    let _alone = alone();
    let mut poll = Poll::new().unwrap();
    let (reader, mut writer) = pipe().unwrap();
    poll.registry().register(&writer, 1, WRITABLE | EDGE).unwrap();
    assert!(expect_event(&mut poll, 1).writable);
    writer.flush().unwrap();
    // More than fits. No `WouldBlock` was met yet but that of `flush`.
    while writer.flush().is_ok() {
        writer.write_all(&[0; 50_000]).unwrap();
    }
    expect_nothing(&mut poll);
    drain(&reader);
    assert!(expect_event(&mut poll, 1).writable);
    writer.flush().unwrap();
}

#[cfg(windows)]
#[test]
fn an_end_is_watched_by_one_queue_at_a_time() {
    let _alone = alone();
    let (reader, mut writer) = pipe().unwrap();
    let (mut first, mut second) = (Poll::new().unwrap(), Poll::new().unwrap());
    first.registry().register(&reader, 1, READABLE | LEVEL).unwrap();
    expect_kind(second.registry().register(&reader, 2, READABLE), ErrorKind::Unsupported);
    expect_kind(second.registry().reregister(&reader, 2, READABLE), ErrorKind::NotFound);
    expect_kind(second.registry().deregister(&reader), ErrorKind::NotFound);
    // There it goes on.
    writer.write_all(b"x").unwrap();
    assert!(expect_event(&mut first, 1).readable);
    first.registry().deregister(&reader).unwrap();
    second.registry().register(&reader, 2, READABLE | LEVEL).unwrap();
    assert!(expect_event(&mut second, 2).readable);
    expect_nothing(&mut first);
    // A queue that has ended watches nothing.
    second.registrator().close_loop().unwrap();
    first.registry().register(&reader, 3, READABLE | LEVEL).unwrap();
    assert!(expect_event(&mut first, 3).readable);
    drop(first);
    let mut third = Poll::new().unwrap();
    third.registry().register(&reader, 4, READABLE).unwrap();
    assert!(expect_event(&mut third, 4).readable);
}

#[cfg(windows)]
#[test]
fn what_is_not_overlapped_or_the_other_end_is_refused() {
    use std::os::windows::io::{FromRawHandle, RawHandle};
    use std::ptr;
    #[link(name = "kernel32")]
    extern "system" {
        fn CreatePipe(reader: *mut RawHandle, writer: *mut RawHandle, security: *mut u8, room: u32) -> i32;
        fn CreateNamedPipeW(
            name: *const u16,
            access: u32,
            mode: u32,
            instances: u32,
            out_room: u32,
            in_room: u32,
            timeout: u32,
            security: *mut u8,
        ) -> RawHandle;
    }
    let _alone = alone();
    let (mut reader, mut writer) = (ptr::null_mut(), ptr::null_mut());
    // SAFETY: the system writes to the two locals, and takes a null pointer for none.
    assert_ne!(unsafe { CreatePipe(&mut reader, &mut writer, ptr::null_mut(), 0) }, 0);
    // SAFETY: both were just made and nobody else knows them.
    let [reader, writer] = [reader, writer].map(|handle| unsafe { Owned::from_raw_handle(handle) });
    expect_kind(PipeReader::try_from(reader), ErrorKind::InvalidInput);
    expect_kind(PipeWriter::try_from(writer), ErrorKind::InvalidInput);
    // One of messages, one of operations that do not wait, and one that is as it should be.
    let overlapped_to_read = 0x4000_0001;
    for (mode, is_fine) in [(4 | 2, false), (1, false), (0, true)] {
        let name = format!(r"\\.\pipe\minimio.test.{}.{}\0", std::process::id(), mode);
        let name: Vec<u16> = name.encode_utf16().collect();
        // SAFETY: the name ends with 0, and there is a null pointer for none.
        let handle = unsafe {
            CreateNamedPipeW(name.as_ptr(), overlapped_to_read, mode, 1, 0, 4096, 0, ptr::null_mut())
        };
        // SAFETY: it was just made and nobody else knows it.
        let refused = PipeReader::try_from(unsafe { Owned::from_raw_handle(handle) }).err();
        let kind = if is_fine { None } else { Some(ErrorKind::InvalidInput) };
        assert_eq!(refused.map(|error| error.kind()), kind);
    }
    let mut child = child("talk").spawn().unwrap();
    expect_kind(PipeWriter::try_from(Owned::from(child.stdout.take().unwrap())), ErrorKind::InvalidInput);
    expect_kind(PipeReader::try_from(Owned::from(child.stdin.take().unwrap())), ErrorKind::InvalidInput);
    child.wait().unwrap();
}

#[test]
fn a_poll_keeps_its_time_while_a_child_says_nothing() {
    let _alone = alone();
    let mut child = child("wait").spawn().unwrap();
    let mut output = output_of(&mut child);
    wait_for_begin(&mut output);
    let mut poll = Poll::new().unwrap();
    poll.registry().register(&output, 1, READABLE | EDGE).unwrap();
    let begin = Instant::now();
    assert_eq!(poll.poll_timeout(&mut Events::new(), Duration::from_millis(50)).unwrap(), 0);
    assert!(begin.elapsed() >= Duration::from_millis(50));
    drop(input_of(&mut child));
    assert!(expect_event(&mut poll, 1).readable);
    poll.registry().deregister(&output).unwrap();
    assert_eq!(read_to_end(&mut output), b"");
    assert!(child.wait().unwrap().success());
}
