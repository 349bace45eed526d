"""A trained model as files: model.onnx, proved to score as the model does, its plot, and model.json."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxmltools
import onnxruntime
import plotly.graph_objects as go
import xgboost
from onnxmltools.convert.common.data_types import FloatTensorType

from infra.files import Store
from infra.report.palette import light, series
from infra.report.plots import figure
from spark_jobs.fraud_metrics import Floats
from spark_jobs.fraud_model import Rows

MOST_DIFFERENCE = 1e-6


def to_onnx(model: xgboost.Booster, features: int) -> bytes:
    """A model as ONNX: `features` float32 [n, features] in, `probabilities` float32 [n, 2] out."""
    inputs = [("features", FloatTensorType([None, features]))]
    # The graph's name would be drawn anew each time, and the version follows from the bytes.
    graph = onnxmltools.convert_xgboost(model, name="fraud", initial_types=inputs)
    body: bytes = graph.SerializeToString()
    return body


def check_scores(onnx: bytes, rows: Rows, scores: Rows) -> float:
    """The largest difference between a model's scores of some rows and those of its ONNX.

    Raises RuntimeError when it is MOST_DIFFERENCE or more: such a model must not be published.
    """
    session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    (found,) = session.run(["probabilities"], {"features": rows})
    difference = float(np.max(np.abs(found[:, 1].astype(np.float64) - scores)))
    if not difference < MOST_DIFFERENCE:
        raise RuntimeError(f"the ONNX model scores up to {difference} apart from XGBoost: not published")
    return difference


def precision_recall_page(precision: Floats, recall: Floats, at: Floats, limits: Mapping[str, float]) -> str:
    """The curve with the two thresholds on it, as one HTML file that opens without a network.

    `at` are the scores from which on each precision and recall holds, ascending.
    """
    plot: go.Figure = figure(480)
    plot.add_scatter(
        x=recall, y=precision, mode="lines", name="validation folds", customdata=at,
        line={"color": series(0), "width": 2},
        hovertemplate="from score %{customdata:.3f}: recall %{x:.1%}, precision %{y:.1%}<extra></extra>",
    )  # fmt: skip
    for number, (name, limit) in enumerate(limits.items(), start=1):
        place = int(np.searchsorted(at, limit))
        if place < len(at):
            plot.add_scatter(
                x=[recall[place]], y=[precision[place]], mode="markers", name=f"{name} from {limit:.3f}",
                marker={"color": series(number), "size": 12},
            )  # fmt: skip
    plot.update_xaxes(title="recall", range=[0, 1.02], tickformat=".0%")
    plot.update_yaxes(title="precision", range=[0, 1.05], tickformat=".0%")
    plot.update_layout(
        template="none", paper_bgcolor=light("surface"), title="Precision and recall", margin_t=48
    )
    page: str = plot.to_html(include_plotlyjs=True, config={"displayModeBar": False})
    return page


def version(history_end: str, onnx: bytes) -> str:
    """A model's version: the day from which it is in force, and 8 hex digits of its content."""
    return f"{history_end[:10]}-{hashlib.sha256(onnx).hexdigest()[:8]}"


def publish(store: Store, prefix: str, card: Mapping[str, Any], onnx: bytes, page: str) -> str:
    """Write a model's files below `prefix`; model.json comes last and says that all are there."""
    folder = f"{prefix}{card['version']}/"
    store.put(f"{folder}model.onnx", onnx)
    store.put(f"{folder}precision_recall.html", page.encode())
    body = {**card, "sha256": hashlib.sha256(onnx).hexdigest()}
    store.put(f"{folder}model.json", (json.dumps(body, indent=2, allow_nan=False) + "\n").encode())
    return folder
