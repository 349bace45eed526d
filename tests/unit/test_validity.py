"""What makes a record bad."""

from __future__ import annotations

from datetime import timedelta

import pytest

from infra.contracts.errors import PoisonRecordError
from infra.contracts.events import Transaction, encode
from infra.contracts.validity import FUTURE_LIMIT, check_time, read_event
from tests.delivery_cases import T0, records, transaction

GOOD = encode(transaction(1))


def test_a_good_record_is_its_event() -> None:
    """Fields that a newer producer may send are passed over."""
    (record,) = records([(b"C00001", GOOD.replace(b"{", b'{"new": [1],', 1))])
    assert read_event(Transaction, record) == transaction(1)


@pytest.mark.parametrize(
    ("key", "value", "part"),
    [
        (b"C00001", b"{", "truncated"),
        (b"C00001", b"[]", "Expected `object`"),
        (b"C00001", b"\xff", "invalid"),
        (b"C00001", GOOD.replace(b"T00001", b"\xff"), "utf-8"),
        (b"C00001", GOOD.replace(b'"card_id":"C00001",', b""), "card_id"),
        (b"C00001", GOOD.replace(b"101", b"-101"), "$.amount_cents"),
        (b"C00001", GOOD.replace(b"101", b'"101"'), "$.amount_cents"),
        (b"C00001", GOOD.replace(b'"transaction_id":1', b'"transaction_id":%d' % 2**63), "$.transaction_id"),
        (b"C00001", GOOD.replace(b"00:02Z", b"00:02"), "$.event_time"),
        (b"C00002", GOOD, "partition key"),
    ],
)
def test_a_bad_record_has_a_reason(key: bytes, value: bytes, part: str) -> None:
    """One line that names the field."""
    (record,) = records([(key, value)])
    with pytest.raises(PoisonRecordError) as caught:
        read_event(Transaction, record)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_record_without_value_or_key_is_bad() -> None:
    """A tombstone is no event."""
    (record,) = records([(b"C00001", GOOD)])
    for broken in (record._replace(value=None), record._replace(key=None)):
        with pytest.raises(PoisonRecordError):
            read_event(Transaction, broken)


def test_the_future_has_a_limit() -> None:
    """31 days past the newest are good, a microsecond more is not."""
    check_time(T0 + FUTURE_LIMIT, T0)
    check_time(T0 - timedelta(days=400), T0)
    with pytest.raises(PoisonRecordError, match="31 days"):
        check_time(T0 + FUTURE_LIMIT + timedelta(microseconds=1), T0)
