"""Commands to a manager that is busy or gone: what the caller is told, and what is carried out."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from infra.cluster import Clusters, client, control, views, watch
from infra.cluster.control import ControlServer, call
from infra.cluster.journal import Journal
from infra.cluster.model import Cluster
from infra.contracts.errors import FailedError
from infra.settings import Settings
from tests import cluster_cases as cases


class Manager:
    """The manager's side of a socket, which answers when a test lets it, and what it carried out."""

    def __init__(self, path: Path) -> None:
        self.done: list[str] = []
        self.control = ControlServer(path, self._carry_out)

    def _carry_out(self, operation: str, _parameters: dict[str, Any]) -> dict[str, Any]:
        self.done.append(operation)
        return {"done": operation}

    def serve_all(self) -> None:
        """Answer whatever has been asked."""
        for _ in range(5):
            self.control.serve(0.05)


@pytest.fixture
def clusters(tmp_path: Path) -> Clusters:
    """The clusters of a home of the test's own; no S3 server is asked for anything."""
    return Clusters(replace(Settings.load({}), home=tmp_path, s3_endpoint="http://127.0.0.1:9"))


def local_request() -> dict[str, Any]:
    """A request for a cluster whose logs go nowhere."""
    request = cases.request(keep=True)
    del request["LogUri"]
    return request


@pytest.fixture
def journal(clusters: Clusters) -> Journal:
    """A cluster that nobody manages."""
    with clusters.create(**local_request()) as (journal, _):
        return journal


@pytest.fixture
def manager(journal: Journal) -> Iterator[Manager]:
    """Its manager: it holds the lock and listens."""
    with journal.try_lock() as lock:
        assert lock is not None
        manager = Manager(journal.socket)
        yield manager
        manager.control.close()


def test_a_command_that_was_given_up_is_not_carried_out(
    journal: Journal, manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its caller has asked again, or has not: in both cases it is done as often as somebody waited for it."""
    monkeypatch.setattr(control, "ANSWER_WITHIN_S", 0.05)
    for _ in range(2):
        with pytest.raises(TimeoutError):
            call(journal.socket, "AddJobFlowSteps", {})
    manager.serve_all()
    assert manager.done == []
    monkeypatch.setattr(control, "ANSWER_WITHIN_S", 20.0)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(call, journal.socket, "AddJobFlowSteps", {})
        while not asked.done():
            manager.control.serve(0.05)
        assert asked.result() == {"done": "AddJobFlowSteps"}
    assert manager.done == ["AddJobFlowSteps"]


def test_a_busy_manager_is_one_line(
    clusters: Clusters, journal: Journal, manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Work that can't be done now, which every entry point prints without a traceback."""
    monkeypatch.setattr(control, "ANSWER_WITHIN_S", 0.05)
    with pytest.raises(FailedError, match=r"the manager of j-\w+ is busy .* try again$"):
        clusters.terminate_job_flows(JobFlowIds=[journal.folder.name])
    manager.serve_all()
    assert manager.done == []


def test_an_interrupt_asks_a_busy_manager_again(
    clusters: Clusters,
    journal: Journal,
    manager: Manager,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Nobody asks for the end a second time, so the command does until it is taken."""
    monkeypatch.setattr(control, "ANSWER_WITHIN_S", 0.2)
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(
            watch.insist, lambda: clusters.terminate_job_flows(JobFlowIds=[journal.folder.name])
        )
        cases.wait_for(lambda: "asking again" in capsys.readouterr().out, "it has asked twice")
        while not ended.done():
            manager.control.serve(0.05)
        ended.result()
    assert set(manager.done) == {"TerminateJobFlows"}


@pytest.mark.timeout(30)
def test_a_manager_that_dies_before_its_first_entry_is_not_waited_for(
    clusters: Clusters, journal: Journal
) -> None:
    """The lock is free and nothing is recorded: the cluster is over, and that is said."""
    with pytest.raises(FailedError, match="TERMINATED_WITH_ERRORS: the cluster's manager ended unexpectedly"):
        watch.wait_until_managed(clusters, journal.folder.name)
    assert journal.read().is_over


def test_a_cluster_that_is_being_made_is_not_taken_for_one_whose_manager_died(
    clusters: Clusters, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever sees it finds its lock held, from its first entry until its manager has the lock."""
    seen: list[str] = []
    write = Journal.write

    def look(*_: Any, **options: Any) -> None:
        seen.extend(each["Status"]["State"] for each in clusters.list_clusters()["Clusters"])
        assert options.get("inherit", 3) is not None

    def write_and_look(journal: Journal, cluster: Cluster) -> None:
        write(journal, cluster)
        look()

    monkeypatch.setattr(Journal, "write", write_and_look)
    monkeypatch.setattr(client, "start_detached", look)
    clusters.run_job_flow(**local_request())
    assert seen == ["STARTING", "STARTING"]


def test_a_replaced_node_is_not_one_more_requested(clusters: Clusters, journal: Journal) -> None:
    """A lost node and the one in its place count once, as EMR counts a group."""
    cluster = journal.read()
    lost = next(node for node in cluster.instances if node.role == "CORE")
    lost.end(1.0, "lost")
    cluster.instances.append(lost.replacement(2.0))
    assert cluster.replaced == {lost.id}
    groups = views.description(cluster)["InstanceGroups"]
    assert {group["InstanceGroupType"]: group["RequestedInstanceCount"] for group in groups} == {
        "MASTER": 1,
        "CORE": 1,
    }
