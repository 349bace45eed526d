"""Numbers of an input as exact whole cents and whole units (design decision 3)."""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import Column
from pyspark.sql import functions as fn
from pyspark.sql.types import DataType, DecimalType, DoubleType, FloatType, IntegralType, StringType

# A leading sign and currency; then digits, with thousands separators only where they can't be taken
# for a decimal comma: 1,234.50 or 1,234,567, but not 1,234.
NUMBER = (
    r"^(?:[-+]?[$€£]?|[$€£][-+])"
    r"(?:\d+(?:\.\d*)?|\.\d+|\d{1,3}(?:,\d{3})+\.\d+|\d{1,3}(?:,\d{3}){2,})$"
)
DECIMAL = "decimal(38,20)"  # doubles below 1 have up to 18 decimals in their shortest text
# The product of these two is exact in 38 digits.
PRICE, FACTOR = "decimal(29,19)", "decimal(8,0)"


@dataclass(frozen=True)
class Cents:
    """A row's total in whole cents (bigint, null where it can't be had) and whether it was rounded."""

    value: Column
    rounded: Column


def is_number_like(kind: DataType) -> bool:
    """Whether a column of this type can hold an amount or a quantity."""
    return isinstance(kind, (IntegralType, DecimalType, FloatType, DoubleType, StringType))


def as_decimal(column: Column, kind: DataType) -> Column:
    """A number as a decimal; a double by its shortest text; null where it is none or too large."""
    if isinstance(kind, StringType):
        text = fn.trim(column)
        return fn.when(text.rlike(NUMBER), fn.regexp_replace(text, "[$€£,]", "")).try_cast(DECIMAL)
    if isinstance(kind, (FloatType, DoubleType)):
        return column.cast("string").try_cast(DECIMAL)
    return column.try_cast(DECIMAL)


def as_units(column: Column, kind: DataType) -> Column:
    """A quantity as a bigint; null where it is not whole."""
    if isinstance(kind, IntegralType):
        return column.cast("bigint")
    number = as_decimal(column, kind)
    return fn.when(number == fn.floor(number), number.try_cast("bigint"))


def as_cents(key: str, column: Column, kind: DataType, units: Column) -> Cents:
    """A row's total from the column for `key`, one of contracts.columns.AMOUNTS.

    A unit's price is multiplied by `units` first and rounded then, half away from zero. Whole
    numbers stay in 64-bit arithmetic, which is what makes 50 million rows quick.
    """
    in_cents, per_unit = key.endswith("_cents"), key.startswith("unit_price")
    if isinstance(kind, IntegralType):
        value = column.cast("bigint")
        value = fn.try_multiply(value, units) if per_unit else value
        return Cents(value if in_cents else fn.try_multiply(value, fn.lit(100)), fn.lit(False))
    exact = as_decimal(column, kind)
    if per_unit:
        exact = exact.try_cast(PRICE) * units.try_cast(FACTOR)
    rounded = fn.round(exact, 0 if in_cents else 2)
    scale = 1 if in_cents else 100
    return Cents((rounded * fn.lit(scale).cast("decimal(3,0)")).try_cast("bigint"), rounded != exact)
