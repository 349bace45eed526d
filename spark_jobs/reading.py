"""One reading of a sales input, whole or of some months: sums by month, and what was not used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as fn

from infra.contracts.columns import resolve_columns
from spark_jobs.cleaning import REASONS, USED, check_types, read_rows
from spark_jobs.dates import date_format_of
from spark_jobs.months import month_name
from spark_jobs.rollup import sums_by_month
from spark_jobs.sales_input import InputFiles, RawSales, file_errors, read_input


@dataclass(frozen=True)
class Request:
    """What to roll up: addresses as infra.files.address gives them, `month` as in spark_jobs.months."""

    input: str
    output: str
    run: str
    columns: Mapping[str, str] = field(default_factory=dict)
    date_format: str | None = None
    month: int | None = None


@dataclass(frozen=True)
class Reading:
    """What a reading gave. Frames: `rows` (see cleaning.read_rows), `sums` (see rollup.sums_by_month),
    which is kept in memory until `release`.

    `months` has each month's used rows and `reasons` the others by reason; `rounded` counts used
    rows whose cents were rounded; `strayed` says that a used row is not in its month's folder.
    """

    raw: RawSales
    rows: DataFrame
    sums: DataFrame
    date_format: str | None
    months: Mapping[int, int]
    reasons: Mapping[str, int]
    rounded: int
    strayed: bool

    def release(self) -> None:
        """Forget `sums`. Spark would give them to a later reading of the same, perhaps changed, files."""
        self.sums.unpersist()

    @property
    def used(self) -> int:
        """Rows used."""
        return sum(self.months.values())

    @property
    def rejected(self) -> int:
        """Rows not used."""
        return sum(self.reasons.values())


def read_sales(spark: SparkSession, request: Request, files: InputFiles) -> Reading:
    """Read the whole of an input, once (twice where a date format is to be found)."""
    raw, places = _open(spark, request, files)
    sold_at = places["sold_at"]
    with file_errors():
        date_format = date_format_of(raw.frame, raw.column(sold_at), raw.type(sold_at), request.date_format)
        return _read(raw, read_rows(raw, places, date_format), date_format)


def read_folders(
    spark: SparkSession, request: Request, files: InputFiles, date_format: str | None
) -> Reading:
    """Read some month's folders of an input as a whole, by a date format that is known."""
    raw, places = _open(spark, request, files)
    with file_errors():
        return _read(raw, read_rows(raw, places, date_format), date_format)


def read_months(
    spark: SparkSession, request: Request, files: InputFiles, months: Sequence[int], date_format: str | None
) -> Reading:
    """Read the rows dated in `months`, which follow each other, by a date format that is known.

    Rows without a readable date belong to no month: a reading of the whole input counts them.
    """
    raw, places = _open(spark, request, files)
    if date_format is None:
        raw = _between(raw, places["sold_at"], months[0], months[-1] + 1)
    rows = read_rows(raw, places, date_format).filter(fn.col("dated").isin(*months))
    with file_errors():
        return _read(raw, rows, date_format)


def _open(spark: SparkSession, request: Request, files: InputFiles) -> tuple[RawSales, dict[str, int]]:
    with file_errors():
        raw = read_input(spark, files)
    places = resolve_columns(request.columns, raw.names)
    check_types(raw, places)
    return raw, places


def _between(raw: RawSales, sold_at: int, first: int, end: int) -> RawSales:
    """Only rows from month `first` to before `end`, in a form that Parquet skips row groups by."""
    time, kind = raw.column(sold_at), raw.type(sold_at)
    start, stop = (fn.lit(f"{month_name(month)}-01").cast(kind) for month in (first, end))
    return replace(raw, frame=raw.frame.filter((time >= start) & (time < stop)))


def _read(raw: RawSales, rows: DataFrame, date_format: str | None) -> Reading:
    sums = sums_by_month(rows).cache()
    groups = sums.groupBy("code", "month", "folder").agg(fn.sum("sales"), fn.sum("rounded")).collect()
    months: Counter[int] = Counter()
    reasons: Counter[str] = Counter()
    strayed = False
    for code, month, folder, sales, _ in groups:
        if code == USED:
            months[month] += sales
            strayed = strayed or folder not in (None, month_name(month))
        else:
            reasons[REASONS[code - 1]] += sales
    rounded = sum(group[4] for group in groups)
    return Reading(raw, rows, sums, date_format, months, reasons, rounded, strayed)
