"""Looks at the processes of streams: whether they run and are well, and what they measured."""

from __future__ import annotations

import math
import time
from collections import defaultdict, deque
from collections.abc import Mapping
from pathlib import Path

from infra import metrics
from infra.console.history import KEEP_S, History
from infra.console.look_servers import NOT_RUNNING
from infra.console.quantiles import quantile
from infra.console.state import Delivering, Light, Processes
from infra.streams.records import Shard

ROLES = {"Scorer": "scorer", "Delivery": "delivery", "Alerts": "alerts", "Producer": "producer"}
"""Entries of the health strip: name -> what the processes' names begin with."""
LATENCY_OVER_S = 60.0
POINTS_OVER_S = 10.0
"""A point of the latency chart is over so many seconds."""
Key = tuple[str, ...]


class ProcessesLook:
    """What the processes of a home say. Totals that a process began anew count on."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._history: History[Key] = History()
        self._totals = metrics.Totals()
        self._latency: deque[tuple[float, float | None, float | None]] = deque()

    def __call__(self) -> Processes:
        """Ask every process once."""
        noted = metrics.noted(self._home)
        samples = metrics.read_all(self._home)
        now = time.time()
        self._history.add(
            now, {key: self._totals.total(key, values) for key, values in _values(samples).items()}
        )
        self._latency.append((now, self._quantile(0.5, POINTS_OVER_S), self._quantile(0.99, POINTS_OVER_S)))
        while self._latency[0][0] < now - KEEP_S:
            self._latency.popleft()
        history = self._history
        return Processes(
            lights=tuple(_light(name, prefix, noted) for name, prefix in ROLES.items()),
            playing=playing(samples),
            put_bytes_per_s={
                Shard(labels["stream"], int(labels["shard"])): history.rate(
                    ("bytes", labels["stream"], labels["shard"])
                )
                for labels, _ in samples.labelled("bytes_put_total")
            },
            throttled=int(samples.total("throttled_total")),
            decisions_per_s=history.rate(("decisions",)),
            p50_s=self._quantile(0.5, LATENCY_OVER_S),
            p99_s=self._quantile(0.99, LATENCY_OVER_S),
            paused_shards=int(samples.total("shards_paused")),
            deliveries=self._deliveries(samples),
            decided=history.series(("decisions",)),
            p50=[(at, p50) for at, p50, _ in self._latency if p50 is not None],
            p99=[(at, p99) for at, _, p99 in self._latency if p99 is not None],
        )

    def _quantile(self, share: float, over_s: float) -> float | None:
        counts = {
            bound: self._history.growth(("latency", repr(float(bound))), over_s)
            for bound in (*metrics.LATENCY_S, math.inf)
        }
        return quantile(counts, share)

    def _deliveries(self, samples: metrics.Samples) -> dict[str, Delivering]:
        names = [labels["delivery"] for labels, _ in samples.labelled("archive_lag_seconds")]
        return {
            name: Delivering(
                lag_s=samples.most("archive_lag_seconds", delivery=name),
                open_intents=int(samples.total("open_intents", delivery=name)),
                objects=int(samples.total("delivered_objects_total", delivery=name)),
                records=int(samples.total("delivered_records_total", delivery=name)),
                bytes=int(samples.total("delivered_bytes_total", delivery=name)),
                records_per_s=self._history.rate(("delivered", name), 30.0),
            )
            for name in names
        }


def playing(samples: metrics.Samples) -> str | None:
    """The id of the data set whose transactions are put or read now; None when nobody does either."""
    for metric in ("records_put_total", "consumer_lag"):
        for labels, _ in samples.labelled(metric):
            base, _, data_set = labels["stream"].partition("-")
            if base == "transactions":
                return data_set
    return None


def _values(samples: metrics.Samples) -> dict[Key, list[metrics.Value]]:
    """What is counted, by the keys of the history."""
    values: dict[Key, list[metrics.Value]] = defaultdict(list)
    for labels, value in samples.labelled("bytes_put_total"):
        values["bytes", labels["stream"], labels["shard"]].append((labels, value))
    for labels, value in samples.labelled("decision_latency_seconds_bucket"):
        values["latency", repr(float(labels["le"]))].append((labels, value))
    for labels, value in samples.labelled("delivered_records_total"):
        values["delivered", labels["delivery"]].append((labels, value))
    for labels, value in samples.labelled("decisions_total"):
        values["decisions",].append((labels, value))
    return values


def _light(name: str, prefix: str, noted: Mapping[str, str]) -> Light:
    """One entry for all processes of a role: down as soon as one of them is."""
    found = {
        process: address
        for process, address in noted.items()
        if process == prefix or process.startswith(f"{prefix}-")
    }
    if not found:
        return Light(name, "off", NOT_RUNNING, "a stream demo runs it")
    unwell = [
        f"{process}: {what}" for process, address in found.items() if (what := metrics.trouble(address))
    ]
    if unwell:
        return Light(name, "down", "unwell", "; ".join(unwell))
    return Light(name, "up", "up" if len(found) == 1 else f"{len(found)} up", ", ".join(found))
