"""Clusters on real Spark: a long-running one that takes steps, and transient ones that end by themselves."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from infra.cluster import Clusters
from infra.cluster.watch import wait
from infra.contracts.errors import UserError
from infra.objects import ObjectStore
from infra.settings import Settings
from tests import cluster_cases as cases

pytestmark = pytest.mark.timeout(1200)


@pytest.fixture(scope="module")
def settings(s3_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The shared S3 server and a home of this file's own."""
    return replace(s3_settings, home=tmp_path_factory.mktemp("clusters"))


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts that steps run."""
    return cases.scripts(tmp_path_factory.mktemp("scripts"))


@pytest.fixture(scope="module")
def waiting(settings: Settings) -> Iterator[str]:
    """The id of a long-running cluster in state WAITING; it is terminated afterwards."""
    clusters = Clusters(settings)
    cluster_id = clusters.run_job_flow(**cases.request(keep=True))["JobFlowId"]
    cases.wait_for_state(clusters, cluster_id, "WAITING")
    yield cluster_id
    clusters.set_termination_protection(JobFlowIds=[cluster_id], TerminationProtected=False)
    clusters.terminate_job_flows(JobFlowIds=[cluster_id])
    assert cases.wait_for_state(clusters, cluster_id, "TERMINATED").code == "USER_REQUEST"
    assert cases.left_over(cluster_id) == []


def states(clusters: Clusters, cluster_id: str, added: list[str]) -> list[str]:
    """Wait until a cluster waits, and give the states of these steps."""
    cluster = wait(clusters, cluster_id, lambda _: None)
    assert cluster.state == "WAITING"
    return [step.state for step in cluster.steps if step.id in added]


def add(clusters: Clusters, cluster_id: str, *steps: dict[str, object]) -> list[str]:
    """Add steps; their ids."""
    added: list[str] = clusters.add_job_flow_steps(JobFlowId=cluster_id, Steps=steps)["StepIds"]
    return added


def test_steps_come_from_different_commands(
    settings: Settings, waiting: str, scripts: Path, tmp_path: Path
) -> None:
    """A long-running cluster runs steps that other processes add; their logs are in S3 as EMR has them."""
    steps_file = tmp_path / "steps.json"
    ids = []
    for word in ("one", "two"):
        steps_file.write_text(json.dumps({"Steps": [cases.step(scripts / "hello.py", word)]}))
        process = cases.command(settings, "add-job-flow-steps", waiting, str(steps_file))
        code, output, errors = cases.ended(process)
        assert code == 0, errors
        ids += json.loads(output)["StepIds"]
    assert states(Clusters(settings), waiting, ids) == ["COMPLETED", "COMPLETED"]
    store = ObjectStore(settings)
    logs = f"s3://test/logs/{waiting}/steps/{ids[1]}"
    assert gzip.decompress(store.get(f"{logs}/stdout.gz")) == b"hello two\n"
    assert b"exitCode 0" in gzip.decompress(store.get(f"{logs}/controller.gz"))
    assert store.exists(f"{logs}/stderr.gz")


def test_a_script_in_s3_computes_on_the_executors(settings: Settings, waiting: str) -> None:
    """A step's script may lie in S3; the sum that it makes on the core node is right."""
    store = ObjectStore(settings)
    store.put("s3://test/scripts/add.py", cases.SCRIPTS["add.py"].encode())
    ids = add(Clusters(settings), waiting, cases.step("s3://test/scripts/add.py"))
    assert states(Clusters(settings), waiting, ids) == ["COMPLETED"]
    output = gzip.decompress(store.get(f"s3://test/logs/{waiting}/steps/{ids[0]}/stdout.gz"))
    assert output == b"sum 499500\n"


