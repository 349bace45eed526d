"""Kafka clients that can't be made: they leave nothing behind."""

from __future__ import annotations

import gc
import socket
import threading
from collections.abc import Callable, Iterator

import psutil
import pytest

from infra.console import look_streams
from infra.streams import brokers
from infra.streams.admin import StreamAdmin
from infra.streams.consumer import StreamConsumer
from infra.streams.errors import KafkaUnavailableError
from infra.streams.producer import StreamProducer
from infra.streams.transactions import TransactionalProducer

KINDS: dict[str, Callable[[str], object]] = {
    "admin": StreamAdmin,
    "consumer": lambda servers: StreamConsumer(servers, streams=["s"], group="g", client_id="test"),
    "producer": lambda servers: StreamProducer(servers, "test"),
    "transactions": lambda servers: TransactionalProducer(servers, "test"),
}


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A broker that takes connections and never answers."""
    monkeypatch.setitem(brokers.CONNECTING, "bootstrap_timeout_ms", 300)
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_a_client_that_no_broker_answers_leaves_nothing(silent: str, make: Callable[[str], object]) -> None:
    """No thread, no descriptor, and nothing that the garbage collector would have to close."""
    gc.collect()
    threads, descriptors = set(threading.enumerate()), psutil.Process().num_fds()
    with pytest.raises(KafkaUnavailableError):
        make(silent)
    assert set(threading.enumerate()) <= threads
    assert psutil.Process().num_fds() <= descriptors
    gc.collect()


class Client:
    """A client that was made, and notes when it is closed."""

    def __init__(self, name: str, closed: list[str]) -> None:
        self._name, self._closed = name, closed

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Note it."""
        self._closed.append(self._name)


def test_a_console_whose_last_client_fails_closes_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """It tries again every second, for as long as Kafka is away."""
    closed: list[str] = []

    def fail(servers: str) -> None:
        raise KafkaUnavailableError(servers)

    monkeypatch.setattr(look_streams, "StreamAdmin", lambda *_, **__: Client("admin", closed))
    monkeypatch.setattr(look_streams, "StreamConsumer", lambda *_, **__: Client("consumer", closed))
    monkeypatch.setattr(look_streams, "DecisionTails", fail)
    with pytest.raises(KafkaUnavailableError):
        look_streams._Watch("127.0.0.1:9")
    assert sorted(closed) == ["admin", "consumer"]
