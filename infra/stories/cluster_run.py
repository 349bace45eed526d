"""Runs a RunJobFlow request as a part of a story: shows how it goes, says what failed."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console

from infra import process
from infra.cluster.client import Clusters
from infra.cluster.model import Cluster, Step
from infra.cluster.watch import StepProgress, end_interrupted, is_settled
from infra.contracts.errors import UserError
from infra.progress import progress

POLL_S = 0.2


def run_cluster(clusters: Clusters, request: dict[str, Any], console: Console) -> Cluster:
    """Run a request to its end, one line of progress for each part. Ctrl-C terminates the cluster."""
    cluster_id = clusters.run_job_flow(**request)["JobFlowId"]
    try:
        for note in clusters.read(cluster_id).notes:
            console.print(f"cluster: {note}", style="dim", soft_wrap=True)
        _follow(clusters, cluster_id, console)
        return clusters.read(cluster_id)
    except (KeyboardInterrupt, process.Terminated):
        end_interrupted(clusters, cluster_id)
        raise


def failure(cluster: Cluster) -> str | None:
    """What failed and where its logs are, in one line; None if all steps completed.

    Raises UserError when a step failed by its user's mistake.
    """
    failed = next((step for step in cluster.steps if step.state == "FAILED"), None)
    if failed is None and cluster.state == "TERMINATED":
        return None
    if failed and failed.exit_code == process.EXIT_USER_ERROR:
        raise UserError(failed.failure)
    what = f"step {failed.name!r}: {failed.failure}" if failed else cluster.message
    place = f"{cluster.log_folder}steps/{failed.id}/" if failed else cluster.log_folder
    return f"{what} (cluster {cluster.id} {cluster.state}; logs: {place})"


def _follow(clusters: Clusters, cluster_id: str, console: Console) -> None:
    """Progress of the start, of each step and of the end."""
    with progress(console, "cluster start") as update:
        while (cluster := clusters.read(cluster_id)).ready_at is None and not cluster.is_over:
            up = sum(node.ready_at is not None for node in cluster.instances)
            update(up / len(cluster.instances), f"{cluster_id} {cluster.state.lower()}")
            time.sleep(POLL_S)
        update(1.0, f"{cluster_id}, {len(cluster.instances)} nodes")
    asked = StepProgress()
    for step in cluster.steps:
        with progress(console, f"step: {step.name}") as update:
            while not (step := _step(clusters.read(cluster_id), step.id)).is_over:
                update(*(asked.of(step) if step.ui_port else (-1.0, step.state.lower())))
                time.sleep(POLL_S)
            update(1.0, step.state.lower())
    with progress(console, "termination") as update:
        while not is_settled(cluster := clusters.read(cluster_id)):
            time.sleep(POLL_S)
        update(1.0, cluster.state.lower().replace("_", " "))


def _step(cluster: Cluster, step_id: str) -> Step:
    step = cluster.step(step_id)
    assert step is not None
    return step
