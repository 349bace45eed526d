"""What the tests of streams share: a stream of the test's own, records in it, a handler that remembers."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

from infra.streams.admin import StreamAdmin
from infra.streams.consumer import StreamConsumer
from infra.streams.producer import StreamProducer
from infra.streams.records import Record, Shard
from stream_consumers.worker import Batch, Relay

WITHIN_S = 120.0


def new_stream(servers: str, shards: int = 2) -> str:
    """A stream that no other test has."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    with StreamAdmin(servers) as admin:
        admin.create(name, shards, 24)
    return name


def shards_of(stream: str, shards: int = 2) -> list[Shard]:
    """Its shards."""
    return [Shard(stream, number) for number in range(shards)]


def put_all(servers: str, stream: str, keys: Collection[str], value: bytes = b"x") -> None:
    """Put a record for each key and wait until all are acknowledged."""
    producer = StreamProducer(servers, "test-put")
    try:
        for key in keys:
            producer.put(stream, key, value)
        producer.flush()
    finally:
        producer.close()


def reader(servers: str, shards: Collection[Shard]) -> StreamConsumer:
    """A reader of these shards from their beginning."""
    consumer = StreamConsumer(servers, streams=[], group=None, client_id="test-reader")
    consumer.assign(shards)
    for shard, offset in consumer.beginning_offsets(shards).items():
        consumer.seek(shard, offset)
    return consumer


def read_to_end(consumer: StreamConsumer, shards: Collection[Shard]) -> list[Record]:
    """All records up to the shards' ends."""
    ends = consumer.end_offsets(shards)
    return read_until(consumer, lambda _: all(consumer.position(shard) >= ends[shard] for shard in shards))


def read_until(consumer: StreamConsumer, enough: Callable[[list[Record]], bool]) -> list[Record]:
    """The records of as many polls as it takes."""
    found: list[Record] = []

    def read_on() -> bool:
        found.extend(polled(consumer))
        return enough(found)

    wait(read_on)
    return found


def member(servers: str, stream: str, group: str) -> StreamConsumer:
    """A member of a group that has all shards, which it reads from their beginning."""
    relay = Relay()
    consumer = StreamConsumer(servers, streams=[stream], group=group, client_id="test", listener=relay)
    relay.handler = Remembering(consumer)
    wait(lambda: consumer.poll(1.0) == {} and bool(consumer.assignment()))
    return consumer


@contextmanager
def joined(servers: str, stream: str, group: str) -> Iterator[StreamConsumer]:
    """A member of a group for the block."""
    consumer = member(servers, stream, group)
    try:
        yield consumer
    finally:
        consumer.close()


def polled(consumer: StreamConsumer, timeout_s: float = 0.2, max_records: int = 500) -> list[Record]:
    """The records of one poll."""
    return [record for records in consumer.poll(timeout_s, max_records).values() for record in records]


def wait(done: Callable[[], bool], within_s: float = WITHIN_S) -> None:
    """Wait until something is so; fails when it takes too long."""
    deadline = time.monotonic() + within_s
    while not done():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


class Remembering:
    """A handler that commits each batch and remembers records and shards. Records are (shard, offset)."""

    def __init__(self, consumer: StreamConsumer) -> None:
        self.consumer = consumer
        self.shards: set[Shard] = set()
        self.handled: list[tuple[Shard, int]] = []
        self.calls: list[str] = []

    def assigned(self, shards: Collection[Shard]) -> None:
        """Read from the committed offsets on."""
        self.calls.append("assigned")
        self.consumer.start(shards)
        self.shards |= set(shards)

    def revoked(self, shards: Collection[Shard]) -> None:
        """Nothing is ever open between batches."""
        self.calls.append("revoked")
        self.shards -= set(shards)

    def lost(self, shards: Collection[Shard]) -> None:
        """As revoked."""
        self.calls.append("lost")
        self.shards -= set(shards)

    def handle(self, batch: Batch) -> None:
        """Remember, then commit."""
        for shard, records in batch.records.items():
            assert shard in self.shards
            self.handled.extend((shard, record.offset) for record in records)
        self.consumer.commit({shard: records[-1].offset + 1 for shard, records in batch.records.items()})

    def tick(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Remember that it was called."""
        self.calls.append("close")


class Running(threading.Thread):
    """A thread whose failure is raised at `end`."""

    def __init__(self, run: Callable[[threading.Event], None]) -> None:
        super().__init__(daemon=True)
        self.stop = threading.Event()
        self.failure: BaseException | None = None
        self._run = run
        self.start()

    def run(self) -> None:
        """Run until told to stop."""
        try:
            self._run(self.stop)
        except BaseException as error:
            self.failure = error

    def end(self) -> None:
        """Stop it and wait for it."""
        self.stop.set()
        self.wait()

    def wait(self) -> None:
        """Wait for it to end by itself."""
        self.join(WITHIN_S)
        assert not self.is_alive()
        if self.failure is not None:
            raise self.failure
