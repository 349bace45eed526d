"""Sockets of Kafka's client that is refused, or closed while it connects or has something to send."""

from __future__ import annotations

import socket
from collections.abc import Callable, Generator, Iterator
from functools import partial
from types import SimpleNamespace, coroutine
from typing import Any

import pytest
from kafka.errors import KafkaConnectionError
from kafka.net.inet import KafkaNetSocket, create_connection
from kafka.net.selector import NetworkSelector
from kafka.net.transport import KafkaTCPTransport

from infra.streams.brokers import CONNECTING


@coroutine
def until_writable(_: Any, timeout_at: float | None = None) -> Generator[None]:
    """Wait as the client's event loop does; the test is the loop."""
    yield


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[socket.socket]]:
    """The sockets that the class under test makes."""
    found: list[socket.socket] = []
    plain: Callable[..., socket.socket] = KafkaNetSocket.socket

    def noted(sockets: KafkaNetSocket, *kind: int) -> socket.socket:
        found.append(plain(sockets, *kind))
        return found[-1]

    monkeypatch.setattr(KafkaNetSocket, "socket", noted)
    yield found
    for each in found:
        each.close()


def connect(port: int) -> Any:
    """Begin to connect to a local port, by the class that all clients are made with."""
    sockets = KafkaNetSocket(CONNECTING["proxy_url"])
    address = (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port))
    net = SimpleNamespace(wait_write=until_writable, _selector=CONNECTING["selector"]())
    return sockets.connect(net, address)


def finish(connecting: Any) -> None:
    """Go on until it is connected, which raises StopIteration, or fails."""
    while True:
        connecting.send(None)


def test_a_client_closed_while_it_connects_leaves_no_socket(opened: list[socket.socket]) -> None:
    """The coroutine is closed where it waits."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        connecting = connect(server.getsockname()[1])
        connecting.send(None)
        (made,) = opened
        assert made.fileno() >= 0
        connecting.close()
        assert made.fileno() == -1


def test_a_refused_connection_leaves_no_socket(opened: list[socket.socket]) -> None:
    """Nothing listens at the port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    connecting = connect(port)
    with pytest.raises(KafkaConnectionError):
        finish(connecting)
    (made,) = opened
    assert made.fileno() == -1


def test_a_connection_is_handed_over_open(opened: list[socket.socket]) -> None:
    """Whoever asked for it owns it then."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        connecting = connect(server.getsockname()[1])
        with pytest.raises(StopIteration) as found:
            finish(connecting)
        assert found.value.value is opened[0]
        assert opened[0].fileno() >= 0


def test_a_client_closed_with_something_to_send_leaves_no_socket() -> None:
    """The other side reads nothing, so that its buffers and those of this side are full."""
    loop = NetworkSelector(selector=CONNECTING["selector"])
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        made = loop.run(partial(create_connection, loop, *address, proxy_url=CONNECTING["proxy_url"]))
        transport = KafkaTCPTransport(loop, made)
        transport.resume_reading()
        transport.write(bytes(8_000_000))
        loop.drain()
        transport.close()
        assert made.fileno() >= 0
        loop.close()
        assert made.fileno() == -1
