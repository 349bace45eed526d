"""The scorer's handler of the consume loop: shards come and go, records are answered in transactions."""

from __future__ import annotations

import gc
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from infra.contracts.features import EPOCH
from infra.metrics import Metrics
from infra.streams.consumer import StreamConsumer
from infra.streams.limits import KEY_CHARACTERS, RECORD_BYTES
from infra.streams.records import Record, Shard
from stream_consumers.scoring import Answer, answers
from stream_consumers.shard_state import ShardState
from stream_consumers.snapshots import SnapshotWriter
from stream_consumers.starting import Starter
from stream_consumers.taking import Bad, Taken, Taker
from stream_consumers.turns import FAILURES, Tally, Turns
from stream_consumers.worker import BadRecordLimit, Batch

log = logging.getLogger(__name__)
MOST_FAILURES, WITHIN_S = 5, 60.0
"""A scorer whose transactions fail more often than this ends: waiting does not help it."""
TOLD_AFTER_S = 5.0
"""The log says what a shard waits for that waits so long."""
KEY_BYTES = 4 * KEY_CHARACTERS
"""How much of a key a dead letter that is cut has."""


@dataclass(frozen=True)
class Outputs:
    """The streams that answers go to, and how many shards the last of them has."""

    decisions: str
    alerts: str
    dead_letters: str
    dead_letter_shards: int


@dataclass(slots=True)
class Wait:
    """The record that has no terminals' table yet, for which its shard waits."""

    shard: Shard
    offset: int
    time_us: int
    since: float
    is_told: bool = False

    def __str__(self) -> str:
        time = EPOCH + timedelta(microseconds=self.time_us)
        place = f"{self.shard.stream} shard {self.shard.number} offset {self.offset}"
        return f"{place} (event time {time:%Y-%m-%dT%H:%M:%SZ})"


