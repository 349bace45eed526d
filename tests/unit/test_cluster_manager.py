"""The manager's decisions, with nodes that do as they are told and a clock that is turned by hand.

The same manager runs real nodes in tests/integration/test_cluster.py and tests/faults.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import cast

import pytest

from infra.cluster.client import new_cluster
from infra.cluster.journal import Journal
from infra.cluster.manager import DAEMONS_UP_WITHIN_S, Manager
from infra.cluster.model import Instance, Step
from infra.cluster.nodes import BOOTSTRAP, DAEMON, DRIVER
from infra.cluster.request import parse
from infra.cluster.sizing import plan
from infra.cluster.steps import StepRunner
from infra.local.ports import HOST, free_ports
from infra.settings import Settings
from tests import cluster_cases as cases


class HandledNodes:
    """Nodes whose daemons serve at once and whose tasks end when a test says so."""

    def __init__(self) -> None:
        self.serving: set[str] = set()
        self.late: set[str] = set()
        self.running: list[tuple[str, str]] = []
        self.over: list[tuple[str, str, int]] = []
        self.there: set[str] = set()
        self.replaced = False

    def provisioned(self) -> set[str]:
        return self.there

    def is_replaced(self, node: Instance) -> bool:
        return self.replaced

    def start_daemon(self, node: Instance) -> None:
        self.running.append((node.id, DAEMON))
        if node.id not in self.late:
            self.serving.add(node.id)

    def ready(self) -> set[str]:
        return set(self.serving)

    def run(self, node: Instance, task: str, command: Sequence[str], output: Path, errors: Path) -> None:
        self.running.append((node.id, task))

    def ended(self) -> list[tuple[str, str, int]]:
        over, self.over = self.over, []
        return over

    def end(self, node: Instance, task: str, exit_code: int) -> None:
        self.running.remove((node.id, task))
        self.over.append((node.id, task, exit_code))

    def stop_task(self, node: Instance, task: str) -> None:
        self.running.remove((node.id, task))

    def stop_node(self, node: Instance) -> None:
        self.running = [entry for entry in self.running if entry[0] != node.id]

    def stop_all(self) -> None:
        self.running = []


class HandledSteps:
    """Steps without spark-submit: the driver is a task of the handled nodes."""

    def __init__(self, nodes: HandledNodes, master: Instance) -> None:
        self.nodes, self.master = nodes, master
        self.logs_uploaded = False

    def start(self, step: Step, at: float) -> None:
        step.state, step.started_at = "RUNNING", at
        self.nodes.run(self.master, DRIVER, [], Path(), Path())

    def exited(self, step: Step, exit_code: int, at: float) -> None:
        step.end("FAILED" if exit_code else "COMPLETED", at)

    def stop(self, step: Step, at: float, state: str, reason: str) -> None:
        self.nodes.stop_task(self.master, DRIVER)
        step.end(state, at, reason)

    def fetch(self, path: str, node: Instance) -> Path:
        return Path(path)

    def bootstrap_folder(self, node: Instance, number: int) -> Path:
        return Path(node.id) / str(number)

    def upload_node_logs(self) -> None:
        self.logs_uploaded = True


class Handled:
    """A manager of a handled cluster, and its clock."""

    def __init__(self, *, late: int = 0, **request: object) -> None:
        """`late`: so many nodes, from the last, never serve."""
        raw = cases.request(**request)  # type: ignore[arg-type]  # a test's own words
        parsed = parse(raw)
        self.now = 1000.0
        self.cluster = new_cluster(parsed, raw, plan(parsed, 4, 64_000), self.now)
        self.nodes = HandledNodes()
        self.nodes.there = {node.id for node in self.cluster.instances}
        self.nodes.late = {node.id for node in self.cluster.instances[len(self.cluster.instances) - late :]}
        self.runner = HandledSteps(self.nodes, self.cluster.master)
        runner = cast(StepRunner, self.runner)
        self.manager = Manager(self.cluster, parsed, self.nodes, runner, lambda: self.now)

    def ticks(self, count: int = 4, seconds: float = 0.1) -> None:
        """Let time pass."""
        for _ in range(count):
            if not self.cluster.is_over:
                self.now += seconds
                self.manager.step()

    def workers(self, role: str = "CORE") -> list[Instance]:
        return [node for node in self.cluster.instances if node.role == role]


def test_a_waiting_cluster_ends_after_its_idle_timeout() -> None:
    """The time counts from the last step on, and a protected cluster is left alone."""
    handled = Handled(keep=True, AutoTerminationPolicy={"IdleTimeout": 60})
    handled.ticks()
    assert handled.cluster.state == "WAITING"
    handled.cluster.protected = True
    handled.ticks(7, 10)
    assert handled.cluster.state == "WAITING"
    handled.cluster.protected = False
    handled.ticks(4, 10)
    assert handled.cluster.state == "WAITING"
    handled.ticks(4, 10)
    assert (handled.cluster.state, handled.cluster.code) == ("TERMINATED", "USER_REQUEST")


def test_a_step_stops_the_idle_clock() -> None:
    """A cluster that runs a step is not idle, however long it takes."""
    handled = Handled(keep=True, AutoTerminationPolicy={"IdleTimeout": 60})
    handled.ticks()
    handled.cluster.steps.append(Step("s-1", "late", [], "CONTINUE", handled.now))
    handled.ticks(10, 60)
    assert handled.cluster.state == "RUNNING"
    handled.nodes.end(handled.cluster.master, DRIVER, 0)
    handled.ticks(3)
    assert handled.cluster.state == "WAITING"


def test_a_lost_core_node_leaves_the_rest_working() -> None:
    """The step goes on with the nodes that are left; with none left the cluster fails."""
    handled = Handled(core=2)
    handled.cluster.steps.append(Step("s-1", "job", [], "CONTINUE", handled.now))
    handled.ticks()
    first, second = handled.workers()
    handled.nodes.end(first, DAEMON, -9)
    handled.ticks(2)
    assert (first.state, handled.cluster.state) == ("TERMINATED", "RUNNING")
    handled.nodes.end(second, DAEMON, -9)
    handled.ticks(2)
    assert (handled.cluster.state, handled.cluster.code) == ("TERMINATED_WITH_ERRORS", "INSTANCE_FAILURE")
    assert [step.state for step in handled.cluster.steps] == ["INTERRUPTED"]
    assert handled.runner.logs_uploaded
    assert handled.nodes.running == []


def test_a_lost_master_ends_the_cluster() -> None:
    """Without its master no step can go on."""
    handled = Handled(keep=True)
    handled.ticks()
    handled.nodes.end(handled.cluster.master, DAEMON, 1)
    handled.ticks(2)
    assert (handled.cluster.state, handled.cluster.code) == ("TERMINATED_WITH_ERRORS", "INSTANCE_FAILURE")


def test_a_daemon_that_ends_at_its_start_gets_another_try() -> None:
    """Its port may have been taken: three tries, then the node is lost."""
    handled = Handled(keep=True, late=1)
    worker = handled.workers()[0]
    handled.ticks(3)
    for _ in range(2):
        handled.nodes.end(worker, DAEMON, 1)
        handled.ticks(1)
        assert (worker.id, DAEMON) in handled.nodes.running
    handled.nodes.end(worker, DAEMON, 1)
    handled.ticks(2)
    assert handled.cluster.code == "INSTANCE_FAILURE"


def test_nodes_that_never_serve_end_the_cluster() -> None:
    """A cluster does not start for ever."""
    handled = Handled(keep=True, late=1)
    handled.ticks(10, DAEMONS_UP_WITHIN_S / 5)
    assert (handled.cluster.state, handled.cluster.code) == ("TERMINATED_WITH_ERRORS", "INTERNAL_ERROR")


@pytest.mark.parametrize(
    ("exit_code", "message"), [(0, "Steps completed"), (1, "Steps completed with errors")]
)
def test_a_transient_cluster_says_how_its_steps_went(exit_code: int, message: str) -> None:
    """CONTINUE lets a failed step's cluster end as TERMINATED; the reason tells, as EMR's does."""
    handled = Handled()
    handled.cluster.steps.append(Step("s-1", "job", [], "CONTINUE", handled.now))
    handled.ticks()
    handled.nodes.end(handled.cluster.master, DRIVER, exit_code)
    handled.ticks(3)
    assert (handled.cluster.state, handled.cluster.message) == ("TERMINATED", message)


def test_bootstrap_actions_run_one_after_another_on_every_node() -> None:
    """No daemon starts before every node has done all its actions; the first failure ends the cluster."""
    actions = [{"Name": name, "ScriptBootstrapAction": {"Path": f"{name}.sh"}} for name in ("a", "b")]
    handled = Handled(BootstrapActions=actions, keep=True)
    for _ in actions:
        handled.ticks(2)
        assert {task for _, task in handled.nodes.running} == {BOOTSTRAP}
        for node in handled.cluster.instances:
            handled.nodes.end(node, BOOTSTRAP, 0)
    handled.ticks(3)
    assert handled.cluster.state == "WAITING"
    failing = Handled(BootstrapActions=actions, keep=True)
    failing.ticks(2)
    failing.nodes.end(failing.cluster.master, BOOTSTRAP, 3)
    failing.ticks(3)
    assert (failing.cluster.state, failing.cluster.code) == ("TERMINATED_WITH_ERRORS", "BOOTSTRAP_FAILURE")


class Refusing(BaseHTTPRequestHandler):
    """An S3 server that refuses everybody everything."""

    def do_HEAD(self) -> None:
        self.send_response(403)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its own name
        """Not into the tests' output."""


