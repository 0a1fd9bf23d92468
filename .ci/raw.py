"""What the checks of the raw_* examples share: one echo server, told with the calls of three systems and of this library."""

import socket
import threading

from talk import limit, receive_all, receive_exactly, reset, run, send_until_full, server

DATA = bytes(range(256)) * (1 << 14)  # 4 MB


def answers(client, word=b"hello\n"):
    client.sendall(word)
    assert receive_exactly(client, len(word)) == word


def check(at_home, home):
    """On its own system every byte comes back, whatever the others do; on another one the program names its own."""
    limit(120)
    if not at_home:
        code, out, err = run()
        assert code == 0 and not err and f" is for {home}" in out, (code, out, err)
        return
    with server() as echo:
        first = echo.connect()
        answers(first)
        echo.wait_for("client 1: welcome")

        # Many bytes, written and read at the same time, and the end of one direction only.
        bulk = echo.connect()
        sender = threading.Thread(target=lambda: (bulk.sendall(DATA), bulk.shutdown(socket.SHUT_WR)))
        sender.start()
        assert receive_all(bulk) == DATA
        sender.join()
        echo.wait_for("client 2: goodbye")

        # One that does not read holds up nobody else, and loses nothing when it reads at last.
        slow = echo.connect()
        sent = send_until_full(slow, DATA * 8)
        assert 0 < sent < len(DATA) * 8
        answers(first)
        rest = threading.Thread(target=lambda: (slow.sendall(DATA[:1000]), slow.shutdown(socket.SHUT_WR)))
        rest.start()
        assert receive_all(slow) == (DATA * 8)[:sent] + DATA[:1000]
        rest.join()

        # A connection without a word; one that is reset, with bytes on their way too.
        echo.connect().close()
        for size in (0, 10, len(DATA)):
            rude = echo.connect()
            send_until_full(rude, DATA[:size])
            reset(rude)
        answers(first)

        # Nobody reads its log any more: it goes on.
        echo.stop_reading()
        for _ in range(3):
            answers(echo.connect())
        answers(first)

        # Many at a time.
        crowd = [echo.connect() for _ in range(100)]
        for number, client in enumerate(crowd):
            client.sendall(b"I am %d\n" % number)
        for number, client in reversed(list(enumerate(crowd))):
            word = b"I am %d\n" % number
            assert receive_exactly(client, len(word)) == word
