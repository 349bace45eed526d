"""The one consume loop: polls, hands records on, tells about shards that come and go, ends cleanly."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection
from typing import Any, NamedTuple, Protocol

from infra.contracts.errors import TooManyBadRecordsError
from infra.streams.consumer import StreamConsumer
from infra.streams.errors import FencedError
from infra.streams.records import Record, Shard

JOIN_S = 2.0
"""Polls are this long until shards are assigned: a short one would never join its group."""
BAD_IN_A_ROW = 5_000
"""So many bad records without a good one between them stop a consumer rather than drain the stream."""
log = logging.getLogger(__name__)


class Batch(NamedTuple):
    """The records of one poll. `group_metadata` is the consumer's place in its group at that poll."""

    records: dict[Shard, list[Record]]
    group_metadata: Any


class Handler(Protocol):
    """What is done with records. Never called twice at the same time, nor after `close`.

    Shards come and go while the loop waits in a poll, in a thread beside it; all else is the loop's thread.
    """

    def assigned(self, shards: Collection[Shard]) -> None:
        """These shards came in addition: seek each before it returns."""

    def revoked(self, shards: Collection[Shard]) -> None:
        """These go to another member when it returns: finish or abort what is open."""

    def lost(self, shards: Collection[Shard]) -> None:
        """These are another member's already: abort what is open."""

    def handle(self, batch: Batch) -> None:
        """Take the records of a poll, of assigned shards only."""

    def tick(self) -> None:
        """Called after every poll, with records or without."""

    def close(self) -> None:
        """The orderly end: finish what is open, for the shards are given up after it.

        Not called after a failure: what is open then is aborted, or done again by the next owner.
        """


class Relay:
    """Passes a consumer's rebalances on to a handler, which is made after the consumer."""

    def __init__(self) -> None:
        self.handler: Handler | None = None

    def assigned(self, shards: Collection[Shard]) -> None:
        """See Handler."""
        log.info("assigned %s", _names(shards))
        if self.handler is not None:
            self.handler.assigned(shards)

    def revoked(self, shards: Collection[Shard]) -> None:
        """See Handler."""
        log.info("revoked %s", _names(shards))
        if self.handler is not None:
            self.handler.revoked(shards)

    def lost(self, shards: Collection[Shard]) -> None:
        """See Handler."""
        log.warning("lost %s", _names(shards))
        if self.handler is not None:
            self.handler.lost(shards)


def consume(
    consumer: StreamConsumer,
    handler: Handler,
    *,
    poll_s: float,
    max_records: int,
    stop: threading.Event,
    beat: Callable[[], None] = lambda: None,
) -> None:
    """Run until `stop` is set (see process.stop_on_signals); then `handler.close` and leave the group.

    `beat` is called once a round, so that a health check can see that the loop goes on. After a failure
    the group is left at once, without a word to the handler: nothing more is committed.
    """
    joined = False
    try:
        while not stop.is_set():
            records = consumer.poll(poll_s if joined else JOIN_S, max_records)
            joined = joined or bool(consumer.assignment())
            if records:
                _hand_on(consumer, handler, records)
            handler.tick()
            beat()
        handler.close()
    finally:
        consumer.close()


def _hand_on(consumer: StreamConsumer, handler: Handler, records: dict[Shard, list[Record]]) -> None:
    try:
        batch = Batch(records, consumer.group_metadata())
    except FencedError as error:
        # The next poll tells the handler that the shards are lost, and reads them again if they come back.
        log.warning("%d records are dropped: %s", sum(map(len, records.values())), error)
        return
    handler.handle(batch)


class BadRecordLimit:
    """Counts bad records in a row."""

    def __init__(self, most: int = BAD_IN_A_ROW) -> None:
        self._most, self._bad = most, 0

    def count(self, bad: int, good: int) -> None:
        """Note a batch's records. Raises TooManyBadRecordsError when it is too many."""
        self._bad = 0 if good else self._bad + bad
        if self._bad > self._most:
            raise TooManyBadRecordsError(
                f"{self._bad:,} bad records in a row: this stream does not hold what it should"
            )


def _names(shards: Collection[Shard]) -> str:
    return ", ".join(f"{shard.stream}/{shard.number}" for shard in sorted(shards))
