"""The strongest patterns of a rollup, in words.

A pattern's score is the mean distance from "nothing happens" on a log scale, shrunk by n / (n + 1) for
n years and less its spread over the years: strong and steady beats stronger and erratic, and one year
alone counts half. A category has at most one line for each season and direction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from math import exp, log, sqrt
from statistics import fmean
from typing import Literal

import pyarrow as pa

from infra.report.formats import counted, percent
from infra.report.seasonal import SEASONS, Pair, complete_years, largest_pairs, pairs

Kind = Literal["peak", "low", "growth", "decline", "steady"]
KINDS: tuple[Kind, ...] = ("peak", "low", "growth", "decline", "steady")
MAX_PAIRS = 2000  # category x region pairs looked at, the largest by revenue
FLOOR = 0.05  # an index of 0 has no logarithm
PEAK, LOW = 1.1, 0.9  # a mean seasonal index between them is no pattern
GROWTH = 0.02  # a year; less is no pattern
STEADY = (0.85, 1.15)  # a pair with every season of every year inside hardly moves
NO_ROWS = "There is nothing to compare: the rollup has no rows."
NO_COMPLETE_YEAR = (
    "No season-year is complete, so there is no seasonal index or yearly growth to compare: "
    "both need whole years, from winter (December to February) to autumn (to November)."
)
NO_PATTERN = (
    "Nothing stands out: no category in any region has a season or a trend that holds over the years."
)


@dataclass(frozen=True)
class Pattern:
    """One finding. `value` is a mean index (peak, low, steady) or a yearly growth, `low` and `high` its
    range over `years` complete years (of growth: over pairs of them)."""

    kind: Kind
    category: str
    region: str
    season: str | None
    value: float
    low: float
    high: float
    years: int
    score: float
    text: str = ""

    @property
    def subject(self) -> str:
        """Of what: `Toys in North`."""
        return f"{self.category} in {self.region}"

    @property
    def sentence(self) -> str:
        """The whole finding: `Toys in North: winter brings 2.4 times the yearly mean, ...`."""
        return f"{self.subject}: {self.text}"


def find_patterns(rollup: pa.Table, each: int = 4) -> list[Pattern]:
    """The patterns of a rollup, strongest first, at most `each` of a kind. Empty: see `nothing_found`."""
    candidates = [
        pattern
        for pair in pairs(rollup, largest_pairs(rollup, MAX_PAIRS))
        for pattern in (*_seasonal(pair), *_trend(pair), *_steady(pair))
    ]
    best: list[Pattern] = []
    for kind in KINDS:
        group = sorted((p for p in candidates if p.kind == kind), key=_rank)
        best += _one_line_each(group)[:each]
    return sorted(best, key=_rank)


def nothing_found(rollup: pa.Table) -> str:
    """Why `find_patterns` found nothing, as a sentence."""
    if rollup.num_rows == 0:
        return NO_ROWS
    return NO_PATTERN if complete_years(rollup) else NO_COMPLETE_YEAR


def highlights(patterns: list[Pattern], limit: int = 3) -> list[Pattern]:
    """The best of different kinds first (peak, low, growth), then the strongest of the rest."""
    first = [p for kind in KINDS[:3] for p in patterns if p.kind == kind]
    heads = [p for i, p in enumerate(first) if i == 0 or first[i - 1].kind != p.kind]
    return (heads + [p for p in patterns if p not in heads])[:limit]


def _rank(pattern: Pattern) -> tuple[float, str, str]:
    return -pattern.score, pattern.category, pattern.region


def _seasonal(pair: Pair) -> Iterator[Pattern]:
    for season in SEASONS if pair.indexes else ():
        values = pair.by_year(season)
        mean = fmean(values)
        if LOW < mean < PEAK:
            continue
        kind: Kind = "peak" if mean > 1 else "low"
        score = _score(log(max(v, FLOOR)) for v in values)
        if score > 0:
            yield _pattern(kind, pair, season, mean, values, score)


def _trend(pair: Pair) -> Iterator[Pattern]:
    revenue = pair.revenue
    ratios = [
        revenue[year] / revenue[year - 1]
        for year in sorted(revenue)
        if year - 1 in revenue and min(revenue[year], revenue[year - 1]) > 0
    ]
    if not ratios:
        return
    growth = exp(fmean(map(log, ratios))) - 1
    score = _score(map(log, ratios))
    if score > 0 and abs(growth) >= GROWTH:
        kind: Kind = "growth" if growth > 0 else "decline"
        yield _pattern(kind, pair, None, growth, [r - 1 for r in ratios], score)


def _steady(pair: Pair) -> Iterator[Pattern]:
    values = [v for season in SEASONS for v in pair.by_year(season)]
    if values and STEADY[0] <= min(values) and max(values) <= STEADY[1]:
        # Below every other score: that nothing happens is worth a line, but the last one.
        score = -max(abs(log(v)) for v in values)
        yield replace(_pattern("steady", pair, None, fmean(values), values, score), years=len(pair.indexes))


def _score(logs: Iterable[float]) -> float:
    values = list(logs)
    mean = fmean(values)
    spread = sqrt(fmean((value - mean) ** 2 for value in values))  # statistics.pstdev is 30 times slower
    return abs(mean) * len(values) / (len(values) + 1) - spread


def _pattern(
    kind: Kind, pair: Pair, season: str | None, value: float, values: list[float], score: float
) -> Pattern:
    low, high = min(values), max(values)
    return Pattern(kind, pair.category, pair.region, season, value, low, high, len(values), score)


def _one_line_each(group: list[Pattern]) -> list[Pattern]:
    """Keep the strongest region of each category and season, and mention what the others do."""
    by_key: dict[tuple[str, str | None], list[Pattern]] = {}
    for pattern in group:
        by_key.setdefault((pattern.category, pattern.season), []).append(pattern)
    return [replace(same[0], text=_say(same[0], same[1:])) for same in by_key.values()]


def _say(pattern: Pattern, elsewhere: list[Pattern]) -> str:
    write = _WORDS[pattern.kind]
    if not elsewhere:
        return write(pattern)
    if pattern.kind == "steady":
        return f"{write(pattern)}; likewise in {counted(len(elsewhere), 'other region')}"
    number = _percents if pattern.season is None else _times
    others = _range([p.value for p in elsewhere], number)
    return f"{write(pattern)}; {others} in {counted(len(elsewhere), 'other region')}"


def _say_season(pattern: Pattern) -> str:
    only = "only " if pattern.kind == "low" else ""
    return (
        f"{pattern.season} brings {only}{_times(pattern.value)} times the yearly mean, "
        f"{_how_often(pattern, 1.0, 'complete year')}{_spread(pattern, _times)}"
    )


def _say_trend(pattern: Pattern) -> str:
    verb = "grows" if pattern.kind == "growth" else "falls"
    often = _how_often(pattern, 0.0, "year")
    return f"revenue {verb} by {_percents(abs(pattern.value))} a year, {often}{_spread(pattern, _percents)}"


def _say_steady(pattern: Pattern) -> str:
    return (
        f"hardly moves with the seasons, {pattern.low:.2f} to {pattern.high:.2f} times the yearly mean "
        f"over {counted(pattern.years, 'complete year')}"
    )


_WORDS: dict[Kind, Callable[[Pattern], str]] = {
    "peak": _say_season,
    "low": _say_season,
    "growth": _say_trend,
    "decline": _say_trend,
    "steady": _say_steady,
}


def _how_often(pattern: Pattern, middle: float, noun: str) -> str:
    if pattern.years == 1:
        return f"in the one {noun}"
    always = pattern.low > middle or pattern.high < middle
    return f"{'in each of' if always else 'on average over'} {counted(pattern.years, noun)}"


def _spread(pattern: Pattern, number: Callable[[float], str]) -> str:
    if number(pattern.low) == number(pattern.high):
        return ""
    return f" ({_range([pattern.low, pattern.high], number)})"


def _range(values: list[float], number: Callable[[float], str]) -> str:
    if max(values) < 0:  # falls by 5 to 8 %
        values = [-value for value in values]
    low, high = number(min(values)), number(max(values))
    return low if low == high else f"{low.removesuffix(' %')} to {high}"


def _times(value: float) -> str:
    return f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def _percents(value: float) -> str:
    return percent(value)