@contextmanager
def refusing() -> Iterator[str]:
    """The endpoint of a server that answers 403."""
    with HTTPServer((HOST, 0), Refusing) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://{HOST}:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def with_s3(handled: Handled, home: Path, endpoint: str) -> None:
    """Give the manager real steps, whose scripts lie on an S3 server at this endpoint."""
    settings = replace(Settings.load({}), home=home, s3_endpoint=endpoint, access_key="a", secret_key="b")
    handled.cluster.log_uri = None
    handled.manager.runner = StepRunner(handled.cluster, settings, Journal(home), handled.nodes)


def test_an_s3_that_is_away_fails_a_step_and_not_the_cluster(tmp_path: Path) -> None:
    """No answer, then a refusal: each is one FAILED step that says what could not be looked for."""
    handled = Handled(keep=True)
    handled.ticks()
    (port,) = free_ports(1)
    with refusing() as endpoint:
        for number, address in enumerate((f"http://{HOST}:{port}", endpoint)):
            with_s3(handled, tmp_path, address)
            script = f"s3://test/{number}.py"
            step = Step(f"s-{number}", "job", [script], "CONTINUE", handled.now)
            handled.cluster.steps.append(step)
            handled.ticks(2)
            assert (step.state, handled.cluster.state) == ("FAILED", "WAITING")
            assert step.failure.startswith(f"the script {script} could not be looked for: ")
            assert "\n" not in step.failure
    assert "AccessDenied" in step.failure


