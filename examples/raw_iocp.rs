//! A completion port without a library, in completion style: one thread that reads from five sockets.
//!
//! epoll and kqueue say when a read would not wait; then you read. A completion port says when a read is done: you
//! lend the kernel a buffer with each request and get it back filled.
//!
//! Run:  cargo run --example raw_iocp
//! See:  five requests go out, 0 to 4, and a read is started on each socket at once; the server answers the last one
//!       first, a moment apart. Nobody waits for request 0: the buffers come back in the order they are filled, 4 to 0.
//!
//! The calls are described at <https://learn.microsoft.com/en-us/windows/win32/fileio/i-o-completion-ports>.

fn main() -> std::io::Result<()> {
    if std::env::args().len() > 1 {
        eprintln!("raw_iocp takes no arguments");
        std::process::exit(2);
    }
    iocp::run()
}

#[cfg(not(windows))]
mod iocp {
    pub fn run() -> std::io::Result<()> {
        println!("raw_iocp is for Windows; try raw_epoll on Linux, raw_kqueue on macOS and the BSDs");
        Ok(())
    }
}

#[cfg(windows)]
mod iocp {
    use std::io::{self, Read, Write};
    use std::mem::size_of;
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::os::raw::c_void;
    use std::os::windows::io::{AsRawHandle, AsRawSocket, FromRawHandle, OwnedHandle};
    use std::{ptr, thread, time::Duration};

    const REQUESTS: usize = 5;
    const BUFFER: usize = 64;

    type Handle = *mut c_void;

    /// What the kernel notes down about one request in flight. All zero is right for a socket.
    #[derive(Default)]
    #[repr(C)]
    struct Overlapped {
        internal: usize,
        internal_high: usize,
        offset: [u32; 2],
        event: usize,
    }

    #[repr(C)]
    struct WsaBuf {
        len: u32,
        buf: *mut u8,
    }

    // A wrong layout does not compile.
    const _: () = assert!(size_of::<Overlapped>() == 3 * size_of::<usize>() + 8);
    const _: () = assert!(size_of::<WsaBuf>() == 2 * size_of::<usize>());

    const INVALID_HANDLE_VALUE: Handle = -1isize as Handle;
    const INFINITE: u32 = u32::MAX;
    const WSA_IO_PENDING: i32 = 997;

    #[link(name = "kernel32")]
    extern "system" {
        fn CreateIoCompletionPort(file: Handle, port: Handle, key: usize, threads: u32) -> Handle;
        // For one request; `GetQueuedCompletionStatusEx` fetches many at once.
        fn GetQueuedCompletionStatus(
            port: Handle,
            bytes: *mut u32,
            key: *mut usize,
            overlapped: *mut *mut Overlapped,
            milliseconds: u32,
        ) -> i32;
    }

    #[link(name = "ws2_32")]
    extern "system" {
        fn WSARecv(
            socket: usize,
            buffers: *const WsaBuf,
            count: u32,
            received: *mut u32,
            flags: *mut u32,
            overlapped: *mut Overlapped,
            callback: *const c_void,
        ) -> i32;
    }

    /// A read, with all that the kernel may touch while it is in flight. `overlapped` comes first, so the address of
    /// the one is the address of the other.
    #[repr(C)]
    struct Request {
        overlapped: Overlapped,
        buffer: [u8; BUFFER],
        stream: TcpStream,
    }

    /// A read that is done, back in our hands.
    struct Done {
        number: usize,
        request: Box<Request>,
        bytes: usize,
    }

    pub fn run() -> io::Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let server = thread::spawn(move || serve(listener));

        // Without a file the call makes a new port.
        let port = completion_port(INVALID_HANDLE_VALUE, ptr::null_mut(), 0)?;
        // SAFETY: the handle is new, so nobody else will close it.
        let port = unsafe { OwnedHandle::from_raw_handle(port) };

        for number in 0..REQUESTS {
            let stream = send_request(address, number)?;
            // With a file, the port will report each request that ends on that file, and our key along with it.
            let socket = stream.as_raw_socket() as Handle;
            completion_port(socket, port.as_raw_handle(), number)?;
            start_read(stream)?;
        }

        let mut open = REQUESTS;
        while open > 0 {
            let done = wait(&port)?;
            if done.bytes == 0 {
                println!("request {}: end of the stream", done.number);
                open -= 1;
            } else {
                let text = String::from_utf8_lossy(&done.request.buffer[..done.bytes]);
                println!("request {}: {:?}", done.number, text);
                start_read(done.request.stream)?;
            }
        }
        server.join().expect("the server does not panic")
    }

    fn completion_port(file: Handle, port: Handle, key: usize) -> io::Result<Handle> {
        // SAFETY: the call takes no memory.
        let port = unsafe { CreateIoCompletionPort(file, port, key, 0) };
        if port.is_null() {
            return Err(io::Error::last_os_error());
        }
        Ok(port)
    }

    /// Asks for the next bytes and returns at once. From here on the request is lent to the kernel, which may write
    /// into the buffer at any time: nobody may look at it, move it or free it until `wait` has it back.
    fn start_read(stream: TcpStream) -> io::Result<()> {
        let socket = stream.as_raw_socket() as usize;
        let request = Box::into_raw(Box::new(Request {
            overlapped: Overlapped::default(),
            buffer: [0; BUFFER],
            stream,
        }));
        // SAFETY: `request` points to a whole request. Only an address is taken, nothing is read.
        let buf = unsafe { ptr::addr_of_mut!((*request).buffer) }.cast();
        let len = BUFFER as u32;
        let lent = WsaBuf { len, buf };
        let mut flags = 0;
        let (none, overlapped) = (ptr::null_mut(), request.cast());
        // SAFETY: the request stays where it is until its one packet has come; the rest is copied before the call returns.
        let ret = unsafe { WSARecv(socket, &lent, 1, none, &mut flags, overlapped, ptr::null()) };
        let error = io::Error::last_os_error();
        // "Pending" is the usual answer. 0 says that the bytes were there already; the packet comes all the same.
        if ret == 0 || error.raw_os_error() == Some(WSA_IO_PENDING) {
            return Ok(());
        }
        // SAFETY: the kernel has refused the request, so it is ours again and no packet will come.
        drop(unsafe { Box::from_raw(request) });
        Err(error)
    }

    /// Sleeps until a request is done, and takes it back.
    fn wait(port: &OwnedHandle) -> io::Result<Done> {
        let port = port.as_raw_handle();
        let (mut bytes, mut number, mut done) = (0, 0, ptr::null_mut());
        // SAFETY: the call fills three variables that outlive it.
        let ok = unsafe { GetQueuedCompletionStatus(port, &mut bytes, &mut number, &mut done, INFINITE) };
        let error = io::Error::last_os_error();
        if done.is_null() {
            return Err(error); // the wait itself failed
        }
        // SAFETY: `start_read` made the request by `Box::into_raw`, and with this, its one packet, the kernel is done with it.
        let request = unsafe { Box::from_raw(done.cast::<Request>()) };
        if ok == 0 {
            return Err(error); // the read failed
        }
        println!("GetQueuedCompletionStatus returned key {}, {} byte(s)", number, bytes);
        let bytes = bytes as usize;
        Ok(Done { number, request, bytes })
    }

    fn send_request(address: SocketAddr, number: usize) -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(&[number as u8])?;
        println!("request {} sent", number);
        Ok(stream)
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
