"""The timeline of a cluster: its states, steps and nodes as bars over one clock, in percent of its width."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from infra.cluster.model import Cluster
from infra.console.words import clock
from infra.report.formats import duration

MOST_NODES = 40
FAILED = ("FAILED", "CANCELLED", "INTERRUPTED")


@dataclass(frozen=True)
class Bar:
    """From `left` over `width`, in percent; `kind` is its look, `text` in it, `title` beside the pointer."""

    left: float
    width: float
    kind: str
    text: str
    title: str


@dataclass(frozen=True)
class Lane:
    """A row with its bars."""

    name: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True)
class Timeline:
    """All rows from `begin` to `end`, in seconds since 1970; `more` nodes are left out."""

    begin: float
    end: float
    lanes: tuple[Lane, ...]
    more: int

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Where (in percent) which time stands below the rows."""
        return [
            (share * 100, clock(self.begin + share * (self.end - self.begin)))
            for share in (0, 0.25, 0.5, 0.75)
        ]


def timeline(cluster: Cluster, now: float) -> Timeline:
    """A cluster's rows; what goes on still ends `now`."""
    begin = cluster.created_at
    end = max(begin + 1, cluster.ended_at or now)
    lanes = [*_states(cluster, end), *_steps(cluster, end), *_nodes(cluster, end)]
    scaled = tuple(
        Lane(name, tuple(_scaled(bar, begin, end) for bar in bars if bar.width >= 0)) for name, bars in lanes
    )
    return Timeline(begin, end, scaled, max(0, len(cluster.instances) - MOST_NODES))


def _states(cluster: Cluster, end: float) -> Iterator[tuple[str, list[Bar]]]:
    ends = [at for _, at in cluster.states[1:]] + [end]
    yield (
        "cluster",
        [
            _bar(at, until, "state", state.lower().replace("_", " "), state)
            for (state, at), until in zip(cluster.states, ends, strict=True)
            if state not in ("TERMINATED", "TERMINATED_WITH_ERRORS")
        ],
    )


def _steps(cluster: Cluster, end: float) -> Iterator[tuple[str, list[Bar]]]:
    for number, step in enumerate(cluster.steps, 1):
        bars = []
        if step.started_at is not None:
            kind = "failed" if step.state in FAILED else "step"
            bars = [
                _bar(step.started_at, step.ended_at or end, kind, step.name, f"{step.name}: {step.state}")
            ]
        yield f"step {number}", bars


def _nodes(cluster: Cluster, end: float) -> Iterator[tuple[str, list[Bar]]]:
    seen: Counter[str] = Counter()
    for node in cluster.instances[:MOST_NODES]:
        seen[node.role] += 1
        until = node.ended_at or end
        ready = until if node.ready_at is None else node.ready_at
        market = " on spot" if node.market == "SPOT" else ""
        what = f"{node.id}, {node.instance_type}{market}"
        bars = [_bar(node.created_at, ready, "starting", "", f"{what}: starting")]
        if node.ready_at is not None:
            words = f"{node.instance_type}{market}"
            bars.append(_bar(ready, until, node.role.lower(), words, f"{what}: {node.state}"))
        yield node.role.lower() if node.role == "MASTER" else f"{node.role.lower()} {seen[node.role]}", bars


def _bar(begin: float, end: float, kind: str, text: str, more: str) -> Bar:
    """A bar in seconds since 1970, to be scaled."""
    words = f"{more}, {clock(begin)} to {clock(end)} UTC, {duration(max(0.0, end - begin))}"
    return Bar(begin, end - begin, kind, text, words)


def _scaled(bar: Bar, begin: float, end: float) -> Bar:
    share = 100 / (end - begin)
    return Bar((bar.left - begin) * share, bar.width * share, bar.kind, bar.text, bar.title)