def test_continue_goes_on_after_a_failure(settings: Settings, waiting: str, scripts: Path) -> None:
    """CONTINUE: the failed step says why and with which exit code, the next one runs."""
    clusters = Clusters(settings)
    failing = cases.step(scripts / "fail.py")
    ids = add(clusters, waiting, failing, cases.step(scripts / "hello.py"))
    assert states(clusters, waiting, ids) == ["FAILED", "COMPLETED"]
    step = clusters.read(waiting).step(ids[0])
    assert step is not None
    assert (step.exit_code, step.failure) == (3, "the input is missing")
    listed = clusters.list_steps(ClusterId=waiting, StepIds=ids[:1])["Steps"][0]
    assert listed["Status"]["FailureDetails"]["Message"] == "the input is missing"


def test_cancel_and_wait_cancels_what_follows(settings: Settings, waiting: str, scripts: Path) -> None:
    """CANCEL_AND_WAIT: the steps after the failed one are cancelled, the cluster waits."""
    clusters = Clusters(settings)
    failing = cases.step(scripts / "crash.py", on_failure="CANCEL_AND_WAIT")
    ids = add(clusters, waiting, failing, cases.step(scripts / "hello.py"))
    assert states(clusters, waiting, ids) == ["FAILED", "CANCELLED"]
    step = clusters.read(waiting).step(ids[0])
    assert step is not None
    assert step.failure == "RuntimeError: boom"


def test_steps_can_be_cancelled(settings: Settings, waiting: str, scripts: Path) -> None:
    """A running step's processes are ended, a pending step never runs, an ended one can't be cancelled."""
    clusters = Clusters(settings)
    ids = add(clusters, waiting, cases.step(scripts / "sleep.py"), cases.step(scripts / "hello.py"))
    cases.wait_for(lambda: clusters.read(waiting).running_step(), "the first step runs")
    answer = clusters.cancel_steps(ClusterId=waiting, StepIds=[ids[1], ids[0]])["CancelStepsInfoList"]
    assert [entry["Status"] for entry in answer] == ["SUBMITTED", "SUBMITTED"]
    assert states(clusters, waiting, ids) == ["CANCELLED", "CANCELLED"]
    answer = clusters.cancel_steps(ClusterId=waiting, StepIds=[ids[0], "s-NONE"])["CancelStepsInfoList"]
    assert [entry["Status"] for entry in answer] == ["FAILED", "FAILED"]


def test_protection_keeps_the_cluster(settings: Settings, waiting: str, scripts: Path) -> None:
    """A protected cluster refuses to be terminated, and survives a step that would terminate it."""
    clusters = Clusters(settings)
    clusters.set_termination_protection(JobFlowIds=[waiting], TerminationProtected=True)
    with pytest.raises(UserError, match="protected"):
        clusters.terminate_job_flows(JobFlowIds=[waiting])
    failing = cases.step(scripts / "fail.py", on_failure="TERMINATE_CLUSTER")
    ids = add(clusters, waiting, failing, cases.step(scripts / "hello.py"))
    assert states(clusters, waiting, ids) == ["FAILED", "CANCELLED"]


def test_a_running_cluster_is_described_in_aws_shapes(settings: Settings, waiting: str) -> None:
    """Describe and list answer what botocore's model of EMR knows, and nothing else."""
    clusters = Clusters(settings)
    cluster = clusters.describe_cluster(ClusterId=waiting)["Cluster"]
    assert cluster["Status"]["State"] == "WAITING"
    assert not cluster["AutoTerminate"]
    nodes = clusters.list_instances(ClusterId=waiting)["Instances"]
    assert [node["Status"]["State"] for node in nodes] == ["RUNNING", "RUNNING"]
    assert waiting in [entry["Id"] for entry in clusters.list_clusters()["Clusters"]]
    with pytest.raises(UserError, match="there is no cluster"):
        clusters.describe_cluster(ClusterId="j-NONE")


