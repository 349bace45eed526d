"""The whole simulator through Spark: the handbook's published row, and the served model's four folds."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as fn

from infra.contracts.events import Label, Transaction
from infra.contracts.features import FEATURES, microseconds
from producers.simulator import simulate
from spark_jobs.archive_reading import read_events
from spark_jobs.fraud_folds import WEEK, Fold
from spark_jobs.fraud_metrics import NAMES, metrics
from spark_jobs.fraud_model import AS_EXACT, between, score_test, training_week
from spark_jobs.terminal_features import COLUMNS, at_as_of_times, at_their_times, terminal_rows
from spark_jobs.terminal_tables import as_of_times
from spark_jobs.training_rows import known_frauds, labelled_features, measured_rows, with_terminals
from tests.fraud_cases import archive_of, begin, local_spark, write_archive

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
    pytest.mark.filterwarnings(
        "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"
    ),
]
Archive = tuple[DataFrame, DataFrame]
FOLDS = [Fold(begin(115) + weeks * WEEK) for weeks in range(4)]  # the first begins on 2018-07-25
KNOWN_BY = begin(183) + WEEK
DAY_S = 86_400


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """A small local Spark."""
    with local_spark() as session:
        yield session


@pytest.fixture(scope="module")
def archive(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """All 183 days of the simulator, as archived."""
    places = write_archive(tmp_path_factory.mktemp("handbook"), *archive_of(simulate(183)))
    return read_events(spark, Transaction, places[:1]), read_events(spark, Label, places[1:])


@pytest.fixture(scope="module")
def frauds(archive: Archive) -> pd.DataFrame:
    """Its known frauds."""
    return known_frauds(archive[1], KNOWN_BY)


@pytest.fixture(scope="module")
def measured(archive: Archive) -> DataFrame:
    """The folds' transactions with their cards' measures."""
    return measured_rows(archive[0], FOLDS[0].begin, FOLDS[-1].test_until).cache()


def test_the_published_row(archive: Archive, measured: DataFrame, frauds: pd.DataFrame) -> None:
    """The handbook's XGBoost on its 15 features at exact times, baseline week: each figure within .005."""
    transactions, labels = archive
    fold = FOLDS[0]
    first, end = microseconds(fold.begin), microseconds(fold.test_until)
    moments = at_their_times(between(transactions, first, end))
    terminals = terminal_rows(transactions, labels, moments).select("transaction_id", *COLUMNS)
    joined = between(measured, first, end).join(terminals, "transaction_id")
    rows = labelled_features(joined, labels, KNOWN_BY).cache()
    week = training_week(rows, fold)
    assert (week.count(), week.agg(fn.sum("fraud")).collect()[0][0]) == (67_240, 598)
    settings = {**AS_EXACT, "n_estimators": 100, "max_depth": 6, "learning_rate": 0.3}
    tested = score_test(rows, frauds, fold, FEATURES[:15], settings)
    rows.unpersist()
    assert (len(tested), tested["fraud"].sum()) == (58_264, 385)
    assert list(metrics(tested).values()) == pytest.approx([0.862, 0.639, 0.273], abs=0.005)


@pytest.mark.parametrize(
    ("step_s", "least"), [(DAY_S, (0.870, 0.730, 0.298)), (DAY_S // 4, (0.880, 0.735, 0.302))]
)
def test_the_served_model(
    archive: Archive,
    measured: DataFrame,
    frauds: pd.DataFrame,
    step_s: int,
    least: tuple[float, float, float],
) -> None:
    """Its 18 features from as-of tables, the mean of four test folds; 6 hours are the served step."""
    transactions, labels = archive
    times = as_of_times(FOLDS[0].begin, FOLDS[-1].test_until, step_s)
    moments = at_as_of_times(transactions, [microseconds(time) for time in times])
    tables = terminal_rows(transactions, labels, moments).drop("transaction_id")
    joined = with_terminals(measured, tables.withColumnRenamed("at_us", "as_of_us"), step_s)
    rows = labelled_features(joined, labels, KNOWN_BY).cache()
    found = [metrics(score_test(rows, frauds, fold)) for fold in FOLDS]
    rows.unpersist()
    means = [float(np.mean([each[name] for each in found])) for name in NAMES]
    print(step_s, [round(mean, 4) for mean in means])
    assert all(mean >= bound for mean, bound in zip(means, least, strict=True)), means
