"""The nodes of a cluster as containers: an agent in each runs what the manager orders."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import urllib3

from infra.cluster import spark_conf
from infra.cluster.agent import Link, Order, Task
from infra.cluster.journal import Journal
from infra.cluster.model import Cluster, Instance
from infra.cluster.nodes import DAEMON, master_command, master_state, worker_command
from infra.settings import Settings

MASTER_PORT, MASTER_WEB_PORT, WORKER_PORT, WORKER_WEB_PORT = 7077, 8080, 7078, 8081
LOST = 137
"""The exit code of what ran on a node whose container is gone: as if it had been killed."""
STOPPED_WITHIN_S, POLL_S = 30.0, 0.1


@dataclass
class _Node:
    """What the manager knows of a node's agent; `life` is the agent's that got the first order."""

    link: Link
    life: str = ""
    tasks: dict[str, Task] = field(default_factory=dict)
    starts: int = 0


class AgentNodes:
    """Nodes whose agents serve on the hosts of the cluster's instances (Instance.host)."""

    def __init__(self, cluster: Cluster, settings: Settings, journal: Journal, overrides: Mapping[str, str]):
        """`overrides` are the request's spark-defaults."""
        self._cluster, self._settings, self._journal = cluster, settings, journal
        self._http = urllib3.PoolManager(timeout=2.0, retries=False)
        self._master_url = f"spark://{cluster.master.host}:{MASTER_PORT}"
        self._nodes: dict[str, _Node] = {}
        journal.scratch.mkdir(parents=True, exist_ok=True)
        values = spark_conf.defaults(cluster, settings, journal.scratch, self._master_url, overrides)
        spark_conf.write(journal.conf, values)

    def provisioned(self) -> set[str]:
        up = [node for node in self._cluster.instances if node.is_up]
        return {node.id for node in up if self._of(node).link.state() is not None}

    def is_replaced(self, node: Instance) -> bool:
        """The container of a standing node is started again; a transient cluster's is not."""
        return bool(self._settings.standing) and node.role != "MASTER"

    def start_daemon(self, node: Instance) -> None:
        if node.id == self._cluster.master.id:
            command = master_command(node.host, MASTER_PORT, MASTER_WEB_PORT)
        else:
            command = worker_command(node, WORKER_PORT, WORKER_WEB_PORT, self._journal, self._master_url)
        log = self._journal.node_folder(node.id) / "applications" / "spark" / "daemon.log"
        self._start(node, DAEMON, command, log, None)

    def ready(self) -> set[str]:
        master = self._cluster.master
        state = master_state(self._http, master.host, MASTER_WEB_PORT)
        if state is None:
            return set()
        alive = {worker["host"] for worker in state["workers"] if worker["state"] == "ALIVE"}
        workers = {node.id for node in self._cluster.up("CORE", "TASK") if node.host in alive}
        return {master.id, *workers} if state["status"] == "ALIVE" else workers

    def run(self, node: Instance, task: str, command: Sequence[str], output: Path, errors: Path) -> None:
        self._start(node, task, command, output, errors)

    def ended(self) -> list[tuple[str, str, int]]:
        found = []
        for instance_id, node in self._nodes.items():
            if not node.tasks:
                continue
            state = node.link.state()
            is_lost = state is None or state.life != node.life
            for name, task in list(node.tasks.items()):
                code = LOST if is_lost else state.ended.get(task.id) if state else None
                if code is not None:
                    del node.tasks[name]
                    found.append((instance_id, name, code))
        return found

    def stop_task(self, node: Instance, task: str) -> None:
        known = self._of(node)
        if known.tasks.pop(task, None) is not None:
            self._give(known)
            _wait_until_stopped([known])

    def stop_node(self, node: Instance) -> None:
        known = self._of(node)
        known.tasks.clear()
        self._give(known)
        _wait_until_stopped([known])

    def stop_all(self) -> None:
        for known in self._nodes.values():
            known.tasks.clear()
            self._give(known)
        _wait_until_stopped(list(self._nodes.values()))

    def _of(self, node: Instance) -> _Node:
        return self._nodes.setdefault(node.id, _Node(Link(self._settings.home, node.host)))

    def _start(
        self, node: Instance, name: str, command: Sequence[str], output: Path, errors: Path | None
    ) -> None:
        known = self._of(node)
        state = known.link.state()
        known.life = known.life or (state.life if state else "")
        known.starts += 1
        known.tasks[name] = Task(
            f"{node.id}/{name}-{known.starts}", list(command), str(output), str(errors) if errors else None
        )
        self._give(known)

    def _give(self, known: _Node) -> None:
        """Order what shall run; an agent of another life than the first gets nothing any more."""
        state = known.link.state()
        if state is not None and state.life == known.life:
            known.link.give(Order(known.life, str(self._journal.conf), list(known.tasks.values())))


def end_ordered(cluster: Cluster, settings: Settings, journal: Journal) -> None:
    """End what agents still run for a cluster whose manager is dead: nobody else takes its orders back.

    Only for the holder of the journal's lock. Orders of other clusters are left as they are.
    """
    hosts = {node.host for node in cluster.instances}
    left = [known for host in sorted(hosts) if (known := _ordered(Link(settings.home, host), journal))]
    for known in left:
        known.link.give(Order(known.life, str(journal.conf)))
    _wait_until_stopped(left)


def _ordered(link: Link, journal: Journal) -> _Node | None:
    """An agent that lives and has an order of this cluster, known by the configuration that is its own."""
    state, order = link.state(), link.order()
    if state is None or order is None or (order.life, order.conf) != (state.life, str(journal.conf)):
        return None
    return _Node(link, state.life)


def _wait_until_stopped(nodes: Sequence[_Node]) -> None:
    """Wait for agents to have ended what is not ordered any more; one that is gone has."""
    deadline = time.monotonic() + STOPPED_WITHIN_S
    for known in nodes:
        wanted = {task.id for task in known.tasks.values()}
        while time.monotonic() < deadline:
            state = known.link.state()
            if state is None or state.life != known.life or set(state.running) <= wanted:
                break
            time.sleep(POLL_S)
