"""Reads a user's own transactions, CSV or Parquet, as a data set: columns, times, cents, order, ids.

COLUMNS says which column each of ours is read from, as for sales. A row that can't be used is left out
and counted by its reason.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from infra.contracts.columns import TRANSACTIONS
from infra.contracts.errors import UserError
from infra.contracts.validity import FUTURE_LIMIT
from infra.streams.records import shard_number

TRUE, FALSE = ("1", "1.0", "true", "t", "yes", "y"), ("0", "0.0", "false", "f", "no", "n", "")
MILLISECONDS_FROM = 10**11
"""Numbers around one this large are milliseconds since 1970; as seconds it would be the year 5138."""
EARLIEST, LATEST = datetime(1900, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
LEAST_ROWS = 100
DELIMITERS = ",;\t|"
LONGEST_HEADER = 2**16
"""In characters; a quote left open would make a field too long for the csv module."""
MOST_CENTS = 10**12
ADVICE = {"UTF8": "save it as UTF-8", "straddling": "look for a quote that is opened and never closed"}
"""What to do, by a word of pyarrow's error."""
NOT_PLAIN = (
    pa.types.is_nested,
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_fixed_size_binary,
    pa.types.is_binary_view,
    pa.types.is_duration,
    pa.types.is_float16,
)
"""Checks of types whose values are not one number, text or time each."""


@dataclass(frozen=True)
class OwnTransactions:
    """`table`: the columns of Transaction and `fraud`, in order of time, the id being the rank.

    The live part begins at `live_from`. `notes` say what was left out, one line for each reason, and
    how many amounts were rounded.
    """

    table: pa.Table
    live_from: datetime
    notes: tuple[str, ...]


def definition(path: Path, columns: str, history: float) -> dict[str, Any]:
    """What defines the data set of a file: its content, how it is read, where its live part begins.

    Raises UserError for a file that is not there or can't be read, and for a column that it lacks or that
    has no plain values.
    """
    if not path.is_file():
        raise UserError(f"INPUT={path} is not a file; give one CSV or Parquet file of transactions")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    names = TRANSACTIONS.parse(columns)
    with _reading(path):
        _found(path, names)
    return {"kind": "input", "sha256": digest, "columns": names, "history": history}


def read(path: Path, columns: Mapping[str, str], history: float, shards: int) -> OwnTransactions:
    """Read a file that is to be played into so many shards.

    Raises UserError for a missing column, when too little of the file can be used, and for a gap in its
    live part that a shard would not take.
    """
    ragged = _Ragged()
    with _reading(path):
        raw = _load(path, columns, ragged)
    cents, rounded = _cents(raw["amount"])
    frame = pd.DataFrame(
        {
            "event_time": _times(raw["event_time"]),
            "card_id": _texts(raw["card_id"]),
            "terminal_id": _texts(raw["terminal_id"]),
            "amount": cents,
            "fraud": _flags(raw["fraud"]),
        }
    )
    good, notes = _usable(frame, raw, path, ragged)
    if inexact := int(rounded[good.index].sum()):
        notes = (*notes, f"{path.name}: {inexact:,} amounts rounded to whole cents")
    good = good.rename(columns={"amount": "amount_cents"})
    good = good.sort_values("event_time", kind="stable", ignore_index=True)
    first = int(len(good) * history)
    _without_gap(good.iloc[first:], shards, path)
    good.insert(0, "transaction_id", range(len(good)))
    live_from = good["event_time"].iloc[first].to_pydatetime()
    return OwnTransactions(_typed(pa.Table.from_pandas(good, preserve_index=False)), live_from, notes)


@dataclass
class _Ragged:
    """The rows of a CSV that have more or fewer fields than its header: how many, and one of them."""

    count: int = 0
    example: str = ""

    def __call__(self, row: pa_csv.InvalidRow) -> str:
        self.count += 1
        fields = f"{row.actual_columns} of {row.expected_columns}"
        self.example = self.example or f"{fields}, as in {row.text!r:.80}"
        return "skip"


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Raises UserError for what can't be read."""
    try:
        yield
    except (pa.ArrowInvalid, OSError) as error:
        advice = next((f"; {what}" for sign, what in ADVICE.items() if sign in str(error)), "")
        raise UserError(f"INPUT={path} can't be read: {' '.join(str(error).split())}{advice}") from error


