"""What the batch side of the streaming story refuses before it starts a cluster."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from infra.contracts.datasets import LEAST_HISTORY, Manifest
from infra.contracts.errors import UserError
from infra.stories.fraud_model import check_history


def manifest(history: timedelta) -> Manifest:
    """A data set that begins with March 2026 and is played after so much history."""
    live_from = datetime(2026, 3, 1, tzinfo=UTC) + history
    return Manifest("0ff5e75a", "input", {}, 8, date(2026, 3, 1), live_from, live_from, 1_000, 300)


def test_a_history_must_be_long_enough_to_train_on() -> None:
    """What lacks is said with what is needed, instead of minutes later by a failed step."""
    check_history(manifest(LEAST_HISTORY))
    with pytest.raises(UserError, match=r"from 2026-03-01 to 2026-03-28 23:59.*: 28 days are needed"):
        check_history(manifest(LEAST_HISTORY - timedelta(minutes=1)))
