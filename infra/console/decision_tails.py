"""How far a data set is decided, and by which models, from the last decision of each shard."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

import msgspec

from infra.streams.consumer import StreamConsumer
from infra.streams.errors import OffsetOutOfRangeError
from infra.streams.records import Record, Shard

EVERY_S = 2.0
BACK = 60
"""So many offsets before a shard's end are read: the last may be marks of transactions."""
POLL_S, MOST_RECORDS, MOST_POLLS = 0.1, 2_000, 6


@dataclass(frozen=True)
class Decided:
    """All transactions before `until` (event time) are decided; `models` made the last decisions."""

    until: datetime
    models: tuple[str, ...]


class DecisionTails:
    """Reads the last decisions of shards, and nothing in between."""

    def __init__(self, servers: str) -> None:
        self._consumer = StreamConsumer(servers, streams=[], group=None, client_id="console-tails")
        self._last: dict[Shard, _Last] = {}
        self._read_at = float("-inf")

    def close(self) -> None:
        """Let go of Kafka."""
        self._consumer.close()

    @property
    def is_due(self) -> bool:
        """Whether the last reading is EVERY_S seconds old."""
        return time.monotonic() - self._read_at >= EVERY_S

    def forget(self, stream: str) -> None:
        """The stream was made anew."""
        self._last = {shard: last for shard, last in self._last.items() if shard.stream != stream}

    def read(self, begins: Mapping[Shard, int], ends: Mapping[Shard, int]) -> None:
        """Read the tails of these shards."""
        waiting = {shard for shard in ends if ends[shard] > begins[shard]}
        if self._consumer.assignment() != waiting:
            self._consumer.assign(waiting)
        for shard in waiting:
            self._consumer.seek(shard, max(begins[shard], ends[shard] - BACK))
        self._consumer.resume(waiting)
        found: set[Shard] = set()
        with suppress(OffsetOutOfRangeError):  # trimmed meanwhile: read at the next look
            for _ in range(MOST_POLLS if waiting else 0):
                for shard, records in self._consumer.poll(POLL_S, MOST_RECORDS).items():
                    found |= {shard} if self._take(shard, records) else set()
                if found >= waiting:
                    break
        self._consumer.pause(waiting)
        self._read_at = time.monotonic()

    def decided(self, shards: Sequence[Shard]) -> Decided | None:
        """How far the shards of a stream are decided; None while one of them has no decision."""
        known = [self._last[shard] for shard in shards if shard in self._last]
        if not shards or len(known) < len(shards):
            return None
        models = {last.model_version for last in known if last.model_version is not None}
        return Decided(min(last.event_time for last in known), tuple(sorted(models)))

    def _take(self, shard: Shard, records: list[Record]) -> bool:
        for record in reversed(records):
            with suppress(msgspec.MsgspecError):
                self._last[shard] = _decode(record.value or b"")
                return True
        return False


class _Last(msgspec.Struct, frozen=True):
    """What is taken of a decision; msgspec passes over the rest."""

    event_time: datetime
    model_version: str | None


_decode = msgspec.json.Decoder(_Last).decode
