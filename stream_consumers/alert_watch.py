"""Whether a sink is ready and well: serves its metrics, its lag and its health."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from typing import Protocol

from infra.metrics import Metrics
from infra.settings import Settings
from infra.streams.consumer import StreamConsumer
from infra.streams.records import Shard
from stream_consumers.lag import Lag

LAG_EVERY_S = 1.0
STUCK_AFTER_S = 15.0


class Progress(Protocol):
    """What is watched."""

    @property
    def offsets(self) -> Mapping[Shard, int]:
        """The next offset of each shard, all below it done."""

    def trouble(self) -> str | None:
        """What is wrong now, in one line."""


class Watch:
    """Sees whether the loop goes on, and serves the metrics from the moment that it has shards."""

    def __init__(
        self, settings: Settings, metrics: Metrics, consumer: StreamConsumer, progress: Progress
    ) -> None:
        self._settings, self._metrics = settings, metrics
        self._consumer, self._progress = consumer, progress
        self._serving = contextlib.ExitStack()
        self._is_serving = False
        self._lag = Lag(metrics)
        self._last = self._measured = time.monotonic()

    def beat(self) -> None:
        """Called once a round of the loop."""
        self._last = time.monotonic()
        if self._is_serving and self._last - self._measured < LAG_EVERY_S:
            return
        self._measured = self._last
        offsets = self._progress.offsets
        ends = self._consumer.end_offsets(offsets)
        self._lag.show({shard: max(0, end - offsets[shard]) for shard, end in ends.items()})
        if not self._is_serving and ends:
            self._is_serving = True
            self._serving.enter_context(self._metrics.serve(self._settings, self.health))

    def health(self) -> str | None:
        """What is wrong, in one line."""
        silent_s = time.monotonic() - self._last
        if silent_s > STUCK_AFTER_S:
            return f"the loop stands still for {silent_s:.0f} s"
        return self._progress.trouble()

    def close(self) -> None:
        """Serve no more."""
        self._serving.close()
