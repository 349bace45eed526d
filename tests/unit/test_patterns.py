"""Patterns: planted ones are found, ranked and put in the right words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pytest

from infra.report.patterns import (
    NO_COMPLETE_YEAR,
    NO_PATTERN,
    NO_ROWS,
    find_patterns,
    highlights,
    nothing_found,
)
from infra.report.seasonal import SEASONS
from infra.report.tables import curves, heat_maps, shade, shown

SCHEMA = pa.schema(
    [
        ("season_year", pa.int32()),
        ("season", pa.string()),
        ("category", pa.string()),
        ("region", pa.string()),
        ("sales", pa.int64()),
        ("units", pa.int64()),
        ("revenue_cents", pa.int64()),
        ("seasonal_index", pa.float64()),
        ("growth", pa.float64()),
        ("complete", pa.bool_()),
    ]
)


def year_rows(
    year: int, cents: Iterable[int], category: str, region: str = "North", complete: bool = True
) -> list[dict[str, Any]]:
    """The rows of one season-year (winter first; no row for 0), its indexes as the rollup computes them."""
    values = list(cents)
    mean = sum(values) / 4
    return [
        {
            "season_year": year,
            "season": season,
            "category": category,
            "region": region,
            "sales": 1,
            "units": 1,
            "revenue_cents": value,
            "seasonal_index": value / mean if complete else None,
            "growth": None,
            "complete": complete,
        }
        for season, value in zip(SEASONS, values, strict=False)
        if value
    ]


def table(*years: list[dict[str, Any]]) -> pa.Table:
    """A rollup of these season-years."""
    return pa.Table.from_pylist([row for year in years for row in year], schema=SCHEMA)


def test_planted_peak_is_the_strongest_in_the_right_words() -> None:
    """A winter of 2.3 to 2.5 times the mean in five years is said so, with the region that has it most."""
    toys = [
        year_rows(2022 + n, (winter, 70, 40, 290 - winter), "Toys")
        for n, winter in enumerate((230, 240, 250, 240, 240))
    ]
    south = [year_rows(2022 + n, (180, 80, 60, 80), "Toys", "South") for n in range(5)]
    garden = [year_rows(2022 + n, (90, 120, 110, 80), "Garden") for n in range(5)]
    found = find_patterns(table(*toys, *south, *garden))
    peaks = [pattern for pattern in found if pattern.kind == "peak"]
    assert peaks[0].sentence == (
        "Toys in North: winter brings 2.4 times the yearly mean, in each of 5 complete years (2.3 to 2.5); "
        "1.8 in 1 other region"
    )
    assert (peaks[0].season, peaks[0].years) == ("winter", 5)
    assert peaks[0].value == pytest.approx(2.4)


def test_growth_and_decline_are_told_apart() -> None:
    """Yearly revenue of whole years gives growth, and a fall is a fall, with positive numbers."""
    up = [year_rows(2022 + n, [round(100_000 * 1.08**n)] * 4, "Garden", "South") for n in range(5)]
    falling = (100_000, 91_000, 81_900, 72_900, 65_600)
    down = [year_rows(2022 + n, [cents] * 4, "Clothing", "South") for n, cents in enumerate(falling)]
    sentences = {pattern.kind: pattern.sentence for pattern in find_patterns(table(*up, *down))}
    assert sentences["growth"] == "Garden in South: revenue grows by 8 % a year, in each of 4 years"
    assert (
        sentences["decline"]
        == "Clothing in South: revenue falls by 10 % a year, in each of 4 years (9 to 11 %)"
    )


def test_low_and_steady_are_found() -> None:
    """The weakest season and the category that does not move are findings too."""
    garden = [year_rows(2022 + n, (20, 130, 130, 120), "Garden") for n in range(3)]
    food = [year_rows(2022 + n, (98, 102, 101, 99), "Food") for n in range(3)]
    sentences = {pattern.kind: pattern.sentence for pattern in find_patterns(table(*garden, *food))}
    assert sentences["low"] == (
        "Garden in North: winter brings only 0.20 times the yearly mean, in each of 3 complete years"
    )
    assert sentences["steady"] == (
        "Food in North: hardly moves with the seasons, 0.98 to 1.02 times the yearly mean "
        "over 3 complete years"
    )


def test_consistent_outranks_erratic() -> None:
    """Twice the mean every year comes before three times in one year and once in the next."""
    steady = [year_rows(2022 + n, (200, 70, 70, 60), "Every year") for n in range(4)]
    erratic = [
        year_rows(2022 + n, (winter, (400 - winter) // 3, (400 - winter) // 3, 0), "Now and then")
        for n, winter in enumerate((330, 100, 330, 100))
    ]
    peaks = [p for p in find_patterns(table(*steady, *erratic)) if p.season == "winter"]
    assert peaks[0].category == "Every year"


def test_season_without_sales_counts_as_zero() -> None:
    """One sale a year, in another season each time, is no pattern, though every index that exists is 4."""
    years = [year_rows(2022 + n, [400 if s == n % 4 else 0 for s in range(4)], "Rare") for n in range(4)]
    assert find_patterns(table(*years)) == []
    assert nothing_found(table(*years)) == NO_PATTERN
    cells = heat_maps(table(*years), ["Rare"], ["North"])[0].rows[0][1]
    assert [cell and cell.mean for cell in cells] == [1.0, 1.0, 1.0, 1.0]


def test_incomplete_years_do_not_count() -> None:
    """A season-year that is not whole changes no finding."""
    whole = [year_rows(2022 + n, [v * 2**n for v in (160, 80, 80, 80)], "Toys") for n in range(2)]
    part = year_rows(2024, (1500, 100), "Toys", complete=False)
    assert find_patterns(table(*whole, part)) == find_patterns(table(*whole))


def test_no_complete_year_is_said() -> None:
    """Without a whole season-year there is no finding and no heat map, and the reason is given."""
    rollup = table(year_rows(2026, (100, 200), "Toys", complete=False))
    assert find_patterns(rollup) == []
    assert heat_maps(rollup, ["Toys"], ["North"]) == []
    assert nothing_found(rollup) == NO_COMPLETE_YEAR
    assert nothing_found(table()) == NO_ROWS


def test_one_complete_year_is_called_one() -> None:
    """A single year is not said to be more."""
    found = find_patterns(table(year_rows(2026, (240, 60, 50, 50), "Toys")))
    assert found[0].sentence.endswith("times the yearly mean, in the one complete year")


def test_highlights_are_of_different_kinds() -> None:
    """Three lines show a peak, a low and a trend before a second one of any of them."""
    years = [
        year_rows(2022 + n, [round(v * 1.1**n * 100) for v in (240, 60, 50, 50)], "Toys") for n in range(5)
    ]
    kinds = {pattern.kind for pattern in highlights(find_patterns(table(*years)))}
    assert kinds == {"peak", "low", "growth"}


def test_curves_have_every_season_and_gaps_only_where_nobody_sold() -> None:
    """A season without any row is a gap; one in which only others sold is zero."""
    rollup = table(
        year_rows(2025, (100, 0, 300, 400), "Toys"),
        year_rows(2025, (100, 0, 0, 400), "Garden", "South"),
        year_rows(2026, (700,), "Toys", complete=False),
    )
    lines = curves(rollup, ["Toys", "Garden"], ["North", "South"])
    assert lines.labels == ["winter 2025", "spring 2025", "summer 2025", "autumn 2025", "winter 2026"]
    assert lines.complete == [True, False, True, True, False]
    assert lines.cents[0] == [[100, None, 300, 400, 700], [100, None, 0, 400, 0]]
    assert lines.cents[lines.views.index("South")] == [[0, None, 0, 0, 0], [100, None, 0, 400, 0]]


def test_shades_are_centred_at_one_and_even_on_both_sides() -> None:
    """Twice and half the mean are equally strong, and nothing is stronger than full."""
    assert [shade(1), shade(2.0) + shade(0.5), shade(2.5), shade(0.4), shade(9), shade(0)] == [
        0,
        0,
        5,
        -5,
        5,
        -5,
    ]


def test_largest_by_revenue_are_shown() -> None:
    """The cut keeps the largest, and says of how many."""
    rollup = table(*(year_rows(2025, [n + 1] * 4, f"C{n:02}") for n in range(20)))
    categories = shown(rollup, "category", limit=3)
    assert (categories.names, categories.total, categories.cut) == (["C19", "C18", "C17"], 20, True)
    assert not shown(rollup, "region").cut
