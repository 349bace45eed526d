"""What makes a record bad."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone

import pytest

from infra.contracts.errors import PoisonRecordError
from infra.contracts.events import Sale, Transaction, encode
from infra.contracts.validity import FUTURE_LIMIT, MOST_NESTED, check_time, read_event
from tests.delivery_cases import T0, records, sale, transaction

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
        (b"C00001", GOOD[:-1] + b',"new":"a\xff"}', "utf-8"),
        (b"C00001", b"[" * 100_000, "64 deep"),
    ],
)
def test_a_bad_record_has_a_reason(key: bytes, value: bytes, part: str) -> None:
    """One line that names the field."""
    (record,) = records([(key, value)])
    with pytest.raises(PoisonRecordError) as caught:
        read_event(Transaction, record)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def nested(depth: int) -> bytes:
    """A transaction with a field that it does not know, whose lists make it so deep."""
    inner = depth - 1
    return GOOD[:-1] + b',"new":' + b"[" * inner + b"]" * inner + b"}"


def call_deep(frames: int, function: Callable[[], object]) -> object:
    """What a function returns when it is called so many frames further down."""
    return function() if frames == 0 else call_deep(frames - 1, function)


@pytest.mark.parametrize("frames", [0, 600])
def test_nesting_has_a_limit(frames: int) -> None:
    """The same wherever it is read; what is in a string, or lies side by side, does not count."""
    text = b'{"quoted":"' + b'\\"[' * 100 + b'",' + GOOD[1:-1] + b',"new":[' + b"[]," * 100 + b"[]]}"
    for value in (nested(MOST_NESTED), text):
        (record,) = records([(b"C00001", value)])
        assert call_deep(frames, lambda: read_event(Transaction, record)) == transaction(1)  # noqa: B023
    for depth in (MOST_NESTED + 1, 1_000, 100_000):
        (record,) = records([(b"C00001", nested(depth))])
        with pytest.raises(PoisonRecordError, match="64 deep"):
            call_deep(frames, lambda: read_event(Transaction, record))  # noqa: B023


@pytest.mark.parametrize("month", ["2024-13", "2024-1", r"2024-01\n", "\uff12\uff10\uff12\uff14-01"])
def test_a_month_is_four_digits_and_two(month: str) -> None:
    """It becomes a folder's name."""
    value = encode(sale(1, "2024-01")).replace(b'"month":"2024-01"', f'"month":"{month}"'.encode())
    (record,) = records([(b"S001", value)])
    with pytest.raises(PoisonRecordError, match="month"):
        read_event(Sale, record)


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


def test_times_are_shown_in_utc() -> None:
    """Whatever their offset; one that UTC's calendar does not hold is shown as it is."""
    zone = timezone(timedelta(hours=2))
    with pytest.raises(PoisonRecordError) as caught:
        check_time(datetime(2024, 5, 1, 1, tzinfo=zone), datetime(2018, 1, 1, 1, tzinfo=zone))
    assert "event_time 2024-04-30T23:00:00Z is" in str(caught.value)
    assert str(caught.value).endswith("newest, 2017-12-31T23:00:00Z")
    with pytest.raises(PoisonRecordError, match=r"newest, 0001-01-01T00:00:00\+02:00"):
        check_time(T0, datetime(1, 1, 1, tzinfo=zone))
    with pytest.raises(PoisonRecordError, match="event_time 9999-12-31T23:00:00-02:00"):
        check_time(datetime(9999, 12, 31, 23, tzinfo=timezone(-timedelta(hours=2))), T0.astimezone(UTC))
