"""The nodes of a transient cluster as containers of the stack: made for one job, removed after it.

The job's cluster manager finds an agent in each (infra/cluster/agent.py). Only this side, on the user's
machine, talks to the container engine.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from python_on_whales import Container

from infra.compose.stack import Stack
from infra.contracts import resources
from infra.progress import progress
from infra.settings import ROOT
from infra.terminal import terminal

REQUEST = ROOT / "infra" / "resources" / "clusters" / "sales-rollup.json"
SERVICE = "node"
AT_ONCE, GRACE_S = 4, 15
LABEL = "org.millstream.transient"


def roles(arguments: Sequence[str]) -> list[str]:
    """The roles of the nodes that a batch job with these arguments asks for, the master's first."""
    counts = {
        group["InstanceRole"]: group["InstanceCount"]
        for group in resources.read_request(REQUEST)["Instances"]["InstanceGroups"]
    }
    for option, role in (("--core", "CORE"), ("--task", "TASK")):
        if option in arguments and arguments[arguments.index(option) + 1].isdecimal():
            counts[role] = int(arguments[arguments.index(option) + 1])
    return [role for role in ("MASTER", "CORE", "TASK") for _ in range(counts.get(role, 0))]


@contextlib.contextmanager
def transient_nodes(stack: Stack, arguments: Sequence[str]) -> Iterator[list[str]]:
    """Containers for a job's nodes, for the block; their hosts, the master's first."""
    console, run = terminal(), secrets.token_hex(2)
    wanted = roles(arguments)
    names = [f"{stack.project}-{run}-{role.lower()}-{number}" for number, role in enumerate(wanted)]
    try:
        with progress(console, "node containers") as update, ThreadPoolExecutor(AT_ONCE) as threads:
            hosts = []
            for host in threads.map(lambda name: _start(stack, name), names):
                hosts.append(host)
                update(len(hosts) / len(names), f"{len(hosts)} of {len(names)}")
        yield hosts
    finally:
        with progress(console, "node containers removed") as update, ThreadPoolExecutor(AT_ONCE) as threads:
            for number, _ in enumerate(threads.map(lambda name: _remove(stack, name), names), start=1):
                update(number / len(names), f"{number} of {len(names)}")


def _start(stack: Stack, name: str) -> str:
    """Start one; its host name, which is the beginning of its id."""
    container = stack.docker.compose.run(
        SERVICE, detach=True, tty=False, remove=True, dependencies=False, name=name, labels={LABEL: "true"}
    )
    assert isinstance(container, Container), "as detached containers are"
    return container.id[:12]


def _remove(stack: Stack, name: str) -> None:
    if stack.docker.container.exists(name):
        stack.docker.container.stop(name, time=GRACE_S)  # it was started with --rm
