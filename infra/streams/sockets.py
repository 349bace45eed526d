"""The sockets of Kafka's client."""

from __future__ import annotations

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
            self._socket.close()
            raise
