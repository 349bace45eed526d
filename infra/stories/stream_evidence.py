"""Reads back what a run left in streams: the transactions that were sent, and the bad records among them."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec
import numpy as np

from infra.contracts.errors import FailedError
from infra.progress import Update
from infra.stories.stream_proof import Ids
from infra.streams.consumer import StreamConsumer
from infra.streams.errors import KafkaUnavailableError
from infra.streams.limits import ShardUse
from infra.streams.reading import read_to
from infra.streams.records import Record, Shard

Ranges = Mapping[Shard, tuple[int, int]]
"""For each shard its first offset and the one after its last."""
SILENT_S = 90.0
"""How long nothing may come; a broker may be about to be started again."""


class Sent(msgspec.Struct, frozen=True):
    """What is taken of a transaction."""

    transaction_id: int
    event_time: datetime


@dataclass(frozen=True)
class SentTransactions:
    """The good transactions of a run: ids as they were read, and their event times (seconds since 1970).

    `use` is what was put into each shard, bad records too, by the shards themselves; `put_s` is the time
    from the first put to the last, in seconds.
    """

    ids: Ids
    times: Ids
    use: Mapping[int, ShardUse]
    put_s: float

    @property
    def first(self) -> datetime | None:
        """The earliest event time."""
        return datetime.fromtimestamp(int(self.times.min()), UTC) if len(self.times) else None

    @property
    def last(self) -> datetime | None:
        """The latest event time."""
        return datetime.fromtimestamp(int(self.times.max()), UTC) if len(self.times) else None


def bad_offsets(servers: str, ranges: Ranges) -> set[tuple[str, int, int]]:
    """What the dead letters in these ranges are about: stream, shard and offset of each bad record."""
    found = set()
    for record in _records(servers, ranges, lambda share, detail: None):
        headers = dict(record.headers)
        found.add((headers["stream"].decode(), int(headers["shard"]), int(headers["offset"])))
    return found


def sent_transactions(
    servers: str, ranges: Ranges, bad: set[tuple[str, int, int]], update: Update
) -> SentTransactions:
    """The transactions in these ranges, but for the bad ones. Raises FailedError when Kafka is silent."""
    decode = msgspec.json.Decoder(Sent).decode
    ids, times = array("q"), array("q")
    use = {shard.number: ShardUse() for shard in sorted(ranges)}
    puts = Puts(use)
    for record in _records(servers, ranges, update):
        puts.count(record)
        if bad and (record.shard.stream, record.shard.number, record.offset) in bad:
            continue
        sent = decode(record.value or b"")
        ids.append(sent.transaction_id)
        times.append(int(sent.event_time.timestamp()))
    columns = [np.array(column, dtype=np.int64) for column in (ids, times)]
    return SentTransactions(columns[0], columns[1], use, puts.seconds)


class Puts:
    """Counts records into the use of their shards, by the times at which they were put."""

    def __init__(self, use: Mapping[int, ShardUse]) -> None:
        self._use = use
        self._in_second: Counter[tuple[int, int]] = Counter()
        self._first, self._last = 2**62, 0

    def count(self, record: Record) -> None:
        """Count one."""
        number, second = record.shard.number, record.timestamp_ms // 1000
        use = self._use[number]
        use.records += 1
        use.bytes += len(record.key or b"") + len(record.value or b"")
        self._in_second[number, second] += 1
        use.peak_records_per_s = max(use.peak_records_per_s, self._in_second[number, second])
        self._first = min(self._first, record.timestamp_ms)
        self._last = max(self._last, record.timestamp_ms)

    @property
    def seconds(self) -> float:
        """From the first put to the last."""
        return max(0, self._last - self._first) / 1000


def _records(servers: str, ranges: Ranges, update: Update) -> Iterator[Record]:
    """All committed records of the ranges. Raises FailedError when none comes for SILENT_S."""
    wanted = {shard: span for shard, span in ranges.items() if span[0] < span[1]}
    total = sum(end - begin for begin, end in wanted.values())
    ends = {shard: end for shard, (_, end) in wanted.items()}
    with _reader(servers, wanted) as consumer:
        try:
            for left, batch in read_to(consumer, ends, SILENT_S):
                for shard, records in batch.items():
                    yield from (record for record in records if record.offset < ends[shard])
                update(1 - left / total, f"{total - left:,} records read back")
        except KafkaUnavailableError as error:
            raise FailedError(f"{error}; once it answers, the next run goes on from here") from error


@contextmanager
def _reader(servers: str, ranges: Ranges) -> Iterator[StreamConsumer]:
    consumer = StreamConsumer(servers, streams=[], group=None, client_id="stream-demo-evidence")
    try:
        consumer.assign(ranges)
        for shard, (begin, _) in ranges.items():
            consumer.seek(shard, begin)
        yield consumer
    finally:
        consumer.close()
