"""Terminals' tables as objects: which a range of time needs, their names, their bytes, the reading."""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as fn

from infra.contracts.errors import UserError
from infra.contracts.features import as_of
from infra.files import Store
from spark_jobs.terminal_features import COLUMNS

SCHEMA = pa.schema([("terminal_id", pa.string()), *((name, pa.int64()) for name in COLUMNS)])
NAME = "as_of=%Y%m%dT%H%MZ.parquet"
DAY_S = 86_400


def check_step(step_s: int) -> None:
    """Raise UserError for a step that does not divide a day into whole minutes."""
    if step_s < 60 or step_s % 60 or DAY_S % step_s:
        raise UserError(f"a step of {step_s} s does not divide a day into whole minutes; give 21600 or 86400")


def as_of_times(since: datetime, until: datetime, step_s: int) -> list[datetime]:
    """The as-of times that the transactions of [since, until) need."""
    first, step = as_of(since, step_s), timedelta(seconds=step_s)
    count = -((first - until) // step) if since < until else 0
    return [first + step * number for number in range(count)]


def table_url(prefix: str, time: datetime) -> str:
    """The table of an as-of time (UTC) below a prefix: DataSet.terminal_table."""
    return prefix + time.strftime(NAME)


def table_bytes(rows: pa.Table) -> bytes:
    """A table as Parquet, in order of terminal: the same rows are the same bytes."""
    body = io.BytesIO()
    pq.write_table(rows.select(SCHEMA.names).cast(SCHEMA).sort_by("terminal_id"), body, compression="zstd")
    return body.getvalue()


def missing(store: Store, prefix: str, times: Sequence[datetime]) -> list[datetime]:
    """Those of the as-of times that have no table below a prefix."""
    there = {item.url for item in store.list(prefix)}
    return [time for time in times if table_url(prefix, time) not in there]


def read_tables(spark: SparkSession, prefix: str, times: Sequence[datetime]) -> DataFrame:
    """The tables of some as-of times, which are there: terminal_id, COLUMNS and as_of_us."""
    ddl = ", ".join(("terminal_id STRING", *(f"{name} BIGINT" for name in COLUMNS)))
    rows = spark.read.schema(ddl).parquet(*(table_url(prefix, time) for time in times))
    digits = fn.regexp_extract("_metadata.file_name", r"(\d{8}T\d{4})Z", 1)
    return rows.withColumn("as_of_us", fn.unix_micros(fn.to_timestamp(digits, "yyyyMMdd'T'HHmm")))
