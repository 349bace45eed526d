"""Free ports on the loopback interface."""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Iterable

from infra.contracts.errors import UserError

HOST = "127.0.0.1"


# Below those that Linux (from 32768) and macOS (from 49152) give to outgoing connections, which could
# otherwise take a port between its choice and its server's start, also for a server's port 10,000 above.
CANDIDATES = range(15_000, 22_768)


def free_ports(count: int, offset: int = 0) -> tuple[int, ...]:
    """So many ports that nobody listens on; with an offset, port + offset is free for each as well.

    Another server can take one before its own does: a start that fails looks at `taken`.
    Raises UserError when too few are free.
    """
    found: list[int] = []
    with contextlib.ExitStack() as held:
        for port in random.sample(CANDIDATES, len(CANDIDATES)):
            if len(found) == count:
                break
            with contextlib.suppress(OSError), contextlib.ExitStack() as pair:
                for number in {port, port + offset}:
                    pair.enter_context(_bound(number))
                held.enter_context(pair.pop_all())
                found.append(port)
    if len(found) < count:
        raise UserError(f"not enough free ports on {HOST}: {len(found)} of {count}")
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
