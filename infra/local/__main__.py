"""Command line of the embedded servers: `python -m infra.local up | down | status`."""

from __future__ import annotations

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from infra.local import servers
from infra.local.places import Places
from infra.process import run_command
from infra.progress import progress
from infra.settings import Settings

PLAIN_WIDTH = 240  # columns outside a terminal, so that no path is broken


@click.group()
def main() -> None:
    """Embedded S3 and Kafka, kept running across commands."""


@main.command()
def up() -> None:
    """Start S3 and Kafka, and keep them until `down`."""
    settings, console = Settings.load(), Console()
    with progress(console, "servers"):
        ready = servers.up(settings)
    for name, endpoint in (("S3", ready.s3_endpoint), ("Kafka", ready.kafka_servers)):
        console.print(f"{name:<6} {endpoint}", markup=False, highlight=False, soft_wrap=True)
    if not settings.s3_endpoint:
        click.echo(f"keys   {Places(settings.home).keys}")


@main.command()
def down() -> None:
    """End the servers that `up` (or a job) started here; their data stays."""
    click.echo("stopped" if servers.down(Settings.load()) else "nothing was running")


@main.command()
def status() -> None:
    """Show what runs, where, and where its data lies."""
    table = Table(box=None, pad_edge=False)
    for heading in ("service", "state", "endpoint", "pid", "memory (MB)", "data"):
        table.add_column(heading, overflow="fold")
    for row in servers.status(Settings.load()):
        pids = "\n".join(map(str, row.pids))
        cells = (
            row.service,
            row.state,
            row.endpoint.replace(",", "\n"),
            pids,
            str(row.memory_mb or ""),
            row.data,
        )
        table.add_row(*map(Text, cells))
    console = Console()
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    console.print(table)


if __name__ == "__main__":
    run_command(main)
