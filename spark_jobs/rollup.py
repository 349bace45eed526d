"""The rollup itself: sales by season-year x season x category x region, with index and growth.

All from one small frame of sums by month, so that the input is read once.
"""

from __future__ import annotations

from collections.abc import Collection

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as fn

from spark_jobs.cleaning import USED
from spark_jobs.months import SEASONS


def sums_by_month(rows: DataFrame) -> DataFrame:
    """month, category, region, code, folder -> sales, units, cents, rounded; month null where not used."""
    return rows.groupBy("month", "category", "region", "code", "folder").agg(
        fn.count(fn.lit(1)).alias("sales"),
        fn.sum("units").alias("units"),
        fn.sum("cents").alias("cents"),
        fn.count_if(fn.col("rounded")).alias("rounded"),
    )


def sums_by_season(by_month: DataFrame) -> DataFrame:
    """season (as months.season_of), category, region -> sales, units, revenue_cents (all bigint)."""
    used = by_month.filter(fn.col("code") == USED)
    season = fn.floor((fn.col("month") + 1) / 3).cast("int")
    return used.groupBy(season.alias("season"), "category", "region").agg(
        fn.sum("sales").alias("sales"),
        fn.sum("units").alias("units"),
        fn.sum("cents").alias("revenue_cents"),
    )


def sums_of_table(table: DataFrame, *, without: int) -> DataFrame:
    """The sums of `sums_by_season` back from a finished table, without one season."""
    names = fn.array(*(fn.lit(name) for name in SEASONS))
    season = fn.col("season_year") * 4 + fn.array_position(names, fn.col("season")).cast("int") - 1
    sums = table.select(season.alias("season"), *("category", "region", "sales", "units", "revenue_cents"))
    return sums.filter(fn.col("season") != without)


def finished_table(sums: DataFrame, whole: Collection[int]) -> DataFrame:
    """The table that is published, from the sums by season and the season-years that are whole.

    season_year int, season string, category, region, sales, units, revenue_cents bigint,
    seasonal_index and growth double, complete boolean; one partition, in order of its key.

    seasonal_index: revenue over the mean of the four seasons of that year, one without sales
    counting 0; null in a year that is not whole, and where that mean is 0. growth: revenue over the
    same season a year before, minus 1; null unless both years are whole and that revenue is not 0.
    """
    year = fn.floor(fn.col("season") / 4).cast("int")
    keyed = sums.select("*", year.alias("season_year"), (fn.col("season") % 4).alias("in_year"))
    group = ("category", "region")
    of_year = fn.sum("revenue_cents").over(Window.partitionBy("season_year", *group))
    before = Window.partitionBy("in_year", *group).orderBy("season_year")
    follows = fn.lag("season_year").over(before) == fn.col("season_year") - 1
    earlier = fn.when(
        follows & _is_in(fn.col("season_year") - 1, whole), fn.lag("revenue_cents").over(before)
    )
    names = fn.array(*(fn.lit(name) for name in SEASONS))
    table = keyed.select(
        "season_year",
        fn.element_at(names, fn.col("in_year") + 1).alias("season"),
        *(*group, "sales", "units", "revenue_cents", "in_year"),
        of_year.alias("of_year"),
        earlier.alias("earlier"),
        _is_in(fn.col("season_year"), whole).alias("complete"),
    )
    return (
        _with_ratios(table).coalesce(1).sortWithinPartitions("season_year", "in_year", *group).drop("in_year")
    )


def _with_ratios(table: DataFrame) -> DataFrame:
    revenue = fn.col("revenue_cents").cast("double")
    index = fn.when(fn.col("complete"), fn.try_divide(revenue * 4, fn.col("of_year")))
    growth = fn.when(fn.col("complete"), fn.try_divide(revenue, fn.col("earlier")) - 1)
    plain = ("season_year", "season", "category", "region", "sales", "units", "revenue_cents", "in_year")
    return table.select(*plain, index.alias("seasonal_index"), growth.alias("growth"), "complete")


def _is_in(year: Column, years: Collection[int]) -> Column:
    return year.isin(*years) if years else fn.lit(False)
