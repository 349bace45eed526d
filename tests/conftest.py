"""Servers and settings that tests share. A server that can't start is a failure, never a skip."""

from __future__ import annotations

import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from infra.settings import Settings
from tests.postgres import Postgres, postgres

with warnings.catch_warnings():
    # kafka-python reads its schemas by a function that Python 3.11 deprecated (3.13 took that back).
    warnings.simplefilter("ignore", DeprecationWarning)
    from infra.local.servers import down, servers
    from infra.streams.records import Shard
    from infra.streams.transactions import TransactionalProducer
    from tests.stream_cases import joined, new_stream


def pytest_configure() -> None:
    """Have Ctrl-C reach what tests start: where pytest runs in the background it may be ignored."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)


def settings_of(home: Path) -> Settings:
    """The settings of an empty home, with this checkout's jars and no server given."""
    return replace(
        Settings.load(),
        home=home,
        bucket="test",
        s3_endpoint="",
        access_key="",
        secret_key="",
        kafka_servers="",
        kafka_brokers=1,
        warehouse="",
        warehouse_password="",
    )


@pytest.fixture
def home_settings(tmp_path: Path) -> Iterator[Settings]:
    """Settings with a home of the test's own; nothing runs in it, also after a test that failed."""
    settings = settings_of(tmp_path / "home")
    yield settings
    down(settings)


@pytest.fixture(scope="session")
def s3_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings that give a running S3 server with the bucket `test`."""
    with servers(settings_of(tmp_path_factory.mktemp("s3") / "home")) as ready:
        yield ready


@pytest.fixture(scope="session")
def kafka_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings that give a running Kafka of one broker."""
    with servers(settings_of(tmp_path_factory.mktemp("kafka") / "home"), ("kafka",)) as ready:
        _warm_up(ready.kafka_servers)
        yield ready


def _warm_up(kafka_servers: str) -> None:
    """Let a new Kafka make its own topics of groups and transactions: no short time-out pays for it."""
    stream = new_stream(kafka_servers, 1)
    with (
        joined(kafka_servers, stream, stream) as consumer,
        closing(TransactionalProducer(kafka_servers, stream, timeout_s=60)) as writer,
    ):
        writer.begin()
        writer.send(stream, "C1", b"x")
        writer.send_offsets({Shard(stream, 0): 0}, consumer.group_metadata())
        writer.commit()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """A running PostgreSQL."""
    with postgres() as server:
        yield server
