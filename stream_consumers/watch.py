"""Whether a scorer is ready and well: its metrics, and what its health check says."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence

from infra.metrics import Metrics
from infra.settings import Settings
from infra.streams.consumer import StreamConsumer
from stream_consumers.lag import Lag

LAG_EVERY_S = 1.0
STUCK_AFTER_S = 15.0


class Watch:
    """Sees whether the loop goes on, and serves the metrics from the moment that it has shards."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        consumer: StreamConsumer,
        waiting: Callable[[], Sequence[object]],
    ) -> None:
        """`waiting` gives the shards that wait for a table, the first to wait first."""
        self._settings, self._metrics, self._consumer = settings, metrics, consumer
        self._waiting = waiting
        self._serving = contextlib.ExitStack()
        self._is_serving = False
        self._lag = Lag(metrics)
        self._last = self._measured = time.monotonic()

    def beat(self) -> None:
        """Called once a round of the loop."""
        self._last = time.monotonic()
        if self._last - self._measured < LAG_EVERY_S and self._is_serving:
            return
        self._measured = self._last
        self._lag.show(self._consumer.lag())
        if not self._is_serving and self._consumer.assignment():
            self._is_serving = True
            self._serving.enter_context(self._metrics.serve(self._settings, self.health))

    def health(self) -> str | None:
        """What is wrong, in one line."""
        silent_s = time.monotonic() - self._last
        if silent_s > STUCK_AFTER_S:
            return f"the loop stands still for {silent_s:.0f} s"
        waiting = self._waiting()
        if not waiting:
            return None
        return f"{len(waiting)} shards wait for their terminals' table, the first for {waiting[0]}"

    def close(self) -> None:
        """Serve no more."""
        self._serving.close()