def test_a_transient_cluster_ends_by_itself(settings: Settings, scripts: Path, tmp_path: Path) -> None:
    """`run`: a bootstrap action, a step, TERMINATED, exit code 0, node logs in S3, no process left."""
    action = tmp_path / "action.sh"
    action.write_text("echo prepared $1")
    bootstrap = {"Name": "prepare", "ScriptBootstrapAction": {"Path": str(action), "Args": ["well"]}}
    body = cases.request(cases.step(scripts / "add.py"), BootstrapActions=[bootstrap])
    code, output, errors = cases.run(settings, tmp_path, body)
    assert code == 0, output + errors
    clusters = Clusters(settings)
    cluster = clusters.read(cases.newest(clusters))
    assert (cluster.state, cluster.code) == ("TERMINATED", "ALL_STEPS_COMPLETED")
    seen = [state for state, _ in cluster.states]
    assert seen == ["STARTING", "BOOTSTRAPPING", "RUNNING", "TERMINATING", "TERMINATED"]
    store = ObjectStore(settings)
    node_logs = f"s3://test/logs/{cluster.id}/node/{cluster.master.id}"
    assert gzip.decompress(store.get(f"{node_logs}/bootstrap-actions/1/stdout.gz")) == b"prepared well\n"
    assert store.exists(f"{node_logs}/applications/spark/daemon.log.gz")
    assert cases.left_over(cluster.id) == []


def test_a_failing_step_terminates_the_cluster(settings: Settings, scripts: Path, tmp_path: Path) -> None:
    """TERMINATE_CLUSTER with a script that isn't there: the next step is cancelled, exit code 1."""
    missing = cases.step(tmp_path / "missing.py", on_failure="TERMINATE_CLUSTER")
    body = cases.request(missing, cases.step(scripts / "hello.py"))
    code, output, _ = cases.run(settings, tmp_path, body)
    assert code == 1
    clusters = Clusters(settings)
    cluster = clusters.read(cases.newest(clusters))
    assert (cluster.state, cluster.code) == ("TERMINATED_WITH_ERRORS", "STEP_FAILURE")
    assert [step.state for step in cluster.steps] == ["FAILED", "CANCELLED"]
    assert "missing.py does not exist" in output
    assert cases.left_over(cluster.id) == []


def test_a_failing_bootstrap_action_ends_the_cluster(
    settings: Settings, scripts: Path, tmp_path: Path
) -> None:
    """A bootstrap action that fails: BOOTSTRAP_FAILURE, no step runs, exit code 1."""
    action = tmp_path / "action.sh"
    action.write_text("exit 9")
    body = cases.request(
        cases.step(scripts / "hello.py"),
        BootstrapActions=[{"Name": "broken", "ScriptBootstrapAction": {"Path": str(action)}}],
    )
    code, output, _ = cases.run(settings, tmp_path, body)
    assert code == 1
    clusters = Clusters(settings)
    cluster = clusters.read(cases.newest(clusters))
    assert (cluster.state, cluster.code) == ("TERMINATED_WITH_ERRORS", "BOOTSTRAP_FAILURE")
    assert [step.state for step in cluster.steps] == ["CANCELLED"]
    assert "'broken' failed" in output
    assert "exit code 9" in output


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"Surprise": 1}, "Surprise"),
        ({"SecurityConfiguration": "locked"}, "SecurityConfiguration"),
        ({"StepConcurrencyLevel": 2}, "StepConcurrencyLevel"),
    ],
)
def test_a_refused_request_starts_nothing(
    settings: Settings, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    """What can't be honoured is refused by name with exit code 2, before any cluster exists."""
    before = Clusters(settings).list_clusters()
    code, _, errors = cases.run(settings, tmp_path, {**cases.request(), **change})
    assert code == 2
    assert errors.startswith("error: ")
    assert message in errors
    assert errors.count("\n") == 1
    assert Clusters(settings).list_clusters() == before


def test_too_many_nodes_are_refused_with_the_count_that_fits(settings: Settings, tmp_path: Path) -> None:
    """A request that doesn't fit into memory exits with 2 and says how many nodes would."""
    small = replace(settings, memory_mb=4000)
    code, _, errors = cases.run(small, tmp_path, cases.request(core=20))
    assert code == 2
    assert "at most" in errors
