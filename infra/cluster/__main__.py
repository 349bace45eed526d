"""`python -m infra.cluster`: clusters from the command line, one verb for each operation."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from infra import process
from infra.cluster.client import Clusters
from infra.cluster.model import Cluster
from infra.cluster.request import check_parameters
from infra.cluster.watch import end_interrupted, state_lines, wait, wait_until_managed
from infra.contracts import resources
from infra.contracts.errors import UserError
from infra.local.servers import servers
from infra.settings import Settings


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.pass_context
def main(context: click.Context) -> None:
    """Spark clusters by EMR's operations. Times are UTC; answers are JSON in AWS's shapes."""
    context.obj = Settings.load()


def show(answer: Any) -> None:
    """Print an answer as JSON, times as ISO 8601."""
    click.echo(json.dumps(answer, indent=2, default=datetime.isoformat))


@main.command()
@click.argument("request_file", type=click.Path(path_type=Path))
@click.pass_obj
def run(settings: Settings, request_file: Path) -> int:
    """Run a RunJobFlow request and wait: until the cluster has ended, or waits for more steps.

    Exit code 0: all steps completed; 1: a step or the cluster failed; 2: the request was refused;
    130: Ctrl-C, which terminates the cluster unless it is protected.
    """
    request = resources.read_request(request_file)
    with servers(settings) as live:
        clusters = Clusters(live)
        cluster_id = clusters.run_job_flow(**request)["JobFlowId"]
        said: set[str] = set()
        for note in clusters.read(cluster_id).notes:
            click.echo(f"note: {note}")

        def say(cluster: Cluster) -> None:
            for line in state_lines(cluster, said):
                click.echo(line)

        try:
            cluster = wait(clusters, cluster_id, say)
        except (KeyboardInterrupt, process.Terminated):
            end_interrupted(clusters, cluster_id)
            raise
    failed = cluster.state == "TERMINATED_WITH_ERRORS"
    return int(failed or any(step.state != "COMPLETED" for step in cluster.steps))


@main.command("run-job-flow")
@click.argument("request_file", type=click.Path(path_type=Path))
@click.pass_obj
def run_job_flow(settings: Settings, request_file: Path) -> None:
    """Start a cluster and print its id. Embedded servers stay up for as long as it lives."""
    request = resources.read_request(request_file)
    with servers(settings) as live:
        clusters = Clusters(live)
        answer = clusters.run_job_flow(**request)
        wait_until_managed(clusters, answer["JobFlowId"])
    show(answer)


@main.command("add-job-flow-steps")
@click.argument("cluster_id")
@click.argument("steps_file", type=click.Path(path_type=Path))
@click.pass_obj
def add_job_flow_steps(settings: Settings, cluster_id: str, steps_file: Path) -> None:
    """Add steps to a cluster, from a JSON file {"Steps": [...]}."""
    parameters = {"JobFlowId": cluster_id, **resources.read_request(steps_file)}
    check_parameters("AddJobFlowSteps", parameters)
    if parameters["JobFlowId"] != cluster_id:
        raise UserError(f"{steps_file} is for {parameters['JobFlowId']}, not for {cluster_id}; correct one")
    if not parameters["Steps"]:
        raise UserError(f"{steps_file} has no steps; add some to Steps")
    show(Clusters(settings).add_job_flow_steps(JobFlowId=cluster_id, Steps=parameters["Steps"]))


@main.command("cancel-steps")
@click.argument("cluster_id")
@click.argument("step_ids", nargs=-1, required=True)
@click.pass_obj
def cancel_steps(settings: Settings, cluster_id: str, step_ids: tuple[str, ...]) -> None:
    """Cancel pending or running steps."""
    show(Clusters(settings).cancel_steps(ClusterId=cluster_id, StepIds=step_ids))


@main.command("describe-cluster")
@click.argument("cluster_id")
@click.pass_obj
def describe_cluster(settings: Settings, cluster_id: str) -> None:
    """Describe one cluster."""
    show(Clusters(settings).describe_cluster(ClusterId=cluster_id))


@main.command("list-clusters")
@click.option("--state", "states", multiple=True, help="Only clusters in this state (repeatable).")
@click.pass_obj
def list_clusters(settings: Settings, states: tuple[str, ...]) -> None:
    """List clusters, newest first."""
    show(Clusters(settings).list_clusters(ClusterStates=states))


@main.command("list-steps")
@click.argument("cluster_id")
@click.pass_obj
def list_steps(settings: Settings, cluster_id: str) -> None:
    """List a cluster's steps, newest first."""
    show(Clusters(settings).list_steps(ClusterId=cluster_id))


@main.command("list-instances")
@click.argument("cluster_id")
@click.pass_obj
def list_instances(settings: Settings, cluster_id: str) -> None:
    """List a cluster's nodes."""
    show(Clusters(settings).list_instances(ClusterId=cluster_id))


@main.command("set-termination-protection")
@click.argument("cluster_ids", nargs=-1, required=True)
@click.option("--on/--off", "protected", required=True, help="Protect, or stop protecting.")
@click.pass_obj
def set_termination_protection(settings: Settings, cluster_ids: tuple[str, ...], protected: bool) -> None:
    """Switch termination protection."""
    Clusters(settings).set_termination_protection(JobFlowIds=cluster_ids, TerminationProtected=protected)


@main.command("terminate-job-flows")
@click.argument("cluster_ids", nargs=-1, required=True)
@click.pass_obj
def terminate_job_flows(settings: Settings, cluster_ids: tuple[str, ...]) -> None:
    """Terminate clusters; a protected one refuses."""
    Clusters(settings).terminate_job_flows(JobFlowIds=cluster_ids)


if __name__ == "__main__":
    process.run_command(main)
