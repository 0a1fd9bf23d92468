//! epoll without a library: three system calls, declared by hand, and one thread that waits for five sockets.
//!
//! Run:  cargo run --example raw_epoll
//! See:  five requests go out, 0 to 4; the server answers the last one first, a moment apart. Nobody waits for
//!       request 0: each answer is read when it comes, 4 to 0. On Linux, `strace` in front shows the same calls.
//!
//! The calls are described at <https://man7.org/linux/man-pages/man7/epoll.7.html>.

fn main() -> std::io::Result<()> {
    if std::env::args().len() > 1 {
        eprintln!("raw_epoll takes no arguments");
        std::process::exit(2);
    }
    epoll::run()
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod epoll {
    pub fn run() -> std::io::Result<()> {
        println!(
            "raw_epoll is for Linux and Android; try raw_kqueue on macOS and the BSDs, raw_iocp on Windows"
        );
        Ok(())
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod epoll {
    use std::io::{self, ErrorKind, Read, Write};
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::os::raw::c_int;
    use std::os::unix::io::{AsRawFd, FromRawFd, OwnedFd};
    use std::{thread, time::Duration};

    const REQUESTS: usize = 5;

    /// The kernel's record: what to watch for, or what happened, and 64 bits of ours that it gives back.
    /// On x86-64 it is packed, so that it is the same for 32-bit programs.
    #[derive(Clone, Copy)]
    #[cfg_attr(target_arch = "x86_64", repr(C, packed))]
    #[cfg_attr(not(target_arch = "x86_64"), repr(C))]
    struct EpollEvent {
        events: u32,
        data: u64,
    }

    const EPOLL_CLOEXEC: c_int = 0x80000; // O_CLOEXEC, on every processor but SPARC
    const EPOLL_CTL_ADD: c_int = 1;
    const EPOLL_CTL_DEL: c_int = 2;
    const EPOLLIN: u32 = 1;

    // std links the C library already, so we only have to say what is in it.
    extern "C" {
        fn epoll_create1(flags: c_int) -> c_int;
        fn epoll_ctl(epfd: c_int, op: c_int, fd: c_int, event: *mut EpollEvent) -> c_int;
        fn epoll_wait(epfd: c_int, events: *mut EpollEvent, max: c_int, timeout: c_int) -> c_int;
    }

    /// System calls return -1 and leave the reason in `errno`.
    fn check(ret: c_int) -> io::Result<c_int> {
        if ret == -1 {
            Err(io::Error::last_os_error())
        } else {
            Ok(ret)
        }
    }

    pub fn run() -> io::Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let server = thread::spawn(move || serve(listener));

        // SAFETY: the call takes no memory.
        let fd = check(unsafe { epoll_create1(EPOLL_CLOEXEC) })?;
        // SAFETY: the descriptor is new, so nobody else will close it.
        let queue = unsafe { OwnedFd::from_raw_fd(fd) };

        let mut streams = Vec::new();
        for number in 0..REQUESTS {
            let stream = request(address, number)?;
            // Our 64 bits tell the events apart: here the place in `streams`.
            control(&queue, EPOLL_CTL_ADD, &stream, number as u64)?;
            streams.push(stream);
        }

        let mut open = REQUESTS;
        while open > 0 {
            for event in wait(&queue)? {
                let number = event.data as usize;
                if answer_ended(&mut streams[number], number)? {
                    control(&queue, EPOLL_CTL_DEL, &streams[number], 0)?;
                    open -= 1;
                }
            }
        }
        server.join().expect("the server does not panic")
    }

    /// Edits the list of what the queue watches.
    fn control(queue: &OwnedFd, op: c_int, stream: &TcpStream, data: u64) -> io::Result<()> {
        let events = EPOLLIN;
        let mut event = EpollEvent { events, data };
        // SAFETY: `event` is a whole record, and the kernel is done with it when the call returns.
        check(unsafe { epoll_ctl(queue.as_raw_fd(), op, stream.as_raw_fd(), &mut event) })?;
        Ok(())
    }

    /// Sleeps until at least one source has news.
    fn wait(queue: &OwnedFd) -> io::Result<Vec<EpollEvent>> {
        let mut events = vec![EpollEvent { events: 0, data: 0 }; 16];
        let room = events.len() as c_int;
        // SAFETY: `events` has room for `room` records. A timeout of -1 is none.
        let ret = unsafe { epoll_wait(queue.as_raw_fd(), events.as_mut_ptr(), room, -1) };
        let ready = match check(ret) {
            // A signal came first, so nothing is ready yet.
            Err(error) if error.kind() == ErrorKind::Interrupted => 0,
            ready => ready? as usize,
        };
        events.truncate(ready);
        println!("epoll_wait returned {} event(s)", ready);
        Ok(events)
    }

    fn request(address: SocketAddr, number: usize) -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(&[number as u8])?;
        // From here on a read that finds nothing says so, it does not wait: only `epoll_wait` waits.
        stream.set_nonblocking(true)?;
        println!("request {} sent", number);
        Ok(stream)
    }

    /// Reads what has come. Ready means only that a read will not block, it may as well tell of the end.
    fn answer_ended(stream: &mut TcpStream, number: usize) -> io::Result<bool> {
        let mut buffer = [0; 64];
        match stream.read(&mut buffer) {
            Ok(0) => {
                println!("request {}: end of the stream", number);
                Ok(true)
            }
            Ok(n) => {
                let text = String::from_utf8_lossy(&buffer[..n]);
                println!("request {}: {:?}", number, text);
                Ok(false)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The other side: takes all requests, then answers the last one first.
    fn serve(listener: TcpListener) -> io::Result<()> {
        let mut clients = Vec::new();
        for _ in 0..REQUESTS {
            let (mut stream, _) = listener.accept()?;
            let mut number = [0];
            stream.read_exact(&mut number)?;
            clients.push((stream, number[0]));
        }
        while let Some((mut stream, number)) = clients.pop() {
            thread::sleep(Duration::from_millis(100));
            stream.write_all(format!("answer {}", number).as_bytes())?;
        }
        Ok(())
    }
}
