"""Requests, scripts and commands that the tests of clusters share."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from infra.cluster import Clusters
from infra.cluster.model import Cluster
from infra.settings import ROOT, Settings
from infra.supervisor import marked

WITHIN_S = 240.0  # a deadline for a state, far beyond what any takes

SCRIPTS = {
    "hello.py": "import sys; print('hello', *sys.argv[1:])",
    "fail.py": "import sys; print('error: the input is missing', file=sys.stderr); sys.exit(3)",
    "crash.py": "raise RuntimeError('boom')",
    "sleep.py": "import time; time.sleep(300)",
    # A real job: the rows are made, shuffled and added up on the executors.
    "add.py": (
        "import sys; from pyspark.sql import SparkSession\n"
        "spark = SparkSession.builder.getOrCreate()\n"
        "print('sum', spark.range(1000).repartition(4).selectExpr('sum(id)').first()[0])\n"
    ),
    # Forty tasks of about half a second: a node can be lost in the middle of them.
    "slow_add.py": (
        "from pyspark.sql import SparkSession\n"
        "spark = SparkSession.builder.getOrCreate()\n"
        "print('started', flush=True)\n"
        "rows = spark.range(0, 20_000_000, 1, 40)\n"
        "print('sum', rows.selectExpr('sum(length(sha2(cast(id AS string), 512)))').first()[0])\n"
    ),
}


def scripts(folder: Path) -> Path:
    """Write the scripts into a folder."""
    for name, text in SCRIPTS.items():
        (folder / name).write_text(text)
    return folder


def step(script: Path | str, *arguments: str, on_failure: str = "CONTINUE") -> dict[str, Any]:
    """A step in AWS's shape that submits a script."""
    return {
        "Name": Path(script).stem,
        "ActionOnFailure": on_failure,
        "HadoopJarStep": {"Jar": "command-runner.jar", "Args": ["spark-submit", str(script), *arguments]},
    }


def request(*steps: dict[str, Any], core: int = 1, keep: bool = False, **more: Any) -> dict[str, Any]:
    """A RunJobFlow request for a small cluster that logs to the bucket `test`."""
    return {
        "Name": "test",
        "ReleaseLabel": "spark-4.1.1",
        "LogUri": "s3://test/logs/",
        "Instances": {
            "InstanceGroups": [
                {"InstanceRole": "MASTER", "InstanceType": "m5.xlarge", "InstanceCount": 1},
                {"InstanceRole": "CORE", "InstanceType": "m5.xlarge", "InstanceCount": core},
            ],
            "KeepJobFlowAliveWhenNoSteps": keep,
            **more.pop("Instances", {}),
        },
        "Steps": list(steps),
        **more,
    }


def command(settings: Settings, *arguments: str) -> subprocess.Popen[str]:
    """`python -m infra.cluster ...` as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "infra.cluster", *arguments],
        env=settings.environment(),
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def run(settings: Settings, folder: Path, body: dict[str, Any]) -> tuple[int, str, str]:
    """`python -m infra.cluster run` with a request; its exit code, output and errors."""
    path = folder / "request.json"
    path.write_text(json.dumps(body))
    return ended(command(settings, "run", str(path)))


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Wait for a command; its exit code, output and errors. One that takes too long is ended."""
    with process:
        try:
            output, errors = process.communicate(timeout=WITHIN_S)
        finally:
            process.kill()
    return process.returncode, output, errors


def wait_for(look: Callable[[], Any], what: str) -> Any:
    """Wait until `look` gives something true, and return it."""
    deadline = time.monotonic() + WITHIN_S
    while not (found := look()):
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.05)
    return found


def wait_for_state(clusters: Clusters, cluster_id: str, *states: str) -> Cluster:
    """Wait until a cluster is in one of these states."""
    wait_for(lambda: clusters.read(cluster_id).state in states, f"{cluster_id} {states}")
    return clusters.read(cluster_id)


def newest(clusters: Clusters) -> str:
    """The id of the newest cluster."""
    newest_id: str = clusters.list_clusters()["Clusters"][0]["Id"]
    return newest_id


def left_over(cluster_id: str) -> list[int]:
    """Pids of processes of a cluster that still run."""
    return [process.pid for process in marked(cluster_id)]
