"""Plays the generated sales into their stream at a rate, on from the last sale that each shard holds."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import click

from infra.contracts.events import Sale, encode
from infra.metrics import Metrics
from infra.process import stop_on_signals
from infra.settings import Settings
from infra.streams.admin import StreamAdmin
from infra.streams.producer import StreamProducer
from producers.play import Put
from producers.player import Lane, Player, Reporter, last_ids, run_player, say, summarise
from producers.sales_rows import Month, generate_month, plan

STREAM = "sales"


def sales(rows: int, seed: int, after: int) -> Iterator[Put]:
    """The sales of producers.sales_rows with ids above `after`, in order of time."""
    for month in plan(rows):
        if month.first_id + month.rows > after:
            yield from (put for put in _of(month, seed) if put.id > after)


def play_sales(settings: Settings, rows: int, seed: int, rate: float, seconds: float | None) -> None:
    """Play until the time is over, all are played, or SIGTERM or Ctrl-C; says what was done."""
    with stop_on_signals() as stop:
        metrics, producer = (
            Metrics("sales-producer"),
            StreamProducer(settings.kafka_servers, "sales-producer"),
        )
        try:
            with StreamAdmin(settings.kafka_servers) as admin:
                lane = Lane(STREAM, producer, last_ids(admin, STREAM, "sale_id"))
            begun = len(lane.last_ids) == producer.shards(STREAM)
            player = Player(lane, sales(rows, seed, min(lane.last_ids.values()) if begun else 0))
            with metrics.serve(settings, lambda: None):
                took = run_player(player, rate, seconds, stop, Reporter(metrics, producer))
                producer.flush()
        finally:
            producer.close()
    say(summarise(player, rate, took), "sales", producer.shards(STREAM))
    if player.exhausted:
        click.echo(f"producer: all {rows:,} sales of seed {seed} are in the stream")


def _of(month: Month, seed: int) -> Iterator[Put]:
    for batch in generate_month(month, seed):
        for row in batch.to_pylist():
            sold_at: datetime = row["sold_at"].astimezone(UTC)
            event = Sale(month=month.label, **{**row, "sold_at": sold_at})
            yield Put(row["sale_id"], int(sold_at.timestamp() * 1_000_000), event.key, encode(event))
