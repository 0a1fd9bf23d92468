//! The steps on Windows: first completion, then readiness made of it. Fifteen, each with its check.

use crate::checks::{self, *};
use crate::delays;
use crate::queue::{source, Event, Interests, Mode, Packet, Port, Queue};
use crate::step::{expect, Expected, Failure, Outcome, Step};
use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{self, ErrorKind, Read, Write};
use std::mem::size_of;
use std::net::Shutdown;
use std::os::windows::io::{AsRawHandle, AsRawSocket, RawHandle};
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

pub const FAREWELL: &str = "Both queues are yours. Compare them with solution_iocp.rs. Then read src/windows.rs: you will recognize most of it.";

pub fn all<Both: Halves>() -> Vec<Step> {
    vec![
        Step {
            title: "Make the port",
            chapters: &["ch02_system_calls", "ch06_iocp"],
            task: "Write `Iocp::new`: without a handle to tie, `CreateIoCompletionPort` makes a new port. Turn its \
                   null into an error with `check`, and keep the handle in an `OwnedHandle` in the struct. Write \
                   `as_handle`, which lends that handle.",
            check: make::<Both::Port>,
        },
        Step {
            title: "Lend a buffer",
            chapters: &["ch03_readiness_completion", "ch06_iocp"],
            task: "Write `tie`: `CreateIoCompletionPort` again, with the socket as a handle, the port and the key. \
                   Write `start_read`: put an OVERLAPPED and the buffer into a struct in a `Box`, the OVERLAPPED \
                   first. Let go of the box with `Box::into_raw`, because from now on it belongs to the kernel. \
                   Then start `WSARecv`: WSA_IO_PENDING means that it has begun, which is a success. If it fails, \
                   the box is yours again. Return the address of the box.",
            check: lend::<Both::Port>,
        },
        Step {
            title: "Take the packet",
            chapters: &["ch06_iocp"],
            task: "Write `next_packet` for a timeout of `None`: `GetQueuedCompletionStatus` sleeps until there is \
                   a packet. The address in it is that of your box: `Box::from_raw` makes it yours again, with the \
                   buffer in it. It is the very buffer that was lent, and `result` says how much of it was filled.",
            check: packet::<Both::Port>,
        },
        Step {
            title: "A timeout, and what FALSE means",
            chapters: &["ch06_iocp"],
            task: "Now make `next_packet` respect its timeout. It is in milliseconds. Round up, and beware: \
                   u32::MAX means for ever. When the call returns FALSE, look at the address first. If it is null, \
                   the wait failed, and WAIT_TIMEOUT means `None`. If it is not null, the wait went well and the \
                   operation failed: the packet has been taken out, and `result` is the error.",
            check: timeout::<Both::Port>,
        },
        Step {
            title: "Cancel",
            chapters: &["ch06_iocp"],
            task: "Write `cancel`: `CancelIoEx` with the socket and the address of the operation. It is only a \
                   wish. The box stays the kernel's until its packet says that the operation is over, one way or \
                   the other. ERROR_NOT_FOUND means that it had just ended: no error, the packet is on its way.",
            check: cancel::<Both::Port>,
        },
        Step {
            title: "A packet of your own",
            chapters: &["ch06_iocp", "ch10_threads"],
            task: "Write `post`: `PostQueuedCompletionStatus` puts a packet in, here one with a key and a null \
                   address. `next_packet` returns it without a buffer. This is how you wake a thread that sleeps \
                   at the port.",
            check: own_packet::<Both::Port>,
        },
        Step {
            title: "Open AFD",
            chapters: &["ch07_afd"],
            task: "The second half begins. Write `Afd::new`: open a handle to the driver, the helper, with \
                   `NtCreateFile` (`\\Device\\Afd\\` and any name). Make a port as in step 1, and tie the helper \
                   to it as you tied a socket in step 2. Write `helper_and_port`, which lends both.",
            check: open::<Both::Queue>,
        },
        Step {
            title: "Ask about a socket",
            chapters: &["ch07_afd"],
            task: "Write `register` for reading, and `poll`. `register` lends the kernel a question: \
                   `NtDeviceIoControlFile` with IOCTL_AFD_POLL, a status block and an AFD_POLL_INFO in a box that \
                   stays until the packet comes, and the address of the box as the context. (Chapter 7 calls such \
                   a question a poll.) Ask for AFD_POLL_RECEIVE. For now, keep the token in the box as well. \
                   `poll` takes packets out until it has an event or its timeout has passed.",
            check: ask::<Both::Queue>,
        },
        Step {
            title: "Ask again",
            chapters: &["ch07_afd", "ch09_modes"],
            task: "A question is answered once, so one-shot needs no more work. `reregister` asks again. But \
                   `register` may find that the kernel still has a question about this socket, and there must \
                   never be two. Keep a table by the number of the socket: what is wanted, and which question is \
                   pending. Cancel a pending one with `NtCancelIoFileEx`. When its packet comes, report nothing, \
                   and ask what is wanted now.",
            check: ask_again::<Both::Queue>,
        },
        Step {
            title: "Level",
            chapters: &["ch07_afd", "ch09_modes"],
            task: "In level mode every poll reports a source as long as it is ready. So `poll` begins by asking \
                   again about those sources whose question was answered.",
            check: level::<Both::Queue>,
        },
        Step {
            title: "Two directions, and the end of a stream",
            chapters: &["ch07_afd", "ch08_one_api", "ch11_hard_parts"],
            task: "For writing, ask for AFD_POLL_SEND. For reading, ask for AFD_POLL_DISCONNECT and \
                   AFD_POLL_ACCEPT as well: the end of the stream and a new connection both make a source \
                   readable, and the first is `read_closed`. AFD_POLL_ABORT, AFD_POLL_CONNECT_FAIL and \
                   AFD_POLL_LOCAL_CLOSE are the end of a socket: always ask for them.",
            check: directions::<Both::Queue>,
        },
        Step {
            title: "Deregister",
            chapters: &["ch07_afd"],
            task: "Write `deregister`: nothing is wanted from now on, and a pending question is cancelled. Its \
                   packet still comes, perhaps even with an answer: make no event of it. For a source that is not \
                   registered, return `ErrorKind::NotFound`.",
            check: deregister::<Both::Queue>,
        },
        Step {
            title: "Wake it, and close the loop",
            chapters: &["ch10_threads"],
            task: "Write `wake`: a packet of your own with a key of its own, which `poll` reports as the token \
                   WAKE. Many wakes before a poll become one event: an `AtomicBool` remembers that a packet is in \
                   the port already. Write `close_loop`: first set the fact (another `AtomicBool`), then post a \
                   packet. `poll` checks the fact before it sleeps and after, and returns \
                   `ErrorKind::Interrupted`.",
            check: || {
                checks::wake::<Both::Queue>(WAKE_LOOK)?;
                checks::close_loop::<Both::Queue>()
            },
        },
        Step {
            title: "A thousand sockets, and leaving",
            chapters: &["ch07_afd", "ch11_hard_parts"],
            task: "More packets may be waiting than your array has room for; none may be lost. And if the queue is \
                   dropped while questions are pending, who takes their packets? Write `Drop`: cancel them all, \
                   take packets out until every box is back, and only then let go of the port.",
            check: thousand::<Both::Queue>,
        },
        Step {
            title: "The delays",
            chapters: &["ch01_threads", "ch12_reactor_executor"],
            task: "The book's own program on your queue: six requests, each answered after a different delay, and \
                   one thread that waits for all of them. There is nothing left to write. Watch it.",
            check: delays::run::<Both::Queue>,
        },
    ]
}

