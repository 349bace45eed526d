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
from datetime import timedelta

from filelock import FileLock, Timeout

from infra.contracts.errors import UserError
from infra.settings import Settings
from infra.streams.errors import InvalidArgumentException, ProvisionedThroughputExceededException
from infra.streams.producer import StreamProducer
from infra.streams.records import Shard
from producers.pacing import TICK_S, Pace
from producers.play import NOT_YET, Put

MOST_HELD = 20_000
"""Records that wait for throttled shards at most; then the play waits with them."""
FOLLOWED_WITHIN_S = 25.0
"""Enough for MOST_HELD records of one shard."""


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
    def after(self) -> int:
        """The highest id up to which no shard lacks a record; -1 while a shard has none."""
        begun = len(self.last_ids) == self.producer.shards(self.stream)
        return min(self.last_ids.values()) if begun else -1

    @property
    def apart_us(self) -> int:
        """How far, in event time, the throttled shard that is furthest behind is behind what is put now."""
        return self.last_us - min((waiting[0].due_us for waiting in self.held.values()), default=self.last_us)

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
        except InvalidArgumentException:
            pass  # never to be tried again: the producer counts it as refused, and so does the summary
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
        self.upcoming = self.upcoming or self._next()
        while self.upcoming is not None and self.upcoming.due_us <= now_us:
            self.lane.offer(self.upcoming)
            self.upcoming = self._next()

    def _next(self) -> Put | None:
        put = next(self.source, None)
        return None if put is NOT_YET else put


class Player:
    """Plays a source into a lane at a rate, and its followers along with it."""

    def __init__(
        self,
        lane: Lane,
        source: Iterator[Put],
        followers: Sequence[Follower] = (),
        most_apart: timedelta | None = None,
    ) -> None:
        """The play waits for a throttled shard that is `most_apart` of event time behind the others."""
        self.lane, self._source, self._followers = lane, source, followers
        self._lanes = (lane, *(follower.lane for follower in followers))
        self._most_apart_us = None if most_apart is None else most_apart // timedelta(microseconds=1)
        self.exhausted = False

    @property
    def done(self) -> bool:
        """Whether all is put: nothing is left to be played, and nothing held back."""
        return self.exhausted and not any(lane.behind for lane in self._lanes)

    def put_what_followed(self) -> None:
        """Put what the followers' throttled shards still hold back: it belongs to what was played."""
        deadline = time.monotonic() + FOLLOWED_WITHIN_S
        while any(follower.lane.behind for follower in self._followers) and time.monotonic() < deadline:
            time.sleep(TICK_S)
            for follower in self._followers:
                follower.lane.retry()

    def skip_to_first(self, stop: threading.Event) -> None:
        """Find the first record that its shard lacks: the clock starts when it is there, or `stop` is set."""
        for follower in self._followers:
            follower.catch_up(0)  # puts nothing, but has its first record read
        for put in self._source:
            if stop.is_set():
                return
            if put is not NOT_YET and self.lane.lacks(put):
                self._source = itertools.chain([put], self._source)
                return
        self.exhausted = True

    def step(self, due: int) -> int:
        """Put up to `due` records, and what the followers have for this time; how many were offered."""
        self.lane.retry()
        offered = 0
        while offered < due and self._goes_on():
            put = next(self._source, None)
            if put is None:
                self.exhausted = True
                break
            if put is NOT_YET:
                break
            offered += self.lane.offer(put)
        for follower in self._followers:
            follower.catch_up(self.lane.last_us)
        return offered

    def _goes_on(self) -> bool:
        """Whether the throttled shards, if any, let the others go on."""
        if not any(lane.held for lane in self._lanes):
            return True
        if self._most_apart_us is not None and self.lane.apart_us >= self._most_apart_us:
            return False
        return all(lane.behind < MOST_HELD for lane in self._lanes)


def run_player(
    player: Player, rate: float, seconds: float | None, stop: threading.Event, report: Callable[[float], None]
) -> float:
    """Play until the time is over, the data set is, or `stop` is set; the seconds that it took."""
    player.skip_to_first(stop)
    began = time.monotonic()
    pace = Pace(rate, began)
    while not (stop.is_set() or player.done):
        now = time.monotonic()
        if seconds is not None and now - began >= seconds:
            break
        due = pace.due(now)
        pace.give_back(due - player.step(due))
        report(now)
        time.sleep(max(0.0, TICK_S - (time.monotonic() - now)))
    took = time.monotonic() - began
    player.put_what_followed()
    return took


def only_producer(settings: Settings, name: str) -> FileLock:
    """The lock, held until the process ends, of the one producer of `name`; a second one is refused."""
    path = settings.home / "run" / f"producer-{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, blocking=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise UserError(f"another producer plays {name}; end it first") from error
    return lock
