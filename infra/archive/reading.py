"""Reads back what delivery wrote of given offsets, by the intents: for proofs and counts."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from infra.archive.errors import FailedRecord, read_failed
from infra.archive.formats import ParquetObjects, columns_of
from infra.archive.intents import Intent, Intents, OffsetRuns, Part
from infra.contracts.events import EVENTS, decoder
from infra.objects import ObjectStore
from infra.streams.records import Shard

Ranges = Mapping[Shard, tuple[int, int]]
"""For each shard the offsets [begin, end) that are asked for."""


class Held(NamedTuple):
    """An object that holds records of asked offsets; `mask` says which of its rows they are."""

    intent: Intent
    part: Part
    mask: npt.NDArray[np.bool_]


def delivered(intents: Intents, ranges: Ranges) -> Iterator[Held]:
    """The objects, of good records and of bad ones, that hold records of the ranges."""
    for shard, (begin, end) in sorted(ranges.items()):
        for intent in intents.overlapping(shard.number, begin, end):
            for part in intent.parts:
                offsets = offsets_of(part.offsets)
                mask = (offsets >= begin) & (offsets < end)
                if mask.any():
                    yield Held(intent, part, mask)


def delivered_rows(
    store: ObjectStore, intents: Intents, ranges: Ranges, columns: Sequence[str]
) -> Iterator[pa.Table]:
    """The good records of the ranges, read from the objects: a table of some columns for each object."""
    for held in delivered(intents, ranges):
        if held.part.error is None:
            yield read_rows(store, held, columns)


def delivered_errors(store: ObjectStore, intents: Intents, ranges: Ranges) -> Iterator[FailedRecord]:
    """The bad records of the ranges, read from the objects."""
    for held in delivered(intents, ranges):
        if held.part.error is not None:
            records = read_failed(store.get(held.part.url))
            yield from (record for record, asked in zip(records, held.mask, strict=True) if asked)


def read_rows(store: ObjectStore, held: Held, columns: Sequence[str]) -> pa.Table:
    """Columns of the asked rows of an object of good records. Raises FileNotFoundError if it is not there."""
    body = store.get(held.part.url)
    if held.intent.format == "parquet":
        table = pq.read_table(io.BytesIO(body), columns=list(columns))
    else:
        table = object_rows(body, held.intent).select(list(columns))
    return table.filter(pa.array(held.mask))


def object_rows(body: bytes, intent: Intent) -> pa.Table:
    """All rows of an object of good records, with the columns of its kind of event."""
    if intent.format == "parquet":
        return pq.read_table(io.BytesIO(body))
    kind, lines = EVENTS[intent.kind], gzip.decompress(body).splitlines()
    rows = ParquetObjects(kind, columns_of("parquet", kind))
    return pa.Table.from_batches([rows.chunk([decoder(kind).decode(line) for line in lines], lines)])


def offsets_of(runs: OffsetRuns) -> npt.NDArray[np.int64]:
    """All offsets of runs."""
    parts = [np.arange(first, first + length, dtype=np.int64) for first, length in runs]
    return np.concatenate(parts) if parts else np.empty(0, np.int64)
