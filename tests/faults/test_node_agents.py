"""Clusters whose nodes have agents, as in containers: here each has a loopback address of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from infra.cluster import Clusters
from infra.cluster.agent import Link, Order, State, Task
from infra.cluster.agent_nodes import end_ordered
from infra.cluster.model import Instance
from infra.settings import ROOT, Settings
from tests import cluster_cases as cases

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux has all of 127.0.0.0/8"),
]
HOSTS = ("127.0.0.2", "127.0.0.3", "127.0.0.4")


def start_agent(settings: Settings, host: str) -> subprocess.Popen[bytes]:
    """An agent as a process; a container would give it a name instead of --host."""
    command = [sys.executable, "-m", "infra.cluster.agent", "--host", host]
    return subprocess.Popen(command, env=settings.environment(), cwd=ROOT)


@pytest.fixture
def settings(s3_settings: Settings, tmp_path: Path) -> Settings:
    """The shared S3 server, a home of the test's own, and three hosts that stand."""
    return replace(s3_settings, home=tmp_path / "home", nodes=",".join(HOSTS), standing=1)


@pytest.fixture
def agents(settings: Settings) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """An agent on each host, ended after the test with all that it runs."""
    running = {host: start_agent(settings, host) for host in HOSTS}
    yield running
    for process in running.values():
        process.terminate()
    for process in running.values():
        assert process.wait(timeout=60) in (0, -signal.SIGTERM, 128 + signal.SIGTERM)


def test_a_step_runs_on_agents_and_a_lost_node_is_replaced(
    settings: Settings, agents: dict[str, subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    """A step is run on the agents' nodes; after kill -9 of one's container another node takes its place."""
    clusters, scripts = Clusters(settings), cases.scripts(tmp_path)
    cluster_id = clusters.run_job_flow(**cases.request(core=2, keep=True))["JobFlowId"]
    cases.wait_for_state(clusters, cluster_id, "WAITING")
    assert [node.host for node in clusters.read(cluster_id).instances] == list(HOSTS)

    def ends(script: str) -> str:
        steps = [cases.step(scripts / script)]
        (step_id,) = clusters.add_job_flow_steps(JobFlowId=cluster_id, Steps=steps)["StepIds"]
        cases.wait_for(lambda: clusters.read(cluster_id).step(step_id).is_over, script)  # type: ignore[union-attr]
        step = clusters.read(cluster_id).step(step_id)
        assert step is not None
        output = clusters.journal(cluster_id).step_folder(step_id) / "stdout"
        assert "sum" in output.read_text()
        return step.state

    assert ends("add.py") == "COMPLETED"
    lost = clusters.read(cluster_id).instances[1]
    agents[lost.host].send_signal(signal.SIGKILL)
    agents[lost.host].wait()
    cases.wait_for(lambda: not _node(clusters, cluster_id, lost.id).is_up, "the lost node is noticed")
    agents[lost.host] = start_agent(settings, lost.host)

    def replaced() -> bool:
        new = clusters.read(cluster_id).instances[-1]
        return new.id != lost.id and new.host == lost.host and new.state == "RUNNING"

    cases.wait_for(replaced, "another node takes its place")
    assert ends("add.py") == "COMPLETED"
    clusters.terminate_job_flows(JobFlowIds=[cluster_id])
    assert cases.wait_for_state(clusters, cluster_id, "TERMINATED").code == "USER_REQUEST"
    assert all(_runs_nothing(settings, host) for host in HOSTS)


def test_the_next_look_ends_what_agents_run_for_a_dead_manager(
    settings: Settings, agents: dict[str, subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    """kill -9 of the manager in a step: once the end is recorded no driver works on, and the agents serve."""
    clusters, script = Clusters(settings), cases.scripts(tmp_path) / "slow_add.py"
    cluster_id = clusters.run_job_flow(**cases.request(cases.step(script), core=2))["JobFlowId"]
    cluster = clusters.read(cluster_id)
    output = clusters.journal(cluster_id).step_folder(cluster.steps[0].id) / "stdout"
    cases.wait_for(lambda: output.exists() and b"started" in output.read_bytes(), "the step works")
    os.kill(clusters.read(cluster_id).manager_pid, signal.SIGKILL)
    cluster = cases.wait_for_state(clusters, cluster_id, "TERMINATED_WITH_ERRORS")
    assert [step.state for step in cluster.steps] == ["INTERRUPTED"]
    assert all(_runs_nothing(settings, host) for host in HOSTS)
    assert b"sum" not in output.read_bytes()
    body = cases.request(cases.step(script.parent / "add.py"), core=2)
    another = clusters.run_job_flow(**body)["JobFlowId"]
    ended = cases.wait_for_state(clusters, another, "TERMINATED", "TERMINATED_WITH_ERRORS")
    assert [step.state for step in ended.steps] == ["COMPLETED"]


def test_an_order_of_another_cluster_is_left(settings: Settings, tmp_path: Path) -> None:
    """Who finishes a dead manager's work takes back that manager's orders alone."""
    clusters = Clusters(settings)
    with clusters.create(**cases.request(core=2)) as (dead, _):
        pass
    with clusters.create(**cases.request(core=2)) as (other, _):
        pass
    links = [Link(settings.home, host) for host in HOSTS]
    held = [link.hold() for link in links]
    for link, journal in zip(links, (dead, other, other), strict=True):
        link.tell(State("life"))
        link.give(Order("life", str(journal.conf), [Task("a", ["true"], str(tmp_path / "a"))]))
    end_ordered(dead.read(), settings, dead)
    orders = [link.order() for link in links]
    assert [len(order.tasks) for order in orders if order] == [0, 1, 1]
    for descriptor in held:
        os.close(descriptor)


def test_a_second_agent_of_a_host_is_refused(
    settings: Settings, agents: dict[str, subprocess.Popen[bytes]]
) -> None:
    """One line, exit code 2; the first serves on."""
    host = HOSTS[0]
    cases.wait_for(lambda: Link(settings.home, host).state(), "the first serves")
    second = subprocess.run(
        [sys.executable, "-m", "infra.cluster.agent", "--host", host],
        env=settings.environment(), cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert second.returncode == 2
    assert "another agent serves" in second.stderr
    assert Link(settings.home, host).state() is not None


def _node(clusters: Clusters, cluster_id: str, node_id: str) -> Instance:
    node = clusters.read(cluster_id).instance(node_id)
    assert node is not None
    return node


def _runs_nothing(settings: Settings, host: str) -> bool:
    state = Link(settings.home, host).state()
    return state is not None and state.running == []
