"""Plays a data set into its streams at a rate: transactions keyed by card, labels when they are known.

`python -m producers.transactions --data-set ID --rate 5000 --seconds 60`. It goes on after the last
record that each shard holds, so a run, a crash or a restart loses nothing and repeats nothing.
"""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import click
import msgspec
from filelock import FileLock, Timeout

from infra.contracts.datasets import DataSet, read_manifest
from infra.contracts.errors import UserError
from infra.metrics import Metrics
from infra.objects import ObjectStore
from infra.process import run_command, stop_on_signals
from infra.settings import Settings
from infra.streams.admin import StreamAdmin
from infra.streams.errors import ProvisionedThroughputExceededException
from infra.streams.limits import shards_needed
from infra.streams.producer import StreamProducer
from infra.streams.records import Shard
from producers import play
from producers.pacing import TICK_S, Pace
from producers.play import Put

MOST_HELD = 20_000
"""Records that wait for throttled shards at most; then the play waits with them."""
METRICS_EVERY_S = 0.5


class Id(msgspec.Struct):
    """What a restart reads of a record."""

    transaction_id: int


@dataclass
class Lane:
    """One stream to play into: what is behind in each throttled shard, and how far each shard is."""

    stream: str
    producer: StreamProducer
    last_ids: dict[Shard, int]
    held: dict[Shard, deque[Put]] = field(default_factory=dict)
    ready_at: dict[Shard, float] = field(default_factory=dict)
    last_us: int = 0

    def offer(self, put: Put) -> bool:
        """Put a record, or hold it back behind others of its shard; False if its shard has it already."""
        shard = self.producer.shard_of(self.stream, put.key)
        if put.id <= self.last_ids.get(shard, -1):
            return False
        if shard in self.held:
            self.held[shard].append(put)
        elif not self._put(shard, put):
            self.held[shard] = deque([put])
        self.last_us = put.due_us
        return True

    def retry(self) -> None:
        """Put what was held back, as far as its shards take it now; each shard's in order."""
        now = time.monotonic()
        for shard in [shard for shard in self.held if self.ready_at[shard] <= now]:
            waiting = self.held[shard]
            while waiting and self._put(shard, waiting[0]):
                waiting.popleft()
            if not waiting:
                del self.held[shard]

    @property
    def behind(self) -> int:
        """Records that wait for a throttled shard."""
        return sum(map(len, self.held.values()))

    def _put(self, shard: Shard, put: Put) -> bool:
        try:
            self.producer.put(self.stream, put.key, put.value)
        except ProvisionedThroughputExceededException as full:
            self.ready_at[shard] = time.monotonic() + full.wait_s
            return False
        return True


class Player:
    """Plays transactions at a rate, and each label once the play has come to its time."""

    def __init__(
        self, transactions: Lane, labels: Lane, source: Iterator[Put], label_source: Iterator[Put]
    ) -> None:
        self.transactions, self.labels = transactions, labels
        self._source, self._labels = source, label_source
        self._next_label = next(self._labels, None)
        self.exhausted = False

    def skip_to_first(self) -> None:
        """Find the first record that its shard lacks: the clock starts when it is there."""
        for put in self._source:
            shard = self.transactions.producer.shard_of(self.transactions.stream, put.key)
            if put.id > self.transactions.last_ids.get(shard, -1):
                self._source = itertools.chain([put], self._source)
                return
        self.exhausted = True

    def step(self, due: int) -> int:
        """Put up to `due` records, and the labels that are known by then; how many were offered."""
        self.transactions.retry()
        self.labels.retry()
        offered = 0
        while offered < due and self.transactions.behind < MOST_HELD:
            put = next(self._source, None)
            if put is None:
                self.exhausted = True
                break
            offered += self.transactions.offer(put)
        self._known_labels()
        return offered

    def _known_labels(self) -> None:
        while self._next_label is not None and self._next_label.due_us <= self.transactions.last_us:
            self.labels.offer(self._next_label)
            self._next_label = next(self._labels, None)


@dataclass(frozen=True)
class Summary:
    """What a run of the producer did. Sizes in bytes, CPU in seconds."""

    rate_asked: float
    seconds: float
    sent: int
    acknowledged: int
    labels: int
    throttled: int
    refused: int
    held_back: int
    rate_per_s: float
    shards: list[dict[str, int]]
    shards_needed: int
    exhausted: bool
    last_event_time: str
    cpu_seconds: float


