"""The features of a card transaction: each declared once, for the scorer (Python) and for Spark (SQL).

A feature is a pair: a function of one transaction as the scorer sees it, and the same in Spark's SQL
over the columns of MEASURES and of `TerminalRow`. Both take whole numbers, turn each into a double and
divide once, so they agree bit for bit. The windows are tables from which the pairs are made.

Money is in cents, times are microseconds since 1970 (UTC). A card's order is (event_time,
transaction_id) and its windows are (t - days, t], the transaction itself included. A terminal's
windows are delayed: (a - 7 d - days, a - 7 d] by the labels known at the table's as-of time a.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, Protocol

from infra.contracts.datasets import LABEL_DELAY, TERMINAL_VERSION

CARD_DAYS = (1, 7, 30)
TERMINAL_DAYS = (1, 7, 30)
MAX_DAYS = 7
"""The window in which a card's largest earlier amount is looked for."""
MEAN_DAYS = 30
"""The window of the mean with which `r_mean` and `max_7_mean` compare."""

TERMINAL_STEP_S = 21_600
"""How often terminals' tables are made: every 6 hours, better than a day on the validation folds."""

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class CardView(Protocol):
    """A card's transactions up to and with the current one, which is the last in the order."""

    def count(self, days: int) -> int:
        """How many are in the last `days` (of CARD_DAYS)."""

    def sum_cents(self, days: int) -> int:
        """Their sum."""

    def earlier_max_cents(self, days: int) -> int:
        """The largest but for the current one in the last `days` (MAX_DAYS); 0 if there is none."""


class TerminalRow(NamedTuple):
    """A terminal in the table of an as-of time; 0 everywhere for one that the table lacks."""

    count_1: int
    count_7: int
    count_30: int
    frauds_1: int
    frauds_7: int
    frauds_30: int
    light_streak_age: int
    """Days since the terminal's running streak of plain frauds began; see spark_jobs/terminal_features.py."""


class Measure(NamedTuple):
    """A whole number that Spark takes from a card's window; `what` is the name of CardView's function."""

    what: str
    days: int

    @property
    def name(self) -> str:
        """Its column."""
        return f"{self.what}_of_{self.days}"


class Moment(NamedTuple):
    """A transaction as the scorer sees it."""

    event_time_us: int
    amount_cents: int
    card: CardView
    terminal: TerminalRow


class Feature(NamedTuple):
    """One feature: `sql` and `online` give the same double. `online` is not part of its identity."""

    name: str
    sql: str
    online: Callable[[Moment], float]


def _ratio(above: str, below: str) -> str:
    return f"CAST({above} AS DOUBLE) / CAST({below} AS DOUBLE)"


def _card_count(days: int) -> Feature:
    sql = f"CAST({Measure('count', days).name} AS DOUBLE)"
    return Feature(f"card_count_{days}", sql, lambda now: float(now.card.count(days)))


def _card_mean(days: int) -> Feature:
    sql = _ratio(Measure("sum_cents", days).name, Measure("count", days).name)
    return Feature(
        f"card_mean_cents_{days}",
        sql,
        lambda now: float(now.card.sum_cents(days)) / float(now.card.count(days)),
    )


def _terminal_count(days: int) -> Feature:
    name = f"count_{days}"
    return Feature(
        f"terminal_count_{days}", f"CAST({name} AS DOUBLE)", lambda now: float(getattr(now.terminal, name))
    )


def _terminal_fraud_share(days: int) -> Feature:
    count, frauds = f"count_{days}", f"frauds_{days}"

    def online(now: Moment) -> float:
        number = getattr(now.terminal, count)
        return float(getattr(now.terminal, frauds)) / float(number) if number else 0.0

    sql = f"IF({count} = 0, 0.0D, {_ratio(frauds, count)})"
    return Feature(f"terminal_fraud_share_{days}", sql, online)


def _against_mean(now: Moment, cents: int, otherwise: float) -> float:
    """Cents by the mean of the card's earlier transactions in MEAN_DAYS; `otherwise` if they sum to 0."""
    earlier = now.card.sum_cents(MEAN_DAYS) - now.amount_cents
    if earlier == 0:
        return otherwise
    return float(cents) * float(now.card.count(MEAN_DAYS) - 1) / float(earlier)


