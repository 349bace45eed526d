"""Runs a RunJobFlow request as a part of a story: shows how it goes, says what failed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rich.console import Console

from infra import process
from infra.cluster.client import Clusters
from infra.cluster.model import Cluster, Step
from infra.cluster.standing import find_standing
from infra.cluster.watch import StepProgress, end_interrupted, insist, is_settled
from infra.contracts.errors import UserError
from infra.progress import progress
from infra.settings import Settings

POLL_S = 0.2
STANDING_WITHIN_S = 180.0
QUIET_S, GIVES_WAY_S = 3.0, 300.0
"""A job's next step comes well within QUIET_S; whoever gives way does so for no longer than GIVES_WAY_S."""


def run_cluster(
    settings: Settings, request: dict[str, Any], console: Console, *, gives_way: bool = False
) -> Cluster:
    """Run a request to its end, one line of progress for each part. Ctrl-C ends what was begun.

    Where a standing cluster is (and no nodes are given for one of its own), the request's steps are
    run on that: the result is then the steps' share of the cluster, as `share_of` cuts it out. Steps that
    give way are added there only once those of others are over, or after GIVES_WAY_S.
    """
    clusters = Clusters(settings)
    if settings.standing and not settings.nodes:
        return _run_on_standing(settings, clusters, request, console, gives_way)
    cluster_id = clusters.run_job_flow(**request)["JobFlowId"]
    try:
        for note in clusters.read(cluster_id).notes:
            console.print(f"cluster: {note}", style="dim", soft_wrap=True)
        _follow(clusters, cluster_id, console)
        return clusters.read(cluster_id)
    except (KeyboardInterrupt, process.Terminated):
        end_interrupted(clusters, cluster_id)
        raise


def _run_on_standing(
    settings: Settings, clusters: Clusters, request: dict[str, Any], console: Console, gives_way: bool
) -> Cluster:
    """Add the steps one by one: other jobs' steps, before and between them, don't depend on these."""
    cluster_id = _standing(settings, console)
    console.print(f"cluster: {cluster_id}, which stands already", style="dim")
    begun: list[str] = []
    try:
        for step in request["Steps"]:
            if gives_way:
                _give_way(clusters, cluster_id)
            apart = {**step, "ActionOnFailure": "CONTINUE"}
            begun += clusters.add_job_flow_steps(JobFlowId=cluster_id, Steps=[apart])["StepIds"]
            ended = _follow_step(clusters, cluster_id, begun[-1], console, StepProgress())
            if ended.state != "COMPLETED":
                break
    except (KeyboardInterrupt, process.Terminated):
        insist(lambda: clusters.cancel_steps(ClusterId=cluster_id, StepIds=begun))
        raise
    return share_of(clusters.read(cluster_id), begun)


def _give_way(clusters: Clusters, cluster_id: str) -> None:
    """Wait until no step has been pending or running for QUIET_S, for GIVES_WAY_S at most."""
    begin = quiet_since = time.monotonic()
    while (now := time.monotonic()) - quiet_since < QUIET_S and now - begin < GIVES_WAY_S:
        if not all(step.is_over for step in clusters.read(cluster_id).steps):
            quiet_since = now
        time.sleep(POLL_S)


def _standing(settings: Settings, console: Console) -> str:
    """The id of the standing cluster; waits for one that is being made anew."""
    deadline = time.monotonic() + STANDING_WITHIN_S
    with progress(console, "standing cluster") as update:
        while (cluster := find_standing(settings)) is None:
            if time.monotonic() > deadline:
                raise UserError(
                    "the standing cluster does not come up; see `docker compose logs cluster-manager`"
                )
            update(-1.0, "waiting for it")
            time.sleep(POLL_S)
        update(1.0, cluster.state.lower())
    return cluster.id


def share_of(cluster: Cluster, step_ids: Sequence[str]) -> Cluster:
    """A standing cluster as if it had been there for some steps only: its times are cut to theirs."""
    steps = [step for step in cluster.steps if step.id in step_ids]
    begin = min(step.started_at or step.created_at for step in steps)
    end = max(step.ended_at or time.time() for step in steps)
    there = [node for node in cluster.instances if (node.ended_at or end) >= begin and node.created_at <= end]
    nodes = [
        replace(
            node,
            created_at=max(begin, node.created_at),
            ready_at=max(begin, node.ready_at or begin),
            ended_at=min(end, node.ended_at or end),
        )
        for node in there
    ]
    states = [("RUNNING", begin), ("WAITING", end)]
    return replace(cluster, steps=steps, instances=nodes, created_at=begin, states=states)


def failure(cluster: Cluster) -> str | None:
    """What failed and where its logs are, in one line; None if all steps completed.

    Raises UserError when a step failed by its user's mistake.
    """
    ended = [step for step in cluster.steps if step.state in ("FAILED", "CANCELLED", "INTERRUPTED")]
    failed = next((step for step in ended if step.state == "FAILED"), ended[0] if ended else None)
    stands = cluster.keep_alive and not cluster.is_over
    if failed is None and (cluster.state == "TERMINATED" or stands) and _all_completed(cluster):
        return None
    if failed and failed.exit_code == process.EXIT_USER_ERROR:
        raise UserError(failed.failure)
    what = f"step {failed.name!r} {failed.state.lower()}: {failed.failure}" if failed else cluster.message
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
        _follow_step(clusters, cluster_id, step.id, console, asked)
    with progress(console, "termination") as update:
        while not is_settled(cluster := clusters.read(cluster_id)):
            time.sleep(POLL_S)
        update(1.0, cluster.state.lower().replace("_", " "))


def _follow_step(
    clusters: Clusters, cluster_id: str, step_id: str, console: Console, asked: StepProgress
) -> Step:
    """Progress of one step; the step when it is over."""
    with progress(console, f"step: {_step(clusters.read(cluster_id), step_id).name}") as update:
        while True:
            cluster = clusters.read(cluster_id)
            step = _step(cluster, step_id)
            if step.is_over:
                break
            words = asked.of(step, cluster.master.host) if step.ui_port else _waiting(cluster, step)
            update(-1.0, words)
            time.sleep(POLL_S)
        update(1.0, step.state.lower())
    return step


def _waiting(cluster: Cluster, step: Step) -> str:
    """The state of a step that shows no progress yet, and which one it waits for."""
    ahead = next((each.name for each in cluster.steps if each.state == "RUNNING"), None)
    return f"pending until {ahead!r} is over" if step.state == "PENDING" and ahead else step.state.lower()


def _all_completed(cluster: Cluster) -> bool:
    return all(step.state == "COMPLETED" for step in cluster.steps)


def _step(cluster: Cluster, step_id: str) -> Step:
    step = cluster.step(step_id)
    assert step is not None
    return step
