"""Puts records into streams: acknowledged by all replicas, once each, within the shards' limits."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError, KafkaTimeoutError

from infra.contracts.errors import UserError
from infra.streams.appending import Appender, failure
from infra.streams.brokers import CONNECTING, connecting
from infra.streams.errors import (
    InvalidArgumentException,
    ProvisionedThroughputExceededException,
    PutFailedError,
)
from infra.streams.limits import KEY_CHARACTERS, RECORD_BYTES, ShardLimit, ShardUse
from infra.streams.records import Shard, shard_number

REQUEST_BYTES = RECORD_BYTES + (1 << 16)
LINGER_S = 0.02
"""A request costs the client and the broker the same, however few records it has."""
MOST_PENDING = 50_000
"""Records that wait for their acknowledgement at most; Kafka's client itself has no bound."""
KNOWN_WITHIN_S = 5.0
DELIVER_WITHIN_MS = 86_400_000
"""Never, in effect: a record that expired would leave a hole before the later ones of its shard."""
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
        linger_s: float = LINGER_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`servers` is "host:port,...". Records wait up to `linger_s` for others of their shard."""
        self._clock = clock
        self._limits: dict[str, list[ShardLimit]] = {}  # by stream and shard number
        self._pending: dict[Any, int] = {}  # the future of each batch, oldest first, and its records
        self._waiting = self.acknowledged = 0
        self.refused: Counter[str] = Counter()
        with connecting(servers) as kafka_client:
            self._producer = KafkaProducer(
                bootstrap_servers=servers.split(","),
                **CONNECTING,
                kafka_client=kafka_client,
                client_id=client_id,
                linger_ms=round(linger_s * 1000),
                batch_size=1 << 16,
                max_block_ms=KNOWN_WITHIN_S * 1000,
                delivery_timeout_ms=DELIVER_WITHIN_MS,
                **DURABLE,
            )
        self._appender = Appender(self._producer)

    def shard_of(self, stream: str, key: str) -> Shard:
        """The shard that records with this partition key go to."""
        return Shard(stream, shard_number(key.encode(), self.shards(stream)))

    def shards(self, stream: str) -> int:
        """The number of a stream's shards. Raises UserError if there is no such stream."""
        return len(self._limits.get(stream) or self._known(stream))

    def put(self, stream: str, key: str, value: bytes, headers: Sequence[tuple[str, bytes]] = ()) -> None:
        """Put a record into the shard of its key; it is written in the background.

        Raises InvalidArgumentException for one that no shard takes (never to be tried again),
        ProvisionedThroughputExceededException when the shard is full for now (to be tried again after
        its `wait_s` seconds, before any later record of that shard), PutFailedError when an earlier
        record could not be written. Waits while too many are not acknowledged yet.
        """
        encoded = key.encode()
        size = len(encoded) + len(value)
        if not 0 < len(key) <= KEY_CHARACTERS or size > RECORD_BYTES:
            self.refused[stream] += 1
            raise InvalidArgumentException(_refusal(stream, key, size))
        if self._waiting >= MOST_PENDING:
            self.flush()
        limits = self._limits.get(stream) or self._known(stream)
        number = shard_number(encoded, len(limits))
        wait_s = limits[number].take(size)
        if wait_s:
            raise ProvisionedThroughputExceededException(f"shard {number} of {stream} is full", wait_s)
        try:
            future = self._appender.append(Shard(stream, number), encoded, value, headers)
        except KafkaError as error:
            raise PutFailedError(f"{stream}: {error}") from error
        self._waiting += 1
        if future in self._pending:
            self._pending[future] += 1
        else:
            self._pending[future] = 1
            self._collect()

    def flush(self, timeout_s: float = 30.0) -> None:
        """Wait until all that was put is acknowledged. Raises PutFailedError for what was not."""
        try:
            self._producer.flush(timeout=timeout_s)
        except KafkaError as error:
            raise PutFailedError(f"not acknowledged within {timeout_s:g} s: {error}") from error
        self._collect()
        if self._waiting:
            raise PutFailedError(f"{self._waiting} records were not acknowledged in {timeout_s:g} s")

    def by_shard(self) -> dict[Shard, ShardUse]:
        """What this process has put into each shard so far, of the streams that it puts into."""
        return {
            Shard(stream, number): limit.use
            for stream, limits in sorted(self._limits.items())
            for number, limit in enumerate(limits)
        }

    @property
    def throttled(self) -> int:
        """How often a put was held back by a shard's limits."""
        return sum(use.throttled for use in self.by_shard().values())

    def close(self) -> None:
        """Close; call flush before, to know that all is written."""
        close_producer(self._producer)

    def _known(self, stream: str) -> list[ShardLimit]:
        shards = shard_count(self._producer, stream)
        limits = self._limits[stream] = [ShardLimit(self._clock) for _ in range(shards)]
        return limits

    def _collect(self) -> None:
        """Count what was acknowledged, batch by batch in the order of their first records."""
        pending = self._pending
        while pending and (future := next(iter(pending))).is_done:
            records = pending.pop(future)
            self._waiting -= records
            if (wrong := failure(future)) is not None:
                raise PutFailedError(f"a record could not be written: {wrong}")
            self.acknowledged += records


def shard_count(producer: Any, stream: str) -> int:
    """The number of a stream's shards, as a KafkaProducer knows it. Raises UserError for no stream."""
    try:
        return len(producer.partitions_for(stream))
    except KafkaTimeoutError as error:
        raise UserError(
            f"there is no stream {stream}; `python -m infra.provision` makes those declared"
        ) from error


def close_producer(producer: Any) -> None:
    """End a KafkaProducer within seconds, its threads too, whatever it still holds."""
    with contextlib.suppress(KafkaError):
        producer.flush(timeout=2)
    producer._sender.force_close()  # `close` alone leaves its threads when a flush does not end
    with contextlib.suppress(KafkaError):
        producer.close(timeout=2)


def _refusal(stream: str, key: str, size: int) -> str:
    if size > RECORD_BYTES:
        return f"{stream}: a record of {size:,} bytes; key and value have at most {RECORD_BYTES:,}"
    return f"{stream}: a partition key of {len(key)} characters; it has 1 to {KEY_CHARACTERS}"
