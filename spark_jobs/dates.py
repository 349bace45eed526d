"""The month of each row of an input, from times, numbers or texts in a format found or given."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as fn
from pyspark.sql.types import (
    DataType,
    DateType,
    IntegralType,
    NumericType,
    StringType,
    TimestampNTZType,
    TimestampType,
)

from infra.contracts.errors import UserError

CLOCK = r"([01]?\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d+)?)?"
LATER = rf"([T ] *{CLOCK}( ?[AaPp][Mm])?)?$"
ISO = rf"^\d{{4}}-\d{{1,2}}-\d{{1,2}}([T ]{CLOCK}( ?(Z|[+-]\d{{2}}(:?\d{{2}})?))?)?$"
EPOCHS = {"epoch_s": 1, "epoch_ms": 10**3, "epoch_us": 10**6, "epoch_ns": 10**9}
DAY_US, DAYS_TO_1970 = 86_400_000_000, 719_468
LAST_SECOND = 253_402_300_799  # 9999-12-31
NANOSECONDS_FROM = 10**17  # 1973 in ns; as us it would be the year 5138


@dataclass(frozen=True)
class DateFormat:
    """A way of writing dates: a pattern of three numbers and how to put them in the order y-M-d."""

    name: str
    pattern: str
    ordered: str

    def read(self, text: Column) -> Column:
        """The date that a text holds in this format, null where it holds none."""
        return fn.when(
            text.rlike(self.pattern), fn.regexp_replace(text, self.pattern, self.ordered)
        ).try_cast("date")


class IsoFormat(DateFormat):
    """ISO 8601 with T or a space, an optional time, fraction and zone."""

    def read(self, text: Column) -> Column:
        """The time that a text holds, null where it holds none.

        The cast alone would take '12:30', but no zone after minutes and none without a colon.
        """
        seconds = fn.regexp_replace(text, r"([T ]\d{1,2}:\d{2}) ?([Z+-])", "$1:00$2")
        colon = fn.regexp_replace(seconds, r"([+-]\d{2})(\d{2})$", "$1:$2")
        return fn.when(text.rlike(ISO), colon).try_cast("timestamp")


def _formats() -> tuple[DateFormat, ...]:
    numbers = {"yyyy": r"(\d{4})", "yy": r"(\d{2})", "M": r"(\d{1,2})", "d": r"(\d{1,2})"}
    formats: list[DateFormat] = [IsoFormat("yyyy-MM-dd", ISO, "")]
    for name in (
        *("yyyy/M/d", "M/d/yyyy", "d/M/yyyy", "M-d-yyyy", "d-M-yyyy", "d.M.yyyy"),
        *("M/d/yy", "d/M/yy", "d.M.yy"),
    ):
        mark = next(mark for mark in "/-." if mark in name)
        parts = name.split(mark)
        pattern = "^" + f"\\{mark}".join(numbers[part] for part in parts) + LATER
        year = next(part for part in parts if part.startswith("y"))
        century = "20" if year == "yy" else ""
        ordered = f"{century}${parts.index(year) + 1}-${parts.index('M') + 1}-${parts.index('d') + 1}"
        formats.append(DateFormat(name, pattern, ordered))
    return tuple(formats)


FORMATS = _formats()
BY_NAME = {item.name: item for item in FORMATS} | {"yyyy/MM/dd": FORMATS[1]}


def date_format_of(frame: DataFrame, column: Column, kind: DataType, given: str | None) -> str | None:
    """The format to read a column's dates by: None for times, else `given` or what the column shows.

    Reads the column once when it is text and no format is given. Raises UserError when two formats
    read equally many texts as different dates, and for a column that holds no dates.
    """
    if isinstance(kind, (TimestampType, TimestampNTZType, DateType)):
        return None
    if not isinstance(kind, (StringType, NumericType)):
        raise UserError(f"the column for sold_at is of type {kind.simpleString()}; it must hold dates")
    if given is not None:
        _check_pattern(frame.sparkSession, given)
        return given
    return _detect(frame, column) if isinstance(kind, StringType) else _nanoseconds(frame, column, kind)


def time_of(column: Column, kind: DataType, date_format: str | None) -> Column:
    """A column's date or time (UTC), null where it can't be read. `date_format` as `date_format_of` says."""
    if date_format is None:
        return column
    if date_format in EPOCHS:
        return _from_epoch(column, kind, EPOCHS[date_format])
    text = fn.trim(column.cast("string"))
    known = BY_NAME.get(date_format)
    return known.read(text) if known else fn.try_to_timestamp(text, fn.lit(date_format))


def month_number(time: Column) -> Column:
    """The month (see spark_jobs.months) of a date or time, in the session's zone, which is UTC.

    Whole-number arithmetic on days since 0000-03-01 in the Gregorian calendar (Neri and Schneider,
    "Euclidean affine functions", 2023): on 50 million rows half the time of year() and month().
    """
    micros = fn.unix_micros(time.try_cast("timestamp"))
    day = _div(micros - fn.pmod(micros, fn.lit(DAY_US)), DAY_US) + DAYS_TO_1970
    century = _div(day * 4 + 3, 146_097)
    in_century = day - _div(century * 146_097, 4)
    year = _div(in_century * 4 + 3, 1_461)
    in_year = in_century - _div(year * 1_461, 4)
    since_march = _div(in_year * 5 + 2, 153)
    return ((century * 100 + year) * 12 + since_march + 2).cast("int")


def _div(number: Column, by: int) -> Column:
    return fn.call_function("div", number, fn.lit(by))


def _from_epoch(column: Column, kind: DataType, per_second: int) -> Column:
    is_whole = isinstance(kind, IntegralType)
    number = column if is_whole else fn.trim(column.cast("string")).try_cast("decimal(38,6)")
    last = LAST_SECOND * per_second if LAST_SECOND * per_second < 2**63 else 2**63 - 1
    bounded = fn.when(number.between(-last, last), number)
    second = _div(bounded, per_second)  # exact, but rounds towards zero
    earlier = (bounded < 0) & (bounded % per_second != 0)
    return fn.timestamp_seconds(fn.when(earlier, second - 1).otherwise(second))


def _detect(frame: DataFrame, column: Column) -> str:
    texts = frame.select(fn.trim(column).alias("text"))
    read = texts.select(*(item.read(fn.col("text")).cast("date").alias(item.name) for item in FORMATS))
    pairs = [
        (one.name, other.name) for one, other in combinations(FORMATS, 2) if one.pattern == other.pattern
    ]
    counts = read.agg(
        *(fn.count(fn.col(f"`{item.name}`")).alias(item.name) for item in FORMATS),
        *(
            fn.count_if(~fn.col(f"`{one}`").eqNullSafe(fn.col(f"`{other}`"))).alias(f"{one} {other}")
            for one, other in pairs
        ),
    ).first()
    assert counts is not None
    return best_format({key: int(value) for key, value in counts.asDict().items()}, pairs)


def best_format(counts: dict[str, int], pairs: list[tuple[str, str]]) -> str:
    """The format that reads the most; `counts` has each format's texts read and, under "one other"
    for each pair of the same shape, the texts that the two read differently.

    Raises UserError when two read the most and differ. When none reads any it is the first.
    """
    most = max(counts[item.name] for item in FORMATS)
    best = [item.name for item in FORMATS if counts[item.name] == most]
    if most == 0 or len(best) == 1:
        return best[0]
    one, other = best[:2]
    if (one, other) in pairs and counts[f"{one} {other}"] == 0:
        return one
    raise UserError(
        f"the dates can be read as {one} and as {other}, {most} of them either way; "
        f"say which with DATE_FORMAT, as in DATE_FORMAT={one}"
    )


def _nanoseconds(frame: DataFrame, column: Column, kind: DataType) -> str:
    span = frame.agg(fn.max(column).alias("most")).first()
    most = span["most"] if span else None
    if isinstance(kind, IntegralType) and most is not None and most >= NANOSECONDS_FROM:
        return "epoch_ns"  # how Spark reads the times that pandas writes
    raise UserError(
        f"the column for sold_at holds numbers; say what they are with DATE_FORMAT: {', '.join(EPOCHS)}, "
        "or a pattern such as yyyyMMdd"
    )


def _check_pattern(spark: SparkSession, pattern: str) -> None:
    if pattern in EPOCHS or pattern in BY_NAME:
        return
    try:
        spark.range(1).select(fn.try_to_timestamp(fn.lit("2021"), fn.lit(pattern))).collect()
    except PySparkException as error:
        raise UserError(
            f"DATE_FORMAT={pattern!r} is no date pattern; write it as in dd/MM/yyyy, or {', '.join(EPOCHS)}"
        ) from error
