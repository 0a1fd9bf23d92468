//! Five kernels: their numbers, how their records lie in memory, and where each answers in its own way.

use crate::linux::{Errno, EBADF, ENOENT, EPIPE};
use std::env;
use std::sync::OnceLock;

/// One of the five, and what the program is to meet besides.
#[derive(Clone, Copy)]
pub struct System {
    pub layout: Layout,
    pub read: i32,
    pub write: i32,
    /// NetBSD before 10 and OpenBSD before 7.8 do not have it, nor has any with `no-user`.
    pub user: Option<i32>,
    pub timer: i32,
    /// See `slow.rs`.
    pub slow: bool,

    /// A receipt has the flags of its change beside `EV_ERROR`.
    pub receipts_keep_flags: bool,
    /// What becomes of a receipt for which there is no room.
    pub receipt_without_room: WithoutRoom,
    /// `EV_DELETE` and `EV_ENABLE` of a descriptor that is not open.
    pub not_open: Errno,
    /// A one-shot is asked once more before it is reported, and kept if it has changed its mind.
    pub one_shot_looks_again: bool,
    /// Each trigger of an `EVFILT_USER` gives it the `udata` of the trigger.
    pub trigger_sets_udata: bool,
    /// A trigger in the change that makes the knote counts.
    pub trigger_at_birth: bool,
    /// `EV_CLEAR` in a trigger takes it back.
    pub clear_undoes_trigger: bool,
    /// A listener must listen before it is added: what kind of socket it is is decided then.
    pub listener_from_birth: bool,
    /// More seconds than these are `EINVAL`.
    pub longest_wait: i64,

    /// `EV_ADD` to write to a pipe that nobody can read any more.
    pub add_to_broken_pipe: Option<Errno>,
    /// When the reader of a pipe goes, the knote to write is reported once more, with `EV_ONESHOT`, and is gone.
    pub broken_pipe_drops_knote: bool,
    /// A knote that waits for room in a full pipe is not told that the reader goes.
    pub full_pipe_misses_end: bool,
}

#[derive(Clone, Copy)]
pub enum Layout {
    Classic,
    FreeBsd,
    NetBsd,
}

#[derive(Clone, Copy)]
pub enum WithoutRoom {
    /// The receipt is dropped, the changes go on.
    Drop,
    /// The changes end there, without an error.
    Stop,
    /// It is written all the same, over whatever follows the list.
    Overflow,
}

const MACOS: System = System {
    layout: Layout::Classic,
    read: -1,
    write: -2,
    user: Some(-10),
    timer: -7,
    slow: false,
    receipts_keep_flags: true,
    receipt_without_room: WithoutRoom::Drop,
    not_open: ENOENT,
    one_shot_looks_again: true,
    trigger_sets_udata: true,
    trigger_at_birth: true,
    clear_undoes_trigger: false,
    listener_from_birth: false,
    longest_wait: 100_000_000,
    add_to_broken_pipe: None,
    broken_pipe_drops_knote: false,
    full_pipe_misses_end: false,
};

/// What the BSDs have in common.
const BSD: System = System {
    receipts_keep_flags: false,
    receipt_without_room: WithoutRoom::Stop,
    not_open: EBADF,
    one_shot_looks_again: false,
    clear_undoes_trigger: true,
    add_to_broken_pipe: Some(EPIPE),
    ..MACOS
};

const FREEBSD: System = System {
    layout: Layout::FreeBsd,
    user: Some(-11),
    trigger_at_birth: false,
    longest_wait: i64::MAX,
    broken_pipe_drops_knote: true,
    ..BSD
};

const NETBSD: System = System {
    layout: Layout::NetBsd,
    read: 0,
    write: 1,
    user: Some(8),
    timer: 6,
    trigger_at_birth: false,
    listener_from_birth: true,
    longest_wait: i64::MAX,
    add_to_broken_pipe: Some(EBADF),
    full_pipe_misses_end: true,
    ..BSD
};

const OPENBSD: System =
    System { listener_from_birth: true, longest_wait: 24 * 60 * 60, full_pipe_misses_end: true, ..BSD };

