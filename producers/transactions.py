"""Plays a data set into its streams at a rate: transactions keyed by card, labels when they are known.

`python -m producers.transactions --data-set ID --rate 5000 --seconds 60`. It goes on after the last
record that each shard holds, so a run, a crash or a restart loses nothing and repeats nothing.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from infra.contracts.datasets import LABEL_DELAY, DataSet, Manifest, read_manifest
from infra.contracts.errors import UserError
from infra.contracts.events import Label, Transaction
from infra.contracts.features import TERMINAL_STEP_S
from infra.metrics import Metrics
from infra.objects import ObjectStore
from infra.process import run_command, stop_on_signals
from infra.settings import Settings
from infra.streams.admin import StreamAdmin
from infra.streams.played import is_of, last_events
from infra.streams.producer import StreamProducer
from producers import play
from producers.player import Follower, Lane, Player, only_producer, run_player
from producers.player_figures import Reporter, say, summarise

DAY_S = 86_400
PATIENCE_S = 0.1
MOST_APART = LABEL_DELAY - timedelta(days=1)
"""A terminals' table counts transactions of all shards up to LABEL_DELAY before it. Where a run ends no shard
may lack some of those, or the archive would not say what a decision of another shard was made from."""


@click.command()
@click.option("--data-set", "data_set_id", default="", help="The data set's id; empty: the default one.")
@click.option("--rate", type=click.FloatRange(0.1, 1_000_000), default=5_000, show_default=True)
@click.option("--seconds", type=click.FloatRange(0.1), help="How long; without it until the data set ends.")
@click.option(
    "--standing", is_flag=True, help="Never end: wait for days to be made, and for their terminals' tables."
)
@click.option("--summary", type=click.Path(path_type=Path), help="Write the run's figures here, as JSON.")
def main(data_set_id: str, rate: float, seconds: float | None, standing: bool, summary: Path | None) -> None:
    """Play a data set into its streams."""
    settings = Settings.load()
    data_set = DataSet(settings.bucket, data_set_id)
    with only_producer(settings, data_set.stream("transactions")), stop_on_signals() as stop:
        metrics = Metrics("producer")
        producer = StreamProducer(settings.kafka_servers, client_id="producer")
        player = make_player(settings, data_set, producer, standing=standing)
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


def make_player(
    settings: Settings, data_set: DataSet, producer: StreamProducer, *, standing: bool = False
) -> Player:
    """A player that goes on after what the shards hold. Raises UserError if there is nothing to play."""
    store = ObjectStore(settings)
    manifest = read_manifest(store.get, data_set)
    if manifest is None:
        name = data_set.id or "default"
        raise UserError(f"there is no data set {name}: run `make stream-demo`, which makes it")
    with StreamAdmin(settings.kafka_servers) as admin:
        transactions, labels = (
            _lane(admin, data_set.stream(name), kind, producer, manifest)
            for name, kind in (("transactions", Transaction), ("labels", Label))
        )
    gate = DayGate(store, data_set) if standing else None
    patience_s = PATIENCE_S if standing else None
    source = play.transactions(store, data_set, manifest.live_from, transactions.after, gate)
    known = play.labels(store, data_set, manifest.live_from, labels.after, gate and gate.is_made)
    followers = [Follower(labels, play.ahead(known, patience_s))]
    return Player(transactions, play.ahead(source, patience_s), followers, MOST_APART)


def _lane(
    admin: StreamAdmin,
    stream: str,
    kind: type[Transaction | Label],
    producer: StreamProducer,
    manifest: Manifest,
) -> Lane:
    """A stream of the data set, with the id of the last record that each shard has of it."""
    last = last_events(admin, stream, kind, is_of(manifest))
    return Lane(stream, producer, {shard: event.transaction_id for shard, event in last.items()})


class DayGate:
    """Whether a day may be played yet: it is made and, once there is a model, its tables are published.

    Before the first model nothing is looked up, so that a new stack's stream flows while it is trained.
    """

    def __init__(self, store: ObjectStore, data_set: DataSet) -> None:
        self._store, self._data_set = store, data_set
        self._has_model = False

    def __call__(self, day: str) -> bool:
        """For a day, YYYY-MM-DD. Raises the store's errors."""
        return self.is_made(day) and (not self._model() or self._has_tables(day))

    def is_made(self, day: str) -> bool:
        """Whether all of the day is in the data set."""
        manifest = read_manifest(self._store.get, self._data_set)
        return manifest is not None and _begin(day) < manifest.until

    def _model(self) -> bool:
        if not self._has_model:
            published = self._store.list(self._data_set.models)
            self._has_model = any(item.url.endswith("/model.json") for item in published)
        return self._has_model

    def _has_tables(self, day: str) -> bool:
        steps = range(0, DAY_S, TERMINAL_STEP_S)
        times = [_begin(day) + timedelta(seconds=seconds) for seconds in steps]
        return all(self._store.exists(self._data_set.terminal_table(at)) for at in times)


def _begin(day: str) -> datetime:
    return datetime.fromisoformat(day).replace(tzinfo=UTC)


if __name__ == "__main__":
    run_command(main)
