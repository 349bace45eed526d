"""Data sets in S3: source, history, labels, manifest; growing without changing a day; data of one's own."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.contracts.datasets import LABEL_DELAY, DataSet, read_manifest
from infra.contracts.errors import UserError
from infra.contracts.events import Label, Transaction, arrow_schema
from infra.contracts.features import FEATURE_LIST
from infra.objects import ObjectStore
from infra.settings import Settings
from infra.stories.fraud_model import newest_model
from producers import dataset, own_transactions
from producers.simulator import World, simulate
from tests.data_set_cases import SMALL, prepared, run_module

LIVE_FROM = datetime(2018, 8, 8, tzinfo=UTC)


def read(store: ObjectStore, prefix: str) -> pa.Table:
    """All objects below a prefix as one table."""
    return pa.concat_tables(pq.read_table(io.BytesIO(store.get(item.url))) for item in store.list(prefix))


def objects(store: ObjectStore, data_set: DataSet) -> dict[str, bytes]:
    """All objects of source and history."""
    prefixes = [
        part(name) for part in (data_set.source, data_set.history) for name in ("transactions", "labels")
    ]
    return {item.url: store.get(item.url) for prefix in prefixes for item in store.list(prefix)}


def test_source_and_history(s3_settings: Settings) -> None:
    """The source is the simulator's rows with ids by rank; history is what was known before the live part."""
    store = ObjectStore(s3_settings)
    data_set, manifest = prepared(s3_settings, live=500)
    rows = read(store, data_set.source("transactions"))
    assert rows.schema.equals(arrow_schema(Transaction))
    assert rows["transaction_id"].to_pylist() == list(range(manifest.transactions))
    truth = simulate(160, SMALL)
    assert rows["amount_cents"].to_pylist() == truth.amount_cents[: len(rows)].tolist()
    live = sum(time >= LIVE_FROM for time in rows["event_time"].to_pylist())
    assert live == manifest.live_transactions >= 500
    labels = read(store, data_set.source("labels"))
    assert labels.schema.equals(arrow_schema(Label))
    assert labels["transaction_id"].to_pylist() == truth.fraud[: len(rows)].nonzero()[0].tolist()
    history = read(store, data_set.history("transactions"))
    assert len(history) == len(rows) - live
    known = read(store, data_set.history("labels"))
    assert max(known["known_at"].to_pylist()) < LIVE_FROM
    assert len(known) == sum(time < LIVE_FROM - LABEL_DELAY for time in labels["event_time"].to_pylist())


def test_growing_changes_no_day(s3_settings: Settings) -> None:
    """More live transactions add days; the objects that were there stay as they are."""
    store = ObjectStore(s3_settings)
    world = World(customers=61, terminals=120, radius=20.0)
    data_set, first = prepared(s3_settings, live=300, world=world)
    before = objects(store, data_set)
    _, second = prepared(s3_settings, live=3_000, world=world)
    after = objects(store, data_set)
    assert second.until > first.until
    assert second.live_transactions >= 3_000
    assert {url: after[url] for url in before} == before


def test_a_data_sets_name_is_what_defines_it() -> None:
    """The default has no id; seed, sizes and shards make another, days and rates don't."""
    assert dataset.simulated("lake", World(), 8)[0].id == ""
    ids = {
        dataset.simulated("lake", world, shards)[0].id
        for world, shards in ((World(), 4), (World(seed=1), 8), (World(customers=10), 8))
    }
    assert len(ids) == 3
    assert all(len(name) == 8 for name in ids)


def test_a_model_of_other_features_is_none(s3_settings: Settings) -> None:
    """After a change of the features the scorer passes the old model over, so a new one is to be trained."""
    store, data_set = ObjectStore(s3_settings), DataSet(s3_settings.bucket, "fea70000")
    for version, features, since in (
        ("old", "00000000", "2020-01-01"),
        ("older", FEATURE_LIST, "2019-01-01"),
    ):
        card = {"version": version, "feature_list": features, "in_force_from": since}
        store.put(f"{data_set.models}{version}/model.json", json.dumps(card).encode())
    newest = newest_model(store, data_set)
    assert newest is not None
    assert newest["version"] == "older"


def write_csv(path: Path, rows: list[tuple[object, ...]], header: tuple[str, ...]) -> Path:
    """A CSV file."""
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


