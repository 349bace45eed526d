"""A query's result as plain Arrow: PostgreSQL's numeric as decimals, other types of its own as their text."""

from __future__ import annotations

from decimal import Decimal

import pyarrow as pa


def plain(result: pa.Table) -> pa.Table:
    """The same columns without PostgreSQL's marks, which ADBC puts on each."""
    return pa.table([_plain(column) for column in result.columns], names=result.column_names)


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray | pa.Array:
    kind = column.type
    if not isinstance(kind, pa.OpaqueType):
        return column
    stored = pa.chunked_array([chunk.storage for chunk in column.chunks], type=kind.storage_type)
    return _decimals(stored) if kind.type_name == "numeric" else stored


def _decimals(texts: pa.ChunkedArray) -> pa.ChunkedArray | pa.Array:
    """A sum of whole numbers is numeric too. As text where a decimal can't hold it, such as NaN."""
    numbers = [None if text is None else Decimal(text) for text in texts.to_pylist()]
    if not all(number is None or number.is_finite() for number in numbers):
        return texts
    try:
        found = pa.array(numbers)
    except pa.ArrowInvalid:  # more digits than the widest decimal has
        return texts
    return found.cast(pa.decimal128(38, 0)) if pa.types.is_null(found.type) else found
