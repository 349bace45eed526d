"""Watching a cluster until it has nothing left to do, and saying what happens meanwhile."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import click
import urllib3

from infra.cluster.client import Clusters
from infra.cluster.model import Cluster, Step
from infra.contracts.errors import FailedError

POLL_S = 0.2


def wait(clusters: Clusters, cluster_id: str, on_look: Callable[[Cluster], None]) -> Cluster:
    """Look at a cluster again and again until it ends, or waits with no step left to run."""
    while True:
        cluster = clusters.read(cluster_id)
        on_look(cluster)
        if is_settled(cluster):
            return cluster
        time.sleep(POLL_S)


def is_settled(cluster: Cluster) -> bool:
    """Whether it has ended, or waits with no step left to run."""
    return cluster.is_over or (cluster.state == "WAITING" and all(step.is_over for step in cluster.steps))


def wait_until_managed(clusters: Clusters, cluster_id: str) -> None:
    """Wait for the manager's first entry: from then on it keeps the servers alive by itself.

    Raises FailedError when it ended before that.
    """
    while (cluster := clusters.read(cluster_id)).manager_pid == 0:
        if cluster.is_over:
            raise FailedError(f"{cluster_id} is {cluster.state}: {cluster.message}")
        time.sleep(POLL_S)


def end_interrupted(clusters: Clusters, cluster_id: str) -> None:
    """What an interrupt means: terminate and wait, or for a protected cluster say how to end it."""
    if clusters.read(cluster_id).protected:
        click.echo(f"{cluster_id} is protected and goes on. These two commands end it:")
        click.echo(f"  python -m infra.cluster set-termination-protection {cluster_id} --off")
        click.echo(f"  python -m infra.cluster terminate-job-flows {cluster_id}")
        return
    click.echo(f"terminating {cluster_id} ...")
    insist(lambda: clusters.terminate_job_flows(JobFlowIds=[cluster_id]))
    wait_until_over(clusters, cluster_id)


def insist(command: Callable[[], object]) -> None:
    """Give a command that ends something until the manager has taken it, however busy; Ctrl-C gives up."""
    while True:
        try:
            command()
        except FailedError:
            click.echo("the cluster's manager is busy; asking again ...")
        else:
            return


def wait_until_over(clusters: Clusters, cluster_id: str) -> Cluster:
    """Wait for a final state."""
    while not (cluster := clusters.read(cluster_id)).is_over:
        time.sleep(POLL_S)
    return cluster


class StepProgress:
    """How far a running step is, from the Spark driver's own REST interface."""

    def __init__(self) -> None:
        self._http = urllib3.PoolManager(timeout=0.5, retries=False)
        self._words: dict[str, str] = {}

    def of(self, step: Step, host: str) -> str:
        """A few words; no share of the whole, since Spark plans tasks on the way.

        `host` is the master node's, where the driver runs. Before and after its answers the last words stay.
        """
        base = f"http://{host}:{step.ui_port}/api/v1/applications"
        try:
            applications = json.loads(self._http.request("GET", base).data)
            stages = json.loads(self._http.request("GET", f"{base}/{applications[0]['id']}/stages").data)
        except (urllib3.exceptions.HTTPError, json.JSONDecodeError, IndexError):
            return self._words.get(step.id, "starting")
        live = [stage for stage in stages if stage["status"] != "SKIPPED"]
        done = sum(stage["numCompleteTasks"] for stage in live)
        total = sum(stage["numTasks"] for stage in live)
        words = self._words[step.id] = f"{done} of {total} tasks planned so far" if total else "planning"
        return words


def state_lines(cluster: Cluster, said: set[str]) -> list[str]:
    """What has happened since these lines were said last; adds to `said`."""
    lines = [f"cluster {cluster.id} {state}" for state, _ in cluster.states]
    if cluster.is_over:
        lines[-1] += f": {cluster.message} ({cluster.code})"
    for step in cluster.steps:
        if step.started_at:
            lines.append(f"step {step.id} {step.name}: RUNNING")
        if step.is_over:
            lines.append(
                f"step {step.id} {step.name}: {step.state}{f': {step.failure}' if step.failure else ''}"
            )
    if not cluster.is_over and cluster.state != "TERMINATING":
        lost = [node for node in cluster.instances if node.ended_at]
        lines += [f"{node.role} node {node.id} is lost: {node.reason}" for node in lost]
    new = [line for line in lines if line not in said]
    said.update(new)
    return new
