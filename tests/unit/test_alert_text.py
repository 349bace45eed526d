"""An alert as a line of text."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from stream_consumers.sinks import readable
from tests.alert_cases import alert

AT = datetime(2026, 11, 24, 11, 30, 5, tzinfo=timezone(timedelta(hours=2)))


def test_a_line_has_what_a_person_needs() -> None:
    """Card, amount, terminal, score, action, reasons and the times, all in UTC."""
    text = readable(alert(3, sent_at=AT, scored_at=AT + timedelta(seconds=1)))
    assert text == (
        "2018-08-08T00:00:03Z block  card C00003 1,234.05 at T00123, score 0.973: "
        "amount 1,234.05; at night (sent 2026-11-24T09:30:05Z, scored 2026-11-24T09:30:06Z)"
    )


@pytest.mark.parametrize(("cents", "text"), [(0, " 0.00 "), (7, " 0.07 "), (100000000, " 1,000,000.00 ")])
def test_money_has_two_places(cents: int, text: str) -> None:
    """Cents become units, exactly."""
    assert text in readable(alert(1, amount_cents=cents))


def test_an_id_can_forge_no_line() -> None:
    """Line feeds and escapes of a terminal that are in an id are not put out."""
    text = readable(alert(1, card_id="C1\n2018 block\x1b[31m"))
    assert "C1?2018 block?[31m" in text
    assert text.isprintable()
