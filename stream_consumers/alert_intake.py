"""Reads the alerts out of records, and counts what came in and what a sink took."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import NamedTuple

from infra.contracts.errors import PoisonRecordError
from infra.contracts.events import Alert
from infra.contracts.validity import read_event
from infra.metrics import Metrics
from infra.streams.records import Record
from stream_consumers.worker import BadRecordLimit

log = logging.getLogger(__name__)


class Taken(NamedTuple):
    """An alert and the record that it came in."""

    record: Record
    alert: Alert


class Intake:
    """The way in for one sink.

    Only the scorer writes alerts, so a record that is none is somebody's mistake: it is logged with its
    place, counted and passed by, for the alerts behind it matter more. Too many in a row end the consumer.
    """

    def __init__(self, metrics: Metrics, sink: str, clock: Callable[[], float] = time.time) -> None:
        """`clock` gives seconds since 1970. One thread only."""
        self._metrics, self._sink, self._clock = metrics, sink, clock
        self._limit = BadRecordLimit()

    def read(self, records: list[Record]) -> list[Taken]:
        """The alerts in one shard's records (one at least), in order. Raises TooManyBadRecordsError."""
        stream, shard = records[0].shard
        self._metrics.count("records_consumed_total", len(records), stream=stream, shard=shard)
        taken = []
        for record in records:
            try:
                taken.append(Taken(record, read_event(Alert, record)))
            except PoisonRecordError as error:
                log.error("%s/%d, offset %d holds no alert: %s", stream, shard, record.offset, error)
                self._metrics.count("dead_letters_total", stream=stream)
        self._limit.count(len(records) - len(taken), len(taken))
        return taken

    def took(self, alert: Alert, at: float | None = None) -> None:
        """Count an alert that the sink has taken, now or at a time in seconds since 1970."""
        delay_s = (self._clock() if at is None else at) - alert.sent_at.timestamp()
        self._metrics.count("alerts_sent_total", sink=self._sink)
        self._metrics.observe("alert_delay_seconds", delay_s, sink=self._sink)
