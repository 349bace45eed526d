"""The nodes of a cluster as processes of this machine: one Spark daemon per node.

`Nodes` is the seam: everything above it is the same when a node is a container (agent_nodes.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import urllib3

from infra.cluster import spark_conf
from infra.cluster.journal import Journal
from infra.cluster.model import Cluster, Instance
from infra.local.ports import free_ports
from infra.settings import Settings
from infra.supervisor import Child, Supervisor, end_marked

DEPLOY = "org.apache.spark.deploy"
DAEMON, DRIVER, BOOTSTRAP = "spark", "driver", "bootstrap"


class Nodes(Protocol):
    """What a manager needs of its nodes. A task's name is `<instance id>/<daemon, driver or bootstrap>`."""

    def provisioned(self) -> set[str]:
        """Ids of the nodes whose machine is there: commands can be run on it."""

    def is_replaced(self, node: Instance) -> bool:
        """Whether another machine will come in the place of a node that was lost."""

    def start_daemon(self, node: Instance) -> None:
        """Start the node's Spark daemon; the master's before all others."""

    def ready(self) -> set[str]:
        """Ids of the nodes whose daemon serves: the master answers, a worker is registered with it."""

    def run(self, node: Instance, task: str, command: Sequence[str], output: Path, errors: Path) -> None:
        """Run a command on a node (a bootstrap action, a step's driver)."""

    def ended(self) -> list[tuple[str, str, int]]:
        """What has ended since the last call: (instance id, task, exit code)."""

    def stop_task(self, node: Instance, task: str) -> None:
        """End one task of a node with everything below it."""

    def stop_node(self, node: Instance) -> None:
        """End everything that runs on a node."""

    def stop_all(self) -> None:
        """End everything that runs on any node."""


class ProcessNodes:
    """Nodes as child processes of the manager, on loopback ports chosen at their start."""

    def __init__(self, cluster: Cluster, settings: Settings, journal: Journal, overrides: Mapping[str, str]):
        """`overrides` are the request's spark-defaults."""
        self._cluster, self._journal = cluster, journal
        self._supervisor = Supervisor(cluster.id)
        self._environment = spark_conf.environment(settings, journal.conf, cluster.master.host)
        self._http = urllib3.PoolManager(timeout=2.0, retries=False)
        self._master_id = cluster.master.id
        self._master_port, self._master_web_port = free_ports(2)
        self._worker_ports: dict[int, str] = {}  # port -> instance id
        url = f"spark://127.0.0.1:{self._master_port}"
        scratch = journal.scratch
        scratch.mkdir(parents=True, exist_ok=True)
        spark_conf.write(journal.conf, spark_conf.defaults(cluster, settings, scratch, url, overrides))
        self._master_url = url

    def provisioned(self) -> set[str]:
        return {node.id for node in self._cluster.instances}

    def is_replaced(self, node: Instance) -> bool:
        return False

    def start_daemon(self, node: Instance) -> None:
        command = self._master() if node.id == self._master_id else self._worker(node)
        self._supervisor.start(
            f"{node.id}/{DAEMON}",
            command,
            log=self._journal.node_folder(node.id) / "applications" / "spark" / "daemon.log",
            environment=self._environment,
        )

    def _master(self) -> list[str]:
        return master_command("127.0.0.1", self._master_port, self._master_web_port)

    def _worker(self, node: Instance) -> list[str]:
        port, web_port = free_ports(2)
        self._worker_ports[port] = node.id
        return worker_command(node, port, web_port, self._journal, self._master_url)

    def ready(self) -> set[str]:
        state = master_state(self._http, "127.0.0.1", self._master_web_port)
        if state is None:
            return set()
        alive = {worker["port"] for worker in state["workers"] if worker["state"] == "ALIVE"}
        workers = {self._worker_ports[port] for port in alive if port in self._worker_ports}
        return {self._master_id, *workers} if state["status"] == "ALIVE" else workers

    def run(self, node: Instance, task: str, command: Sequence[str], output: Path, errors: Path) -> None:
        self._supervisor.start(
            f"{node.id}/{task}",
            command,
            log=output,
            errors=errors,
            environment=self._environment,
            cwd=output.parent,
        )

    def ended(self) -> list[tuple[str, str, int]]:
        return [(*_split(child), child.process.returncode) for child in self._supervisor.ended()]

    def stop_task(self, node: Instance, task: str) -> None:
        child = self._supervisor.children.get(f"{node.id}/{task}")
        if child is not None:
            self._supervisor.stop(child)

    def stop_node(self, node: Instance) -> None:
        """Also ends what lost its parent, such as the executor of a worker that was killed."""
        end_marked(f"{self._supervisor.mark}/{node.id}")
        self._supervisor.ended()

    def stop_all(self) -> None:
        self._supervisor.stop_all()


def master_command(host: str, port: int, web_port: int) -> list[str]:
    """The Spark daemon of a MASTER node."""
    return [
        str(spark_conf.spark_home() / "bin" / "spark-class"),
        f"{DEPLOY}.master.Master",
        *("--host", host, "--port", str(port), "--webui-port", str(web_port)),
    ]


def worker_command(node: Instance, port: int, web_port: int, journal: Journal, master_url: str) -> list[str]:
    """The Spark daemon of a CORE or TASK node."""
    work = journal.node_folder(node.id) / "applications" / "spark" / "work"
    return [
        str(spark_conf.spark_home() / "bin" / "spark-class"),
        f"{DEPLOY}.worker.Worker",
        *("--host", node.host, "--port", str(port), "--webui-port", str(web_port)),
        *("--cores", str(node.cores), "--memory", f"{node.memory_mb}m"),
        *("--work-dir", str(work)),
        master_url,
    ]


def master_state(http: urllib3.PoolManager, host: str, web_port: int) -> dict[str, Any] | None:
    """What a Spark master says of itself and its workers; None while it does not answer."""
    try:
        answer = http.request("GET", f"http://{host}:{web_port}/json/")
        state: dict[str, Any] = json.loads(answer.data)
    except (urllib3.exceptions.HTTPError, json.JSONDecodeError):
        return None
    return state


def _split(child: Child) -> tuple[str, str]:
    instance_id, task = child.name.split("/", 1)
    return instance_id, task
