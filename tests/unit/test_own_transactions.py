"""What a user's own columns are read as: times, ids, cents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.contracts.columns import TRANSACTIONS
from infra.contracts.errors import UserError
from infra.contracts.features import EPOCH
from infra.streams.records import shard_number
from producers import own_transactions
from producers.own_transactions import OwnTransactions

BEGIN = datetime(2024, 1, 1, tzinfo=UTC)
ROWS = 200
MANY, BLOCK = 50_000, 2**20


def own(tmp_path: Path, **changed: Sequence[object]) -> OwnTransactions:
    """A Parquet file of usual columns, but for those given, whose values are repeated to its length."""
    columns: dict[str, Sequence[object]] = {
        "event_time": [BEGIN + timedelta(minutes=number) for number in range(ROWS)],
        "card_id": [f"c{number % 5}" for number in range(ROWS)],
        "terminal_id": ["t"],
        "amount": [1.5],
        "fraud": [number % 9 == 0 for number in range(ROWS)],
        **changed,
    }
    table = pa.table({name: (list(values) * ROWS)[:ROWS] for name, values in columns.items()})
    pq.write_table(table, tmp_path / "own.parquet")
    return own_transactions.read(tmp_path / "own.parquet", {}, 0.7, 1)


@pytest.mark.parametrize(
    ("amount", "cents"),
    [
        ("1.005", 101),
        (1.005, 101),
        (0.125, 13),
        ("1.00499999999", 100),
        (5_000_000.0, 500_000_000),
        ("1234567890.12", 123_456_789_012),
        (1_234_567_890.12, 123_456_789_012),
        (7, 700),
        (" 1e2 ", 10_000),
    ],
)
def test_amounts(tmp_path: Path, amount: object, cents: int) -> None:
    """An amount is its decimal text, rounded half away from zero, however large it is."""
    assert set(own(tmp_path, amount=[amount]).table["amount_cents"].to_pylist()) == {cents}


@pytest.mark.parametrize("amount", ["1e999999", "1e9999999999999999999", "-1e999999", "NaN", "ten"])
def test_amounts_that_are_none(tmp_path: Path, amount: str) -> None:
    """They are left out and shown, those too that are too large for a decimal."""
    found = own(tmp_path, amount=["1.5"] * (ROWS - 1) + [amount])
    assert len(found.table) == ROWS - 1
    assert found.notes == (f"own.parquet: 1 rows left out, no usable amount: {amount!r}",)


def test_rounded_amounts_are_counted(tmp_path: Path) -> None:
    """Only those amounts that had a part of a cent."""
    notes = own(tmp_path, amount=["1.50", "1.500", "1.501", "2"]).notes
    assert notes == ("own.parquet: 50 amounts rounded to whole cents",)


@pytest.mark.parametrize("scale", [1, 1.0, 1_000])
def test_times_as_numbers(tmp_path: Path, scale: float) -> None:
    """Seconds, whole or not, or milliseconds since 1970; one absurd value spoils no other."""
    times = [(int(BEGIN.timestamp()) + 60 * number) * scale for number in range(ROWS)]
    times[7] = 10**15 * scale
    found = own(tmp_path, event_time=times)
    assert len(found.notes) == 1
    assert "1 rows left out, no usable event_time: '1" in found.notes[0]
    expected = [BEGIN + timedelta(minutes=number) for number in range(ROWS) if number != 7]
    assert found.table["event_time"].to_pylist() == expected


@pytest.mark.parametrize("text", ["%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%S+00:00"])
def test_times_as_texts(tmp_path: Path, text: str) -> None:
    """ISO 8601, in UTC where no zone is given."""
    times = [f"{BEGIN + timedelta(minutes=number):{text}}" for number in range(ROWS)]
    assert own(tmp_path, event_time=times).table["event_time"][-1].as_py() == BEGIN + timedelta(minutes=199)


@pytest.mark.parametrize("kind", [int, float, str])
def test_dates_as_numbers(tmp_path: Path, kind: Callable[[str], object]) -> None:
    """Numbers such as 20240115 are midnights, not seconds since 1970; one that is no date spoils no other."""
    dates = [BEGIN + timedelta(days=number) for number in range(ROWS)]
    found = own(tmp_path, event_time=[kind("20240230"), *(kind(f"{date:%Y%m%d}") for date in dates[1:])])
    assert found.table["event_time"].to_pylist() == dates[1:]
    assert len(found.notes) == 1
    assert "1 rows left out, no usable event_time: '20240230" in found.notes[0]


@pytest.mark.parametrize("first", [19_000_000, 20_240_101])
def test_seconds_of_eight_digits_that_are_no_dates(tmp_path: Path, first: int) -> None:
    """Where most are no dates, seconds since somebody's own zero are seconds."""
    found = own(tmp_path, event_time=[first + 60 * number for number in range(ROWS)])
    assert found.table["event_time"][-1].as_py() == EPOCH + timedelta(seconds=first + 60 * (ROWS - 1))
    assert found.notes == ()


