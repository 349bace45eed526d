"""`make doctor`: what this machine lacks for `docker compose up`, and for the embedded mode."""

from __future__ import annotations

import re
import shutil
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
from python_on_whales import DockerClient
from python_on_whales.exceptions import DockerException
from rich.table import Table

from infra.compose.stack import FILE, find_stack
from infra.contracts.errors import UserError
from infra.local.bootstrap import SetupError, check_java
from infra.process import EXIT_FAILED, run_command
from infra.settings import Settings
from infra.terminal import terminal

COMPOSE, ENGINE = (2, 24), (20, 10)
MEMORY_GB, DISK_GB = 6, 15
"""An idle stack takes less than 4 GB, a job beside it some 2 GB more; images and a first run some 8 GB."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: how it is, and what to do if that is not enough."""

    name: str
    found: str
    remedy: str = ""

    @property
    def is_well(self) -> bool:
        return not self.remedy


def look(settings: Settings) -> Iterator[Finding]:
    """Everything that Compose needs; what hangs on the engine only if there is one."""
    if shutil.which("docker") is None:
        yield Finding(
            "docker", "not installed", "install Docker Engine 20.10 or later with Compose 2.24 or later"
        )
        return
    docker = DockerClient(compose_files=[FILE])
    yield compose_version(docker)
    try:
        info = docker.system.info()
    except DockerException:
        yield Finding(
            "engine",
            "does not answer",
            "start Docker, or let your user use it (group docker); see `docker info`",
        )
        return
    yield _version("engine", info.server_version or "", ENGINE, "Docker Engine")
    yield _at_least("memory", (info.mem_total or 0) / 1e9, MEMORY_GB, "give Docker more memory")
    root = str(info.docker_root_dir or "/")
    if Path(root).is_dir():  # on a Mac it is inside Docker's own machine
        yield _at_least("disk", shutil.disk_usage(root).free / 1e9, DISK_GB, f"free some below {root}")
    try:
        stack = find_stack(settings)
        if stack is not None:
            yield Finding("stack", f"{stack.project} runs")
        else:
            yield from [port(name, number) for name, number in ports(docker)]
    except UserError as error:
        yield Finding("stack", "several run", str(error))
    except DockerException:
        yield Finding(
            "compose file", "not understood", "see `docker compose config`; is Compose 2.24 or later?"
        )


def look_embedded() -> Iterator[Finding]:
    """What the embedded mode needs beside Python and make, which are there when this runs."""
    yield Finding("python", ".".join(map(str, sys.version_info[:3])))
    try:
        check_java()
        yield Finding("java", "there")
    except SetupError as error:
        text = str(error)
        yield Finding("java", text.split(";", maxsplit=1)[0], text)


def compose_version(docker: DockerClient) -> Finding:
    """Compose and its version."""
    try:
        return _version("compose", docker.compose.version(), COMPOSE, "Docker Compose")
    except DockerException:
        return Finding(
            "compose", "not installed", "install Docker Compose 2.24 or later (`docker compose version`)"
        )


def ports(docker: DockerClient) -> list[tuple[str, int]]:
    """The ports that the stack publishes, each with its service's name; variables are in force."""
    config = docker.compose.config(return_json=True)
    return [
        (name, int(published["published"]))
        for name, service in config["services"].items()
        for published in service.get("ports", ())
    ]


def port(service: str, number: int) -> Finding:
    """Whether a port is free."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", number))
        except OSError:
            return Finding(
                f"port {number}",
                "taken",
                f"end what listens there, or give {service} another (see docker-compose.yml)",
            )
    return Finding(f"port {number}", "free")


def _version(name: str, text: str, least: tuple[int, int], what: str) -> Finding:
    number = re.search(r"(\d+)\.(\d+)", text)
    if number is None or (int(number[1]), int(number[2])) < least:
        return Finding(name, text or "unknown", f"install {what} {least[0]}.{least[1]} or later")
    return Finding(name, text.removeprefix("Docker Compose version "))


def _at_least(name: str, value_gb: float, least_gb: float, remedy: str) -> Finding:
    found = f"{value_gb:.0f} GB"
    return Finding(name, found, "" if value_gb >= least_gb else f"{least_gb} GB are needed: {remedy}")


@click.command()
def main() -> int:
    """Say what is there, and of what is wrong what to do. Exit code 1 if Compose could not run."""
    console = terminal()
    compose, embedded = list(look(Settings.load())), list(look_embedded())
    console.print(_table("docker compose up", compose))
    console.print(_table("embedded (make without Docker)", embedded))
    return 0 if all(finding.is_well for finding in compose) else EXIT_FAILED


def _table(title: str, findings: list[Finding]) -> Table:
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        min_width=60,
        box=None,
        pad_edge=False,
        show_header=False,
    )
    for _ in range(3):
        table.add_column(overflow="fold")
    for finding in findings:
        mark = "[green]ok[/]" if finding.is_well else "[bold red]wrong[/]"
        table.add_row(mark, finding.name, f"{finding.found}{finding.remedy and ': ' + finding.remedy}")
    return table


if __name__ == "__main__":
    run_command(main)
