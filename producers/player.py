"""Plays sequences of records into streams at a rate: in order within each shard, throttled shards held back.

Each shard has a sequence of its own, so a player that is started again goes on after each shard's last
record, and what a throttled shard holds back holds up no other.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import click
import msgspec

from infra.metrics import Metrics
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


@dataclass
class Lane:
    """One stream to play into: what is behind in each throttled shard, and how far each shard is."""

    stream: str
    producer: StreamProducer
    last_ids: dict[Shard, int]
    held: dict[Shard, deque[Put]] = field(default_factory=dict)
    ready_at: dict[Shard, float] = field(default_factory=dict)
    last_us: int = 0

    def lacks(self, put: Put) -> bool:
        """Whether the record's shard has not got it yet."""
        return put.id > self.last_ids.get(self.producer.shard_of(self.stream, put.key), -1)

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


@dataclass
class Follower:
    """Records of another stream that are put when the play has come to their time."""

    lane: Lane
    source: Iterator[Put]
    upcoming: Put | None = None

    def catch_up(self, now_us: int) -> None:
        """Put what is due at an event time, and what was held back."""
        self.lane.retry()
        self.upcoming = self.upcoming or next(self.source, None)
        while self.upcoming is not None and self.upcoming.due_us <= now_us:
            self.lane.offer(self.upcoming)
            self.upcoming = next(self.source, None)


class Player:
    """Plays a source into a lane at a rate, and its followers along with it."""

    def __init__(self, lane: Lane, source: Iterator[Put], followers: Sequence[Follower] = ()) -> None:
        self.lane, self._source, self._followers = lane, source, followers
        self.exhausted = False

    def skip_to_first(self) -> None:
        """Find the first record that its shard lacks: the clock starts when it is there."""
        for put in self._source:
            if self.lane.lacks(put):
                self._source = itertools.chain([put], self._source)
                return
        self.exhausted = True

    def step(self, due: int) -> int:
        """Put up to `due` records, and what the followers have for this time; how many were offered."""
        self.lane.retry()
        offered = 0
        while offered < due and self.lane.behind < MOST_HELD:
            put = next(self._source, None)
            if put is None:
                self.exhausted = True
                break
            offered += self.lane.offer(put)
        for follower in self._followers:
            follower.catch_up(self.lane.last_us)
        return offered


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


def last_ids(admin: StreamAdmin, stream: str, id_field: str) -> dict[Shard, int]:
    """The id of the last record of each shard that has one; `id_field` is the event's field that is one."""
    last = admin.last_records(admin.shards(stream))
    return {shard: msgspec.json.decode(record.value or b"{}")[id_field] for shard, record in last.items()}


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
