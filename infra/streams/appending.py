"""Appends records to a Kafka producer's batches, without the checks of its `send` that ours have made.

`send` looks up the topic, picks a partition, estimates sizes and wakes the client's I/O thread for every
batch that is begun; all of that is more than half of what a record costs, and it is known here already.
"""

from __future__ import annotations

import time
from typing import Any

from kafka import TopicPartition

from infra.streams.records import Shard

WAKE_EVERY_S = 0.004
"""The I/O thread looks at all batches when it is awake, so more wake-ups find nothing new."""


class Appender:
    """For one thread and one KafkaProducer (kafka-python 3.0.12, which the lock file pins)."""

    def __init__(self, producer: Any) -> None:
        self._accumulator, self._sender = producer._accumulator, producer._sender
        self._manager = producer._transaction_manager
        self._places: dict[Shard, TopicPartition] = {}
        self._added: set[Shard] = set()
        self._woken = 0.0

    def begin(self) -> None:
        """A transaction begins: no shard is part of it yet."""
        self._added.clear()

    def append(
        self, shard: Shard, key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]]
    ) -> Any:
        """Append a record, which the client writes in the background; its future.

        The topic must be known to the client (see producer.shard_count). In a transaction raises what
        `send` would, such as after an error.
        """
        place = self._places.get(shard)
        if place is None:
            place = self._places[shard] = TopicPartition(*shard)
        if self._manager.is_transactional() and (shard not in self._added or self._manager.has_error()):
            self._manager.maybe_add_partition_to_transaction(place)
            self._added.add(shard)
        future, is_full, is_new, _ = self._accumulator.append(place, None, key, value, headers)
        if is_full or is_new:
            self._wake(is_full)
        return future

    def _wake(self, is_full: bool) -> None:
        now = time.monotonic()
        if is_full or now - self._woken > WAKE_EVERY_S:
            self._woken = now
            self._sender.wakeup()
