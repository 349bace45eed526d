"""Looks at Kafka: where streams and groups stand, which alerts and labels came. Commits nothing."""

from __future__ import annotations

import re
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import ExitStack, closing, suppress
from datetime import datetime
from typing import TypeVar

import msgspec

from infra.console.decision_tails import Decided, DecisionTails
from infra.console.history import History
from infra.console.state import Flags, ShardState, Streams, StreamState
from infra.console.topic import NotThereError
from infra.console.verdicts import Verdict, Verdicts
from infra.contracts.datasets import GROUPS, DataSet
from infra.contracts.events import Alert, Label, decoder
from infra.settings import Settings
from infra.streams.admin import StreamAdmin
from infra.streams.brokers import answering
from infra.streams.consumer import StreamConsumer
from infra.streams.errors import OffsetOutOfRangeError
from infra.streams.records import Record, Shard

ANSWER_S = 4.0
TOPICS_EVERY_S = 5.0
LOOK_BACK = 10_000
"""So many of the newest alerts and labels are read when a data set is first looked at."""
SHOWN_ALERTS = 40
POLL_S, MOST_RECORDS, MOST_POLLS = 0.15, 2_000, 10
SALES_GROUPS = ("delivery-sales",)
NAME = re.compile(r"(?P<base>transactions|labels|decisions|alerts)(-(?P<id>[0-9a-f]{8}))?(\.dead-letter)?")

E = TypeVar("E", Alert, Label)
Topics = Mapping[str, tuple[str, int]]
"""Topic id and number of shards, by stream."""


