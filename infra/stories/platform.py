"""`make up`, `make down`, `make status`: the embedded servers and the clusters of this home together."""

from __future__ import annotations

import click
from rich.table import Table
from rich.text import Text

from infra.cluster.client import Clusters
from infra.cluster.model import FINAL_CLUSTER_STATES, Cluster
from infra.cluster.watch import wait_until_over
from infra.contracts.errors import UserError
from infra.local import servers
from infra.local.places import Places
from infra.process import run_command
from infra.progress import progress
from infra.settings import Settings
from infra.terminal import terminal


@click.group()
@click.pass_context
def main(context: click.Context) -> None:
    """Start, end and show what runs on this machine for this home."""
    context.obj = Settings.load()


@main.command()
@click.pass_obj
def up(settings: Settings) -> None:
    """Start S3 and Kafka, and keep them until `down`."""
    console = terminal()
    with progress(console, "servers"):
        ready = servers.up(settings)
    for name, endpoint in (("S3", ready.s3_endpoint), ("Kafka", ready.kafka_servers)):
        console.print(f"{name:<6} {endpoint}", markup=False, soft_wrap=True)
    if not settings.s3_endpoint:
        click.echo(f"keys   {Places(settings.home).keys}")


@main.command()
@click.pass_obj
def down(settings: Settings) -> None:
    """End every cluster, protected ones too, and then the servers; the data stays."""
    clusters = Clusters(settings)
    for cluster in running(clusters):
        click.echo(f"terminating {cluster.id} {cluster.name!r}{' (protected)' if cluster.protected else ''}")
        end(clusters, cluster.id)
    click.echo("stopped" if servers.down(settings) else "nothing was running")


@main.command()
@click.pass_obj
def status(settings: Settings) -> None:
    """Show what runs, where, and where its data lies."""
    console = terminal()
    console.print(_servers(settings))
    found = running(Clusters(settings))
    console.print(_clusters(found) if found else "no cluster is running")


def end(clusters: Clusters, cluster_id: str) -> None:
    """Terminate a cluster, protected or not; one that ends by itself meanwhile is as good."""
    try:
        clusters.set_termination_protection(JobFlowIds=[cluster_id], TerminationProtected=False)
        clusters.terminate_job_flows(JobFlowIds=[cluster_id])
    except UserError:
        if not clusters.read(cluster_id).is_over:
            raise
    wait_until_over(clusters, cluster_id)


def running(clusters: Clusters) -> list[Cluster]:
    """The clusters that have not ended."""
    every = clusters.list_clusters()["Clusters"]
    ids = [entry["Id"] for entry in every if entry["Status"]["State"] not in FINAL_CLUSTER_STATES]
    return [clusters.read(cluster_id) for cluster_id in ids]


def _servers(settings: Settings) -> Table:
    table = _table("service", "state", "endpoint", "pid", "memory (MB)", "data")
    for row in servers.status(settings):
        pids, endpoint = "\n".join(map(str, row.pids)), row.endpoint.replace(",", "\n")
        cells = (row.service, row.state, endpoint, pids, str(row.memory_mb or ""), row.data)
        table.add_row(*map(Text, cells))
    return table


def _clusters(found: list[Cluster]) -> Table:
    table = _table("cluster", "name", "state", "nodes", "steps done")
    for cluster in found:
        done = sum(step.is_over for step in cluster.steps)
        nodes = len(cluster.up("MASTER", "CORE", "TASK"))
        cells = (cluster.id, cluster.name, cluster.state, str(nodes), f"{done} of {len(cluster.steps)}")
        table.add_row(*map(Text, cells))
    return table


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


if __name__ == "__main__":
    run_command(main)
