"""Reads archived events, whatever folders they lie in, by their declared schema."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as fn

from infra.contracts.errors import UserError
from infra.contracts.events import Event, spark_ddl


def read_events(spark: SparkSession, kind: type[Event], prefixes: Sequence[str]) -> DataFrame:
    """All events of a kind below some prefixes (history and live alike), and event_time_us.

    event_time_us is the event time in microseconds since 1970 (UTC). Raises UserError when there is
    nothing below a prefix.
    """
    reader = spark.read.schema(spark_ddl(kind)).option("recursiveFileLookup", "true")
    try:
        events = reader.parquet(*prefixes)
    except AnalysisException as error:
        if error.getCondition() != "PATH_NOT_FOUND":
            raise
        raise UserError(f"there are no {kind.__name__.lower()}s below {' or '.join(prefixes)}") from error
    return events.withColumn("event_time_us", fn.unix_micros("event_time"))
