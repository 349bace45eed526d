"""Plays the generated sales into their stream at a rate, on from the last sale that each shard holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

import click
import pyarrow as pa

from infra.contracts.errors import UserError
from infra.contracts.events import Sale, encode
from infra.metrics import Metrics
from infra.process import stop_on_signals
from infra.settings import Settings
from infra.streams.admin import StreamAdmin
from infra.streams.played import last_events
from infra.streams.producer import StreamProducer
from producers.play import Put
from producers.player import Lane, Player, only_producer, run_player
from producers.player_figures import Reporter, say, summarise
from producers.sales_rows import BLOCK_ROWS, Month, generate_month, plan

STREAM = "sales"


def sales(rows: int, seed: int, after: int) -> Iterator[Put]:
    """The sales of producers.sales_rows with ids above `after`, in order of time."""
    for month in plan(rows):
        if month.first_id + month.rows > after:
            yield from (put for put in _of(month, seed) if put.id > after)


def play_sales(settings: Settings, rows: int, seed: int, rate: float, seconds: float | None) -> None:
    """Play until the time is over, all are played, or SIGTERM or Ctrl-C; says what was done.

    Raises UserError when the stream was begun with other rows or another seed.
    """
    with only_producer(settings, STREAM), stop_on_signals() as stop:
        metrics, producer = (
            Metrics("sales-producer"),
            StreamProducer(settings.kafka_servers, "sales-producer"),
        )
        try:
            with StreamAdmin(settings.kafka_servers) as admin:
                last = last_events(admin, STREAM, Sale)
            check_same(last.values(), rows, seed)
            lane = Lane(STREAM, producer, {shard: sale.sale_id for shard, sale in last.items()})
            player = Player(lane, sales(rows, seed, lane.after))
            with metrics.serve(settings, lambda: None):
                took = run_player(player, rate, seconds, stop, Reporter(metrics, producer))
                producer.flush()
        finally:
            producer.close()
    say(summarise(player, rate, took), "sales", producer.shards(STREAM))
    if player.done:
        click.echo(f"producer: all {rows:,} sales of seed {seed} are in the stream")


def check_same(last: Iterable[Sale], rows: int, seed: int) -> None:
    """Refuse to go on after the last events of shards that are not of these sales."""
    for sale in last:
        if not 0 < sale.sale_id <= rows or _sale(rows, seed, sale.sale_id).value != encode(sale):
            raise UserError(
                f"the stream {STREAM} holds other sales than those of --rows {rows} --seed {seed}; "
                "go on with the rows and the seed that it was begun with"
            )


def _sale(rows: int, seed: int, sale_id: int) -> Put:
    """The sale of an id, 1 to `rows`."""
    month = next(month for month in plan(rows) if sale_id < month.first_id + month.rows)
    block, row = divmod(sale_id - month.first_id, BLOCK_ROWS)
    (batch,) = generate_month(month, seed, range(block, block + 1))
    return next(_puts(month, batch.slice(row, 1)))


def _of(month: Month, seed: int) -> Iterator[Put]:
    for batch in generate_month(month, seed):
        yield from _puts(month, batch)


def _puts(month: Month, batch: pa.RecordBatch) -> Iterator[Put]:
    for row in batch.to_pylist():
        sold_at: datetime = row["sold_at"].astimezone(UTC)
        event = Sale(month=month.label, **{**row, "sold_at": sold_at})
        yield Put(row["sale_id"], int(sold_at.timestamp() * 1_000_000), event.key, encode(event))
