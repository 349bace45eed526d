"""Plays a data set into its streams at a rate: transactions keyed by card, labels when they are known.

`python -m producers.transactions --data-set ID --rate 5000 --seconds 60`. It goes on after the last
record that each shard holds, so a run, a crash or a restart loses nothing and repeats nothing.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from infra.contracts.datasets import DataSet, read_manifest
from infra.contracts.errors import UserError
from infra.metrics import Metrics
from infra.objects import ObjectStore
from infra.process import run_command, stop_on_signals
from infra.settings import Settings
from infra.streams.admin import StreamAdmin
from infra.streams.producer import StreamProducer
from producers import play
from producers.player import Follower, Lane, Player, ids_of, only_producer, run_player
from producers.player_figures import Reporter, say, summarise


@click.command()
@click.option("--data-set", "data_set_id", default="", help="The data set's id; empty: the default one.")
@click.option("--rate", type=click.FloatRange(0.1, 1_000_000), default=5_000, show_default=True)
@click.option("--seconds", type=click.FloatRange(0.1), help="How long; without it until the data set ends.")
@click.option("--summary", type=click.Path(path_type=Path), help="Write the run's figures here, as JSON.")
def main(data_set_id: str, rate: float, seconds: float | None, summary: Path | None) -> None:
    """Play a data set into its streams."""
    settings = Settings.load()
    data_set = DataSet(settings.bucket, data_set_id)
    with only_producer(settings, data_set.stream("transactions")), stop_on_signals() as stop:
        metrics = Metrics("producer")
        producer = StreamProducer(settings.kafka_servers, client_id="producer")
        player = make_player(settings, data_set, producer)
        with metrics.serve(settings, lambda: None):
            try:
                took = run_player(player, rate, seconds, stop, Reporter(metrics, producer))
                producer.flush()
            finally:
                producer.close()
    figures = summarise(player, rate, took)
    if summary is not None:
        summary.parent.mkdir(parents=True, exist_ok=True)
        summary.write_text(json.dumps(asdict(figures), indent=2))
    say(figures, "transactions", producer.shards(data_set.stream("transactions")))


def make_player(settings: Settings, data_set: DataSet, producer: StreamProducer) -> Player:
    """A player that goes on after what the shards hold. Raises UserError if there is nothing to play."""
    store = ObjectStore(settings)
    manifest = read_manifest(store.get, data_set)
    if manifest is None:
        name = data_set.id or "default"
        raise UserError(f"there is no data set {name}: run `make stream-demo`, which makes it")
    with StreamAdmin(settings.kafka_servers) as admin:
        transactions, labels = (
            Lane(stream, producer, ids_of(admin.last_records(admin.shards(stream)), "transaction_id"))
            for stream in (data_set.stream("transactions"), data_set.stream("labels"))
        )
    source = play.transactions(store, data_set, manifest.live_from, transactions.after)
    known = play.labels(store, data_set, manifest.live_from, labels.after)
    return Player(transactions, play.ahead(source), [Follower(labels, play.ahead(known))])


if __name__ == "__main__":
    run_command(main)
