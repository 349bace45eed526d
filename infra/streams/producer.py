"""Puts records into streams: acknowledged by all replicas, once each, within the shards' limits."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError

from infra.streams.errors import (
    InvalidArgumentException,
    ProvisionedThroughputExceededException,
    PutFailedError,
)
from infra.streams.limits import KEY_CHARACTERS, RECORD_BYTES, ShardLimit, ShardUse
from infra.streams.records import Shard, shard_number

REQUEST_BYTES = RECORD_BYTES + (1 << 16)
DURABLE = {
    "acks": "all",
    "enable_idempotence": True,
    "max_request_size": REQUEST_BYTES,
    "allow_auto_create_topics": False,
    "metrics_enabled": False,
}
"""What every producer of ours is made with."""


class StreamProducer:
    """Puts records from one thread. A shard's limits hold for what this process puts into it."""

    def __init__(
        self,
        servers: str,
        client_id: str,
        *,
        linger_s: float = 0.005,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`servers` is "host:port,...". Records wait up to `linger_s` for others of their shard."""
        self._clock = clock
        self._limits: dict[Shard, ShardLimit] = {}
        self._shards: dict[str, int] = {}
        self._pending: deque[Any] = deque()
        self.acknowledged = 0
        self.refused: Counter[str] = Counter()
        self._producer = KafkaProducer(
            bootstrap_servers=servers.split(","),
            client_id=client_id,
            linger_ms=round(linger_s * 1000),
            batch_size=1 << 16,
            **DURABLE,
        )

    def shard_of(self, stream: str, key: str) -> Shard:
        """The shard that records with this partition key go to."""
        return Shard(stream, shard_number(key, self.shards(stream)))

    def shards(self, stream: str) -> int:
        """The number of a stream's shards. Raises PutFailedError if there is no such stream."""
        if stream not in self._shards:
            try:
                self._shards[stream] = len(self._producer.partitions_for(stream))
            except KafkaError as error:
                raise PutFailedError(f"there is no stream {stream}: {error}") from error
        return self._shards[stream]

    def put(self, stream: str, key: str, value: bytes, headers: Sequence[tuple[str, bytes]] = ()) -> None:
        """Put a record into the shard of its key; it is written in the background.

        Raises InvalidArgumentException for one that no shard takes (never to be tried again),
        ProvisionedThroughputExceededException when the shard's second is full (to be tried again
        before any later record of that shard), PutFailedError when an earlier one could not be written.
        """
        encoded = key.encode()
        size = len(encoded) + len(value)
        if not 0 < len(key) <= KEY_CHARACTERS or size > RECORD_BYTES:
            self.refused[stream] += 1
            raise InvalidArgumentException(_refusal(stream, key, size))
        shard = self.shard_of(stream, key)
        limit = self._limits.get(shard)
        if limit is None:
            limit = self._limits[shard] = ShardLimit(self._clock)
        if not limit.take(size):
            raise ProvisionedThroughputExceededException(f"shard {shard.number} of {stream} is full")
        try:
            future = self._producer.send(stream, value, encoded, list(headers), shard.number)
        except KafkaError as error:
            raise PutFailedError(f"{stream}: {error}") from error
        self._pending.append(future)
        if self._pending[0].is_done:
            self._collect()

    def flush(self, timeout_s: float = 30.0) -> None:
        """Wait until all that was put is acknowledged. Raises PutFailedError for what was not."""
        try:
            self._producer.flush(timeout=timeout_s)
        except KafkaError as error:
            raise PutFailedError(str(error)) from error
        self._collect()
        if self._pending:
            raise PutFailedError(f"{len(self._pending)} records were not acknowledged in {timeout_s:g} s")

    def by_shard(self) -> dict[Shard, ShardUse]:
        """What this process has put into each shard so far."""
        return {shard: limit.use for shard, limit in sorted(self._limits.items())}

    @property
    def throttled(self) -> int:
        """How often a put was held back by a shard's limits."""
        return sum(limit.use.throttled for limit in self._limits.values())

    def close(self) -> None:
        """Close; call flush before, to know that all is written."""
        self._producer.close(timeout=10)

    def _collect(self) -> None:
        """Count what was acknowledged, in order of putting."""
        pending = self._pending
        while pending and pending[0].is_done:
            future = pending.popleft()
            if future.failed():
                raise PutFailedError(f"a record could not be written: {future.exception}")
            self.acknowledged += 1


def _refusal(stream: str, key: str, size: int) -> str:
    if size > RECORD_BYTES:
        return f"{stream}: a record of {size:,} bytes; key and value have at most {RECORD_BYTES:,}"
    return f"{stream}: a partition key of {len(key)} characters; it has 1 to {KEY_CHARACTERS}"
