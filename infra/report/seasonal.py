"""The rollup by category and region: seasonal indexes and yearly revenue over complete season-years.

A rollup has one row per group that sold something; a season without a row inside a complete
season-year is a season without sales, so its index is 0 and never left out of a mean.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

SEASONS = ("winter", "spring", "summer", "autumn")
NO_NAME = "(none)"


@dataclass
class Pair:
    """One category in one region. Only complete season-years are in here."""

    category: str
    region: str
    indexes: dict[int, dict[str, float]] = field(default_factory=dict)  # year -> season -> index
    revenue: dict[int, int] = field(default_factory=dict)  # year -> cents

    def by_year(self, season: str) -> list[float]:
        """The seasonal index of `season` in each complete year, oldest first."""
        return [self.indexes[year].get(season, 0.0) for year in sorted(self.indexes)]


class Row(NamedTuple):
    """One row of the rollup as Python values."""

    season_year: int
    season: str
    category: str
    region: str
    revenue_cents: int
    seasonal_index: float | None
    complete: bool


def rows(rollup: pa.Table) -> Iterator[Row]:
    """Read the rollup row by row; a missing name becomes `(none)`."""
    names = ("season_year", "season", "category", "region", "revenue_cents", "seasonal_index", "complete")
    for year, season, category, region, *rest in zip(*(_values(rollup, n) for n in names), strict=True):
        yield Row(year, season, category or NO_NAME, region or NO_NAME, *rest)


def pairs(rollup: pa.Table, only: Collection[tuple[str, str]]) -> list[Pair]:
    """The complete season-years of the pairs (category, region) in `only`, in its order."""
    found = {key: Pair(*key) for key in only}
    for row in rows(rollup):
        pair = found.get((row.category, row.region))
        if pair is None or not row.complete:
            continue
        pair.revenue[row.season_year] = pair.revenue.get(row.season_year, 0) + row.revenue_cents
        if row.seasonal_index is not None:
            pair.indexes.setdefault(row.season_year, {})[row.season] = row.seasonal_index
    return list(found.values())


def complete_years(rollup: pa.Table) -> list[int]:
    """The complete season-years, oldest first."""
    return sorted(pc.unique(rollup.filter(pc.field("complete"))["season_year"]).to_pylist())


def largest_pairs(rollup: pa.Table, limit: int) -> list[tuple[str, str]]:
    """The pairs (category, region) with the largest revenue, largest first."""
    return _largest(rollup, ("category", "region"))[:limit]


def largest(rollup: pa.Table, column: str) -> list[str]:
    """The values of `column` ordered by revenue, largest first."""
    return [name for (name,) in _largest(rollup, (column,))]


def _largest(rollup: pa.Table, columns: tuple[str, ...]) -> list[Any]:
    totals: dict[tuple[str, ...], int] = defaultdict(int)
    summed = rollup.group_by(list(columns)).aggregate([("revenue_cents", "sum")])
    for *key, revenue in zip(*(_values(summed, name) for name in summed.column_names), strict=True):
        totals[tuple(name or NO_NAME for name in key)] += revenue
    return sorted(totals, key=lambda key: (-totals[key], key))


def _values(table: pa.Table, name: str) -> list[Any]:
    values: list[Any] = table[name].to_pylist()
    return values
