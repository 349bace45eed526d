"""What is to be played: the days of a data set from S3 as records, in order, a day ahead in a thread."""

from __future__ import annotations

import bisect
import io
import queue
import threading
import time
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from infra.contracts.datasets import LABEL_DELAY, DataSet, day_object
from infra.contracts.events import Label, Transaction, encode
from infra.contracts.features import EPOCH, microseconds
from infra.objects import ObjectStore

GATE_POLL_S = 2.0
Gate = Callable[[str], bool]


class Put(NamedTuple):
    """One record to be put, when the play has come to `due_us` (event time, microseconds since 1970)."""

    id: int
    due_us: int
    key: str
    value: bytes


NOT_YET = Put(-1, -1, "", b"")
"""Stands for what a source will have later, and ends a day: what came before is not held back for more."""


def transactions(
    store: ObjectStore, data_set: DataSet, live_from: datetime, after: int, gate: Gate | None = None
) -> Iterator[Put]:
    """The live transactions with ids above `after`, in order; with a gate it never ends (see `_days`)."""
    for table in _days(store, data_set.source("transactions"), live_from.date(), after, gate):
        yield from _transactions(table, microseconds(live_from), after)
        yield NOT_YET


def labels(
    store: ObjectStore, data_set: DataSet, live_from: datetime, after: int, gate: Gate | None = None
) -> Iterator[Put]:
    """The labels that become known in the live part, of ids above `after`, in order of that."""
    for table in _days(store, data_set.source("labels"), (live_from - LABEL_DELAY).date(), after, gate):
        yield from _labels(table, microseconds(live_from), after)
        yield NOT_YET


def ahead(puts: Iterator[Put], patience_s: float | None = None) -> Iterator[Put]:
    """The same, read a little ahead in a thread, so that no day's reading stalls the play.

    With `patience_s`, a source that has nothing for so long gives NOT_YET, again and again.
    """
    chunks: queue.Queue[list[Put] | BaseException | None] = queue.Queue(maxsize=8)
    stop = threading.Event()

    def fill() -> None:
        try:
            for chunk in _chunks(puts, 2_000):
                if not _offer(chunks, chunk, stop):
                    return
            _offer(chunks, None, stop)
        except BaseException as error:  # raised again by whoever reads
            _offer(chunks, error, stop)

    threading.Thread(target=fill, name="play", daemon=True).start()
    try:
        while True:
            try:
                chunk = chunks.get(timeout=patience_s)
            except queue.Empty:
                yield NOT_YET
                continue
            if chunk is None:
                return
            if isinstance(chunk, BaseException):
                raise chunk
            yield from chunk
    finally:
        stop.set()


def _offer(
    chunks: queue.Queue[list[Put] | BaseException | None],
    item: list[Put] | BaseException | None,
    stop: threading.Event,
) -> bool:
    while not stop.is_set():
        try:
            chunks.put(item, timeout=0.5)
        except queue.Full:
            continue
        return True
    return False


def _chunks(puts: Iterator[Put], size: int) -> Iterator[list[Put]]:
    chunk: list[Put] = []
    for put in puts:
        if put is not NOT_YET:
            chunk.append(put)
        if len(chunk) == size or (chunk and put is NOT_YET):
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _days(store: ObjectStore, prefix: str, first: date, after: int, gate: Gate | None) -> Iterator[pa.Table]:
    """The tables of the days from `first` on that hold an id above `after`, in order.

    A gate says whether a day (YYYY-MM-DD) may be played yet; with one, days that come later are waited for.
    """
    begin = day_object(prefix, first.isoformat())
    while True:
        days = [item.url for item in store.list(prefix) if item.url >= begin]
        # Ids ascend from day to day, so a play that goes on far into its data set reads few of those before.
        for url in days[bisect.bisect_right(days, after, key=lambda url: _last_id(store, url)) :]:
            while gate is not None and not gate(_day(url)):
                time.sleep(GATE_POLL_S)
            table = pq.read_table(io.BytesIO(store.get(url)))
            after = int(table["transaction_id"][-1].as_py())
            yield table
        if gate is None:
            return
        time.sleep(GATE_POLL_S)


def _day(url: str) -> str:
    """The day of a day_object's address."""
    return url.rpartition("/day=")[2].partition("/")[0]


def _last_id(store: ObjectStore, url: str) -> int:
    table = pq.read_table(io.BytesIO(store.get(url)), columns=["transaction_id"])
    return int(table["transaction_id"][-1].as_py())


def _transactions(table: pa.Table, live_from_us: int, after: int) -> Iterator[Put]:
    columns = _columns(table, "transaction_id", "event_time", "card_id", "terminal_id", "amount_cents")
    for number, time_us, card, terminal, cents in columns:
        if number > after and time_us >= live_from_us:
            event = Transaction(
                transaction_id=number,
                event_time=time_of(time_us),
                card_id=card,
                terminal_id=terminal,
                amount_cents=cents,
            )
            yield Put(number, time_us, card, encode(event))


def _labels(table: pa.Table, live_from_us: int, after: int) -> Iterator[Put]:
    columns = _columns(table, "transaction_id", "event_time", "card_id", "terminal_id", "known_at")
    for number, time_us, card, terminal, known_us in columns:
        if number > after and known_us >= live_from_us:
            event = Label(
                transaction_id=number,
                event_time=time_of(time_us),
                card_id=card,
                terminal_id=terminal,
                known_at=time_of(known_us),
            )
            yield Put(number, known_us, card, encode(event))


def _columns(table: pa.Table, *names: str) -> Iterator[Any]:
    """The rows of some columns, times as microseconds since 1970."""
    columns = (table[name] for name in names)
    plain = (column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column for column in columns)
    return zip(*(column.to_pylist() for column in plain), strict=True)


def time_of(micros: int) -> datetime:
    """The time (UTC) of microseconds since 1970."""
    return EPOCH + timedelta(microseconds=micros)
