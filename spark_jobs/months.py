"""Months and meteorological seasons as whole numbers.

A month is year * 12 + (month - 1). December belongs to the winter of the next year, so the months of
season-year Y are Y * 12 - 1 (December of Y - 1) to Y * 12 + 10 (November of Y).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from infra.contracts.errors import UserError

SEASONS = ("winter", "spring", "summer", "autumn")
MONTH = re.compile(r"(\d{4})-(0[1-9]|1[0-2])")


def month_of(text: str) -> int:
    """The month that YYYY-MM names. Raises UserError for anything else."""
    match = MONTH.fullmatch(text)
    if match is None:
        raise UserError(f"{text!r} is not a month; write it as YYYY-MM, such as 2026-10")
    return int(match[1]) * 12 + int(match[2]) - 1


def month_name(month: int) -> str:
    """A month as YYYY-MM."""
    return f"{month // 12:04}-{month % 12 + 1:02}"


def season_of(month: int) -> int:
    """The season of a month, counted through the years: season-year * 4 + index into SEASONS."""
    return (month + 1) // 3


def months_of_season(season: int) -> tuple[int, int, int]:
    """The three months of a season counted as in `season_of`, in order."""
    return season * 3 - 1, season * 3, season * 3 + 1


def whole_years(months: Iterable[int]) -> list[int]:
    """The season-years all twelve of whose months are among `months`, in order."""
    there = set(months)
    years = {season_of(month) // 4 for month in there}
    return sorted(year for year in years if all(year * 12 - 1 + n in there for n in range(12)))
