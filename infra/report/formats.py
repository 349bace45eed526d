"""Figures as people read them: counts, money, durations, sizes, moments."""

from __future__ import annotations

from datetime import UTC, datetime

DASH = "\u2013"  # for what is not known


def count(number: float) -> str:
    """2000000 -> 2,000,000."""
    return f"{number:,.0f}"


def rate(per_second: float) -> str:
    """5000 -> 5,000/s; below ten with a tenth: 0.5/s."""
    return f"{count(per_second)}/s" if per_second >= 10 or not per_second else f"{per_second:.1f}/s"


def threshold(score: float) -> str:
    """A score from which something is done: 0.587; never, where it is above any score."""
    return "never" if score > 1 else f"{score:.3f}"


def cents(amount: int) -> str:
    """Integer cents as dollars; from a thousand dollars on without cents."""
    sign = "-" if amount < 0 else ""
    whole, rest = divmod(abs(amount), 100)
    if whole >= 1000:
        return f"{sign}${whole + (rest >= 50):,}"
    return f"{sign}${whole}.{rest:02}"


def dollars(amount: float) -> str:
    """A price in dollars: four places below one dollar, two above, none from ten thousand on."""
    value = float(amount)
    size = abs(value)
    places = 0 if size >= 10_000 else 2 if size >= 1 or size == 0 else 4
    return f"{'-' if value < 0 else ''}${size:,.{places}f}"


def duration(seconds: float | None) -> str:
    """51.23 -> 51.2 s, 725 -> 12 min 5 s, 7400 -> 2 h 3 min; a dash for None."""
    if seconds is None:
        return DASH
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min"


def memory(megabytes: float | None) -> str:
    """812 -> 812 MB, 3174 -> 3.1 GB; a dash for None."""
    if megabytes is None:
        return DASH
    return f"{megabytes:.0f} MB" if megabytes < 1024 else f"{megabytes / 1024:.1f} GB"


def percent(share: float, places: int = 0) -> str:
    """0.085 -> 8 %, rounded half to even as Python does."""
    return f"{share * 100:.{places}f} %"


def utc(moment: str) -> datetime:
    """Read an ISO 8601 time; one without a zone is UTC. Raises ValueError for another text."""
    value = datetime.fromisoformat(moment)
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def moment(text: str | None) -> str:
    """An ISO 8601 time as `2026-11-30 12:00:03 UTC`; a dash for None."""
    return f"{utc(text):%Y-%m-%d %H:%M:%S} UTC" if text else DASH


def counted(number: int, noun: str, plural: str = "") -> str:
    """1 row, 2 rows."""
    return f"{count(number)} {noun if number == 1 else plural or noun + 's'}"