/// The two queues of a file.
pub trait Halves {
    type Port: Port;
    type Queue: Queue;
}

impl<P: Port, Q: Queue> Halves for (P, Q) {
    type Port = P;
    type Queue = Q;
}

const WAKE_LOOK: Look = Look {
    wake: "`wake`: `PostQueuedCompletionStatus` with a key that `poll` knows",
    once: "the `AtomicBool`: set by a wake, cleared when its packet has been taken out",
};

fn make<P: Port>() -> Outcome {
    let expected = expect("a new port", "`Iocp::new`, and where the `OwnedHandle` ends up");
    let port = new_port::<P>(&expected)?;
    let handle = port.as_handle().as_raw_handle();
    let expected = expect(
        "the handle of a completion port: a packet can be put in and taken out",
        "`CreateIoCompletionPort` with INVALID_HANDLE_VALUE and null; an `OwnedHandle` closes when it is dropped, so the struct has to keep it",
    );
    // SAFETY: the call takes no memory, and a number that is no port is an error.
    if unsafe { ffi::PostQueuedCompletionStatus(handle, 0, 5, ptr::null_mut()) } == 0 {
        return expected.but(format!(
            "handle {:?} refuses it: {}",
            handle,
            describe(&io::Error::last_os_error())
        ));
    }
    match raw_packet(handle, 1000) {
        Some(RawPacket { key: 5, .. }) => {}
        _ => return expected.but("it does not come out again"),
    }
    let expected = expect(
        "a port that closes its handle when it is dropped",
        "`OwnedHandle` does that; a bare number does not",
    );
    drop(port);
    // SAFETY: as above.
    match unsafe { ffi::PostQueuedCompletionStatus(handle, 0, 5, ptr::null_mut()) } {
        0 => Ok(()),
        _ => expected.but(format!("handle {:?} is still open", handle)),
    }
}

