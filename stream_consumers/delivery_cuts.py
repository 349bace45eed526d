"""A cut: some records of a shard, sorted into the objects that they will be. No I/O."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from infra.archive.errors import FORMAT_CONVERSION, PARTITIONS_EXCEEDED, PROCESSING, Failed, failed_lines
from infra.archive.formats import Columns, ObjectFormat, columns_of, object_format
from infra.archive.intents import WRITER, Intent, Part, runs_of
from infra.contracts.delivery import DeclaredDelivery, Format
from infra.contracts.errors import PoisonRecordError
from infra.contracts.events import EVENTS, Event
from infra.contracts.prefixes import Place
from infra.contracts.validity import TIMED, check_time, read_event
from infra.streams.records import Record

WHOLE = ""
"""The only part of a cut without partitions."""
# A value that is part of an address: it must not climb (for SeaweedFS "\" is "/"), nor be nothing, nor hold
# what S3's XML can't.
FIT_FOR_ADDRESS = re.compile(r"(?!\.+$)[^/\\\x00-\x1f\x7f-\x9f\ufffe\uffff]+")
MOST_IN_ADDRESS = 200
"""Bytes of it: with a name before it it still is a file's name, of which many servers take 255 bytes."""


class ReplayDiffersError(Exception):
    """The records of an intent's range are not those that it was made for."""


@dataclass(frozen=True)
class Sorting:
    """How records are sorted and written: by what a delivery stream declares, or an intent says."""

    kind: str
    format: Format
    columns: Columns
    partition_field: str | None
    live_from: datetime | None

    @classmethod
    def declared(cls, delivery: DeclaredDelivery, live_from: datetime | None) -> Sorting:
        """By the declaration. `live_from` stands for a shard's newest event time before its first."""
        columns = columns_of(delivery.format, delivery.event)
        partition_field = delivery.partitioning.field if delivery.partitioning else None
        return cls(delivery.kind, delivery.format, columns, partition_field, live_from)

    @classmethod
    def of(cls, intent: Intent) -> Sorting:
        """By an intent, whatever is declared now."""
        return cls(intent.kind, intent.format, intent.columns, intent.partition_field, intent.live_from)


@dataclass
class Gathered:
    """The good records of one object to be."""

    chunks: list[Any] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)


class Cut:
    """A shard's records from offset `first` on, in order, until it is written.

    With an `intent` it takes the records of that range only, and only its partitions.
    """

    def __init__(
        self, sorting: Sorting, first: int, newest: datetime | None, intent: Intent | None = None
    ) -> None:
        """`newest` is the shard's newest good event time before `first`."""
        self.sorting, self.first, self.intent = sorting, first, intent
        self.newest_before = self.newest = newest
        self.end = first
        self.began_ms: int | None = None
        """The first record's timestamp, in milliseconds since 1970; None while there is none."""
        self.since = 0.0
        """When it came, by the handler's clock."""
        self.size, self.good, self.bad = 0, 0, 0
        self.parts: dict[str, Gathered] = {}
        self.failed: dict[str, list[Failed]] = {}
        self._kind: type[Event] = EVENTS[sorting.kind]
        self._timed = self._kind in TIMED
        self._format: ObjectFormat = object_format(sorting.format, self._kind, sorting.columns)
        self._refused: set[str] = set()

    @property
    def is_complete(self) -> bool:
        """Whether it has all records of its intent."""
        return self.intent is not None and self.end >= self.intent.end

    def take(self, records: Sequence[Record], may_open: Callable[[str], bool]) -> int:
        """Take records in order; how many: those past the intent's range are left.

        `may_open` says whether a partition value may be had in addition; one that is refused stays so.
        """
        if self.intent is not None:
            end = self.intent.end
            records = [record for record in records if record.offset < end]
        if not records:
            return 0
        if self.began_ms is None:
            self.began_ms = records[0].timestamp_ms
        groups: dict[str, tuple[list[int], list[Event], list[bytes]]] = {}
        for record in records:
            self._sort(record, groups, may_open)
        for value, (offsets, events, values) in groups.items():
            part = self.parts.setdefault(value, Gathered())
            part.offsets += offsets
            part.chunks.append(self._format.chunk(events, values))
            self.good += len(events)
        self.end = records[-1].offset + 1
        self.size += sum(len(record.value or b"") for record in records)
        return len(records)

    def _sort(
        self,
        record: Record,
        groups: dict[str, tuple[list[int], list[Event], list[bytes]]],
        may_open: Callable[[str], bool],
    ) -> None:
        try:
            event = read_event(self._kind, record)
            if self._timed:
                self._check_time(event)
        except PoisonRecordError as error:
            kind = FORMAT_CONVERSION if self.sorting.format == "parquet" else PROCESSING
            return self._fail(kind, record, str(error))
        value = WHOLE
        if self.sorting.partition_field is not None:
            value = str(getattr(event, self.sorting.partition_field))
            if not _fits_address(value):
                return self._fail(PROCESSING, record, f"{value!r} can't be a part of an address")
            if not self._may_have(value, groups, may_open):
                return self._fail(PARTITIONS_EXCEEDED, record, f"no partition for {value!r}: too many")
        group = groups.get(value)
        if group is None:
            group = groups[value] = ([], [], [])
        group[0].append(record.offset)
        group[1].append(event)
        group[2].append(record.value or b"")
        return None

    def _check_time(self, event: Any) -> None:
        newest = self.newest or self.sorting.live_from
        if newest is not None:
            check_time(event.event_time, newest)
        if self.newest is None or event.event_time > self.newest:
            self.newest = event.event_time

    def _may_have(self, value: str, groups: dict[str, Any], may_open: Callable[[str], bool]) -> bool:
        if value in groups or value in self.parts:
            return True
        if self.intent is not None:
            return any(part.partition == value for part in self.intent.good)
        if value in self._refused or not may_open(value):
            self._refused.add(value)
            return False
        self.parts[value] = Gathered()
        return True

    def _fail(self, kind: str, record: Record, reason: str) -> None:
        self.failed.setdefault(kind, []).append(Failed(record, reason))
        self.bad += kind != PARTITIONS_EXCEEDED

    def bodies(self, intent: Intent) -> Iterator[tuple[Part, bytes]]:
        """The objects of the intent that this cut is written by.

        Raises ReplayDiffersError unless the records were sorted just as the intent says.
        """
        found = {
            (value if self._partitioned else None, None): part.offsets for value, part in self.parts.items()
        }
        failed = {(None, kind): [each.record.offset for each in many] for kind, many in self.failed.items()}
        said = {(part.partition, part.error): part.offsets for part in intent.parts}
        if said != {where: runs_of(offsets) for where, offsets in (found | failed).items()}:
            raise ReplayDiffersError(
                f"shard {intent.shard} of {intent.stream}: the records from {intent.first:,} to "
                f"{intent.end:,} are not those that their intent was made for"
            )
        for part in intent.parts:
            if part.error is None:
                yield part, self._format.body(self.parts[part.partition or WHOLE].chunks)
            else:
                yield part, failed_lines(part.error, self.failed[part.error])

    @property
    def _partitioned(self) -> bool:
        return self.sorting.partition_field is not None


