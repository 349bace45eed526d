"""Unix sockets of long-running processes and their clients: JSON lines, at paths of any length."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LONGEST = 100  # bytes of a path in sockaddr_un, which is 104 or 108 with its end mark
Message = dict[str, Any]


@contextlib.contextmanager
def address(path: Path) -> Iterator[str]:
    """The socket's path in a form short enough to bind or connect to while the block runs."""
    if len(os.fsencode(path)) <= LONGEST or sys.platform != "linux":
        yield str(path)
        return
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{path.name}"
    finally:
        os.close(descriptor)


def listen(path: Path) -> socket.socket:
    """A listening socket in place of whatever an ended process left there. Only for the lock's holder."""
    path.unlink(missing_ok=True)
    server = socket.socket(socket.AF_UNIX)
    with address(path) as short:
        server.bind(short)
    server.listen(64)
    return server


def encode(message: Message) -> bytes:
    """One message as a line."""
    return json.dumps(message).encode() + b"\n"


class Channel:
    """A client's connection, open until `close`."""

    def __init__(self, path: Path) -> None:
        """Connect to a socket. Raises OSError when nobody listens."""
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            with address(path) as short:
                self._socket.connect(short)
        except BaseException:
            self._socket.close()
            raise
        self._reader = self._socket.makefile("rb")

    def ask(self, request: Message, timeout_s: float) -> Message:
        """The answer to a request. Raises OSError when the other side goes away or takes too long."""
        self._socket.settimeout(timeout_s)
        self._socket.sendall(encode(request))
        line = self._reader.readline()
        if not line.endswith(b"\n"):
            raise ConnectionResetError("the other side went away")
        answer: Message = json.loads(line)
        return answer

    def close(self, timeout_s: float = 0) -> None:
        """Leave. With a time-out, wait that long for the other side to close too."""
        with contextlib.suppress(OSError):
            if timeout_s:
                self._socket.settimeout(timeout_s)
                self._socket.shutdown(socket.SHUT_WR)
                self._socket.recv(1)
        self._reader.close()
        self._socket.close()
