"""Training, small: what is published, that ONNX scores as XGBoost does, what a user can get wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnxruntime
import pandas as pd
import pytest
import xgboost
from pyspark.sql import SparkSession

from infra.contracts.errors import UserError
from infra.contracts.events import Label, Transaction
from infra.contracts.features import DAY_US, FEATURE_LIST, FEATURES, microseconds
from infra.files import LocalFiles
from producers.simulator import World, simulate
from spark_jobs.archive_reading import read_events
from spark_jobs.fraud_folds import WEEK, Fold, rows_to_test, validation_folds
from spark_jobs.fraud_metrics import card_precision, thresholds
from spark_jobs.fraud_model import as_rows, score
from spark_jobs.model_files import check_scores, to_onnx
from spark_jobs.terminal_risk import tables
from spark_jobs.terminal_tables import as_of_times, table_url
from spark_jobs.train_fraud_model import Request, train_and_publish
from stream_consumers.models import ModelCard
from tests.fraud_cases import archive_of, begin, local_spark, write_archive

# pyspark leaves the sockets that results came through to the garbage collector.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
    pytest.mark.filterwarnings(
        "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"
    ),
]
STEP_S = 86_400
END = begin(50)
STORE = LocalFiles()


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """A small local Spark."""
    with local_spark() as session:
        yield session


@pytest.fixture(scope="session")
def request_(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Request:
    """A small archive of 50 days with the tables that training on it needs."""
    folder = tmp_path_factory.mktemp("training")
    made = simulate(51, World(customers=150, terminals=120, radius=12))
    places = write_archive(folder, *archive_of(made))
    archive = read_events(spark, Transaction, places[:1]), read_events(spark, Label, places[1:])
    prefix = f"file://{folder}/tables/"
    for time, body in tables(*archive, as_of_times(begin(1), END - WEEK, STEP_S)):
        STORE.put(table_url(prefix, time), body)
    return Request(places[:1], places[1:], prefix, f"file://{folder}/models/", END, STEP_S)


@pytest.fixture(scope="session")
def card(spark: SparkSession, request_: Request) -> dict[str, Any]:
    """What a training published."""
    figures = train_and_publish(spark, STORE, request_)
    return dict(json.loads(STORE.get(f"{figures['model']}model.json")))


def test_a_model_is_published_as_the_scorer_reads_it(request_: Request, card: dict[str, Any]) -> None:
    """model.json has what the scorer needs, model.onnx is the one it speaks of."""
    read = msgspec.convert(card, ModelCard)
    assert (read.feature_list, read.in_force_from, read.terminal_step_s) == (FEATURE_LIST, END, STEP_S)
    assert card["features"] == list(FEATURES)
    assert 0 < read.thresholds.review <= read.thresholds.block
    assert len(read.reference) == len(FEATURES)
    folder = f"{request_.output}{read.version}/"
    session = onnxruntime.InferenceSession(STORE.get(f"{folder}model.onnx"))
    (found,) = session.run(["probabilities"], {"features": np.array([read.reference], dtype=np.float32)})
    assert found.shape == (1, 2)
    assert found[0, 1] < read.thresholds.review
    assert b"Precision and recall" in STORE.get(f"{folder}precision_recall.html")


def test_it_says_what_it_was_trained_on_and_how_good_it_is(card: dict[str, Any]) -> None:
    """A week whose labels are known; four folds' metrics and their mean, the published beside them."""
    assert card["trained_from"] == "2018-05-07T00:00:00Z"
    assert card["trained_until"] == "2018-05-14T00:00:00Z"
    assert card["labels_known_by"] == "2018-05-21T00:00:00Z"
    made = simulate(51, World(customers=150, terminals=120, radius=12))
    inside = (made.day >= 36) & (made.day < 43)
    assert (card["rows"], card["frauds"]) == (inside.sum(), made.fraud[inside].sum())
    folds = card["metrics"]["folds"]
    assert [fold["trained_from"][:10] for fold in folds] == [
        "2018-04-02", "2018-04-09", "2018-04-16", "2018-04-23",
    ]  # fmt: skip
    assert card["metrics"]["roc_auc"] == pytest.approx(np.mean([fold["roc_auc"] for fold in folds]))
    assert card["metrics"]["roc_auc"] > 0.6
    assert card["metrics"]["published"]["XGBoost"]["average_precision"] == 0.639


def test_the_same_archive_gives_the_same_model(
    spark: SparkSession, request_: Request, card: dict[str, Any]
) -> None:
    """Version, thresholds and checksum: training has no chance in it."""
    assert train_and_publish(spark, STORE, request_)["version"] == card["version"]


