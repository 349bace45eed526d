"""What may happen to a cluster from outside: Ctrl-C, kill -9 of a node or of the manager."""

from __future__ import annotations

import gzip
import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from infra.cluster import Clusters
from infra.cluster.model import Cluster
from infra.objects import ObjectStore
from infra.settings import Settings
from infra.supervisor import marked
from tests import cluster_cases as cases

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
SLOW_SUM = 20_000_000 * 128  # characters of so many SHA-512 sums in hexadecimal


@pytest.fixture
def settings(s3_settings: Settings, tmp_path: Path) -> Settings:
    """The shared S3 server and a home of the test's own."""
    return replace(s3_settings, home=tmp_path / "home")


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    """The scripts that steps run."""
    return cases.scripts(tmp_path)


def running_a_step(clusters: Clusters, cluster_id: str) -> Cluster:
    """Wait until a step's script has begun its work."""
    folder = clusters.journal(cluster_id).folder

    def started() -> bool:
        step = clusters.read(cluster_id).running_step()
        output = folder / "steps" / step.id / "stdout" if step else None
        return output is not None and output.exists() and b"started" in output.read_bytes()

    cases.wait_for(started, "the step's script works")
    return clusters.read(cluster_id)


def daemon_of(cluster: Cluster, instance_id: str) -> int:
    """The pid of a node's Spark daemon."""
    of_node = marked(f"{cluster.id}/{instance_id}/spark")
    return min(of_node, key=lambda process: process.create_time()).pid  # executors are its children


def test_a_core_node_is_killed_in_the_middle_of_a_step(settings: Settings, scripts: Path) -> None:
    """kill -9 of one of two: the step goes on with the other and its sum is right."""
    clusters = Clusters(settings)
    body = cases.request(cases.step(scripts / "slow_add.py"), core=2)
    cluster_id = clusters.run_job_flow(**body)["JobFlowId"]
    cluster = running_a_step(clusters, cluster_id)
    lost = cluster.up("CORE")[0]
    os.kill(daemon_of(cluster, lost.id), signal.SIGKILL)
    cases.wait_for(lambda: clusters.read(cluster_id).up("CORE") != cluster.up("CORE"), "the loss is seen")
    assert list(marked(f"{cluster_id}/{lost.id}")) == []
    cluster = cases.wait_for_state(clusters, cluster_id, "TERMINATED", "TERMINATED_WITH_ERRORS")
    assert (cluster.state, cluster.steps[0].state) == ("TERMINATED", "COMPLETED")
    logs = f"s3://test/logs/{cluster_id}/steps/{cluster.steps[0].id}"
    output = gzip.decompress(ObjectStore(settings).get(f"{logs}/stdout.gz")).decode()
    assert output.splitlines()[-1] == f"sum {SLOW_SUM}"
    assert cases.left_over(cluster_id) == []


def test_the_last_core_node_is_killed(settings: Settings, scripts: Path) -> None:
    """With no core node left the step is interrupted and the cluster ends with errors."""
    clusters = Clusters(settings)
    cluster_id = clusters.run_job_flow(**cases.request(cases.step(scripts / "slow_add.py")))["JobFlowId"]
    cluster = running_a_step(clusters, cluster_id)
    os.kill(daemon_of(cluster, cluster.up("CORE")[0].id), signal.SIGKILL)
    cluster = cases.wait_for_state(clusters, cluster_id, "TERMINATED", "TERMINATED_WITH_ERRORS")
    assert (cluster.state, cluster.code) == ("TERMINATED_WITH_ERRORS", "INSTANCE_FAILURE")
    assert [step.state for step in cluster.steps] == ["INTERRUPTED"]
    assert cases.left_over(cluster_id) == []


def test_the_manager_is_killed(settings: Settings, scripts: Path) -> None:
    """kill -9 of the manager: the next look ends what is left, puts the logs and records the end."""
    clusters = Clusters(settings)
    steps = [cases.step(scripts / "slow_add.py"), cases.step(scripts / "hello.py")]
    cluster_id = clusters.run_job_flow(**cases.request(*steps))["JobFlowId"]
    cluster = running_a_step(clusters, cluster_id)
    os.kill(cluster.manager_pid, signal.SIGKILL)
    cases.wait_for(
        lambda: clusters.list_clusters(ClusterStates=["TERMINATED_WITH_ERRORS"])["Clusters"], "end"
    )
    cluster = clusters.read(cluster_id)
    assert cluster.code == "INTERNAL_ERROR"
    assert [step.state for step in cluster.steps] == ["INTERRUPTED", "CANCELLED"]
    assert cases.left_over(cluster_id) == []
    logs = f"s3://test/logs/{cluster_id}"
    store = ObjectStore(settings)
    assert gzip.decompress(store.get(f"{logs}/steps/{cluster.steps[0].id}/stdout.gz")).startswith(b"started")
    assert store.exists(f"{logs}/node/{cluster.master.id}/applications/spark/daemon.log.gz")


def interrupted(settings: Settings, folder: Path, body: dict[str, object]) -> tuple[int, str, str]:
    """Ctrl-C for a `run` in the middle of its step: exit code, output, cluster id."""
    path = folder / "request.json"
    path.write_text(json.dumps(body))
    process = cases.command(settings, "run", str(path))
    clusters = Clusters(settings)
    cluster_id = cases.wait_for(lambda: clusters.list_clusters()["Clusters"], "a cluster")[0]["Id"]
    running_a_step(clusters, cluster_id)
    process.send_signal(signal.SIGINT)
    code, output, _ = cases.ended(process)
    return code, output, cluster_id


def test_ctrl_c_terminates_the_cluster(settings: Settings, scripts: Path, tmp_path: Path) -> None:
    """Ctrl-C in the middle of a step: exit code 130, the step CANCELLED, the cluster TERMINATED."""
    code, _, cluster_id = interrupted(settings, tmp_path, cases.request(cases.step(scripts / "slow_add.py")))
    cluster = Clusters(settings).read(cluster_id)
    assert code == 130
    assert (cluster.state, cluster.code) == ("TERMINATED", "USER_REQUEST")
    assert [step.state for step in cluster.steps] == ["CANCELLED"]
    assert cases.left_over(cluster_id) == []


def test_ctrl_c_leaves_a_protected_cluster(settings: Settings, scripts: Path, tmp_path: Path) -> None:
    """A protected cluster goes on, and the two commands that are printed end it."""
    body = cases.request(
        cases.step(scripts / "slow_add.py"), keep=True, Instances={"TerminationProtected": True}
    )
    code, output, cluster_id = interrupted(settings, tmp_path, body)
    assert code == 130
    assert Clusters(settings).read(cluster_id).state == "RUNNING"
    commands = [line.split("infra.cluster ")[1] for line in output.splitlines() if "-m infra.cluster" in line]
    assert len(commands) == 2
    for line in commands:
        code, _, _ = cases.ended(cases.command(settings, *line.split()))
        assert code == 0
    cases.wait_for_state(Clusters(settings), cluster_id, "TERMINATED")
    assert cases.left_over(cluster_id) == []
