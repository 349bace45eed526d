"""The socket between the servers' daemon and its clients: where it is, and JSON lines over it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAME = "servers.sock"
LONGEST = 100  # bytes of a path in sockaddr_un, which is 104 or 108 with its end mark
Message = dict[str, Any]


@contextlib.contextmanager
def address(folder: Path) -> Iterator[str]:
    """The socket's path in a folder, in a form short enough to bind or connect to while the block runs."""
    path = folder / NAME
    if len(os.fsencode(path)) <= LONGEST or sys.platform != "linux":
        yield str(path)
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{NAME}"
    finally:
        os.close(descriptor)


def listen(folder: Path) -> socket.socket:
    """A listening socket in place of whatever an ended daemon left there. Only for the lock's holder."""
    (folder / NAME).unlink(missing_ok=True)
    server = socket.socket(socket.AF_UNIX)
    with address(folder) as path:
        server.bind(path)
    server.listen(64)
    return server


def encode(message: Message) -> bytes:
    """One message as a line."""
    return json.dumps(message).encode() + b"\n"


class Channel:
    """A client's connection to a daemon. It keeps the servers alive until `close`."""

    def __init__(self, folder: Path) -> None:
        """Connect to the socket in a folder. Raises OSError when no daemon listens."""
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            with address(folder) as path:
                self._socket.connect(path)
        except BaseException:
            self._socket.close()
            raise
        self._reader = self._socket.makefile("rb")

    def ask(self, request: Message, timeout_s: float) -> Message:
        """The answer to a request. Raises OSError when the daemon goes away or takes too long."""
        self._socket.settimeout(timeout_s)
        self._socket.sendall(encode(request))
        line = self._reader.readline()
        if not line.endswith(b"\n"):
            raise ConnectionResetError("the servers' daemon went away")
        answer: Message = json.loads(line)
        return answer

    def close(self, timeout_s: float = 0) -> None:
        """Leave. With a time-out, wait that long for the daemon to end if this was the last client."""
        with contextlib.suppress(OSError):
            if timeout_s:
                self._socket.settimeout(timeout_s)
                self._socket.shutdown(socket.SHUT_WR)
                self._socket.recv(1)
        self._reader.close()
        self._socket.close()
