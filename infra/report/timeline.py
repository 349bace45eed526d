"""The timeline of a cluster: its states, its steps and its nodes as bars over one clock (UTC)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import plotly.graph_objects as go

from infra.report.figures import BatchFigures
from infra.report.formats import duration, utc
from infra.report.palette import light
from infra.report.plots import figure, label

MAX_NODES = 40  # more are in report.json
ROW_PX = 34
FAILED_STATES = ("FAILED", "CANCELLED", "INTERRUPTED")
# kind: (colour, pattern); the kinds in the order of the legend.
LOOKS = {
    "cluster state": ("stage-1", ""),
    "step": ("series-7", ""),
    "step failed": ("bad", "/"),
    "node starting": ("stage-2", "."),
    "MASTER": ("series-1", ""),
    "CORE": ("series-3", ""),
    "TASK": ("series-5", ""),
}


@dataclass(frozen=True)
class Bar:
    """One bar: the row that it lies in, its kind (a key of LOOKS), its time and its words."""

    row: str
    kind: str
    start: datetime
    seconds: float
    text: str
    hover: str


def timeline_plot(figures: BatchFigures) -> go.Figure:
    """The timeline as a plotly figure: one trace per kind of bar."""
    bars = list(timeline_bars(figures))
    rows = list(dict.fromkeys(bar.row for bar in bars))
    plot = figure(
        ROW_PX * len(rows) + 110,
        barmode="overlay",
        bargap=0.35,
        uniformtext={"minsize": 10, "mode": "hide"},
        legend={"y": 1.02, "yanchor": "bottom"},
    )
    for kind in LOOKS:
        same = [bar for bar in bars if bar.kind == kind]
        if same:
            plot.add_trace(_trace(kind, same))
    plot.update_xaxes(type="date", tickformat="%H:%M:%S", nticks=7)
    plot.update_yaxes(categoryorder="array", categoryarray=rows, autorange="reversed", showgrid=False)
    return plot


def timeline_bars(figures: BatchFigures) -> Iterator[Bar]:
    """Every bar, top row first; what is still going on ends with the last moment on record."""
    end = _last_moment(figures)
    yield from _state_bars(figures, end)
    yield from _step_bars(figures, end)
    yield from _node_bars(figures, end)


def _last_moment(figures: BatchFigures) -> datetime:
    times = [change["at"] for change in figures["states"]]
    times += [step["ended_at"] for step in figures["steps"] if step["ended_at"]]
    times += [node["ended_at"] for node in figures["instances"] if node["ended_at"]]
    return max(map(utc, [figures["started_at"], *times]))


def _state_bars(figures: BatchFigures, end: datetime) -> Iterator[Bar]:
    changes = figures["states"]
    ends = [*(utc(change["at"]) for change in changes[1:]), end]
    for change, until in zip(changes, ends, strict=False):  # without any change there is no end to use
        yield _bar("cluster", "cluster state", utc(change["at"]), until, change["state"])


def _step_bars(figures: BatchFigures, end: datetime) -> Iterator[Bar]:
    for number, step in enumerate(figures["steps"], 1):
        if not step["started_at"]:
            continue
        kind = "step failed" if step["state"] in FAILED_STATES else "step"
        until = utc(step["ended_at"]) if step["ended_at"] else end
        words = f"{step['name']}: {step['state']}"
        yield _bar(f"step {number}", kind, utc(step["started_at"]), until, step["name"], words)


def _node_bars(figures: BatchFigures, end: datetime) -> Iterator[Bar]:
    seen: Counter[str] = Counter()
    for node in figures["instances"][:MAX_NODES]:
        seen[node["group"]] += 1
        row = node["group"] if node["group"] == "MASTER" else f"{node['group']} {seen[node['group']]}"
        created, until = utc(node["created_at"]), utc(node["ended_at"]) if node["ended_at"] else end
        ready = utc(node["ready_at"]) if node["ready_at"] else until
        market = " on spot" if node["market"] == "SPOT" else ""
        what = f"{node['id']}, {node['type']}{market}"
        yield _bar(row, "node starting", created, ready, "", f"{what}: starting")
        if node["ready_at"]:
            yield _bar(row, node["group"], ready, until, f"{node['type']}{market}", f"{what}: running")


def _bar(row: str, kind: str, start: datetime, end: datetime, text: str, more: str = "") -> Bar:
    seconds = max(0.0, (end - start).total_seconds())
    words = label(more or text)
    clock = f"{start:%H:%M:%S} to {end:%H:%M:%S} UTC, {duration(seconds)}"
    return Bar(row, kind, start, seconds, label(text), f"<b>{words}</b><br>{clock}")


def _trace(kind: str, bars: list[Bar]) -> go.Bar:
    colour, pattern = LOOKS[kind]
    return go.Bar(
        name=kind,
        orientation="h",
        y=[bar.row for bar in bars],
        base=[f"{bar.start:%Y-%m-%d %H:%M:%S.%f}" for bar in bars],
        x=[bar.seconds * 1000 for bar in bars],
        text=[bar.text for bar in bars],
        textposition="inside",
        insidetextanchor="start",
        textangle=0,
        insidetextfont={"color": light("ink" if kind == "cluster state" else "heat-on")},
        customdata=[bar.hover for bar in bars],
        hovertemplate="%{customdata}<extra></extra>",
        marker={
            "color": light(colour),
            "line": {"color": light("surface"), "width": 1},
            "pattern": {"shape": pattern, "size": 5, "fillmode": "overlay"},
        },
    )