fn lend<P: Port>() -> Outcome {
    let port = P::new()?;
    let (socket, mut peer) = pair()?;
    let expected = expect(
        "a socket is tied to the port",
        "`CreateIoCompletionPort` with the socket, the port and the key",
    );
    if let Err(error) = port.tie(&socket, 10) {
        return expected.but(format!("`tie` returned {}", describe(&error)));
    }
    let expected = expect(
        "`start_read` starts a read and returns at once, although there are no bytes yet",
        "`WSARecv`: with an OVERLAPPED it does not wait; WSA_IO_PENDING is no error",
    );
    let operation = start(&port, &socket, vec![0; 64], &expected)?;
    let expected = expect(
        "a packet in the port: 5 bytes, key 10, and the address of the operation that `start_read` returned",
        "the key that `tie` gives, and the OVERLAPPED: the first field of a `#[repr(C)]` struct in a `Box` that was let go with `Box::into_raw`",
    );
    peer.write_all(b"hello")?;
    match raw_packet(port.as_handle().as_raw_handle(), 1000) {
        None => expected.but("no packet in a second"),
        Some(RawPacket { key: 10, bytes: 5, address }) if address == operation => Ok(()),
        Some(RawPacket { key, bytes, address }) => expected
            .but(format!("{} bytes, key {}, address {:#x} instead of {:#x}", bytes, key, address, operation)),
    }
}

fn packet<P: Port>() -> Outcome {
    let port = P::new()?;
    let (first, mut first_peer) = pair()?;
    let (second, mut second_peer) = pair()?;
    port.tie(&first, 10)?;
    port.tie(&second, 20)?;
    let (first_buffer, second_buffer) = (vec![0; 64], vec![0; 64]);
    let lent = second_buffer.as_ptr();
    port.start_read(&first, first_buffer)?;
    port.start_read(&second, second_buffer)?;

    second_peer.write_all(b"hello")?;
    let expected = expect(
        "a packet with key 20 and the buffer that was lent, \"hello\" in it",
        "the address in the packet: `Box::from_raw` makes your operation of it; and the pointer that `WSARecv` got, which must be that of \
         the bytes in the `Vec`",
    );
    let packet = next(&port, None, &expected)?;
    let buffer = is_read(packet, 20, b"hello", &expected)?;
    let expected = expect(
        "the very buffer that was lent, not a copy",
        "where the `Vec` is: in the box, and moved out of it at the end",
    );
    if buffer.as_ptr() != lent {
        return expected.but("another one");
    }
    let expected =
        expect("the other read is still on its way: key 10", "the boxes: each operation has its own");
    first_peer.write_all(b"good day")?;
    let packet = next(&port, None, &expected)?;
    let buffer = is_read(packet, 10, b"good day", &expected)?;

    let expected = expect(
        "a read whose bytes are there already: one packet, like any other",
        "`WSARecv` that returns 0: the packet comes all the same",
    );
    first_peer.write_all(b"again")?;
    thread::sleep(A_MOMENT);
    start(&port, &first, buffer, &expected)?;
    let packet = next(&port, None, &expected)?;
    is_read(packet, 10, b"again", &expected)?;
    Ok(())
}

