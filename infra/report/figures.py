"""The figures of a batch job: the shape of its report.json.

Times are ISO 8601 in UTC, money in US dollars with six places (revenue in integer cents), memory in MB.
"""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict


class StateReason(TypedDict):
    """Why a cluster is in its state, in AWS's words (code may be empty)."""

    code: str
    message: str


class StepFigures(TypedDict):
    """One step; times are None for a step that never ran."""

    id: str
    name: str
    state: str
    seconds: float | None
    started_at: str | None
    ended_at: str | None
    logs: str | None


class InstanceFigures(TypedDict):
    """One node; ready_at is None if it never got ready, ended_at while it is up."""

    id: str
    group: Literal["MASTER", "CORE", "TASK"]
    type: str
    market: str
    state: str
    created_at: str
    ready_at: str | None
    ended_at: str | None
    cores: int
    memory_mb: int


class StateChange(TypedDict):
    """The cluster entered `state` at this time."""

    state: str
    at: str


class SecondsFigures(TypedDict):
    """Where the time went."""

    setup: float
    data: float
    cluster_start: float
    steps: float
    total: float


class NodeCost(TypedDict):
    """What one node cost: EC2 and EMR parts, for its billed seconds."""

    id: str
    group: str
    type: str
    market: str
    seconds: float
    billed_seconds: float
    ec2_usd: float
    emr_usd: float
    usd: float


class CostFigures(TypedDict):
    """What the run cost, the same on demand, the same cluster left on for a month, and the difference."""

    currency: str
    price_table_as_of: str
    usd: float
    on_demand_usd: float
    always_on_month_usd: float
    saving_usd: float
    nodes: list[NodeCost]


class WarehouseFigures(TypedDict):
    """Where the result can be queried."""

    path: str
    table: str
    rows: int


class PatternFigures(TypedDict):
    """One finding (infra/report/patterns.py); the writer of the report adds these."""

    kind: str
    category: str
    region: str
    season: str | None
    value: float
    low: float
    high: float
    years: int
    sentence: str


class BatchFigures(TypedDict):
    """All of report.json. `report` and `patterns` are filled in when the report is written."""

    job: str
    run: str
    started_at: str
    cluster_id: str
    cluster_name: str
    release_label: str
    state: str
    state_change_reason: StateReason
    steps: list[StepFigures]
    instances: list[InstanceFigures]
    states: list[StateChange]
    rows_read: int
    rows_used: int
    rows_rejected: int
    rejected_reasons: dict[str, int]
    rows_rounded: int
    groups: int
    units: int
    revenue_cents: int
    mode: Literal["full", "month"]
    month: str | None
    months: dict[str, int]
    """Rows of each month in the table; `months_read` are those that this run read."""
    months_read: list[str]
    seconds: SecondsFigures
    cost: CostFigures
    peak_memory_mb: float | None
    input: str
    output: str
    rejected: str | None
    warehouse: WarehouseFigures | None
    logs: str
    report: str
    patterns: NotRequired[list[PatternFigures]]
