"""Puts a data set into S3: its source to be played, the history before its live part, a manifest.

`python -m producers.dataset --live 300000` (the simulator) or `--input FILE --columns ...` (data of your
own). Days that are there are never changed; a longer run only adds some.
"""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from infra.contracts.datasets import (
    LABEL_DELAY,
    DataSet,
    Manifest,
    data_set_id,
    day_object,
    read_manifest,
)
from infra.contracts.errors import UserError
from infra.contracts.events import Label, Transaction, arrow_schema
from infra.objects import ObjectStore
from infra.process import run_command
from infra.progress import Update, progress
from infra.settings import Settings
from infra.streams.admin import StreamAdmin
from infra.streams.played import live_played
from infra.terminal import terminal
from producers import own_transactions, simulator
from producers.simulator import World, days_to_simulate

DEFAULT_SHARDS = 8
HISTORY_DAYS = 129
"""Days 0 to 128 of the simulator are history; day 129, 2018-08-08, is the first to be played."""
SPARE_DAYS = 2
ROW_BYTES = 300
"""Memory that a simulated transaction takes; all are made at once (measured: 265 of 959,000 each)."""


def simulated(bucket: str, world: World, shards: int) -> tuple[DataSet, dict[str, Any]]:
    """The data set of a simulated world on a number of shards, and what defines it."""
    definition = {"kind": "simulator", **asdict(world), "shards": shards}
    default = {"kind": "simulator", **asdict(World()), "shards": DEFAULT_SHARDS}
    return DataSet(bucket, "" if definition == default else data_set_id(definition)), definition


def prepare_simulated(
    store: ObjectStore, data_set: DataSet, definition: dict[str, Any], world: World, live: int, update: Update
) -> Manifest:
    """Make the source hold at least `live` transactions to be played; returns its manifest."""
    found = read_manifest(store.get, data_set)
    if found is not None and found.live_transactions >= live:
        return found
    # The first guess is by the mean of the simulator: two a day for each customer, of which some are dropped.
    days = HISTORY_DAYS + SPARE_DAYS + int(live / (1.9 * world.customers))
    while True:
        update(0.0, f"simulating {days} days")
        table = _simulated_table(world, days, update)
        live_from = simulator.BEGIN + timedelta(days=HISTORY_DAYS)
        played = _count_from(table, live_from)
        if played >= live:
            break
        days += SPARE_DAYS + int((live - played) / (1.9 * world.customers))
    manifest = Manifest(
        id=data_set.id, kind="simulator", definition=definition, shards=definition["shards"],
        first_day=simulator.BEGIN.date(), live_from=live_from,
        until=simulator.BEGIN + timedelta(days=days),
        transactions=len(table), live_transactions=played,
    )  # fmt: skip
    _write(store, data_set, table, manifest, found, update)
    return manifest


def prepare_own(
    store: ObjectStore,
    data_set: DataSet,
    definition: dict[str, Any],
    own: own_transactions.OwnTransactions,
    update: Update,
) -> Manifest:
    """Make the source hold a user's own transactions, all of them; returns its manifest."""
    table = own.table
    last = table["event_time"][-1].as_py()
    manifest = Manifest(
        id=data_set.id, kind="input", definition=definition, shards=definition["shards"],
        first_day=table["event_time"][0].as_py().date(), live_from=own.live_from,
        until=datetime(last.year, last.month, last.day, tzinfo=UTC) + timedelta(days=1),
        transactions=len(table), live_transactions=_count_from(table, own.live_from),
    )  # fmt: skip
    _write(store, data_set, table, manifest, read_manifest(store.get, data_set), update)
    return manifest


