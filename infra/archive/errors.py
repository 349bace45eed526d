"""Records that were set aside, as Firehose writes them: one JSON document a line, the data in base64."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from infra.streams.records import Record

FORMAT_CONVERSION = "format-conversion-failed"
PROCESSING = "processing-failed"
PARTITIONS_EXCEEDED = "activePartitionExceeded"
"""Kinds of errors, which is what !{firehose:error-output-type} stands for."""


class Failed(NamedTuple):
    """A record that is set aside, and why in one line."""

    record: Record
    reason: str


class FailedRecord(msgspec.Struct, frozen=True, rename="camel"):
    """A line of an object below the error prefix; `arrival_timestamp` in milliseconds since 1970.

    `raw_data` and `partition_key` are in base64. Beyond what Firehose writes: stream and shard.
    """

    attempts_made: int
    arrival_timestamp: int
    last_error_code: str
    last_error_message: str
    raw_data: str
    sequence_number: str
    partition_key: str
    stream: str
    shard: int


def failed_lines(kind: str, failed: Iterable[Failed]) -> bytes:
    """The object of all records of a cut that have a kind of error in common."""
    return b"".join(msgspec.json.encode(_failed_record(kind, each)) + b"\n" for each in failed)


def read_failed(body: bytes) -> list[FailedRecord]:
    """Read such an object back."""
    return [msgspec.json.decode(line, type=FailedRecord) for line in body.splitlines()]


def raw_data(failed: FailedRecord) -> bytes:
    """The record's value as it was put."""
    return base64.b64decode(failed.raw_data)


def _failed_record(kind: str, failed: Failed) -> FailedRecord:
    record = failed.record
    return FailedRecord(
        attempts_made=1,
        arrival_timestamp=record.timestamp_ms,
        last_error_code=kind,
        last_error_message=failed.reason,
        raw_data=base64.b64encode(record.value or b"").decode(),
        sequence_number=str(record.offset),
        partition_key=base64.b64encode(record.key or b"").decode(),
        stream=record.shard.stream,
        shard=record.shard.number,
    )