def test_a_missing_table_is_named(spark: SparkSession, request_: Request, tmp_path: Path) -> None:
    """With the command that makes it."""
    elsewhere = replace(request_, tables=f"file://{tmp_path}/")
    with pytest.raises(UserError, match=r"42 of 42 terminal tables .* 2018-04-02T00:00Z; make them by"):
        train_and_publish(spark, STORE, elsewhere)


def test_too_little_history_says_how_much_is_needed(spark: SparkSession, request_: Request) -> None:
    """Four weeks are."""
    with pytest.raises(UserError, match=r"has 20\.0 days; training needs 28"):
        train_and_publish(spark, STORE, replace(request_, history_end=begin(20)))


def test_frauds_that_nobody_knows_yet_are_no_frauds(spark: SparkSession, request_: Request) -> None:
    """Without a known fraud there is nothing to train on."""
    places = [request_.labels[0].replace("/labels/", "/none/")]
    rows = read_events(spark, Label, request_.labels).limit(0).drop("event_time_us")
    rows.write.parquet(places[0])
    with pytest.raises(UserError, match=r"the week from 2018-05-07T00:00:00Z, .* no known fraud"):
        train_and_publish(spark, STORE, replace(request_, labels=places))


def test_a_short_history_has_fewer_folds() -> None:
    """As many of the four as begin in it."""
    end = begin(129)
    assert validation_folds(begin(0), end) == [Fold(end - weeks * WEEK) for weeks in (7, 6, 5, 4)]
    assert validation_folds(end - 5 * WEEK, end) == [Fold(end - 5 * WEEK), Fold(end - 4 * WEEK)]


def test_cards_whose_fraud_is_known_are_not_tested() -> None:
    """From the day on that begins after the label; frauds before the training are forgotten."""
    fold = Fold(begin(20))
    first = microseconds(fold.test_from)
    days = [day for _ in range(4) for day in range(7)]
    rows = pd.DataFrame(
        {
            "card_id": np.repeat(["A", "B", "C", "D"], 7),
            "event_time_us": [first + day * DAY_US for day in days],
        }
    )
    times = [begin(21), begin(28), begin(19)]
    labels = pd.DataFrame(
        {
            "card_id": ["A", "B", "C"],
            "event_time_us": [microseconds(time + timedelta(hours=1)) for time in times],
            "known_us": [microseconds(time + timedelta(hours=1) + WEEK) for time in times],
        }
    )
    found = rows_to_test(rows, labels, fold).groupby("card_id")["day"].apply(list).to_dict()
    assert found == {"B": [0, 1], "C": list(range(7)), "D": list(range(7))}


def test_card_precision_looks_at_each_card_once() -> None:
    """Two cards a day; one that was caught is not caught again."""
    rows = [
        (0, "A", 1, 0.9), (0, "A", 0, 0.1), (0, "B", 0, 0.8), (0, "C", 1, 0.7),
        (1, "A", 1, 0.9), (1, "B", 0, 0.8), (1, "C", 0, 0.7),
    ]  # fmt: skip
    tested = pd.DataFrame(rows, columns=["day", "card_id", "fraud", "score"])
    assert card_precision(tested, cards=2) == pytest.approx((1 / 2 + 0) / 2)


def scored(*groups: tuple[int, int, float]) -> pd.DataFrame:
    """Rows from (honest ones, frauds, their score)."""
    rows = [(int(fraud), score) for good, bad, score in groups for fraud in [0] * good + [1] * bad]
    return pd.DataFrame(rows, columns=["fraud", "score"])


def test_thresholds_weigh_recall_over_precision_and_block_only_what_is_sure() -> None:
    """Review by F2, block from 95 % on; never if that is never reached."""
    rest = (10_000, 2, 0.1)
    assert thresholds(scored(rest, (15, 20, 0.4), (1, 30, 0.9))) == {"review": 0.4, "block": 0.9}
    limits = thresholds(scored(rest, (15, 20, 0.4), (5, 30, 0.9)))
    assert limits["review"] == 0.4
    assert limits["block"] > 1.0
    assert thresholds(scored(rest, (260, 90, 0.4), (1, 9, 0.9)))["review"] == 0.9, "too many to look at"


def test_a_model_that_onnx_scores_otherwise_is_refused() -> None:
    """The difference is checked on rows, not believed."""
    draw = np.random.default_rng(5)
    rows = draw.random((500, len(FEATURES)), dtype=np.float32)
    data = xgboost.DMatrix(rows, label=rows[:, 0] > 0.5)
    model = xgboost.train({"objective": "binary:logistic", "base_score": 0.5}, data, 5)
    frame = pd.DataFrame(rows, columns=list(FEATURES))
    scores = score(model, frame)
    onnx = to_onnx(model, len(FEATURES))
    assert check_scores(onnx, as_rows(frame), scores) < 1e-6
    scores[3] += 2e-6
    with pytest.raises(RuntimeError, match="not published"):
        check_scores(onnx, as_rows(frame), scores)
