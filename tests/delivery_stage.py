"""A data set's streams on real servers, delivered in this process, with a crash where a test wants one."""

from __future__ import annotations

import gzip
import io
import secrets
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import msgspec
import pyarrow.parquet as pq

from infra.archive.errors import raw_data, read_failed
from infra.archive.intents import Intents
from infra.contracts.datasets import DataSet
from infra.contracts.delivery import DeclaredDelivery, Partitioning
from infra.contracts.events import Event, encode
from infra.contracts.prefixes import parse_prefix
from infra.metrics import Metrics
from infra.objects import ObjectStore
from infra.settings import Settings
from infra.streams.admin import StreamAdmin
from infra.streams.consumer import StreamConsumer
from infra.streams.records import Record, Shard
from infra.streams.transactions import TransactionalProducer
from stream_consumers.delivery import CLOCKS, deliveries_of
from stream_consumers.delivery_cuts import Sorting
from stream_consumers.delivery_stream import ACTIVE_PARTITIONS, DeliveryStream
from stream_consumers.worker import Relay, consume
from tests.delivery_cases import T0

SHARDS = 2
WITHIN_S = 90.0


class Crash(BaseException):
    """Stands for the end of the process."""


class Steps:
    """Counts the steps that change something outside, and crashes after so many."""

    def __init__(self, crash_after: int | None = None) -> None:
        self.names: list[str] = []
        self._crash_after = crash_after

    def check(self) -> None:
        """Called before each step."""
        if len(self.names) == self._crash_after:
            raise Crash

    def commits(self, consumer: SteppedConsumer) -> None:
        """Called before a commit of a consumer, whose place in the group may be lost by it."""

    def done(self, name: str) -> None:
        """Called after each step."""
        self.names.append(name)
        self.check()


class SteppedStore(ObjectStore):
    """A store whose puts are steps."""

    def __init__(self, settings: Settings, steps: Steps) -> None:
        super().__init__(settings)
        self._steps = steps

    def put(self, url: str, body: bytes, content_type: str = "application/octet-stream") -> None:
        """See ObjectStore."""
        self._steps.check()
        super().put(url, body, content_type)
        self._steps.done("object")

    def put_once(self, url: str, body: bytes) -> bool:
        """See ObjectStore."""
        self._steps.check()
        created = super().put_once(url, body)
        self._steps.done("intent")
        return created


class SteppedConsumer(StreamConsumer):
    """A consumer whose commits are steps."""

    steps = Steps()

    def commit(self, offsets: Mapping[Shard, int], metadata: Mapping[Shard, str] | None = None) -> None:
        """See StreamConsumer."""
        self.steps.check()
        self.steps.commits(self)
        super().commit(offsets, metadata)
        self.steps.done("offset")

    def lose_place(self) -> None:
        """Be as one whose place in the group somebody else has taken: its next commit is refused."""
        coordinator = self._consumer._coordinator
        coordinator.reset_generation(coordinator._generation.member_id)


