"""Reads decisions and alerts as a downstream system would, and notes when each could be read."""

from __future__ import annotations

import contextlib
import threading
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

import msgspec

from infra.contracts.datasets import DataSet
from infra.contracts.errors import FailedError
from infra.contracts.events import Action, Alert, decoder
from infra.report.stream_series import AlertSeen
from infra.streams.brokers import answering
from infra.streams.consumer import StreamConsumer
from infra.streams.errors import KafkaUnavailableError
from infra.streams.records import Record, Shard

POLL_S, MOST_RECORDS = 0.2, 2_000
READ_WITHIN_S = 90.0
GATHER_BYTES, GATHER_S = 64_000, 0.02
PAUSE_S = 0.01
"""Between polls: records that came meanwhile are read together, which costs a quarter of the CPU."""


class Seen(msgspec.Struct, frozen=True):
    """What is taken of a decision; msgspec passes over the rest."""

    transaction_id: int
    action: Action
    sent_at: datetime


class Readers:
    """All decisions and alerts from a moment on, in the order of their reading.

    Columns of decisions: `ids`, `latency_ms` (from the transaction's put to this reader), `second`
    (counted from `began`, seconds since 1970). `alerts` come with their seconds from `began`.
    """

    def __init__(self, servers: str, data_set: DataSet) -> None:
        self._servers = servers
        self._decisions, self._alerts = data_set.stream("decisions"), data_set.stream("alerts")
        self._consumer = StreamConsumer(
            servers,
            streams=[],
            group=None,
            client_id="stream-demo-reader",
            gather_bytes=GATHER_BYTES,
            gather_s=GATHER_S,
        )
        self._shards = [*self._consumer.shards(self._decisions), *self._consumer.shards(self._alerts)]
        self._consumer.assign(self._shards)
        for shard, offset in self._consumer.end_offsets(self._shards).items():
            self._consumer.seek(shard, offset)
        self.began = time.time()
        self.ids, self.latency_ms, self.second = array("q"), array("f"), array("i")
        self.flagged: set[int] = set()
        self.actions: Counter[str] = Counter()
        self.alerts: list[AlertSeen] = []
        self.alert_ms = array("f")
        self._decode = msgspec.json.Decoder(Seen).decode
        self._decode_alert = decoder(Alert).decode
        self._failure: BaseException | None = None
        self._ends: dict[Shard, int] = {}
        self._asked, self._reached = threading.Event(), threading.Event()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Read in a thread while the block runs; what failed there is raised at its end."""
        stop = threading.Event()
        thread = threading.Thread(target=self._read, args=(stop,), name="readers", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            self._consumer.close()
        if self._failure is not None:
            raise self._failure

    def reach_ends(self, meanwhile: Callable[[], None]) -> None:
        """Wait until all that is committed now was read; `meanwhile` is called at each look.

        Raises FailedError when it takes longer than READ_WITHIN_S.
        """
        deadline = time.monotonic() + READ_WITHIN_S
        self._asked.set()
        while not self._reached.wait(POLL_S) and self._failure is None:
            meanwhile()
            if time.monotonic() > deadline:
                raise FailedError(f"decisions and alerts were not read within {READ_WITHIN_S:.0f} s")

    def _read(self, stop: threading.Event) -> None:
        try:
            while not stop.is_set():
                polled = self._consumer.poll(POLL_S, MOST_RECORDS)
                now = time.time()
                for shard, records in polled.items():
                    self._take(shard, records, now)
                if self._asked.is_set() and not self._reached.is_set():
                    self._look_for_ends()
                time.sleep(PAUSE_S)
        except BaseException as error:
            self._failure = error

    def _look_for_ends(self) -> None:
        with contextlib.suppress(KafkaUnavailableError), answering(self._servers):
            self._ends = self._ends or self._consumer.end_offsets(self._shards)
            if all(self._consumer.position(shard) >= end for shard, end in self._ends.items()):
                self._reached.set()

    def _take(self, shard: Shard, records: list[Record], now: float) -> None:
        if shard.stream == self._decisions:
            self._take_decisions(records, now)
            return
        for record in records:
            alert = self._decode_alert(record.value or b"")
            self.alerts.append(AlertSeen(now - self.began, alert))
            self.alert_ms.append((now - alert.sent_at.timestamp()) * 1000)

    def _take_decisions(self, records: list[Record], now: float) -> None:
        for record in records:
            seen = self._decode(record.value or b"")
            self.ids.append(seen.transaction_id)
            self.latency_ms.append((now - seen.sent_at.timestamp()) * 1000)
            self.actions[seen.action] += 1
            if seen.action != "approve":
                self.flagged.add(seen.transaction_id)
        self.second.extend([int(now - self.began)] * len(records))
