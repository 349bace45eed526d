"""Free ports on the loopback interface."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable

HOST = "127.0.0.1"


def free_ports(count: int, offset: int = 0) -> tuple[int, ...]:
    """So many ports that nobody listens on; with an offset, port + offset is free for each as well.

    Somebody else can take one before its server does: a start that fails looks at `taken`.
    """
    found: list[int] = []
    with contextlib.ExitStack() as held:
        while len(found) < count:
            port = held.enter_context(_bound(0)).getsockname()[1]
            try:
                held.enter_context(_bound(port + offset) if offset else contextlib.nullcontext())
            except (OSError, OverflowError):  # taken, or above 65535
                continue
            found.append(port)
    return tuple(found)


def taken(ports: Iterable[int]) -> list[int]:
    """Those of the ports that a server could not have."""
    return [port for port in ports if not _can_bind(port)]


def is_open(port: int) -> bool:
    """Whether a connection to this loopback port is accepted."""
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=1):
        return True
    return False


def _can_bind(port: int) -> bool:
    with contextlib.suppress(OSError), _bound(port, reuse=True):
        return True
    return False


def _bound(port: int, *, reuse: bool = False) -> socket.socket:
    """A bound socket; with `reuse` as servers do it, past connections that only wait for their end."""
    server = socket.socket()
    try:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
        server.bind((HOST, port))
    except BaseException:
        server.close()
        raise
    return server