fn timeout<P: Port>() -> Outcome {
    let port = P::new()?;
    let (socket, mut peer) = pair()?;
    port.tie(&socket, 10)?;
    let times = [
        (A_MOMENT, "the unit is 1 ms; WAIT_TIMEOUT is no error"),
        (Duration::ZERO, "0 is at once, INFINITE is for ever"),
        (Duration::from_micros(300), "rounding: 0.3 ms in whole milliseconds is 1, not 0"),
    ];
    for (time, look) in times {
        let expected = expect(format!("no packet, after {:?}", time), look);
        let start = Instant::now();
        let packet = port.next_packet(Some(time));
        let took = start.elapsed();
        match packet {
            Err(error) => return expected.but(format!("`next_packet` returned {}", describe(&error))),
            Ok(Some(packet)) => return expected.but(said_packet(&packet)),
            Ok(None) if took < time || took > 3 * A_SECOND => {
                return expected.but(format!("no packet, after {:?}", took))
            }
            Ok(None) => {}
        }
    }
    for (name, long) in [("49 days", Duration::from_millis(1 << 32)), ("`Duration::MAX`", Duration::MAX)] {
        let expected = expect(
            format!("a `next_packet` with a timeout of {} that sleeps until bytes arrive, 50 ms later", name),
            "what becomes of it in a `u32`: cut it, do not cast",
        );
        start(&port, &socket, vec![0; 64], &expected)?;
        let packet = thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(A_MOMENT);
                (&peer).write_all(b"hello")
            });
            next(&port, Some(long), &expected)
        })?;
        is_read(packet, 10, b"hello", &expected)?;
    }

    let expected =
        expect("the end of the stream: a packet with 0 bytes", "`result`: TRUE with 0 bytes is no error");
    start(&port, &socket, vec![0; 64], &expected)?;
    peer.shutdown(Shutdown::Write)?;
    let packet = next(&port, Some(A_SECOND), &expected)?;
    is_read(packet, 10, b"", &expected)?;

    // We close our own socket during the read: the operation fails, and its packet comes all the same.
    let (socket, _peer) = pair()?;
    port.tie(&socket, 30)?;
    let expected = expect(
        "a packet with the buffer and an error: the socket was closed during the read",
        "FALSE with an address: the operation failed, but its packet has been taken out and the box is yours",
    );
    start(&port, &socket, vec![0; 64], &expected)?;
    drop(socket);
    match next(&port, Some(A_SECOND), &expected)? {
        Packet { buffer: Some(_), result: Err(_), .. } => {}
        packet => return expected.but(said_packet(&packet)),
    }
    peer.flush()?;
    Ok(())
}

fn cancel<P: Port>() -> Outcome {
    let port = P::new()?;
    let (socket, mut peer) = pair()?;
    port.tie(&socket, 10)?;
    let look = "`CancelIoEx`: the socket as a handle, and the address of the OVERLAPPED";
    let expected = expect("`cancel` of a read that waits", look);
    let operation = start(&port, &socket, vec![0; 64], &expected)?;
    if let Err(error) = port.cancel(&socket, operation) {
        return expected.but(format!("`cancel` returned {}", describe(&error)));
    }
    let expected = expect(
        "its packet, with the buffer and the error ERROR_OPERATION_ABORTED (995)",
        "only the packet gives the box back: if `cancel` frees it, the kernel writes into memory that is somebody else's",
    );
    match next(&port, Some(A_SECOND), &expected)? {
        Packet { buffer: Some(_), result: Err(error), .. } if error.raw_os_error() == Some(995) => {}
        packet => return expected.but(said_packet(&packet)),
    }
    let expected =
        expect("`cancel` of a read that has just ended: `Ok`, too late", "ERROR_NOT_FOUND: no error");
    peer.write_all(b"hello")?;
    thread::sleep(A_MOMENT);
    let operation = start(&port, &socket, vec![0; 64], &expected)?;
    thread::sleep(A_MOMENT);
    if let Err(error) = port.cancel(&socket, operation) {
        return expected.but(format!("`cancel` returned {}", describe(&error)));
    }
    let expected = expect("and its packet, with what it has read", look);
    let packet = next(&port, Some(A_SECOND), &expected)?;
    is_read(packet, 10, b"hello", &expected)?;
    Ok(())
}

