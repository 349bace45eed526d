"""The one place that makes a SparkSession."""

from __future__ import annotations

from collections.abc import Mapping

from pyspark.sql import SparkSession

SETTINGS = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.ansi.enabled": "true",  # an overflow is an error, never a wrong number
}


def spark_session(name: str, settings: Mapping[str, str] | None = None) -> SparkSession:
    """A session named `name` in UTC; `settings` are the job's own.

    Master, endpoints and committers are not set here: they come from the cluster's spark-defaults.
    """
    builder = SparkSession.builder.appName(name)
    for key, value in {**SETTINGS, **(settings or {})}.items():
        builder = builder.config(key, value)
    return builder.getOrCreate()
