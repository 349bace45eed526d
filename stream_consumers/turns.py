"""Two Kafka transactions in turn: while one is committed in a thread, the loop fills the other.

A commit takes tens of milliseconds, for which a single transaction would stall the loop. Commits are
strictly in order, and so are the records of one shard: the second transaction gets none before all of the
first are written. After any failure both are aborted, whatever state they are in.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from infra.streams.errors import FencedError, TransactionFailedError
from infra.streams.records import Shard
from infra.streams.transactions import TransactionalProducer

log = logging.getLogger(__name__)
FAILURES = (FencedError, TransactionFailedError)
MOST_RECORDS = 5_000
"""How many records are read into one before the loop waits for the other's commit."""

Tally = Counter[tuple[str, str]]


@dataclass
class _Turn:
    """An open transaction: what it answers, and what to count once it is committed."""

    producer: TransactionalProducer
    group_metadata: Any
    offsets: dict[Shard, int] = field(default_factory=dict)
    records: int = 0
    tally: Tally = field(default_factory=Counter)


class _Commit(NamedTuple):
    """A transaction that is being committed: whether its records are written, and whether all is done."""

    turn: _Turn
    written: Future[None]
    ended: Future[None]


class Turns:
    """Sends in transactions. Every method may raise one of FAILURES; `restart` is what to do then."""

    def __init__(
        self,
        make: Callable[[int], TransactionalProducer],
        committed: Callable[[Tally], None],
    ) -> None:
        """`make` gives producer 0 or 1; it aborts what an earlier process left open under its id.

        `committed` gets the tally of each transaction when its commit has ended.
        """
        self._make, self._committed = make, committed
        self._producers = [make(0), make(1)]
        self._open: _Turn | None = None
        self._committing: _Commit | None = None
        self._thread = ThreadPoolExecutor(1, "commit")

    def begin(self, group_metadata: Any) -> None:
        """Have a transaction open. `group_metadata` is that of the poll whose records it will answer.

        Waits until the other's records are written, which as a rule they are by the next poll's end.
        """
        if self._open is not None:
            return
        busy = None
        if self._committing is not None:
            self._committing.written.result()
            busy = self._committing.turn.producer
        producer = next(each for each in self._producers if each is not busy)
        producer.begin()
        self._open = _Turn(producer, group_metadata)

    def send(
        self,
        stream: str,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]] = (),
        shard: int | None = None,
    ) -> None:
        """Send a record in the open transaction."""
        assert self._open is not None
        self._open.producer.send(stream, key, value, headers=headers, shard=shard)

    def answered(self, offsets: Mapping[Shard, int], records: int, tally: Tally) -> None:
        """All of these shards' records below the offsets have their answers in the open transaction."""
        assert self._open is not None
        self._open.offsets.update(offsets)
        self._open.records += records
        self._open.tally.update(tally)

    def tick(self) -> None:
        """Commit the open transaction unless another is being committed: until then it is filled on."""
        if self._committing is not None and self._committing.ended.done():
            self._end_commit()
        turn = self._open
        if turn is None:
            return
        if self._committing is not None and turn.records >= MOST_RECORDS:
            self._end_commit()
        if self._committing is None:
            self._begin_commit()

    def finish(self) -> None:
        """Commit everything, and wait for it."""
        self._end_commit()
        if self._open is not None:
            self._begin_commit()
            self._end_commit()

    def restart(self) -> None:
        """Abort both and go on with new producers: a used one may still have a request under way."""
        try:
            self._end_commit()
        except FAILURES as error:
            log.warning("a transaction failed: %s", error)
        self.drop()
        for producer in self._producers:
            producer.close()
        self._producers = [self._make(0), self._make(1)]

    def drop(self) -> None:
        """Commit none of what is open."""
        self._open = self._committing = None

    def close(self) -> None:
        """End without committing."""
        self._thread.shutdown()
        for producer in self._producers:
            producer.close()

    def _begin_commit(self) -> None:
        turn, self._open = self._open, None
        assert turn is not None
        written = self._thread.submit(turn.producer.flush)
        self._committing = _Commit(turn, written, self._thread.submit(_commit, turn, written))

    def _end_commit(self) -> None:
        if self._committing is None:
            return
        turn = self._committing.turn
        try:
            self._committing.ended.result()
        except BaseException:
            self.drop()
            raise
        self._committing = None
        self._committed(turn.tally)


def _commit(turn: _Turn, written: Future[None]) -> None:
    written.result()
    turn.producer.send_offsets(turn.offsets, turn.group_metadata)
    turn.producer.commit()
