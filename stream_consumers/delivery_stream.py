"""The handler of one delivery stream: intent first, then its objects, then the offset.

So a cut may depend on the clock, and still each record is written exactly once: whoever comes after a
crash finds the intent and writes the same objects again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable
from datetime import datetime
from typing import NamedTuple

from infra.archive.intents import Intent, Intents
from infra.contracts.delivery import DeclaredDelivery
from infra.contracts.errors import FailedError, TooManyBadRecordsError, UserError
from infra.metrics import Metrics
from infra.objects import ObjectStore
from infra.streams.consumer import StreamConsumer, check_range
from infra.streams.errors import FencedError, OffsetOutOfRangeError
from infra.streams.records import Shard
from stream_consumers.background import retrying
from stream_consumers.delivery_cuts import Cut, Sorting, resolve
from stream_consumers.worker import BadRecordLimit, Batch

ACTIVE_PARTITIONS = 500
"""Firehose's quota: a delivery stream fills at most so many partitions at once."""
log = logging.getLogger(__name__)


COUNTED = ("delivered_objects_total", "delivered_records_total", "delivered_bytes_total")
MEASURED = ("archive_lag_seconds", "open_intents", "active_partitions")


class Ready(NamedTuple):
    """A cut that is written as an intent says."""

    shard: Shard
    cut: Cut
    intent: Intent


class Clocks(NamedTuple):
    """`monotonic` for intervals and `since_1970` for ages, both in seconds."""

    monotonic: Callable[[], float]
    since_1970: Callable[[], float]


