"""What features need of a card's window, in Spark: the same whole numbers as the scorer's.

A window holds what is at or before a transaction by (event_time, transaction_id). Spark's RANGE alone
would also see later ones of the same microsecond, so it takes the strictly earlier, and a window of
ROWS within the microsecond takes the rest.
"""

from __future__ import annotations

from collections.abc import Callable

from pyspark.sql import Column, DataFrame, Window, WindowSpec
from pyspark.sql import functions as fn

from infra.contracts.features import DAY_US, DECLARED, MEASURES, Measure


def with_card_measures(transactions: DataFrame) -> DataFrame:
    """Add a BIGINT column for each of MEASURES. The transactions have event_time_us.

    Only what the frame holds is seen: give it the 30 days before those whose measures you need.
    """
    return transactions.withColumns({measure.name: _measure(measure) for measure in MEASURES})


def feature_columns() -> list[Column]:
    """The features in the model's order, over MEASURES and the columns of a terminal's table."""
    return [fn.expr(feature.sql).alias(feature.name) for feature in DECLARED]


def _measure(measure: Measure) -> Column:
    return _MADE[measure.what](measure.days)


def _count(days: int) -> Column:
    one = fn.lit(1)
    return fn.count(one).over(_before(days)) + fn.count(one).over(_peers(Window.currentRow))


def _sum_cents(days: int) -> Column:
    total = fn.sum("amount_cents")
    return fn.coalesce(total.over(_before(days)), fn.lit(0)) + total.over(_peers(Window.currentRow))


def _earlier_max_cents(days: int) -> Column:
    highest = fn.max("amount_cents")
    earlier = fn.greatest(highest.over(_before(days)), highest.over(_peers(Window.currentRow - 1)))
    return fn.coalesce(earlier, fn.lit(0).cast("bigint"))


def _before(days: int) -> WindowSpec:
    """Strictly before the transaction's microsecond, and within the days."""
    return Window.partitionBy("card_id").orderBy("event_time_us").rangeBetween(1 - days * DAY_US, -1)


def _peers(last: int) -> WindowSpec:
    """Those of the transaction's microsecond, from the first to the row `last`."""
    peers = Window.partitionBy("card_id", "event_time_us").orderBy("transaction_id")
    return peers.rowsBetween(Window.unboundedPreceding, last)


_MADE: dict[str, Callable[[int], Column]] = {
    "count": _count,
    "sum_cents": _sum_cents,
    "earlier_max_cents": _earlier_max_cents,
}
