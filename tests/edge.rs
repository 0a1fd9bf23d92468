//! Edge mode through every method of a stream, and through a call of the user's own: whichever says `WouldBlock`, the next change is reported, and that of
//! its own direction only.

mod util;

use minimio::{Poll, TcpStream};
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use util::*;

type Transfer = fn(&mut TcpStream) -> io::Result<usize>;

#[test]
fn every_way_to_read_notices_that_there_is_nothing_left() {
    let ways: [(&str, Transfer); 5] = [
        ("read", |stream| stream.read(&mut [0; 8])),
        ("read of a reference", |stream| (&*stream).read(&mut [0; 8])),
        ("read_vectored", |stream| {
            let (mut one, mut two) = ([0; 4], [0; 4]);
            stream.read_vectored(&mut [IoSliceMut::new(&mut one), IoSliceMut::new(&mut two)])
        }),
        ("peek", |stream| stream.peek(&mut [0; 8])),
        ("try_io", |stream| stream.try_io(READABLE, |mut stream| stream.read(&mut [0; 8]))),
    ];
    for (name, read) in ways {
        println!("{}", name);
        let mut poll = Poll::new().unwrap();
        let (mut stream, mut peer) = pair();
        poll.registry().register(&stream, 1, READABLE | WRITABLE | EDGE).unwrap();
        assert!(expect_event(&mut poll, 1).writable);
        for _ in 0..3 {
            expect_kind(read(&mut stream), ErrorKind::WouldBlock);
            expect_nothing(&mut poll);
            peer.write_all(b"hello").unwrap();
            assert!(expect_event(&mut poll, 1).readable);
            stream.read_exact(&mut [0; 5]).unwrap();
        }
    }
}

#[test]
fn every_way_to_write_notices_that_there_is_no_room_left() {
    let ways: [(&str, Transfer); 4] = [
        ("write", |stream| stream.write(&[7; 65536])),
        ("write of a reference", |stream| (&*stream).write(&[7; 65536])),
        ("write_vectored", |stream| {
            let half = [7; 32768];
            stream.write_vectored(&[IoSlice::new(&half), IoSlice::new(&half)])
        }),
        ("try_io", |stream| stream.try_io(WRITABLE, |mut stream| stream.write(&[7; 65536]))),
    ];
    for (name, write) in ways {
        println!("{}", name);
        let mut poll = Poll::new().unwrap();
        let (mut stream, mut peer) = pair();
        poll.registry().register(&stream, 1, READABLE | WRITABLE | EDGE).unwrap();
        for _ in 0..2 {
            assert!(expect_event(&mut poll, 1).writable);
            let mut sent = 0;
            let error = loop {
                match write(&mut stream) {
                    Ok(n) => sent += n,
                    Err(error) => break error,
                }
            };
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            let mut bytes = vec![0; sent];
            peer.read_exact(&mut bytes).unwrap();
        }
        assert!(expect_event(&mut poll, 1).writable);
    }
}

#[test]
fn a_call_of_ones_own_is_given_std_s_stream_and_its_result_is_returned() {
    let (stream, _peer) = pair();
    let address = stream.try_io(READABLE | WRITABLE, |stream| stream.local_addr()).unwrap();
    assert_eq!(address, stream.local_addr().unwrap());
    let refused = stream.try_io(WRITABLE, |_| Err::<(), _>(ErrorKind::AddrInUse.into()));
    expect_kind(refused, ErrorKind::AddrInUse);
    // Without a direction nobody knows what to look out for.
    let without = stream.try_io(EDGE, |_| -> io::Result<()> { panic!("it was called all the same") });
    expect_kind(without, ErrorKind::InvalidInput);
}
