"""Rolls sales up by season-year x season x category x region, from an input to a published table.

spark-submit --py-files millstream.zip spark_jobs/sales_rollup.py --input ... --output ... --run ...
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as fn

from infra.contracts.columns import parse_columns
from infra.contracts.errors import UserError
from infra.files import Store, address, below, open_store
from infra.process import run_command
from infra.settings import Settings
from spark_jobs import sales_input
from spark_jobs.cleaning import rejected_rows
from spark_jobs.months import month_name, month_of, whole_years
from spark_jobs.publish import check_committed, check_run, delete_old_runs, publish, read_pointer
from spark_jobs.reading import Reading, Request, read_sales
from spark_jobs.refresh import Refresh, check_month, refresh_season
from spark_jobs.rollup import finished_table, sums_by_season
from spark_jobs.sales_input import InputFiles, find_input
from spark_jobs.session import spark_session

SETTINGS = {
    **sales_input.SETTINGS,
    "spark.sql.shuffle.partitions": "4",  # what is shuffled is a few thousand rows
    "spark.sql.files.maxPartitionBytes": "32m",  # enough tasks for every core to be busy to the end
}


def roll_up(spark: SparkSession, store: Store, request: Request, files: InputFiles) -> dict[str, Any]:
    """Read, write and publish one run; returns its figures, which latest.json then has.

    Raises UserError when there is nothing to publish; latest.json then stays as it was.
    """
    check_run(store, request.output, request.run)
    refresh = _refresh(spark, store, request, files)
    reading = refresh.reading if refresh else read_sales(spark, request, files)
    try:
        figures = _written(spark, store, request, files, reading, refresh)
    finally:
        reading.release()
    publish(store, request.output, figures)
    return figures


def _written(
    spark: SparkSession,
    store: Store,
    request: Request,
    files: InputFiles,
    reading: Reading,
    refresh: Refresh | None,
) -> dict[str, Any]:
    """The figures of a run whose table and rejected rows are written."""
    rejected = _write_rejected(store, request, reading)
    months = {**(refresh.other_months if refresh else {}), **reading.months}
    if not reading.used + reading.rejected and not months:
        raise UserError(f"{request.input} has no rows")
    if not months:
        raise UserError(f"no row of {request.input} can be used: {_reasons(reading.reasons)}; see {rejected}")
    if request.month is not None:
        check_month(request.month, months)
    sums = sums_by_season(reading.sums)
    table = finished_table(sums.unionByName(refresh.others) if refresh else sums, whole_years(months))
    place = _write(store, table, below(request.output, request.run, "table"))
    return {
        "run": request.run,
        "table": place,
        "rejected": rejected,
        "input": request.input,
        "columns": dict(request.columns),
        "date_format": request.date_format,
        "dates_read_as": reading.date_format,
        "folders": None if reading.strayed else _by_name(files.fingerprints()),
        "mode": "month" if refresh else "full",
        "month": None if request.month is None else month_name(request.month),
        "months_read": [month_name(month) for month in sorted(reading.months)],
        "months": _by_name(months),
        **_counts(reading),
        **_totals(spark.read.parquet(place)),
    }


def _refresh(spark: SparkSession, store: Store, request: Request, files: InputFiles) -> Refresh | None:
    if request.month is None:
        return None
    found = refresh_season(spark, request, files, read_pointer(store, request.output))
    if isinstance(found, Refresh):
        return found
    click.echo(f"reading the whole input, not one season: {found}")
    return None


def _write_rejected(store: Store, request: Request, reading: Reading) -> str | None:
    if not reading.rejected:
        return None
    place = below(request.output, request.run, "rejected")
    return _write(store, rejected_rows(reading.rows, reading.raw), place)


def _write(store: Store, frame: DataFrame, folder: str) -> str:
    place = f"{folder}/"
    frame.write.mode("overwrite").parquet(place)
    check_committed(store, place)
    return place


def _by_name(months: Mapping[int, Any] | None) -> dict[str, Any] | None:
    return None if months is None else {month_name(month): months[month] for month in sorted(months)}


def _counts(reading: Reading) -> dict[str, Any]:
    return {
        "rows_read": reading.used + reading.rejected,
        "rows_used": reading.used,
        "rows_rejected": reading.rejected,
        "rejected_reasons": dict(reading.reasons),
        "rows_rounded": reading.rounded,
    }


def _totals(table: DataFrame) -> dict[str, int]:
    row = table.agg(fn.count(fn.lit(1)), fn.sum("units"), fn.sum("revenue_cents")).first()
    assert row is not None
    return dict(zip(("groups", "units", "revenue_cents"), row, strict=True))


def _reasons(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{rows} with {reason}" for reason, rows in reasons.items())


def _say(figures: Mapping[str, Any], deleted: list[str]) -> None:
    read, used, rejected = (figures[f"rows_{what}"] for what in ("read", "used", "rejected"))
    click.echo(
        f"{read} rows read, {used} used, {rejected} rejected, {figures['rows_rounded']} rounded to cents"
    )
    if rejected:
        click.echo(f"rejected: {_reasons(figures['rejected_reasons'])}; see {figures['rejected']}")
    if deleted:
        click.echo(f"deleted older runs: {', '.join(deleted)}")
    cents = figures["revenue_cents"]
    click.echo(f"{figures['groups']} groups, {cents / 100:,.2f} in revenue: {figures['table']}")


@click.command()
@click.option("--input", "source", required=True, help="a Parquet or CSV file or folder, s3:// or local")
@click.option("--output", required=True, help="where runs and latest.json lie, s3:// or local")
@click.option("--run", required=True, help="this run's id; ids sort by time")
@click.option("--columns", default="", help="canonical=Input Column,...")
@click.option("--date-format", default="", help="a Spark pattern, epoch_s or epoch_ms; empty: found")
@click.option("--month", default="", help="YYYY-MM: read its season only")
def main(source: str, output: str, run: str, columns: str, date_format: str, month: str) -> None:
    """Roll sales up by season."""
    settings = Settings.load()
    request = Request(
        address(source),
        address(output).rstrip("/") + "/",
        run,
        parse_columns(columns),
        date_format or None,
        month_of(month) if month else None,
    )
    files = find_input(open_store(request.input, settings), request.input)
    if files.ignored:
        click.echo(f"ignored {len(files.ignored)} files that are no CSV or Parquet, {files.ignored[0]} first")
    store = open_store(request.output, settings)
    spark = spark_session(f"sales rollup {run}", SETTINGS)
    try:
        figures = roll_up(spark, store, request, files)
    finally:
        spark.stop()
    _say(figures, delete_old_runs(store, request.output))


if __name__ == "__main__":
    run_command(main)
