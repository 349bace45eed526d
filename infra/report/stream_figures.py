"""The figures of a stream demo: the shape of its report.json.

Times are ISO 8601 in UTC, `_ms` in milliseconds, `_s` in seconds, memory in MB. A figure is None where
there was nothing to measure.
"""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict


class LatencyFigures(TypedDict):
    """From a transaction's put to a read-committed reader of its decision: quantiles and the longest."""

    p50: float | None
    p99: float | None
    p999: float | None
    max: float | None


class AlertTimeFigures(TypedDict):
    """From a transaction's put to its alert at a read-committed reader."""

    p50: float | None
    p99: float | None


class ShardFigures(TypedDict):
    """What was put into one shard in this run; the peak is the most records in one second."""

    id: int
    records: int
    bytes: int
    peak_records_per_s: int


class ActionFigures(TypedDict):
    """Decisions by their action."""

    approve: int
    review: int
    block: int


class ThresholdFigures(TypedDict):
    """The scores from which a transaction is reviewed and blocked."""

    review: float
    block: float


class ModelFigures(TypedDict):
    """The model that scored the run's last transaction. `metrics`: the means over its validation folds."""

    version: str
    in_force_from: str
    thresholds: ThresholdFigures
    metrics: dict[str, float]


class StreamSeconds(TypedDict):
    """Where the time went. `data`: history, model and tables; `play`: first to last put; `drain`: from
    there until all was decided and archived; `total`: from the command to the report."""

    setup: float
    data: float
    play: float
    drain: float
    total: float


class StreamFigures(TypedDict):
    """All of report.json. `report` and `replay` are filled in when the report is written."""

    job: str
    run: str
    started_at: str
    ended: Literal["complete", "early"]
    """early: Ctrl-C; what was sent until then is proved all the same."""

    # The proof, by sets of ids. `sent` = good ones and `rejected` ones; `missing`: good ones that are not
    # decided or not archived; `strangers`: decided or archived and never sent; `examples`: ids, in words.
    sent: int
    decided: int
    archived: int
    rejected: int
    missing: int
    duplicates: int
    strangers: int
    examples: list[str]

    # What the model found. `precision` and `recall` are over the run's transactions whose labels were due
    # by its last event time: `labels_due` of them, `frauds_due` of which were frauds.
    alerts: int
    actions: ActionFigures
    precision: float | None
    recall: float | None
    labels_due: int
    frauds_due: int
    model: ModelFigures | None

    # How fast.
    rate_asked: float
    rate_per_s: float
    latency_ms: LatencyFigures
    time_to_alert_ms: AlertTimeFigures
    archive_lag_s: float | None
    """The greatest age that a record had when it was in S3."""
    throttled: int
    """Puts that a shard's limits held back; each was done later."""
    refused: int
    """Records that no shard takes (too large, no key)."""
    shards: list[ShardFigures]
    shards_needed: int | None
    """The fewest shards that take these keys at the rate asked."""

    # What it ran on.
    data_set: str
    """`default`, or the id of another one."""
    input: str | None
    """The user's file; None for the simulator."""
    all_played: bool
    """Whether nothing is left of the data set, so that the next run plays nothing."""
    first_event_time: str | None
    last_event_time: str | None
    scorers: int
    restarts: int
    """How often a process died and was started again."""
    servers: dict[str, str]
    """Addresses by name, such as kafka and s3."""
    places: dict[str, str]
    """Where things lie, by name, such as archive, models and logs."""
    seconds: StreamSeconds
    cpu_seconds: dict[str, float]
    """CPU seconds by process."""
    peak_memory_mb: float | None

    report: str
    replay: NotRequired[str]
