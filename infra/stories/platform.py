"""`make up`, `make down`, `make status`: the embedded servers and the clusters of this home together."""

from __future__ import annotations

import click
from rich.console import Console
from rich.table import Table

from infra import process
from infra.cluster.client import Clusters
from infra.cluster.model import FINAL_CLUSTER_STATES, Cluster
from infra.cluster.watch import wait_until_over
from infra.local import servers
from infra.settings import Settings


@click.group()
@click.pass_context
def main(context: click.Context) -> None:
    """Start, end and show what runs on this machine for this home."""
    context.obj = Settings.load()


@main.command()
@click.pass_obj
def up(settings: Settings) -> None:
    """Start S3 and Kafka and keep them running until `down`."""
    console = Console(highlight=False)
    servers.up(settings)
    _show_servers(settings, console)
    console.print(f"keys: {settings.home}/keys.json", soft_wrap=True)


@main.command()
@click.pass_obj
def down(settings: Settings) -> None:
    """End every cluster, protected ones too, and then the servers."""
    clusters = Clusters(settings)
    for cluster in running(clusters):
        click.echo(
            f"terminating {cluster.id} ({cluster.name}{', protected' if cluster.protected else ''}) ..."
        )
        clusters.set_termination_protection(JobFlowIds=[cluster.id], TerminationProtected=False)
        clusters.terminate_job_flows(JobFlowIds=[cluster.id])
        wait_until_over(clusters, cluster.id)
    ended = servers.down(settings)
    click.echo("servers ended; the data stays" if ended else "no servers were running")


@main.command()
@click.pass_obj
def status(settings: Settings) -> None:
    """Show servers and running clusters."""
    console = Console(highlight=False)
    _show_servers(settings, console)
    found = running(Clusters(settings))
    if not found:
        console.print("no cluster is running")
        return
    table = Table("cluster", "name", "state", "nodes", "steps done", box=None, title_justify="left")
    for cluster in found:
        done = sum(step.is_over for step in cluster.steps)
        nodes = len(cluster.up("MASTER", "CORE", "TASK"))
        table.add_row(cluster.id, cluster.name, cluster.state, str(nodes), f"{done} of {len(cluster.steps)}")
    console.print(table)


def running(clusters: Clusters) -> list[Cluster]:
    """The clusters that have not ended."""
    every = clusters.list_clusters()["Clusters"]
    ids = [entry["Id"] for entry in every if entry["Status"]["State"] not in FINAL_CLUSTER_STATES]
    return [clusters.read(cluster_id) for cluster_id in ids]


def _show_servers(settings: Settings, console: Console) -> None:
    rows = servers.status(settings)
    if not rows:
        console.print("no server is running")
        return
    console.print(rows)


if __name__ == "__main__":
    process.run_command(main)
