"""Scores every card transaction of a data set: `python -m stream_consumers.fraud_scorer`."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import click

from infra.contracts.datasets import SCORERS, DataSet, Manifest, read_manifest
from infra.contracts.errors import UserError
from infra.metrics import METRICS, Metrics
from infra.objects import ObjectStore, open_bucket
from infra.process import run_command, stop_on_signals
from infra.settings import Settings
from infra.streams.consumer import StreamConsumer
from infra.streams.errors import IdTakenError
from infra.streams.records import shard_number
from infra.streams.transactions import TransactionalProducer
from stream_consumers.background import Background, retrying
from stream_consumers.history import Cards, load_history
from stream_consumers.models import Models
from stream_consumers.scorer import FraudScorer, Outputs
from stream_consumers.snapshots import Snapshots, SnapshotWriter
from stream_consumers.starting import Starter
from stream_consumers.taking import Taker
from stream_consumers.terminal_tables import TerminalTables
from stream_consumers.turns import Tally, Turns
from stream_consumers.watch import Watch
from stream_consumers.worker import Relay, consume

POLL_S, MOST_RECORDS = 0.1, 500
GATHER_BYTES, GATHER_S = 20_000, 0.1
"""So much (30 ms at 5,000 a second), or what came within 100 ms, is read, answered and committed together:
each fetch and each commit costs as much as dozens of transactions do."""
SWITCH_S = 0.0005
"""A commit is half a dozen answers from the broker, each handled in the client's thread: with Python's 5 ms
the loop would keep it waiting that long for every one."""
MODELS_EVERY_S, TABLES_EVERY_S = 3.0, 1.0
OUTPUTS = ("decisions", "alerts", "transactions.dead-letter")


@dataclass(frozen=True)
class Scoring:
    """One scorer to be: what its settings and its command line say."""

    settings: Settings
    data_set: DataSet
    slot: int
    timeout_s: float
    snapshot_every: int

    @property
    def name(self) -> str:
        """Its name as a client; no two that run at once have the same."""
        return f"scorer-{self.data_set.id or 'default'}-{self.slot}"

    def stream(self, name: str) -> str:
        """A stream of its data set."""
        return self.data_set.stream(name)


def run(scoring: Scoring) -> None:
    """Score until SIGTERM or Ctrl-C."""
    sys.setswitchinterval(SWITCH_S)
    store = open_store(scoring.settings)
    manifest = manifest_of(scoring.data_set, store)
    metrics = Metrics(f"scorer-{scoring.slot}")
    with stop_on_signals() as stop, contextlib.ExitStack() as closing:
        models, tables, checks = closing.enter_context(in_force(scoring, store))
        relay = Relay()
        consumer = consumer_of(scoring, relay, manifest.shards)
        taker = Taker(models.in_force, tables.get, manifest.live_from)
        writer, starter = rebuilding(scoring, store, consumer, taker, manifest, metrics)
        turns = Turns(functools.partial(producer_of, scoring), counter(metrics))
        closing.callback(turns.close)
        scorer = FraudScorer(
            consumer, turns, taker, starter, writer, outputs_of(scoring, consumer), metrics, utc_now, checks
        )
        relay.handler = scorer
        watch = Watch(scoring.settings, metrics, consumer, lambda: scorer.waiting)
        closing.callback(watch.close)
        consume(consumer, scorer, poll_s=POLL_S, max_records=MOST_RECORDS, stop=stop, beat=watch.beat)


@contextlib.contextmanager
def in_force(
    scoring: Scoring, store: ObjectStore
) -> Iterator[tuple[Models, TerminalTables, list[Callable[[], None]]]]:
    """Models and tables that are kept up to date in threads, and what raises those threads' failures."""
    models = Models(store, scoring.data_set)
    retrying()(models.refresh)  # nothing is answered before what is published is known
    tables = TerminalTables(store, scoring.data_set, lambda: loading.wake())
    loading = Background("terminal-tables", TABLES_EVERY_S, tables.refresh)
    listing = Background("models", MODELS_EVERY_S, models.refresh)
    try:
        for thread in (loading, listing):
            thread.start()
        yield models, tables, [loading.check, listing.check]
    finally:
        for thread in (loading, listing):
            thread.close()


