"""A run for one month: its season is read anew, all other seasons come from the published table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyspark.sql import DataFrame, SparkSession

from infra.contracts.errors import UserError
from spark_jobs.months import month_name, month_of, months_of_season, season_of
from spark_jobs.reading import Reading, Request, read_folders, read_months
from spark_jobs.rollup import sums_of_table
from spark_jobs.sales_input import InputFiles


@dataclass(frozen=True)
class Refresh:
    """A season's reading; the sums of all others (see rollup.sums_by_season) and their months' rows."""

    reading: Reading
    others: DataFrame
    other_months: Mapping[int, int]


def refresh_season(
    spark: SparkSession, request: Request, files: InputFiles, latest: Mapping[str, Any] | None
) -> Refresh | str:
    """Read the season of `request.month`; or say why the whole input must be read for a sound table.

    `latest` is what latest.json says. Raises UserError when the input's folders lack the month.
    """
    assert request.month is not None
    if files.months:
        check_month(request.month, files.months)
    season = season_of(request.month)
    months = months_of_season(season)
    reason = _unusable(request, files, latest, months)
    if reason or latest is None:
        return reason
    if latest["folders"] and files.months:
        reading = read_folders(spark, request, files.only(months), latest["dates_read_as"])
    else:
        reading = read_months(spark, request, files, months, latest["dates_read_as"])
    if reading.strayed:
        reading.release()
        return "some rows lie in the folder of another month"
    others = {month_of(name): rows for name, rows in latest["months"].items()}
    kept = {month: rows for month, rows in others.items() if month not in months}
    return Refresh(reading, sums_of_table(spark.read.parquet(latest["table"]), without=season), kept)


def check_month(month: int, months: Mapping[int, int] | tuple[int, ...]) -> None:
    """Raise UserError unless `month` is among the months that the input has."""
    if month not in months:
        first, last = month_name(min(months)), month_name(max(months))
        raise UserError(f"the input has no sales in {month_name(month)}; it has {first} to {last}")


def _unusable(
    request: Request, files: InputFiles, latest: Mapping[str, Any] | None, months: tuple[int, ...]
) -> str:
    """Why the published table can't be built on, or an empty text."""
    if latest is None:
        return "nothing is published yet"
    for name, asked in (
        ("input", request.input),
        ("columns", dict(request.columns)),
        ("date_format", request.date_format),
    ):
        if latest[name] != asked:
            return f"the published table was made with another {name}"
    found, known = files.fingerprints(), latest["folders"]
    if found is None or known is None:
        return "" if found == known else "the rows may lie in the folder of another month"
    changed = [name for name in _names(found).items() ^ known.items() if month_of(name[0]) not in months]
    return f"other months have changed, {min(changed)[0]} first" if changed else ""


def _names(found: Mapping[int, str]) -> dict[str, str]:
    return {month_name(month): mark for month, mark in found.items()}
