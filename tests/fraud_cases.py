"""The simulator's transactions and labels as the archive has them, for tests of the batch side."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from infra.contracts.datasets import LABEL_DELAY
from infra.contracts.events import Label, Transaction, arrow_schema
from producers.simulator import BEGIN, Transactions
from spark_jobs.session import spark_session

DAY = timedelta(days=1)
US = np.timedelta64(1, "us")


def begin(day: int) -> datetime:
    """The first moment of the simulator's day (0: 2018-04-01)."""
    return BEGIN + day * DAY


def archive_of(made: Transactions) -> tuple[pa.Table, pa.Table]:
    """Transactions and labels with the archive's schemas; a label is known LABEL_DELAY after its fraud."""
    times = np.datetime64(BEGIN.replace(tzinfo=None), "us") + made.time_s * 1_000_000 * US
    columns = {
        "transaction_id": np.arange(len(made)),
        "event_time": times,
        "card_id": np.char.add("C", np.char.zfill(made.customer.astype(str), 5)),
        "terminal_id": np.char.add("T", np.char.zfill(made.terminal.astype(str), 5)),
    }
    labels = {name: column[made.fraud] for name, column in columns.items()}
    labels["known_at"] = times[made.fraud] + np.timedelta64(LABEL_DELAY)
    return _table(Transaction, {**columns, "amount_cents": made.amount_cents}), _table(Label, labels)


def _table(kind: type[Transaction] | type[Label], columns: dict[str, np.ndarray]) -> pa.Table:
    schema = arrow_schema(kind)
    made = [pa.array(columns[field.name]).cast(_plain(field.type)).cast(field.type) for field in schema]
    return pa.Table.from_arrays(made, schema=schema)


def _plain(kind: pa.DataType) -> pa.DataType:
    return pa.timestamp("us") if pa.types.is_timestamp(kind) else kind


def write_archive(folder: Path, transactions: pa.Table, labels: pa.Table) -> tuple[str, str]:
    """Write both below a folder, each in two subfolders as history and live are; returns their prefixes."""
    prefixes = []
    for name, table in (("transactions", transactions), ("labels", labels)):
        half = table.num_rows // 2
        for part, rows in (("history/day=1", table[:half]), ("live/1", table[half:])):
            path = folder / name / part / "part.parquet"
            path.parent.mkdir(parents=True)
            pq.write_table(rows, path)
        prefixes.append(f"file://{folder / name}/")
    return prefixes[0], prefixes[1]


@contextmanager
def local_spark() -> Iterator[SparkSession]:
    """A Spark in this process, for fixtures of the session's scope: all tests share the one JVM."""
    local = {
        "spark.master": "local[2]",
        "spark.driver.memory": "1g",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.shuffle.partitions": "4",
    }
    session = spark_session("tests", local)
    session.sparkContext.pythonExec = sys.executable  # the context may be another test's
    yield session
    gc.collect()  # pyspark leaves the sockets that results came through to it
    session.stop()
