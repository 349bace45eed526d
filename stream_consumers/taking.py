"""Records into a shard's state: read, checked, counted into their card's windows, made features. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from infra.contracts.errors import PoisonRecordError
from infra.contracts.events import Transaction
from infra.contracts.features import microseconds, online
from infra.contracts.validity import check_time, read_event
from infra.streams.records import Record
from stream_consumers.models import Model
from stream_consumers.shard_state import ShardState
from stream_consumers.terminal_tables import NOTHING, TerminalTable


class Row(NamedTuple):
    """A good record with its features; `model` and `table` are None while no model is in force."""

    record: Record
    transaction: Transaction
    features: list[float]
    model: Model | None
    table: TerminalTable | None


class Bad(NamedTuple):
    """A record that is set aside, and why."""

    record: Record
    reason: str


@dataclass(slots=True)
class Taken:
    """What became of a shard's records.

    `waits_for` is the event time (microseconds since 1970) of the first that has to wait for its
    terminals' table, and with it all behind it.
    """

    rows: list[Row] = field(default_factory=list)
    bad: list[Bad] = field(default_factory=list)
    waits_for: int | None = None


class Taker:
    """Takes records into the states of their shards, with what is in force by event time."""

    def __init__(
        self,
        in_force: Callable[[int], Model | None],
        table: Callable[[int, int], TerminalTable | None],
        live_from: datetime,
    ) -> None:
        """`in_force` gives the model of an event time, `table` the table of an as-of time and its step.

        Both take microseconds since 1970. `live_from` stands for a shard's newest event time before its
        first good record.
        """
        self._in_force, self._table, self._live_from = in_force, table, live_from

    def take(self, state: ShardState, records: Iterable[Record]) -> Taken:
        """Take records of one shard, in order, up to the first that has to wait."""
        taken = Taken()
        for record in records:
            try:
                transaction = self._read(state, record)
            except PoisonRecordError as error:
                taken.bad.append(Bad(record, str(error)))
                state.offset = record.offset + 1
                continue
            time_us = microseconds(transaction.event_time)
            model, table = self._look_up(time_us)
            if model is not None and table is None:
                taken.waits_for = time_us
                break
            terminal = table.row(transaction.terminal_id) if table else NOTHING
            card = state.card(transaction.card_id)
            seen = card.add(time_us, transaction.transaction_id, transaction.amount_cents)
            features = online(time_us, transaction.amount_cents, seen, terminal)
            taken.rows.append(Row(record, transaction, features, model, table))
            _advance(state, record, transaction)
        return taken

    def replay(self, state: ShardState, records: Iterable[Record]) -> None:
        """Take records that have their answers: the state becomes what `take` made it then."""
        for record in records:
            try:
                transaction = self._read(state, record)
            except PoisonRecordError:
                state.offset = record.offset + 1  # it is in the dead letters
                continue
            time_us = microseconds(transaction.event_time)
            card = state.card(transaction.card_id)
            card.add(time_us, transaction.transaction_id, transaction.amount_cents)
            _advance(state, record, transaction)

    def expect(self, state: ShardState) -> None:
        """Have the table loaded that a shard's next record will most likely look up."""
        self.is_ready(microseconds(state.newest or self._live_from))

    def is_ready(self, event_time_us: int) -> bool:
        """Whether a record of this event time need not wait."""
        model, table = self._look_up(event_time_us)
        return model is None or table is not None

    def _look_up(self, time_us: int) -> tuple[Model | None, TerminalTable | None]:
        model = self._in_force(time_us)
        if model is None:
            return None, None
        return model, self._table(time_us - time_us % model.step_us, model.step_us)

    def _read(self, state: ShardState, record: Record) -> Transaction:
        transaction = read_event(Transaction, record)
        check_time(transaction.event_time, state.newest or self._live_from)
        return transaction


def _advance(state: ShardState, record: Record, transaction: Transaction) -> None:
    state.offset = record.offset + 1
    if state.newest is None or transaction.event_time > state.newest:
        state.newest = transaction.event_time
