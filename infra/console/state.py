"""What the pages show, as plain data. Times are seconds since 1970 unless they are datetimes, all UTC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from infra.cluster.cost import ClusterCost
from infra.cluster.model import Cluster
from infra.console.verdicts import Verdict
from infra.contracts.events import Alert
from infra.report.patterns import Pattern
from infra.report.tables import HeatMap
from infra.settings import Settings
from infra.streams.records import Shard

Level = Literal["up", "down", "off"]
Points = Sequence[tuple[float, float]]
"""A chart's line: (seconds since 1970, value)."""


@dataclass(frozen=True)
class Light:
    """One entry of the health strip: up, down (it should run and does not), off (nobody started it)."""

    name: str
    level: Level
    words: str
    detail: str = ""


@dataclass(frozen=True)
class Servers:
    """The servers. `settings` have the endpoints of those that are up, and none of the others."""

    settings: Settings
    lights: tuple[Light, ...] = ()


@dataclass(frozen=True)
class Delivering:
    """What a delivery process says of one delivery stream. Totals are since its start."""

    lag_s: float
    open_intents: int
    objects: int
    records: int
    bytes: int
    records_per_s: float


@dataclass(frozen=True)
class Processes:
    """What the processes of streams say of themselves.

    `playing` is the id of the data set that they work on (empty: the default one), None when none runs.
    Latencies are in seconds, of the decisions of the last minute; None without any.
    """

    lights: tuple[Light, ...] = ()
    playing: str | None = None
    put_bytes_per_s: Mapping[Shard, float] = field(default_factory=dict)
    throttled: int = 0
    decisions_per_s: float = 0.0
    p50_s: float | None = None
    p99_s: float | None = None
    paused_shards: int = 0
    deliveries: Mapping[str, Delivering] = field(default_factory=dict)
    decided: Points = ()
    p50: Points = ()
    p99: Points = ()


@dataclass(frozen=True)
class ShardState:
    """A shard: the offset after its last record, and how fast that moves."""

    number: int
    end: int
    records_per_s: float


@dataclass(frozen=True)
class StreamState:
    """A stream. `lag`: for each group that has read of it the records it is behind, by shard number."""

    name: str
    topic_id: str
    shards: tuple[ShardState, ...]
    lag: Mapping[str, Mapping[int, int]]
    committed: Mapping[str, Mapping[int, int]]
    rates: Points

    @property
    def records_per_s(self) -> float:
        """Over all shards."""
        return sum(shard.records_per_s for shard in self.shards)

    @property
    def end(self) -> int:
        """The shards' offsets, added up."""
        return sum(shard.end for shard in self.shards)


@dataclass(frozen=True)
class Flags:
    """The alerts of a data set that were read so far, newest first, and what labels say of them.

    `models` made the last decisions; `reading` while older records are still being read.
    """

    newest: tuple[Alert, ...]
    actions: Mapping[str, int]
    per_s: float
    verdict: Verdict | None
    models: tuple[str, ...]
    reading: bool


@dataclass(frozen=True)
class Streams:
    """All streams of all data sets (by id), and the alerts of those that were asked for."""

    sets: Mapping[str, tuple[StreamState, ...]] = field(default_factory=dict)
    flags: Mapping[str, Flags] = field(default_factory=dict)


@dataclass(frozen=True)
class Model:
    """A published model: what its model.json says."""

    version: str
    in_force_from: datetime
    review: float
    block: float
    metrics: Mapping[str, Any]


@dataclass(frozen=True)
class Models:
    """A data set's newest models, newest first, and its first live moment, by its id."""

    models: Mapping[str, tuple[Model, ...]] = field(default_factory=dict)
    live_from: Mapping[str, datetime] = field(default_factory=dict)


@dataclass(frozen=True)
class Landed:
    """An object of an archive. `at` and `bytes` are None while it is declared but not there yet."""

    delivery: str
    url: str
    records: int
    is_error: bool
    bytes: int | None
    at: datetime | None


@dataclass(frozen=True)
class Archived:
    """A delivery stream's archive: cuts ever declared, those not committed yet, the newest objects."""

    delivery: str
    stream: str
    cuts: int
    open_intents: int
    newest: tuple[Landed, ...]


@dataclass(frozen=True)
class Archives:
    """The archives of each data set that was asked for, by its id."""

    sets: Mapping[str, tuple[Archived, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class ClusterState:
    """A cluster as its journal has it. `gone`: it is not over, and nobody manages it any more."""

    cluster: Cluster
    gone: bool
    cost: ClusterCost | None


@dataclass(frozen=True)
class Report:
    """A run's report below `<home>/reports`."""

    job: str
    run: str
    at: float


@dataclass(frozen=True)
class Rollup:
    """The sales rollup that was published last."""

    run: str
    figures: Mapping[str, Any]
    years: tuple[int, ...]
    heat_maps: tuple[HeatMap, ...]
    patterns: tuple[Pattern, ...]
    nothing_found: str


@dataclass(frozen=True)
class Results:
    """The rollup, None before the first, and why it could not be read; the newest report of each job."""

    rollup: Rollup | None = None
    trouble: str = ""
    reports: tuple[Report, ...] = ()
