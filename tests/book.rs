//! The two programs of the book, against a delay server of our own on loopback.

mod util;

use minimio::{Events, Interests, Poll, Registrator, TcpStream};
use std::io::{self, Read, Write};
use std::net::{self, SocketAddr};
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};
use std::time::Duration;
use util::*;

/// Answers `GET /delay/N/…` after N milliseconds, on a thread for each client, for as many clients as it is told.
fn delay_server(clients: usize) -> (SocketAddr, JoinHandle<()>) {
    let listener = listener();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        let clients: Vec<_> = (0..clients)
            .map(|_| {
                let (client, _) = listener.accept().unwrap();
                thread::spawn(move || answer(client))
            })
            .collect();
        clients.into_iter().for_each(|client| client.join().unwrap());
    });
    (address, server)
}

fn answer(mut client: net::TcpStream) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        request.push(byte[0]);
    }
    let request = String::from_utf8(request).unwrap();
    let delay = request.split('/').nth(2).unwrap().parse().unwrap();
    // The delay is what the server is for.
    thread::sleep(Duration::from_millis(delay));
    write!(client, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nafter {} ms", delay).unwrap();
}

fn request(delay: u64) -> String {
    format!(
        "GET /delay/{}/url/http://www.google.com HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        delay
    )
}

/// Reads what there is. `true` at the end of the stream, `false` when more is to come.
fn read_on(stream: &mut TcpStream, answer: &mut String) -> bool {
    loop {
        let mut buffer = [0; 1024];
        match stream.read(&mut buffer) {
            Ok(0) => return true,
            Ok(n) => answer.push_str(std::str::from_utf8(&buffer[..n]).unwrap()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            Err(error) => panic!("{}", error),
        }
    }
}

#[test]
fn one_stream() {
    const TOKEN: usize = 10;
    let (address, server) = delay_server(1);
    let mut poll = Poll::new().unwrap();
    let registrator = poll.registrator();
    let (sender, answers) = channel();

    // The reactor: waits, and tells the executor which token is ready. It ends when the loop is closed.
    let reactor = thread::spawn(move || {
        let mut events = Events::with_capacity(1024);
        loop {
            match poll.poll(&mut events, Some(20_000)) {
                Ok(0) => panic!("nothing came before the deadline"),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => break,
                Err(error) => panic!("{}", error),
            }
            for event in &events {
                sender.send(event.id()).unwrap();
            }
        }
    });

    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request(30).as_bytes()).unwrap();
    registrator.register(&stream, TOKEN, Interests::READABLE).unwrap();

    let mut answer = String::new();
    loop {
        assert_eq!(answers.recv_timeout(DEADLINE).unwrap(), TOKEN);
        if read_on(&mut stream, &mut answer) {
            break;
        }
        registrator.reregister(&stream, TOKEN, Interests::READABLE).unwrap();
    }
    assert!(answer.ends_with("after 30 ms"), "{}", answer);

    registrator.close_loop().unwrap();
    reactor.join().unwrap();
    server.join().unwrap();
}

#[test]
fn several_registrations() {
    const DELAYS: [u64; 6] = [150, 30, 120, 60, 90, 0];
    let (address, server) = delay_server(DELAYS.len());
    let mut poll = Poll::new().unwrap();
    let registrator: Registrator = poll.registrator();
    let (sender, tokens) = channel();

    let reactor = thread::spawn(move || {
        let mut events = Events::with_capacity(2);
        while poll.poll(&mut events, None).is_ok() {
            events.iter().for_each(|event| sender.send(event.id()).unwrap());
        }
    });

    let mut requests: Vec<_> = DELAYS
        .iter()
        .enumerate()
        .map(|(token, delay)| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(request(*delay).as_bytes()).unwrap();
            registrator.register(&stream, token, Interests::READABLE).unwrap();
            (stream, String::new())
        })
        .collect();

    let mut order = Vec::new();
    while order.len() < DELAYS.len() {
        let token = tokens.recv_timeout(DEADLINE).unwrap();
        let (stream, answer) = &mut requests[token];
        if read_on(stream, answer) {
            assert!(answer.ends_with(&format!("after {} ms", DELAYS[token])), "{}", answer);
            assert!(!order.contains(&token), "a finished request is silent");
            order.push(token);
        } else {
            registrator.reregister(stream, token, Interests::READABLE).unwrap();
        }
    }
    // All of them waited at the same time, so nobody waited for the one that was asked first.
    assert_ne!(order[0], 0);

    registrator.close_loop().unwrap();
    reactor.join().unwrap();
    server.join().unwrap();
}
