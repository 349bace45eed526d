"""The small parts of clusters: why a step failed, the code zip, the journal, the words of a watch."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.cluster import code, logs, watch
from infra.cluster.client import new_cluster
from infra.cluster.journal import Journal
from infra.cluster.model import Cluster
from infra.cluster.request import parse
from infra.cluster.sizing import plan
from tests import cluster_cases as cases

TRACEBACK = """26/11/24 INFO Starting
Traceback (most recent call last):
  File "job.py", line 1, in <module>
    raise ValueError("no")
ValueError: no
26/11/24 INFO Stopped
"""


def made(**request: object) -> Cluster:
    """A cluster that has just been asked for."""
    raw = cases.request(cases.step("job.py"), **request)  # type: ignore[arg-type]  # a test's own words
    parsed = parse(raw)
    return new_cluster(parsed, raw, plan(parsed, 4, 64_000), 1000.0)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("INFO x\nerror: no column 'a'\nINFO y\n", "no column 'a'"),
        (TRACEBACK, "ValueError: no"),
        ("INFO x\n", "exit code 7"),
        ("", "exit code 7"),
    ],
)
def test_the_reason_of_a_failure_is_one_line_of_its_errors(tmp_path: Path, text: str, reason: str) -> None:
    """A job's own error first, then the exception, then the bare exit code."""
    (tmp_path / "stderr").write_text("26/11/24 INFO Starting\n")
    (tmp_path / "stdout").write_text(text)
    assert logs.failure_message(tmp_path, 7) == reason


def test_equal_code_gives_an_equal_zip() -> None:
    """The zip is named by its content, so equal code must give equal bytes."""
    assert code.archive() == code.archive()


def test_a_journal_gives_back_what_was_written(tmp_path: Path) -> None:
    """Every field survives, and a lock that is held is seen to be."""
    journal, cluster = Journal(tmp_path), made(keep=True)
    cluster.move("BOOTSTRAPPING", 1001.5)
    journal.write(cluster)
    assert journal.read() == cluster
    with journal.try_lock() as first, journal.try_lock() as second:
        assert first is not None
        assert second is None


def test_a_cluster_never_leaves_its_final_state() -> None:
    """The transitions are EMR's."""
    cluster = made()
    cluster.move("TERMINATING", 1001.0, "USER_REQUEST", "enough")
    cluster.move("TERMINATED", 1002.0)
    assert cluster.ended_at == 1002.0
    with pytest.raises(AssertionError):
        cluster.move("RUNNING", 1003.0)


def test_a_watch_says_everything_once() -> None:
    """New states, ended steps and lost nodes are each one line, never repeated."""
    cluster, said = made(), set[str]()
    assert watch.state_lines(cluster, said) == [f"cluster {cluster.id} STARTING"]
    cluster.instances[1].end(1001.0, "killed")
    lines = watch.state_lines(cluster, said)
    assert lines == [f"CORE node {cluster.instances[1].id} is lost: killed"]
    assert watch.state_lines(cluster, said) == []
