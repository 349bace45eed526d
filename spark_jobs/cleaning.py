"""Which rows of an input can be used, what they say in whole numbers, and why the others can't."""

from __future__ import annotations

from collections.abc import Mapping

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as fn
from pyspark.sql.types import DataType, StringType

from infra.contracts.errors import UserError
from spark_jobs.dates import month_number, time_of
from spark_jobs.money import Cents, as_cents, as_units, is_number_like
from spark_jobs.sales_input import RawSales

USED = 0
# A row has the first of these that holds. The code of a reason is its place here, from 1.
REASONS = (
    "a wrong number of fields",
    "no date",
    "a date that can't be read",
    "no category",
    "no region",
    "no quantity",
    "a quantity that is not a whole number",
    "no amount",
    "an amount that is not a number, or too large",
)


def check_types(raw: RawSales, places: Mapping[str, int]) -> None:
    """Raise UserError for a column that can't hold a number where one is needed."""
    for key, place in places.items():
        if key in ("sold_at", "category", "region") or is_number_like(raw.type(place)):
            continue
        raise UserError(
            f"the column {raw.names[place]!r} for {key} is of type {raw.type(place).simpleString()}; "
            "it must hold numbers"
        )


def read_rows(raw: RawSales, places: Mapping[str, int], date_format: str | None) -> DataFrame:
    """The input's rows with what the rollup needs of them; lazy, reads no other column.

    Adds to c0, c1, ...: code (USED or a reason), month, category, region, units, cents, rounded, and
    for every row dated (its month, if it can be read) and folder (its folder's month). All but code,
    dated and folder are null in a row that is not used.
    """
    parsed = raw.frame.select("*", *_parsed(raw, places, date_format))
    used = fn.col("code") == USED
    coded = parsed.withColumns({"code": _code(), "dated": fn.col("month")})
    values = ("month", "category", "region", "units", "cents", "rounded")
    return coded.withColumns({name: fn.when(used, fn.col(name)) for name in values})


def _parsed(raw: RawSales, places: Mapping[str, int], date_format: str | None) -> list[Column]:
    (amount,) = (key for key in places if key.startswith(("amount", "unit_price")))
    columns = {key: raw.column(place) for key, place in places.items()}
    types = {key: raw.type(place) for key, place in places.items()}
    has_units = "quantity" in columns
    units = as_units(columns["quantity"], types["quantity"]) if has_units else fn.lit(1).cast("bigint")
    cents = as_cents(amount, columns[amount], types[amount], units)
    month = month_number(time_of(columns["sold_at"], types["sold_at"], date_format))
    return [
        raw.malformed.alias("malformed"),
        _is_blank(columns["sold_at"], types["sold_at"]).alias("no_date"),
        month.alias("month"),
        *(_name(columns[key]).alias(key) for key in ("category", "region")),
        (_is_blank(columns["quantity"], types["quantity"]) if has_units else fn.lit(False)).alias("no_units"),
        units.alias("units"),
        _is_blank(columns[amount], types[amount]).alias("no_amount"),
        *_named(cents),
        raw.folder.alias("folder"),
    ]


def _named(cents: Cents) -> tuple[Column, Column]:
    return cents.value.alias("cents"), cents.rounded.alias("rounded")


def _name(column: Column) -> Column:
    text = column.cast("string")
    return fn.when(fn.trim(text) != "", text)


def _is_blank(column: Column, kind: DataType) -> Column:
    return column.isNull() | (fn.trim(column) == "") if isinstance(kind, StringType) else column.isNull()


def _code() -> Column:
    tests = (
        fn.col("malformed"),
        fn.col("no_date"),
        fn.col("month").isNull(),
        fn.col("category").isNull(),
        fn.col("region").isNull(),
        fn.col("no_units"),
        fn.col("units").isNull(),
        fn.col("no_amount"),
        fn.col("cents").isNull(),
    )
    code = fn.when(tests[0], 1)
    for number, test in enumerate(tests[1:], start=2):
        code = code.when(test, number)
    return code.otherwise(USED)


def rejected_rows(rows: DataFrame, raw: RawSales) -> DataFrame:
    """The rows of `read_rows` that are not used: the input's columns as they are, then `reason`.

    Of a malformed CSV row the whole text is in the column "malformed row".
    """
    reasons = fn.array(*(fn.lit(reason) for reason in REASONS))
    columns = raw.frame.columns
    rejected = rows.filter(fn.col("code") != USED)
    chosen = rejected.select(*columns, fn.element_at(reasons, fn.col("code")).alias("reason"))
    return chosen.toDF(*output_names(columns, raw.names), "reason")


def output_names(columns: list[str], names: tuple[str, ...]) -> list[str]:
    """The input's names for its columns c0, c1, ..., one called `reason` as `reason (input)`.

    Parquet takes any name, also one with spaces or dots, but no two that are equal.
    """
    of = {f"c{place}": name for place, name in enumerate(names)}
    return ["reason (input)" if of.get(column) == "reason" else of.get(column, column) for column in columns]
