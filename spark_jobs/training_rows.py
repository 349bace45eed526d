"""The rows that a model trains on and is tested on: features from archive and terminals' tables."""

from __future__ import annotations

from datetime import datetime, timedelta

import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as fn

from infra.contracts.features import DAY_US, MEAN_DAYS, microseconds
from spark_jobs.card_features import feature_columns, with_card_measures
from spark_jobs.terminal_features import COLUMNS

KEYS = ("transaction_id", "event_time_us", "card_id", "terminal_id")


def measured_rows(transactions: DataFrame, since: datetime, until: datetime) -> DataFrame:
    """The transactions of [since, until) with their card measures, from the 30 days before them on."""
    first, end = microseconds(since), microseconds(until)
    seen = (fn.col("event_time_us") > first - MEAN_DAYS * DAY_US) & (fn.col("event_time_us") < end)
    return with_card_measures(transactions.filter(seen)).filter(fn.col("event_time_us") >= first)


def with_terminals(measured: DataFrame, tables: DataFrame, step_s: int) -> DataFrame:
    """Add each transaction's terminal as of its step; zeros for one that the table lacks.

    `tables` as terminal_tables.read_tables gives them.
    """
    step_us = timedelta(seconds=step_s) // timedelta(microseconds=1)
    floored = fn.col("event_time_us") - fn.pmod("event_time_us", fn.lit(step_us))
    joined = measured.withColumn("as_of_us", floored).join(tables, ["terminal_id", "as_of_us"], "left")
    return joined.fillna(0, subset=list(COLUMNS))


def labelled_features(rows: DataFrame, labels: DataFrame, known_by: datetime) -> DataFrame:
    """KEYS, the features, and fraud (0 or 1) by the labels known by a time.

    `rows` have the measures and the terminals' COLUMNS.
    """
    frauds = labels.filter(fn.col("known_at") <= fn.lit(known_by)).select(
        "transaction_id", fn.lit(1).alias("fraud")
    )
    joined = rows.join(frauds, "transaction_id", "left").fillna(0, subset=["fraud"])
    return joined.select(*KEYS, *feature_columns(), "fraud")


def known_frauds(labels: DataFrame, known_by: datetime) -> pd.DataFrame:
    """The labels known by a time, collected: card_id, event_time_us, known_us."""
    known = labels.filter(fn.col("known_at") <= fn.lit(known_by))
    return collect(known.select("card_id", "event_time_us", fn.unix_micros("known_at").alias("known_us")))


def collect(rows: DataFrame) -> pd.DataFrame:
    """Rows in the driver's memory."""
    found: pd.DataFrame = rows.toArrow().to_pandas()
    return found
