"""Trains and publishes the model that scores transactions, with how good it is on validation folds.

spark-submit --py-files millstream.zip spark_jobs/train_fraud_model.py --transactions s3://... --labels
s3://... --tables s3://... --output s3://... --history-end 2018-08-08T00:00:00Z
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import click
import pandas as pd
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as fn

from infra.contracts.errors import UserError
from infra.contracts.events import Label, Transaction
from infra.contracts.features import EPOCH, FEATURE_LIST, FEATURES, TERMINAL_STEP_S, microseconds
from infra.files import Store, address, open_store
from infra.process import run_command
from infra.settings import Settings
from spark_jobs.archive_reading import read_events
from spark_jobs.fraud_folds import FINAL_WEEKS, WEEK, Fold, validation_folds
from spark_jobs.fraud_metrics import NAMES, PUBLISHED, curve, mean_metrics, metrics, thresholds
from spark_jobs.fraud_model import as_rows, score, score_test, train, training_week
from spark_jobs.model_files import check_scores, precision_recall_page, publish, to_onnx, version
from spark_jobs.session import spark_session
from spark_jobs.terminal_tables import as_of_times, check_step, missing, read_tables
from spark_jobs.times import utc_time
from spark_jobs.training_rows import collect, known_frauds, labelled_features, measured_rows, with_terminals

SETTINGS = {"spark.sql.shuffle.partitions": "4"}  # a few hundred thousand rows


@dataclass(frozen=True)
class Request:
    """Where the archive and the tables lie, and until when (UTC) what is known may be used."""

    transactions: Sequence[str]
    labels: Sequence[str]
    tables: str
    output: str
    history_end: datetime
    step_s: int


def train_and_publish(spark: SparkSession, store: Store, request: Request) -> dict[str, Any]:
    """Validate, train, publish; returns what model.json has. Raises UserError when the data won't do."""
    transactions = read_events(spark, Transaction, request.transactions)
    labels = read_events(spark, Label, request.labels)
    folds = validation_folds(_first(transactions), request.history_end)
    rows = _rows(spark, store, request, transactions, labels, folds[0].begin).cache()
    try:
        return _published(store, request, rows, known_frauds(labels, request.history_end), folds)
    finally:
        rows.unpersist()


def _first(transactions: DataFrame) -> datetime:
    """The first event time. Raises UserError when there is none."""
    row = transactions.agg(fn.min("event_time_us")).first()
    assert row is not None
    if row[0] is None:
        raise UserError("the archive has no transactions")
    return EPOCH + timedelta(microseconds=row[0])


def _rows(
    spark: SparkSession,
    store: Store,
    request: Request,
    transactions: DataFrame,
    labels: DataFrame,
    since: datetime,
) -> DataFrame:
    """The rows of all folds; of the newest week nothing is known yet. Raises UserError without tables."""
    until = request.history_end - WEEK
    times = as_of_times(since, until, request.step_s)
    lacking = missing(store, request.tables, times)
    if lacking:
        raise UserError(
            f"{len(lacking)} of {len(times)} terminal tables are not below {request.tables}, the first as of "
            f"{lacking[0]:%Y-%m-%dT%H:%MZ}; make them by terminal_risk.py --from {since:%Y-%m-%dT%H:%M:%SZ} "
            f"--step {request.step_s}"
        )
    measured = measured_rows(transactions, since, until)
    joined = with_terminals(measured, read_tables(spark, request.tables, times), request.step_s)
    return labelled_features(joined, labels, request.history_end)


