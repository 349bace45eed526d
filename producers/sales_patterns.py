"""The seasonal patterns that are planted in the generated sales, and the findings that follow from them.

A season-year begins in December: winter 2022 is December 2021 to February 2022. What a season sells of
a category in a region is its multiplier times the category's level of that season-year, spread evenly
over the season's days. So neither the length of a season nor growth within a year bends the index.
"""

from __future__ import annotations

import calendar
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cache

SEASONS = ("winter", "spring", "summer", "autumn")
FIRST_MONTH = date(2021, 12, 1)
SEASON_YEARS = 5
Multipliers = tuple[float, float, float, float]  # winter, spring, summer, autumn


@dataclass(frozen=True)
class Region:
    """`share` of all sales, and the number of stores."""

    share: float
    stores: int


@dataclass(frozen=True)
class Category:
    """`share` of the first year's sales, growth a year, a middling price, and the four multipliers.

    The multipliers of a line average 1, so each is the seasonal index to be found; a region named in
    `exceptions` has its own four.
    """

    share: float
    growth: float
    price_cents: int
    seasons: Multipliers
    exceptions: Mapping[str, Multipliers] = field(default_factory=dict)


REGIONS = {
    "north": Region(share=0.22, stores=9),
    "south": Region(share=0.20, stores=8),
    "east": Region(share=0.18, stores=7),
    "west": Region(share=0.24, stores=10),
    "central": Region(share=0.16, stores=6),
}

#                                                            winter spring summer autumn
CATEGORIES = {
    "groceries": Category(0.24, +0.02, 900, (1.04, 0.98, 0.96, 1.02)),
    "drinks": Category(0.15, +0.03, 600, (0.70, 1.00, 1.55, 0.75), {"south": (0.90, 1.05, 1.20, 0.85)}),
    "clothing": Category(0.14, +0.04, 4500, (0.95, 1.05, 0.80, 1.20), {"north": (1.20, 0.85, 0.65, 1.30)}),
    "electronics": Category(0.10, +0.08, 18000, (1.30, 0.80, 0.85, 1.05)),
    "toys": Category(0.10, +0.05, 2500, (1.60, 0.65, 0.70, 1.05), {"east": (1.35, 0.75, 0.80, 1.10)}),
    "books": Category(0.09, -0.04, 1600, (1.15, 0.90, 0.85, 1.10), {"central": (0.95, 0.95, 0.85, 1.25)}),
    "garden": Category(0.09, +0.06, 3000, (0.35, 1.75, 1.35, 0.55), {"south": (0.80, 1.50, 1.00, 0.70)}),
    "sports": Category(0.09, +0.12, 5500, (0.75, 1.20, 1.35, 0.70), {"north": (1.50, 0.80, 0.80, 0.90)}),
}


def months() -> Iterator[date]:
    """The first day of each month of the generated time, which is SEASON_YEARS whole season-years."""
    for number in range(FIRST_MONTH.month - 1, FIRST_MONTH.month - 1 + 12 * SEASON_YEARS):
        yield date(FIRST_MONTH.year + number // 12, number % 12 + 1, 1)


def season_of(month: date) -> tuple[int, int]:
    """The season-year and the season (0 is winter) that a month belongs to."""
    return month.year + (month.month == 12), month.month % 12 // 3


def multipliers(category: str, region: str) -> Multipliers:
    """The four planted multipliers that hold for a category in a region."""
    pattern = CATEGORIES[category]
    return pattern.exceptions.get(region, pattern.seasons)


def days_in(month: date) -> int:
    """The number of days of a month."""
    return calendar.monthrange(month.year, month.month)[1]


def sales_weight(category: str, region: str, month: date) -> float:
    """How many sales a category has in a region in a month, relative to all others of the table."""
    year, season = season_of(month)
    pattern = CATEGORIES[category]
    level = pattern.share * REGIONS[region].share * (1 + pattern.growth) ** (year - FIRST_MONTH.year - 1)
    share_of_season = days_in(month) / _days_in_season(year, season)
    return level * multipliers(category, region)[season] * share_of_season


@cache
def _days_in_season(year: int, season: int) -> int:
    return sum(days_in(month) for month in months() if season_of(month) == (year, season))


def expected_index(category: str, region: str) -> dict[str, float]:
    """Each season's revenue over the mean of the four seasons of its season-year: exact, each year's."""
    planted = multipliers(category, region)
    return {name: 4 * each / sum(planted) for name, each in zip(SEASONS, planted, strict=True)}


def expected_growth(category: str) -> float:
    """A season's revenue over that of the same season a year before, less 1: exact, in every region."""
    return CATEGORIES[category].growth