def _simulated_table(world: World, days: int, update: Update) -> pa.Table:
    """The first `days` days as the columns of Transaction and `fraud`."""
    data = simulator.simulate(
        days_to_simulate(days), world, lambda share: update(share / 2, f"simulating {days} days")
    )
    rows = int((data.day < days).sum())
    micros = (int(simulator.BEGIN.timestamp()) + data.time_s[:rows]) * 1_000_000
    return pa.table(
        {
            "transaction_id": pa.array(range(rows), pa.int64()),
            "event_time": pa.array(micros).cast(pa.timestamp("us", tz="UTC")),
            "card_id": _names("C", data.customer[:rows]),
            "terminal_id": _names("T", data.terminal[:rows]),
            "amount_cents": pa.array(data.amount_cents[:rows]),
            "fraud": pa.array(data.fraud[:rows]),
        }
    )


def _names(letter: str, numbers: simulator.Ints) -> pa.Array:
    texts = pa.array([f"{letter}{number:05}" for number in range(int(numbers.max(initial=0)) + 1)])
    return texts.take(pa.array(numbers))


def _write(
    store: ObjectStore,
    data_set: DataSet,
    table: pa.Table,
    manifest: Manifest,
    found: Manifest | None,
    update: Update,
) -> None:
    """Write the days that are not there yet, then the manifest. `table` is in order of time."""
    live_from = manifest.live_from
    days = list(_days(table, found.until.date() if found else manifest.first_day))
    for number, (day, rows) in enumerate(days):
        update(0.5 + number / len(days) / 2, f"writing {day}")
        for prefix, part in _parts(data_set, rows, live_from):
            if len(part):
                store.put_once(day_object(prefix, day), _parquet(part))
    store.put(data_set.manifest, manifest.to_json(), "application/json")
    update(1.0, f"{manifest.transactions:,} transactions until {manifest.until:%Y-%m-%d}")


def _parts(data_set: DataSet, rows: pa.Table, live_from: datetime) -> Iterator[tuple[str, pa.Table]]:
    """Where a day's rows go: source and history, transactions and labels."""
    transactions = rows.select(arrow_schema(Transaction).names).cast(arrow_schema(Transaction))
    labels = _labels(rows)
    yield data_set.source("transactions"), transactions
    yield data_set.source("labels"), labels
    yield data_set.history("transactions"), transactions.filter(pc.field("event_time") < live_from)
    yield data_set.history("labels"), labels.filter(pc.field("known_at") < live_from)


def _labels(rows: pa.Table) -> pa.Table:
    frauds = rows.filter(pc.field("fraud"))
    delay = pa.scalar(LABEL_DELAY, pa.duration("us"))
    frauds = frauds.append_column("known_at", pc.add(frauds["event_time"], delay))
    return frauds.select(arrow_schema(Label).names).cast(arrow_schema(Label))


def _days(table: pa.Table, begin: date) -> Iterator[tuple[str, pa.Table]]:
    """Each day from `begin` on that has rows, YYYY-MM-DD, with its rows."""
    dates = pc.cast(pc.floor_temporal(table["event_time"], unit="day"), pa.date32()).to_numpy()
    edges = [0, *(1 + (dates[1:] != dates[:-1]).nonzero()[0]).tolist(), len(table)]
    for first, end in itertools.pairwise(edges):
        day = dates[first].item()
        if day >= begin:
            yield day.isoformat(), table.slice(first, end - first)


def _parquet(table: pa.Table) -> bytes:
    body = io.BytesIO()
    pq.write_table(table, body, compression="snappy")
    return body.getvalue()


def _count_from(table: pa.Table, moment: datetime) -> int:
    return int(pc.sum(pc.greater_equal(table["event_time"], pa.scalar(moment))).as_py() or 0)


