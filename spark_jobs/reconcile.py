"""Recomputes every archived decision from the archive by the batch code, and lists what differs.

spark-submit --py-files millstream.zip spark_jobs/reconcile.py --transactions s3://... --labels s3://...
--decisions s3://... --models s3://... --output s3://...

Exit code 0 when nothing differs, 1 when anything does. The output has summary.json, with the `first`
differences in words, and as Parquet differences.parquet: transaction_id, model_version, name, online, batch.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import click
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as fn

from infra.contracts.errors import UserError
from infra.contracts.events import Decision, Label, Transaction
from infra.contracts.features import EPOCH, FEATURES
from infra.files import Store, address, open_store
from infra.process import EXIT_FAILED, run_command
from infra.settings import Settings
from spark_jobs.archive_reading import read_events
from spark_jobs.published_models import read_models
from spark_jobs.recomputing import ABSENT, AS_OF, SCORE, recomputed
from spark_jobs.session import spark_session

SETTINGS = {"spark.sql.shuffle.partitions": "8"}  # a few million rows
LISTED = 10_000
SHOWN = 20
MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class Request:
    """Where the archives and models lie; up to `listed` differences are written below `output`."""

    transactions: Sequence[str]
    labels: Sequence[str]
    decisions: Sequence[str]
    models: str
    output: str
    listed: int = LISTED


def reconcile(spark: SparkSession, store: Store, request: Request) -> tuple[dict[str, Any], pa.Table]:
    """Recompute and compare; writes and returns summary and listed differences.

    Raises UserError when there are no decisions, or when their model is not there.
    """
    decisions = read_events(spark, Decision, request.decisions)
    days = _days(decisions, request)
    versions = [row[0] for row in decisions.select("model_version").dropna().distinct().collect()]
    models = read_models(store, request.models, sorted(versions))
    transactions = read_events(spark, Transaction, request.transactions)
    labels = read_events(spark, Label, request.labels)
    rows = recomputed(decisions, transactions, labels, models, days).cache()
    try:
        differences = _differences(rows)
        summary = {**_summary(rows, differences), "models": sorted(models)}
        listed = differences.orderBy("transaction_id", "name").limit(request.listed).toArrow()
    finally:
        rows.unpersist()
    _write(store, request.output, summary, listed)
    return summary, listed


def _days(decisions: DataFrame, request: Request) -> tuple[datetime, datetime]:
    """The first event time, and the microsecond after the last."""
    row = decisions.agg(fn.min("event_time_us"), fn.max("event_time_us")).first()
    assert row is not None
    if row[0] is None:
        raise UserError(f"there are no decisions below {' or '.join(request.decisions)}")
    return EPOCH + row[0] * MICROSECOND, EPOCH + (row[1] + 1) * MICROSECOND


def _differences(rows: DataFrame) -> DataFrame:
    each = rows.select("transaction_id", "model_version", fn.explode("differences").alias("one"))
    return each.select("transaction_id", "model_version", "one.*")


def _summary(rows: DataFrame, differences: DataFrame) -> dict[str, Any]:
    """How many decisions there were, and how many values of them differ."""
    totals = rows.agg(
        fn.count(fn.lit(1)).alias("decisions"),
        fn.count_if(fn.col("model_version").isNull()).alias("without_model"),
        fn.count_if(fn.size("differences") > 0).alias("decisions_that_differ"),
        fn.max("score_apart").alias("scores_apart_at_most"),
    ).first()
    assert totals is not None
    counts = {row["name"]: row["count"] for row in differences.groupBy("name").count().collect()}
    by_feature = {name: counts[name] for name in FEATURES if name in counts}
    return {
        **totals.asDict(),
        "not_archived": counts.get(ABSENT, 0),
        "features_that_differ": sum(by_feature.values()),
        "by_feature": by_feature,
        "scores_that_differ": counts.get(SCORE, 0),
        "tables_that_differ": counts.get(AS_OF, 0),
    }


def _write(store: Store, output: str, summary: dict[str, Any], listed: pa.Table) -> None:
    body = io.BytesIO()
    pq.write_table(listed, body, compression="zstd")
    store.put(f"{output}differences.parquet", body.getvalue())
    with_first = {**summary, "first": lines(listed)}
    store.put(f"{output}summary.json", (json.dumps(with_first, indent=2) + "\n").encode())


def lines(listed: pa.Table) -> list[str]:
    """The first differences as text."""
    rows = listed[:SHOWN].to_pylist()
    return [_line(row) for row in rows]


def _line(row: dict[str, Any]) -> str:
    if row["name"] == ABSENT:
        return f"transaction {row['transaction_id']}: decided, but not in the archive"
    values = f"{row['online']!r}, from the archive {row['batch']!r}"
    return f"transaction {row['transaction_id']}: {row['name']} {values}"


@click.command()
@click.option("--transactions", multiple=True, required=True, help="an archive's prefix; may be repeated")
@click.option("--labels", multiple=True, required=True, help="an archive's prefix; may be repeated")
@click.option("--decisions", multiple=True, required=True, help="an archive's prefix; may be repeated")
@click.option("--models", required=True, help="where models lie, each in a folder of its version")
@click.option("--output", required=True, help="where summary.json and differences.parquet are written")
@click.option("--limit", default=LISTED, show_default=True, help="how many differences are listed at most")
def main(
    transactions: tuple[str, ...],
    labels: tuple[str, ...],
    decisions: tuple[str, ...],
    models: str,
    output: str,
    limit: int,
) -> int:
    """Recompute every archived decision and compare."""
    places = [address(place).rstrip("/") + "/" for place in (models, output)]
    request = Request(transactions, labels, decisions, places[0], places[1], limit)
    store = open_store(places[1], Settings.load())
    spark = spark_session("reconcile", SETTINGS)
    try:
        summary, listed = reconcile(spark, store, request)
    finally:
        spark.stop()
    for line in lines(listed):
        click.echo(line)
    click.echo(json.dumps({**summary, "output": request.output}))
    return EXIT_FAILED if summary["decisions_that_differ"] else 0


if __name__ == "__main__":
    run_command(main)