fn own_packet<P: Port>() -> Outcome {
    let port = P::new()?;
    let expected = expect(
        "three packets with the keys 1, 2 and 3 and no buffer: another thread posted them, one after the other",
        "`post`: the key, and a null address; `next_packet`: TRUE with a null address is such a packet",
    );
    thread::scope(|scope| {
        scope.spawn(|| {
            for key in 1..=3 {
                thread::sleep(A_MOMENT);
                port.post(key)?;
            }
            Ok::<(), io::Error>(())
        });
        for key in 1..=3 {
            match next(&port, Some(A_SECOND), &expected)? {
                Packet { key: found, buffer: None, .. } if found == key => {}
                packet => return expected.but(said_packet(&packet)),
            }
        }
        Ok(())
    })
}

fn open<Q: Queue>() -> Outcome {
    let expected =
        expect("a new queue: the driver is open", "`NtCreateFile`: the name, and the lengths in bytes");
    let queue = new::<Q>(&expected)?;
    let (helper, port) = queue.helper_and_port();
    let (helper, port) = (helper.as_raw_handle(), port.as_raw_handle());
    let expected = expect(
        "the handle of AFD: it takes a question about a socket",
        "what `helper_and_port` lends: first the helper, then the port",
    );
    let (socket, mut peer) = pair()?;
    // They are never freed, so the kernel may keep them.
    let question: *mut ffi::Question = Box::leak(Box::new(ffi::Question {
        timeout: i64::MAX,
        count: 1,
        exclusive: 0,
        handle: socket.as_raw_socket() as usize,
        events: 1,
        answer: 0,
    }));
    let status: *mut usize = Box::leak(Box::new([0usize; 2])).as_mut_ptr();
    let length = size_of::<ffi::Question>() as u32;
    // SAFETY: the kernel writes to both until the packet has been taken out, and they stay.
    let answer = unsafe {
        ffi::NtDeviceIoControlFile(
            helper,
            ptr::null_mut(),
            ptr::null(),
            status.cast(),
            status,
            0x12024,
            question,
            length,
            question,
            length,
        )
    };
    if answer < 0 {
        return expected.but(format!("the answer {:#x}", answer));
    }
    let expected = expect(
        "the answer comes out of the port",
        "`CreateIoCompletionPort`: the helper has to be tied to the port",
    );
    peer.write_all(b"hello")?;
    match raw_packet(port, 1000) {
        Some(RawPacket { address, .. }) if address == status as usize => Ok(()),
        Some(_) => expected.but("another packet"),
        None => expected.but("nothing in a second"),
    }
}

fn ask<Q: Queue>() -> Outcome {
    let queue = Q::new()?;
    let (first, mut first_peer) = pair()?;
    let (second, mut second_peer) = pair()?;
    let big = usize::MAX - 1;
    let look = "the question: its `handle` and `events`; the token: it stays with us, and the address in the packet leads to it";
    let expected = expect(format!("one event with the token {}, readable: five bytes arrived at that socket, none at the one with 7", big), look);
    register(&queue, &first, 7, ONCE, &expected)?;
    register(&queue, &second, big, ONCE, &expected)?;
    second_peer.write_all(b"hello")?;
    let events = poll(&queue, None, &expected)?;
    if events != [Event { token: big, readable: true, writable: false, read_closed: false }] {
        return expected.but(list(&events));
    }
    let expected = expect(
        "readiness, not completion: the bytes are still to be read",
        "the question: AFD_POLL_RECEIVE only looks",
    );
    let mut buffer = [0; 5];
    match (&second).read_exact(&mut buffer) {
        Ok(()) => {}
        Err(error) => return expected.but(format!("the error \"{}\"", error)),
    }
    let expected = expect(
        "a poll of 50 ms, with nothing to report, that takes 50 ms",
        "the timeout of `GetQueuedCompletionStatusEx`; and one event for one answer",
    );
    quiet(&queue, A_MOMENT, &expected)?;
    let expected = expect("a poll that sleeps until bytes arrive at the other socket, 50 ms later", look);
    thread::scope(|scope| {
        scope.spawn(move || {
            thread::sleep(A_MOMENT);
            first_peer.write_all(b"hello")
        });
        one(&queue, None, 7, &expected)
    })?;
    let expected = expect(
        "an event: the bytes were there before the socket was registered",
        "an answer that is there at once: its packet comes all the same",
    );
    let (third, mut third_peer) = pair()?;
    third_peer.write_all(b"hello")?;
    thread::sleep(A_MOMENT);
    register(&queue, &third, 8, ONCE, &expected)?;
    one(&queue, Some(A_SECOND), 8, &expected)
}

