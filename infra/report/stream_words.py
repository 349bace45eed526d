"""A stream demo's figures in words, as the page and the terminal say them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from infra.report.formats import DASH, count, counted, duration, percent, rate, threshold, utc
from infra.report.stream_figures import ModelFigures, StreamFigures
from infra.streams.limits import RECORDS_PER_S

NOTHING = "nothing was sent"
ALL_PLAYED = "all transactions of the data set are played; FRESH=1 plays them again"


def proof_counts(figures: StreamFigures) -> str:
    """What was counted: `300,000 sent, 300,000 decided, 300,000 archived`, and the bad records if any."""
    parts = [
        f"{count(figures['sent'])} sent",
        f"{count(figures['decided'])} decided",
        f"{count(figures['archived'])} archived",
    ]
    if figures["rejected"]:
        parts.append(f"{count(figures['rejected'])} rejected as broken")
    return ", ".join(parts)


def proof_holds(figures: StreamFigures) -> bool:
    """Whether nothing was lost, doubled or made up."""
    return not (figures["missing"] or figures["duplicates"] or figures["strangers"])


def proof_verdict(figures: StreamFigures) -> str:
    """`none lost, none doubled`, or how many of each are wrong."""
    if not proof_holds(figures):
        wrong = {
            "lost": figures["missing"],
            "doubled": figures["duplicates"],
            "never sent": figures["strangers"],
        }
        return ", ".join(f"{count(number)} {name}" for name, number in wrong.items() if number)
    return "none lost, none doubled" if figures["sent"] else NOTHING


def fullest(figures: StreamFigures) -> float:
    """The most records in a second that any shard took, as a share of its limit."""
    return max((shard["peak_records_per_s"] for shard in figures["shards"]), default=0) / RECORDS_PER_S


def shard_line(figures: StreamFigures) -> str:
    """How the shards bore the rate, and how many these keys need."""
    shards, needed = len(figures["shards"]), figures["shards_needed"]
    here = counted(shards, "shard")
    if needed is None:
        return here
    keys = f"these keys at {rate(figures['rate_asked'])} need {needed}"
    if needed > shards:
        return f"{here} can't keep up: {keys} (run it with SHARDS={needed})"
    return f"{here}; {keys}"


def labels_line(figures: StreamFigures) -> str:
    """What precision and recall are over."""
    due = figures["labels_due"]
    if not due:
        return "no labels were due yet: they come seven days of event time after a transaction"
    frauds = counted(figures["frauds_due"], "fraud")
    return f"of {counted(due, 'transaction')} whose labels were due, {frauds}"


def replay_words(figures: StreamFigures) -> str:
    """That the run was a replay, how fast, and what that means for tables and models."""
    first, last = figures["first_event_time"], figures["last_event_time"]
    if not figures["sent"] or first is None or last is None:
        return "No transaction was played."
    span = utc(last) - utc(first)
    played = figures["seconds"]["play"]
    speed = f", {count(span.total_seconds() / played)} times as fast as they happened" if played else ""
    return (
        f"This was a replay: {span_words(span)} of transactions were played in {duration(played)}{speed}. "
        "The terminals' tables for these days were made before the play, each row only from labels that were "
        "known at its time; model and table are in force by a transaction's event time, never by its arrival."
    )


def span_words(span: timedelta) -> str:
    """30.4 days; 5.2 hours below two days."""
    days = span / timedelta(days=1)
    return f"{days:.1f} days" if days >= 2 else f"{span / timedelta(hours=1):.1f} hours"


def model_line(model: ModelFigures | None) -> str:
    """Version, since when, and the thresholds."""
    if model is None:
        return "no model was in force"
    review, block = (threshold(model["thresholds"][action]) for action in ("review", "block"))
    since = f"{utc(model['in_force_from']):%Y-%m-%d}"
    return f"{model['version']}, in force from {since}: review from {review}, block from {block}"


def millis(value: float | None) -> str:
    """3.42 -> 3.4 ms, 76.2 -> 76 ms, 1234 -> 1.23 s; a dash for None."""
    if value is None:
        return DASH
    if value >= 999.5:
        return f"{value / 1000:.2f} s" if value < 59_950 else duration(value / 1000)
    return f"{value:.0f} ms" if value >= 9.95 else f"{value:.1f} ms"


def share(value: float | None) -> str:
    """0.714 -> 71.4 %; a dash for None."""
    return DASH if value is None else percent(value, 1)


def clock(moment: datetime) -> str:
    """A moment of the data, in UTC: 2018-08-09 14:03:11."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def plain_amount(cents: int) -> str:
    """12345 -> 123.45: without a currency, which a user's own data may not name."""
    return f"{cents / 100:,.2f}"


def printable(text: str) -> str:
    """A user's text for a terminal: control characters, which could steer it, become question marks."""
    return "".join(char if char.isprintable() else "?" for char in text)