@pytest.mark.parametrize(
    ("value", "name"), [(17.0, "17"), ("17.0", "17"), ("10.0.0.0", "10.0.0.0"), (17, "17")]
)
def test_ids(tmp_path: Path, value: object, name: str) -> None:
    """A number's id has no decimals; a text stays as it is."""
    assert set(own(tmp_path, card_id=[value]).table["card_id"].to_pylist()) == {name}


def test_large_ids_stay_apart_when_one_lacks(tmp_path: Path) -> None:
    """Whole numbers near 2^62 are no doubles, also where a null is among them."""
    ids = [None, *(2**62 + number % 20 for number in range(1, ROWS))]
    found = own(tmp_path, card_id=ids)
    assert set(found.table["card_id"].to_pylist()) == {str(2**62 + number) for number in range(20)}
    assert found.notes == ("own.parquet: 1 rows left out, no usable card_id: none given",)


@pytest.mark.parametrize("index", ["event_time", "card_id", ["card_id", "terminal_id"]])
def test_an_index_is_a_column(tmp_path: Path, index: str | list[str]) -> None:
    """pandas notes which columns were its index; they are columns like others."""
    usual = own(tmp_path)
    path = tmp_path / "own.parquet"
    pd.read_parquet(path).set_index(index).to_parquet(path)
    assert own_transactions.read(path, {}, 0.7, 1).table == usual.table


def test_categories_are_what_they_stand_for(tmp_path: Path) -> None:
    """pandas' categories of texts, also of times."""
    times = [f"{BEGIN + timedelta(minutes=number):%Y-%m-%d %H:%M:%S}" for number in range(ROWS)]
    usual = own(tmp_path, event_time=times)
    path = tmp_path / "own.parquet"
    pd.read_parquet(path).astype("category").to_parquet(path)
    assert own_transactions.read(path, {}, 0.7, 1).table == usual.table


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (pa.list_(pa.int64()), "list"),
        (pa.struct([("a", pa.int64())]), "struct"),
        (pa.map_(pa.string(), pa.int64()), "map"),
        (pa.binary(), "binary"),
        (pa.large_binary(), "large_binary"),
        (pa.binary(4), "fixed_size_binary"),
        (pa.float16(), "halffloat"),
        (pa.duration("s"), "duration"),
        (pa.dictionary(pa.int32(), pa.binary()), "dictionary<values=binary"),
    ],
    ids=str,
)
@pytest.mark.parametrize("key", TRANSACTIONS.names)
def test_columns_without_plain_values(tmp_path: Path, key: str, kind: pa.DataType, name: str) -> None:
    """Lists and bytes are refused by their type, before anything is started."""
    own(tmp_path)
    path = tmp_path / "own.parquet"
    pq.write_table(pq.read_table(path).drop_columns(key).append_column("Mine", pa.nulls(ROWS, kind)), path)
    wrong = rf"its column 'Mine' for {key} is of type {name}\b.*; write it as numbers"
    with pytest.raises(UserError, match=wrong):
        own_transactions.definition(path, f"{key}=Mine", 0.7)


@pytest.mark.parametrize(
    ("fraud", "why"), [(False, "no row .* nothing to learn"), (True, "every .* nothing to tell frauds from")]
)
def test_frauds_and_others_are_needed(tmp_path: Path, fraud: bool, why: str) -> None:
    """One kind alone teaches nothing."""
    with pytest.raises(UserError, match=why):
        own(tmp_path, fraud=[fraud])


def test_a_gap_in_one_shard(tmp_path: Path) -> None:
    """A shard refuses what is a month past its own newest, however much the others get meanwhile."""
    times = [BEGIN + timedelta(hours=12 * number) for number in range(ROWS)]
    cards = ["late" if number in (0, 190) else "often" for number in range(ROWS)]
    shards = next(number for number in range(2, 9) if _apart("late", "often", number))
    own(tmp_path, event_time=times, card_id=cards)
    path = tmp_path / "own.parquet"
    assert len(own_transactions.read(path, {}, 0.9, shards).table) == ROWS
    late = rf"of {shards} shards, number {shard_number('late', shards)} gets nothing .* give fewer SHARDS"
    with pytest.raises(UserError, match=late):
        own_transactions.read(path, {}, 0.5, shards)


def _apart(one: str, other: str, shards: int) -> bool:
    return shard_number(one, shards) != shard_number(other, shards)


def test_a_gap_that_the_streams_refuse(tmp_path: Path) -> None:
    """A live part with a month of nothing in it is refused, with where that is; in the history it may be."""
    times = [BEGIN + timedelta(minutes=number, days=40 * (number >= 150)) for number in range(ROWS)]
    with pytest.raises(UserError, match=r"more than 31 days before 2024-02-10 02:30"):
        own(tmp_path, event_time=times)
    earlier = [BEGIN + timedelta(minutes=number, days=40 * (number >= 50)) for number in range(ROWS)]
    assert len(own(tmp_path, event_time=earlier).table) == ROWS


