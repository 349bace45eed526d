"""What makes a record bad: one set of checks for the scorer's dead letters and delivery's errors.

Each bad record has one reason, in one line, as the text of a PoisonRecordError.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import accumulate
from typing import Protocol, TypeVar

import msgspec
import pyarrow as pa

from infra.contracts.errors import PoisonRecordError
from infra.contracts.events import Event, Transaction, arrow_schema, decoder

FUTURE_LIMIT = timedelta(days=31)
"""How far past its shard's newest good event time a record may be: one further would evict all windows."""
TIMED: tuple[type[Event], ...] = (Transaction,)
"""The kinds of events that `check_time` is for: in a shard their `event_time` only moves forward."""
LARGEST_INT = 2**63 - 1
MOST_NESTED = 64
"""How deep objects and lists may lie in each other. A decoder's own limit depends on its caller's stack, so
that one consumer would take what another refuses."""
STRING = re.compile(rb'"(?:[^"\\]+|\\.)*+"?', re.DOTALL)
STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}

E = TypeVar("E", bound=Event)


class HasKeyAndValue(Protocol):
    """A record as it was read."""

    @property
    def key(self) -> bytes | None:
        """The partition key, encoded."""

    @property
    def value(self) -> bytes | None:
        """The event, as JSON."""


def read_event(kind: type[E], record: HasKeyAndValue) -> E:
    """The event of a record. Raises PoisonRecordError when it is not one, or not under its own key."""
    if record.value is None:
        raise PoisonRecordError("no value")
    _check_nesting(record.value)
    try:
        event: E = decoder(kind).decode(record.value)
        if not record.value.isascii():
            record.value.decode()  # the decoder does not look into fields that it does not know
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise PoisonRecordError(" ".join(str(error).split())) from error
    for name in _integers(kind):
        if getattr(event, name) > LARGEST_INT:  # JSON has no largest number, a column has
            raise PoisonRecordError(f"Expected `int` of 64 bits - at `$.{name}`")
    if record.key != event.key.encode():
        raise PoisonRecordError(f"the partition key is not the event's {kind.partition_key}")
    return event


def check_time(event_time: datetime, newest: datetime) -> None:
    """Refuse an event too far past `newest`, the newest good event time of its shard before it."""
    if event_time - newest > FUTURE_LIMIT:
        raise PoisonRecordError(
            f"event_time {_shown(event_time)} is more than {FUTURE_LIMIT.days} days past the "
            f"shard's newest, {_shown(newest)}"
        )


def _check_nesting(value: bytes) -> None:
    if value.count(b"[") + value.count(b"{") <= MOST_NESTED:
        return
    steps = (STEPS.get(byte, 0) for byte in STRING.sub(b"", value))
    if any(depth > MOST_NESTED for depth in accumulate(steps)):
        raise PoisonRecordError(f"objects and lists lie more than {MOST_NESTED} deep in each other")


def _shown(time: datetime) -> str:
    """A time in UTC; one that would leave the calendar by that as it is."""
    try:
        return f"{time.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    except OverflowError:
        return time.isoformat()


@cache
def _integers(kind: type[Event]) -> tuple[str, ...]:
    """The fields that are whole numbers."""
    return tuple(field.name for field in arrow_schema(kind) if field.type == pa.int64())
