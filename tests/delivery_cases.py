"""Records, declarations and a way to run delivery in a test."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from infra.contracts.events import Decision, Event, Sale, Transaction, encode
from infra.streams.records import Record, Shard

T0 = datetime(2018, 8, 8, tzinfo=UTC)
ROLE = "arn:aws:iam::000000000000:role/millstream"
JSON_LINES: dict[str, Any] = {
    "DeliveryStreamName": "sales-lines",
    "DeliveryStreamType": "KinesisStreamAsSource",
    "KinesisStreamSourceConfiguration": {
        "KinesisStreamARN": "arn:aws:kinesis:us-east-1:000000000000:stream/sales",
        "RoleARN": ROLE,
    },
    "ExtendedS3DestinationConfiguration": {
        "RoleARN": ROLE,
        "BucketARN": "arn:aws:s3:::lake",
        "Prefix": "sales/lines/",
        "CompressionFormat": "GZIP",
        "ProcessingConfiguration": {
            "Enabled": True,
            "Processors": [
                {
                    "Type": "AppendDelimiterToRecord",
                    "Parameters": [{"ParameterName": "Delimiter", "ParameterValue": "\\n"}],
                }
            ],
        },
    },
}


def transaction(number: int, **changes: Any) -> Transaction:
    """A transaction; two seconds after the one before."""
    fields: dict[str, Any] = {
        "transaction_id": number,
        "event_time": T0 + timedelta(seconds=2 * number),
        "card_id": f"C{number % 50:05}",
        "terminal_id": f"T{number % 30:05}",
        "amount_cents": 100 + number,
    }
    return Transaction(**(fields | changes))


def decision(number: int) -> Decision:
    """The decision on the transaction of that number."""
    asked = transaction(number)
    return Decision(
        **{name: getattr(asked, name) for name in asked.__struct_fields__},
        score=0.25,
        action="review",
        reasons=["amount", "terminal's frauds"],
        model_version="m1",
        terminal_as_of=T0,
        features=[0.5, float(number)],
        sent_at=T0,
        scored_at=T0,
    )


def sale(number: int, month: str) -> Sale:
    """A sale in the middle of a month."""
    return Sale(
        sale_id=number,
        sold_at=datetime.fromisoformat(f"{month}-15T12:00:00+00:00") + timedelta(seconds=number),
        month=month,
        store=f"S{number % 7:03}",
        region="north",
        product="tent",
        category="camping",
        quantity=1 + number % 3,
        unit_price_cents=1_000 + number,
    )


def records(events: Sequence[Event | tuple[bytes, bytes]], first: int = 0) -> list[Record]:
    """Records of one shard, in order; a pair is a raw key and value."""
    pairs = [(e.key.encode(), encode(e)) if isinstance(e, Event) else e for e in events]
    return [
        Record(Shard("a", 0), first + number, key, value, 1_533_686_400_000 + number, ())
        for number, (key, value) in enumerate(pairs)
    ]