@click.command()
@click.option(
    "--live", type=click.IntRange(1), default=300_000, show_default=True, help="Transactions to play."
)
@click.option("--shards", type=click.IntRange(1, 200), default=DEFAULT_SHARDS, show_default=True)
@click.option("--seed", type=click.IntRange(0, 1000), default=0, show_default=True)
@click.option("--customers", type=click.IntRange(10, 100_000), default=5_000, show_default=True)
@click.option("--terminals", type=click.IntRange(10, 100_000), default=10_000, show_default=True)
@click.option("--radius", type=click.FloatRange(0.1, 200), default=5.0, show_default=True)
@click.option("--input", "input_", type=click.Path(path_type=Path), help="A CSV or Parquet file of your own.")
@click.option("--columns", default="", help="What its columns are: 'card_id=card1,amount=Amt,...'.")
@click.option("--history", type=click.FloatRange(0.05, 0.95), default=0.7, show_default=True)
@click.option("--unless-there", is_flag=True, help="Make nothing if the data set is there, however long.")
@click.option("--only-name", is_flag=True, help="Only say which data set it is; make nothing.")
@click.option("--result", type=click.Path(path_type=Path), help="Write the manifest here, as JSON.")
def main(
    live: int, shards: int, seed: int, customers: int, terminals: int, radius: float,
    input_: Path | None, columns: str, history: float, unless_there: bool, only_name: bool,
    result: Path | None,
) -> None:  # fmt: skip
    """Make a data set ready to be played: `--live` more transactions than its stream holds."""
    settings = Settings.load()
    if input_ is None:
        world = World(seed, customers, terminals, radius)
        data_set, definition = simulated(settings.bucket, world, shards)
        _check_memory(0, live)
    else:
        chosen = own_transactions.definition(input_, columns, history)
        definition = {**chosen, "shards": shards}
        data_set = DataSet(settings.bucket, data_set_id(definition))
    if only_name:
        _say(result, json.dumps({"id": data_set.id, "definition": definition}).encode())
        return
    store = ObjectStore(settings)
    there = read_manifest(store.get, data_set) if unless_there else None
    if there is not None:
        _say(result, there.to_json())
        return
    with progress(terminal(), "data set") as update:
        if input_ is None:
            manifest = _prepare_simulated_play(settings, store, data_set, definition, world, live, update)
        else:
            manifest = _prepare_own(store, data_set, definition, input_, update)
    _say(result, manifest.to_json())


def _prepare_simulated_play(
    settings: Settings,
    store: ObjectStore,
    data_set: DataSet,
    definition: dict[str, Any],
    world: World,
    live: int,
    update: Update,
) -> Manifest:
    """As prepare_simulated, with `live` transactions after those that the stream holds."""
    found = read_manifest(store.get, data_set)
    done = 0
    if found is not None and settings.kafka_servers:
        with StreamAdmin(settings.kafka_servers) as admin:
            done = live_played(admin, data_set, found)
    _check_memory(done, live)
    return prepare_simulated(store, data_set, definition, world, done + live, update)


def _check_memory(done: int, live: int) -> None:
    """Raises UserError for a play whose transactions can't all be in memory, where they are simulated."""
    needed, free = (done + live) * ROW_BYTES, psutil.virtual_memory().available
    if needed > free:
        before = f" after the {done:,} that were (FRESH=1 begins anew)" if done else ""
        raise UserError(
            f"to simulate {live - 1:,} transactions{before} takes {needed / 2**30:,.1f} GB of memory, and "
            f"{free / 2**30:,.1f} are free; give a smaller RATE or SECONDS"
        )


def _prepare_own(
    store: ObjectStore, data_set: DataSet, definition: dict[str, Any], path: Path, update: Update
) -> Manifest:
    found = read_manifest(store.get, data_set)
    if found is not None:
        update(1.0, f"{found.transactions:,} transactions of {path.name}, there already")
        return found
    update(0.0, f"reading {path}")
    own = own_transactions.read(path, *(definition[name] for name in ("columns", "history", "shards")))
    for line in own.notes:
        click.echo(line)
    return prepare_own(store, data_set, definition, own, update)


def _say(result: Path | None, what: bytes) -> None:
    if result is None:
        click.echo(what)
    else:
        result.parent.mkdir(parents=True, exist_ok=True)
        result.write_bytes(what)


if __name__ == "__main__":
    run_command(main)
