"""Hands alerts to a sink that takes them at once, a log or a file: effect first, offset after."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Protocol

from infra.contracts.errors import UserError
from infra.contracts.events import Alert
from infra.streams.consumer import StreamConsumer
from infra.streams.errors import FencedError
from infra.streams.records import Shard
from stream_consumers.alert_file import AlertFile, line
from stream_consumers.alert_intake import Intake, Taken
from stream_consumers.worker import Batch

log = logging.getLogger(__name__)


class Sink(Protocol):
    """Where alerts go."""

    is_alone: bool
    """Whether all shards have to be one process's."""

    def rewind(self, marks: Collection[str], committed: Mapping[Shard, int]) -> None:
        """Go back to what is committed: the offsets, and the marks committed with them."""

    def take(self, alerts: Sequence[Taken]) -> None:
        """Take alerts for good."""

    def mark(self) -> str:
        """What is to be committed with the offsets now."""


class LogSink:
    """One readable line per alert. A crash may repeat the last ones."""

    is_alone = False

    def __init__(self, write: Callable[[str], None]) -> None:
        """`write` puts out a line."""
        self._write = write

    def rewind(self, marks: Collection[str], committed: Mapping[Shard, int]) -> None:
        """What is said is said."""

    def take(self, alerts: Sequence[Taken]) -> None:
        """Write them."""
        for taken in alerts:
            self._write(readable(taken.alert))

    def mark(self) -> str:
        """None."""
        return ""


class FileSink:
    """Each alert exactly once in a file: see alert_file, which says why.

    It is alone, as its length can stand for the offsets only if all of them are committed with it.
    """

    is_alone = True

    def __init__(self, file: AlertFile) -> None:
        self._file = file

    def rewind(self, marks: Collection[str], committed: Mapping[Shard, int]) -> None:
        """Cut off what is not committed."""
        cut = self._file.rewind(marks, committed)
        if cut:
            log.warning("%s: %d bytes were not committed and are cut off", self._file.path, cut)

    def take(self, alerts: Sequence[Taken]) -> None:
        """Append them."""
        self._file.append(line(taken.record, taken.alert) for taken in alerts)

    def mark(self) -> str:
        """The file's length."""
        return self._file.mark.text()


class SinkHandler:
    """Takes the batches of the consume loop to a sink, each as a whole, and then commits.

    When the group has moved on in the meantime nothing is undone: what is committed decides, at the next
    assignment.
    """

    def __init__(self, consumer: StreamConsumer, sink: Sink, intake: Intake) -> None:
        self._consumer, self._sink, self._intake = consumer, sink, intake
        self.offsets: dict[Shard, int] = {}
        """The next offset of each shard, all below it taken."""

    def assigned(self, shards: Collection[Shard]) -> None:
        """Go on where the group stands. Raises UserError if a sink that has to be alone is not."""
        self.offsets |= self._consumer.start(shards)
        everything = {shard for stream in self._consumer.streams for shard in self._consumer.shards(stream)}
        if self._sink.is_alone and set(self.offsets) != everything:
            raise UserError(
                f"another process of group {self._consumer.group} takes a part of the alerts: end it first"
            )
        marks = [self._consumer.committed_metadata(shard) for shard in shards]
        self._sink.rewind(marks, self.offsets)
        self._commit()  # before the first alert, so that there is a mark to go back to

    def revoked(self, shards: Collection[Shard]) -> None:
        """Nothing is open between two batches."""
        self._forget(shards)

    def lost(self, shards: Collection[Shard]) -> None:
        """As revoked."""
        self._forget(shards)

    def handle(self, batch: Batch) -> None:
        """Take a batch. Raises FencedError for a shard that is not ours."""
        if not batch.records.keys() <= self.offsets.keys():
            raise FencedError("records came of shards that are not this process's")
        alerts = [taken for records in batch.records.values() for taken in self._intake.read(records)]
        if alerts:
            self._sink.take(alerts)
        for taken in alerts:
            self._intake.took(taken.alert)
        self.offsets |= {shard: records[-1].offset + 1 for shard, records in batch.records.items()}
        self._commit()

    def tick(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        """Nothing is open."""

    def trouble(self) -> str | None:
        """None: what fails here ends the process."""
        return None

    def abandon(self) -> None:
        """Nothing goes on by itself."""

    def _commit(self) -> None:
        mark = self._sink.mark()
        try:
            self._consumer.commit(self.offsets, dict.fromkeys(self.offsets, mark))
        except FencedError as error:
            log.warning("not committed, the shards are taken up anew: %s", error)
            self.offsets.clear()

    def _forget(self, shards: Collection[Shard]) -> None:
        for shard in shards:
            self.offsets.pop(shard, None)


def readable(alert: Alert) -> str:
    """An alert as a line of text: money in units with two places, times in UTC."""
    text = (
        f"{_time(alert.event_time)} {alert.action:<6} card {alert.card_id} {_money(alert.amount_cents)} "
        f"at {alert.terminal_id}, score {alert.score:.3f}: {'; '.join(alert.reasons)} "
        f"(sent {_time(alert.sent_at)}, scored {_time(alert.scored_at)})"
    )
    return "".join(each if each.isprintable() else "?" for each in text)  # ids come from outside


def _money(cents: int) -> str:
    return f"{cents // 100:,}.{cents % 100:02}"


def _time(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%dT%H:%M:%S}Z"