def run_player(
    player: Player, rate: float, seconds: float | None, stop: threading.Event, report: Callable[[float], None]
) -> float:
    """Play until the time is over, the data set is, or `stop` is set; the seconds that it took."""
    player.skip_to_first()
    began = time.monotonic()
    pace = Pace(rate, began)
    while not (stop.is_set() or player.exhausted):
        now = time.monotonic()
        if seconds is not None and now - began >= seconds:
            break
        due = pace.due(now)
        pace.give_back(due - player.step(due))
        report(now)
        time.sleep(max(0.0, TICK_S - (time.monotonic() - now)))
    return time.monotonic() - began


def summarise(player: Player, rate: float, seconds: float) -> Summary:
    """The figures of a run that has ended and was flushed."""
    lane, producer = player.transactions, player.transactions.producer
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
        labels=producer.acknowledged - sent,
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


def last_ids(admin: StreamAdmin, stream: str) -> dict[Shard, int]:
    """The transaction id of the last record of each shard that has one."""
    decode = msgspec.json.Decoder(Id).decode
    last = admin.last_records(admin.shards(stream))
    return {shard: decode(record.value or b"").transaction_id for shard, record in last.items()}


@click.command()
@click.option("--data-set", "data_set_id", default="", help="The data set's id; empty: the default one.")
@click.option("--rate", type=click.FloatRange(0.1, 1_000_000), default=5_000, show_default=True)
@click.option("--seconds", type=click.FloatRange(0.1), help="How long; without it until the data set ends.")
@click.option("--summary", type=click.Path(path_type=Path), help="Write the run's figures here, as JSON.")
def main(data_set_id: str, rate: float, seconds: float | None, summary: Path | None) -> None:
    """Play a data set into its streams."""
    settings = Settings.load()
    data_set = DataSet(settings.bucket, data_set_id)
    with only_producer(settings, data_set), stop_on_signals() as stop:
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
    say(figures, producer.shards(data_set.stream("transactions")))


def make_player(settings: Settings, data_set: DataSet, producer: StreamProducer) -> Player:
    """A player that goes on after what the shards hold. Raises UserError if there is nothing to play."""
    store = ObjectStore(settings)
    manifest = read_manifest(store.get, data_set)
    if manifest is None:
        raise UserError(
            f"there is no data set {data_set.id or 'default'}: run `make stream-demo`, which makes it"
        )
    with StreamAdmin(settings.kafka_servers) as admin:
        transactions, labels = (
            Lane(stream, producer, last_ids(admin, stream))
            for stream in (data_set.stream("transactions"), data_set.stream("labels"))
        )
        begun = len(transactions.last_ids) == len(admin.shards(transactions.stream))
    after = min(transactions.last_ids.values()) if begun else -1
    source = play.ahead(play.transactions(store, data_set, manifest.live_from, after))
    return Player(transactions, labels, source, play.labels(store, data_set, manifest.live_from))


class Reporter:
    """Brings the producer's counts into its metrics, twice a second."""

    def __init__(self, metrics: Metrics, producer: StreamProducer) -> None:
        self._metrics, self._producer = metrics, producer
        self._next = 0.0
        self._told: dict[tuple[str, Shard], int] = {}

    def __call__(self, now: float) -> None:
        if now < self._next:
            return
        self._next = now + METRICS_EVERY_S
        for shard, use in self._producer.by_shard().items():
            self._count("records_put_total", shard, use.records)
            self._count("bytes_put_total", shard, use.bytes)
            self._count("throttled_total", shard, use.throttled)

    def _count(self, name: str, shard: Shard, value: int) -> None:
        told = self._told.get((name, shard), 0)
        self._told[name, shard] = value
        self._metrics.count(name, value - told, stream=shard.stream, shard=shard.number)


def only_producer(settings: Settings, data_set: DataSet) -> FileLock:
    """The lock of a data set's one producer; a second one of the home is refused."""
    path = settings.home / "run" / f"producer-{data_set.id or 'default'}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, blocking=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise UserError("another producer plays this data set; end it first") from error
    return lock


def say(figures: Summary, shards: int) -> None:
    """The run in a line or two."""
    click.echo(
        f"producer: {figures.sent:,} transactions in {figures.seconds:.1f} s ({figures.rate_per_s:,.0f}/s), "
        f"{figures.labels:,} labels, {figures.throttled:,} throttled, {figures.refused:,} refused"
    )
    if figures.throttled:
        click.echo(
            f"producer: {shards} shards can't take {figures.rate_asked:,.0f}/s; with these keys it needs "
            f"{figures.shards_needed} shards"
        )


if __name__ == "__main__":
    run_command(main)
