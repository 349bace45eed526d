"""Delivery's intents: what a cut of a shard is written as, said before it is written.

An intent is created once, never changed, never deleted. Whoever finds one executes it. Together the
intents of a shard cover its records without a gap: each begins where the one before ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import pairwise

import msgspec

from infra.contracts.delivery import Format
from infra.contracts.errors import UserError
from infra.objects import ObjectStore, StoredObject

WRITER = 1
"""To be raised with every change of what an intent's objects hold; older intents must stay executable."""
OffsetRuns = list[tuple[int, int]]
"""Offsets in ascending order as runs without a gap: each run's first offset and its length."""


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One object: its address, the offsets of its records in the order of its rows.

    `partition` is the value of the partition field that its rows share, `error` the kind of error that
    its records have in common; both are None for an object of all good records.
    """

    url: str
    offsets: OffsetRuns
    partition: str | None = None
    error: str | None = None

    @property
    def records(self) -> int:
        """The number of its records."""
        return sum(length for _, length in self.offsets)


class Intent(msgspec.Struct, frozen=True, kw_only=True):
    """A cut: the offsets [first, end) of a shard and all that decides how they are written.

    `newest` is the shard's newest good event time before the range, `newest_after` after it; `live_from`
    stands for it before the first. `kind` names the event.
    """

    writer: int
    delivery: str
    stream: str
    topic_id: str
    shard: int
    first: int
    end: int
    kind: str
    format: Format
    columns: list[tuple[str, str]]
    partition_field: str | None
    newest: datetime | None
    newest_after: datetime | None
    live_from: datetime | None
    parts: list[Part]

    @property
    def good(self) -> list[Part]:
        """The objects of good records."""
        return [part for part in self.parts if part.error is None]

    @property
    def bad(self) -> list[Part]:
        """The objects of records that were set aside."""
        return [part for part in self.parts if part.error is not None]


_encoder, _decoder = msgspec.json.Encoder(), msgspec.json.Decoder(Intent)


class Intents:
    """The intents of a delivery stream for one topic; a topic made anew has others."""

    def __init__(self, store: ObjectStore, bucket: str, delivery: str, topic_id: str) -> None:
        self._store = store
        self._prefix = f"s3://{bucket}/delivery/{delivery}/{topic_id}/"

    def url(self, shard: int, first: int) -> str:
        """Where the intent of the cut that begins at an offset lies."""
        return f"{self._prefix}{shard}/{first:020}"

    def create(self, intent: Intent) -> Intent:
        """Create an intent; the one that is in force now, which somebody else may have created before."""
        if self._store.put_once(self.url(intent.shard, intent.first), _encoder.encode(intent)):
            return intent
        found = self.get(intent.shard, intent.first)
        assert found is not None, "intents are never deleted"
        return found

    def get(self, shard: int, first: int) -> Intent | None:
        """The intent of the cut that begins at an offset, if it was begun.

        Raises UserError for one that this version can't execute.
        """
        url = self.url(shard, first)
        try:
            body = self._store.get(url)
        except FileNotFoundError:
            return None
        return _read(url, body)

    def firsts(self, shard: int, begin: int = 0) -> list[int]:
        """Where each cut of a shard that was ever begun, at `begin` or later, starts; ascending."""
        after = self.url(shard, begin - 1) if begin else ""
        found = self._store.list(f"{self._prefix}{shard}/", after)
        return [int(item.url.rsplit("/", 1)[1]) for item in found]

    def listed(self) -> list[StoredObject]:
        """The object of every intent, in no useful order: read one by `at`."""
        return list(self._store.list(self._prefix))

    def at(self, url: str) -> Intent:
        """The intent at an address of `listed`. Raises UserError as `get` does."""
        return _read(url, self._store.get(url))

    def last_before(self, shard: int, offset: int | None = None) -> Intent | None:
        """The last cut of a shard, or the last one that begins below an offset."""
        firsts = [first for first in self.firsts(shard) if offset is None or first < offset]
        return self.get(shard, firsts[-1]) if firsts else None

    def is_done(self, intent: Intent) -> bool:
        """Whether all objects of an intent are there."""
        return all(self._store.exists(part.url) for part in intent.parts)

    def overlapping(self, shard: int, begin: int, end: int) -> Iterator[Intent]:
        """The cuts that hold offsets of [begin, end), in order."""
        firsts = self.firsts(shard)
        for first, following in pairwise([*firsts, end]):
            if first < end and following > begin:
                intent = self.get(shard, first)
                if intent is not None and intent.end > begin:
                    yield intent


def topics_and_shards(store: ObjectStore, bucket: str, delivery: str) -> list[tuple[str, int]]:
    """The topic ids and shards that a delivery stream ever cut."""
    topics = store.folders(f"s3://{bucket}/delivery/{delivery}/")
    shards = (shard.split("/")[-3:-1] for topic in topics for shard in store.folders(topic))
    return [(topic_id, int(number)) for topic_id, number in shards]


def runs_of(offsets: Iterable[int]) -> OffsetRuns:
    """Ascending offsets as runs."""
    runs: OffsetRuns = []
    first = length = 0
    for offset in offsets:
        if length and offset == first + length:
            length += 1
            continue
        if length:
            runs.append((first, length))
        first, length = offset, 1
    return [*runs, (first, length)] if length else runs


def check_store(store: ObjectStore, bucket: str) -> None:
    """Raise UserError for a store that ignores If-None-Match: nothing would be exactly once there."""
    probe = f"s3://{bucket}/delivery/if-none-match"
    store.put_once(probe, b"created once")
    if store.put_once(probe, b"created twice"):
        raise UserError(
            f"the S3 server at {store.endpoint} ignores If-None-Match, on which exactly-once delivery "
            "rests; use one that honours it, such as SeaweedFS or MinIO"
        )


def _read(url: str, body: bytes) -> Intent:
    version = msgspec.json.decode(body, type=_Version).writer
    if version > WRITER:
        raise UserError(
            f"{url} was written by version {version} of delivery, this is version {WRITER}: "
            "start the newer one, which can finish it"
        )
    return _decoder.decode(body)


class _Version(msgspec.Struct):
    writer: int
