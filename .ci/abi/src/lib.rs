//! Compares the `ffi` module of the target's platform file with what `libc` or `windows-sys` declare. There is nothing
//! to run: a constant, a size, an offset or a signature that differs does not compile. The comparisons are written by
//! `build.rs`, one for each item it finds, so that none can be forgotten.

#![no_std]

/// The module under test.
#[allow(dead_code, non_camel_case_types, non_snake_case, non_upper_case_globals)]
mod ffi {
    include!(concat!(env!("OUT_DIR"), "/ffi.rs"));
}

/// What it is compared with.
#[cfg(unix)]
mod other {
    pub use libc::*;
}
#[cfg(windows)]
mod other {
    pub use windows_sys::Wdk::Foundation::*;
    pub use windows_sys::Wdk::Storage::FileSystem::*;
    pub use windows_sys::Wdk::System::IO::*;
    pub use windows_sys::Win32::Foundation::*;
    pub use windows_sys::Win32::Networking::WinSock::*;
    pub use windows_sys::Win32::Storage::FileSystem::*;
    pub use windows_sys::Win32::System::Pipes::*;
    pub use windows_sys::Win32::System::Threading::*;
    pub use windows_sys::Win32::System::WindowsProgramming::*;
    pub use windows_sys::Win32::System::IO::*;
}

/// What the platform files take from `std::os::windows::io`.
#[cfg(windows)]
mod windows_io {
    pub type RawHandle = *mut core::ffi::c_void;
    #[cfg(target_pointer_width = "64")]
    pub type RawSocket = u64;
    #[cfg(target_pointer_width = "32")]
    pub type RawSocket = u32;
}

/// How a value travels: its size and whether it is a signed number, an unsigned one, or a pointer.
trait Class {
    const CLASS: u16;
}

macro_rules! classes {
    ($kind:literal: $($ty:ty),*) => {
        $(impl Class for $ty {
            const CLASS: u16 = (size_of::<$ty>() as u16) << 8 | $kind;
        })*
    };
}
classes!(1: i8, i16, i32, i64, isize);
classes!(2: u8, u16, u32, u64, usize);

const POINTER: u16 = (size_of::<usize>() as u16) << 8 | 3;

impl<T> Class for *const T {
    const CLASS: u16 = POINTER;
}
impl<T> Class for *mut T {
    const CLASS: u16 = POINTER;
}
/// A callback that may be null.
impl<T> Class for Option<T> {
    const CLASS: u16 = POINTER;
}

/// The classes of what a function returns and takes, and whether it takes more.
type Signature = [u16; 14];

trait Function: Copy {
    const SIGNATURE: Signature;
}

const fn signature<F: Function>(_: F) -> Signature {
    F::SIGNATURE
}

const fn same(ours: Signature, other: Signature) -> bool {
    let mut i = 0;
    while i < ours.len() {
        if ours[i] != other[i] {
            return false;
        }
        i += 1;
    }
    true
}

const fn list(classes: &[u16]) -> Signature {
    let mut list = [0; 14];
    let mut i = 0;
    while i < classes.len() {
        list[i] = classes[i];
        i += 1;
    }
    list
}

macro_rules! functions {
    ($($parameter:ident)*) => {
        impl<R: Class, $($parameter: Class),*> Function for unsafe extern "C" fn($($parameter),*) -> R {
            const SIGNATURE: Signature = list(&[R::CLASS, $($parameter::CLASS),*]);
        }
        impl<R: Class, $($parameter: Class),*> Function for unsafe extern "system" fn($($parameter),*) -> R {
            const SIGNATURE: Signature = list(&[R::CLASS, $($parameter::CLASS),*]);
        }
    };
}
functions!();
functions!(A);
functions!(A B);
functions!(A B C);
functions!(A B C D);
functions!(A B C D E);
functions!(A B C D E F);
functions!(A B C D E F G);
functions!(A B C D E F G H);
functions!(A B C D E F G H I);
functions!(A B C D E F G H I J);
functions!(A B C D E F G H I J K);

macro_rules! variadic_functions {
    ($($parameter:ident)*) => {
        impl<R: Class, $($parameter: Class),*> Function for unsafe extern "C" fn($($parameter),*, ...) -> R {
            const SIGNATURE: Signature = list(&[R::CLASS, $($parameter::CLASS),*, u16::MAX]);
        }
    };
}
variadic_functions!(A);
variadic_functions!(A B);

const fn size_behind<T>(_: *const T) -> usize {
    size_of::<T>()
}

/// The size of a field, also in a packed record or a union.
macro_rules! size_of_field {
    ($record:ty, $($field:tt)+) => {{
        let record = core::mem::MaybeUninit::<$record>::uninit();
        // SAFETY: only the place is named, within a record that is there.
        size_behind(unsafe { core::ptr::addr_of!((*record.as_ptr()).$($field)+) })
    }};
}

/// Whether two numbers are the same. Some have another sign in the other crate, with the same bits.
macro_rules! same_number {
    ($ours:expr, $other:expr) => {{
        let (ours, other) = ($ours as i128, $other as i128);
        let bits = 8 * size_of_val(&$ours) as u32;
        ours == other || size_of_val(&$ours) == size_of_val(&$other) && (ours ^ other) << (128 - bits) == 0
    }};
}

include!(concat!(env!("OUT_DIR"), "/comparisons.rs"));
