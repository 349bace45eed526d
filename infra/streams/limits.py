"""A shard's limits, and the counts of what was put: 1 MB/s and 1,000 records/s in, 2 MB/s out.

Source: Kinesis Data Streams' quotas. As there, they hold within each second.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

RECORDS_PER_S = 1_000
BYTES_PER_S = 1_000_000
BYTES_OUT_PER_S = 2_000_000
RECORD_BYTES = 1 << 20
KEY_CHARACTERS = 256


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
    """The seconds of one shard's input. `clock` gives seconds, from any beginning."""

    clock: Callable[[], float]
    use: ShardUse = field(default_factory=ShardUse)
    second: int = -1
    records: int = 0
    bytes: int = 0

    def take(self, size: int) -> bool:
        """Count a record of `size` bytes into this second; False, and nothing counted, when it is full."""
        second = int(self.clock())
        if second != self.second:
            self.second, self.records, self.bytes = second, 0, 0
        if self.records >= RECORDS_PER_S or (self.bytes and self.bytes + size > BYTES_PER_S):
            self.use.throttled += 1
            return False
        self.records += 1
        self.bytes += size
        use = self.use
        use.records += 1
        use.bytes += size
        use.peak_records_per_s = max(use.peak_records_per_s, self.records)
        return True


@dataclass(slots=True)
class ReadLimit:
    """The seconds of one shard's output to one consumer."""

    clock: Callable[[], float]
    second: int = -1
    bytes: int = 0

    def took(self, size: int) -> bool:
        """Count bytes that were read; whether the shard may be read on in this second."""
        self._turn()
        self.bytes += size
        return self.bytes < BYTES_OUT_PER_S

    def free(self) -> bool:
        """Whether the shard may be read now."""
        self._turn()
        return self.bytes < BYTES_OUT_PER_S

    def _turn(self) -> None:
        second = int(self.clock())
        if second != self.second:
            # What was read beyond the limit counts into the seconds after it.
            passed = second - self.second
            self.bytes = max(0, self.bytes - passed * BYTES_OUT_PER_S) if self.second >= 0 else 0
            self.second = second


def shards_needed(records_per_s: float, bytes_per_s: float, fullest_share: float, shards: int) -> int:
    """How many shards take this rate, if their fullest takes as much more than the mean as it does now.

    `fullest_share` is the fullest shard's share of all records among `shards` shards.
    """
    unevenness = max(1.0, fullest_share * shards)
    by_records = records_per_s * unevenness / RECORDS_PER_S
    by_bytes = bytes_per_s * unevenness / BYTES_PER_S
    return max(1, -int(-max(by_records, by_bytes) // 1))