def _against_mean_sql(cents: str, otherwise: str) -> str:
    count, total = Measure("count", MEAN_DAYS).name, Measure("sum_cents", MEAN_DAYS).name
    earlier = f"({total} - amount_cents)"
    product = f"CAST({cents} AS DOUBLE) * CAST({count} - 1 AS DOUBLE)"
    return f"IF({earlier} = 0, {otherwise}, {product} / CAST({earlier} AS DOUBLE))"


# 1970-01-01 was a Thursday, three days after a Monday.
AMOUNT = Feature("amount_cents", "CAST(amount_cents AS DOUBLE)", lambda now: float(now.amount_cents))
WEEKEND = Feature(
    "weekend",
    f"CAST(pmod((event_time_us - pmod(event_time_us, {DAY_US})) DIV {DAY_US} + 3, 7) >= 5 AS DOUBLE)",
    lambda now: float((now.event_time_us // DAY_US + 3) % 7 >= 5),
)
NIGHT = Feature(
    "night",
    f"CAST(pmod(event_time_us, {DAY_US}) < {7 * HOUR_US} AS DOUBLE)",
    lambda now: float(now.event_time_us % DAY_US < 7 * HOUR_US),
)
R_MEAN = Feature(
    "r_mean",
    _against_mean_sql("amount_cents", "1.0D"),
    lambda now: _against_mean(now, now.amount_cents, 1.0),
)
MAX_MEAN = Feature(
    f"max_{MAX_DAYS}_mean",
    _against_mean_sql(Measure("earlier_max_cents", MAX_DAYS).name, "0.0D"),
    lambda now: _against_mean(now, now.card.earlier_max_cents(MAX_DAYS), 0.0),
)
STREAK_AGE = Feature(
    "light_streak_age",
    "CAST(light_streak_age AS DOUBLE)",
    lambda now: float(now.terminal.light_streak_age),
)

DECLARED: tuple[Feature, ...] = (
    AMOUNT,
    WEEKEND,
    NIGHT,
    *(make(days) for days in CARD_DAYS for make in (_card_count, _card_mean)),
    *(make(days) for days in TERMINAL_DAYS for make in (_terminal_count, _terminal_fraud_share)),
    R_MEAN,
    MAX_MEAN,
    STREAK_AGE,
)
"""All features in the model's order."""

FEATURES: tuple[str, ...] = tuple(feature.name for feature in DECLARED)
"""Their names."""

MEASURES: tuple[Measure, ...] = (
    *(Measure(what, days) for what in ("count", "sum_cents") for days in CARD_DAYS),
    Measure("earlier_max_cents", MAX_DAYS),
)
"""What Spark computes of a card for them."""

LIGHT_FRAUD_CENTS = 22_000
"""A plain fraud has no higher amount,"""
LIGHT_FRAUD_R_MEAN = 2.5
"""and an r_mean below this: nothing but the terminal tells it."""


def _feature_list() -> str:
    parts = [
        [(feature.name, feature.sql) for feature in DECLARED],
        [LABEL_DELAY.total_seconds(), LIGHT_FRAUD_CENTS, LIGHT_FRAUD_R_MEAN, TERMINAL_VERSION],
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:8]


FEATURE_LIST: str = _feature_list()
"""8 hex digits that change with what any feature means."""

_ONLINE = tuple(feature.online for feature in DECLARED)


def online(event_time_us: int, amount_cents: int, card: CardView, terminal: TerminalRow) -> list[float]:
    """The features of a transaction, in the order of FEATURES."""
    now = Moment(event_time_us, amount_cents, card, terminal)
    return [feature(now) for feature in _ONLINE]


def microseconds(time: datetime) -> int:
    """A time as whole microseconds since 1970 (UTC)."""
    since = time - EPOCH  # three attributes cost half of what a division of timedeltas does
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def as_of(event_time: datetime, step_s: int) -> datetime:
    """The as-of time of the terminal table that a transaction uses: floored to the step, in UTC."""
    return event_time.astimezone(UTC) - (event_time - EPOCH) % timedelta(seconds=step_s)