def _load(path: Path, columns: Mapping[str, str], ragged: _Ragged) -> pd.DataFrame:
    """The five columns under our names: texts of a CSV, whatever a Parquet file has."""
    found = _found(path, columns)
    wanted = list(dict.fromkeys(found.values()))
    if _is_parquet(path):
        table = _decoded(pq.read_table(path, columns=wanted))
    else:
        texts = pa_csv.ConvertOptions(
            include_columns=wanted,
            column_types=dict.fromkeys(wanted, pa.string()),
            strings_can_be_null=True,
            null_values=[""],  # NA may be somebody's id
        )
        table = pa_csv.read_csv(path, parse_options=_csv(path, ragged), convert_options=texts)
    # As floats, large ids would become one another; by pandas' metadata, a column may become the index.
    frame = table.to_pandas(integer_object_nulls=True, ignore_metadata=True)
    return pd.DataFrame({key: frame[name] for key, name in found.items()})


def _decoded(table: pa.Table) -> pa.Table:
    """Categories as what they stand for, which parses as other columns do."""
    plain = [
        pa.field(field.name, field.type.value_type) if pa.types.is_dictionary(field.type) else field
        for field in table.schema
    ]
    return table.cast(pa.schema(plain))


def _schema(path: Path) -> pa.Schema:
    """The names and types of a file's columns; a CSV has texts only."""
    if _is_parquet(path):
        return pq.read_schema(path)
    with pa_csv.open_csv(path, parse_options=_csv(path, _Ragged())) as reader:
        return pa.schema([(name, pa.string()) for name in reader.schema.names])


def _is_parquet(path: Path) -> bool:
    return path.suffix.lower() in (".parquet", ".pq")


def _csv(path: Path, ragged: _Ragged) -> pa_csv.ParseOptions:
    """Fields are divided by that of DELIMITERS which makes most of them in the header."""
    with path.open(encoding="utf-8", errors="replace") as file:
        lines = file.read(LONGEST_HEADER).split("\n")
    fields = {each: len(next(csv.reader(lines, delimiter=each), ())) for each in DELIMITERS}
    return pa_csv.ParseOptions(
        delimiter=max(DELIMITERS, key=fields.__getitem__),
        newlines_in_values=True,
        invalid_row_handler=ragged,
    )


def _found(path: Path, columns: Mapping[str, str]) -> dict[str, str]:
    """The file's name of each of our columns. Raises UserError for one that lacks or has no plain values."""
    schema = _schema(path)
    names = list(schema.names)
    found = {key: names[TRANSACTIONS.position(key, columns, names)] for key in TRANSACTIONS.names}
    for key, name in found.items():
        kind = schema.field(name).type
        if not _is_plain(kind):
            raise UserError(
                f"INPUT={path}: its column {name!r} for {key} is of type {kind!s:.80}; "
                "write it as numbers, texts or times, or name another in COLUMNS"
            )
    return found


def _is_plain(kind: pa.DataType) -> bool:
    """Whether each value is one number, text or time."""
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    return not any(check(value) for check in NOT_PLAIN)


def _times(column: pd.Series) -> pd.Series:
    """UTC times: of numbers (seconds since 1970, milliseconds, dates as 20240115), texts, timestamps."""
    numbers = pd.to_numeric(column, errors="coerce").astype("float64") if not _is_time(column) else None
    if numbers is not None and numbers.notna().sum() * 2 > len(column):
        dates = _dates(numbers)
        if dates.notna().sum() * 2 > numbers.notna().sum():
            return dates
        scale = 1_000 if numbers.abs().median() >= MILLISECONDS_FROM else 1_000_000
        micros = (numbers * scale).round()
        within = micros.between(EARLIEST.timestamp() * 1e6, LATEST.timestamp() * 1e6)
        return pd.to_datetime(micros.where(within), unit="us", utc=True).dt.as_unit("us")
    parsed = pd.to_datetime(column, utc=True, errors="coerce", format=None if _is_time(column) else "ISO8601")
    return parsed.where(parsed.between(EARLIEST, LATEST)).dt.as_unit("us")


