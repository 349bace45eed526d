"""The console's looks at a home without servers, its topics, timeline, files and token."""

from __future__ import annotations

import fcntl
import os
import stat
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from infra.cluster.journal import Journal
from infra.cluster.model import Cluster, Instance, Step
from infra.console.board import Board
from infra.console.files import report_path, step_log
from infra.console.look_clusters import ClustersLook
from infra.console.look_processes import ProcessesLook
from infra.console.look_streams import data_set_of
from infra.console.render import render
from infra.console.state import Light, ShardState, StreamState
from infra.console.stream_rows import stream_rows
from infra.console.timeline import timeline
from infra.console.token_file import ensure_token, token_path
from infra.console.topic import NotThereError, Topic
from infra.console.views import Look, clusters, results, streams
from infra.metrics import Metrics
from infra.report.folder import write_report
from infra.settings import Settings
from infra.streams.records import Shard


def settings(home: Path) -> Settings:
    """Settings of a home in which nothing runs."""
    return replace(Settings.load({}), home=home)


def cluster(state: str = "RUNNING", name: str = "rollup") -> Cluster:
    """A cluster of two nodes with one step, created long ago."""
    nodes = [
        Instance(
            f"ci-{role}", f"ig-{role}", role, "m5.xlarge", "ON_DEMAND", 1, 512, 1_000.0, "RUNNING", 1_010.0
        )
        for role in ("MASTER", "CORE")
    ]
    step = Step("s-1", "<b>Rollup</b>", [], "CONTINUE", 1_000.0, "RUNNING", 1_020.0)
    return Cluster(
        id="j-1", name=name, release_label="spark-4.1.1", log_uri=None, created_at=1_000.0, keep_alive=False,
        protected=False, idle_timeout_s=None, spark_version="4.1.1", executor_memory_mb=1, driver_memory_mb=1,
        tags={}, notes=[], steps=[step], instances=nodes, state=state,
        states=[("STARTING", 1_000.0), ("RUNNING", 1_015.0)],
    )  # fmt: skip


def written(home: Path, what: Cluster) -> Journal:
    """Its journal."""
    journal = Journal(home / "clusters" / what.id)
    journal.folder.mkdir(parents=True)
    journal.write(what)
    journal.lock_file.touch()
    return journal


def test_a_cluster_without_manager_is_said_to_be_so_and_left_alone(tmp_path: Path) -> None:
    """The lock is free: manager gone. It is held: not. The journal is not touched either way."""
    journal = written(tmp_path, cluster())
    before = (journal.folder / "cluster.json").stat().st_mtime_ns
    (state,) = ClustersLook(tmp_path)()
    assert state.gone
    with journal.lock_file.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        (state,) = ClustersLook(tmp_path)()
        assert not state.gone
    assert (journal.folder / "cluster.json").stat().st_mtime_ns == before


def test_a_look_at_the_lock_leaves_it_free(tmp_path: Path) -> None:
    """A manager that starts after the look gets its lock."""
    journal = written(tmp_path, cluster())
    ClustersLook(tmp_path)()
    with journal.try_lock() as lock:
        assert lock is not None


def test_an_over_cluster_and_a_changed_journal(tmp_path: Path) -> None:
    """A journal that was rewritten is read again."""
    journal = written(tmp_path, cluster("TERMINATING"))
    look = ClustersLook(tmp_path)
    assert look()[0].cluster.state == "TERMINATING"
    over = cluster("TERMINATING")
    over.move("TERMINATED", 1_100.0)
    journal.write(over)
    os.utime(journal.folder / "cluster.json", ns=(1, 1))
    (state,) = look()
    assert state.cluster.state == "TERMINATED"
    assert not state.gone
    assert state.cost is not None


def test_the_timeline_fills_its_width() -> None:
    """Bars lie within 0 and 100 percent, in the order of time, and the running ones end now."""
    line = timeline(cluster(), 1_100.0)
    assert [lane.name for lane in line.lanes] == ["cluster", "step 1", "master", "core 1"]
    for lane in line.lanes:
        assert all(0 <= bar.left <= bar.left + bar.width <= 100.001 for bar in lane.bars)
    assert line.lanes[1].bars[0].left == pytest.approx(20)
    assert line.lanes[1].bars[0].left + line.lanes[1].bars[0].width == pytest.approx(100)


def test_what_others_wrote_is_escaped(tmp_path: Path) -> None:
    """A step's name is text on the page, whatever is in it."""
    written(tmp_path, cluster(name="<script>alert(1)</script>"))
    board = Board(settings(tmp_path))
    board.clusters.look()
    fragments, _ = clusters(board, Look(cluster="j-1"), 1_100.0)
    page = "".join(fragments.values())
    assert "<script>" not in page
    assert "&lt;b&gt;Rollup&lt;/b&gt;" in page


def test_an_empty_home_says_what_to_do(tmp_path: Path) -> None:
    """Without anything every page is made all the same, and says which command makes something."""
    board = Board(settings(tmp_path))
    for topic in (board.servers, board.clusters, board.results, board.streams):
        topic.look()
    assert board.streams.reading.error == "Kafka is not running"
    assert "make batch-job" in clusters(board, Look(), 0.0)[0]["clusters"]
    assert "make batch-job" in results(board, Look(), 0.0)[0]["reports"]
    assert "Kafka is not running" in streams(board, Look(), 0.0)[0]["streams"]


