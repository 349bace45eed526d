"""What the live view shows and the report plots: the processes' metrics, sampled over the play."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from infra import metrics
from infra.contracts.datasets import DataSet
from infra.report.stream_series import (
    Floats,
    StreamSeries,
    latency_by_second,
    latency_histogram,
)
from infra.stories.stream_readers import Readers

RATE_OVER_S = 3.0
SCORER = "scorer-"
LATEST = 10_000


class Sample(NamedTuple):
    """Totals and levels at a moment, `t_s` seconds after the readers began.

    `lag` is the scorers', of the shards that they have: none of a scorer that does not run.
    """

    t_s: float
    put: float
    decided: int
    archived: float
    throttled: float
    archive_lag_s: float
    lag: Mapping[int, float]


class Rates(NamedTuple):
    """Records a second."""

    put: float
    decided: float


class Samples:
    """Samples taken so far. A process that was started again counts on from what it had."""

    def __init__(self, home: Path, data_set: DataSet, readers: Readers) -> None:
        self._home, self._readers = home, readers
        self._stream, self._delivery = data_set.stream("transactions"), data_set.stream("transactions")
        self.samples: list[Sample] = []
        self._totals = metrics.Totals()
        self._archived_before = 0.0

    def take(self) -> Sample:
        """Ask all processes now."""
        found = metrics.read_all(self._home)
        sample = Sample(
            t_s=time.time() - self._readers.began,
            put=self._total(found, "records_put_total", stream=self._stream),
            decided=len(self._readers.ids),
            archived=self._total(found, "delivered_records_total", delivery=self._delivery)
            - self._archived_before,
            throttled=self._total(found, "throttled_total", stream=self._stream),
            archive_lag_s=found.most("archive_lag_seconds", delivery=self._delivery),
            lag={
                int(labels["shard"]): value
                for labels, value in found.labelled("consumer_lag", stream=self._stream)
                if labels["process"].startswith(SCORER)
            },
        )
        self.samples.append(sample)
        return sample

    def begin(self) -> None:
        """Count from here: what processes did before the play is not of it."""
        self._archived_before = self._total(
            metrics.read_all(self._home), "delivered_records_total", delivery=self._delivery
        )

    def _total(self, found: metrics.Samples, name: str, **labels: str) -> float:
        return self._totals.total(name, found.labelled(name, **labels))

    @property
    def played_s(self) -> float:
        """Seconds since the first record was put; 0 before."""
        begun = next((sample.t_s for sample in self.samples if sample.put), None)
        return 0.0 if begun is None else self.samples[-1].t_s - begun

    def rates(self) -> Rates:
        """Records a second over the last RATE_OVER_S seconds."""
        last = self.samples[-1]
        first = next(sample for sample in self.samples if last.t_s - sample.t_s <= RATE_OVER_S)
        passed = last.t_s - first.t_s
        if not passed:
            return Rates(0.0, 0.0)
        return Rates((last.put - first.put) / passed, (last.decided - first.decided) / passed)

    def latest_latency(self) -> tuple[float | None, float | None]:
        """The median and the 99th percentile of the last decisions that were read, in milliseconds."""
        latest = self._readers.latency_ms[-LATEST:]
        if not latest:
            return None, None
        p50, p99 = np.percentile(np.asarray(latest, dtype=np.float64), [50, 99]).tolist()
        return p50, p99

    @property
    def throttled(self) -> int:
        """Puts held back so far, of all producers that played."""
        return int(self.samples[-1].throttled) if self.samples else 0

    @property
    def archive_lag_s(self) -> float | None:
        """The greatest archive lag seen."""
        return max((sample.archive_lag_s for sample in self.samples), default=None)

    def series(self, shards: list[int]) -> StreamSeries:
        """The samples as one value a second from the first put on, with a column of lags for each shard."""
        begin = next((int(sample.t_s) for sample in self.samples if sample.put), 0)
        seconds = max(0, int(self.samples[-1].t_s) - begin) if self.samples else 0
        second = np.asarray(self._readers.second, dtype=np.int64) - begin
        p50, p99 = latency_by_second(self._readers.latency_ms, second, seconds)
        counts = np.bincount(second[second >= 0], minlength=seconds)[:seconds]
        edges = begin + np.arange(seconds + 1, dtype=np.float64)
        return StreamSeries(
            t_s=np.arange(1, seconds + 1, dtype=np.float64),
            put=self._per_second(edges, [sample.put for sample in self.samples]),
            decided=counts.astype(np.float64),
            archived=self._per_second(edges, [sample.archived for sample in self.samples]),
            p50_ms=p50,
            p99_ms=p99,
            lag=self._lags(edges[1:], shards),
            latencies=latency_histogram(self._readers.latency_ms),
            alerts=[seen._replace(at_s=seen.at_s - begin) for seen in self._readers.alerts],
        )

    def _per_second(self, edges: Floats, totals: list[float]) -> Floats:
        """How much a total grew between each two edges."""
        if not totals:
            return np.empty(0)
        return np.diff(np.interp(edges, [sample.t_s for sample in self.samples], totals))

    def _lags(self, moments: Floats, shards: list[int]) -> Floats:
        at = np.array([sample.t_s for sample in self.samples])
        nearest = np.clip(np.searchsorted(at, moments), 0, max(0, len(at) - 1))
        rows = [
            [self.samples[number].lag.get(shard, np.nan) for shard in shards] for number in nearest.tolist()
        ]
        return np.array(rows, dtype=np.float64).reshape(len(moments), len(shards))
