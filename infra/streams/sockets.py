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

    async def connect(self, net: Any, *arguments: Any, **options: Any) -> Any:
        """Connect to an address that the look-up gave; a socket that does not block."""
        try:
            connected = await super().connect(net, *arguments, **options)
        except BaseException:  # also GeneratorExit: the client was closed meanwhile
            if self._socket is not None:
                self._socket.close()
            raise
        net._selector.own(connected)
        return connected


class Selector(selectors.DefaultSelector):
    """The selector of a client's loop: ends with it, and closes the sockets of its connections then.

    The client does not close a connection that has bytes to send when it is closed: that waits for a loop
    that has ended, and the socket is the garbage collector's.
    """

    def __init__(self) -> None:
        super().__init__()
        self._owned: weakref.WeakSet[Any] = weakref.WeakSet()

    def own(self, connected: Any) -> None:
        """Have a socket closed at the end, unless it is by then."""
        self._owned.add(connected)

    def close(self) -> None:
        """End, once the client's loop has."""
        super().close()
        for each in self._owned:
            each.close()
