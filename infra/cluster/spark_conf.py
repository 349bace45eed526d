"""The Spark configuration of one cluster: spark-defaults.conf and the environment of its processes."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path

from infra.cluster.model import Cluster
from infra.settings import Settings

S3A = "org.apache.hadoop.fs.s3a"
# One collector thread: 21 nodes have to share one machine.
SMALL_JVM = "-XX:+UseSerialGC"
# A driver or daemon plans and waits; what the optimising compiler costs it never earns back.
PLANNING_JVM = f"{SMALL_JVM} -XX:TieredStopAtLevel=1"
# A taken port ends a daemon, so that it is started again with another one; the master's port for
# submissions over HTTP would be 6066 for every cluster, and nobody uses it.
DAEMON_PORTS = "-Dspark.port.maxRetries=0 -Dspark.master.rest.enabled=false"
# An executor may live for seconds or scan for minutes: the optimising compiler comes in six times later
# than by default, so that a short job pays less for it and a long one is as fast (docs/benchmarks.md).
EXECUTOR_JVM = (
    f"{SMALL_JVM} -XX:Tier4InvocationThreshold=30000 -XX:Tier4MinInvocationThreshold=5000 "
    "-XX:Tier4CompileThreshold=90000 -XX:Tier4BackEdgeThreshold=400000"
)


def spark_home() -> Path:
    """The installed pyspark package, which is a whole Spark. Found without importing it."""
    spec = importlib.util.find_spec("pyspark")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(next(iter(spec.submodule_search_locations)))


def defaults(
    cluster: Cluster, settings: Settings, scratch: Path, master_url: str, overrides: Mapping[str, str]
) -> dict[str, str]:
    """All of spark-defaults: what this cluster is, how it reaches S3, then the request's own values.

    Keys come from the environment, so no secret is ever in a file, a command line or a log.
    """
    jars = str(settings.jars / "spark" / "*")
    values = {
        "spark.master": master_url,
        "spark.driver.host": cluster.master.host,
        "spark.driver.bindAddress": cluster.master.host,
        "spark.driver.memory": f"{cluster.driver_memory_mb}m",
        "spark.executor.memory": f"{cluster.executor_memory_mb}m",
        "spark.driver.extraClassPath": jars,
        "spark.executor.extraClassPath": jars,
        "spark.driver.defaultJavaOptions": PLANNING_JVM,
        "spark.executor.defaultJavaOptions": EXECUTOR_JVM,
        "spark.local.dir": str(scratch),
        "spark.pyspark.python": sys.executable,
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.warehouse.dir": str(scratch / "warehouse"),
        "spark.ui.showConsoleProgress": "false",
        **s3_access(settings, scratch),
    }
    return {**values, **overrides}


def s3_access(settings: Settings, scratch: Path) -> dict[str, str]:
    """How Spark reaches S3: `s3://` and `s3a://` are S3A, both with the magic committer."""
    factory = f"{S3A}.commit.S3ACommitterFactory"
    return {
        "spark.hadoop.fs.s3.impl": f"{S3A}.S3AFileSystem",
        "spark.hadoop.fs.s3a.endpoint": settings.s3_endpoint,
        "spark.hadoop.fs.s3a.endpoint.region": settings.region,
        "spark.hadoop.fs.s3a.path.style.access": "true",
        "spark.hadoop.fs.s3a.connection.ssl.enabled": str(settings.s3_endpoint.startswith("https")).lower(),
        "spark.hadoop.fs.s3a.aws.credentials.provider": (
            "software.amazon.awssdk.auth.credentials.EnvironmentVariableCredentialsProvider"
        ),
        "spark.hadoop.fs.s3a.buffer.dir": str(scratch),
        "spark.hadoop.fs.s3a.committer.name": "magic",
        "spark.hadoop.mapreduce.outputcommitter.factory.scheme.s3": factory,
        "spark.hadoop.mapreduce.outputcommitter.factory.scheme.s3a": factory,
    }


def write(conf: Path, values: Mapping[str, str]) -> None:
    """Write spark-defaults.conf into a folder for SPARK_CONF_DIR."""
    conf.mkdir(parents=True, exist_ok=True)
    lines = [f"{key} {value}\n" for key, value in sorted(values.items())]
    (conf / "spark-defaults.conf").write_text("".join(lines))


def environment(settings: Settings, conf: Path, host: str) -> dict[str, str]:
    """The environment of every process of a cluster's node `host`: settings, and where Spark is."""
    return {
        **settings.environment(),
        "SPARK_HOME": str(spark_home()),
        "SPARK_CONF_DIR": str(conf),
        "SPARK_LOCAL_IP": host,
        "SPARK_DAEMON_MEMORY": "128m",
        "SPARK_DAEMON_JAVA_OPTS": f"{PLANNING_JVM} {DAEMON_PORTS}",
        "SPARK_LAUNCHER_OPTS": PLANNING_JVM,
        "PYSPARK_PYTHON": sys.executable,
    }
