"""Decisions recomputed from the archive, each with the list of what differs.

The expressions are those of training: card windows by (event_time, transaction_id), and a terminal as
of the decision's `terminal_as_of` straight from transactions and labels, so that a published table is
checked with it. The score is that of the decision's model. Nothing here is the scorer's code.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as fn

from infra.contracts.features import FEATURES
from spark_jobs.card_features import feature_columns
from spark_jobs.published_models import PublishedModel, with_scores
from spark_jobs.terminal_features import COLUMNS, terminal_rows
from spark_jobs.training_rows import measured_rows

MOST_APART = 1e-6
"""How far a score may be from the recomputed one: sums of another batch may round differently."""

SCORE, AS_OF, ABSENT = "score", "terminal_as_of", "transaction"
"""What can differ besides FEATURES: score, as-of time (seconds since 1970), and a transaction that lacks."""


def recomputed(
    decisions: DataFrame,
    transactions: DataFrame,
    labels: DataFrame,
    models: Mapping[str, PublishedModel],
    days: tuple[datetime, datetime],
) -> DataFrame:
    """One row a decision: transaction_id, model_version, score_apart, differences.

    Each of `differences` is (name, online, batch): doubles, to be equal to the bit but for the score.
    Without a model a decision's terminal features are 0 and its score is null. `models` has all that
    are named; `days` are the first event time of the decisions and one that is after all of them.
    """
    rows = _with_transactions(decisions, measured_rows(transactions, *days))
    rows = _with_terminals(rows, transactions, labels)
    batch = fn.array(*feature_columns()).alias("batch")
    made = rows.select(*_KEPT, fn.col("count_of_1").isNotNull().alias("archived"), batch)
    return _compared(with_scores(made, "batch", models), models)


_KEPT = ("transaction_id", "event_time_us", "model_version", "as_of_us", "score", "features")


def _with_transactions(decisions: DataFrame, measured: DataFrame) -> DataFrame:
    """The decisions with their archived transaction's columns and measures, null where it lacks."""
    as_of = fn.unix_micros("terminal_as_of").alias("as_of_us")
    decided = decisions.select("transaction_id", "model_version", as_of, "score", "features")
    return decided.join(measured, "transaction_id", "left")


def _with_terminals(rows: DataFrame, transactions: DataFrame, labels: DataFrame) -> DataFrame:
    """Add the terminal's COLUMNS as of the decision's table; zeros where it used none."""
    asked = rows.select("terminal_id", fn.col("as_of_us").alias("at_us")).dropna().distinct()
    moments = asked.withColumn("transaction_id", fn.lit(None).cast("bigint"))
    known = terminal_rows(transactions, labels, moments).select(
        "terminal_id", fn.col("at_us").alias("as_of_us"), *COLUMNS
    )
    return rows.join(known, ["terminal_id", "as_of_us"], "left").fillna(0, subset=list(COLUMNS))


def _compared(rows: DataFrame, models: Mapping[str, PublishedModel]) -> DataFrame:
    apart = fn.abs(fn.col("score") - fn.col("recomputed_score"))
    pairs = [
        *(_pair(name, fn.get("features", fn.lit(at)), fn.get("batch", fn.lit(at))) for at, name in _PLACES),
        _pair(AS_OF, _seconds(fn.col("as_of_us")), _seconds(_right_as_of(models))),
    ]
    equal = fn.coalesce(apart <= MOST_APART, fn.col("score").isNull() & fn.col("recomputed_score").isNull())
    scores = fn.when(~equal, fn.array(_pair(SCORE, fn.col("score"), fn.col("recomputed_score"))))
    unequal = fn.filter(fn.array(*pairs), lambda pair: ~pair.online.eqNullSafe(pair.batch))
    found = fn.concat(unequal, fn.coalesce(scores, fn.array().cast(_PAIRS)))
    nothing = fn.lit(None).cast("double")
    absent = fn.array(_pair(ABSENT, nothing, nothing))
    differences = fn.when(fn.col("archived"), found).otherwise(absent)
    return rows.select(
        "transaction_id", "model_version", apart.alias("score_apart"), differences.alias("differences")
    )


_PLACES = tuple(enumerate(FEATURES))
_PAIRS = "array<struct<name:string,online:double,batch:double>>"


def _pair(name: str, online: Column, batch: Column) -> Column:
    return fn.struct(fn.lit(name).alias("name"), online.alias("online"), batch.alias("batch"))


def _right_as_of(models: Mapping[str, PublishedModel]) -> Column:
    """The as-of time that a transaction's model asks for, null without a model."""
    time, none = fn.col("event_time_us"), fn.lit(None).cast("bigint")
    steps = [
        fn.when(fn.col("model_version") == version, fn.lit(model.step_s * 1_000_000))
        for version, model in models.items()
    ]
    return time - fn.pmod(time, fn.coalesce(*steps, none))


def _seconds(time_us: Column) -> Column:
    return time_us / fn.lit(1_000_000.0)
