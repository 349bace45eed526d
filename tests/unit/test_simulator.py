"""The handbook's simulated transactions, exactly."""

from __future__ import annotations

import numpy as np
import pytest

from producers.simulator import (
    DEFAULT,
    SCENARIOS,
    Draft,
    World,
    days_to_simulate,
    honest,
    simulate,
)

SMALL = World(customers=300, terminals=600, radius=10.0)


def test_the_handbooks_counts_exactly() -> None:
    """1,754,155 transactions in 183 days; the scenarios add 978, 9,099 and 4,604 frauds: 14,681."""
    payments = honest(183, DEFAULT, lambda share: None)
    assert len(payments) == 1_754_155
    draft = Draft(payments, DEFAULT)
    counts = [0]
    for scenario in SCENARIOS:
        scenario(draft)
        counts.append(int((draft.scenario > 0).sum()))
    assert np.diff(counts).tolist() == [978, 9_099, 4_604]
    assert counts[-1] == 14_681


def test_days_of_play_never_change() -> None:
    """However many days are simulated, those before the last thirteen are the same."""
    short, long = simulate(days_to_simulate(30), SMALL), simulate(60, SMALL)
    within = short.day < 30
    first = int(within.sum())
    assert first > 5_000
    for name in ("time_s", "customer", "terminal", "amount_cents", "scenario"):
        assert np.array_equal(getattr(short, name)[:first], getattr(long, name)[:first]), name
    pools_cut_off = simulate(30, SMALL)
    assert not np.array_equal(pools_cut_off.scenario[:first], long.scenario[:first])


def test_order_and_ranges() -> None:
    """In order of time, then customer; no time at midnight; amounts in cents and never negative."""
    data = simulate(20, SMALL)
    order = np.lexsort((data.customer, data.time_s))
    assert np.array_equal(order, np.arange(len(data)))
    assert ((data.time_s % 86_400 > 0) & (data.amount_cents >= 0)).all()
    assert data.customer.max() < 300
    assert data.terminal.max() < 600


@pytest.mark.parametrize("world", [World(1, 300, 600, 10.0), World(0, 301, 600, 10.0)])
def test_another_world_is_other_data(world: World) -> None:
    """Seed and sizes make another data set."""
    assert len(simulate(5, world)) != len(simulate(5, SMALL))
