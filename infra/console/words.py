"""Figures of the console in words, beside those of infra/report/formats.py."""

from __future__ import annotations

from datetime import UTC, datetime

from infra.report.formats import DASH, count

BYTES = ("B", "kB", "MB", "GB", "TB")


def amount(cents: int) -> str:
    """Cents as 12.50, with separators; the currency is the data set's own."""
    return f"{cents / 100:,.2f}"


def rate(per_s: float) -> str:
    """Records a second: 0, 0.4, 12, 5,012."""
    return f"{per_s:.1f}" if 0 < per_s < 10 else count(per_s)


def size(number: float | None) -> str:
    """Bytes: 812 B, 4.2 kB, 13.7 MB; a dash for None."""
    if number is None:
        return DASH
    value, unit = float(number), 0
    while value >= 1000 and unit < len(BYTES) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.0f} {BYTES[unit]}" if not unit or value >= 100 else f"{value:.1f} {BYTES[unit]}"


def clock(at: float | datetime | None) -> str:
    """A moment of today as 13:05:09, of another day with its date; a dash for None."""
    if at is None:
        return DASH
    moment = at if isinstance(at, datetime) else datetime.fromtimestamp(at, UTC)
    today = datetime.now(UTC).date() == moment.date()
    return f"{moment:%H:%M:%S}" if today else f"{moment:%Y-%m-%d %H:%M}"


def stamp(at: float | datetime | None) -> str:
    """A moment in full: 2026-11-24 13:05:09."""
    if at is None:
        return DASH
    moment = at if isinstance(at, datetime) else datetime.fromtimestamp(at, UTC)
    return f"{moment:%Y-%m-%d %H:%M:%S}"


def millis(seconds: float | None) -> str:
    """Seconds as milliseconds: 43 ms, 1,250 ms; from ten seconds on 12.5 s; a dash for None."""
    if seconds is None:
        return DASH
    return f"{count(seconds * 1000)} ms" if seconds < 10 else f"{seconds:.1f} s"


def percent_of(part: float | None) -> str:
    """A share: 0.809 -> 80.9 %; a dash for None."""
    return DASH if part is None else f"{part * 100:.1f} %"