def test_shares_are_of_the_tighter_limit() -> None:
    """A shard's share is the greater of its records and its bytes; bytes without a producer are unknown."""
    state = StreamState(
        "transactions",
        "id",
        (ShardState(0, 10, 500.0), ShardState(1, 20, 100.0)),
        {"g": {0: 3, 1: 4}},
        {},
        (),
    )
    (row,) = stream_rows([state], {Shard("transactions", 1): 900_000.0})
    assert [shard.share for shard in row.shards] == [0.5, 0.9]
    assert [shard.bytes_per_s for shard in row.shards] == [None, 900_000.0]
    assert (row.share, row.records_per_s, row.end, row.lag) == (0.9, 600.0, 30, {"g": 7})


@pytest.mark.parametrize(
    ("stream", "data_set"),
    [
        ("transactions", ""), ("transactions-0123abcd", "0123abcd"), ("sales", ""), ("other", None),
        ("transactions-0123abcd.dead-letter", "0123abcd"), ("transactions-long-name", None),
    ],
)  # fmt: skip
def test_streams_belong_to_data_sets(stream: str, data_set: str | None) -> None:
    """By their names."""
    assert data_set_of(stream) == data_set


def test_a_topic_says_why_it_failed_and_goes_on() -> None:
    """The last value stays, with the reason; the next look may work again, and a bug is not the end."""
    answers: list[int | Exception] = [7, NotThereError("Kafka is not running"), KeyError("bug"), 8]

    def look() -> int:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    topic: Topic[int] = Topic("test", look, 0, watched_s=1, idle_s=1)
    seen = []
    for _ in range(4):
        topic.look()
        seen.append((topic.reading.value, topic.reading.error.partition(";")[0]))
    assert seen == [(7, ""), (7, "Kafka is not running"), (7, "KeyError"), (8, "")]


def test_a_page_wakes_an_idle_topic() -> None:
    """Who opens a page does not wait for the next rare look."""
    looked = threading.Semaphore(0)
    topic: Topic[None] = Topic("test", looked.release, None, watched_s=0.05, idle_s=3600)
    topic.start()
    try:
        assert looked.acquire(timeout=10)
        topic.watch()
        assert looked.acquire(timeout=10)
        assert looked.acquire(timeout=10)
    finally:
        topic.stop()


def test_only_reports_can_be_reached(tmp_path: Path) -> None:
    """report.html and report.json of a run, also by `latest`; nothing beside or above them."""
    page = write_report(tmp_path, "batch-job", "r1", {}, "<p>hello")
    (page.parent / "secret.html").write_text("x")
    (tmp_path / "report.html").write_text("above")
    assert report_path(tmp_path, "batch-job", "latest", "report.html") == page.resolve()
    assert report_path(tmp_path, "batch-job", "r1", "report.json") is not None
    for job, run, name in [
        ("batch-job", "r1", "secret.html"), ("..", "..", "report.html"), ("batch-job", "..", "report.html"),
        ("batch-job", "r2", "report.html"), (".", "batch-job", "report.html"),
    ]:  # fmt: skip
        assert report_path(tmp_path, job, run, name) is None
    (tmp_path / "reports" / "batch-job" / "out").symlink_to(tmp_path)
    assert report_path(tmp_path, "batch-job", "out", "report.html") is None


def test_only_logs_of_steps_can_be_reached(tmp_path: Path) -> None:
    """From the cluster's folder; an unknown step, log or cluster is none."""
    journal = written(tmp_path, cluster())
    journal.step_folder("s-1").mkdir(parents=True)
    (journal.step_folder("s-1") / "stderr").write_text("all is well\n")
    board = Board(settings(tmp_path))
    assert step_log(board, "j-1", "s-1", "stderr") == "all is well\n"
    for where in [("j-1", "s-1", "stdout"), ("j-1", "s-2", "stderr"), ("j-2", "s-1", "stderr"),
                  ("..", "s-1", "stderr"), ("j-1", "s-1", "../../cluster.json")]:  # fmt: skip
        assert step_log(board, *where) is None


def test_the_token_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    """Mode 0600; a second console of the home has the same; no draft is left."""
    path = token_path(tmp_path / "home")
    token = ensure_token(path)
    assert len(token) >= 40
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert ensure_token(path) == token
    assert list(path.parent.iterdir()) == [path]


def test_a_missing_server_is_a_banner() -> None:
    """In the strip by name and words."""
    page = render("health", lights=[Light("Kafka", "down", "down", "no broker")], banners=["Kafka is down"])
    assert 'role="alert"' in page
    assert 'class="light down"' in page


def test_latency_and_decisions_come_from_the_processes_metrics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Percentiles are of what was decided since, of all scorers together; a process that ended is off."""
    monkeypatch.setattr("infra.metrics.ASK_S", 20.0)
    look = ProcessesLook(tmp_path)
    assert [light.level for light in look().lights] == ["off"] * 4
    here = settings(tmp_path)
    first, second = Metrics("scorer-0"), Metrics("scorer-1")
    with first.serve(here, lambda: None), second.serve(here, lambda: "stands still"):
        for scorer in (first, second):
            scorer.observe("decision_latency_seconds", 50.0)
            scorer.count("decisions_total", action="approve")
            scorer.set("consumer_lag", 5, stream="transactions-0123abcd", shard=0)
        look()
        for scorer in (first, second):
            for _ in range(50):
                scorer.observe("decision_latency_seconds", 0.7)
                scorer.count("decisions_total", action="approve")
        second.observe("decision_latency_seconds", 1.5)
        found = look()
        assert found.p50_s is not None
        assert found.p99_s is not None
        assert 0.5 < found.p50_s < found.p99_s < 2
        assert found.playing == "0123abcd"
        scorer_light = found.lights[0]
        assert (scorer_light.level, scorer_light.words) == ("down", "unwell")
        assert "scorer-1: stands still" in scorer_light.detail
    assert look().lights[0].level == "off"
