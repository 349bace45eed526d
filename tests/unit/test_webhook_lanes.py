"""Posting side by side: a card's alerts in order, whatever fails. The receiver is a real HTTP server."""

from __future__ import annotations

from concurrent.futures import wait

import pytest

from infra.contracts.errors import UserError
from stream_consumers.webhook import PostCancelledError, Webhook
from stream_consumers.webhook_handler import Lanes
from tests.alert_cases import SECRET, alert, in_order, receiving


def test_each_cards_alerts_are_in_order() -> None:
    """Though several are posted at once and some have to be tried again."""
    with receiving(answers=[(200, {}), (503, {}), (200, {}), (503, {})]) as receiver:
        lanes = Lanes(Webhook(receiver.url, SECRET), 4)
        wait([lanes.post(alert(number)) for number in range(60)])
        lanes.check()
        lanes.cancel()
    posted = [post.alert["transaction_id"] for post in receiver.posts]
    assert sorted(posted) == list(range(60))
    assert in_order(posted)


def test_after_a_refusal_nothing_is_posted() -> None:
    """A card's later alert does not overtake the one that was refused, and `check` says why."""
    with receiving(answers=[(404, {})]) as receiver:
        lanes = Lanes(Webhook(receiver.url, SECRET), 2)
        first, *others = (lanes.post(alert(number, cards=1)) for number in range(5))
        wait([first, *others])
        assert isinstance(first.exception(), UserError)
        assert all(isinstance(other.exception(), PostCancelledError) for other in others)
        with pytest.raises(UserError, match="404"):
            lanes.check()
        lanes.cancel()
    assert not receiver.posts