def test_the_projects_code_that_can_not_be_put_fails_a_step(tmp_path: Path) -> None:
    """Its script is there; what S3 refuses is the zip."""
    handled = Handled(keep=True)
    (tmp_path / "job.py").write_text("")
    step = Step("s-1", "job", [str(tmp_path / "job.py")], "CONTINUE", handled.now)
    handled.cluster.steps.append(step)
    with refusing() as endpoint:
        with_s3(handled, tmp_path, endpoint)
        handled.ticks(5)
    assert (step.state, handled.cluster.state) == ("FAILED", "WAITING")
    assert step.failure.startswith("the project's code could not be put into S3: ")


def test_a_bootstrap_action_that_s3_refuses_ends_the_cluster_in_its_own_words(tmp_path: Path) -> None:
    """BOOTSTRAP_FAILURE with the action's address, instead of a manager that dies."""
    action = {"Name": "prepare", "ScriptBootstrapAction": {"Path": "s3://test/prepare.sh"}}
    handled = Handled(BootstrapActions=[action], keep=True)
    with refusing() as endpoint:
        with_s3(handled, tmp_path, endpoint)
        handled.ticks(3)
    assert (handled.cluster.state, handled.cluster.code) == ("TERMINATED_WITH_ERRORS", "BOOTSTRAP_FAILURE")
    assert "the script s3://test/prepare.sh could not be looked for" in handled.cluster.message
