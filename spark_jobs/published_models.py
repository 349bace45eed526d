"""Published models as batch jobs use them: found by version, scoring rows in Spark."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnxruntime
import pyarrow as pa
from pyspark.sql import DataFrame

from infra.contracts.errors import UserError
from infra.contracts.features import FEATURE_LIST, FEATURES
from infra.files import Store

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PublishedModel:
    """A model's ONNX bytes, and the seconds from one terminal table that it uses to the next."""

    version: str
    step_s: int
    onnx: bytes


def read_models(store: Store, prefix: str, versions: Iterable[str]) -> dict[str, PublishedModel]:
    """The models of some versions below a prefix.

    Raises UserError for one that is not there, or whose features this program does not compute.
    """
    return {version: _read(store, prefix, version) for version in versions}


def _read(store: Store, prefix: str, version: str) -> PublishedModel:
    try:
        card = json.loads(store.get(f"{prefix}{version}/model.json"))
    except FileNotFoundError as error:
        raise UserError(f"there are decisions by model {version}, which is not below {prefix}") from error
    if card["feature_list"] != FEATURE_LIST:
        raise UserError(
            f"model {version} has feature list {card['feature_list']}, this program {FEATURE_LIST}: "
            "its decisions can only be recomputed by the code that made them"
        )
    return PublishedModel(version, card["terminal_step_s"], store.get(f"{prefix}{version}/model.onnx"))


def with_scores(rows: DataFrame, features: str, models: Mapping[str, PublishedModel]) -> DataFrame:
    """Add `recomputed_score`: of the array `features` by the model of `model_version`, null without one."""
    bodies = {version: model.onnx for version, model in models.items()}

    def scored(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        sessions = {version: _scorer(body) for version, body in bodies.items()}
        for batch in batches:
            scores = _scores(batch, features, sessions)
            yield batch.append_column("recomputed_score", pa.array(scores, pa.float64(), from_pandas=True))

    schema = f"{', '.join(f'`{name}` {kind}' for name, kind in rows.dtypes)}, recomputed_score DOUBLE"
    return rows.mapInArrow(scored, schema)


def _scorer(onnx: bytes) -> Callable[[Doubles], Doubles]:
    """What gives the probability of fraud of each row, [n, features]; one thread, as a task has one core."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])

    def score(rows: Doubles) -> Doubles:
        (found,) = session.run(["probabilities"], {"features": rows.astype(np.float32)})
        scores: Doubles = found[:, 1].astype(np.float64)
        return scores

    return score


def _scores(
    batch: pa.RecordBatch, features: str, sessions: Mapping[str, Callable[[Doubles], Doubles]]
) -> Doubles:
    """The scores of a batch, NaN where a row has no model."""
    values = batch[features].flatten().to_numpy(zero_copy_only=False).reshape(-1, len(FEATURES))
    versions = batch["model_version"].to_numpy(zero_copy_only=False)
    scores = np.full(len(values), np.nan)
    for version, score in sessions.items():
        chosen = versions == version
        if chosen.any():
            scores[chosen] = score(values[chosen])
    return scores
