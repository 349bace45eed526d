"""The sockets of Kafka's client: closed when a connection does not come about, and with their client."""

from __future__ import annotations

import selectors
import weakref
from typing import Any

from kafka.net.inet import KafkaNetSocket


class Sockets(KafkaNetSocket):  # type: ignore[misc]  # the client has no types
    """Connects straight to a broker and closes the socket of a connection that did not come about.

    The client's own class leaves that socket to the garbage collector: whenever a broker refuses, and
    whenever a client is closed while it connects. It is found by its scheme, as the client's proxies are.
    """

    SCHEMES = ("direct",)

    def __init__(self, proxy_url: str) -> None:
        """`proxy_url` names this class and nothing else."""
        super().__init__(proxy_url)
        self._socket: Any = None

    def socket(self, *kind: int) -> Any:
        """Make a socket."""
        self._socket = super().socket(*kind)
        return self._socket

    async def connect(self, *arguments: Any, **options: Any) -> Any:
        """Connect to an address that the look-up gave; a socket that does not block."""
        try:
            return await super().connect(*arguments, **options)
        except BaseException:  # also GeneratorExit: the client was closed meanwhile
            if self._socket is not None:
                self._socket.close()
            raise


class Selector(selectors.DefaultSelector):
    """Ends with its client, and whatever it ever watched ends with it.

    The client's own does not close a connection that has bytes to send when its client is closed: it
    waits for them to be sent by a loop that has ended, and the socket is the garbage collector's.
    """

    def __init__(self) -> None:
        super().__init__()
        self._watched: weakref.WeakSet[Any] = weakref.WeakSet()

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """Watch a socket."""
        self._watched.add(fileobj)
        return super().register(fileobj, events, data)

    def close(self) -> None:
        """End, once the client's loop has."""
        super().close()
        for each in self._watched:
            each.close()