class Stage:
    """One stream of a data set of its own, `transactions` or another, with two shards."""

    def __init__(self, settings: Settings, name: str = "transactions") -> None:
        self.settings, self.store = settings, ObjectStore(settings)
        self.data_set = DataSet(settings.bucket, secrets.token_hex(4))
        self.stream = self.data_set.stream(name)
        self.admin = StreamAdmin(settings.kafka_servers)
        self.admin.create(self.stream, SHARDS, 24)
        self.producer = TransactionalProducer(settings.kafka_servers, f"test-{self.data_set.id}")
        if name != "sales":
            (self.declared,) = (
                replace(each, interval_s=0.0) for each in deliveries_of(self.data_set, [name])
            )

    @property
    def intents(self) -> Intents:
        """The intents of the stage's delivery stream."""
        found = self.admin.describe(self.stream)
        assert found is not None
        return Intents(self.store, self.settings.bucket, self.declared.name, found.topic_id)

    def put(self, values: Sequence[Event | tuple[bytes, bytes]], per_transaction: int = 10) -> None:
        """Put events, or raw keys and values, in Kafka transactions; each is followed by an aborted one."""
        for first in range(0, len(values), per_transaction):
            self.producer.begin()
            for value in values[first : first + per_transaction]:
                key, body = (value.key.encode(), encode(value)) if isinstance(value, Event) else value
                self.producer.send(self.stream, key, body)
            self.producer.commit()
            self.producer.begin()
            self.producer.send(self.stream, "nobody", b"aborted")
            self.producer.abort()

    def ranges(self) -> dict[Shard, tuple[int, int]]:
        """From the first offset to the end of each shard."""
        return self.admin.offsets(self.stream)

    def deliver(
        self,
        delivery: DeclaredDelivery | None = None,
        steps: Steps | None = None,
        *,
        store: ObjectStore | None = None,
        max_records: int = 40,
        active_partitions: int = ACTIVE_PARTITIONS,
        close_after: int | None = None,
    ) -> Metrics:
        """Deliver all records that are there now, as a new process; raises Crash if `steps` say so.

        `close_after` ends it in order after so many records.
        """
        delivery, relay, metrics = delivery or self.declared, Relay(), Metrics("test")
        store = store or SteppedStore(self.settings, steps or Steps())
        consumer = SteppedConsumer(
            self.settings.kafka_servers,
            streams=[self.stream],
            group=f"delivery-{self.declared.name}",
            client_id="test",
            session_timeout_s=6,
            listener=relay,
        )
        consumer.steps = steps or Steps()
        handler = DeliveryStream(
            delivery,
            Sorting.declared(delivery, T0),
            consumer,
            store,
            consumer.topic_id(self.stream),
            metrics,
            CLOCKS,
            active_partitions,
        )
        relay.handler = handler
        stop, ends = threading.Event(), consumer.end_offsets(consumer.shards(self.stream))
        deadline = time.monotonic() + WITHIN_S

        def beat() -> None:
            positions = {shard: consumer.position(shard) for shard in consumer.assignment()}
            read = sum(positions.values())
            if positions.keys() == ends.keys() and all(positions[each] >= ends[each] for each in ends):
                stop.set()
            if close_after is not None and read >= close_after:
                stop.set()
            assert time.monotonic() < deadline, f"{positions} of {ends}"

        consume(consumer, handler, poll_s=0.1, max_records=max_records, stop=stop, beat=beat)
        return metrics

    def read(self, shard: Shard) -> list[Record]:
        """All records of a shard."""
        consumer = StreamConsumer(
            self.settings.kafka_servers, streams=[], group=None, client_id="test-reader"
        )
        try:
            consumer.assign([shard])
            consumer.seek(shard, 0)
            end, found = consumer.end_offsets([shard])[shard], list[Record]()
            while consumer.position(shard) < end:
                found += consumer.poll(0.2, 1000).get(shard, [])
            return found
        finally:
            consumer.close()

    def objects(self, prefix: str = "") -> list[str]:
        """All objects of the delivery stream, of errors too."""
        below = [
            f"s3://{self.settings.bucket}/{self.stream}/",
            f"s3://{self.settings.bucket}/errors/{self.stream}/",
        ]
        return [item.url for start in below for item in self.store.list(start) if prefix in item.url]

    def archived(self) -> list[dict[str, Any]]:
        """All rows of all objects, whoever wrote them and whatever the intents say."""
        rows: list[dict[str, Any]] = []
        for url in self.objects():
            if "/errors/" not in url:
                rows += read_rows(url, self.store.get(url))
        return rows

    def errors(self) -> Counter[bytes]:
        """How often each bad value is in an object of errors."""
        found: Counter[bytes] = Counter()
        for url in self.objects("/errors/"):
            found.update(raw_data(each) for each in read_failed(self.store.get(url)))
        return found

    def intended(self) -> set[str]:
        """All addresses that the intents name."""
        urls = set()
        for shard in range(SHARDS):
            for first in self.intents.firsts(shard):
                intent = self.intents.get(shard, first)
                assert intent is not None
                urls |= {part.url for part in intent.parts}
        return urls

    def close(self) -> None:
        """End it."""
        try:
            self.producer.close()
        finally:
            self.admin.__exit__()


def read_rows(url: str, body: bytes) -> list[dict[str, Any]]:
    """The rows of an object of good records."""
    if url.endswith(".parquet"):
        rows: list[dict[str, Any]] = pq.read_table(io.BytesIO(body)).to_pylist()
        return rows
    return [msgspec.json.decode(line) for line in gzip.decompress(body).splitlines()]


def ids(rows: Iterable[Mapping[str, Any]], name: str = "transaction_id") -> Counter[int]:
    """How often each id is there."""
    return Counter(row[name] for row in rows)


def partitioned(scene: Stage) -> DeclaredDelivery:
    """A delivery stream of sales by month, for a stage of its own."""
    (declared,) = deliveries_of(DataSet(scene.settings.bucket), ["sales"])
    return replace(
        declared,
        name=scene.stream,
        stream=scene.stream,
        interval_s=0.0,
        prefix=parse_prefix(f"{scene.stream}/month=!{{partitionKeyFromQuery:month}}/"),
        error_prefix=parse_prefix(f"errors/{scene.stream}/!{{firehose:error-output-type}}/"),
        partitioning=Partitioning("month", "month"),
    )


@contextmanager
def stage(settings: Settings, name: str = "transactions") -> Iterator[Stage]:
    """A stage that is closed at the end."""
    made = Stage(settings, name)
    try:
        yield made
    finally:
        made.close()
