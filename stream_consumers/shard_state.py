"""What the scorer remembers of one shard, as a value and as bytes.

It is a function of the history and of the shard's records below `offset`, of nothing else: neither
batches, nor restarts, nor the scorer that happened to have the shard leave a trace.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from datetime import datetime

import msgspec

from infra.contracts.features import FEATURE_LIST
from stream_consumers.card_windows import CardWindow, Entries

FORMAT = 1


@dataclass(slots=True)
class ShardState:
    """One shard. `newest` is the event time of its newest good record, None before the first."""

    offset: int
    """The next record's offset."""
    newest: datetime | None = None
    cards: dict[str, CardWindow] = field(default_factory=dict)

    def card(self, card_id: str) -> CardWindow:
        """A card's window; an empty one for a new card."""
        window = self.cards.get(card_id)
        if window is None:
            window = self.cards[card_id] = CardWindow()
        return window


class Snapshot(msgspec.Struct, frozen=True):
    """A shard's state as a value that changes no more: card ids in order, their entries one after another.

    `counts` (int32) are entries per card; `times`, `ids` and `cents` are int64, least byte first.
    """

    format: int
    feature_list: str
    offset: int
    newest: datetime | None
    cards: list[str]
    counts: bytes
    times: bytes
    ids: bytes
    cents: bytes


class SnapshotError(Exception):
    """Bytes that are no snapshot of this program's."""


def snapshot(state: ShardState) -> Snapshot:
    """A copy of a state."""
    names = sorted(state.cards)
    kept = [state.cards[name].kept() for name in names]
    times, ids, cents = (b"".join([each[column].tobytes() for each in kept]) for column in range(3))
    counts = array("i", [len(each.times) for each in kept]).tobytes()
    return Snapshot(FORMAT, FEATURE_LIST, state.offset, state.newest, names, counts, times, ids, cents)


def encode(copy: Snapshot) -> bytes:
    """A snapshot as msgpack."""
    return msgspec.msgpack.encode(copy)


def restore(body: bytes) -> ShardState:
    """The state that a snapshot was taken of. Raises SnapshotError."""
    try:
        copy = msgspec.msgpack.decode(body, type=Snapshot)
    except msgspec.MsgspecError as error:
        raise SnapshotError(f"not a snapshot: {error}") from error
    if (copy.format, copy.feature_list) != (FORMAT, FEATURE_LIST):
        raise SnapshotError(f"a snapshot of format {copy.format} and feature list {copy.feature_list}")
    columns = [array("q", each) for each in (copy.times, copy.ids, copy.cents)]
    state, first = ShardState(copy.offset, copy.newest), 0
    for name, count in zip(copy.cards, array("i", copy.counts), strict=True):
        chosen = slice(first, first + count)
        state.cards[name] = CardWindow(Entries(*(column[chosen] for column in columns)))
        first += count
    return state
