"""Months and seasons as numbers."""

from __future__ import annotations

import pytest

from infra.contracts.errors import UserError
from spark_jobs.months import SEASONS, month_name, month_of, months_of_season, season_of, whole_years


@pytest.mark.parametrize(
    ("month", "year", "season"),
    [
        ("2021-11", 2021, "autumn"),
        ("2021-12", 2022, "winter"),
        ("2022-02", 2022, "winter"),
        ("2022-03", 2022, "spring"),
        ("2022-08", 2022, "summer"),
    ],
)
def test_december_belongs_to_the_next_winter(month: str, year: int, season: str) -> None:
    """Seasons are meteorological; December counts to the season-year that follows."""
    number = season_of(month_of(month))
    assert (number // 4, SEASONS[number % 4]) == (year, season)
    assert month_of(month) in months_of_season(number)


def test_names_and_numbers_are_inverse() -> None:
    """Each month's name gives back its number, also across a year's end."""
    assert [month_name(month_of("2021-12") + n) for n in range(3)] == ["2021-12", "2022-01", "2022-02"]


@pytest.mark.parametrize("text", ["2021-13", "2021-1", "202110", "", "2021-10-01"])
def test_a_wrong_month_is_named(text: str) -> None:
    """Anything but YYYY-MM is a user's mistake."""
    with pytest.raises(UserError, match="YYYY-MM"):
        month_of(text)


def test_a_year_is_whole_with_all_twelve_months() -> None:
    """A season-year runs from December to November; one month less and it is not whole."""
    year = list(range(month_of("2021-12"), month_of("2022-11") + 1))
    assert whole_years(year) == [2022]
    assert whole_years([*year, month_of("2022-12")]) == [2022]
    for month in year:
        assert whole_years(set(year) - {month}) == []
