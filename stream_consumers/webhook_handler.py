"""Posts the alerts of the consume loop beside it: each card's in order, several cards at once.

The loop never waits for the receiver, so its place in the group is kept however long an outage takes:
posts run in threads, a shard with too many alerts waiting is paused, and only offsets below the first
alert that is not delivered yet are committed. A card's alerts are always one thread's.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Collection
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import NamedTuple
from zlib import crc32

from infra.contracts.events import Alert
from infra.streams.consumer import StreamConsumer
from infra.streams.errors import FencedError
from infra.streams.records import Shard
from stream_consumers.alert_intake import Intake, Taken
from stream_consumers.webhook import PostCancelledError, Webhook
from stream_consumers.worker import Batch

LANES = 8
MOST_WAITING = 1000

log = logging.getLogger(__name__)


class Lanes:
    """Threads that post alerts, each its cards' in order, until one fails or they are cancelled."""

    def __init__(self, webhook: Webhook, lanes: int) -> None:
        self._webhook = webhook
        self._cancelled = Event()
        self._failure: BaseException | None = None
        self._threads = [ThreadPoolExecutor(1, f"webhook-{number}") for number in range(lanes)]

    def post(self, alert: Alert) -> Future[float]:
        """Post an alert when those before it are delivered; the time of its delivery, since 1970."""
        lane = self._threads[crc32(alert.card_id.encode()) % len(self._threads)]
        return lane.submit(self._post, alert)

    def check(self) -> None:
        """Raise what a post failed with."""
        if self._failure is not None:
            raise self._failure

    def cancel(self) -> None:
        """Post nothing more; waits for the posts that are under way."""
        self._cancelled.set()
        for thread in self._threads:
            thread.shutdown(cancel_futures=True)

    def _post(self, alert: Alert) -> float:
        try:
            return self._webhook.send(alert, self._cancelled)
        except PostCancelledError:
            raise
        except BaseException as error:  # raised again by `check`
            self._failure = self._failure or error
            self._cancelled.set()  # a later alert of the card must not overtake this one
            raise


class Waiting(NamedTuple):
    """An alert on its way."""

    taken: Taken
    delivered: Future[float]

    def is_delivered(self) -> bool:
        """Whether the receiver has it."""
        done = self.delivered
        return done.done() and not done.cancelled() and done.exception() is None


class WebhookHandler:
    """Delivers at least once.

    Again is delivered what was not committed when the process ended or its shards went to another: by a
    crash the last alerts, and always those that have overtaken another card's, which was still tried.
    """

    def __init__(
        self,
        consumer: StreamConsumer,
        webhook: Webhook,
        intake: Intake,
        lanes: int = LANES,
        most_waiting: int = MOST_WAITING,
    ) -> None:
        self._consumer, self._webhook, self._intake = consumer, webhook, intake
        self._number, self._most_waiting = lanes, most_waiting
        self._lanes = Lanes(webhook, lanes)
        self._waiting: dict[Shard, deque[Waiting]] = {}
        self._read: dict[Shard, int] = {}
        self._committed: dict[Shard, int] = {}

    @property
    def offsets(self) -> dict[Shard, int]:
        """The next offset of each shard, all below it delivered."""
        return {
            shard: waiting[0].taken.record.offset if waiting else self._read[shard]
            for shard, waiting in self._waiting.items()
        }

    def assigned(self, shards: Collection[Shard]) -> None:
        """Go on where the group stands. Kafka hands out all shards anew in each rebalance."""
        self._read = self._consumer.start(shards)
        self._committed = dict(self._read)
        self._waiting = {shard: deque() for shard in shards}
        self._lanes = Lanes(self._webhook, self._number)

    def revoked(self, shards: Collection[Shard]) -> None:
        """Post nothing more and commit what is delivered; the next owner posts the others."""
        self._finish()

    def lost(self, shards: Collection[Shard]) -> None:
        """Post nothing more."""
        self._drop()

    def handle(self, batch: Batch) -> None:
        """Have a batch's alerts posted. Raises FencedError for a shard that is not ours."""
        for shard, records in batch.records.items():
            if shard not in self._waiting:
                raise FencedError(f"records came of {shard.stream}/{shard.number}, which is not ours")
            waiting = self._waiting[shard]
            waiting.extend(
                Waiting(taken, self._lanes.post(taken.alert)) for taken in self._intake.read(records)
            )
            self._read[shard] = records[-1].offset + 1
            if len(waiting) >= self._most_waiting:
                self._consumer.pause([shard])

    def tick(self) -> None:
        """Commit what is delivered. Raises what a post failed with."""
        self._settle()
        self._lanes.check()
        self._consumer.resume(
            [shard for shard, waiting in self._waiting.items() if len(waiting) < self._most_waiting]
        )

    def close(self) -> None:
        """Post nothing more and commit what is delivered; the next start posts the others."""
        self._finish()

    def trouble(self) -> str | None:
        """What is wrong with the receiver."""
        return self._webhook.trouble

    def abandon(self) -> None:
        """End the threads, after a failure too."""
        self._lanes.cancel()

    def _settle(self) -> None:
        for waiting in self._waiting.values():
            while waiting and waiting[0].is_delivered():
                taken, delivered = waiting.popleft()
                self._intake.took(taken.alert, delivered.result())
        offsets = self.offsets
        if offsets == self._committed:
            return
        try:
            self._consumer.commit(offsets)
        except FencedError as error:
            log.warning("not committed, the shards are taken up anew: %s", error)
            self._drop()
        else:
            self._committed = offsets

    def _finish(self) -> None:
        self._lanes.cancel()
        self._settle()
        self._lanes.check()
        self._drop()

    def _drop(self) -> None:
        self._lanes.cancel()
        self._waiting, self._read, self._committed = {}, {}, {}