def _dates(numbers: pd.Series) -> pd.Series:
    """The midnights (UTC) of dates such as 20240115.

    As seconds since 1970 they'd all be of five weeks of that year, which nobody means.
    """
    first, last = (int(f"{limit:%Y%m%d}") for limit in (EARLIEST, LATEST))
    days = numbers.where(numbers.between(first, last) & (numbers % 1 == 0))
    return pd.to_datetime(days, format="%Y%m%d", utc=True, errors="coerce").dt.as_unit("us")


def _is_time(column: pd.Series) -> bool:
    return bool(pd.api.types.is_datetime64_any_dtype(column))


def _texts(column: pd.Series) -> pd.Series:
    """Ids as texts; a number is written without `.0`, and nothing stays nothing."""
    texts = column.astype("string").str.strip().str.replace(r"^(-?\d+)\.0$", r"\1", regex=True)
    return texts.where((texts.str.len() > 0) & (texts.str.len() <= 256))


def _cents(column: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Decimal amounts (a double by its shortest text) as cents, and which of them had to be rounded."""
    exact = {each: _hundredfold(each) for each in column.dropna().unique()}
    cents = {each: None if value is None else int(_whole(value)) for each, value in exact.items()}
    uneven = {each: value is not None and value != _whole(value) for each, value in exact.items()}
    return column.map(cents).astype("Int64"), column.map(uneven).eq(True)


def _hundredfold(amount: Any) -> Decimal | None:
    """An amount in cents before it is rounded; None for one that can't be used."""
    try:
        value = Decimal(str(amount).strip()) * 100
    except ArithmeticError:  # InvalidOperation, Overflow
        return None
    return value if value.is_finite() and 0 <= value <= MOST_CENTS else None


def _whole(cents: Decimal) -> Decimal:
    """Rounded half away from zero."""
    return cents.to_integral_value(ROUND_HALF_UP)


def _flags(column: pd.Series) -> pd.Series:
    texts = column.astype("string").str.strip().str.lower().fillna("")
    return texts.map({**dict.fromkeys(TRUE, True), **dict.fromkeys(FALSE, False)}).astype("boolean")


def _usable(
    frame: pd.DataFrame, raw: pd.DataFrame, path: Path, ragged: _Ragged
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The rows without a gap, and what was left out, with the first value of each kind that was."""
    notes = [f"{path.name}: {ragged.count:,} rows left out, fields: {ragged.example}"] * bool(ragged.count)
    notes += [
        f"{path.name}: {int(bad.sum()):,} rows left out, no usable {name}: {_shown(raw[name][bad].iloc[0])}"
        for name in frame.columns
        if (bad := frame[name].isna()).any()
    ]
    good = frame.dropna()
    if len(good) < LEAST_ROWS:
        why = "; ".join(notes) or f"at least {LEAST_ROWS} are needed"
        rows = len(frame) + ragged.count
        raise UserError(f"INPUT={path}: only {len(good)} of {rows} rows can be used ({why})")
    if not good["fraud"].any():
        raise UserError(f"INPUT={path}: no row is marked as fraud, so there is nothing to learn")
    if good["fraud"].all():
        raise UserError(
            f"INPUT={path}: every usable row is marked as fraud, so there is nothing to tell frauds from; "
            "give the other transactions too"
        )
    return good, tuple(notes)


def _shown(value: Any) -> str:
    return "none given" if pd.isna(value) else repr(str(value)[:40])


def _without_gap(live: pd.DataFrame, shards: int, path: Path) -> None:
    """Refuse a live part that a shard would refuse: one whose time jumps too far ahead there."""
    numbers = {card: shard_number(card, shards) for card in live["card_id"].unique()}
    shard, times = live["card_id"].map(numbers), live["event_time"]
    steps = times - times.groupby(shard).shift().fillna(times.iloc[0])
    if (steps > FUTURE_LIMIT).any():
        row = steps[steps > FUTURE_LIMIT].index[0]
        fewer = "give fewer SHARDS, or " if shards > 1 else ""
        raise UserError(
            f"INPUT={path}: of {shards} shards, number {shard[row]} gets nothing for more than "
            f"{FUTURE_LIMIT.days} days before {times[row]:%Y-%m-%d %H:%M}, and refuses times so far ahead; "
            f"{fewer}cut the file there"
        )


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
