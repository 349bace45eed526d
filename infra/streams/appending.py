"""Appends records to a Kafka producer's batches, without the checks of its `send` that ours have made.

`send` looks up the topic, picks a partition, estimates sizes, makes a future for every record and wakes the
client's I/O thread for every batch that is begun; that is four fifths of what a record costs.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from kafka import TopicPartition
from kafka.record.util import encode_varint

from infra.streams.records import Shard


def _varint(number: int) -> bytes:
    found = bytearray()
    encode_varint(number, found.append)
    return bytes(found)


_VARINTS = [_varint(number) for number in range(4_096)]


class Appender:
    """For one thread and one KafkaProducer (kafka-python 3.0.12, which the lock file pins)."""

    def __init__(self, producer: Any) -> None:
        self._accumulator, self._sender = producer._accumulator, producer._sender
        self._manager = producer._transaction_manager
        self._places: dict[Shard, TopicPartition] = {}
        self._added: set[Shard] = set()
        self._woken_for: Any = None

    def begin(self) -> None:
        """A transaction begins: no shard is part of it yet."""
        self._added.clear()

    def append(
        self, shard: Shard, key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]] = ()
    ) -> Any:
        """Append a record, which the client writes in the background; its batch's future (see `failure`).

        The topic must be known to the client (see producer.shard_count). When it begins a batch in a
        transaction it raises what `send` would, such as after an error.
        """
        place = self._places.get(shard)
        if place is None:
            place = self._places[shard] = TopicPartition(*shard)
        if not headers and shard in self._added:
            with self._accumulator._tp_lock(place):
                batches = self._accumulator._batches[place]
                if batches and _append(batches[-1].records, key, value):
                    return batches[-1].produce_future
        if self._manager.is_transactional():
            self._manager.maybe_add_partition_to_transaction(place)
        self._added.add(shard)
        future, is_full, is_new, _ = self._accumulator.append(place, None, key, value, list(headers))
        if is_full or (is_new and not self._looks_again()):
            self._woken_for = self._last(place)
            self._sender.wakeup()
        return future._produce_future

    def _looks_again(self) -> bool:
        """Whether the client's I/O thread will look for batches again without being woken.

        It does when it takes the batch that it was woken for, which it has not done while that is open:
        so it finds any that was begun before. Nothing less will do; time that has passed tells nothing.
        """
        return self._woken_for is not None and not self._woken_for.records._closed

    def _last(self, place: TopicPartition) -> Any:
        """The newest batch of a shard, None when the I/O thread has taken it already."""
        with self._accumulator._tp_lock(place):
            batches = self._accumulator._batches[place]
            return batches[-1] if batches else None


def failure(future: Any) -> Exception | None:
    """Why the records of a batch that is done were not written; None if they were."""
    if future.exception is not None:
        return future.exception  # type: ignore[no-any-return]
    _, _, exceptions = future.value
    return None if exceptions is None else exceptions(0)


def _append(records: Any, key: bytes | None, value: bytes | None) -> bool:
    """Append to a batch as its own `append` does; False if it is closed, full or empty."""
    if records._closed:
        return False
    builder, number = records._builder, records._next_offset
    timestamp = int(time.time() * 1000)
    passed = timestamp - builder._first_timestamp
    body = b"".join(
        (
            b"\x00",
            _VARINTS[passed] if 0 <= passed < len(_VARINTS) else _varint(passed),
            _VARINTS[number] if number < len(_VARINTS) else _varint(number),
            _sized(key),
            _sized(value),
            b"\x00",
        )
    )
    if len(body) + 3 + len(builder._buffer) > builder._batch_size:
        return False
    builder._buffer += _sized(body)
    builder._num_records += 1
    builder._last_offset = number
    if timestamp > builder._max_timestamp:
        builder._max_timestamp = timestamp
    records._next_offset = number + 1
    return True


def _sized(text: bytes | None) -> bytes:
    """A text with its length before it."""
    if text is None:
        return b"\x01"
    size = len(text)
    return (_VARINTS[size] if size < len(_VARINTS) else _varint(size)) + text
