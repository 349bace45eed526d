"""Looks at the published models of data sets, by the model.json of each."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec

from infra.console.state import Model, Models
from infra.console.topic import NotThereError
from infra.contracts.datasets import DataSet, read_manifest
from infra.objects import ObjectStore
from infra.settings import Settings

NEWEST = 5
LIST_EVERY_S = 30.0


class ModelsLook:
    """The newest models and the first live moment of each data set that was asked for."""

    def __init__(self, settings: Callable[[], Settings], wanted: Callable[[], set[str]]) -> None:
        """`settings` has S3's address while it is up; `wanted` are ids of data sets."""
        self._settings, self._wanted = settings, wanted
        self._cards: dict[str, Model] = {}
        self._models: dict[str, tuple[Model, ...]] = {}
        self._listed: dict[str, float] = {}
        self._live_from: dict[str, datetime] = {}

    def __call__(self) -> Models:
        """Ask S3 for what is not known yet. Raises NotThereError while it is not up."""
        settings = self._settings()
        if not settings.s3_endpoint:
            raise NotThereError("S3 is not running")
        store = ObjectStore(settings)
        for name in self._wanted():
            data_set = DataSet(settings.bucket, name)
            if time.monotonic() - self._listed.get(name, float("-inf")) > LIST_EVERY_S:
                self._models[name] = self._newest(store, data_set)
                manifest = read_manifest(store.get, data_set)
                if manifest is not None:
                    self._live_from[name] = manifest.live_from
                self._listed[name] = time.monotonic()
        return Models(dict(self._models), dict(self._live_from))

    def _newest(self, store: ObjectStore, data_set: DataSet) -> tuple[Model, ...]:
        urls = [item.url for item in store.list(data_set.models) if item.url.endswith("/model.json")]
        found = [self._card(store, url) for url in urls]
        return tuple(sorted(found, key=lambda model: model.in_force_from, reverse=True)[:NEWEST])

    def _card(self, store: ObjectStore, url: str) -> Model:
        if url not in self._cards:
            card = msgspec.json.decode(store.get(url), type=_Card)
            self._cards[url] = Model(
                card.version,
                card.in_force_from,
                card.thresholds["review"],
                card.thresholds["block"],
                {name: value for name, value in card.metrics.items() if isinstance(value, int | float)},
            )
        return self._cards[url]


class _Card(msgspec.Struct):
    """What the console shows of a model.json."""

    version: str
    in_force_from: datetime
    thresholds: dict[str, float]
    metrics: dict[str, Any] = {}