def _published(
    store: Store, request: Request, rows: DataFrame, labels: pd.DataFrame, folds: Sequence[Fold]
) -> dict[str, Any]:
    final = Fold(request.history_end - FINAL_WEEKS * WEEK)
    if not labels["event_time_us"].between(*_week(final.begin)).any():
        raise UserError(f"the week from {_text(final.begin)}, which the model trains on, has no known fraud")
    results = _validate(rows, labels, folds)
    model = train(training_week(rows, final))
    week = collect(training_week(rows, final))
    if week["fraud"].all():
        raise UserError(f"the week from {_text(final.begin)}, which the model trains on, has frauds only")
    onnx = to_onnx(model, len(FEATURES))
    difference = check_scores(onnx, as_rows(week), score(model, week))
    seen = pd.concat([tested for _, tested in results])
    limits = thresholds(seen)
    card = {
        **_facts(request, final, onnx),
        "thresholds": limits,
        "reference": usual(week),
        "rows": len(week),
        "frauds": int(week["fraud"].sum()),
        "metrics": _metrics(results),
        "onnx_difference": difference,
    }
    page = precision_recall_page(*curve(seen), limits)
    return {**card, "model": publish(store, request.output, card, onnx, page)}


def _facts(request: Request, final: Fold, onnx: bytes) -> dict[str, Any]:
    """What a model is, apart from how good it is."""
    end = _text(request.history_end)
    return {
        "version": version(end, onnx),
        "feature_list": FEATURE_LIST,
        "features": list(FEATURES),
        "in_force_from": end,
        "terminal_step_s": request.step_s,
        "trained_from": _text(final.begin),
        "trained_until": _text(final.train_until),
        "labels_known_by": end,
    }


def _validate(
    rows: DataFrame, labels: pd.DataFrame, folds: Sequence[Fold]
) -> list[tuple[Fold, pd.DataFrame]]:
    """Each fold's tested rows. Raises UserError when none has frauds and others."""
    results = []
    for fold in folds:
        if labels["event_time_us"].between(*_week(fold.begin)).any():
            tested = score_test(rows, labels, fold)
            if tested["fraud"].nunique() == 2:
                results.append((fold, tested))
                click.echo(f"trained on the week from {fold.begin:%Y-%m-%d}: {metrics(tested)}")
    if not results:
        raise UserError("no fold has known frauds both to train on and to be tested on: there are too few")
    return results


def _week(begin: datetime) -> tuple[int, int]:
    """The first and the last microsecond of a week."""
    return microseconds(begin), microseconds(begin + WEEK) - 1


def _metrics(results: Sequence[tuple[Fold, pd.DataFrame]]) -> dict[str, Any]:
    """Each validation fold's metrics, their mean, and the published figures beside them."""
    folds = [
        {"trained_from": _text(fold.begin), "rows": len(result), **metrics(result)}
        for fold, result in results
    ]
    published = {name: dict(zip(NAMES, values, strict=True)) for name, values in PUBLISHED.items()}
    return {**mean_metrics(folds), "folds": folds, "published": published}


def usual(rows: pd.DataFrame) -> list[float]:
    """What each feature is in the middle transaction that is no fraud; one that occurs, never between two."""
    honest = rows[rows["fraud"] == 0]
    return [float(honest[name].quantile(0.5, interpolation="lower")) for name in FEATURES]


def _text(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


@click.command()
@click.option("--transactions", multiple=True, required=True, help="an archive's prefix; may be repeated")
@click.option("--labels", multiple=True, required=True, help="an archive's prefix; may be repeated")
@click.option("--tables", required=True, help="where terminal_risk.py wrote its tables")
@click.option("--output", required=True, help="where models lie, each in a folder of its version")
@click.option("--history-end", required=True, help="when it is now: what was known by then, RFC 3339")
@click.option("--step", default=TERMINAL_STEP_S, show_default=True, help="seconds from table to table")
def main(
    transactions: tuple[str, ...],
    labels: tuple[str, ...],
    tables: str,
    output: str,
    history_end: str,
    step: int,
) -> None:
    """Train and publish the fraud model."""
    check_step(step)
    places = [address(place).rstrip("/") + "/" for place in (tables, output)]
    request = Request(
        transactions, labels, places[0], places[1], utc_time("--history-end", history_end), step
    )
    store = open_store(places[1], Settings.load())
    spark = spark_session("train fraud model", SETTINGS)
    try:
        figures = train_and_publish(spark, store, request)
    finally:
        spark.stop()
    click.echo(json.dumps(figures))


if __name__ == "__main__":
    run_command(main)
