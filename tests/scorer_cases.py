"""A small data set for tests of the scorer: transactions, tables, and a model that is a few lines of ONNX."""

from __future__ import annotations

import hashlib
import io
import json
import random
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
from onnx import TensorProto, helper, numpy_helper

from infra.contracts.datasets import DataSet, Manifest, day_object
from infra.contracts.events import Transaction, arrow_schema
from infra.contracts.features import FEATURE_LIST, FEATURES
from infra.objects import ObjectStore
from stream_consumers.terminal_tables import COLUMNS

LIVE_FROM = datetime(2018, 8, 8, tzinfo=UTC)
STEP_S = 86_400
DAY = timedelta(days=1)


def transactions(
    seed: int, since: datetime, days: int, per_day: int, cards: int = 40, first_id: int = 0
) -> list[Transaction]:
    """Transactions in order, at whole seconds, of cards C00000.. at terminals T00000..T00019."""
    chance = random.Random(seed)
    seconds = sorted(chance.randrange(days * 86_400) for _ in range(days * per_day))
    return [
        Transaction(
            transaction_id=first_id + index,
            event_time=since + timedelta(seconds=second),
            card_id=f"C{chance.randrange(cards):05d}",
            terminal_id=f"T{chance.randrange(20):05d}",
            amount_cents=chance.randrange(100, 50_000),
        )
        for index, second in enumerate(seconds)
    ]


def linear_model(weights: Mapping[str, float], bias: float) -> bytes:
    """An ONNX model whose probability is the logistic function of a weighted sum of features."""
    matrix = np.zeros((len(FEATURES), 2), dtype=np.float32)
    for name, weight in weights.items():
        matrix[FEATURES.index(name), 1] = weight
    nodes = [
        helper.make_node("MatMul", ["features", "weights"], ["products"]),
        helper.make_node("Add", ["products", "bias"], ["sums"]),
        helper.make_node("Softmax", ["sums"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", len(FEATURES)])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 2])],
        [
            numpy_helper.from_array(matrix, "weights"),
            numpy_helper.from_array(np.array([0, bias], dtype=np.float32), "bias"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


USUAL = linear_model({"amount_cents": 1 / 10_000, "card_count_1": 0.3, "terminal_fraud_share_7": 4}, -3.0)


def publish_model(
    store: ObjectStore,
    data_set: DataSet,
    version: str,
    in_force_from: datetime,
    onnx_bytes: bytes = USUAL,
    **changes: object,
) -> None:
    """Publish a model, its card last; `changes` replace fields of the card."""
    card = {
        "version": version,
        "feature_list": FEATURE_LIST,
        "in_force_from": in_force_from.isoformat(),
        "terminal_step_s": STEP_S,
        "thresholds": {"review": 0.6, "block": 0.8},
        "reference": [0.0] * len(FEATURES),
        "sha256": hashlib.sha256(onnx_bytes).hexdigest(),
        **changes,
    }
    store.put_once(f"{data_set.models}{version}/model.onnx", onnx_bytes)
    store.put_once(f"{data_set.models}{version}/model.json", json.dumps(card).encode())


def publish_table(
    store: ObjectStore, data_set: DataSet, as_of: datetime, rows: Mapping[str, Sequence[int]]
) -> None:
    """Publish a terminals' table: COLUMNS by terminal."""
    columns: dict[str, pa.Array] = {"terminal_id": pa.array(list(rows), pa.string())}
    for index, name in enumerate(COLUMNS):
        columns[name] = pa.array([row[index] for row in rows.values()], pa.int64())
    store.put_once(data_set.terminal_table(as_of), _parquet(pa.table(columns)))


def publish_tables(store: ObjectStore, data_set: DataSet, since: datetime, days: int) -> None:
    """A table for each day from `since` on, no two alike."""
    for day in range(days):
        share = [9 + day, 20, 60, 1, 2 + day % 3, 5, day]
        publish_table(store, data_set, since + day * DAY, {f"T{n:05d}": share for n in range(0, 20, 2)})


def publish_history(store: ObjectStore, data_set: DataSet, rows: Iterable[Transaction]) -> None:
    """Write transactions as the history, one object a day."""
    by_day: dict[str, list[Transaction]] = {}
    for row in rows:
        by_day.setdefault(f"{row.event_time:%Y-%m-%d}", []).append(row)
    for day, part in by_day.items():
        plain = [{name: getattr(row, name) for name in row.__struct_fields__} for row in part]
        table = pa.Table.from_pylist(plain, schema=arrow_schema(Transaction))
        store.put_once(day_object(data_set.history("transactions"), day), _parquet(table))


def publish_manifest(store: ObjectStore, data_set: DataSet, shards: int) -> None:
    """Say that the data set is there."""
    first, until = (LIVE_FROM + days * DAY for days in (-31, 31))
    manifest = Manifest(data_set.id, "input", {}, shards, first.date(), LIVE_FROM, until, 0, 0)
    store.put(data_set.manifest, manifest.to_json())


def _parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()
