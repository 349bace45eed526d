"""A shard and a record of it, and which shard a key belongs to."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from kafka.partitioner.default import murmur2


class Shard(NamedTuple):
    """A shard of a stream: a partition of a topic."""

    stream: str
    number: int


class Record(NamedTuple):
    """A record as it was read. `timestamp_ms` is when it was put, in milliseconds since 1970."""

    shard: Shard
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp_ms: int
    headers: tuple[tuple[str, bytes], ...]


@lru_cache(maxsize=1 << 16)
def shard_number(key: bytes | str, shards: int) -> int:
    """The shard of a partition key: murmur2 modulo the number of shards, as Kafka's clients have it."""
    return (int(murmur2(key if isinstance(key, bytes) else key.encode())) & 0x7FFFFFFF) % shards
