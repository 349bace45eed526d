"""Publishes terminals' tables: what was known of each terminal at each as-of time of a range.

spark-submit --py-files millstream.zip spark_jobs/terminal_risk.py --transactions s3://... --labels
s3://... --output s3://... --from 2018-06-20T00:00:00Z --until 2018-09-10T00:00:00Z
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import click
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as fn

from infra.contracts.errors import UserError
from infra.contracts.events import Label, Transaction
from infra.contracts.features import TERMINAL_STEP_S, microseconds
from infra.objects import ObjectStore
from infra.process import run_command
from infra.settings import Settings
from spark_jobs.archive_reading import read_events
from spark_jobs.session import spark_session
from spark_jobs.terminal_features import COLUMNS, DELAY_US, at_as_of_times, terminal_rows
from spark_jobs.terminal_tables import SCHEMA, as_of_times, check_step, missing, table_bytes, table_url
from spark_jobs.times import utc_time

SETTINGS = {"spark.sql.shuffle.partitions": "4"}  # a few million short rows


def tables(
    transactions: DataFrame, labels: DataFrame, times: Sequence[datetime]
) -> Iterator[tuple[datetime, bytes]]:
    """Each as-of time with its table's bytes. A terminal of which nothing is known has no row.

    Reads only what is old enough to be seen at the last of the times.
    """
    of = {microseconds(time): time for time in times}
    seen = transactions.filter(fn.col("event_time_us") <= max(of) - DELAY_US)
    rows = terminal_rows(seen, labels, at_as_of_times(seen, sorted(of)))
    known = rows.filter(fn.greatest(*COLUMNS) > 0).drop("transaction_id")
    made = known.groupBy("at_us").applyInArrow(_as_object, "at_us BIGINT, body BINARY")
    for row in made.toLocalIterator(prefetchPartitions=True):
        yield of.pop(row.at_us), bytes(row.body)
    for time in of.values():
        yield time, table_bytes(SCHEMA.empty_table())


def _as_object(rows: pa.Table) -> pa.Table:
    return pa.table({"at_us": rows["at_us"][:1], "body": pa.array([table_bytes(rows)], pa.binary())})


def publish(
    store: ObjectStore, prefix: str, transactions: DataFrame, labels: DataFrame, times: Sequence[datetime]
) -> dict[str, Any]:
    """Write the tables that are not there; returns the figures. One that is there is never changed."""
    needed = missing(store, prefix, times)
    size = 0
    for time, body in tables(transactions, labels, needed) if needed else ():
        store.put_once(table_url(prefix, time), body)
        size += len(body)
    return {"tables": len(times), "written": len(needed), "bytes": size, "output": prefix}


@click.command()
@click.option("--transactions", multiple=True, required=True, help="an archive's prefix; may be repeated")
@click.option("--labels", multiple=True, required=True, help="an archive's prefix; may be repeated")
@click.option("--output", required=True, help="where the tables lie, s3://")
@click.option("--from", "since", required=True, help="the first event time that needs a table, RFC 3339")
@click.option("--until", required=True, help="the event time from which none is needed")
@click.option("--step", default=TERMINAL_STEP_S, show_default=True, help="seconds from table to table")
def main(
    transactions: tuple[str, ...], labels: tuple[str, ...], output: str, since: str, until: str, step: int
) -> None:
    """Publish terminals' tables."""
    check_step(step)
    times = as_of_times(utc_time("--from", since), utc_time("--until", until), step)
    if not times:
        raise UserError(f"--until {until} is not after --from {since}")
    prefix = output.rstrip("/") + "/"
    spark = spark_session("terminal risk", SETTINGS)
    try:
        read = (read_events(spark, Transaction, transactions), read_events(spark, Label, labels))
        figures = publish(ObjectStore(Settings.load()), prefix, *read, times)
    finally:
        spark.stop()
    click.echo(json.dumps({**figures, "step_s": step}))


if __name__ == "__main__":
    run_command(main)
