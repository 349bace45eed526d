"""Features from Spark and from the scorer's code against a naive computation, every feature, bit for bit."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as fn

from infra.contracts.datasets import DataSet
from infra.contracts.errors import UserError
from infra.contracts.events import Label, Transaction
from infra.contracts.features import FEATURES, TerminalRow, as_of, microseconds, online
from infra.objects import ObjectStore
from infra.settings import Settings
from producers.simulator import World, simulate
from spark_jobs.archive_reading import read_events
from spark_jobs.terminal_features import COLUMNS, at_as_of_times, at_their_times, terminal_rows
from spark_jobs.terminal_risk import publish, tables
from spark_jobs.terminal_tables import as_of_times, read_tables, table_bytes, table_url
from spark_jobs.training_rows import labelled_features, measured_rows, with_terminals
from tests.fraud_cases import DAY, archive_of, begin, local_spark, write_archive

# pyspark leaves the sockets that results came through to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
    pytest.mark.filterwarnings(
        "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"
    ),
]
WEEK = 7 * DAY
DAYS = 60
STEP_S = 21_600
SINCE, UNTIL = begin(54), begin(57)  # from Friday on
TIMES = as_of_times(SINCE, UNTIL, STEP_S)


@dataclass(frozen=True)
class Row:
    """A transaction with what is known of it."""

    transaction_id: int
    event_time: datetime
    card_id: str
    terminal_id: str
    amount_cents: int
    known_at: datetime | None


class NaiveCard:
    """A card's transactions up to and with one, looked through anew for each question."""

    def __init__(self, row: Row, rows: list[Row]) -> None:
        order = (row.event_time, row.transaction_id)
        self.now = row
        self.rows = [each for each in rows if (each.event_time, each.transaction_id) <= order]

    def _within(self, days: int) -> list[Row]:
        return [row for row in self.rows if row.event_time > self.now.event_time - days * DAY]

    def count(self, days: int) -> int:
        """Those in the last days."""
        return len(self._within(days))

    def sum_cents(self, days: int) -> int:
        """Their sum."""
        return sum(row.amount_cents for row in self._within(days))

    def earlier_max_cents(self, days: int) -> int:
        """The largest of the others."""
        return max((row.amount_cents for row in self._within(days) if row is not self.now), default=0)


class Naive:
    """What anybody would compute by hand."""

    def __init__(self, transactions: pa.Table, labels: pa.Table) -> None:
        known = dict(zip(*(labels[name].to_pylist() for name in ("transaction_id", "known_at")), strict=True))
        self.rows = [
            Row(**row, known_at=known.get(row["transaction_id"])) for row in transactions.to_pylist()
        ]
        self.cards: dict[str, list[Row]] = {}
        self.terminals: dict[str, list[Row]] = {}
        for row in self.rows:
            self.cards.setdefault(row.card_id, []).append(row)
            self.terminals.setdefault(row.terminal_id, []).append(row)

    def card(self, row: Row) -> NaiveCard:
        """The card's view at a transaction."""
        return NaiveCard(row, self.cards[row.card_id])

    def is_plain(self, row: Row) -> bool:
        """A fraud known in time that nothing but its terminal tells."""
        if row.known_at is None or row.known_at > row.event_time + WEEK or row.amount_cents > 22_000:
            return False
        card = self.card(row)
        others = [each.amount_cents for each in card._within(30) if each is not row]
        return not sum(others) or row.amount_cents * len(others) / sum(others) < 2.5

    def terminal(self, terminal_id: str, at: datetime) -> TerminalRow:
        """The terminal's row at a time, from what is known by then."""
        old = [row for row in self.terminals.get(terminal_id, []) if row.event_time <= at - WEEK]
        counts, frauds = {}, {}
        for days in (1, 7, 30):
            inside = [row for row in old if row.event_time > at - WEEK - days * DAY]
            counts[f"count_{days}"] = len(inside)
            frauds[f"frauds_{days}"] = sum(row.known_at is not None and row.known_at <= at for row in inside)
        return TerminalRow(**counts, **frauds, light_streak_age=self._streak_age(old, at))

    def _streak_age(self, old: list[Row], at: datetime) -> int:
        first = None
        for row in reversed(old):
            if not self.is_plain(row):
                break
            first = row
        return 0 if first is None else (at.date() - first.event_time.date()).days