HEADER = ("TransactionDT", "card1", "addr1", "TransactionAmt", "isFraud")
COLUMNS = "card_id=card1,terminal_id=addr1,amount=TransactionAmt,event_time=TransactionDT,fraud=isFraud"


def own_rows(number: int) -> list[tuple[object, ...]]:
    """Rows out of order in time, amounts with a half cent in them, a fraud in ten."""
    return [
        (86_400 + (n * 7919 % number) * 600, 1000 + n % 13, f"{n % 7}.0", f"{n}.125", int(n % 10 == 0))
        for n in range(number)
    ]


def test_transactions_of_ones_own(s3_settings: Settings, tmp_path: Path) -> None:
    """A CSV in any order, times in seconds: in order by time, cents half away from zero, 70 % history."""
    path = write_csv(
        tmp_path / "own.csv", [*own_rows(1_000), ("x", 1, 2, "3", 0), (9, 1, 2, "-3", 0)], HEADER
    )
    done = run_module(
        s3_settings, "producers.dataset", "--input", str(path), "--columns", COLUMNS, "--shards", "2",
        "--result", str(tmp_path / "result.json"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "1 rows left out, no usable event_time: 'x'" in done.stdout
    assert "1 rows left out, no usable amount: '-3'" in done.stdout
    assert "1,000 amounts rounded to whole cents" in done.stdout
    data_set = DataSet(s3_settings.bucket, json.loads((tmp_path / "result.json").read_text())["id"])
    store = ObjectStore(s3_settings)
    manifest = read_manifest(store.get, data_set)
    assert manifest is not None
    assert (manifest.kind, manifest.transactions, manifest.live_transactions) == ("input", 1_000, 300)
    rows = read(store, data_set.source("transactions")).to_pylist()
    assert [row["event_time"] for row in rows] == sorted(row["event_time"] for row in rows)
    expected = sorted(own_rows(1_000))
    assert [row["card_id"] for row in rows] == [str(row[1]) for row in expected]
    assert [row["terminal_id"] for row in rows] == [str(row[2]).removesuffix(".0") for row in expected]
    assert [row["amount_cents"] for row in rows] == [int(str(row[3])[:-4]) * 100 + 13 for row in expected]
    labels = read(store, data_set.source("labels"))
    assert len(labels) == 100


def test_parquet_of_ones_own(tmp_path: Path) -> None:
    """Timestamps and booleans as Parquet has them give the same rows as texts do."""
    begin = datetime(2024, 1, 1, tzinfo=UTC)
    table = pa.table(
        {
            "event_time": [begin + timedelta(minutes=n) for n in range(200)],
            "card_id": [n % 5 for n in range(200)],
            "terminal_id": ["t"] * 200,
            "amount": [n + 0.5 for n in range(200)],
            "fraud": [n % 9 == 0 for n in range(200)],
        }
    )
    pq.write_table(table, tmp_path / "own.parquet")
    own = own_transactions.read(tmp_path / "own.parquet", {}, 0.7, 2)
    assert own.live_from == begin + timedelta(minutes=140)
    assert own.table["amount_cents"].to_pylist() == [n * 100 + 50 for n in range(200)]
    assert own.table["card_id"].to_pylist()[:6] == ["0", "1", "2", "3", "4", "0"]
    assert sum(own.table["fraud"].to_pylist()) == 23


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda rows: rows[:50], "only 50 of 50 rows"),
        (lambda rows: [(*row[:4], 0) for row in rows], "nothing to learn"),
        (lambda rows: [(*row[:3], "ten", 1) for row in rows], "no usable amount: 'ten'"),
    ],
)
def test_too_little_is_one_line(
    tmp_path: Path, change: Callable[[list[tuple[object, ...]]], list[tuple[object, ...]]], word: str
) -> None:
    """A file that can't be learned from is refused with the reason."""
    path = write_csv(tmp_path / "own.csv", change(own_rows(300)), HEADER)
    columns = own_transactions.definition(path, COLUMNS, 0.7)["columns"]
    with pytest.raises(UserError, match=word):
        own_transactions.read(path, columns, 0.7, 2)


def test_a_missing_column_names_those_there_are(tmp_path: Path) -> None:
    """COLUMNS that names a column which isn't there."""
    path = write_csv(tmp_path / "own.csv", own_rows(300), HEADER)
    with pytest.raises(UserError, match=r"no column 'card_id' for card_id; its columns are 'TransactionDT'"):
        own_transactions.read(path, {}, 0.7, 2)
