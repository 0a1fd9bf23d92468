//! kqueue without a library: two system calls, declared by hand, and one thread that waits for five sockets.
//!
//! Run:  cargo run --example raw_kqueue
//! See:  five requests go out, 0 to 4; the server answers the last one first, a moment apart. Nobody waits for
//!       request 0: each answer is read when it comes, 4 to 0.
//!
//! The calls are described at <https://man.freebsd.org/cgi/man.cgi?kqueue>.

fn main() -> std::io::Result<()> {
    if std::env::args().len() > 1 {
        eprintln!("raw_kqueue takes no arguments");
        std::process::exit(2);
    }
    kqueue::run()
}

#[cfg(not(any(
    target_vendor = "apple",
    target_os = "freebsd",
    target_os = "netbsd",
    target_os = "openbsd",
    target_os = "dragonfly"
)))]
mod kqueue {
    pub fn run() -> std::io::Result<()> {
        println!("raw_kqueue is for macOS, iOS and the BSDs; try raw_epoll on Linux, raw_iocp on Windows");
        Ok(())
    }
}

#[cfg(any(
    target_vendor = "apple",
    target_os = "freebsd",
    target_os = "netbsd",
    target_os = "openbsd",
    target_os = "dragonfly"
))]
mod kqueue {
    use std::io::{self, ErrorKind, Read, Write};
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::os::raw::{c_int, c_void};
    use std::os::unix::io::{AsRawFd, FromRawFd, OwnedFd};
    use std::{ptr, thread, time::Duration};
    use widths::{Count, Filter, Flags, EVFILT_READ};

    const REQUESTS: usize = 5;

    // The widths differ from system to system; the compiler takes a wrong one, and the kernel's records are garbage.
    #[cfg(not(target_os = "netbsd"))]
    mod widths {
        pub type Filter = i16;
        pub type Flags = u16;
        pub type Count = std::os::raw::c_int;
        pub const EVFILT_READ: Filter = -1;
    }
    #[cfg(target_os = "netbsd")]
    mod widths {
        pub type Filter = u32;
        pub type Flags = u32;
        pub type Count = usize;
        pub const EVFILT_READ: Filter = 0;
    }
    #[cfg(any(target_vendor = "apple", target_os = "dragonfly"))]
    type Data = isize;
    #[cfg(not(any(target_vendor = "apple", target_os = "dragonfly")))]
    type Data = i64;

    /// The kernel's record of one `knote`: a request to it, or an event from it.
    #[derive(Clone, Copy)]
    #[repr(C)]
    struct Kevent {
        ident: usize,       // which descriptor
        filter: Filter,     // which news of it
        flags: Flags,       // what to do, or what happened
        fflags: u32,        // more of that for some filters; the error that ended a socket
        data: Data,         // how many bytes can be read, or an error of the request
        udata: *mut c_void, // ours; it comes back with each event
        #[cfg(target_os = "freebsd")]
        ext: [u64; 4], // since FreeBSD 12
    }

    // A wrong layout does not compile.
    #[cfg(target_pointer_width = "64")]
    const _: () = assert!(
        std::mem::size_of::<Kevent>()
            == if cfg!(target_os = "freebsd") {
                64
            } else if cfg!(target_os = "netbsd") {
                40
            } else {
                32
            }
    );

    const EV_ADD: Flags = 0x1;
    const EV_DELETE: Flags = 0x2;

    // std links the C library already, so we only have to say what is in it.
    extern "C" {
        fn kqueue() -> c_int;
        // Changes go in and events come out, in one call. NetBSD's `kevent` is an older one for old programs.
        #[cfg_attr(target_os = "netbsd", link_name = "__kevent50")]
        fn kevent(
            kq: c_int,
            changes: *const Kevent,
            change_count: Count,
            events: *mut Kevent,
            room: Count,
            timeout: *const c_void,
        ) -> c_int;
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
        let fd = check(unsafe { kqueue() })?;
        // SAFETY: the descriptor is new, so nobody else will close it.
        let queue = unsafe { OwnedFd::from_raw_fd(fd) };

        let mut streams = Vec::new();
        for number in 0..REQUESTS {
            let stream = request(address, number)?;
            // Our pointer-sized value tells the events apart: here the place in `streams`, not a pointer at all.
            change(&queue, EV_ADD, &stream, number)?;
            streams.push(stream);
        }

        let mut open = REQUESTS;
        while open > 0 {
            for event in wait(&queue)? {
                let number = event.udata as usize;
                if answer_ended(&mut streams[number], number)? {
                    change(&queue, EV_DELETE, &streams[number], 0)?;
                    open -= 1;
                }
            }
        }
        server.join().expect("the server does not panic")
    }

    /// A change of what the queue watches the stream for.
    fn record(flags: Flags, ident: usize, number: usize) -> Kevent {
        Kevent {
            ident,
            filter: EVFILT_READ,
            flags,
            fflags: 0,
            data: 0,
            udata: number as *mut c_void,
            #[cfg(target_os = "freebsd")]
            ext: [0; 4],
        }
    }

    /// Edits the list of what the queue watches.
    fn change(queue: &OwnedFd, flags: Flags, stream: &TcpStream, number: usize) -> io::Result<()> {
        let change = record(flags, stream.as_raw_fd() as usize, number);
        let (kq, no_events) = (queue.as_raw_fd(), ptr::null_mut());
        // SAFETY: one change goes in. With no room for events the kernel writes nothing and does not wait.
        check(unsafe { kevent(kq, &change, 1, no_events, 0, ptr::null()) })?;
        Ok(())
    }

    /// Sleeps until at least one source has news.
    fn wait(queue: &OwnedFd) -> io::Result<Vec<Kevent>> {
        let mut events = vec![record(0, 0, 0); 16];
        let (kq, room) = (queue.as_raw_fd(), events.len() as Count);
        // SAFETY: no changes go in, and `events` has room for `room` records. A null timeout is none.
        let ret = unsafe { kevent(kq, ptr::null(), 0, events.as_mut_ptr(), room, ptr::null()) };
        let ready = match check(ret) {
            // A signal came first, so nothing is ready yet.
            Err(error) if error.kind() == ErrorKind::Interrupted => 0,
            ready => ready? as usize,
        };
        events.truncate(ready);
        println!("kevent returned {} event(s)", ready);
        Ok(events)
    }

    fn request(address: SocketAddr, number: usize) -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(&[number as u8])?;
        // From here on a read that finds nothing says so, it does not wait: only `kevent` waits.
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