def small_archive() -> tuple[pa.Table, pa.Table]:
    """A small world in whole hours, so that many times and windows' ends meet; some labels early or late."""
    made = simulate(DAYS, World(customers=150, terminals=120, radius=12))
    made = replace(made, time_s=made.time_s // 3600 * 3600)
    transactions, labels = archive_of(made)
    draw = random.Random(3)
    delays = [draw.choice([2, 7, 7, 7, 7, 10, 20, 45]) for _ in range(labels.num_rows)]
    known = [time + days * DAY for time, days in zip(labels["event_time"].to_pylist(), delays, strict=True)]
    place = labels.schema.get_field_index("known_at")
    return transactions, labels.set_column(
        place, labels.schema[place], pa.array(known, labels.schema[place].type)
    )


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """A small local Spark."""
    with local_spark() as session:
        yield session


@pytest.fixture(scope="session")
def small() -> tuple[pa.Table, pa.Table]:
    """The small archive's transactions and labels."""
    return small_archive()


@pytest.fixture(scope="session")
def naive(small: tuple[pa.Table, pa.Table]) -> Naive:
    """Its naive computation."""
    return Naive(*small)


@pytest.fixture(scope="session")
def archive(
    spark: SparkSession, small: tuple[pa.Table, pa.Table], tmp_path_factory: pytest.TempPathFactory
) -> tuple[DataFrame, DataFrame]:
    """It as Spark reads it."""
    places = write_archive(tmp_path_factory.mktemp("archive"), *small)
    return read_events(spark, Transaction, places[:1]), read_events(spark, Label, places[1:])


@pytest.fixture(scope="session")
def published(s3_settings: Settings, archive: tuple[DataFrame, DataFrame]) -> tuple[ObjectStore, DataSet]:
    """A data set whose tables of TIMES are published."""
    store, data_set = ObjectStore(s3_settings), DataSet(s3_settings.bucket, "feedbeef")
    figures = publish(store, data_set.terminal_risk, *archive, TIMES)
    assert figures["written"] == len(TIMES) == 12
    return store, data_set


def table_of(store: ObjectStore, data_set: DataSet, time: datetime) -> dict[str, TerminalRow]:
    """A published table by terminal, as the scorer reads it."""
    rows = pq.read_table(io.BytesIO(store.get(data_set.terminal_table(time)))).to_pylist()
    return {row.pop("terminal_id"): TerminalRow(**row) for row in rows}


def test_published_tables_are_the_naive_rows(naive: Naive, published: tuple[ObjectStore, DataSet]) -> None:
    """Every terminal of every table; one of which nothing is known has no row."""
    for time in TIMES:
        expected = {name: naive.terminal(name, time) for name in naive.terminals}
        nothing = TerminalRow(*[0] * len(COLUMNS))
        assert table_of(*published, time) == {name: row for name, row in expected.items() if row != nothing}
    ages = [naive.terminal(name, TIMES[-1]).light_streak_age for name in naive.terminals]
    assert len(set(ages)) > 3, "the data has no streaks to test with"


def test_tables_are_the_as_of_expression(
    archive: tuple[DataFrame, DataFrame], published: tuple[ObjectStore, DataSet]
) -> None:
    """What is published is what the expression gives over the whole archive, not only over what was read."""
    rows = terminal_rows(*archive, at_as_of_times(archive[0], [microseconds(time) for time in TIMES]))
    found: dict[int, dict[str, TerminalRow]] = {}
    for row in rows.collect():
        values = [row[name] for name in COLUMNS]
        if any(values):
            found.setdefault(row.at_us, {})[row.terminal_id] = TerminalRow(*values)
    assert found == {microseconds(time): table_of(*published, time) for time in TIMES}


def test_exact_times_are_the_naive_rows(naive: Naive, archive: tuple[DataFrame, DataFrame]) -> None:
    """The same expression at each transaction's own time."""
    transactions, labels = archive
    first, end = microseconds(SINCE), microseconds(SINCE + DAY)
    some = transactions.filter(fn.col("event_time_us").between(first, end - 1))
    found = {
        row.transaction_id: TerminalRow(*(row[name] for name in COLUMNS))
        for row in terminal_rows(transactions, labels, at_their_times(some)).collect()
    }
    inside = [row for row in naive.rows if SINCE <= row.event_time < SINCE + DAY]
    assert found == {row.transaction_id: naive.terminal(row.terminal_id, row.event_time) for row in inside}


def test_every_feature_is_the_scorers_and_the_naive(
    spark: SparkSession,
    naive: Naive,
    archive: tuple[DataFrame, DataFrame],
    published: tuple[ObjectStore, DataSet],
    tmp_path: Path,
) -> None:
    """Spark's features over published tables are what the scorer's code makes of naive windows."""
    store, data_set = published
    for time in TIMES:
        (tmp_path / table_url("", time)).write_bytes(store.get(data_set.terminal_table(time)))
    transactions, labels = archive
    joined = with_terminals(
        measured_rows(transactions, SINCE, UNTIL), read_tables(spark, f"file://{tmp_path}/", TIMES), STEP_S
    )
    found = labelled_features(joined, labels, UNTIL).collect()
    rows = {row.transaction_id: row for row in naive.rows if SINCE <= row.event_time < UNTIL}
    assert {row.transaction_id for row in found} == set(rows)
    for made in found:
        row = rows[made.transaction_id]
        at = naive.terminal(row.terminal_id, as_of(row.event_time, STEP_S))
        values = online(microseconds(row.event_time), row.amount_cents, naive.card(row), at)
        assert dict(zip(FEATURES, values, strict=True)) == {name: made[name] for name in FEATURES}, row
        assert made.fraud == int(row.known_at is not None and row.known_at <= UNTIL)
    spread = np.array([[made[name] for name in FEATURES] for made in found]).std(axis=0)
    assert (spread > 0).all(), "a feature never changes in this data"


def test_what_is_not_known_yet_changes_nothing(
    spark: SparkSession,
    small: tuple[pa.Table, pa.Table],
    archive: tuple[DataFrame, DataFrame],
    tmp_path: Path,
) -> None:
    """A table from an archive that ends at its as-of time is that from the whole archive, to the byte."""
    transactions, labels = small
    time = TIMES[-1]
    before = [at <= time for at in transactions["event_time"].to_pylist()]
    known = [at <= time for at in labels["known_at"].to_pylist()]
    places = write_archive(tmp_path, transactions.filter(pa.array(before)), labels.filter(pa.array(known)))
    cut = read_events(spark, Transaction, places[:1]), read_events(spark, Label, places[1:])
    assert 0 < cut[1].count() < labels.num_rows
    assert list(tables(*cut, [time])) == list(tables(*archive, [time]))


def test_a_table_is_written_once(
    archive: tuple[DataFrame, DataFrame], published: tuple[ObjectStore, DataSet]
) -> None:
    """A second run writes the tables that lack and none of the others."""
    store, data_set = published
    before = {item.url: item.modified for item in store.list(data_set.terminal_risk)}
    more = as_of_times(SINCE, UNTIL + DAY, STEP_S)
    assert publish(store, data_set.terminal_risk, *archive, more)["written"] == 4
    after = {item.url: item.modified for item in store.list(data_set.terminal_risk)}
    assert {url: after[url] for url in before} == before
    assert sorted(after) == sorted(data_set.terminal_table(time) for time in more)


def test_a_time_before_anything_is_known_has_an_empty_table(archive: tuple[DataFrame, DataFrame]) -> None:
    """So that a scorer does not wait for it."""
    ((time, body),) = tables(*archive, [begin(6)])
    assert (time, pq.read_table(io.BytesIO(body)).num_rows) == (begin(6), 0)
    assert body == table_bytes(pq.read_table(io.BytesIO(body)))


def test_as_of_times_cover_a_range() -> None:
    """The first is at or before the range, the last within it; each transaction's is among them."""
    since, until = datetime(2018, 6, 1, 5, 59, tzinfo=UTC), datetime(2018, 6, 2, tzinfo=UTC)
    times = as_of_times(since, until, STEP_S)
    assert [time.hour for time in times] == [0, 6, 12, 18]
    assert as_of(until - timedelta(microseconds=1), STEP_S) == times[-1]
    assert as_of(since, STEP_S) == times[0]
    assert as_of_times(since, since, STEP_S) == []


def test_an_archive_that_is_not_there_is_a_users_mistake(spark: SparkSession, tmp_path: Path) -> None:
    """One line names the prefix."""
    with pytest.raises(UserError, match=r"there are no labels below file:.*/nowhere/"):
        read_events(spark, Label, [f"file://{tmp_path}/nowhere/"])