const DRAGONFLY: System = System {
    user: Some(-9),
    receipt_without_room: WithoutRoom::Overflow,
    trigger_sets_udata: false,
    listener_from_birth: true,
    ..BSD
};

/// What the environment variable `KQUEUE` names: a system, and perhaps more after commas, as in `netbsd,no-user,slow`.
pub fn system() -> &'static System {
    static SYSTEM: OnceLock<System> = OnceLock::new();
    SYSTEM.get_or_init(|| {
        let named = env::var("KQUEUE").unwrap_or_default();
        let mut words = named.split(',');
        let mut system = match words.next() {
            Some("macos") => MACOS,
            Some("freebsd") => FREEBSD,
            Some("netbsd") => NETBSD,
            Some("openbsd") => OPENBSD,
            Some("dragonfly") => DRAGONFLY,
            _ => panic!("KQUEUE={named:?}: macos, freebsd, netbsd, openbsd or dragonfly"),
        };
        for word in words {
            match word {
                "no-user" => system.user = None,
                "slow" => system.slow = true,
                _ => panic!("KQUEUE={named:?}: what is {word:?}?"),
            }
        }
        system
    })
}

/// A change or an event, whatever the system.
#[derive(Clone, Copy, Default)]
pub struct Record {
    pub ident: usize,
    pub filter: i32,
    pub flags: u32,
    pub fflags: u32,
    pub data: i64,
    pub udata: usize,
}

/// macOS, OpenBSD, DragonFly.
#[derive(Clone, Copy)]
#[repr(C)]
struct Classic {
    ident: usize,
    filter: i16,
    flags: u16,
    fflags: u32,
    data: i64,
    udata: usize,
}

#[derive(Clone, Copy)]
#[repr(C)]
struct FreeBsd {
    classic: Classic,
    ext: [u64; 4],
}

#[derive(Clone, Copy)]
#[repr(C)]
struct NetBsd {
    ident: usize,
    filter: u32,
    flags: u32,
    fflags: u32,
    data: i64,
    udata: usize,
}

impl From<Classic> for Record {
    fn from(Classic { ident, filter, flags, fflags, data, udata }: Classic) -> Record {
        Record { ident, filter: filter.into(), flags: flags.into(), fflags, data, udata }
    }
}

impl From<Record> for Classic {
    fn from(Record { ident, filter, flags, fflags, data, udata }: Record) -> Classic {
        Classic { ident, filter: filter as i16, flags: flags as u16, fflags, data, udata }
    }
}

impl From<NetBsd> for Record {
    fn from(NetBsd { ident, filter, flags, fflags, data, udata }: NetBsd) -> Record {
        Record { ident, filter: filter as i32, flags, fflags, data, udata }
    }
}

impl From<Record> for NetBsd {
    fn from(Record { ident, filter, flags, fflags, data, udata }: Record) -> NetBsd {
        NetBsd { ident, filter: filter as u32, flags, fflags, data, udata }
    }
}

impl Layout {
    /// # Safety
    ///
    /// `list` has at least `index + 1` records of this layout.
    pub unsafe fn read(self, list: *const u8, index: usize) -> Record {
        // SAFETY: as the caller promised.
        unsafe {
            match self {
                Layout::Classic => list.cast::<Classic>().add(index).read().into(),
                Layout::FreeBsd => list.cast::<FreeBsd>().add(index).read().classic.into(),
                Layout::NetBsd => list.cast::<NetBsd>().add(index).read().into(),
            }
        }
    }

    /// # Safety
    ///
    /// `list` has room for at least `index + 1` records of this layout.
    pub unsafe fn write(self, list: *mut u8, index: usize, record: Record) {
        // SAFETY: as the caller promised.
        unsafe {
            match self {
                Layout::Classic => list.cast::<Classic>().add(index).write(record.into()),
                Layout::FreeBsd => {
                    let record = FreeBsd { classic: record.into(), ext: [0; 4] };
                    list.cast::<FreeBsd>().add(index).write(record);
                }
                Layout::NetBsd => list.cast::<NetBsd>().add(index).write(record.into()),
            }
        }
    }
}
