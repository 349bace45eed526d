"""The events of the streams: fields, checks, partition key, Arrow and Spark schema from one declaration.

An event's value in a stream is one JSON object; `encode` and `decoder` are its codec. Unknown fields
are ignored, as a newer producer may send more. Times are RFC 3339 in UTC.
"""

from __future__ import annotations

import types
import typing
from datetime import datetime
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import msgspec
import pyarrow as pa

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Id = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Cents = Annotated[int, msgspec.Meta(ge=0, le=10**12)]
Time = Annotated[datetime, msgspec.Meta(tz=True)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Action = Literal["approve", "review", "block"]


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """A record's value. `partition_key` names the field whose text decides the record's shard."""

    partition_key: ClassVar[str]

    @property
    def key(self) -> str:
        """The partition key's value."""
        return str(getattr(self, self.partition_key))


class Transaction(Event, frozen=True, kw_only=True):
    """A card was used at a terminal. The id is unique in its data set and ascends with the time."""

    partition_key: ClassVar[str] = "card_id"

    transaction_id: Id
    event_time: Time
    card_id: Text
    terminal_id: Text
    amount_cents: Cents


class Label(Event, frozen=True, kw_only=True):
    """A transaction turned out to be fraud, which was known at `known_at`; the other fields are its own.

    A transaction for which no label has come within the delay was none.
    """

    partition_key: ClassVar[str] = "card_id"

    transaction_id: Id
    event_time: Time
    card_id: Text
    terminal_id: Text
    known_at: Time


class Decision(Event, frozen=True, kw_only=True):
    """What the scorer answered to a transaction, whose fields it repeats.

    `features` are the values of contracts.features.FEATURES, in that order. `score`, `model_version`
    and `terminal_as_of` are None, and the reason is "no model yet", while no model is in force.
    """

    partition_key: ClassVar[str] = "card_id"

    transaction_id: Id
    event_time: Time
    card_id: Text
    terminal_id: Text
    amount_cents: Cents
    score: Share | None
    action: Action
    reasons: list[str]
    model_version: str | None
    terminal_as_of: Time | None
    features: list[float]
    sent_at: Time
    """When the transaction was put, by its record's timestamp."""
    scored_at: Time


class Alert(Event, frozen=True, kw_only=True):
    """A decision to review or block, for the security team. `reasons` name what pushed the score most."""

    partition_key: ClassVar[str] = "card_id"

    alert_id: Text
    transaction_id: Id
    event_time: Time
    card_id: Text
    terminal_id: Text
    amount_cents: Cents
    score: Share
    action: Action
    reasons: list[str]
    model_version: str
    sent_at: Time
    scored_at: Time


class Sale(Event, frozen=True, kw_only=True):
    """A line of a shop's receipt. `month` is the month of `sold_at`, YYYY-MM in UTC."""

    partition_key: ClassVar[str] = "store"

    sale_id: Id
    sold_at: Time
    month: Annotated[str, msgspec.Meta(pattern=r"^[0-9]{4}-(0[1-9]|1[0-2])\Z")]
    store: Text
    region: Text
    product: Text
    category: Text
    quantity: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
    unit_price_cents: Cents


E = TypeVar("E", bound=Event)

EVENTS: dict[str, type[Event]] = {
    "transactions": Transaction,
    "labels": Label,
    "decisions": Decision,
    "alerts": Alert,
    "sales": Sale,
}

_ARROW = {
    int: pa.int64(),
    float: pa.float64(),
    str: pa.string(),
    bool: pa.bool_(),
    datetime: pa.timestamp("us", tz="UTC"),
}
_SPARK = {int: "BIGINT", float: "DOUBLE", str: "STRING", bool: "BOOLEAN", datetime: "TIMESTAMP"}
_encoder = msgspec.json.Encoder()


def encode(event: Event) -> bytes:
    """An event as the value of a record."""
    return _encoder.encode(event)


@cache
def decoder(kind: type[E]) -> msgspec.json.Decoder[E]:
    """The decoder of a kind of event; its `decode` raises msgspec.ValidationError or DecodeError.

    The error's text says in one line what is wrong and where.
    """
    return msgspec.json.Decoder(kind)


@cache
def arrow_schema(kind: type[Event]) -> pa.Schema:
    """The Arrow schema of a kind of event, as its archive has it."""
    return pa.schema([pa.field(name, _arrow(hint), nullable) for name, hint, nullable in _fields(kind)])


@cache
def spark_ddl(kind: type[Event]) -> str:
    """The same as a Spark DDL schema."""
    return ", ".join(f"{name} {_spark(hint)}" for name, hint, _ in _fields(kind))


def _fields(kind: type[Event]) -> list[tuple[str, Any, bool]]:
    """Name, type without its constraints, and whether it may be None, of each field in order."""
    hints = typing.get_type_hints(kind)
    return [(name, *_plain(hints[name])) for name in kind.__struct_fields__]


def _plain(hint: Any) -> tuple[Any, bool]:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        (inner,) = (each for each in typing.get_args(hint) if each is not type(None))
        return _plain(inner)[0], True
    if typing.get_origin(hint) is Literal:
        return str, False
    return hint, False


def _arrow(hint: Any) -> pa.DataType:
    items = typing.get_args(hint)
    return pa.list_(_ARROW[items[0]]) if items else _ARROW[hint]


def _spark(hint: Any) -> str:
    items = typing.get_args(hint)
    return f"ARRAY<{_SPARK[items[0]]}>" if items else _SPARK[hint]
