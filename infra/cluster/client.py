"""Clusters by AWS's operation names and parameters, as boto3's EMR client has them.

Parameters are AWS's own, so they are written in AWS's capitals; answers have AWS's shapes.
"""
# ruff: noqa: N803

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from infra.cluster import control, views
from infra.cluster.finish import read_or_finish
from infra.cluster.journal import Journal, journals
from infra.cluster.model import Cluster, Instance, new_id
from infra.cluster.operations import make_steps
from infra.cluster.request import SPARK_VERSION, ClusterRequest, parse, parse_steps, spark_arguments
from infra.cluster.sizing import Sizing, plan
from infra.contracts import resources
from infra.contracts.errors import FailedError, UserError
from infra.settings import ROOT, Settings
from infra.supervisor import start_detached

FILE_OPTIONS = ("--py-files", "--files", "--jars", "--archives")  # of spark-submit, comma-separated
RESERVE_MB = 1024  # of the free memory, for the S3 server, the manager and whoever asked


class Clusters:
    """The clusters of one home.

    Every method raises UserError for what AWS would refuse; those that change a cluster raise FailedError
    when its manager is too busy to answer.
    """

    def __init__(self, settings: Settings) -> None:
        """`settings` must name an S3 server for run_job_flow (see infra.local.servers)."""
        self._settings = settings

    def run_job_flow(self, **request: Any) -> dict[str, Any]:
        """Create a cluster and return its id at once; it comes up in a process of its own."""
        with self.create(**request) as (journal, lock):
            self._start_manager(journal, lock)
        return {"JobFlowId": journal.folder.name}

    @contextmanager
    def create(self, **request: Any) -> Iterator[tuple[Journal, int]]:
        """Record a cluster, which a manager shall bring up: the journal's folder is named by its id.

        Its lock is held for the block, and before anybody can know of it: a reader that found the lock free
        would take the manager for dead.
        """
        parse(request)  # a request of the wrong shape is refused before its files are looked for
        request = _with_scripts_found(request, Path.cwd())
        parsed, sizing = self.check_request(request)
        if not self._settings.s3_endpoint:
            raise UserError("a cluster needs an S3 server: run `make up`, or set AWS_ENDPOINT_URL_S3")
        cluster = new_cluster(parsed, request, sizing, time.time(), hosts(self._settings))
        journal = Journal(self._settings.home / "clusters" / cluster.id)
        journal.folder.mkdir(parents=True, mode=0o700)
        with journal.try_lock() as lock:
            if lock is None:
                raise FailedError(f"another process holds {journal.lock_file}; try again")
            journal.request_file.write_text(json.dumps(request, indent=2))
            journal.write(cluster)
            yield journal, lock

    def check_request(self, request: dict[str, Any]) -> tuple[ClusterRequest, Sizing]:
        """What run_job_flow would make of a request on this machine now, without starting anything."""
        parsed = parse(request)
        free = psutil.virtual_memory().available // 1024**2 - RESERVE_MB
        return parsed, plan(parsed, os.cpu_count() or 1, self._settings.memory_mb or free)

    def _start_manager(self, journal: Journal, lock: int) -> None:
        """Start the manager with the journal's lock already in its hands."""
        start_detached(
            [sys.executable, "-m", "infra.cluster.manager", str(journal.folder)],
            log=journal.manager_log,
            environment=self._settings.environment(),
            inherit=lock,
        )

    def read(self, ClusterId: str) -> Cluster:
        """Everything known of a cluster, as Millstream keeps it."""
        return read_or_finish(self.journal(ClusterId), self._settings)

    def journal(self, cluster_id: str) -> Journal:
        """A cluster's folder. Raises UserError when there is no such cluster."""
        journal = Journal(self._settings.home / "clusters" / cluster_id)
        if "/" in cluster_id or not (journal.folder / "cluster.json").exists():
            raise UserError(
                f"there is no cluster {cluster_id!r}; `python -m infra.cluster list-clusters` shows all"
            )
        return journal

    def add_job_flow_steps(self, *, JobFlowId: str, Steps: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Append steps to a running or waiting cluster; returns their ids."""
        parse_steps(Steps)
        steps = _with_scripts_found({"Steps": list(Steps)}, Path.cwd())["Steps"]
        return self._call(JobFlowId, "AddJobFlowSteps", {"Steps": steps})

    def cancel_steps(self, *, ClusterId: str, StepIds: Sequence[str]) -> dict[str, Any]:
        """Cancel pending or running steps; says for each whether that was possible."""
        return self._call(ClusterId, "CancelSteps", {"StepIds": list(StepIds)})

    def set_termination_protection(self, *, JobFlowIds: Sequence[str], TerminationProtected: bool) -> None:
        """Switch termination protection on or off."""
        for cluster_id in JobFlowIds:
            parameters = {"TerminationProtected": TerminationProtected}
            self._call(cluster_id, "SetTerminationProtection", parameters)

    def terminate_job_flows(self, *, JobFlowIds: Sequence[str]) -> None:
        """Begin to terminate clusters; one that has ended is left as it is, a protected one refuses."""
        for cluster_id in JobFlowIds:
            if not self.read(cluster_id).is_over:
                self._call(cluster_id, "TerminateJobFlows", {})

    def describe_cluster(self, *, ClusterId: str) -> dict[str, Any]:
        """The cluster's state, its reason and its times."""
        return {"Cluster": views.description(self.read(ClusterId))}

    def list_clusters(self, *, ClusterStates: Sequence[str] = ()) -> dict[str, Any]:
        """All clusters, newest first, or those in some states. Raises UserError for one that AWS has not."""
        states = resources.input_shape("emr", "ListClusters").members["ClusterStates"].member.enum
        for state in ClusterStates:
            if state not in states:
                raise UserError(f"{state!r} is not a state of a cluster; they are {', '.join(states)}")
        found = [read_or_finish(journal, self._settings) for journal in journals(self._settings.home)]
        found.sort(key=lambda cluster: cluster.created_at, reverse=True)
        chosen = [cluster for cluster in found if not ClusterStates or cluster.state in ClusterStates]
        return {"Clusters": [views.summary(cluster) for cluster in chosen]}

    def list_steps(self, *, ClusterId: str, StepIds: Sequence[str] = ()) -> dict[str, Any]:
        """A cluster's steps, newest first as EMR lists them."""
        steps = self.read(ClusterId).steps
        chosen = [step for step in steps if not StepIds or step.id in StepIds]
        return {"Steps": [views.step(step) for step in reversed(chosen)]}

    def list_instances(self, *, ClusterId: str, InstanceGroupTypes: Sequence[str] = ()) -> dict[str, Any]:
        """A cluster's nodes."""
        nodes = self.read(ClusterId).instances
        chosen = [node for node in nodes if not InstanceGroupTypes or node.role in InstanceGroupTypes]
        return {"Instances": [views.instance(node) for node in chosen]}

    def _call(self, cluster_id: str, operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
        """Send a command to the cluster's manager, waiting for one that is just starting."""
        journal = self.journal(cluster_id)
        while True:
            cluster = read_or_finish(journal, self._settings)
            if cluster.is_over:
                raise UserError(f"{cluster_id} is {cluster.state}; start a new cluster")
            try:
                return control.call(journal.socket, operation, parameters)
            except TimeoutError as error:
                raise FailedError(
                    f"the manager of {cluster_id} is busy and has not answered within "
                    f"{control.ANSWER_WITHIN_S:.0f} s; unless it had already begun, it does not carry out "
                    f"{operation}: look at the cluster and try again"
                ) from error
            except (ConnectionError, FileNotFoundError):
                time.sleep(0.1)  # it is starting, or ending: the next look at it says which


def hosts(settings: Settings) -> Sequence[str]:
    """Where node agents run, the master's first; none where nodes are processes of this machine."""
    return [host.strip() for host in settings.nodes.split(",") if host.strip()]


def new_cluster(
    request: ClusterRequest, raw: dict[str, Any], sizing: Sizing, now: float, on: Sequence[str] = ()
) -> Cluster:
    """The first state of a cluster: everything is yet to come.

    `on` are the hosts of its nodes, as many as these and the master's first; none: all are here.
    """
    instances = [
        Instance(
            id=new_id("ci-"),
            group_id=group_id,
            role=group.role,
            instance_type=group.instance_type,
            market=group.market,
            cores=size.cores,
            memory_mb=size.memory_mb,
            created_at=now,
        )
        for group, size in zip(request.groups, sizing.groups, strict=True)
        for group_id in [new_id("ig-")]
        for _ in range(group.count)
    ]
    instances.sort(key=lambda node: node.role != "MASTER")
    if on and len(on) != len(instances):
        raise UserError(f"MILLSTREAM_NODES names {len(on)} hosts and the request has {len(instances)} nodes")
    for node, host in zip(instances, on, strict=False):
        node.host = host
    return Cluster(
        id=new_id("j-"),
        name=request.name,
        release_label=request.release_label,
        log_uri=request.log_uri,
        created_at=now,
        keep_alive=request.keep_alive,
        protected=request.termination_protected,
        idle_timeout_s=request.idle_timeout_s,
        spark_version=SPARK_VERSION,
        executor_memory_mb=sizing.executor_memory_mb,
        driver_memory_mb=sizing.driver_memory_mb,
        tags=dict(request.tags),
        notes=[*request.notes, *sizing.lines],
        steps=make_steps(raw.get("Steps", []), now),
        instances=instances,
        states=[("STARTING", now)],
    )


def _with_scripts_found(request: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The checked request with local files by absolute path, since the manager runs elsewhere."""
    found = dict(request)
    if "Steps" in request:
        found["Steps"] = [_with_script_found(step, folder) for step in request["Steps"]]
    if "BootstrapActions" in request:
        found["BootstrapActions"] = [_with_action_found(item, folder) for item in request["BootstrapActions"]]
    return found


def _with_action_found(action: dict[str, Any], folder: Path) -> dict[str, Any]:
    script = action["ScriptBootstrapAction"]
    return {**action, "ScriptBootstrapAction": {**script, "Path": _find(script["Path"], folder)}}


def _with_script_found(step: dict[str, Any], folder: Path) -> dict[str, Any]:
    arguments = list(step["HadoopJarStep"]["Args"])
    _, script, script_arguments = spark_arguments(arguments[1:])
    at = len(arguments) - len(script_arguments) - 1
    arguments[at] = _find(script, folder)
    for place in range(2, at):
        if arguments[place - 1] in FILE_OPTIONS:
            files = arguments[place].split(",")
            arguments[place] = ",".join(_find(file, folder) for file in files)
    return {**step, "HadoopJarStep": {**step["HadoopJarStep"], "Args": arguments}}


def _find(script: str, folder: Path) -> str:
    """A local file below the caller's folder, or else below the project; others stay as they are."""
    if "://" in script or script.startswith("/"):
        return script
    below = [base / script for base in (folder, ROOT)]
    return str(next((path for path in below if path.exists()), below[0]))
