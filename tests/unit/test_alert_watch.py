"""What a sink's watch serves."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import cast

import pytest

from infra.metrics import Metrics, noted
from infra.streams.consumer import StreamConsumer
from infra.streams.records import Shard
from stream_consumers import alert_watch
from tests.conftest import settings_of


class Ends:
    """Stands for a consumer of shards that all end at 10."""

    def end_offsets(self, shards: Iterable[Shard]) -> dict[Shard, int]:
        """See StreamConsumer."""
        return dict.fromkeys(shards, 10)


class Place:
    """How far a sink is."""

    def __init__(self) -> None:
        self.offsets: dict[Shard, int] = {}

    def trouble(self) -> str | None:
        """None."""
        return None


def test_the_lag_is_of_the_shards_that_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is served from the first one on; one that went to another process is not measured any more."""
    monkeypatch.setattr(alert_watch, "LAG_EVERY_S", 0)
    metrics, place = Metrics("alerts-test"), Place()
    settings, consumer = settings_of(tmp_path), cast(StreamConsumer, Ends())
    with closing(alert_watch.Watch(settings, metrics, consumer, place)) as watch:
        watch.beat()
        assert noted(tmp_path) == {}
        for offsets in ({0: 4, 1: 7}, {1: 8}, {}, {0: 9}):
            place.offsets = {Shard("alerts", number): offset for number, offset in offsets.items()}
            watch.beat()
            lines = [line for line in metrics.render().decode().splitlines() if "consumer_lag{" in line]
            assert lines == [
                f'millstream_consumer_lag{{shard="{number}",stream="alerts"}} {10 - offset:.1f}'
                for number, offset in offsets.items()
            ]
            assert list(noted(tmp_path)) == ["alerts-test"]
