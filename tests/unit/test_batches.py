"""Batches of records as we write and read them, against Kafka's client, which does both in its own way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import kafka.errors
import pytest
from kafka import TopicPartition
from kafka.consumer.fetcher import Fetcher, IsolationLevel
from kafka.producer.record_accumulator import RecordAccumulator
from kafka.record.default_records import DefaultRecordBatch
from kafka.record.memory_records import MemoryRecords, MemoryRecordsBuilder

from infra.streams.appending import Appender, failure
from infra.streams.records import Record, Shard
from infra.streams.unpacking import Unpacked, unpack

SHARD = Shard("a", 3)
T0 = 1_533_686_400_000
Row = tuple[int, bytes | None, bytes | None, list[tuple[str, bytes]]]
ROWS: list[Row] = [
    (0, b"k", b"v", []),
    (-70, b"", b"", [("reason", b"why"), ("offset", b"")]),
    (63, None, b"x" * 63, []),
    (64, b"y" * 300, None, []),
    (9_000, b"C00001", b"z" * 70_000, [("h" * 200, b"i" * 20_000)]),
    (2_000_000_000, b"\x80\xff", b"\x00", []),
]


def batch(rows: Sequence[Row], compression: int = 0) -> bytes:
    """A batch as Kafka's client makes it; times are from T0 on."""
    builder = MemoryRecordsBuilder(2, compression, 1 << 24)
    for passed, key, value, headers in rows:
        builder.append(T0 + passed, key, value, headers)
    builder.close()
    return bytes(builder._buffer)


def taken(kind: Any, body: bytes, first: int = 0) -> list[Record]:
    """The records that a fetcher would hand on from an offset on."""
    where = TopicPartition(*SHARD)
    part = kind(first, where, MemoryRecords(body), isolation_level=IsolationLevel.READ_COMMITTED)
    found = part.take(1_000)
    return [
        each
        if isinstance(each, Record)
        else Record(SHARD, each.offset, each.key, each.value, each.timestamp, tuple(each.headers))
        for each in found
    ]


@pytest.mark.parametrize("compression", [0, 1])
def test_records_are_unpacked_as_the_client_does(compression: int) -> None:
    """Numbers of all lengths, no keys, no values, headers; also compressed, and from amidst a batch."""
    body = batch(ROWS, compression) + batch(ROWS[:2])
    for first in (0, 3):
        ours = taken(Unpacked, body, first)
        assert ours == taken(Fetcher.PartitionRecords, body, first)
        assert [each.key for each in ours[: 6 - first]] == [key for _, key, _, _ in ROWS[first:]]
    many = batch([(number, b"%d" % number, b"v", []) for number in range(20_000)])
    assert taken(Unpacked, many) == taken(Fetcher.PartitionRecords, many)


def test_a_damaged_batch_is_refused() -> None:
    """By its checksum; one that lies about its lengths too."""
    body = bytearray(batch(ROWS))
    body[80] ^= 1
    with pytest.raises(kafka.errors.CorruptRecordError, match="checksum"):
        taken(Unpacked, bytes(body))
    whole = batch(ROWS[:3])
    for damaged in (whole[:-1], whole + b"\x00", whole[:61] + b"\x20" + whole[62:]):
        with pytest.raises(kafka.errors.CorruptRecordError):
            list(unpack(SHARD, DefaultRecordBatch(damaged)))


class Producer:
    """What an Appender needs of a KafkaProducer."""

    def __init__(self, batch_size: int) -> None:
        self._accumulator = RecordAccumulator(batch_size=batch_size, message_version=2)
        self._sender = self._transaction_manager = self
        self.wakes = 0

    def is_transactional(self) -> bool:
        """None is."""
        return False

    def wakeup(self) -> None:
        """Nobody sleeps, but it is counted."""
        self.wakes += 1

    def batches(self) -> list[Any]:
        """All batches of the shard, in order."""
        return list(self._accumulator._batches[TopicPartition(*SHARD)])

    def take(self, shard: Shard) -> None:
        """Take a shard's oldest batch, as the I/O thread does that sends it."""
        self._accumulator._batches[TopicPartition(*shard)].popleft().records.close()


def test_what_is_appended_is_read_by_the_client() -> None:
    """In order, over several batches, each of which is no larger than it may be unless it is one record."""
    rows = [(key, value, headers) for _, key, value, headers in ROWS]
    rows += [(b"%d" % number, b"v" * (number % 300), []) for number in range(5_000)]
    producer = Producer(16_384)
    appender = Appender(producer)
    futures = [appender.append(SHARD, *row) for row in rows]
    found: list[tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]] = []
    for made in producer.batches():
        made.records.set_producer_state(1, 1, 0, False)
        made.records.close()
        body = bytes(made.records._buffer)
        records = list(MemoryRecords(body).next_batch())
        assert len(body) <= 16_384 or len(records) == 1
        assert [each.offset for each in records] == list(range(len(records)))
        assert DefaultRecordBatch(body).last_offset == len(records) - 1
        found += [(each.key, each.value, each.headers) for each in records]
    assert found == rows
    assert list(dict.fromkeys(futures)) == [made.produce_future for made in producer.batches()]


def test_no_batch_waits_for_a_wake_that_does_not_come() -> None:
    """The I/O thread is woken for a batch unless one it was woken for before is still to be taken by it.

    Once that is taken it may sleep for as long as nothing wakes it, however short a time ago that was.
    """
    producer = Producer(1 << 16)
    appender = Appender(producer)
    first, second, third = (Shard("a", number) for number in range(3))
    appender.append(first, b"k", b"v")
    appender.append(second, b"k", b"v")
    assert producer.wakes == 1, "it finds the second batch when it takes the first"
    producer.take(first)
    appender.append(third, b"k", b"v")
    assert producer.wakes == 2
    appender.append(first, b"k", b"v")
    producer.take(second)
    assert producer.wakes == 2
    appender.append(second, b"k", b"v")
    assert producer.wakes == 2, "the third is still to be taken"
    producer.take(third)
    appender.append(third, b"k", b"v")
    assert producer.wakes == 3


def test_a_full_batch_is_sent_at_once() -> None:
    """Whatever the I/O thread was woken for before."""
    producer = Producer(200)
    appender = Appender(producer)
    for _ in range(3):
        appender.append(SHARD, b"k", b"v" * 150)
    assert producer.wakes == 3


def test_a_batch_tells_why_it_failed() -> None:
    """Whether it was refused, given up, or written."""
    producer = Producer(100)
    appender = Appender(producer)
    futures = [appender.append(SHARD, b"k", b"v" * 90) for _ in range(3)]
    error = kafka.errors.KafkaError("no")
    written, refused, dropped = producer.batches()
    written.complete(7, -1)
    refused.complete_exceptionally(error, lambda _: error)
    dropped.abort(error)
    assert [failure(each) for each in futures] == [None, error, error]
