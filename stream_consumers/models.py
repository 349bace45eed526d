"""Fraud models as they were published: loaded from S3, in force by event time."""

from __future__ import annotations

import hashlib
import logging
from datetime import datetime, timedelta

import msgspec
import numpy as np
import numpy.typing as npt
import onnxruntime

from infra.contracts.datasets import DataSet
from infra.contracts.events import Action
from infra.contracts.features import FEATURE_LIST, FEATURES, microseconds
from infra.objects import ObjectStore

log = logging.getLogger(__name__)
MICROSECOND = timedelta(microseconds=1)
Rows = npt.NDArray[np.float32]
"""Features, [n, len(FEATURES)]."""


class Thresholds(msgspec.Struct, frozen=True):
    """Scores from which a transaction is reviewed, and from which it is blocked."""

    review: float
    block: float


class ModelCard(msgspec.Struct, frozen=True):
    """What the scorer needs of a model.json; the rest is for people."""

    version: str
    feature_list: str
    in_force_from: datetime
    terminal_step_s: int
    thresholds: Thresholds
    reference: tuple[float, ...]
    sha256: str


class UnfitModelError(Exception):
    """A published model that is damaged."""


class Model:
    """A model in memory. Scoring uses one thread: the loop is the only one who waits for it."""

    def __init__(self, card: ModelCard, onnx: bytes) -> None:
        """Raises UnfitModelError unless `onnx` is the model that the card was written for."""
        self.card, self.version = card, card.version
        self.in_force_us = microseconds(card.in_force_from)
        self.step_us = card.terminal_step_s * 1_000_000
        self.reference = np.asarray(card.reference, dtype=np.float32)
        if hashlib.sha256(onnx).hexdigest() != card.sha256:
            raise UnfitModelError(f"model {card.version}: model.onnx is not the one of its model.json")
        if len(card.reference) != len(FEATURES):
            raise UnfitModelError(f"model {card.version}: {len(card.reference)} reference values")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
        self.score(self.reference[np.newaxis])  # the first run is slow: not in the loop

    def score(self, rows: Rows) -> npt.NDArray[np.float32]:
        """The probability of fraud of each row, [n]."""
        (found,) = self._session.run(["probabilities"], {"features": rows})
        scores: npt.NDArray[np.float32] = found[:, 1]
        return scores

    def action(self, score: float) -> Action:
        """What to do at a score: approve, review or block."""
        limits = self.card.thresholds
        return "block" if score >= limits.block else "review" if score >= limits.review else "approve"


class Models:
    """The models of a data set that have this program's features; `refresh` finds new ones."""

    def __init__(self, store: ObjectStore, data_set: DataSet) -> None:
        self._store, self._prefix = store, data_set.models
        self._known: set[str] = set()
        self._models: tuple[Model, ...] = ()  # newest first; replaced as a whole, read by another thread

    def refresh(self) -> None:
        """Load the models that were published since. Raises UnfitModelError, or the store's errors."""
        for item in self._store.list(self._prefix):
            if item.url.endswith("/model.json") and item.url not in self._known:
                self._take(item.url)
                self._known.add(item.url)

    def in_force(self, event_time_us: int) -> Model | None:
        """The model of an event time (microseconds since 1970): the newest that was in force by then."""
        for model in self._models:
            if model.in_force_us <= event_time_us:
                return model
        return None

    def _take(self, url: str) -> None:
        card = msgspec.json.decode(self._store.get(url), type=ModelCard)
        if card.feature_list != FEATURE_LIST:
            log.warning("model %s is passed over: it has other features than this scorer", card.version)
            return
        model = Model(card, self._store.get(url.removesuffix("model.json") + "model.onnx"))
        models = sorted((*self._models, model), key=lambda each: (each.in_force_us, each.version))
        self._models = tuple(reversed(models))
        log.info("model %s is in force from %s", card.version, card.in_force_from.isoformat())