class FraudScorer:
    """Owns the states of its shards. A state is dropped with anything that went wrong."""

    def __init__(
        self,
        consumer: StreamConsumer,
        turns: Turns,
        taker: Taker,
        starter: Starter,
        writer: SnapshotWriter,
        outputs: Outputs,
        metrics: Metrics,
        now: Callable[[], datetime],
        checks: Collection[Callable[[], None]],
    ) -> None:
        """`now` gives the time in UTC; `checks` raise what went wrong beside the loop."""
        self._consumer, self._turns, self._taker = consumer, turns, taker
        self._starter, self._writer, self._outputs = starter, writer, outputs
        self._metrics, self._now, self._checks = metrics, now, checks
        self._states: dict[Shard, ShardState] = {}
        self._left: dict[Shard, ShardState] = {}
        self._waiting: dict[Shard, Wait] = {}
        self._failures: deque[float] = deque(maxlen=MOST_FAILURES)
        self._bad = BadRecordLimit()
        self._moved = False

    @property
    def waiting(self) -> list[Wait]:
        """The shards that wait for a terminals' table, the first to wait first."""
        return list(self._waiting.values())

    def assigned(self, shards: Collection[Shard]) -> None:
        """Have the states of new shards, and read them from their committed offsets on."""
        self._moved = True
        self._start(shards)

    def revoked(self, shards: Collection[Shard]) -> None:
        """Commit or abort all answers before the shards can be somebody else's."""
        self._moved = True
        try:
            self._turns.finish()
        except FAILURES as error:
            self._abort(error)
        # A state is a function of the records below its offset, so it is as good as a snapshot there.
        self._left = {shard: self._states[shard] for shard in shards if shard in self._states}
        self._forget(shards)

    def lost(self, shards: Collection[Shard]) -> None:
        """The shards are somebody else's already: abort all answers."""
        self._moved = True
        self._abort(f"{len(shards)} shards were lost to other scorers")
        self._start(set(self._consumer.assignment()) - set(shards))

    def handle(self, batch: Batch) -> None:
        """Answer a batch in the open transaction."""
        if self._moved:
            # It may have been polled before the shards moved: it is read again.
            for shard, state in self._states.items():
                self._consumer.seek(shard, state.offset)
            return
        try:
            self._answer(batch)
        except FAILURES as error:
            self._recover(error)

    def tick(self) -> None:
        """Commit what is due; take up shards whose table has come; write a snapshot that is due."""
        self._moved = False
        for check in self._checks:
            check()
        try:
            self._turns.tick()
        except FAILURES as error:
            self._recover(error)
        if self._waiting:
            self._resume([each.shard for each in self.waiting if self._taker.is_ready(each.time_us)])
            self._tell()
        self._writer.tick({shard.number: state for shard, state in self._states.items()})

    def close(self) -> None:
        """Commit all answers; leave snapshots, so that the next start has nothing to replay."""
        try:
            self._turns.finish()
        except FAILURES as error:
            log.warning("the last transactions are aborted: %s", error)
            self._states.clear()
        self._writer.close({shard.number: state for shard, state in self._states.items()})

    def _answer(self, batch: Batch) -> None:
        began = time.monotonic()
        taken = {
            shard: self._take(shard, records)
            for shard, records in batch.records.items()
            if shard in self._states and shard not in self._waiting
        }
        rows = [row for each in taken.values() for row in each.rows]
        bad = [each for part in taken.values() for each in part.bad]
        if not rows and not bad:
            return
        found = answers(rows, self._now())
        self._bad.count(len(bad), len(rows))
        self._turns.begin(batch.group_metadata)
        self._send(found)
        self._set_aside(bad)
        offsets = {shard: self._states[shard].offset for shard in taken}
        self._turns.answered(offsets, len(rows) + len(bad), _tally(found, bad))
        self._observe(found, time.monotonic() - began)

    def _take(self, shard: Shard, records: list[Record]) -> Taken:
        state = self._states[shard]
        assert records[0].offset >= state.offset, (shard, records[0].offset, state.offset)
        taken = self._taker.take(state, records)
        if taken.waits_for is not None:
            self._wait(shard, taken.waits_for)
        self._metrics.count(
            "records_consumed_total",
            len(taken.rows) + len(taken.bad),
            stream=shard.stream,
            shard=shard.number,
        )
        return taken

    def _wait(self, shard: Shard, time_us: int) -> None:
        self._consumer.pause([shard])
        self._consumer.seek(shard, self._states[shard].offset)
        self._waiting[shard] = Wait(shard, self._states[shard].offset, time_us, time.monotonic())
        self._metrics.set("shards_paused", len(self._waiting))

    def _resume(self, shards: Iterable[Shard]) -> None:
        for shard in list(shards):
            self._consumer.resume([shard])
            del self._waiting[shard]
        self._metrics.set("shards_paused", len(self._waiting))

    def _tell(self) -> None:
        now = time.monotonic()
        for each in self._waiting.values():
            if not each.is_told and now - each.since > TOLD_AFTER_S:
                each.is_told = True
                log.warning("no terminals' table is published for %s: its shard waits, all cards of it", each)

    def _send(self, found: Iterable[Answer]) -> None:
        send, decisions, alerts = self._turns.send, self._outputs.decisions, self._outputs.alerts
        for record, _, decision, alert in found:
            assert record.key is not None
            send(decisions, record.key, decision, shard=record.shard.number)
            if alert is not None:
                send(alerts, record.key, alert)

    def _set_aside(self, bad: Iterable[Bad]) -> None:
        for record, reason in bad:
            shard = record.shard
            key, value, cut = _fitting(record)
            headers = (
                ("reason", reason.encode()),
                ("stream", shard.stream.encode()),
                ("shard", str(shard.number).encode()),
                ("offset", str(record.offset).encode()),
                *cut,
            )
            place = shard.number % self._outputs.dead_letter_shards  # its key may be anything
            self._turns.send(self._outputs.dead_letters, key, value, headers, place)

    def _observe(self, found: Iterable[Answer], took_s: float) -> None:
        self._metrics.observe("score_batch_seconds", took_s)
        now_ms = self._now().timestamp() * 1000
        for answer in found:
            self._metrics.observe("decision_latency_seconds", (now_ms - answer.record.timestamp_ms) / 1000)

    def _recover(self, error: Exception) -> None:
        """Start all shards anew from their committed offsets. Raises the error when that is no use."""
        now = time.monotonic()
        if len(self._failures) == MOST_FAILURES and now - self._failures[0] < WITHIN_S:
            raise error
        self._failures.append(now)
        self._abort(error)
        self._start(self._consumer.assignment())

    def _abort(self, reason: object) -> None:
        log.warning("transactions are aborted: %s", reason)
        self._metrics.count("transactions_aborted_total")
        self._turns.restart()
        self._states.clear()
        self._left.clear()
        self._resume(self._waiting)

    def _start(self, shards: Collection[Shard]) -> None:
        if not shards:
            return
        begins, targets = self._consumer.beginning_offsets(shards), self._consumer.start(shards)
        known = {s: self._left[s] for s in shards if s in self._left and self._left[s].offset == targets[s]}
        new = self._starter.states({s: targets[s] for s in shards if s not in known}, begins)
        self._left.clear()
        self._states.update({**known, **new})
        for state in new.values():
            self._taker.expect(state)
        gc.freeze()  # states live long: going through them again and again would hold the loop up

    def _forget(self, shards: Collection[Shard]) -> None:
        self._resume([shard for shard in shards if shard in self._waiting])
        for shard in shards:
            self._states.pop(shard, None)


def _fitting(record: Record) -> tuple[bytes | None, bytes | None, tuple[tuple[str, bytes], ...]]:
    """A record's key and value if a shard takes them, else their beginnings and a header with their size.

    Other producers can put more than a shard takes: Kafka's limit is for what is left once it is compressed.
    """
    key, value = record.key, record.value
    size = len(key or b"") + len(value or b"")
    if size <= RECORD_BYTES:
        return key, value, ()
    cut = (("cut", b"%d" % size),)
    return key and key[:KEY_BYTES], value and value[: RECORD_BYTES - KEY_BYTES], cut


def _tally(found: Iterable[Answer], bad: Sequence[Bad]) -> Tally:
    tally: Tally = Counter()
    for answer in found:
        tally["decisions_total", answer.action] += 1
        if answer.alert is not None:
            tally["alerts_total", answer.action] += 1
    if bad:
        tally["dead_letters_total", bad[0].record.shard.stream] += len(bad)
    return tally
