"""The rows of the generated sales: a pure function of (number of rows, seed, block).

A month is cut into blocks of BLOCK_ROWS rows, each with a random generator of its own, so that any
block can be made alone, in any order and on any thread.
"""

from __future__ import annotations

import calendar
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from producers.sales_catalogue import DISCOUNT_SHARES, Catalogue, Codes, Floats, catalogue
from producers.sales_patterns import CATEGORIES, REGIONS, days_in, months, sales_weight

VERSION = 1  # raise it with every change that changes rows; the table of patterns is part of that
BLOCK_ROWS = 1 << 14

DAY_WEIGHTS = (0.90, 0.85, 0.90, 1.00, 1.20, 1.45, 0.70)  # Monday first
# fmt: off
HOUR_WEIGHTS = (
    0.02, 0.02, 0.02, 0.02, 0.02, 0.02, 0.1, 0.3, 0.7, 1.0, 1.2, 1.3,
    1.4, 1.2, 1.1, 1.2, 1.4, 1.6, 1.5, 1.1, 0.6, 0.3, 0.1, 0.05,
)
# fmt: on

TEXT = pa.dictionary(pa.int16(), pa.string())
SCHEMA = pa.schema(
    [
        ("sale_id", pa.int64()),
        ("sold_at", pa.timestamp("us", tz="UTC")),
        ("store", TEXT),
        ("region", TEXT),
        ("product", TEXT),
        ("category", TEXT),
        ("quantity", pa.int32()),
        ("unit_price_cents", pa.int64()),
    ]
)


@dataclass(frozen=True)
class Month:
    """One month of a plan. `first_id` is the sale_id of its first row, `starts` in seconds since 1970."""

    number: int
    label: str  # YYYY-MM
    rows: int
    first_id: int
    starts: int
    hours: Floats = field(
        repr=False, compare=False
    )  # hours + 1 values: share of the rows sold before each full hour
    outcomes: Floats = field(
        repr=False, compare=False
    )  # outcomes + 1 values: cumulated probability, see Catalogue

    @property
    def blocks(self) -> range:
        """The numbers of this month's blocks."""
        return range(-(-self.rows // BLOCK_ROWS))


def plan(rows: int) -> list[Month]:
    """The 60 months with exactly `rows` rows together, shared out by the planted patterns."""
    weights = [_weights(first_day) for first_day in months()]
    edges = np.rint(_cumulated([each.sum() for each in weights]) * rows).astype(np.int64).tolist()
    return [
        _month(number, first_day, edges[number], edges[number + 1], weights[number])
        for number, first_day in enumerate(months())
    ]


def generate_month(month: Month, seed: int, blocks: range | None = None) -> Iterator[pa.RecordBatch]:
    """The rows of a month (or of some of its blocks) in order of time, as batches of SCHEMA.

    A batch is one block, and never depends on which others are asked for.
    """
    for block in month.blocks if blocks is None else blocks:
        yield _block(month, seed, block)


def _block(month: Month, seed: int, block: int) -> pa.RecordBatch:
    random = np.random.default_rng(np.random.SeedSequence((seed, month.number, block)))
    first = block * BLOCK_ROWS
    count = min(BLOCK_ROWS, month.rows - first)
    offer = catalogue()
    outcome = _draw_outcomes(month.outcomes, count, random)
    product = offer.product[outcome]
    discount = random.choice(len(DISCOUNT_SHARES), count, p=list(DISCOUNT_SHARES.values()))
    columns: dict[str, npt.NDArray[Any]] = {
        "sale_id": np.arange(month.first_id + first, month.first_id + first + count),
        "sold_at": _draw_times(month, first, count, random),
        "store": _draw_stores(offer, outcome, random),
        "region": offer.region[outcome],
        "product": product,
        "category": offer.category[outcome],
        "quantity": offer.quantity[outcome],
        "unit_price_cents": offer.price_cents[product, discount],
    }
    return pa.RecordBatch.from_arrays(
        [_array(name, values) for name, values in columns.items()], schema=SCHEMA
    )


def _draw_outcomes(cumulated: Floats, count: int, random: np.random.Generator) -> Codes:
    """A systematic sample in random order: every outcome comes as often as expected, give or take one.

    So the patterns show in few rows, and a count's mean over seeds is exactly count * probability.
    """
    edges = np.floor(cumulated * count + random.random()).astype(np.int64)
    drawn = np.repeat(np.arange(len(cumulated) - 1, dtype=np.int16), np.diff(edges))
    random.shuffle(drawn)
    return drawn


def _draw_times(month: Month, first: int, count: int, random: np.random.Generator) -> npt.NDArray[np.int64]:
    """Ascending times of sale, whole seconds given in microseconds since 1970.

    Row i of the month's n lies at random in the i-th n-th of the month's trade: in order without a
    sort, whatever the block.
    """
    share = (np.arange(first, first + count) + random.random(count)) / month.rows
    seconds = np.interp(share, month.hours, np.arange(len(month.hours)) * 3600.0).astype(np.int64)
    last = (len(month.hours) - 1) * 3600 - 1  # a share just below 1 may be rounded to 1
    times: npt.NDArray[np.int64] = (month.starts + np.minimum(seconds, last)) * 1_000_000
    return times


def _draw_stores(offer: Catalogue, outcome: Codes, random: np.random.Generator) -> Codes:
    region = offer.region[outcome]
    within = random.random(len(outcome)) * offer.stores_of[region]
    return offer.first_store_of[region] + within.astype(np.int16)


def _array(name: str, values: npt.NDArray[Any]) -> pa.Array:
    kind = SCHEMA.field(name).type
    if kind == TEXT:
        return pa.DictionaryArray.from_arrays(pa.array(values), catalogue().names[name])
    return pa.array(values, kind)


def _month(number: int, first_day: date, begin: int, end: int, weights: Floats) -> Month:
    return Month(
        number=number,
        label=f"{first_day:%Y-%m}",
        rows=end - begin,
        first_id=begin + 1,
        starts=calendar.timegm(first_day.timetuple()),
        hours=_hours(first_day.weekday(), days_in(first_day)),
        outcomes=_cumulated(np.outer(weights, catalogue().shares).ravel()),
    )


def _weights(first_day: date) -> Floats:
    """What a month sells of each category in each region, flattened in the order of the outcomes."""
    return np.array(
        [sales_weight(category, region, first_day) for category in CATEGORIES for region in REGIONS]
    )


def _hours(first_weekday: int, days: int) -> Floats:
    """The share of a month's trade before each full hour; more on Saturdays and around noon and six."""
    by_day = [DAY_WEIGHTS[(first_weekday + day) % 7] for day in range(days)]
    return _cumulated(np.outer(by_day, HOUR_WEIGHTS).ravel())


def _cumulated(weights: npt.ArrayLike) -> Floats:
    """Cumulated shares of weights, from 0 to exactly 1."""
    total = np.concatenate([[0.0], np.cumsum(weights)])
    shares: Floats = total / total[-1]
    return shares