def csv_file(tmp_path: Path, delimiter: str = ",", extra: Sequence[str] = ()) -> Path:
    """Usual transactions as a CSV, with lines of its user's own at the end."""
    rows = [("card_id", "terminal_id", "event_time", "amount", "fraud")]
    for number in range(ROWS):
        moment = (BEGIN + timedelta(minutes=number)).isoformat()
        rows.append((f"c{number % 5}", '"t, left"', moment, "1.5", str(number % 9 == 0)))
    path = tmp_path / "own.csv"
    path.write_text("\n".join([*(delimiter.join(row) for row in rows), *extra]) + "\n")
    return path


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_a_csv_says_itself_what_divides_its_fields(tmp_path: Path, delimiter: str) -> None:
    """What makes most fields of the header; in quotes it divides nothing."""
    found = own_transactions.read(csv_file(tmp_path, delimiter), {}, 0.7, 1)
    assert len(found.table) == ROWS
    assert found.notes == ()
    assert set(found.table["terminal_id"].to_pylist()) == {"t, left"}


@pytest.mark.parametrize("text", ["NA", "null", "NaN", "n/a"])
def test_only_an_empty_field_of_a_csv_is_nothing(tmp_path: Path, text: str) -> None:
    """Other spellings are somebody's ids, and no label says "no fraud" but an empty one."""
    last = (BEGIN + timedelta(days=1)).isoformat()
    extra = [f"{text},{text},{last},1.5,", f'"",t,{last},1.5,1', f"c1,t,{last},1.5,{text}"]
    found = own_transactions.read(csv_file(tmp_path, extra=extra), {}, 0.7, 1)
    last_row = found.table.slice(ROWS).select(["card_id", "terminal_id", "fraud"])
    assert last_row.to_pylist() == [{"card_id": text, "terminal_id": text, "fraud": False}]
    assert found.notes == (
        "own.csv: 1 rows left out, no usable card_id: none given",
        f"own.csv: 1 rows left out, no usable fraud: {text!r}",
    )


@pytest.mark.parametrize("delimiter", [",", ";"])
def test_line_breaks_in_quotes(tmp_path: Path, delimiter: str) -> None:
    """They end no row, neither in the header nor where one of the blocks of a larger file ends."""
    row = delimiter.join(("c1", '"t\nleft"', BEGIN.isoformat(), "1.5", "False"))
    path = csv_file(tmp_path, delimiter, extra=[row] * MANY)
    path.write_text(path.read_text().replace("card_id", '"card\nid"', 1))
    assert path.stat().st_size > 2 * BLOCK
    columns = own_transactions.definition(path, '"card_id=card\nid"', 0.7)["columns"]
    found = own_transactions.read(path, columns, 0.7, 1)
    assert found.table["terminal_id"].to_pylist().count("t\nleft") == MANY
    assert len(found.table) == ROWS + MANY
    assert found.notes == ()


@pytest.mark.parametrize("start", ['c1,"t', '"c1,t'])
def test_a_quote_left_open(tmp_path: Path, start: str) -> None:
    """It would make one field of what follows it; the error says what to look for."""
    rest = f",{BEGIN.isoformat()},1.5,False"
    path = csv_file(tmp_path, extra=[start + rest, *["c1,t" + rest] * 2 * MANY])
    assert path.stat().st_size > 3 * BLOCK
    with pytest.raises(UserError, match=r"own\.csv can't be read: .*; look for a quote"):
        own_transactions.read(path, {}, 0.7, 1)


def test_rows_of_too_many_or_few_fields_are_left_out(tmp_path: Path) -> None:
    """They are counted, with one of them to be looked for; the others are used."""
    found = own_transactions.read(csv_file(tmp_path, extra=["c1,t,broken", "a,b,c,d,e,f"]), {}, 0.7, 1)
    assert len(found.table) == ROWS
    assert found.notes == ("own.csv: 2 rows left out, fields: 3 of 5, as in 'c1,t,broken'",)


def test_a_file_is_looked_at_when_its_data_set_is_named(tmp_path: Path) -> None:
    """That is before anything is started: a column that lacks, or a text in another encoding."""
    path = csv_file(tmp_path)
    assert own_transactions.definition(path, "", 0.7)["kind"] == "input"
    with pytest.raises(UserError, match=r"no column 'Card' for card_id; its columns are 'card_id', "):
        own_transactions.definition(path, "card_id=Card", 0.7)
    path.write_bytes(path.read_bytes() + "c1,Zürich,2024-01-02,1,0\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"own\.csv can't be read: .*; save it as UTF-8"):
        own_transactions.read(path, {}, 0.7, 1)
