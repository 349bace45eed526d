"""Reads a user's own transactions, CSV or Parquet, as a data set: columns, times, cents, order, ids.

COLUMNS says which column each of ours is read from, as for sales. A row that can't be used is left out
and counted by its reason.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from infra.contracts.columns import TRANSACTIONS
from infra.contracts.errors import UserError

TRUE, FALSE = ("1", "1.0", "true", "t", "yes", "y"), ("0", "0.0", "false", "f", "no", "n", "")
MILLISECONDS_FROM = 10**11
"""A number this large is milliseconds since 1970; as seconds it would be the year 5138."""
LEAST_ROWS = 100
MOST_CENTS = 10**12


@dataclass(frozen=True)
class OwnTransactions:
    """`table`: the columns of Transaction and `fraud`, in order of time, the id being the rank.

    The live part begins at `live_from`. `notes` say what was left out, one line for each reason.
    """

    table: pa.Table
    live_from: datetime
    notes: tuple[str, ...]


def definition(path: Path, columns: str, history: float) -> dict[str, Any]:
    """What defines the data set of a file: its content, how it is read, where its live part begins."""
    if not path.is_file():
        raise UserError(f"INPUT={path} is not a file; give one CSV or Parquet file of transactions")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"kind": "input", "sha256": digest, "columns": TRANSACTIONS.parse(columns), "history": history}


def read(path: Path, columns: Mapping[str, str], history: float) -> OwnTransactions:
    """Read a file. Raises UserError for a missing column, and when too little of it can be used."""
    raw = _load(path, columns)
    frame = pd.DataFrame(
        {
            "event_time": _times(raw["event_time"]),
            "card_id": _texts(raw["card_id"]),
            "terminal_id": _texts(raw["terminal_id"]),
            "amount_cents": _cents(raw["amount"]),
            "fraud": _flags(raw["fraud"]),
        }
    )
    good, notes = _usable(frame, path)
    good = good.sort_values("event_time", kind="stable", ignore_index=True)
    live_from = good["event_time"].iloc[int(len(good) * history)].to_pydatetime()
    good.insert(0, "transaction_id", range(len(good)))
    table = pa.Table.from_pandas(good, preserve_index=False)
    return OwnTransactions(_typed(table), live_from, notes)


def _load(path: Path, columns: Mapping[str, str]) -> pd.DataFrame:
    """The five columns under our names: texts of a CSV, whatever a Parquet file has."""
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            names = pq.read_schema(path).names
            found = _found(columns, names)
            table = pq.read_table(path, columns=list(dict.fromkeys(found.values())))
        else:
            with pa_csv.open_csv(path) as reader:
                names = reader.schema.names
            found = _found(columns, names)
            wanted = list(dict.fromkeys(found.values()))
            options = pa_csv.ConvertOptions(
                include_columns=wanted,
                column_types=dict.fromkeys(wanted, pa.string()),
                strings_can_be_null=True,
            )
            table = pa_csv.read_csv(path, convert_options=options)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"INPUT={path} can't be read: {' '.join(str(error).split())}") from error
    frame = table.to_pandas()
    return pd.DataFrame({key: frame[name] for key, name in found.items()})


def _found(columns: Mapping[str, str], names: list[str]) -> dict[str, str]:
    """The file's name of each of our columns."""
    return {key: names[TRANSACTIONS.position(key, columns, names)] for key in TRANSACTIONS.names}


def _times(column: pd.Series) -> pd.Series:
    """UTC times: of numbers (seconds since 1970, or milliseconds), of texts, of timestamps."""
    numbers = pd.to_numeric(column, errors="coerce") if not _is_time(column) else None
    if numbers is not None and numbers.notna().sum() * 2 > len(column):
        unit = 1_000 if numbers.abs().max() >= MILLISECONDS_FROM else 1_000_000
        micros = (numbers * unit).round()
        return pd.to_datetime(micros, unit="us", utc=True, errors="coerce").dt.as_unit("us")
    parsed = pd.to_datetime(column, utc=True, errors="coerce", format=None if _is_time(column) else "ISO8601")
    return parsed.dt.as_unit("us")


def _is_time(column: pd.Series) -> bool:
    return bool(pd.api.types.is_datetime64_any_dtype(column))


def _texts(column: pd.Series) -> pd.Series:
    """Ids as texts; a number is written without `.0`, and nothing stays nothing."""
    texts = column.astype("string").str.strip().str.replace(r"\.0$", "", regex=True)
    return texts.where((texts.str.len() > 0) & (texts.str.len() <= 256))


def _cents(column: pd.Series) -> pd.Series:
    """Decimal amounts as cents, rounded half away from zero."""
    numbers = pd.to_numeric(column, errors="coerce").astype("float64")
    # A double by its shortest text is a decimal of at most 17 digits: adding a hair settles the halves.
    scaled = numbers * 100
    cents = (scaled.abs() + 0.5 + 1e-9 * scaled.abs().clip(lower=1)).fillna(-1).astype("int64")
    return cents.where(numbers.notna() & (numbers >= 0) & (scaled < MOST_CENTS)).astype("Int64")


def _flags(column: pd.Series) -> pd.Series:
    texts = column.astype("string").str.strip().str.lower().fillna("")
    return texts.map({**dict.fromkeys(TRUE, True), **dict.fromkeys(FALSE, False)}).astype("boolean")


def _usable(frame: pd.DataFrame, path: Path) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The rows without a gap, and what was left out."""
    notes = [
        f"{path.name}: {bad:,} rows left out, no usable {name}"
        for name in frame.columns
        if (bad := int(frame[name].isna().sum()))
    ]
    good = frame.dropna()
    if len(good) < LEAST_ROWS:
        why = "; ".join(notes) or "it has too few"
        raise UserError(f"INPUT={path}: only {len(good)} of {len(frame)} rows can be used ({why})")
    if not good["fraud"].any():
        raise UserError(f"INPUT={path}: no row is marked as fraud, so there is nothing to learn")
    return good, tuple(notes)


def _typed(table: pa.Table) -> pa.Table:
    kinds = {
        "transaction_id": pa.int64(),
        "event_time": pa.timestamp("us", tz="UTC"),
        "card_id": pa.string(),
        "terminal_id": pa.string(),
        "amount_cents": pa.int64(),
        "fraud": pa.bool_(),
    }
    return table.select(list(kinds)).cast(pa.schema(kinds.items()))
