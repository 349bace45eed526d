"""Whether a Kafka cluster answers, and what is said when it does not."""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Callable, Iterator
from typing import Any

from kafka.cluster import collect_hosts
from kafka.errors import KafkaError, KafkaTimeoutError
from kafka.net.compat import KafkaNetClient

from infra.streams.errors import KafkaUnavailableError
from infra.streams.sockets import Selector, Sockets

CONNECTING: dict[str, Any] = {
    "bootstrap_timeout_ms": 10_000,
    "reconnect_backoff_max_ms": 2_000,
    "proxy_url": f"{Sockets.SCHEMES[0]}://",
    "selector": Selector,
}
"""How every client connects: this long to a first broker, soon again after one died, by sockets of ours."""


def ready_brokers(bootstrap_servers: str, timeout_s: float = 15.0) -> int:
    """The number of brokers that take requests now, by the cluster's own metadata.

    `bootstrap_servers` is "host:port,host:port". Starts no thread. Raises KafkaUnavailableError when
    no broker answers within `timeout_s` seconds.
    """
    # The client would try closed ports again and again.
    opened = [f"{host}:{port}" for host, port, _ in collect_hosts(bootstrap_servers) if _is_open(host, port)]
    if not opened:
        raise KafkaUnavailableError(f"no Kafka broker answers at {bootstrap_servers}")
    with (
        _quiet_client_log(),
        contextlib.closing(KafkaNetClient(bootstrap_servers=opened, **CONNECTING)) as client,
    ):
        try:
            client.check_version(timeout_ms=timeout_s * 1000)
        except KafkaError as error:
            raise KafkaUnavailableError(f"no Kafka broker answers at {bootstrap_servers}") from error
        return len(client.cluster.brokers())


@contextlib.contextmanager
def connecting(servers: str) -> Iterator[Callable[..., KafkaNetClient]]:
    """Make a client in this block, by its `kafka_client`: KafkaUnavailableError when it reaches no broker.

    A client that could not be made would keep a thread and sockets for ever; they end with the block.
    """
    with contextlib.ExitStack() as failed:

        def kafka_client(**options: Any) -> KafkaNetClient:
            return failed.enter_context(contextlib.closing(KafkaNetClient(**options)))

        try:
            yield kafka_client
        except KafkaTimeoutError as error:
            raise KafkaUnavailableError(f"no Kafka broker answers at {servers}") from error
        failed.pop_all()


@contextlib.contextmanager
def answering(servers: str) -> Iterator[None]:
    """Ask a cluster in this block: whatever it does not answer is a KafkaUnavailableError, in one line."""
    try:
        yield
    except KafkaError as error:
        raise KafkaUnavailableError(f"Kafka at {servers} does not answer: {type(error).__name__}") from error


def reachable(servers: str) -> bool:
    """Whether any broker of "host:port,..." accepts a connection now; asks nothing, so it costs little."""
    return any(_is_open(host, port) for host, port, _ in collect_hosts(servers))


def _is_open(host: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=2):
        return True
    return False


@contextlib.contextmanager
def _quiet_client_log() -> Iterator[None]:
    """The client logs each refused connection; whoever asks gets one exception instead."""
    logger = logging.getLogger("kafka")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
