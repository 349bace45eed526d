"""Card windows against a plain computation over all of a card's transactions."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest

from infra.contracts.features import CARD_DAYS, DAY_US, CardView
from stream_consumers.card_windows import KEPT_US, CardWindow, entries

Row = tuple[int, int, int]
Seen = tuple[int, ...]
START_US = 17_000 * DAY_US


def seen(view: CardView) -> Seen:
    """All that features take from a view."""
    counts = [view.count(days) for days in CARD_DAYS]
    sums = [view.sum_cents(days) for days in CARD_DAYS]
    return (*counts, *sums, view.earlier_max_cents(7))


def plain(rows: Iterable[Row], row: Row) -> Seen:
    """The same by definition, from all rows that were there when `row` came."""
    time, identity, cents = row
    earlier = [each for each in rows if each[:2] < (time, identity)]
    inside = {days: [c for t, _, c in earlier if t > time - days * DAY_US] for days in CARD_DAYS}
    counts = [len(inside[days]) + 1 for days in CARD_DAYS]
    sums = [sum(inside[days]) + cents for days in CARD_DAYS]
    return (*counts, *sums, max(inside[7], default=0))


def stream(seed: int, count: int = 400, late_us: int = 0) -> list[Row]:
    """Transactions of a card over some 100 days: same seconds, whole-day gaps and long pauses included."""
    chance = random.Random(seed)
    rows, time = [], START_US
    for identity in range(count):
        time += chance.choice((0, 0, 1, 3_600_000_000, 7_000_000_000, DAY_US // 2, DAY_US, 2 * DAY_US))
        if chance.random() < 0.01:
            time += chance.choice((7, 30, 31, 45)) * DAY_US
        rows.append((time, identity, chance.randrange(0, 50_000)))
    if late_us:
        rows.sort(key=lambda row: (row[0] + chance.randrange(late_us), row[1]))
    return rows


@pytest.mark.parametrize("seed", range(3))
def test_windows_are_those_of_the_definition(seed: int) -> None:
    """Each transaction sees exactly the earlier ones of its windows."""
    card, came = CardWindow(), list[Row]()
    for row in stream(seed):
        assert seen(card.add(*row)) == plain(came, row)
        came.append(row)


@pytest.mark.parametrize("seed", range(3))
def test_a_late_transaction_takes_its_place(seed: int) -> None:
    """One that is up to a day late sees those before it, and later ones see it."""
    card, came = CardWindow(), list[Row]()
    rows = stream(seed, late_us=DAY_US)
    assert rows != sorted(rows)
    for row in rows:
        assert seen(card.add(*row)) == plain(came, row)
        came.append(row)


def test_those_that_are_too_late_stand_alone() -> None:
    """Each is seen with itself only, also beside others, and changes nothing for the rest."""
    rows = [(START_US + day * DAY_US, day, 500) for day in range(40)]
    card = CardWindow(entries(rows))
    before = card.kept()
    for identity in (1, 2):
        late = card.add(START_US + 2 * DAY_US, identity, 70)
        assert seen(late) == (1, 1, 1, 70, 70, 70, 0)
    assert card.kept() == before
    assert len(before.times) == KEPT_US // DAY_US


@pytest.mark.parametrize("late_us", [0, DAY_US])
def test_a_restored_card_goes_on_with_the_same_values(late_us: int) -> None:
    """Restored after any transaction, the rest of the stream gives the same features, bit for bit."""
    rows = stream(7, 200, late_us)
    card, whole = CardWindow(), list[Seen]()
    for row in rows:
        whole.append(seen(card.add(*row)))
    card = CardWindow()
    for row, expected in zip(rows, whole, strict=True):
        card = CardWindow(card.kept())
        assert seen(card.add(*row)) == expected


def test_what_is_kept_is_bounded() -> None:
    """Neither the snapshot nor the memory of a busy card grows with its past."""
    card = CardWindow()
    for identity in range(5_000):
        card.add(START_US + identity * DAY_US // 4, identity, 100)
    assert len(card.kept().times) == 31 * 4
    assert len(card._times) < 31 * 4 + 100
