"""The batch job's short table for the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from infra.report.formats import cents, count, counted, dollars, duration, memory
from infra.report.patterns import find_patterns, highlights, nothing_found


def summary(figures: Mapping[str, Any], rollup: pa.Table) -> RenderableType:
    """Figures (a BatchFigures) and rollup as a table of two columns; users' names are printed as they are."""
    table = Table.grid(padding=(0, 2), expand=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in (*_result(figures, rollup), *_run(figures), *_places(figures)):
        table.add_row(name, value if isinstance(value, Text) else Text(value))
    return table


def _result(figures: Mapping[str, Any], rollup: pa.Table) -> Iterator[tuple[str, str | Text]]:
    rows = f"{count(figures['rows_read'])} read, {count(figures['rows_used'])} used"
    rejected = figures["rows_rejected"]
    where = f" (in {figures['rejected']})" if figures["rejected"] else ""
    yield "rows", f"{rows}, {count(rejected)} rejected{where if rejected else ''}"
    yield "result", f"{counted(figures['groups'], 'group')}, revenue {cents(figures['revenue_cents'])}"
    lines = [pattern.sentence for pattern in highlights(find_patterns(rollup))]
    yield "found", "\n".join(lines or [nothing_found(rollup)])


def _run(figures: Mapping[str, Any]) -> Iterator[tuple[str, str | Text]]:
    groups = Counter(node["group"] for node in figures["instances"])
    nodes = " + ".join(f"{groups[group]} {group}" for group in ("MASTER", "CORE", "TASK") if groups[group])
    state = Text(figures["state"], style="green" if figures["state"] in _GOOD else "red")
    reason = figures["state_change_reason"]["message"]
    yield (
        "cluster",
        Text.assemble(figures["cluster_id"], " ", state, f" ({reason})" if reason else "", f", {nodes}"),
    )
    seconds = figures["seconds"]
    parts = f"cluster start {duration(seconds['cluster_start'])}, steps {duration(seconds['steps'])}"
    yield "time", f"{duration(seconds['total'])} (data {duration(seconds['data'])}, {parts})"
    yield "peak memory", memory(figures["peak_memory_mb"])
    cost = figures["cost"]
    yield "cost", f"{dollars(cost['usd'])} this run, {dollars(cost['always_on_month_usd'])} a month left on"


def _places(figures: Mapping[str, Any]) -> Iterator[tuple[str, str | Text]]:
    yield "input", figures["input"]
    yield "output", figures["output"]
    if figures["warehouse"]:
        yield "warehouse", f"{figures['warehouse']['path']}, table {figures['warehouse']['table']}"
    yield "logs", figures["logs"]


_GOOD = ("TERMINATED", "WAITING", "RUNNING", "TERMINATING")
