//! The feature `trace`: the library's system calls as lines on standard error.
#![cfg(feature = "trace")]

use minimio::{Events, Interests, Poll, TcpListener, Waker};
use std::env;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

/// Each test runs itself again in a process of its own, and this tells that one that it is the second.
const CHILD: &str = "MINIMIO_TRACED";

fn is_child() -> bool {
    env::var_os(CHILD).is_some()
}

/// The test of this name in a process of its own, whose standard error can be read.
fn child(test: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args([test, "--exact", "--nocapture"])
        .env(CHILD, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

/// What a short program does with its queue.
fn story() -> io::Result<()> {
    let mut events = Events::with_capacity(8);
    let mut poll = Poll::new()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    poll.registry().register(&listener, 9, Interests::READABLE)?;
    let mut peer = TcpStream::connect(listener.local_addr()?)?;
    poll.poll(&mut events, None)?;
    let (stream, _) = listener.accept()?;
    listener.accept().unwrap_err();

    poll.registry().register(&stream, 10, Interests::READABLE)?;
    peer.write_all(b"hello")?;
    poll.poll(&mut events, Some(5000))?;

    let both = Interests::READABLE | Interests::WRITABLE | Interests::LEVEL;
    poll.registry().reregister(&stream, 11, both)?;
    poll.registry().deregister(&stream)?;
    poll.registry().deregister(&stream).unwrap_err();

    let waker = Waker::new(&poll.registrator(), 12)?;
    waker.wake()?;
    poll.poll(&mut events, None)?;
    poll.registrator().close_loop()
}

/// What the story looks like. `*` stands for a number, `~` for anything. Elsewhere than on Linux other lines may come in
/// between: what is sent depends on what was ready first.
#[cfg(any(target_os = "linux", target_os = "android"))]
const LINES: &[&str] = &[
    "epoll_create1(EPOLL_CLOEXEC) = *",
    "pipe2([*, *], O_CLOEXEC|O_NONBLOCK) = 0",
    "epoll_ctl(*, EPOLL_CTL_ADD, *, {EPOLLET, the bell}) = 0",
    "epoll_ctl(*, EPOLL_CTL_ADD, *, {EPOLLIN|EPOLLRDHUP|EPOLLONESHOT, token=9}) = 0",
    "epoll_wait(*, [{EPOLLIN, token=9}], 8, -1) = 1",
    "accept4(*, {127.0.0.1:*}, SOCK_CLOEXEC|SOCK_NONBLOCK) = *",
    "accept4(*, {}, SOCK_CLOEXEC|SOCK_NONBLOCK) = -1 EAGAIN (Resource temporarily unavailable)",
    "epoll_ctl(*, EPOLL_CTL_ADD, *, {EPOLLIN|EPOLLRDHUP|EPOLLONESHOT, token=10}) = 0",
    "epoll_wait(*, [{EPOLLIN, token=10}], 8, 5000) = 1",
    "epoll_ctl(*, EPOLL_CTL_MOD, *, {EPOLLIN|EPOLLOUT|EPOLLWRBAND|EPOLLRDHUP, token=11}) = 0",
    "epoll_ctl(*, EPOLL_CTL_DEL, *, {0, token=0}) = 0",
    "epoll_ctl(*, EPOLL_CTL_DEL, *, {0, token=0}) = -1 ENOENT (No such file or directory)",
    "epoll_ctl(*, EPOLL_CTL_MOD, *, {EPOLLWRNORM|EPOLLET, the bell}) = 0",
    "epoll_wait(*, [{EPOLLWRNORM, the bell}], 8, -1) = 1",
    "epoll_ctl(*, EPOLL_CTL_MOD, *, {EPOLLWRNORM|EPOLLET, the bell}) = 0",
];
#[cfg(all(unix, not(any(target_os = "linux", target_os = "android"))))]
const LINES: &[&str] = &[
    "kqueue() = *",
    "fcntl(*, F_SETFD, FD_CLOEXEC) = 0",
    "accept~(*, {127.0.0.1:*}~) = *",
    "accept~(*, {}~) = -1 EAGAIN (Resource temporarily unavailable)",
    "kevent(*, [{~, EV_DELETE|EV_RECEIPT~}, {~EVFILT_READ, EV_ADD|EV_RECEIPT|EV_DISPATCH~}], 3, [{*, EVFILT_READ, EV_ERROR, data=ENOENT}, {*, EVFILT_WRITE, EV_ERROR, data=ENOENT}, {*, EVFILT_READ, EV_ERROR, data=0}], 3, {tv_sec=0, tv_nsec=0}) = 3",
    "kevent(*, NULL, 0, [{*, EVFILT_READ, ~, data=5, udata=*}], 8, {tv_sec=~, tv_nsec=~}) = 1",
    "kevent(~EVFILT_READ, EV_ADD|EV_RECEIPT, ~EVFILT_WRITE, EV_ADD|EV_RECEIPT, ~) = 4",
    "kevent(*, [{*, EVFILT_READ, EV_DELETE|EV_RECEIPT, ~}, {*, EVFILT_WRITE, EV_DELETE|EV_RECEIPT, ~}], 2, ~) = 2",
    "kevent(*, NULL, 0, [{0, EVFILT_USER, ~, the bell}], 8, NULL) = 1",
    // NetBSD before 10 and OpenBSD before 7.8 do this by a pair of sockets, and std's writes do not show.
    "kevent(*, [{0, EVFILT_USER, EV_ADD|EV_RECEIPT, NOTE_TRIGGER, the bell}], ~) = 1",
];
#[cfg(windows)]
const LINES: &[&str] = &[
    "CreateIoCompletionPort(INVALID_HANDLE_VALUE, NULL, KEY_POLL, *) = *",
    "WSAIoctl(*, SIO_BASE_HANDLE, [*]) = 0",
    "NtCreateFile(\\Device\\Afd\\minimio) = STATUS_SUCCESS",
    "CreateIoCompletionPort(*, *, KEY_POLL, *) = *",
    "NtDeviceIoControlFile(*, *, IOCTL_AFD_POLL, {*, ~AFD_POLL_ACCEPT~}) = STATUS_~",
    "SetHandleInformation(*, HANDLE_FLAG_INHERIT, 0) = TRUE",
    "NtDeviceIoControlFile(*, *, IOCTL_AFD_POLL, {*, AFD_POLL_RECEIVE|~}) = STATUS_PENDING",
    "GetQueuedCompletionStatusEx(*, [{KEY_POLL, *, AFD_POLL_RECEIVE}], 8, [1], ~, FALSE) = TRUE",
    "NtDeviceIoControlFile(*, *, IOCTL_AFD_POLL, {*, AFD_POLL_RECEIVE|AFD_POLL_SEND|~}) = STATUS_~",
    "PostQueuedCompletionStatus(*, 0, KEY_WAKE, *) = TRUE",
    "GetQueuedCompletionStatusEx(*, [~{KEY_WAKE}~], *, [*], ~, FALSE) = TRUE",
    "PostQueuedCompletionStatus(*, 0, KEY_CLOSE, *) = TRUE",
];

/// Whether `line` is what `pattern` says.
fn fits(line: &str, pattern: &str) -> bool {
    let wildcard = match pattern.find(&['*', '~'][..]) {
        None => return line == pattern,
        Some(place) => place,
    };
    let after = &pattern[wildcard + 1..];
    let rest = match line.strip_prefix(&pattern[..wildcard]) {
        None => return false,
        Some(rest) => rest,
    };
    if pattern[wildcard..].starts_with('*') {
        let tail = rest.trim_start_matches(|c: char| c.is_ascii_alphanumeric());
        tail.len() < rest.len() && fits(tail, after)
    } else {
        (0..=rest.len()).any(|length| fits(&rest[length..], after))
    }
}

/// A line of a single thread without the time at its beginning and without how long a wait slept.
fn call(line: &str) -> &str {
    let (time, call) = line.split_once(" ms  ").unwrap_or_else(|| panic!("no time in {:?}", line));
    assert!(time.trim_start().parse::<f64>().unwrap() >= 0.0, "{:?}", line);
    let (slept, call) = match call.split_once("(slept ") {
        Some((thread, slept)) => {
            let (slept, call) = slept.split_once(" ms) ").unwrap();
            assert!(slept.parse::<f64>().unwrap() >= 0.0, "{:?}", line);
            assert_eq!(thread, "", "{:?}", line);
            (true, call)
        }
        None => (false, call),
    };
    assert_eq!(slept, WAITS.iter().any(|wait| fits(call, wait)), "{:?}", line);
    call
}

/// Calls that may sleep.
const WAITS: &[&str] =
    &["epoll_wait(~", "epoll_pwait2(~", "kevent(*, NULL, 0~", "GetQueuedCompletionStatusEx(~"];

#[test]
fn every_system_call_of_the_library_is_a_line() {
    if is_child() {
        return story().unwrap();
    }
    let mut command = child("every_system_call_of_the_library_is_a_line");
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{}", text);

    let mut lines = text.lines().map(call);
    for pattern in LINES {
        let found = lines.any(|line| fits(line, pattern));
        assert!(found, "{} is not in its place in\n{}", pattern, text);
    }
    assert!(text.lines().all(|line| fits(call(line), "~(~) = ~")), "{}", text);
    if cfg!(target_os = "linux") {
        assert_eq!(text.lines().count(), LINES.len(), "{}", text);
    }
}

#[test]
fn a_line_tells_the_time_and_a_wait_how_long_it_slept() {
    if is_child() {
        let mut poll = Poll::new().unwrap();
        poll.poll(&mut Events::with_capacity(8), Some(50)).unwrap();
        return poll.registrator().close_loop().unwrap();
    }
    let output = child("a_line_tells_the_time_and_a_wait_how_long_it_slept").output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{}", text);
    let times: Vec<f64> =
        text.lines().map(|line| line.trim_start().split(' ').next().unwrap().parse().unwrap()).collect();
    assert!(times.windows(2).all(|pair| pair[0] <= pair[1]) && times[times.len() - 1] >= 50.0, "{}", text);
    let slept = text.lines().filter_map(|line| Some(line.split_once("(slept ")?.1.split_once(" ms)")?.0));
    // On Windows a wait may come back a moment early and go on.
    let total: f64 = slept.map(|ms| ms.parse::<f64>().unwrap()).sum();
    assert!((49.0..5000.0).contains(&total), "{}", text);
}

/// Sockets that are closed, moved, replaced and deregistered, by turns.
#[cfg(windows)]
fn comings_and_goings() -> io::Result<()> {
    use minimio::TcpStream as Ours;
    use std::net::TcpListener;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut events = Events::with_capacity(8);
    let mut poll = Poll::new()?;
    let level = Interests::READABLE | Interests::LEVEL;
    for token in 0..20 {
        let mut peer = TcpStream::connect(listener.local_addr()?)?;
        let (stream, _) = listener.accept()?;
        stream.set_nonblocking(true)?;
        poll.registry().register(&stream, token, level)?;
        poll.registry().register(&stream, token, Interests::READABLE | Interests::WRITABLE)?;
        poll.registry().deregister(&stream)?;
        poll.registry().register(&stream, token, level)?;
        peer.write_all(b"hello")?;
        poll.poll(&mut events, Some(5000))?;
        if token % 2 == 0 {
            // Closed in the midst of it.
            drop(stream);
            poll.poll(&mut events, Some(0))?;
            continue;
        }
        let stream = Ours::from_std(stream)?;
        poll.registry().deregister(&stream)?;
        poll.registry().register(&stream, token, Interests::WRITABLE)?;
        poll.registry().register(&stream, token, level)?;
        poll.registry().deregister(&stream)?;
        poll.registry().register(&stream, token, Interests::READABLE | Interests::EDGE)?;
        poll.poll(&mut events, Some(5000))?;
    }
    Ok(())
}

#[cfg(windows)]
#[test]
fn no_closed_number_is_asked_about_and_no_socket_twice_at_a_time() {
    use std::collections::HashMap;
    if is_child() {
        return comings_and_goings().unwrap();
    }
    let output = child("no_closed_number_is_asked_about_and_no_socket_twice_at_a_time").output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{}", text);
    let mut out: HashMap<&str, i32> = HashMap::new();
    for line in text.lines().map(call) {
        assert!(!line.contains("INVALID_HANDLE (") && !line.contains("STATUS_INVALID"), "{}", text);
        if line.starts_with("NtDeviceIoControlFile(") {
            let socket = line.split_once("IOCTL_AFD_POLL, {").unwrap().1.split(',').next().unwrap();
            let count = out.entry(socket).or_default();
            *count += 1;
            assert_eq!(*count, 1, "{} in\n{}", socket, text);
        }
        for packet in line.split("{KEY_POLL, ").skip(1) {
            *out.get_mut(packet.split(',').next().unwrap()).unwrap() -= 1;
        }
    }
    assert!(out.len() > 1, "{}", text);
}

#[test]
fn a_standard_error_that_nobody_reads_is_no_reason_to_fail() {
    if is_child() {
        // The end of standard input says that the reader is gone.
        io::stdin().read_to_end(&mut Vec::new()).unwrap();
        return story().unwrap();
    }
    let mut command = child("a_standard_error_that_nobody_reads_is_no_reason_to_fail");
    let mut process = command.spawn().unwrap();
    drop(process.stderr.take());
    drop(process.stdin.take());
    assert!(process.wait().unwrap().success());
}

#[cfg(unix)]
#[test]
fn the_calls_of_a_pipe_are_lines() {
    if is_child() {
        let (reader, mut writer) = minimio::pipe().unwrap();
        drop(reader);
        writer.write(b"x").unwrap_err();
        return;
    }
    let output = child("the_calls_of_a_pipe_are_lines").output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{}", text);
    // Some systems can be told to raise no signal for a pipe; on the others the thread holds it back.
    let rest: &[&str] = match text.contains("F_SETNOSIGPIPE") {
        true => &["fcntl(*, F_SETNOSIGPIPE, 1) = 0"],
        false => &[
            "pthread_sigmask(SIG_BLOCK, [SIGPIPE], [~]) = 0",
            "sigpending([~]) = 0",
            "sigwait([SIGPIPE], [13]) = 0",
            "pthread_sigmask(SIG_SETMASK, [~], NULL) = 0",
        ],
    };
    let mut lines = text.lines().map(call);
    for pattern in ["pipe~([*, *]~) = 0"].iter().chain(rest) {
        let found = lines.any(|line| fits(line, pattern));
        assert!(found, "{} is not in its place in\n{}", pattern, text);
    }
}

#[cfg(windows)]
#[test]
fn the_calls_of_a_pipe_are_lines() {
    if is_child() {
        let (mut reader, mut writer) = minimio::pipe().unwrap();
        let mut poll = Poll::new().unwrap();
        poll.registry().register(&reader, 1, Interests::READABLE).unwrap();
        writer.write_all(b"hello").unwrap();
        poll.poll(&mut Events::new(), None).unwrap();
        assert_eq!(reader.read(&mut [0; 8]).unwrap(), 5);
        drop(reader);
        writer.write(b"x").unwrap_err();
        return;
    }
    let output = child("the_calls_of_a_pipe_are_lines").output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{}", text);
    // Two threads write them: one waits for operations that have ended.
    let mut lines = text.lines().map(|line| line.split_once(" ms  ").unwrap().1.trim_start_matches("[1] "));
    let patterns = [
        "CreateNamedPipeW(~minimio.~) = *",
        "GetFileType(*) = 3",
        "NtQueryInformationFile(*, FileAccessInformation, [*]) = STATUS_SUCCESS",
        "GetNamedPipeHandleStateW(*, [0x0]) = TRUE",
        "CreateIoCompletionPort(*, *, KEY_DONE, *) = *",
        "SetFileCompletionNotificationModes(*, FILE_SKIP_COMPLETION_PORT_ON_SUCCESS) = TRUE",
        "CreateEventW(NULL, TRUE, FALSE, NULL) = *",
        "PeekNamedPipe(*, [0]) = TRUE",
        "ReadFile(*, 0, *) = ERROR_IO_PENDING (997)",
        "WriteFile(*, 5, *) = TRUE",
        "~GetQueuedCompletionStatusEx(*, [{KEY_PIPE}], ~) = TRUE",
        "PeekNamedPipe(*, [5]) = TRUE",
        "ReadFile(*, 5, *) = TRUE",
        "GetOverlappedResult(*, *, [5], TRUE) = TRUE",
        "WriteFile(*, 1, *) = ERROR_NO_DATA (232)",
    ];
    for pattern in patterns {
        assert!(lines.any(|line| fits(line, pattern)), "{} is not in its place in\n{}", pattern, text);
    }
    for pattern in [
        "[2] (slept ~GetQueuedCompletionStatusEx(*, [{KEY_DONE}], ~",
        "[2] PostQueuedCompletionStatus(*, 0, KEY_PIPE, *) = TRUE",
    ] {
        let mut lines = text.lines().map(|line| line.split_once(" ms  ").unwrap().1);
        assert!(lines.any(|line| fits(line, pattern)), "{} is not in\n{}", pattern, text);
    }
}

/// `wake` may be called from a signal handler, so also the line about it must come about without what a handler could find
/// in use: std's standard error and the heap.
#[cfg(unix)]
#[test]
fn a_wake_is_traced_without_a_lock_and_without_the_heap() {
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    if is_child() {
        let poll = Poll::new().unwrap();
        let waker = Waker::new(&poll.registrator(), 12).unwrap();
        let (sender, receiver) = mpsc::channel();
        let _lock = io::stderr().lock();
        thread::spawn(move || {
            let before = heap::allocations();
            waker.wake().unwrap();
            sender.send(heap::allocations() - before).unwrap();
        });
        let allocations = receiver.recv_timeout(Duration::from_secs(20));
        assert_eq!(allocations, Ok(0));
        return;
    }
    let mut command = child("a_wake_is_traced_without_a_lock_and_without_the_heap");
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{}", text);
    let last = text.lines().last().unwrap();
    // By now two threads have had a line: this one made the queue, the other woke it.
    assert!(call(last).starts_with("[2] ") && fits(&call(last)[4..], LINES[LINES.len() - 1]), "{}", text);
}

/// Counts what each thread allocates.
#[cfg(unix)]
mod heap {
    use std::alloc::{GlobalAlloc, Layout, System};
    use std::cell::Cell;

    thread_local!(static ALLOCATIONS: Cell<usize> = const { Cell::new(0) });

    pub fn allocations() -> usize {
        ALLOCATIONS.with(Cell::get)
    }

    struct Counting;

    #[global_allocator]
    static HEAP: Counting = Counting;

    // SAFETY: the system's allocator does the work, and counting does not allocate.
    unsafe impl GlobalAlloc for Counting {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
            // SAFETY: as the caller promised.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
            // SAFETY: as the caller promised.
            unsafe { System.dealloc(memory, layout) }
        }
    }
}
