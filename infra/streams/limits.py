"""A shard's limits, and the counts of what was put: 1 MB/s and 1,000 records/s in, 2 MB/s out.

Source: Kinesis Data Streams' quotas. Each is a token bucket that holds one second's worth: smooth under
load, and after a quiet second the next may take up to twice as much.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

RECORDS_PER_S = 1_000
BYTES_PER_S = 1_000_000
BYTES_OUT_PER_S = 2_000_000
RECORD_BYTES = 1 << 20
KEY_CHARACTERS = 256
READ_ON_BYTES = 200_000
"""How much a held shard must be allowed to give before it is read on: a tenth of a second's worth."""


@dataclass(slots=True)
class ShardUse:
    """What one process has put into a shard: records, their bytes, the most records in one second.

    `throttled` counts puts that the limits held back.
    """

    records: int = 0
    bytes: int = 0
    peak_records_per_s: int = 0
    throttled: int = 0


@dataclass(slots=True)
class ShardLimit:
    """What one shard may take now. `clock` gives seconds, from any beginning."""

    clock: Callable[[], float]
    use: ShardUse = field(default_factory=ShardUse)
    records: float = RECORDS_PER_S
    bytes: float = BYTES_PER_S
    at: float = -math.inf
    second: int = -1
    in_second: int = 0

    def take(self, size: int) -> float:
        """Count a record of `size` bytes: 0.0. When it is too much: the seconds until it can be tried.

        A record larger than one second's bytes needs a full second, and the next ones pay for the rest.
        """
        now = self.clock()
        passed, self.at = now - self.at, now
        records = self.records + passed * RECORDS_PER_S
        allowed = self.bytes + passed * BYTES_PER_S
        self.records = records = records if records < RECORDS_PER_S else RECORDS_PER_S
        self.bytes = allowed = allowed if allowed < BYTES_PER_S else BYTES_PER_S
        needed = size if size < BYTES_PER_S else BYTES_PER_S
        if records < 1 or allowed < needed:
            self.use.throttled += 1
            return max((1 - records) / RECORDS_PER_S, (needed - allowed) / BYTES_PER_S)
        self.records = records - 1
        self.bytes = allowed - size
        self._count(size, int(now))
        return 0.0

    def _count(self, size: int, second: int) -> None:
        use = self.use
        use.records += 1
        use.bytes += size
        if second != self.second:
            self.second, self.in_second = second, 0
        self.in_second += 1
        if self.in_second > use.peak_records_per_s:
            use.peak_records_per_s = self.in_second


@dataclass(slots=True)
class ReadLimit:
    """What one consumer may read of one shard now."""

    clock: Callable[[], float]
    bytes: float = BYTES_OUT_PER_S
    at: float = -math.inf

    def took(self, size: int) -> bool:
        """Count bytes that were read; whether the shard may be read on."""
        self._fill()
        self.bytes -= size
        return self.bytes > 0

    def free(self) -> bool:
        """Whether a shard that was held may be read on."""
        self._fill()
        return self.bytes >= READ_ON_BYTES

    def _fill(self) -> None:
        now = self.clock()
        passed, self.at = now - self.at, now
        self.bytes = min(BYTES_OUT_PER_S, self.bytes + passed * BYTES_OUT_PER_S)


def shards_needed(records_per_s: float, bytes_per_s: float, fullest_share: float, shards: int) -> int:
    """How many shards take this rate, if their fullest takes as much more than the mean as it does now.

    `fullest_share` is the fullest shard's share of all records among `shards` shards.
    """
    unevenness = max(1.0, fullest_share * shards)
    fullest = max(records_per_s / RECORDS_PER_S, bytes_per_s / BYTES_PER_S) * unevenness
    return max(1, math.ceil(fullest))