class StreamsLook:
    """All streams of a Kafka cluster, by data set; a connection is kept until something fails."""

    def __init__(
        self,
        settings: Callable[[], Settings],
        wanted: Callable[[], set[str]],
        live_from: Callable[[], Mapping[str, datetime]],
    ) -> None:
        """`settings` has Kafka's address while it is up; `wanted` are the data sets whose alerts are read."""
        self._settings, self._wanted, self._live_from = settings, wanted, live_from
        self._watch: _Watch | None = None
        self._servers = ""
        self._history: History[Shard] = History()
        self._flags: dict[str, _FlagReader] = {}

    def __call__(self) -> Streams:
        """Ask Kafka once. Raises NotThereError while it is not up."""
        servers = self._settings().kafka_servers
        if servers != self._servers:
            self.close()
        if not servers:
            raise NotThereError("Kafka is not running")
        self._servers = servers
        try:
            with answering(servers):
                return self._look(servers)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of Kafka; the next look connects anew."""
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.close()

    def _look(self, servers: str) -> Streams:
        if self._watch is None:
            self._watch = _Watch(servers)
        watch = self._watch
        topics = watch.topics()
        ends = watch.admin.ends([Shard(name, n) for name, (_, count) in topics.items() for n in range(count)])
        self._history.add(time.time(), {shard: float(end) for shard, end in ends.items()})
        ids = sorted({data_set for name in topics if (data_set := data_set_of(name)) is not None})
        groups = watch.admin.offsets_by_group([*groups_of(ids), *SALES_GROUPS])
        states = [self._state(name, topics, ends, groups) for name in sorted(topics, key=_order)]
        sets = {
            data_set: tuple(state for state in states if _belongs(state.name, data_set)) for data_set in ids
        }
        return Streams(sets, self._read_flags(watch, topics, ends))

    def _state(
        self,
        name: str,
        topics: Topics,
        ends: Mapping[Shard, int],
        groups: Mapping[str, Mapping[Shard, int]],
    ) -> StreamState:
        topic_id, count = topics[name]
        shards = [Shard(name, number) for number in range(count)]
        committed = {
            group: {shard.number: offsets[shard] for shard in shards if shard in offsets}
            for group, offsets in sorted(groups.items())
            if any(shard in offsets for shard in shards)
        }
        return StreamState(
            name=name,
            topic_id=topic_id,
            shards=tuple(ShardState(s.number, ends[s], self._history.rate(s)) for s in shards),
            lag={
                group: {s.number: max(0, ends[s] - offsets.get(s.number, 0)) for s in shards}
                for group, offsets in committed.items()
            },
            committed=committed,
            rates=self._history.series(*shards),
        )

    def _read_flags(self, watch: _Watch, topics: Topics, ends: Mapping[Shard, int]) -> dict[str, Flags]:
        for data_set in self._wanted() | set(self._flags):
            streams = [DataSet("", data_set).stream(name) for name in ("alerts", "labels")]
            if not all(stream in topics for stream in streams):
                self._flags.pop(data_set, None)
                continue
            made = tuple(topics[stream][0] for stream in streams)
            if data_set not in self._flags or self._flags[data_set].topic_ids != made:
                self._flags[data_set] = _FlagReader(made, streams[0], streams[1])
                watch.tails.forget(DataSet("", data_set).stream("decisions"))
        decisions = {
            name: [shard for shard in ends if shard.stream == DataSet("", name).stream("decisions")]
            for name in self._flags
        }
        # Before the alerts: those of all decisions that are seen here can be read then.
        tails = [shard for shards in decisions.values() for shard in shards]
        if watch.tails.is_due:
            watch.tails.read(watch.admin.begins(tails), {shard: ends[shard] for shard in tails})
        watch.read(self._flags.values(), topics)
        live_from = self._live_from()
        return {
            name: reader.flags(live_from.get(name), watch.tails.decided(decisions[name]))
            for name, reader in self._flags.items()
        }


class _Watch:
    """The clients of one Kafka cluster."""

    def __init__(self, servers: str) -> None:
        with ExitStack() as made:
            self.admin = made.enter_context(StreamAdmin(servers, answer_s=ANSWER_S))
            consumer = StreamConsumer(servers, streams=[], group=None, client_id="console")
            self._consumer = made.enter_context(closing(consumer))
            self.tails = made.enter_context(closing(DecisionTails(servers)))
            self._clients = made.pop_all()
        self._topics: Topics = {}
        self._topics_at = float("-inf")
        self._assigned: set[Shard] = set()

    def close(self) -> None:
        self._clients.close()

    def topics(self) -> Topics:
        """The streams, asked for every few seconds."""
        if time.monotonic() - self._topics_at > TOPICS_EVERY_S:
            self._topics, self._topics_at = self.admin.shards_by_topic(), time.monotonic()
        return self._topics

    def read(self, readers: Collection[_FlagReader], topics: Topics) -> None:
        """Hand each reader what came of its streams since it was last asked."""
        by_stream = {
            stream: reader for reader in readers for stream in (reader.alerts_stream, reader.labels_stream)
        }
        shards = {Shard(stream, n) for stream in by_stream for n in range(topics[stream][1])}
        if shards != self._assigned:
            self._assign(shards, by_stream)
        for _ in range(MOST_POLLS if shards else 0):
            polled = self._poll()
            if not polled:
                break
            for shard, records in polled.items():
                by_stream[shard.stream].take(shard, records)
        for shard in shards:
            by_stream[shard.stream].positions[shard] = self._consumer.position(shard)

    def _poll(self) -> dict[Shard, list[Record]]:
        try:
            return self._consumer.poll(POLL_S, MOST_RECORDS)
        except OffsetOutOfRangeError:
            self._assigned = set()  # trimmed, or made anew: the next look begins anew
            return {}

    def _assign(self, shards: set[Shard], by_stream: Mapping[str, _FlagReader]) -> None:
        ordered = sorted(shards)
        begins, ends = self.admin.begins(ordered), self.admin.ends(ordered)
        self._consumer.assign(ordered)
        for shard in ordered:
            reader = by_stream[shard.stream]
            least = max(begins[shard], ends[shard] - LOOK_BACK)
            start = reader.positions.get(shard, least)
            if not begins[shard] <= start <= ends[shard]:
                start = least
            if shard not in reader.positions and start > 0:
                reader.is_cut.add(shard)
            reader.goals[shard] = ends[shard]
            self._consumer.seek(shard, start)
        self._assigned = shards


class _FlagReader:
    """The alerts and labels of one data set, as far as they were read."""

    def __init__(self, topic_ids: tuple[str, ...], alerts: str, labels: str) -> None:
        self.topic_ids, self.alerts_stream, self.labels_stream = topic_ids, alerts, labels
        self.positions: dict[Shard, int] = {}
        self.goals: dict[Shard, int] = {}
        self.is_cut: set[Shard] = set()
        self._newest: deque[Alert] = deque(maxlen=SHOWN_ALERTS)
        self._actions: Counter[str] = Counter()
        self._verdicts = Verdicts()
        self._history: History[str] = History()
        self._verdict: tuple[tuple[object, ...], Verdict | None] | None = None
        self._count = 0
        self._labels = 0

    def take(self, shard: Shard, records: list[Record]) -> None:
        """Take records of one of the two streams; one that is none of ours is passed over."""
        if shard.stream == self.alerts_stream:
            alerts = _decoded(records, Alert)
            self._begin(shard, alerts)
            self._newest.extend(alerts)
            self._actions.update(alert.action for alert in alerts)
            self._verdicts.alerted(alerts)
            self._count += len(alerts)
        else:
            labels = _decoded(records, Label)
            self._begin(shard, labels)
            self._verdicts.labelled(labels)
            self._labels += len(labels)

    def flags(self, live_from: datetime | None, decided: Decided | None) -> Flags:
        """What is known now."""
        reading = any(self.positions.get(shard, 0) < goal for shard, goal in self.goals.items())
        if not reading:  # what is read back did not come just now
            self._history.add(time.time(), {"alerts": float(self._count)})
        state = (self._count, self._labels, live_from, decided, reading)
        if self._verdict is None or self._verdict[0] != state:
            known = None
            if live_from is not None and decided is not None and not reading:
                known = self._verdicts.verdict(live_from, decided.until)
            self._verdict = state, known
        return Flags(
            newest=tuple(reversed(self._newest)),
            actions=dict(self._actions),
            per_s=self._history.rate("alerts"),
            verdict=self._verdict[1],
            models=decided.models if decided else (),
            reading=reading,
        )

    def _begin(self, shard: Shard, events: list[Alert] | list[Label]) -> None:
        """Where not all was read, what is older than the first record is not known."""
        if events and shard in self.is_cut:
            self._verdicts.begin_at(events[0].event_time)
            self.is_cut.discard(shard)


def data_set_of(stream: str) -> str | None:
    """The id of the data set that a stream belongs to (empty: the default one); None for another stream."""
    match = NAME.fullmatch(stream)
    if match is None:
        return "" if stream == "sales" else None
    return match["id"] or ""


def groups_of(data_sets: list[str]) -> list[str]:
    """The consumer groups of data sets."""
    return [DataSet("", data_set).group(name) for data_set in data_sets for name in GROUPS]


def _decoded(records: Iterable[Record], kind: type[E]) -> list[E]:
    decode = decoder(kind).decode
    found = []
    for record in records:
        with suppress(msgspec.MsgspecError):  # bad records have owners: the consumers that set them aside
            found.append(decode(record.value or b""))
    return found


def _belongs(stream: str, data_set: str) -> bool:
    return data_set_of(stream) == data_set


def _order(name: str) -> tuple[int, str]:
    bases = ("transactions", "decisions", "alerts", "labels", "sales")
    base = name.partition(".")[0].partition("-")[0]
    return (bases.index(base) if base in bases and "." not in name else len(bases)), name
