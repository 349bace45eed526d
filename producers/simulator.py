"""The Fraud Detection Handbook's simulated card transactions: a pure function of sizes, days and seed.

Source: Le Borgne, Siblini, Lebichot, Bontempi, "Reproducible Machine Learning for Credit Card Fraud
Detection - Practical Handbook", chapter 3. With the defaults it is their data set, bit for bit.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

BEGIN = datetime(2018, 4, 1, tzinfo=UTC)
DAY_S = 86_400
GRID = 100.0
LARGE_CENTS = 22_000
TERMINALS_A_DAY, TERMINAL_DAYS = 2, 28
CUSTOMERS_A_DAY, CUSTOMER_DAYS = 3, 14
SEED_STEP = 1_000_003  # apart enough that the seeds of customers and days never meet

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class World:
    """Who pays where. Another `seed` than 0 shifts every random stream of the handbook's."""

    seed: int = 0
    customers: int = 5_000
    terminals: int = 10_000
    radius: float = 5.0


DEFAULT = World()


@dataclass(frozen=True)
class Transactions:
    """Columns of equal length, in order of (time, customer index); a transaction's id is its position.

    `time_s` counts from BEGIN, `scenario` is 0 for a transaction that is no fraud.
    """

    time_s: Ints
    customer: Ints
    terminal: Ints
    amount_cents: Ints
    scenario: npt.NDArray[np.int8]

    @property
    def day(self) -> Ints:
        """The day of each, counted from BEGIN."""
        days: Ints = self.time_s // DAY_S
        return days

    @property
    def fraud(self) -> npt.NDArray[np.bool_]:
        """Whether each is a fraud."""
        return self.scenario > 0

    def __len__(self) -> int:
        return len(self.time_s)


def simulate(
    days: int, world: World = DEFAULT, update: Callable[[float], None] = lambda share: None
) -> Transactions:
    """All transactions of the first `days` days with their frauds, as the handbook draws them.

    The last days' frauds are drawn from pools that the end cuts off: see `days_to_simulate`.
    """
    return add_frauds(honest(days, world, update), world)


def days_to_simulate(days: int) -> int:
    """How many days to simulate so that the first `days` of them never change with more.

    A day's frauds of scenario 3 are drawn from the pool of that day and the 13 after it.
    """
    return days + CUSTOMER_DAYS - 1


def honest(days: int, world: World, update: Callable[[float], None]) -> Transactions:
    """What the customers pay, before any fraud. `update` gets the share that is done."""
    profiles = np.random.RandomState(world.seed).random_sample((world.customers, 4))
    places = np.random.RandomState(world.seed + 1).random_sample((world.terminals, 2)) * GRID
    columns = []
    for customer, (x, y, amount, rate) in enumerate(profiles.tolist()):
        distance = np.sqrt(np.sum(np.square(np.array([x * GRID, y * GRID]) - places), axis=1))
        near = np.flatnonzero(distance < world.radius).tolist()
        columns.append(_payments(customer, days, 5 + 95 * amount, 4 * rate, near, world.seed))
        if customer % 100 == 0:
            update(customer / world.customers)
    time_s, who, where, amounts = (np.concatenate(parts) for parts in zip(*columns, strict=True))
    order = np.lexsort((who, time_s))
    cents = np.rint(np.round(amounts, 2) * 100).astype(np.int64)
    return Transactions(
        time_s[order], who[order], where[order], cents[order], np.zeros(len(order), dtype=np.int8)
    )


def _payments(
    customer: int, days: int, mean: float, per_day: float, near: list[int], seed: int
) -> tuple[Ints, Ints, Ints, Floats]:
    """One customer's payments in order: times, customer, terminals, amounts (not rounded yet).

    The draws come one by one, because each decides which the next one is.
    """
    numbers = np.random.RandomState((customer + seed * SEED_STEP) % 2**32)
    choose = random.Random(customer + seed * SEED_STEP)
    normal, uniform, poisson, choice = (
        numbers.standard_normal,
        numbers.random_sample,
        numbers.poisson,
        choose.choice,
    )
    deviation = mean / 2
    times: list[int] = []
    terminals: list[int] = []
    amounts: list[float] = []
    for day in range(days if near else 0):
        for _ in range(poisson(per_day)):
            time_s = int(43_200 + 20_000 * normal())
            if not 0 < time_s < DAY_S:
                continue
            amount = mean + deviation * normal()
            if amount < 0:
                amount = uniform() * (mean * 2)
            times.append(day * DAY_S + time_s)
            terminals.append(choice(near))
            amounts.append(amount)
    order = np.argsort(np.array(times, dtype=np.int64), kind="stable")
    return (
        np.array(times, dtype=np.int64)[order],
        np.full(len(times), customer, dtype=np.int64),
        np.array(terminals, dtype=np.int64)[order],
        np.array(amounts, dtype=np.float64)[order],
    )


class Draft:
    """Transactions on their way to having frauds; each scenario overwrites what an earlier one did."""

    def __init__(self, payments: Transactions, world: World) -> None:
        self.payments, self.world = payments, world
        self.amounts, self.scenario = payments.amount_cents.copy(), payments.scenario.copy()
        self.last_day = int(payments.day.max(initial=0))
        self._starts = np.searchsorted(payments.day, np.arange(self.last_day + 2))

    def pool(self, first_day: int, days: int, column: Ints, chosen: Ints) -> Ints:
        """The ids of the transactions of some days whose `column` is one of the chosen."""
        begin = self._starts[first_day]
        end = self._starts[min(first_day + days, self.last_day + 1)]
        found: Ints = begin + np.flatnonzero(np.isin(column[begin:end], chosen))
        return found

    def seed(self, day: int) -> int:
        """The seed of a day's draws."""
        return day + self.world.seed * SEED_STEP


def large_amounts(draft: Draft) -> None:
    """Scenario 1: every amount above 220."""
    draft.scenario[draft.amounts > LARGE_CENTS] = 1


def compromised_terminals(draft: Draft) -> None:
    """Scenario 2: two terminals a day, all of whose transactions are frauds for 28 days."""
    for day in range(draft.last_day):
        chosen = _sample(draft.world.terminals, TERMINALS_A_DAY, draft.seed(day))
        draft.scenario[draft.pool(day, TERMINAL_DAYS, draft.payments.terminal, chosen)] = 2


def leaked_cards(draft: Draft) -> None:
    """Scenario 3: three customers a day; of their transactions of 14 days a third is five times as large."""
    for day in range(draft.last_day):
        chosen = _sample(draft.world.customers, CUSTOMERS_A_DAY, draft.seed(day))
        found = draft.pool(day, CUSTOMER_DAYS, draft.payments.customer, chosen)
        taken = random.Random(draft.seed(day)).sample(found.tolist(), len(found) // 3)
        draft.amounts[taken] *= 5
        draft.scenario[taken] = 3


SCENARIOS = (large_amounts, compromised_terminals, leaked_cards)


def add_frauds(payments: Transactions, world: World) -> Transactions:
    """The same transactions with the frauds of the three scenarios."""
    draft = Draft(payments, world)
    for scenario in SCENARIOS:
        scenario(draft)
    return replace(payments, amount_cents=draft.amounts, scenario=draft.scenario)


def _sample(size: int, number: int, seed: int) -> Ints:
    """What pandas' `sample(n=number, random_state=seed)` takes of `size` rows."""
    rows = np.random.RandomState(seed % 2**32)
    chosen: Ints = rows.choice(size, size=min(number, size), replace=False)
    return chosen