def rebuilding(
    scoring: Scoring,
    store: ObjectStore,
    consumer: StreamConsumer,
    taker: Taker,
    manifest: Manifest,
    metrics: Metrics,
) -> tuple[SnapshotWriter, Starter]:
    """What writes the states of shards, and what finds them again."""
    stream, data_set = scoring.stream("transactions"), scoring.data_set
    snapshots = Snapshots(store, data_set, consumer.topic_id(stream))
    writer = SnapshotWriter(snapshots, scoring.snapshot_every, lambda: metrics.count("snapshots_total"))

    def shard_of(card_id: str) -> int:
        return shard_number(card_id.encode(), manifest.shards)

    def history(numbers: Collection[int]) -> dict[int, Cards]:
        return load_history(store, data_set, manifest.live_from, shard_of, numbers)

    def reader() -> StreamConsumer:
        return StreamConsumer(
            scoring.settings.kafka_servers, streams=[stream], group=None, client_id=f"{scoring.name}-replay"
        )

    replayed = functools.partial(metrics.count, "replayed_records_total")
    return writer, Starter(snapshots, history, reader, taker, writer.based, replayed)


def manifest_of(data_set: DataSet, store: ObjectStore) -> Manifest:
    """What the data set holds. Raises UserError when it was not made yet."""
    manifest = read_manifest(store.get, data_set)
    if manifest is None:
        raise UserError(
            f"there is no {data_set.manifest}: make the data set by `python -m producers.dataset`"
        )
    return manifest


def consumer_of(scoring: Scoring, relay: Relay, shards: int) -> StreamConsumer:
    """The member of the scorers' group.

    Raises UserError unless the stream is there with the data set's number of shards: with another
    number its cards would be in other shards than their history.
    """
    stream = scoring.stream("transactions")
    consumer = StreamConsumer(
        scoring.settings.kafka_servers,
        streams=[stream],
        group=scoring.data_set.group(SCORERS),
        client_id=scoring.name,
        session_timeout_s=scoring.timeout_s,
        listener=relay,
        gather_bytes=GATHER_BYTES,
        gather_s=GATHER_S,
    )
    found = len(consumer.shards(stream))
    if found != shards:
        consumer.close()
        there = f"stream {stream} has {found} shards" if found else f"there is no stream {stream}"
        raise UserError(f"{there}; its data set wants {shards}: see `python -m infra.provision --help`")
    return consumer


def producer_of(scoring: Scoring, number: int) -> TransactionalProducer:
    """One of the two producers; its id is the same after every start."""
    producer = TransactionalProducer(
        scoring.settings.kafka_servers, f"{scoring.name}-{number}", scoring.timeout_s
    )
    try:
        for name in OUTPUTS:
            producer.shards(scoring.stream(name))  # asked for at the first answer, they would delay it
    except BaseException:
        producer.close()
        raise
    return producer


def outputs_of(scoring: Scoring, consumer: StreamConsumer) -> Outputs:
    """Where answers go."""
    decisions, alerts, dead_letters = (scoring.stream(name) for name in OUTPUTS)
    return Outputs(decisions, alerts, dead_letters, max(1, len(consumer.shards(dead_letters))))


def counter(metrics: Metrics) -> Callable[[Tally], None]:
    """What counts a committed transaction's tally."""

    def count(tally: Tally) -> None:
        for (name, label), n in tally.items():
            metrics.count(name, n, **{METRICS[name].labels[0]: label})

    return count


def open_store(settings: Settings) -> ObjectStore:
    """The S3 server of the settings. Raises UserError if there is none, or not with the bucket."""
    if not settings.s3_endpoint or not settings.kafka_servers:
        raise UserError(
            "no servers are given: use `make stream-demo`, "
            "or set AWS_ENDPOINT_URL_S3 and KAFKA_BOOTSTRAP_SERVERS"
        )
    return open_bucket(settings)


def utc_now() -> datetime:
    """The time."""
    return datetime.now(UTC)


@click.command()
@click.option("--data-set", "data_set_id", default="", help="8 hex digits; the default data set without")
@click.option("--slot", type=click.IntRange(0), default=0, show_default=True, help="which scorer of several")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(6),
    default=10,
    show_default=True,
    help="seconds after which a scorer that is silent loses its shards and its transactions",
)
@click.option(
    "--snapshot-every", type=click.IntRange(1), default=20_000, show_default=True, help="records of a shard"
)
def main(data_set_id: str, slot: int, timeout_s: float, snapshot_every: int) -> None:
    """Answer every transaction of a data set by a decision, and an alert if it looks like fraud."""
    settings = Settings.load()
    data_set = DataSet(settings.bucket, data_set_id)
    try:
        run(Scoring(settings, data_set, slot, timeout_s, snapshot_every))
    except IdTakenError as error:
        raise UserError(
            f"another scorer has slot {slot} too: end one of them, or give it a number of its own by --slot"
        ) from error


if __name__ == "__main__":
    run_command(main)
