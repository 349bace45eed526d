"""Events as the bytes of an object: Parquet by the event's schema, or gzipped lines of JSON.

The same events give the same bytes, however they came in batches.
"""

from __future__ import annotations

import gzip
import io
import operator
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from infra.contracts.delivery import Format
from infra.contracts.errors import UserError
from infra.contracts.events import Event, arrow_schema

GZIP_LEVEL = 4
Columns = list[tuple[str, str]]
"""The columns of a Parquet object: their names and Arrow types."""


class ObjectFormat(Protocol):
    """Makes objects of one kind of event; events are gathered as chunks, which are smaller than events."""

    def chunk(self, events: Sequence[Event], values: Sequence[bytes]) -> Any:
        """Some events (and their JSON, one for one) in the form that `body` joins."""

    def body(self, chunks: Iterable[Any]) -> bytes:
        """The object that holds these chunks, in order."""


class ParquetObjects:
    """Parquet, compressed by Snappy."""

    def __init__(self, kind: type[Event], columns: Columns) -> None:
        """`columns` may be fewer than the event's fields, as an older schema was.

        Raises UserError for a column that the event does not have, or has as another type.
        """
        declared = arrow_schema(kind)
        for name, arrow_type in columns:
            if name not in declared.names or str(declared.field(name).type) != arrow_type:
                raise UserError(
                    f"{kind.__name__} has no field {name!r} of type {arrow_type}: "
                    "another version of this program began this object and has to finish it"
                )
        self.schema = pa.schema([declared.field(name) for name, _ in columns])
        self._fields = [(operator.attrgetter(field.name), field.type) for field in self.schema]

    def chunk(self, events: Sequence[Event], values: Sequence[bytes]) -> Any:
        """See ObjectFormat: a record batch."""
        arrays = [pa.array(list(map(field, events)), arrow_type) for field, arrow_type in self._fields]
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    def body(self, chunks: Iterable[Any]) -> bytes:
        """See ObjectFormat."""
        return parquet(pa.Table.from_batches(list(chunks), self.schema))


class JsonObjects:
    """Gzipped lines: each record's own JSON, line breaks outside of strings taken away."""

    def chunk(self, events: Sequence[Event], values: Sequence[bytes]) -> Any:
        """See ObjectFormat: the lines."""
        return b"".join(_line(value) for value in values)

    def body(self, chunks: Iterable[Any]) -> bytes:
        """See ObjectFormat."""
        return gzip.compress(b"".join(chunks), GZIP_LEVEL, mtime=0)


def object_format(form: Format, kind: type[Event], columns: Columns) -> ObjectFormat:
    """What makes objects of a kind of event. Raises UserError when this version can't."""
    return ParquetObjects(kind, columns) if form == "parquet" else JsonObjects()


def columns_of(form: Format, kind: type[Event]) -> Columns:
    """The columns that an object of a kind of event has today; none for lines of JSON."""
    if form == "json":
        return []
    return [(field.name, str(field.type)) for field in arrow_schema(kind)]


def parquet(table: Any) -> bytes:
    """A table as a Parquet file, compressed by Snappy; the same bytes for the same rows."""
    # Numbers hardly repeat: a dictionary of them costs more time than it saves space.
    texts = [field.name for field in table.schema if pa.types.is_string(field.type)]
    sink = io.BytesIO()
    pq.write_table(table.combine_chunks(), sink, compression="snappy", use_dictionary=texts)
    return sink.getvalue()


def _line(value: bytes) -> bytes:
    return (msgspec.json.format(value, indent=-1) if b"\n" in value or b"\r" in value else value) + b"\n"
