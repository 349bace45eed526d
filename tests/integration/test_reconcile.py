"""Decisions of the scorer's code against the archive: none differs, and whatever is changed is named."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from infra.contracts.errors import UserError
from infra.contracts.events import Decision, Label, Transaction, arrow_schema, decoder, encode
from infra.contracts.features import EPOCH, FEATURE_LIST, FEATURES, microseconds
from infra.files import LocalFiles
from infra.settings import ROOT
from infra.streams.records import Record, Shard
from producers.simulator import World, simulate
from spark_jobs.archive_reading import read_events
from spark_jobs.reconcile import Request, lines, reconcile
from spark_jobs.terminal_risk import tables
from spark_jobs.terminal_tables import as_of_times
from stream_consumers.models import Model, ModelCard, Thresholds
from stream_consumers.scoring import answers
from stream_consumers.shard_state import ShardState
from stream_consumers.taking import Taker
from stream_consumers.terminal_tables import TerminalTable
from tests.fraud_cases import DAY, archive_of, begin, local_spark, write_archive
from tests.scorer_cases import linear_model

# pyspark leaves the sockets that results came through to the garbage collector.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
    pytest.mark.filterwarnings(
        "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"
    ),
]
STEP_S = 21_600
LIVE_FROM, IN_FORCE, UNTIL = begin(48), begin(48) + timedelta(hours=9), begin(50)
ONNX = linear_model({name: 1 / (index + 3) for index, name in enumerate(FEATURES) if "cents" not in name}, -4)
VERSION = "2018-05-19-abcdef01"
SHARD = Shard("transactions", 0)

TERMINAL_FEATURES = {name for name in FEATURES if name.startswith("terminal_")} | {"light_streak_age"}
NAMES = ["transaction_id", "model_version", "name", "online", "batch"]


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """A small local Spark."""
    with local_spark() as session:
        yield session


@pytest.fixture(scope="session")
def small() -> tuple[pa.Table, pa.Table]:
    """The archive of a small world in whole hours, so that many times and windows' ends meet."""
    made = simulate(50, World(customers=150, terminals=120, radius=12))
    return archive_of(replace(made, time_s=made.time_s // 3600 * 3600))


@pytest.fixture(scope="session")
def folder(small: tuple[pa.Table, pa.Table], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It in files, with a model."""
    path = tmp_path_factory.mktemp("reconcile")
    write_archive(path, *small)
    card = {"version": VERSION, "feature_list": FEATURE_LIST, "terminal_step_s": STEP_S}
    LocalFiles().put(f"file://{path}/models/{VERSION}/model.json", json.dumps(card).encode())
    LocalFiles().put(f"file://{path}/models/{VERSION}/model.onnx", ONNX)
    return path


@pytest.fixture(scope="session")
def decisions(spark: SparkSession, small: tuple[pa.Table, pa.Table], folder: Path) -> list[Decision]:
    """What the scorer's code decides on the days from LIVE_FROM on; the first hours have no model yet."""
    places = [f"file://{folder}/transactions/"], [f"file://{folder}/labels/"]
    archive = read_events(spark, Transaction, places[0]), read_events(spark, Label, places[1])
    known = {
        microseconds(time): TerminalTable(time, pq.read_table(io.BytesIO(body)))
        for time, body in tables(*archive, as_of_times(LIVE_FROM, UNTIL, STEP_S))
    }
    limits = Thresholds(review=0.6, block=0.8)
    sha256, reference = hashlib.sha256(ONNX).hexdigest(), (0.0,) * len(FEATURES)
    model = Model(ModelCard(VERSION, FEATURE_LIST, IN_FORCE, STEP_S, limits, reference, sha256), ONNX)
    taker = Taker(
        lambda time: model if time >= microseconds(IN_FORCE) else None,
        lambda time, _step: known[time],
        LIVE_FROM,
    )
    history, live = ShardState(0), []
    for number, row in enumerate(small[0].to_pylist()):
        event = Transaction(**row)
        record = Record(SHARD, number, event.key.encode(), encode(event), 0, ())
        if event.event_time < LIVE_FROM:
            taker.replay(history, [record])
        else:
            live.append(record)
    taken = taker.take(history, live)
    assert (len(taken.rows), taken.bad, taken.waits_for) == (len(live), [], None)
    return [decoder(Decision).decode(answer.decision) for answer in answers(taken.rows, EPOCH)]


def request_of(folder: Path, place: Path, decisions: list[Decision]) -> Request:
    """A request for these decisions, archived below `place`."""
    rows = [{name: getattr(each, name) for name in each.__struct_fields__} for each in decisions]
    path = place / "decisions" / "live" / "2018" / "part.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=arrow_schema(Decision)), path)
    history = f"file://{folder}/"
    return Request(
        transactions=(f"{history}transactions/",),
        labels=(f"{history}labels/",),
        decisions=(f"file://{place}/decisions/",),
        models=f"{history}models/",
        output=f"file://{place}/out/",
    )


def changed(decisions: list[Decision], at: int, **fields: Any) -> list[Decision]:
    """The decisions with one of them changed."""
    return [*decisions[:at], msgspec.structs.replace(decisions[at], **fields), *decisions[at + 1 :]]


def with_feature(decision: Decision, name: str, add: float) -> list[float]:
    """A decision's features with one changed."""
    values = list(decision.features)
    values[FEATURES.index(name)] += add
    return values


def test_the_scorers_decisions_are_recomputed(
    spark: SparkSession, folder: Path, decisions: list[Decision], tmp_path: Path
) -> None:
    """Nothing differs, with a model and before there was one; the output says so."""
    request = request_of(folder, tmp_path, decisions)
    summary, listed = reconcile(spark, LocalFiles(), request)
    without = sum(each.model_version is None for each in decisions)
    assert 0 < without < len(decisions) > 300
    assert summary["decisions"] == len(decisions)
    assert summary["without_model"] == without
    assert (summary["decisions_that_differ"], summary["by_feature"], listed.num_rows) == (0, {}, 0)
    assert summary["scores_apart_at_most"] < 1e-6
    assert summary["models"] == [VERSION]
    assert json.loads((tmp_path / "out/summary.json").read_text()) == {**summary, "first": []}
    assert pq.read_table(tmp_path / "out/differences.parquet").schema.names == NAMES


def test_each_difference_is_named(
    spark: SparkSession, folder: Path, decisions: list[Decision], tmp_path: Path
) -> None:
    """A bit of a feature, a score, a table of another time, a transaction that is not in the archive."""
    feature, stale, scored = decisions[3], decisions[-3], decisions[-1]
    assert stale.terminal_as_of is not None
    assert scored.score is not None
    old, apart = stale.terminal_as_of - 10 * DAY, 2e-6 if scored.score < 0.5 else -2e-6
    made = changed(decisions, 3, features=with_feature(feature, "card_mean_cents_7", 1e-9))
    made = changed(made, len(made) - 3, terminal_as_of=old)
    made = changed(made, len(made) - 1, score=scored.score + apart)
    stray = msgspec.structs.replace(decisions[-2], transaction_id=10**9)
    summary, listed = reconcile(spark, LocalFiles(), request_of(folder, tmp_path, [*made, stray]))
    rows = {(row["transaction_id"], row["name"]): row for row in listed.to_pylist()}
    of_another_table = {key for key in rows if key[0] == stale.transaction_id}
    assert set(rows) - of_another_table == {
        (feature.transaction_id, "card_mean_cents_7"),
        (scored.transaction_id, "score"),
        (10**9, "transaction"),
    }
    assert rows[scored.transaction_id, "score"]["batch"] == pytest.approx(scored.score, abs=1e-6)
    as_of = rows[stale.transaction_id, "terminal_as_of"]
    assert (as_of["online"], as_of["batch"]) == (old.timestamp(), stale.terminal_as_of.timestamp())
    assert {name for _, name in of_another_table} <= {*TERMINAL_FEATURES, "terminal_as_of", "score"}
    assert summary["by_feature"]["card_mean_cents_7"] == 1
    assert (summary["tables_that_differ"], summary["not_archived"]) == (1, 1)
    assert summary["decisions_that_differ"] == 4
    assert f"transaction {10**9}: decided, but not in the archive" in lines(listed)


def test_a_model_that_is_not_there_is_a_users_mistake(
    spark: SparkSession, folder: Path, decisions: list[Decision], tmp_path: Path
) -> None:
    """One line names the model and the prefix."""
    made = changed(decisions, len(decisions) - 1, model_version="2018-01-01-00000000")
    with pytest.raises(UserError, match=r"by model 2018-01-01-00000000, which is not below file:.*/models/"):
        reconcile(spark, LocalFiles(), request_of(folder, tmp_path, made))


def test_a_model_of_other_features_is_a_users_mistake(
    spark: SparkSession, folder: Path, decisions: list[Decision], tmp_path: Path
) -> None:
    """It is not recomputed by features that mean something else."""
    card = {"version": "other", "feature_list": "00000000", "terminal_step_s": STEP_S}
    LocalFiles().put(f"file://{tmp_path}/models/other/model.json", json.dumps(card).encode())
    made = changed(decisions, len(decisions) - 1, model_version="other")[-1:]
    request = replace(request_of(folder, tmp_path, made), models=f"file://{tmp_path}/models/")
    with pytest.raises(UserError, match="model other has feature list 00000000"):
        reconcile(spark, LocalFiles(), request)


@pytest.mark.slow  # it starts a Spark of its own
def test_a_difference_makes_the_job_fail(folder: Path, decisions: list[Decision], tmp_path: Path) -> None:
    """As a process: exit code 1, the first differences as lines, the figures in the last one."""
    made = [
        msgspec.structs.replace(each, features=with_feature(each, "r_mean", 1.0)) for each in decisions[-5:]
    ]
    request = request_of(folder, tmp_path, made)
    options = {"transactions": request.transactions[0], "labels": request.labels[0]}
    options |= {
        "decisions": request.decisions[0],
        "models": request.models,
        "output": request.output,
        "limit": "2",
    }
    arguments = [text for name, value in options.items() for text in (f"--{name}", value)]
    done = subprocess.run(
        [sys.executable, "-m", "spark_jobs.reconcile", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    *told, figures = done.stdout.splitlines()
    first = sorted(made, key=lambda each: each.transaction_id)[:2]
    assert [line.rpartition(", from")[0] for line in told] == [
        f"transaction {each.transaction_id}: r_mean {each.features[-3]!r}" for each in first
    ]
    assert json.loads(figures)["by_feature"] == {"r_mean": 5}
