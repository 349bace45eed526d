"""What a stream demo measured over time: arrays by the second, the latencies' distribution, the alerts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from infra.contracts.events import Alert
from infra.report.stream_figures import LatencyFigures

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
BINS_PER_DECADE = 20
LEAST_MS, MOST_MS = 1.0, 1_000_000.0
QUANTILES = (("p50", 50.0), ("p99", 99.0), ("p999", 99.9), ("max", 100.0))


class AlertSeen(NamedTuple):
    """An alert, and when it was read, in seconds since the play began."""

    at_s: float
    alert: Alert


@dataclass(frozen=True)
class LatencyHistogram:
    """Latencies counted into bins: `counts[i]` lie in [edges_ms[i], edges_ms[i + 1]); bins are equally
    wide on a log scale. Empty arrays when there was none."""

    edges_ms: Floats
    counts: Ints


@dataclass(frozen=True)
class StreamSeries:
    """One value a second for n seconds, each for the second that ends at `t_s` (from the play's start).

    `put`, `decided` and `archived` are records in that second [n]; `p50_ms` and `p99_ms` the latencies of
    the decisions that were read in it, NaN where there were none [n]; `lag` the records that the scorers
    were behind, a column for each of figures["shards"], NaN where no scorer had it [n, shards]. All may
    be empty.
    """

    t_s: Floats
    put: Floats
    decided: Floats
    archived: Floats
    p50_ms: Floats
    p99_ms: Floats
    lag: Floats
    latencies: LatencyHistogram
    alerts: Sequence[AlertSeen]


def latency_figures(latency_ms: npt.ArrayLike) -> LatencyFigures:
    """The quantiles of latencies in milliseconds [n], each None when n is 0."""
    values = np.asarray(latency_ms, dtype=np.float64)
    found = np.percentile(values, [share for _, share in QUANTILES]).tolist() if values.size else None
    p50, p99, p999, longest = (round(value, 1) for value in found) if found else (None,) * len(QUANTILES)
    return {"p50": p50, "p99": p99, "p999": p999, "max": longest}


def latency_histogram(latency_ms: npt.ArrayLike) -> LatencyHistogram:
    """Count latencies in milliseconds [n], cut to the bins between the least and the longest."""
    values = np.clip(np.asarray(latency_ms, dtype=np.float64), LEAST_MS, MOST_MS * (1 - 1e-9))
    if not values.size:
        return LatencyHistogram(np.empty(0), np.empty(0, dtype=np.int64))
    decades = round(np.log10(MOST_MS / LEAST_MS))
    edges = LEAST_MS * 10 ** (np.arange(decades * BINS_PER_DECADE + 1) / BINS_PER_DECADE)
    counts, _ = np.histogram(values, edges)
    used = np.flatnonzero(counts)
    first, last = int(used[0]), int(used[-1]) + 1
    return LatencyHistogram(edges[first : last + 1], counts[first:last])


def latency_by_second(
    latency_ms: npt.ArrayLike, second: npt.ArrayLike, seconds: int
) -> tuple[Floats, Floats]:
    """The median and the 99th percentile of each second 0 to seconds - 1, NaN where there is none.

    `latency_ms` [n] with the `second` [n] in which each decision was read, in any order.
    """
    values, when = np.asarray(latency_ms, dtype=np.float64), np.asarray(second, dtype=np.int64)
    order = np.argsort(when, kind="stable")
    ends = np.searchsorted(when[order], np.arange(seconds + 1))
    result = np.full((2, seconds), np.nan)
    for number, (start, end) in enumerate(pairwise(ends)):
        if end > start:
            result[:, number] = np.percentile(values[order[start:end]], [50, 99])
    return result[0], result[1]


def thinned(series: StreamSeries, points: int) -> StreamSeries:
    """The series with at most `points` of them: means of rates, medians as means, the worst of the rest."""
    step = -(-len(series.t_s) // points)
    if step <= 1:
        return series
    starts = np.arange(0, len(series.t_s), step)
    sizes = np.diff([*starts, len(series.t_s)])
    known = np.add.reduceat(np.where(np.isnan(series.p50_ms), 0.0, 1.0), starts)
    p50 = np.add.reduceat(np.nan_to_num(series.p50_ms), starts)
    return replace(
        series,
        t_s=np.maximum.reduceat(series.t_s, starts),
        put=np.add.reduceat(series.put, starts) / sizes,
        decided=np.add.reduceat(series.decided, starts) / sizes,
        archived=np.add.reduceat(series.archived, starts) / sizes,
        p50_ms=np.divide(p50, known, out=np.full(len(starts), np.nan), where=known > 0),
        p99_ms=np.fmax.reduceat(series.p99_ms, starts),
        lag=np.fmax.reduceat(series.lag, starts, axis=0),
    )
