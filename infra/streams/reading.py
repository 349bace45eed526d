"""Reads shards to where they end."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping

from infra.streams.consumer import StreamConsumer
from infra.streams.errors import KafkaUnavailableError
from infra.streams.records import Record, Shard

POLL_S, MOST_RECORDS = 0.2, 5_000


def read_to(
    consumer: StreamConsumer, ends: Mapping[Shard, int], silent_s: float
) -> Iterator[tuple[int, Mapping[Shard, list[Record]]]]:
    """What comes until each shard is read to its end, batch by batch, with the offsets that are left then.

    The consumer is assigned these shards; records after an end may come too. Raises KafkaUnavailableError
    when nothing comes for `silent_s` seconds.
    """
    least, moved_at = math.inf, time.monotonic()
    while left := _left(consumer, ends):
        if left < least:
            least, moved_at = left, time.monotonic()
        elif time.monotonic() - moved_at > silent_s:
            raise KafkaUnavailableError(f"Kafka gave no records for {silent_s:.0f} s, with {left:,} to go")
        batch = consumer.poll(POLL_S, MOST_RECORDS)
        yield _left(consumer, ends), batch


def _left(consumer: StreamConsumer, ends: Mapping[Shard, int]) -> int:
    return sum(max(0, end - consumer.position(shard)) for shard, end in ends.items())
