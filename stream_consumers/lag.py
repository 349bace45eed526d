"""How far a consumer is behind, as a metric."""

from __future__ import annotations

from collections.abc import Mapping

from infra.metrics import Metrics
from infra.streams.records import Shard


class Lag:
    """`consumer_lag` of the shards that a consumer has; those that went to another are forgotten."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._shown: set[Shard] = set()

    def show(self, lags: Mapping[Shard, int]) -> None:
        """Show the records between each shard's position and its end."""
        for shard in self._shown - lags.keys():
            self._metrics.forget("consumer_lag", stream=shard.stream, shard=shard.number)
        for shard, lag in lags.items():
            self._metrics.set("consumer_lag", lag, stream=shard.stream, shard=shard.number)
        self._shown = set(lags)