fn ask_again<Q: Queue>() -> Outcome {
    let queue = Q::new()?;
    let (socket, mut peer) = pair()?;
    queue.register(source(&socket), 1, ONCE)?;
    peer.write_all(b"hello")?;
    let expected = expect("an event: a one-shot source has unread bytes", "`register` and `poll`");
    one(&queue, Some(A_SECOND), 1, &expected)?;
    let expected =
        expect("no second event, although the bytes are still unread", "when you ask again: not by yourself");
    quiet(&queue, A_MOMENT, &expected)?;
    let expected = expect("a new event after `reregister`", "`reregister`: ask again");
    reregister(&queue, &socket, 2, ONCE, &expected)?;
    one(&queue, Some(A_SECOND), 2, &expected)?;

    (&socket).read_exact(&mut [0; 5])?;
    let look =
        "the table: one question for each socket. cancel the old one, and ask anew when its packet comes";
    let expected = expect(
        "a question is pending, and `register` replaces it: no event, because there are no bytes",
        look,
    );
    register(&queue, &socket, 3, ONCE, &expected)?;
    register(&queue, &socket, 4, ONCE, &expected)?;
    quiet(&queue, A_MOMENT, &expected)?;
    let expected = expect("the token of the newest registration, 4, and only once", look);
    peer.write_all(b"hello")?;
    one(&queue, Some(A_SECOND), 4, &expected)?;
    quiet(&queue, A_MOMENT, &expected)?;
    let expected = expect("the token of the newest registration, 6: it was replaced when the answer to the old one was on its way", look);
    register(&queue, &socket, 5, ONCE, &expected)?;
    thread::sleep(A_MOMENT);
    register(&queue, &socket, 6, ONCE, &expected)?;
    one(&queue, Some(A_SECOND), 6, &expected)?;
    quiet(&queue, A_MOMENT, &expected)
}

fn level<Q: Queue>() -> Outcome {
    let queue = Q::new()?;
    let (socket, mut peer) = pair()?;
    queue.register(source(&socket), 1, READABLE)?;
    peer.write_all(b"hello")?;
    let expected = expect(
        "an event from every poll: in level mode, a socket has unread bytes",
        "`poll`: before it waits, it asks again for level sources whose question was answered",
    );
    for _ in 0..3 {
        one(&queue, Some(A_SECOND), 1, &expected)?;
    }
    (&socket).read_exact(&mut [0; 5])?;
    let expected = expect("silence: all bytes were read", "whether `events` was cleared");
    quiet(&queue, A_MOMENT, &expected)?;
    let expected =
        expect("an event: bytes arrive", "the question that the silent poll sent: it is still pending");
    peer.write_all(b"hello")?;
    one(&queue, Some(A_SECOND), 1, &expected)?;
    let expected = expect(
        "one event: a source that was in level mode is now one-shot",
        "the mode: `poll` asks again for level sources alone",
    );
    register(&queue, &socket, 2, ONCE, &expected)?;
    one(&queue, Some(A_SECOND), 2, &expected)?;
    quiet(&queue, A_MOMENT, &expected)
}

