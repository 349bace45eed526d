"""The batch side of the streaming story: terminals' tables and the model, made by a cluster if they lack."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import click
from filelock import FileLock, Timeout
from rich.console import Console

from infra.contracts import resources
from infra.contracts.datasets import LEAST_HISTORY, DataSet, Manifest
from infra.contracts.errors import FailedError, UserError
from infra.contracts.features import FEATURE_LIST, TERMINAL_STEP_S, as_of
from infra.objects import ObjectStore
from infra.settings import ROOT, Settings
from infra.stories.cluster_run import failure, run_cluster

REQUEST = ROOT / "infra" / "resources" / "clusters" / "fraud-model.json"
TRAINING = timedelta(days=49)
"""How much of the history the training and its folds look at: the tables of these days are needed too."""


@contextmanager
def making(settings: Settings, data_set: DataSet) -> Iterator[None]:
    """Hold what adds days and tables to a data set: two at once would undo each other's manifest."""
    path = settings.home / "run" / f"making-{data_set.id or 'default'}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        click.echo("waiting: something else adds days or tables to this data set")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


class ModelFailedError(FailedError):
    """A step of the batch side failed; the text says which, and where its logs are."""


def prepare_model(
    settings: Settings,
    data_set: DataSet,
    manifest: Manifest,
    console: Console,
    *,
    gives_way: bool = False,
) -> list[str]:
    """Make the tables up to the data set's end, and a model if there is none. Returns what was made.

    For `gives_way` see cluster_run.run_cluster. Raises ModelFailedError, and UserError for a history that
    is too short to train on.
    """
    store = ObjectStore(settings)
    tables, model = missing_tables(store, data_set, manifest), newest_model(store, data_set)
    if not tables and model is not None:
        return []
    if model is None:
        check_history(manifest)
    request = model_request(data_set, manifest, tables, train=model is None)
    cluster = run_cluster(settings, request, console, gives_way=gives_way)
    failed = failure(cluster)
    if failed:
        raise ModelFailedError(failed)
    return [step.name for step in cluster.steps]


def check_history(manifest: Manifest) -> None:
    """Refuse what is too short by its days; the training looks at the times."""
    first = _first(manifest)
    if manifest.live_from - first < LEAST_HISTORY:
        raise UserError(
            f"the history, from {first:%Y-%m-%d} to {manifest.live_from:%Y-%m-%d %H:%M}, is too short to "
            f"train on: {LEAST_HISTORY.days} days are needed; give more transactions, or a larger HISTORY"
        )


def table_times(manifest: Manifest, step_s: int) -> Iterator[datetime]:
    """The as-of times whose tables training and play look up, in order."""
    moment = as_of(max(_first(manifest), manifest.live_from - TRAINING), step_s)
    while moment < manifest.until:
        yield moment
        moment += timedelta(seconds=step_s)


def missing_tables(store: ObjectStore, data_set: DataSet, manifest: Manifest) -> list[datetime]:
    """The as-of times whose tables are not there."""
    there = {item.url for item in store.list(data_set.terminal_risk)}
    return [at for at in table_times(manifest, TERMINAL_STEP_S) if data_set.terminal_table(at) not in there]


def newest_model(store: ObjectStore, data_set: DataSet) -> dict[str, Any] | None:
    """The model.json of the model of these features that comes into force last, or None."""
    urls = [item.url for item in store.list(data_set.models) if item.url.endswith("/model.json")]
    models: list[dict[str, Any]] = [json.loads(store.get(url)) for url in urls]
    usable = [model for model in models if model["feature_list"] == FEATURE_LIST]
    return max(usable, key=lambda model: (model["in_force_from"], model["version"]), default=None)


def model_request(
    data_set: DataSet, manifest: Manifest, tables: Sequence[datetime], *, train: bool
) -> dict[str, Any]:
    """The declared RunJobFlow request with this data set's prefixes and times in it."""
    request = resources.read_request(REQUEST)
    request["LogUri"] = f"s3://{data_set.bucket}/logs/"
    risk, training = request["Steps"]
    if tables:
        risk["HadoopJarStep"]["Args"] = [
            *("spark-submit", "spark_jobs/terminal_risk.py"),
            *("--transactions", data_set.source("transactions"), "--labels", data_set.source("labels")),
            *("--output", data_set.terminal_risk, "--step", str(TERMINAL_STEP_S)),
            *("--from", _iso(tables[0]), "--until", _iso(manifest.until)),
        ]
    training["HadoopJarStep"]["Args"] = [
        *("spark-submit", "spark_jobs/train_fraud_model.py"),
        *("--transactions", data_set.history("transactions"), "--labels", data_set.history("labels")),
        *("--tables", data_set.terminal_risk, "--output", data_set.models, "--step", str(TERMINAL_STEP_S)),
        *("--history-end", _iso(manifest.live_from)),
    ]
    request["Steps"] = [*([risk] if tables else []), *([training] if train else [])]
    return request


def _first(manifest: Manifest) -> datetime:
    """The midnight with which the data set begins."""
    return datetime.combine(manifest.first_day, datetime.min.time(), manifest.live_from.tzinfo)


def _iso(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