class DeliveryStream:
    """Delivers the records of a stream's shards; a Handler of the consume loop."""

    def __init__(
        self,
        delivery: DeclaredDelivery,
        sorting: Sorting,
        consumer: StreamConsumer,
        store: ObjectStore,
        topic_id: str,
        metrics: Metrics,
        clocks: Clocks,
        active_partitions: int = ACTIVE_PARTITIONS,
    ) -> None:
        """`sorting` is that of new cuts; `consumer` is the member of the delivery stream's group."""
        self._delivery, self._sorting, self._topic_id = delivery, sorting, topic_id
        self._consumer, self._store = consumer, store
        self._metrics, self._clocks = metrics, clocks
        self._active_partitions = active_partitions
        self._intents = Intents(store, delivery.bucket, delivery.name, topic_id)
        self._cuts: dict[Shard, Cut] = {}
        self._limit = BadRecordLimit()
        # All at 0 from the start; made here, since handlers of several threads share the metrics.
        for counter in COUNTED:
            metrics.count(counter, 0, delivery=delivery.name)
        for gauge in MEASURED:
            metrics.set(gauge, 0, delivery=delivery.name)
        metrics.count("dead_letters_total", 0, stream=delivery.stream)

    def assigned(self, shards: Collection[Shard]) -> None:
        """Go on where each shard's archive ends.

        Raises OffsetOutOfRangeError if the log has lost that, UserError if the bucket is another's.
        """
        self._limit = BadRecordLimit()  # what was not committed is read, and counted, again
        committed = self._consumer.committed(shards)
        for shard, position in self._consumer.start(shards).items():
            if committed[shard] is None:
                self._cuts[shard] = self._resume(shard, position)
            else:
                before = self._before(shard, position)
                self._cuts[shard] = self._begin(shard, position, before.newest_after if before else None)

    def revoked(self, shards: Collection[Shard]) -> None:
        """Forget what is not written: the next owner reads it again."""
        for shard in shards:
            self._cuts.pop(shard, None)

    lost = revoked

    def handle(self, batch: Batch) -> None:
        """Sort the records into their shards' cuts. Raises FailedError for too many bad ones in a row."""
        now = self._clocks.monotonic()
        for shard, records in batch.records.items():
            cut = self._cuts[shard]
            good, bad = cut.good, cut.bad
            if cut.began_ms is None:
                cut.since = now
            if cut.take(records, self._may_open) < len(records):
                self._consumer.seek(shard, cut.end)  # the rest belongs to the next cut
            self._metrics.count(
                "records_consumed_total", len(records), stream=shard.stream, shard=shard.number
            )
            if cut.intent is None:  # those of an intent were counted when it was made
                self._check_bad(cut.bad - bad, cut.good - good)

    def tick(self) -> None:
        """Write what is due, all shards together when the time of one has come."""
        self._write_all(self._due())
        name, begun = self._delivery.name, [c.began_ms for c in self._cuts.values() if c.began_ms is not None]
        lag_s = self._clocks.since_1970() - min(begun) / 1000 if begun else 0.0
        self._metrics.set("archive_lag_seconds", max(0.0, lag_s), delivery=name)

    def close(self) -> None:
        """Write all that was read."""
        self._write_all([shard for shard, cut in self._cuts.items() if cut.is_complete or _is_open(cut)])

    def _check_bad(self, bad: int, good: int) -> None:
        try:
            self._limit.count(bad, good)
        except TooManyBadRecordsError as error:
            self.close()  # or each start would read the same and end here
            raise FailedError(
                f"{self._delivery.name}: {error}; they are below its error prefix, "
                "and the next start goes on behind them"
            ) from error

    def _due(self) -> list[Shard]:
        now, most = self._clocks.monotonic(), self._delivery.size_bytes
        is_time = any(
            _is_open(cut) and now - cut.since >= self._delivery.interval_s for cut in self._cuts.values()
        )
        return [
            shard
            for shard, cut in self._cuts.items()
            if cut.is_complete or (_is_open(cut) and (is_time or cut.size >= most))
        ]

    def _may_open(self, value: str) -> bool:
        active = {each for cut in self._cuts.values() for each in cut.parts}
        return value in active or len(active) < self._active_partitions

    def _write_all(self, shards: Iterable[Shard]) -> None:
        ready = [made for shard in shards if (made := self._declare(shard)) is not None]
        if not ready:
            return
        self._metrics.set("open_intents", len(ready), delivery=self._delivery.name)
        self._metrics.set(
            "active_partitions",
            len({value for each in ready for value in each.cut.parts}),
            delivery=self._delivery.name,
        )
        for each in ready:
            self._write(each)
        self._commit(ready)
        self._metrics.set("open_intents", 0, delivery=self._delivery.name)

    def _declare(self, shard: Shard) -> Ready | None:
        """Say how a cut is written; None if somebody else said it otherwise, whose intent is taken up."""
        cut = self._cuts[shard]
        if cut.intent is not None:
            return Ready(shard, cut, cut.intent)
        intent = resolve(cut, self._delivery, self._topic_id, shard.number)
        found = retrying()(self._intents.create, intent)
        if found == intent:
            return Ready(shard, cut, intent)
        log.warning("shard %d is cut at %d already, in another way", shard.number, cut.first)
        self._consumer.seek(shard, cut.first)
        self._cuts[shard] = Cut(Sorting.of(found), cut.first, found.newest, found)
        return None

    def _write(self, ready: Ready) -> None:
        name = self._delivery.name
        for part, body in ready.cut.bodies(ready.intent):
            retrying()(self._store.put, part.url, body)
            self._metrics.count("delivered_objects_total", delivery=name)
            self._metrics.count("delivered_bytes_total", len(body), delivery=name)
            if part.error is None:
                self._metrics.count("delivered_records_total", part.records, delivery=name)
            else:
                self._metrics.count("dead_letters_total", part.records, stream=self._delivery.stream)

    def _commit(self, ready: list[Ready]) -> None:
        """Commit the offsets, each with where its cut began: so the next owner finds the intent again."""
        offsets = {each.shard: each.intent.end for each in ready}
        try:
            self._consumer.commit(offsets, {each.shard: str(each.intent.first) for each in ready})
        except FencedError as error:
            # What was written is what any owner writes. The next poll joins anew, and tells what is ours.
            log.warning("%s: %s", self._delivery.name, error)
            self._cuts.clear()
            return
        for shard, cut, intent in ready:
            self._cuts[shard] = (
                Cut(self._sorting, intent.end, intent.newest_after)
                if cut.intent is None
                else self._begin(shard, intent.end, intent.newest_after)
            )

    def _begin(self, shard: Shard, offset: int, newest: datetime | None) -> Cut:
        """A shard's cut from an offset on; an open intent's if there is one."""
        intent = retrying()(self._intents.get, shard.number, offset)
        if intent is None:
            return Cut(self._sorting, offset, newest)
        log.info("shard %d: finishing the cut from %d to %d", shard.number, intent.first, intent.end)
        return Cut(Sorting.of(intent), offset, intent.newest, intent)

    def _before(self, shard: Shard, offset: int) -> Intent | None:
        """The cut that ended at a committed offset."""
        text = self._consumer.committed_metadata(shard)
        if text.isdecimal():
            before = retrying()(self._intents.get, shard.number, int(text))
            if before is None:
                raise self._elsewhere(shard, int(text))
        else:
            before = retrying()(self._intents.last_before, shard.number, offset)
        if before is not None and before.end > offset:
            raise OffsetOutOfRangeError(
                f"shard {shard.number} of {shard.stream} is committed up to {offset:,}, but was cut from "
                f"{before.first:,} to {before.end:,}: somebody else has set the offset"
            )
        return before

    def _elsewhere(self, shard: Shard, first: int) -> UserError:
        name = self._delivery.name
        return UserError(
            f"delivery stream {name}: the last cut of shard {shard.number} is said by "
            f"{self._intents.url(shard.number, first)}, which is not there; if BucketARN was changed, "
            f"give it the old bucket back, or copy delivery/{name}/ from the old bucket into this one"
        )

    def _resume(self, shard: Shard, beginning: int) -> Cut:
        """Without a committed offset: after the last cut, or with it unless it is whole."""
        last = retrying()(self._intents.last_before, shard.number)
        if last is None:
            return self._begin(shard, beginning, None)
        offset = last.end if retrying()(self._intents.is_done, last) else last.first
        check_range(shard, offset, beginning, self._consumer.end_offsets([shard])[shard])
        self._consumer.seek(shard, offset)
        return self._begin(shard, offset, last.newest_after)


def _is_open(cut: Cut) -> bool:
    """Whether a cut has records and no intent yet."""
    return cut.intent is None and cut.began_ms is not None