fn directions<Q: Queue>() -> Outcome {
    let queue = Q::new()?;
    let (socket, mut peer) = pair()?;
    let expected = expect("only writable: that was asked for, and there is room", "AFD_POLL_SEND");
    register(&queue, &socket, 1, WRITABLE, &expected)?;
    is(&queue, 1, [false, true, false], &expected)?;
    let expected = expect(
        "readable and writable: both were asked for, and bytes have arrived",
        "both states in one question",
    );
    peer.write_all(b"hello")?;
    thread::sleep(A_MOMENT);
    register(&queue, &socket, 2, BOTH, &expected)?;
    is(&queue, 2, [true, true, false], &expected)?;
    let expected = expect(
        "only readable: writable was asked for before, and no longer is",
        "the pending question: it has to be replaced",
    );
    register(&queue, &socket, 3, READABLE, &expected)?;
    is(&queue, 3, [true, false, false], &expected)?;
    (&socket).read_exact(&mut [0; 5])?;

    let expected = expect(
        "readable and read_closed: the other side has shut down its writing",
        "AFD_POLL_DISCONNECT: you must ask for it, and look for it",
    );
    peer.shutdown(Shutdown::Write)?;
    is(&queue, 3, [true, false, true], &expected)?;
    let expected = expect(
        "an event: the other side has reset the connection",
        "AFD_POLL_ABORT: ask for it, always; it counts for the direction that is wanted",
    );
    (&socket).write_all(b"unread")?;
    thread::sleep(A_MOMENT);
    register(&queue, &socket, 4, Interests { mode: Mode::OneShot, ..READABLE }, &expected)?;
    said(&queue, 4, &expected)?;
    let (socket, peer) = pair()?;
    (&socket).write_all(b"unread")?;
    thread::sleep(A_MOMENT);
    register(&queue, &socket, 5, ONCE, &expected)?;
    drop(peer); // with bytes unread: a reset
    if !said(&queue, 5, &expected)?.readable {
        return expected.but("an event that is not readable");
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let expected = expect(
        "only readable: the listener has a connection to accept",
        "AFD_POLL_ACCEPT: ask for it, and look for it",
    );
    if let Err(error) = queue.register(source(&listener), 6, ONCE) {
        return expected.but(format!("`register` returned {}", describe(&error)));
    }
    let _client = Stream::connect(listener.local_addr()?)?;
    is(&queue, 6, [true, false, false], &expected)
}

fn deregister<Q: Queue>() -> Outcome {
    let queue = Q::new()?;
    let (socket, mut peer) = pair()?;
    let look = "`deregister`: nothing is wanted any more; make no event of a packet that still comes";
    let expected = expect("`deregister` of a source whose question is pending", look);
    queue.register(source(&socket), 3, READABLE)?;
    end(&queue, &socket, &expected)?;
    let expected = expect("silence, although bytes arrive: token 3 was deregistered", look);
    peer.write_all(b"hello")?;
    quiet(&queue, A_MOMENT, &expected)?;
    let expected = expect("silence: token 4 was deregistered when its answer was on its way", look);
    queue.register(source(&socket), 4, READABLE)?;
    thread::sleep(A_MOMENT);
    end(&queue, &socket, &expected)?;
    quiet(&queue, A_MOMENT, &expected)?;
    let expected = expect("silence: token 5 was deregistered after its event", look);
    queue.register(source(&socket), 5, READABLE)?;
    one(&queue, Some(A_SECOND), 5, &expected)?;
    end(&queue, &socket, &expected)?;
    quiet(&queue, A_MOMENT, &expected)?;
    let expected = expect(
        "`NotFound` from a second `deregister`",
        "the table: what was deregistered is no longer wanted",
    );
    match queue.deregister(source(&socket)) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return expected.but(describe(&error)),
        Ok(()) => return expected.but("`Ok`"),
    }
    let expected = expect(
        "token 7, and not token 6: the source was deregistered and registered again at once",
        "the packet of the old question, which is still to come: ask anew then",
    );
    queue.register(source(&socket), 6, ONCE)?;
    end(&queue, &socket, &expected)?;
    register(&queue, &socket, 7, ONCE, &expected)?;
    one(&queue, Some(A_SECOND), 7, &expected)?;
    quiet(&queue, A_MOMENT, &expected)
}

fn thousand<Q: Queue>() -> Outcome {
    let (queue, mut sockets) = checks::many::<Q>(1000)?;
    drop(queue);

    sockets.truncate(200);
    for (socket, _) in &mut sockets {
        socket.read_exact(&mut [0; 5])?;
    }
    let before = LIVE.load(Ordering::Acquire);
    let queue = Q::new()?;
    for (token, (socket, _)) in sockets.iter().enumerate() {
        let expected = expect(format!("socket {} of 200 is registered", token + 1), "`register`");
        register(&queue, socket, token, ONCE, &expected)?;
    }
    let expected = expect(
        "a queue that is dropped while 200 questions are pending gives back all their memory",
        "`Drop`: cancel them, then take packets out until every box is back",
    );
    drop(queue);
    let kept = LIVE.load(Ordering::Acquire).saturating_sub(before);
    if kept > 8 * sockets.len() {
        return expected.but(format!("{} bytes are still allocated", kept));
    }
    // What the kernel still writes to would be noticed here, if anywhere.
    for (_, peer) in &mut sockets {
        peer.write_all(b"hello")?;
    }
    Ok(())
}

const ONCE: Interests = Interests { readable: true, writable: false, mode: Mode::OneShot };

// What the checks of Windows are made of.

