"""How far streams were played: the last event of each shard that is its player's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from infra.contracts.datasets import DataSet, Manifest
from infra.contracts.errors import PoisonRecordError
from infra.contracts.events import Event, Label, Transaction
from infra.contracts.validity import read_event
from infra.streams.admin import StreamAdmin
from infra.streams.records import Record, Shard, shard_number

E = TypeVar("E", bound=Event)


def live_played(admin: StreamAdmin, data_set: DataSet, manifest: Manifest) -> int:
    """How many of a data set's live transactions were played: up to the one furthest in any shard."""
    last = last_events(admin, data_set.stream("transactions"), Transaction, is_of(manifest))
    history = manifest.transactions - manifest.live_transactions
    return max((event.transaction_id + 1 - history for event in last.values()), default=0)


def is_of(manifest: Manifest) -> Callable[[Transaction | Label], bool]:
    """Whether a transaction or a label is of a data set, whose ids go from 0 to their number."""
    return lambda event: event.transaction_id < manifest.transactions


def last_events(
    admin: StreamAdmin, stream: str, kind: type[E], is_own: Callable[[E], bool] = lambda event: True
) -> dict[Shard, E]:
    """The last event of each shard that has one.

    Bad records that somebody else put after it, and events that are not the player's own, are passed over.
    """
    shards = admin.shards(stream)

    def is_meant(record: Record) -> bool:
        try:
            event = read_event(kind, record)
        except PoisonRecordError:
            return False
        return shard_number(event.key, len(shards)) == record.shard.number and is_own(event)

    return {shard: read_event(kind, record) for shard, record in admin.last_records(shards, is_meant).items()}
