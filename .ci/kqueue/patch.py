"""Makes of a copy of the crate one for an imitated system that runs on Linux.

    python3 patch.py SYSTEM FOLDER

Two things are changed. What is chosen by the name of the system is chosen for SYSTEM, in every file. And the few numbers
and records of the socket calls, which are Linux's after all, become those of Linux: HOST, below. What stands there must
be found exactly once in its file, or nothing is built.

To extend it: a constant, type or field new in `mod ffi` of src/macos.rs that a call of Linux is given gets a line in HOST, the old
text and the new. A number of the host in a test (a signal, a socket option, chosen by `target_os = "linux"`) gets a
line in NUMBERS.
"""

import re
import sys
from pathlib import Path

# How each system is named in a `cfg`.
NAMES = {
    "macos": ['target_vendor = "apple"', 'target_os = "macos"'],
    "freebsd": ['target_os = "freebsd"'],
    "netbsd": ['target_os = "netbsd"'],
    "openbsd": ['target_os = "openbsd"'],
    "dragonfly": ['target_os = "dragonfly"'],
}
OTHERS = ['target_os = "linux"', 'target_os = "android"', 'target_os = "ios"']

# Where macOS has no such flag the crate calls `fcntl`, and does so here too.
FLAG = "if SYSTEM == 0 {{ 0 }} else {{ {} }}"
HOST = {
    "src/macos.rs": [
        (r"(pub const AF_INET6: c_int =) .*;", r"\1 10;"),
        (r"(pub const SOCK_CLOEXEC: c_int =) .*;", r"\1 " + FLAG.format("0o200_0000") + ";"),
        (r"(pub const SOCK_NONBLOCK: c_int =) .*;", r"\1 " + FLAG.format("0o4000") + ";"),
        # On all of them: Linux has no option that forbids the signal once and for all.
        (r"(pub const MSG_NOSIGNAL: c_int =) .*;", r"\1 0x4000;"),
        (r"(pub const O_NONBLOCK: c_int =) .*;", r"\1 0o4000;"),
        (r"(pub const SOL_SOCKET: c_int =) .*;", r"\1 1;"),
        (r"(pub const EINPROGRESS: i32 =) .*;", r"\1 115;"),
        (r"pub msg_iovlen: c_int,", "pub msg_iovlen: usize,"),
        (r"pub msg_controllen: socklen_t,", "pub msg_controllen: usize,"),
        # The family has both bytes.
        (r"sin_len: size_of::<Self>\(\) as u8,\s*sin_family: .*,", "sin_len: ffi::AF_INET as u8, sin_family: 0,"),
        (r"sin6_len: size_of::<Self>\(\) as u8,\s*sin6_family: .*,", "sin6_len: ffi::AF_INET6 as u8, sin6_family: 0,"),
        # Linux sends the signal to the thread, as most of them do.
        (r"(pub const F_SETNOSIGPIPE: c_int =) .*;", r"\1 0;"),
        (r"(pub const O_CLOEXEC: c_int =) .*;", r"\1 0o200_0000;"),
        # Of Linux, which has the flag, but does not give what is accepted the listener's.
        (
            r"unsafe \{ accept\(fd, address, length\) \}",
            """extern "C" {
                fn accept4(fd: c_int, address: *mut c_void, length: *mut socklen_t, flags: c_int) -> c_int;
            }
            unsafe { accept4(fd, address, length, 0o4000) }""",
        ),
    ],
    "src/unix/pipe.rs": [
        (r"(const FIRST: c_int =) if cfg[^;]*;", r"\1 0;"),
    ],
    "src/unix.rs": [
        (r"c_int::from\(v4\.sin_family\)", "c_int::from(v4.sin_len)"),
    ],
}

# NetBSD's C library has newer versions of old functions under names of their own. Here only the imitation has one.
RENAMED = r'#\[cfg_attr\(target_os = "netbsd", link_name = "__(?!kevent50)\w+"\)\]'

# Numbers and types of the host in tests and examples: text from which on the next `target_os = "linux"` is true.
NUMBERS = {
    "examples/workshop/steps_unix.rs": ["const RLIMIT_NOFILE: c_int ="],
    "tests/util/mod.rs": ["const FEW: bool ="],
    "tests/sigpipe.rs": ["const SIG_BLOCK: c_int ="],
    "tests/unix.rs": ["const SIGUSR1: c_int =", "const SIGUSR2: c_int ="],
    "tests/sigpipe.rs": ["const SIG_BLOCK: c_int ="],
    "tests/limit.rs": ["use util::*;\n", "#[cfg(not(any(", "const RLIMIT_NOFILE: c_int ="],
}


def replace_once(file, text, old, new):
    text, count = re.subn(old, new, text)
    if count != 1:
        sys.exit(f"{file}: {count} times, not once: {old}\nThe crate has changed: see {__file__}.")
    return text


def main():
    system, folder = sys.argv[1], Path(sys.argv[2])
    false = OTHERS + [name for names in NAMES.values() for name in names if name not in NAMES[system]]
    for path in sorted(folder.rglob("*.rs")):
        file = str(path.relative_to(folder))
        if file.startswith("target/"):
            continue
        text = path.read_text()
        for place in NUMBERS.get(file, []):
            pattern = "(" + re.escape(place) + r'[^;]*?)target_os = "linux"'
            text = replace_once(file, text, pattern, r"\1all()")
        for old, new in HOST.get(file, []):
            text = replace_once(file, text, old, new)
        text = re.sub(RENAMED, "", text)
        for name in NAMES[system]:
            text = text.replace(name, "all()")
        for name in false:
            text = text.replace(name, "any()")
        path.write_text(text)


main()
