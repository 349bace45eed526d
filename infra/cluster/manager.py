"""The manager of one cluster: the process that brings it up, runs its steps and ends it.

One thread, one loop: answer a command, see what has ended, move one state on, write the journal.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

import psutil

from infra import process
from infra.cluster import operations
from infra.cluster.agent_nodes import AgentNodes
from infra.cluster.control import ControlServer
from infra.cluster.journal import Journal
from infra.cluster.model import Cluster, Instance, Step
from infra.cluster.nodes import BOOTSTRAP, DAEMON, DRIVER, Nodes, ProcessNodes
from infra.cluster.request import BootstrapAction, ClusterRequest, parse
from infra.cluster.steps import StepRunner
from infra.contracts.errors import FailedError, UserError
from infra.local.servers import lifeline
from infra.settings import Settings

TICK_S = 0.1
STARTS_OF_A_DAEMON = 3  # its port may be taken between the choice and the start
DAEMONS_UP_WITHIN_S = 300.0


class Manager:
    """Moves a cluster from STARTING to its end. `step()` never waits longer than a tick or a stop."""

    def __init__(
        self,
        cluster: Cluster,
        request: ClusterRequest,
        nodes: Nodes,
        runner: StepRunner,
        clock: Callable[[], float],
    ) -> None:
        self.cluster, self.request, self.nodes, self.runner, self.clock = (
            cluster,
            request,
            nodes,
            runner,
            clock,
        )
        self._actions_left: dict[str, list[tuple[int, BootstrapAction]]] = {}
        self._daemon_starts: dict[str, int] = {}
        self._daemons_since = 0.0
        self._idle_since: float | None = None

    def step(self) -> None:
        """See what has ended, then do what the state asks for."""
        for instance_id, task, exit_code in self.nodes.ended():
            self._ended(instance_id, task, exit_code)
        advance = {
            "STARTING": self._start,
            "BOOTSTRAPPING": self._bootstrap,
            "RUNNING": self._run_steps,
            "WAITING": self._run_steps,
            "TERMINATING": self._finish,
        }
        advance[self.cluster.state]()
        if self.cluster.state in ("BOOTSTRAPPING", "RUNNING", "WAITING"):
            self._bring_up_replacements()

    def _start(self) -> None:
        """When every machine is there, each begins with its bootstrap actions."""
        there = self.nodes.provisioned()
        if missing := [node for node in self.cluster.instances if node.id not in there]:
            if self.clock() - self.cluster.created_at > DAEMONS_UP_WITHIN_S:
                hosts = ", ".join(node.host for node in missing)
                self.terminate("INTERNAL_ERROR", f"no agent answers on {hosts}")
            return
        actions = list(enumerate(self.request.bootstrap_actions, start=1))
        for node in self.cluster.instances:
            node.state = "BOOTSTRAPPING"
            self._actions_left[node.id] = list(actions)
        self.cluster.move("BOOTSTRAPPING", self.clock())
        for node in self.cluster.instances:
            self._next_bootstrap_action(node)

    def _next_bootstrap_action(self, node: Instance) -> None:
        """Run the node's next bootstrap action, if any; EMR runs them one after another on each node."""
        if not self._actions_left[node.id] or self.cluster.state != "BOOTSTRAPPING":
            return
        number, action = self._actions_left[node.id][0]
        try:
            script = self.runner.fetch(action.path, node)
        except (UserError, FailedError) as error:
            self._bootstrap_failed(node, action, str(error))
            return
        folder = self.runner.bootstrap_folder(node, number)
        command = ["bash", str(script), *action.args]
        self.nodes.run(node, BOOTSTRAP, command, folder / "stdout", folder / "stderr")

    def _bootstrap_failed(self, node: Instance, action: BootstrapAction, why: str) -> None:
        text = f"bootstrap action {action.name!r} failed on {node.role} node {node.id}: {why}"
        self.terminate("BOOTSTRAP_FAILURE", text)

    def _bootstrap(self) -> None:
        """When the actions are done, start the daemons; when the daemons serve, the cluster runs."""
        if any(self._actions_left.values()):
            return
        now = self.clock()
        serving = self._start_daemons(now)
        for node in self.cluster.instances:
            if node.id in serving and node.ready_at is None:
                node.state, node.ready_at = "RUNNING", now
        if all(node.ready_at for node in self.cluster.instances if node.is_up):
            self.cluster.move("RUNNING", now)
        elif now - self._daemons_since > DAEMONS_UP_WITHIN_S:
            late = [node.id for node in self.cluster.instances if not node.ready_at]
            self.terminate("INTERNAL_ERROR", f"nodes did not start in time: {', '.join(late)}")

    def _start_daemons(self, now: float) -> set[str]:
        """Start the master, and the workers once it serves: one that finds no master waits for seconds."""
        master = self.cluster.master
        if not self._daemon_starts:
            self._daemons_since = now
            self._start_daemon(master)
        serving = self.nodes.ready()
        if master.id in serving and len(self._daemon_starts) == 1:
            for node in self.cluster.up("CORE", "TASK"):
                self._start_daemon(node)
        return serving

    def _start_daemon(self, node: Instance) -> None:
        self._daemon_starts[node.id] = self._daemon_starts.get(node.id, 0) + 1
        self.nodes.start_daemon(node)

    def _run_steps(self) -> None:
        """Start the next step; without one, wait or end."""
        cluster, now = self.cluster, self.clock()
        if cluster.running_step():
            return
        if pending := cluster.pending_steps():
            self._idle_since = None
            cluster.move("RUNNING", now)
            self.runner.start(pending[0], now)
            if pending[0].is_over:
                self._step_over(pending[0])
        elif not cluster.keep_alive:
            failed = any(step.state == "FAILED" for step in cluster.steps)
            # EMR's own words; its state is TERMINATED in both cases.
            self.terminate("ALL_STEPS_COMPLETED", f"Steps completed{' with errors' if failed else ''}")
        else:
            self._wait(now)

    def _wait(self, now: float) -> None:
        cluster = self.cluster
        cluster.move("WAITING", now)
        self._idle_since = self._idle_since or now
        limit = cluster.idle_timeout_s
        if limit is not None and now - self._idle_since >= limit:
            if cluster.protected:
                self._idle_since = now  # as EMR: a protected cluster is not terminated by its policy
            else:
                self.terminate("USER_REQUEST", f"auto-terminated after {limit} s without a step")

    def _ended(self, instance_id: str, task: str, exit_code: int) -> None:
        node = self.cluster.instance(instance_id)
        assert node is not None
        if self.cluster.state == "TERMINATING":
            return
        if task == DRIVER:
            running = self.cluster.running_step()
            if running:
                self.runner.exited(running, exit_code, self.clock())
                self._step_over(running)
        elif task == BOOTSTRAP:
            self._bootstrap_action_ended(node, exit_code)
        elif task == DAEMON:
            self._daemon_ended(node, exit_code)

    def _bootstrap_action_ended(self, node: Instance, exit_code: int) -> None:
        _, action = self._actions_left[node.id].pop(0)
        if exit_code:
            self._bootstrap_failed(node, action, f"exit code {exit_code}")
        else:
            self._next_bootstrap_action(node)

    def _daemon_ended(self, node: Instance, exit_code: int) -> None:
        """A node whose daemon ends while starting gets another try; one that was up is lost."""
        starting = self.cluster.state == "BOOTSTRAPPING" and node.ready_at is None
        if starting and self._daemon_starts[node.id] < STARTS_OF_A_DAEMON and node.role != "MASTER":
            self._start_daemon(node)
            return
        self.nodes.stop_node(node)
        node.end(self.clock(), f"its Spark daemon ended with exit code {exit_code}")
        if self.cluster.keep_alive and self.nodes.is_replaced(node):
            self.cluster.instances.append(node.replacement(self.clock()))
        if node.role == "MASTER":
            self.terminate("INSTANCE_FAILURE", f"the MASTER node {node.id} was lost")
        elif not self.cluster.up("CORE"):
            self.terminate("INSTANCE_FAILURE", f"no CORE node is left; the last one lost was {node.id}")

    def _bring_up_replacements(self) -> None:
        """As EMR does for a lost node: another one joins, with its daemon only."""
        coming = [node for node in self.cluster.up("CORE", "TASK") if node.ready_at is None]
        new = any(node.state == "PROVISIONING" for node in coming)
        if not (new if self.cluster.state == "BOOTSTRAPPING" else coming):
            return
        there, serving = self.nodes.provisioned(), self.nodes.ready()
        for node in coming:
            if node.state == "PROVISIONING" and node.id in there:
                node.state = "BOOTSTRAPPING"
                self._start_daemon(node)
            elif node.state == "BOOTSTRAPPING" and node.id in serving:
                node.state, node.ready_at = "RUNNING", self.clock()

    def _step_over(self, step: Step) -> None:
        """A failed step decides, by its ActionOnFailure, about the steps after it and the cluster."""
        action = step.action_on_failure
        if step.state != "FAILED" or action == "CONTINUE":
            return
        if action == "TERMINATE_CLUSTER" and not (self.cluster.protected and self.cluster.keep_alive):
            self.terminate("STEP_FAILURE", f"step {step.name!r} failed: {step.failure}")
        else:
            self._cancel_pending("a step before it failed")

    def _cancel_pending(self, reason: str) -> None:
        for step in self.cluster.pending_steps():
            step.end("CANCELLED", self.clock(), reason)

    def terminate(self, code: str, message: str) -> None:
        """Begin the end: nothing new is started from here on."""
        self.cluster.move("TERMINATING", self.clock(), code, message)

    def _finish(self) -> None:
        """End all processes, put the logs, and take the final state."""
        cluster = self.cluster
        running = cluster.running_step()
        clean = cluster.code in ("ALL_STEPS_COMPLETED", "USER_REQUEST")
        if running:
            state = "CANCELLED" if clean else "INTERRUPTED"
            self.runner.stop(running, self.clock(), state, f"the cluster was terminated: {cluster.message}")
        self._cancel_pending("the cluster was terminated")
        self.nodes.stop_all()
        for node in cluster.instances:
            if node.is_up:
                node.end(self.clock(), "the cluster was terminated")
        self.runner.upload_node_logs()
        cluster.move("TERMINATED" if clean else "TERMINATED_WITH_ERRORS", self.clock())


