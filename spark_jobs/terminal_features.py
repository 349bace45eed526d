"""What was known of a terminal at a moment: one computation, for exact times and for as-of tables.

A transaction at e is in a terminal's window of w days at every moment of [e + 7 d, e + 7 d + w): it
adds one when it enters and takes one away when it leaves. A fraud counts as such from when its label
is known, if that is later. What holds at a moment is the running sum up to it, so the moments can be
the transactions' own times (exact) or the as-of times of tables; nothing that was not known is seen.

The running streak of plain frauds: a terminal's last transactions that are at least 7 days old, back
to the last one that is not plain. Plain is a fraud whose label came within the 7 days, with an amount
of at most LIGHT_FRAUD_CENTS and an r_mean below LIGHT_FRAUD_R_MEAN: nothing about it but its terminal
is unusual. A streak's age is the moment's day less the day of its first transaction, 0 without one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as fn

from infra.contracts.datasets import LABEL_DELAY
from infra.contracts.features import (
    DAY_US,
    LIGHT_FRAUD_CENTS,
    LIGHT_FRAUD_R_MEAN,
    R_MEAN,
    TERMINAL_DAYS,
)
from spark_jobs.card_features import with_card_measures

DELAY_US = LABEL_DELAY.days * DAY_US
COUNTS = tuple(f"count_{days}" for days in TERMINAL_DAYS)
FRAUDS = tuple(f"frauds_{days}" for days in TERMINAL_DAYS)
COLUMNS = (*COUNTS, *FRAUDS, "light_streak_age")
"""A terminal's row, in the order of contracts.features.TerminalRow."""


def at_their_times(transactions: DataFrame) -> DataFrame:
    """The moments of transactions: terminal_id, at_us, transaction_id."""
    return transactions.select("terminal_id", fn.col("event_time_us").alias("at_us"), "transaction_id")


def at_as_of_times(transactions: DataFrame, as_of_us: Sequence[int]) -> DataFrame:
    """The moments of tables: each terminal of the transactions at each as-of time."""
    times = fn.explode(fn.array(*(fn.lit(time).cast("bigint") for time in as_of_us)))
    no_one = fn.lit(None).cast("bigint").alias("transaction_id")
    return transactions.select("terminal_id").distinct().select("terminal_id", times.alias("at_us"), no_one)


def terminal_rows(transactions: DataFrame, labels: DataFrame, moments: DataFrame) -> DataFrame:
    """The moments (terminal_id, at_us, transaction_id) with COLUMNS (BIGINT) added.

    Transactions and labels are whole archives with event_time_us: a row must not depend on how much
    was read.
    """
    changes = (
        _window_changes(transactions.withColumn("since_us", _seen_from()), COUNTS),
        _window_changes(_known_frauds(transactions, labels), FRAUDS),
        _streak_changes(transactions, labels),
        moments.withColumn("asked", fn.lit(1)),
    )
    rows = reduce(lambda one, other: one.unionByName(other, allowMissingColumns=True), changes)
    order = Window.partitionBy("terminal_id").orderBy("at_us", fn.col("asked").asc_nulls_first(), "streak")
    so_far = order.rowsBetween(Window.unboundedPreceding, Window.currentRow)
    sums = {name: fn.coalesce(fn.sum(name).over(so_far), fn.lit(0)) for name in (*COUNTS, *FRAUDS)}
    streak = fn.last("streak", ignorenulls=True).over(so_far)
    known = rows.withColumns({**sums, "streak": streak}).filter("asked = 1")
    return known.select("terminal_id", "at_us", "transaction_id", *COUNTS, *FRAUDS, _streak_age())


def _seen_from() -> Column:
    return fn.col("event_time_us") + DELAY_US


def _window_changes(rows: DataFrame, names: Sequence[str]) -> DataFrame:
    """Each row counted in each window from its since_us on, until it leaves, if that is later."""
    leaves = {name: _seen_from() + days * DAY_US for name, days in zip(names, TERMINAL_DAYS, strict=True)}
    seen = {name: (fn.col("since_us") < leave).cast("bigint") for name, leave in leaves.items()}
    entry = _change(fn.col("since_us"), names, seen)
    exits = [_change(leave, names, {name: -seen[name]}) for name, leave in leaves.items()]
    changes = rows.select("terminal_id", fn.explode(fn.array(entry, *exits)).alias("change"))
    return changes.select("terminal_id", "change.*")


def _change(at_us: Column, names: Sequence[str], by: Mapping[str, Column]) -> Column:
    none = fn.lit(0).cast("bigint")
    return fn.struct(at_us.alias("at_us"), *(by.get(name, none).alias(name) for name in names))


def _known_frauds(transactions: DataFrame, labels: DataFrame) -> DataFrame:
    """The frauds among the transactions, with their measures and since_us, when windows can have them."""
    known = labels.select("transaction_id", fn.unix_micros("known_at").alias("known_us"))
    since = fn.greatest(_seen_from(), fn.col("known_us"))
    return transactions.join(known, "transaction_id").withColumn("since_us", since)


def _plain_frauds(transactions: DataFrame, labels: DataFrame) -> DataFrame:
    """The ids of the plain frauds."""
    cards = labels.select("card_id").distinct()
    measured = with_card_measures(transactions.join(cards, "card_id", "left_semi"))
    frauds = _known_frauds(measured, labels).withColumn("r_mean", fn.expr(R_MEAN.sql))
    in_time = fn.col("since_us") == _seen_from()
    light = (fn.col("amount_cents") <= LIGHT_FRAUD_CENTS) & (fn.col("r_mean") < LIGHT_FRAUD_R_MEAN)
    return frauds.filter(in_time & light).select("transaction_id", fn.lit(True).alias("plain"))


def _streak_changes(transactions: DataFrame, labels: DataFrame) -> DataFrame:
    """Where a terminal's streak begins or ends: `streak` is (order, microseconds of its first or null)."""
    order = Window.partitionBy("terminal_id").orderBy("event_time_us", "transaction_id")
    plain = fn.coalesce("plain", fn.lit(False))
    rows = transactions.join(_plain_frauds(transactions, labels), "transaction_id", "left").select(
        "terminal_id", "transaction_id", "event_time_us", plain.alias("plain")
    )
    before = fn.coalesce(fn.lag("plain").over(order), fn.lit(False))
    first = fn.when(fn.col("plain"), fn.col("event_time_us")).alias("from_us")
    streak = fn.struct("transaction_id", first).alias("streak")
    changed = rows.withColumn("before", before).filter("plain != before")
    return changed.select("terminal_id", _seen_from().alias("at_us"), streak)


def _streak_age() -> Column:
    days = _day(fn.col("at_us")) - _day(fn.col("streak.from_us"))
    return fn.coalesce(days, fn.lit(0)).cast("bigint").alias("light_streak_age")


def _day(time_us: Column) -> Column:
    """Days since 1970, also before it."""
    return (time_us - fn.pmod(time_us, fn.lit(DAY_US))) / DAY_US