fn new_port<P: Port>(expected: &Expected) -> Result<P, Failure> {
    P::new().or_else(|error| expected.but(format!("`new` returned {}", describe(&error))))
}

fn start(port: &impl Port, socket: &Stream, buffer: Vec<u8>, expected: &Expected) -> Result<usize, Failure> {
    let result = port.start_read(socket, buffer);
    result.or_else(|error| expected.but(format!("`start_read` returned {}", describe(&error))))
}

fn next(port: &impl Port, timeout: Option<Duration>, expected: &Expected) -> Result<Packet, Failure> {
    match port.next_packet(timeout) {
        Ok(Some(packet)) => Ok(packet),
        Ok(None) => expected.but("no packet in time"),
        Err(error) => expected.but(format!("`next_packet` returned {}", describe(&error))),
    }
}

/// A packet of a read that has brought these bytes. Returns its buffer.
fn is_read(packet: Packet, key: usize, bytes: &[u8], expected: &Expected) -> Result<Vec<u8>, Failure> {
    match packet {
        Packet { key: found, buffer: Some(buffer), result: Ok(length) }
            if found == key && buffer.get(..length) == Some(bytes) =>
        {
            Ok(buffer)
        }
        packet => expected.but(said_packet(&packet)),
    }
}

fn said_packet(packet: &Packet) -> String {
    let words = match (&packet.buffer, &packet.result) {
        (_, Err(error)) => format!("the error \"{}\"", error),
        (None, Ok(_)) => "no buffer".to_string(),
        (Some(buffer), Ok(length)) => match buffer.get(..*length) {
            Some(bytes) => format!("{:?}", String::from_utf8_lossy(bytes)),
            None => format!("{} bytes in a buffer of {}", length, buffer.len()),
        },
    };
    format!("a packet with key {} and {}", packet.key, words)
}

/// What is said about this token: readable, writable, read_closed.
fn is(queue: &impl Queue, token: usize, words: [bool; 3], expected: &Expected) -> Outcome {
    let event = said(queue, token, expected)?;
    match [event.readable, event.writable, event.read_closed] == words {
        true => Ok(()),
        false => expected.but(list(&[event])),
    }
}

fn end(queue: &impl Queue, socket: &Stream, expected: &Expected) -> Outcome {
    let result = queue.deregister(source(socket));
    result.or_else(|error| expected.but(format!("`deregister` returned {}", describe(&error))))
}

struct RawPacket {
    key: usize,
    bytes: u32,
    address: usize,
}

/// Takes a packet out without the learner's help.
fn raw_packet(port: RawHandle, millis: u32) -> Option<RawPacket> {
    let (mut bytes, mut key, mut address) = (0, 0, 0);
    // SAFETY: the three places to write to outlive the call.
    let ok = unsafe { ffi::GetQueuedCompletionStatus(port, &mut bytes, &mut key, &mut address, millis) };
    (ok != 0).then_some(RawPacket { key, bytes, address })
}

/// Counts what is allocated, to notice what is never freed.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: the system's allocator does the work.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the promises.
        unsafe { System.dealloc(memory, layout) }
    }
}

// The learner's file declares these with records, here the addresses are bare numbers.
#[allow(clashing_extern_declarations)]
mod ffi {
    use std::os::raw::c_void;
    use std::os::windows::io::RawHandle;

    #[repr(C)]
    pub struct Question {
        pub timeout: i64,
        pub count: u32,
        pub exclusive: u32,
        pub handle: usize,
        pub events: u32,
        pub answer: i32,
    }

    #[link(name = "kernel32")]
    extern "system" {
        pub fn PostQueuedCompletionStatus(
            port: RawHandle,
            bytes: u32,
            key: usize,
            address: *mut c_void,
        ) -> i32;
        pub fn GetQueuedCompletionStatus(
            port: RawHandle,
            bytes: *mut u32,
            key: *mut usize,
            address: *mut usize,
            millis: u32,
        ) -> i32;
    }

    #[link(name = "ntdll")]
    extern "system" {
        pub fn NtDeviceIoControlFile(
            file: RawHandle,
            event: RawHandle,
            apc: *const c_void,
            context: *mut c_void,
            status: *mut usize,
            code: u32,
            input: *const Question,
            input_length: u32,
            output: *mut Question,
            output_length: u32,
        ) -> i32;
    }
}