def serve(manager: Manager, journal: Journal, stop_asked: Event) -> None:
    """Run a cluster to its end, writing its journal at every change and before every answer."""

    def answer(operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
        result = operations.HANDLERS[operation](manager, parameters)
        journal.write(manager.cluster)
        return result

    control = ControlServer(journal.socket, answer)
    written = ""
    while not manager.cluster.is_over:
        if stop_asked.is_set() and manager.cluster.state != "TERMINATING":
            manager.terminate("USER_REQUEST", "the manager was told to end")
        manager.step()
        if (state := repr(manager.cluster)) != written:
            journal.write(manager.cluster)
            written = state
        control.serve(TICK_S)
    control.close()
    journal.clean()


def manage(journal: Journal, settings: Settings, stop_asked: Event) -> Cluster:
    """Manage the cluster of a folder, whose lock the caller holds, to its end; how it ended."""
    cluster, request = journal.read(), parse(journal.request())
    cluster.manager_pid, cluster.manager_started = os.getpid(), psutil.Process().create_time()
    kind = AgentNodes if settings.nodes else ProcessNodes
    nodes: Nodes = kind(cluster, settings, journal, request.spark_defaults)
    manager = Manager(cluster, request, nodes, StepRunner(cluster, settings, journal, nodes), time.time)
    try:
        serve(manager, journal, stop_asked)
    finally:
        nodes.stop_all()
    return cluster


def main() -> int:
    """`python -m infra.cluster.manager FOLDER`: manage the cluster of a folder whose lock is inherited."""
    stop_asked = Event()
    signal.signal(signal.SIGTERM, lambda *_: stop_asked.set())
    settings = Settings.load()
    with lifeline(settings):
        manage(Journal(Path(sys.argv[1])), settings, stop_asked)
    return 0


if __name__ == "__main__":
    process.configure_logging()
    sys.exit(main())
