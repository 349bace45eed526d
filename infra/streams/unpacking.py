"""Unpacks what Kafka's client has fetched straight into our records, a batch at a time.

The client's own way goes through two objects and a dozen calls for each record, which is four times as much.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import kafka.errors
from kafka.consumer.fetcher import Fetcher, IsolationLevel
from kafka.record.default_records import DefaultRecordBase

from infra.streams.records import Record, Shard

HEADER_BYTES = DefaultRecordBase.HEADER_STRUCT.size


class Unpacked(Fetcher.PartitionRecords):  # type: ignore[misc]  # kafka ships no types
    """For kafka-python 3.0.12, which the lock file pins: set as a Fetcher's PartitionRecords."""

    def _unpack_records(self, tp: Any, records: Any, *_: object) -> Iterator[Record]:
        """The committed records of what was fetched; `next_fetch_offset` follows them."""
        shard = Shard(tp.topic, tp.partition)
        while (batch := records.next_batch()) is not None:
            if self.check_crcs and not batch.validate_crc():
                raise kafka.errors.CorruptRecordError(
                    f"{shard} at offset {batch.base_offset}: wrong checksum"
                )
            assert batch.magic == 2, "no topic of Kafka 4 has an older format"
            self.leader_epoch = batch.leader_epoch
            if not self._is_to_be_skipped(batch):
                for record in unpack(shard, batch):
                    self.next_fetch_offset = record.offset + 1
                    yield record
            self.next_fetch_offset = batch.next_offset  # also past records that compaction removed
        self.drain()

    def _is_to_be_skipped(self, batch: Any) -> bool:
        """Whether a batch holds no records for a reader: a marker, or what was aborted."""
        if self.isolation_level == IsolationLevel.READ_COMMITTED and batch.has_producer_id():
            self._consume_aborted_transactions_up_to(batch.last_offset)
            if self._contains_abort_marker(batch):
                self.aborted_producer_ids.discard(batch.producer_id)
            elif self._is_batch_aborted(batch):
                return True
        return bool(batch.is_control_batch)


def unpack(shard: Shard, batch: Any) -> Iterator[Record]:
    """The records of a client's DefaultRecordBatch. Raises CorruptRecordError."""
    if batch.compression_type != batch.CODEC_NONE or batch.timestamp_type != batch.CREATE_TIME:
        for item in batch:
            yield Record(shard, item.offset, item.key, item.value, item.timestamp, tuple(item.headers))
        return
    first_offset, first_timestamp = batch.base_offset, batch.first_timestamp
    data, at = bytes(batch._buffer), HEADER_BYTES
    try:
        for _ in range(batch.records_count):
            # Numbers of one or two bytes are read here: a call for each would cost more than all the rest.
            if (size := data[at]) < 0x80:
                at += 1
            elif (high := data[at + 1]) < 0x80:
                size += (high << 7) - 0x80
                at += 2
            else:
                size, at = _number(data, at)
            end = at + (size >> 1)
            if (passed := data[at + 1]) < 0x80:
                at += 2
            elif (high := data[at + 2]) < 0x80:
                passed += (high << 7) - 0x80
                at += 3
            else:
                passed, at = _number(data, at + 1)
            if (number := data[at]) < 0x80:
                at += 1
            elif (high := data[at + 1]) < 0x80:
                number += (high << 7) - 0x80
                at += 2
            else:
                number, at = _number(data, at)
            key, at = _text(data, at)
            value, at = _text(data, at)
            headers: tuple[tuple[str, bytes], ...] = ()
            if data[at]:
                headers, at = _headers(data, at)
            else:
                at += 1
            if at != end:
                raise kafka.errors.CorruptRecordError(f"{shard}: a record ends at {at} instead of {end}")
            timestamp = first_timestamp + ((passed >> 1) ^ -(passed & 1))
            yield Record(shard, first_offset + (number >> 1), key, value, timestamp, headers)
    except IndexError as error:
        raise kafka.errors.CorruptRecordError(f"{shard}: a batch ends amidst a record") from error
    if at != len(data):
        raise kafka.errors.CorruptRecordError(f"{shard}: {len(data) - at} bytes after the last record")


def _number(data: bytes, at: int) -> tuple[int, int]:
    """An unsigned number of any length, and where it ends."""
    found = shift = 0
    while (byte := data[at]) >= 0x80:
        found |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
    return found | byte << shift, at + 1


def _text(data: bytes, at: int) -> tuple[bytes | None, int]:
    """A key or a value with its length before it, None for a negative length, and where it ends."""
    if (size := data[at]) < 0x80:
        at += 1
    elif (high := data[at + 1]) < 0x80:
        size += (high << 7) - 0x80
        at += 2
    else:
        size, at = _number(data, at)
    if size & 1:
        return None, at
    end = at + (size >> 1)
    return data[at:end], end


def _headers(data: bytes, at: int) -> tuple[tuple[tuple[str, bytes], ...], int]:
    """A record's headers, and where they end."""
    count, at = _number(data, at)
    found = []
    for _ in range(count >> 1):
        name, at = _text(data, at)
        value, at = _text(data, at)
        found.append(((name or b"").decode(), value or b""))
    return tuple(found), at