def resolve(cut: Cut, delivery: DeclaredDelivery, topic_id: str, shard: int) -> Intent:
    """The intent of a cut that has records: every address and all else is decided here."""
    return Intent(
        writer=WRITER,
        delivery=delivery.name,
        stream=delivery.stream,
        topic_id=topic_id,
        shard=shard,
        first=cut.first,
        end=cut.end,
        kind=delivery.kind,
        format=delivery.format,
        columns=cut.sorting.columns,
        partition_field=cut.sorting.partition_field,
        newest=cut.newest_before,
        newest_after=cut.newest,
        live_from=cut.sorting.live_from,
        parts=[*_good_parts(cut, delivery, topic_id, shard), *_bad_parts(cut, delivery, topic_id, shard)],
    )


def _good_parts(cut: Cut, delivery: DeclaredDelivery, topic_id: str, shard: int) -> Iterator[Part]:
    for value, gathered in cut.parts.items():
        partition = None if delivery.partitioning is None else value
        keys = {} if delivery.partitioning is None else {delivery.partitioning.key: value}
        name, place = _place(cut, topic_id, shard, value)
        prefix = delivery.prefix.evaluate(Place(place.at, place.seed, keys))
        url = f"s3://{delivery.bucket}/{prefix}{_file(delivery, place.at, name)}{delivery.extension}"
        yield Part(url=url, offsets=runs_of(gathered.offsets), partition=partition)


def _bad_parts(cut: Cut, delivery: DeclaredDelivery, topic_id: str, shard: int) -> Iterator[Part]:
    for kind, failed in cut.failed.items():
        name, place = _place(cut, topic_id, shard, kind)
        prefix = delivery.error_prefix.evaluate(Place(place.at, place.seed, {}, kind))
        url = f"s3://{delivery.bucket}/{prefix}{_file(delivery, place.at, name)}.json"
        yield Part(url=url, offsets=runs_of(each.record.offset for each in failed), error=kind)


def _fits_address(value: str) -> bool:
    return FIT_FOR_ADDRESS.fullmatch(value) is not None and len(value.encode()) <= MOST_IN_ADDRESS


def _place(cut: Cut, topic_id: str, shard: int, value: str) -> tuple[str, Place]:
    """An object's unique name, and its time and seed: by topic, range and partition, so always the same."""
    assert cut.began_ms is not None, "a cut without records is not written"
    seed = f"{shard}/{cut.first}-{cut.end}/{value}"
    at = datetime.fromtimestamp(cut.began_ms / 1000, UTC)
    return str(uuid.uuid5(uuid.UUID(topic_id), seed)), Place(at, f"{topic_id}/{seed}", {})


def _file(delivery: DeclaredDelivery, at: datetime, name: str) -> str:
    """The last part of an address, as Firehose makes it: name, version, time, a unique name."""
    return f"{delivery.name}-1-{at:%Y-%m-%d-%H-%M-%S}-{name}"
