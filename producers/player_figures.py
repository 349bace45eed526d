"""What a run of a player did: as it runs in metrics, at its end as a summary in figures or in words."""

from __future__ import annotations

import time
from dataclasses import dataclass

import click

from infra.metrics import Metrics
from infra.streams.limits import shards_needed
from infra.streams.producer import StreamProducer
from producers import play
from producers.player import Player

METRICS_EVERY_S = 0.1


@dataclass(frozen=True)
class Summary:
    """What a run of a player did: `sent` into its stream, `followed` into others. Sizes in bytes, CPU in
    seconds; `held_back` still waited for a throttled shard when it ended."""

    rate_asked: float
    seconds: float
    sent: int
    acknowledged: int
    followed: int
    throttled: int
    refused: int
    held_back: int
    rate_per_s: float
    shards: list[dict[str, int]]
    shards_needed: int
    exhausted: bool
    last_event_time: str
    cpu_seconds: float


def summarise(player: Player, rate: float, seconds: float) -> Summary:
    """The figures of a run that has ended and was flushed."""
    lane, producer = player.lane, player.lane.producer
    use = {shard: each for shard, each in producer.by_shard().items() if shard.stream == lane.stream}
    sent = sum(each.records for each in use.values())
    size = sum(each.bytes for each in use.values())
    fullest = max((each.records for each in use.values()), default=0) / max(1, sent)
    per_record = size / max(1, sent)
    return Summary(
        rate_asked=rate,
        seconds=round(seconds, 3),
        sent=sent,
        acknowledged=producer.acknowledged,
        followed=producer.acknowledged - sent,
        throttled=producer.throttled,
        refused=sum(producer.refused.values()),
        held_back=lane.behind,
        rate_per_s=round(sent / max(seconds, 1e-9), 1),
        shards=[
            {"id": shard.number, "records": each.records, "bytes": each.bytes,
             "peak_records_per_s": each.peak_records_per_s, "throttled": each.throttled}
            for shard, each in use.items()
        ],
        shards_needed=shards_needed(rate, rate * per_record, fullest, producer.shards(lane.stream)),
        exhausted=player.exhausted,
        last_event_time=play.time_of(lane.last_us).isoformat().replace("+00:00", "Z"),
        cpu_seconds=round(time.process_time(), 2),
    )  # fmt: skip


def say(figures: Summary, events: str, shards: int) -> None:
    """The run in a line or two."""
    click.echo(
        f"producer: {figures.sent:,} {events} in {figures.seconds:.1f} s ({figures.rate_per_s:,.0f}/s), "
        f"{figures.throttled:,} throttled, {figures.refused:,} refused"
    )
    if figures.throttled:
        click.echo(
            f"producer: {shards} shards can't take {figures.rate_asked:,.0f}/s; with these keys it needs "
            f"{figures.shards_needed} shards"
        )


class Reporter:
    """Brings the producer's counts into its metrics, often enough for a steady rate to look so."""

    def __init__(self, metrics: Metrics, producer: StreamProducer) -> None:
        self._metrics, self._producer = metrics, producer
        self._next = 0.0
        self._told: dict[tuple[str | int, ...], int] = {}

    def __call__(self, now: float) -> None:
        if now < self._next:
            return
        self._next = now + METRICS_EVERY_S
        for shard, use in self._producer.by_shard().items():
            self._count("records_put_total", use.records, stream=shard.stream, shard=shard.number)
            self._count("bytes_put_total", use.bytes, stream=shard.stream, shard=shard.number)
            self._count("throttled_total", use.throttled, stream=shard.stream, shard=shard.number)
        for stream, refused in self._producer.refused.items():
            self._count("refused_total", refused, stream=stream)

    def _count(self, name: str, value: int, **labels: str | int) -> None:
        key = (name, *labels.values())
        told, self._told[key] = self._told.get(key, 0), value
        self._metrics.count(name, value - told, **labels)
