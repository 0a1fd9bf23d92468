"""What the checks in examples.d share: start a built example, talk to it, and never hang.

A check is called as  .ci/examples.d/NAME [RUNNER...] PROGRAM  and fails by an exception. RUNNER is put in front of the
program to run it on this machine, wine for instance.
"""

import contextlib
import os
import re
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

COMMAND = sys.argv[1:]
RUNNER = COMMAND[:-1]
if not COMMAND:
    sys.exit(f"usage: {sys.argv[0]} [RUNNER...] PROGRAM")

_started = []


def limit(seconds):
    """Ends this check, as a failure, when it takes longer."""

    def give_up():
        print(f"{sys.argv[0]}: not done after {seconds} s", file=sys.stderr, flush=True)
        for process in _started:
            _kill(process)
        os._exit(1)

    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()


def _kill(process):
    # The runner may have started further processes: end its whole group.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def start(*arguments, **options):
    options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    process = subprocess.Popen([*COMMAND, *arguments], start_new_session=True, **options)
    _started.append(process)
    return process


def run(*arguments):
    """Runs the program to its end: its exit code, standard output and standard error."""
    process = start(*arguments)
    out, err = process.communicate()
    return process.returncode, out.decode(), err.decode()


def refuses(*arguments):
    """The program ends with a message and exit code 2."""
    code, out, err = run(*arguments)
    assert code == 2, (arguments, code, out, err)
    assert err.strip() and "panicked" not in err, (arguments, err)


def ends_with_its_reader():
    """A program that nobody reads any more is over, without a panic. What it cannot print is said, and is a failure."""
    process = start()
    assert process.stdout.readline()
    process.stdout.close()
    err = process.stderr.read().decode()
    code = process.wait()
    # Wine says of such a pipe what Windows says of one that was disconnected (233, not 232). Then it is an error.
    is_wine = RUNNER and code == 1 and "os error 233" in err and "panicked" not in err
    assert is_wine or (code == 0 and not err), (code, err)
    if not RUNNER:
        with open("/dev/full", "wb") as full:
            process = start(stdout=full)
            err = process.communicate()[1].decode()
        assert process.returncode == 1 and "cannot print" in err and "panicked" not in err, (process.returncode, err)


class Server:
    """A running server example. Everything it prints is kept in `lines`."""

    def __init__(self, process):
        self.process = process
        self.lines = []
        self.errors = []
        self.is_over = False
        self._news = threading.Condition()
        self._threads = [
            threading.Thread(target=self._collect, args=stream, daemon=True)
            for stream in [(process.stdout, self.lines), (process.stderr, self.errors)]
        ]
        for thread in self._threads:
            thread.start()

    def _collect(self, stream, lines):
        for line in stream:
            with self._news:
                lines.append(line.decode().rstrip())
                self._news.notify_all()
        with self._news:
            self._news.notify_all()

    def wait_for(self, pattern, seconds=30):
        """Waits for a line and returns its match."""
        until = time.monotonic() + seconds
        with self._news:
            while True:
                for line in self.lines:
                    match = re.search(pattern, line)
                    if match:
                        return match
                left = until - time.monotonic()
                if left <= 0 or not self._threads[0].is_alive():
                    raise AssertionError((f"no line like {pattern}", self.lines[-20:], self.errors))
                self._news.wait(left)

    def connect(self):
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def stop_reading(self):
        """Nobody reads what it prints any more, from the second line from now on."""
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, self.process.stdout.fileno())
        os.close(nothing)

    def ends_by_ctrl_c(self, word):
        """Ctrl-C ends it, with a word and status 0. Wine passes the signal on as the console's Ctrl-C."""
        self.process.send_signal(signal.SIGINT)
        self.wait_for(word)
        assert self.process.wait(30) == 0 and not self.errors, (self.process.returncode, self.errors)
        self.is_over = True

    def cpu_seconds(self):
        """The processor time it has used; Linux only."""
        with open(f"/proc/{self.process.pid}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self):
        """The memory it has in use, in KiB; Linux only."""
        with open(f"/proc/{self.process.pid}/status") as status:
            return int(re.search(r"VmRSS:\s*(\d+) kB", status.read())[1])


@contextlib.contextmanager
def server(*arguments, descriptors=None, **options):
    """Starts the program on a free port. It must run until it is told to end, without a panic."""
    if descriptors:
        options["preexec_fn"] = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
    process = start("127.0.0.1:0", *arguments, **options)
    try:
        running = Server(process)
        running.port = int(running.wait_for(r"listening on .*:(\d+)")[1])
        yield running
        assert running.is_over or process.poll() is None, ("it ended", process.returncode, running.lines[-20:], running.errors)
        assert not any("panicked" in line for line in running.errors), running.errors
    finally:
        _kill(process)
        process.wait()


def receive_exactly(connection, length):
    data = bytearray()
    while len(data) < length:
        part = connection.recv(min(length - len(data), 1 << 16))
        assert part, f"the end after {len(data)} of {length} bytes"
        data += part
    return bytes(data)


def receive_all(connection):
    """Everything up to the end of the stream."""
    data = bytearray()
    while True:
        part = connection.recv(1 << 16)
        if not part:
            return bytes(data)
        data += part


def receive_until(connection, end):
    """Everything up to the first `end`, and no byte more."""
    data = b""
    while not data.endswith(end):
        next_bytes = connection.recv(1 << 16, socket.MSG_PEEK)
        assert next_bytes, f"the end after {data!r}"
        found = (data + next_bytes).find(end)
        wanted = len(next_bytes) if found < 0 else found + len(end) - len(data)
        data += connection.recv(wanted)
    return data


def send_until_full(connection, data, quiet=0.5):
    """Sends until the other side has taken nothing for `quiet` seconds. Returns how much was sent."""
    connection.settimeout(quiet)
    sent = 0
    try:
        while sent < len(data):
            sent += connection.send(data[sent : sent + (1 << 16)])
    except TimeoutError:
        pass
    connection.settimeout(30)
    return sent


def reset(connection):
    """Closes without goodbye: the other side gets a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def check_common_refusals(*others):
    """What every server example says no to: wrong arguments, a bad address, a port in use. `others`: the rest."""
    refuses("--nonsense", *others)
    refuses("nonsense", *others)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        refuses(f"127.0.0.1:{taken.getsockname()[1]}", *others)
