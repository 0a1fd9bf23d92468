//! Descriptors and clocks for the workloads.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

fn check(ret: libc::c_int) -> libc::c_int {
    assert_ne!(ret, -1, "{}", io::Error::last_os_error());
    ret
}

/// Something that can be made ready and be emptied: an eventfd, or both ends of a pipe.
pub struct Signal(OwnedFd);

impl Signal {
    pub fn eventfd() -> Signal {
        // SAFETY: the call takes no memory, and the descriptor is new.
        Signal(unsafe {
            OwnedFd::from_raw_fd(check(libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC)))
        })
    }

    /// A pipe, opened once for both ends: ten thousand of them fit a limit of twenty thousand descriptors.
    pub fn pipe() -> Signal {
        let mut ends = [-1; 2];
        // SAFETY: the kernel writes two descriptors, and both are new.
        let [end, _other] = unsafe {
            check(libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC));
            ends.map(|fd| OwnedFd::from_raw_fd(fd))
        };
        let path = format!("/proc/self/fd/{}\0", end.as_raw_fd());
        // SAFETY: `path` ends with a zero, and the descriptor is new.
        Signal(unsafe {
            let flags = libc::O_RDWR | libc::O_NONBLOCK | libc::O_CLOEXEC;
            OwnedFd::from_raw_fd(check(libc::open(path.as_ptr().cast(), flags)))
        })
    }

    /// Makes it ready: 8 bytes are what an eventfd wants.
    #[inline]
    pub fn fire(&self) {
        write(self.as_fd(), &1u64.to_ne_bytes());
    }

    /// Takes what one `fire` brought. Whether there was any.
    #[inline]
    pub fn empty(&self) -> bool {
        read(self.as_fd(), &mut [0; 8]) == Some(8)
    }
}

impl AsFd for Signal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Writes all of `bytes`.
#[inline]
pub fn write(fd: BorrowedFd<'_>, bytes: &[u8]) {
    // SAFETY: the kernel reads `bytes` alone.
    let n = unsafe { libc::write(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) };
    assert_eq!(n, bytes.len() as isize);
}

/// Reads; `None` is `EAGAIN`.
#[inline]
pub fn read(fd: BorrowedFd<'_>, bytes: &mut [u8]) -> Option<usize> {
    // SAFETY: the kernel writes at most into `bytes`.
    let n = unsafe { libc::read(fd.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len()) };
    (n >= 0).then_some(n as usize)
}

/// The processor time of this thread, or of all threads. Unlike the time on the wall it does not tell what else the machine
/// was doing.
#[derive(Clone, Copy)]
pub enum Cpu {
    Thread,
    Process,
}

impl Cpu {
    pub fn now(self) -> Duration {
        let clock = match self {
            Cpu::Thread => libc::CLOCK_THREAD_CPUTIME_ID,
            Cpu::Process => libc::CLOCK_PROCESS_CPUTIME_ID,
        };
        let mut time = MaybeUninit::<libc::timespec>::uninit();
        // SAFETY: the kernel fills `time`, or the check fails.
        let time = unsafe {
            check(libc::clock_gettime(clock, time.as_mut_ptr()));
            time.assume_init()
        };
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    }
}

impl Cpu {
    /// The processor time of the programs that this one has run.
    pub fn children() -> Duration {
        // SAFETY: the kernel fills `usage`, or the check fails.
        let usage = unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            check(libc::getrusage(libc::RUSAGE_CHILDREN, &mut usage));
            usage
        };
        [usage.ru_utime, usage.ru_stime]
            .map(|t| Duration::new(t.tv_sec as u64, t.tv_usec as u32 * 1000))
            .iter()
            .sum()
    }
}

/// Adds up short times of this thread, without what looking at the clock costs.
pub struct Stopwatch {
    sum: Duration,
    looks: u32,
    look: Duration,
}

impl Stopwatch {
    pub fn new() -> Stopwatch {
        let mut looks: Vec<_> = (0..101).map(|_| time(|| ())).collect();
        looks.sort_unstable();
        Stopwatch { sum: Duration::ZERO, looks: 0, look: looks[50] }
    }

    pub fn time(&mut self, work: impl FnOnce()) {
        self.sum += time(work);
        self.looks += 1;
    }

    pub fn nanos(&self) -> f64 {
        self.sum.saturating_sub(self.look * self.looks).as_nanos() as f64
    }
}

/// How long `work` takes of this thread.
pub fn time(work: impl FnOnce()) -> Duration {
    let start = Cpu::Thread.now();
    work();
    Cpu::Thread.now() - start
}

/// Does `work` on one processor, the last one, and so do the threads that it starts. Where that is refused, the figures
/// scatter more.
pub fn pinned(work: impl FnOnce()) {
    let size = std::mem::size_of::<libc::cpu_set_t>();
    // SAFETY: a set of zeros is an empty set; the kernel writes and reads as much of one as it is long.
    let everywhere = unsafe {
        let mut everywhere: libc::cpu_set_t = std::mem::zeroed();
        check(libc::sched_getaffinity(0, size, &mut everywhere));
        let mut last: libc::cpu_set_t = std::mem::zeroed();
        let allowed = |cpu: &usize| libc::CPU_ISSET(*cpu, &everywhere);
        libc::CPU_SET((0..libc::CPU_SETSIZE as usize).rev().find(allowed).unwrap(), &mut last);
        libc::sched_setaffinity(0, size, &last);
        everywhere
    };
    work();
    // SAFETY: as above.
    unsafe { libc::sched_setaffinity(0, size, &everywhere) };
}

/// What this was measured on.
pub fn machine() -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let rustc = std::process::Command::new("rustc").arg("--version").output();
    format!(
        "{}, {} processors, Linux {}, {}",
        model.map_or("unknown processor", |(_, model)| model),
        std::thread::available_parallelism().map_or(1, usize::from),
        read("/proc/sys/kernel/osrelease").trim(),
        rustc.map_or_else(
            |_| "unknown compiler".to_string(),
            |out| String::from_utf8_lossy(&out.stdout).trim().to_string()
        ),
    )
}

/// Allows as many descriptors as the system lets us have.
pub fn raise_descriptor_limit() {
    // SAFETY: the kernel fills, and then reads, `limit`.
    unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        check(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit));
        limit.rlim_cur = limit.rlim_max;
        check(libc::setrlimit(libc::RLIMIT_NOFILE, &limit));
    }
}

/// Closing `socket` ends its connection at once, so that its address is free again: thousands come and go here.
pub fn reset_on_close(socket: BorrowedFd<'_>) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    // SAFETY: the kernel reads `linger`, as long as it is.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            std::ptr::from_ref(&linger).cast(),
            std::mem::size_of_val(&linger) as libc::socklen_t,
        )
    });
}

/// A process that does nothing but keep open what is open now.
pub struct Holder(libc::pid_t);

impl Holder {
    pub fn new() -> Holder {
        // SAFETY: the child makes only calls that are allowed after `fork`: it asks to die with its parent, and sleeps.
        let pid = unsafe {
            let pid = check(libc::fork());
            if pid == 0 {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                loop {
                    libc::pause();
                }
            }
            pid
        };
        Holder(pid)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // SAFETY: the process is our child, and nobody else has waited for it.
        unsafe {
            libc::kill(self.0, libc::SIGKILL);
            libc::waitpid(self.0, std::ptr::null_mut(), 0);
        }
    }
}
