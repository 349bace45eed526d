"""The names that a data set of card transactions has everywhere: streams, prefixes in S3, groups."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import msgspec

LABEL_DELAY = timedelta(days=7)
"""How long after a fraud its label comes."""
LEAST_HISTORY = timedelta(days=28)
"""What a model is trained from at least: a week to train on, one to wait for its labels, one to test on, and
the newest, whose labels are not known."""

SCORERS = "fraud-scorer"
DELIVERED = ("transactions", "labels", "decisions")
"""The streams that are archived."""
DELIVERIES = tuple(f"delivery-{name}" for name in DELIVERED)
SINKS = tuple(f"alerts-{name}" for name in ("log", "file", "webhook"))
TERMINAL_VERSION = 1
"""Count it up when spark_jobs/terminal_features.py comes to mean something else: all tables are made anew."""
GROUPS = (SCORERS, *DELIVERIES, *SINKS)
"""The consumer groups that a data set has; see DataSet.group."""


@dataclass(frozen=True)
class DataSet:
    """A data set in a bucket. `id` is empty for the default one (the names in streams.json), else 8 hex."""

    bucket: str
    id: str = ""

    def stream(self, name: str) -> str:
        """The stream of this data set for a name in streams.json."""
        base, dot, kind = name.partition(".")  # transactions.dead-letter
        return f"{base}-{self.id}{dot}{kind}" if self.id else name

    def group(self, name: str) -> str:
        """A consumer group of this data set."""
        return self.stream(name)

    def archive(self, name: str) -> str:
        """Where a stream's archive lies: history and what was delivered."""
        return f"s3://{self.bucket}/{self.stream(name)}/"

    def history(self, name: str) -> str:
        """The part of the archive that is older than the first live record, one object a day."""
        return f"{self.archive(name)}history/"

    def source(self, name: str) -> str:
        """The data set itself, to be played: `transactions` or `labels`, one object a day (of event time)."""
        return f"s3://{self.bucket}/datasets/{self._folder}/{name}/"

    @property
    def manifest(self) -> str:
        """What the source holds, as JSON; written last."""
        return f"s3://{self.bucket}/datasets/{self._folder}/manifest.json"

    @property
    def emptying(self) -> str:
        """There while the data set is being started anew: what was played of it may be gone in part."""
        return f"s3://{self.bucket}/datasets/{self._folder}/emptying"

    @property
    def models(self) -> str:
        """Models, each in a folder named by its version; `model.json` is written last."""
        return f"s3://{self.bucket}/models/{self._folder}/"

    @property
    def terminal_risk(self) -> str:
        """The terminals' tables, one object for each as-of time: see `terminal_table`."""
        return f"s3://{self.bucket}/terminal-risk/{self._folder}/v{TERMINAL_VERSION}/"

    def terminal_table(self, as_of: datetime) -> str:
        """The table of an as-of time (UTC)."""
        return f"{self.terminal_risk}as_of={as_of:%Y%m%dT%H%M}Z.parquet"

    @property
    def snapshots(self) -> str:
        """The scorers' snapshots of card windows."""
        return f"s3://{self.bucket}/card-windows/{self._folder}/"

    @property
    def _folder(self) -> str:
        return self.id or "default"


def data_set_id(what: Mapping[str, Any]) -> str:
    """The id of a data set that is not the default: 8 hex digits of the hash of what defines it."""
    text = json.dumps(what, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def day_object(prefix: str, day: str) -> str:
    """The object of a day (YYYY-MM-DD) below a `source` or `history` prefix."""
    return f"{prefix}day={day}/part.parquet"


@dataclass(frozen=True)
class Manifest:
    """What a data set's source holds. The days before `until` are there; `live_from` is the first played.

    `transactions` counts all of them, `live_transactions` those from `live_from` on.
    """

    id: str
    kind: str
    definition: Mapping[str, Any]
    shards: int
    first_day: date
    live_from: datetime
    until: datetime
    transactions: int
    live_transactions: int

    def to_json(self) -> bytes:
        """As it is stored."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2)


def read_manifest(get: Callable[[str], bytes], data_set: DataSet) -> Manifest | None:
    """A data set's manifest, or None while it has none. `get` reads an object, as ObjectStore.get does."""
    try:
        return msgspec.json.decode(get(data_set.manifest), type=Manifest)
    except FileNotFoundError:
        return None
