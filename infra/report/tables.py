"""What the batch report shows of a rollup: the heat maps and the seasonal curves, cut to a readable size."""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from statistics import fmean

import pyarrow as pa

from infra.report.seasonal import SEASONS, Pair, complete_years, largest, pairs, rows

MAX_NAMES = 12  # categories and regions shown, the largest by revenue
SHADES = 5  # steps of colour on each side of 1
STRONGEST = 2.5  # this index, or 1 / 2.5, has the full colour
MIDDLE_MONTH = dict(zip(SEASONS, ("01", "04", "07", "10"), strict=True))


@dataclass(frozen=True)
class Shown:
    """The names of one column that are shown, out of how many."""

    names: list[str]
    total: int

    @property
    def cut(self) -> bool:
        """Whether some are left out."""
        return len(self.names) < self.total


@dataclass(frozen=True)
class Cell:
    """The mean seasonal index over complete years, its range, and its shade (-5 to 5, 0 is an index of 1)."""

    mean: float
    low: float
    high: float
    years: int
    shade: int


@dataclass(frozen=True)
class HeatMap:
    """One region: for each category the four seasons' cells, None without a complete year."""

    region: str
    rows: list[tuple[str, list[Cell | None]]]


@dataclass(frozen=True)
class Curves:
    """Revenue per season over time. `cents[view][category][point]` is None where nobody sold anything;
    the first view is all regions together."""

    views: list[str]
    categories: list[str]
    labels: list[str]
    days: list[str]
    complete: list[bool]
    cents: list[list[list[int | None]]]


def shown(rollup: pa.Table, column: str, limit: int = MAX_NAMES) -> Shown:
    """The largest values of `column` by revenue."""
    names = largest(rollup, column)
    return Shown(names[:limit], len(names))


def heat_maps(rollup: pa.Table, categories: list[str], regions: list[str]) -> list[HeatMap]:
    """A heat map per region; none at all when no season-year is complete."""
    if not complete_years(rollup):
        return []
    wanted = [(category, region) for region in regions for category in categories]
    found = {(pair.category, pair.region): _cells(pair) for pair in pairs(rollup, wanted)}
    return [HeatMap(region, [(name, found[name, region]) for name in categories]) for region in regions]


def _cells(pair: Pair) -> list[Cell | None]:
    return [_cell(pair.by_year(season)) for season in SEASONS]


def _cell(values: list[float]) -> Cell | None:
    if not values:
        return None
    mean = fmean(values)
    return Cell(mean, min(values), max(values), len(values), shade(mean))


def shade(index: float) -> int:
    """The step of colour for a seasonal index, on a log scale so that 2 and 0.5 are equally strong."""
    strength = log(max(index, 0.01)) / log(STRONGEST)
    return round(max(-1.0, min(1.0, strength)) * SHADES)


def curves(rollup: pa.Table, categories: list[str], regions: list[str]) -> Curves:
    """Revenue per season, category and view, over every season from the first to the last.

    A season counts as complete when its season-year is, for any group.
    """
    covered: dict[tuple[int, str], bool] = {}
    revenue: dict[tuple[str, str, int, str], int] = {}
    wanted, views = set(categories), ["All regions", *regions]
    for row in rows(rollup):
        point = (row.season_year, row.season)
        covered[point] = covered.get(point, False) or row.complete
        if row.category in wanted:
            for view in (views[0], row.region):
                key = (view, row.category, *point)
                revenue[key] = revenue.get(key, 0) + row.revenue_cents
    points = _every_season(list(covered))
    return Curves(
        views=views,
        categories=categories,
        labels=[f"{season} {year}" for year, season in points],
        days=[f"{year}-{MIDDLE_MONTH[season]}-15" for year, season in points],
        complete=[covered.get(point, False) for point in points],
        cents=[
            [
                [revenue.get((view, name, *p), 0) if p in covered else None for p in points]
                for name in categories
            ]
            for view in views
        ],
    )


def _every_season(found: list[tuple[int, str]]) -> list[tuple[int, str]]:
    if not found:
        return []
    numbers = [year * 4 + SEASONS.index(season) for year, season in found]
    return [(number // 4, SEASONS[number % 4]) for number in range(min(numbers), max(numbers) + 1)]
