"""Why a score is high: the features that push it most, in short words."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from infra.contracts.features import FEATURES
from stream_consumers.models import Model, Rows

MOST = 3
# A feature's words from its value and its window; the windowed ones are named <stem>_<days>.
_WORDS: dict[str, Callable[[float, str], str]] = {
    "amount_cents": lambda value, _: f"amount {value / 100:.2f}",
    "weekend": lambda value, _: "on a weekend" if value else "on a working day",
    "night": lambda value, _: "at night" if value else "by day",
    "card_count": lambda value, days: f"card's transactions in {days}: {value:.0f}",
    "card_mean_cents": lambda value, days: f"card's mean amount over {days}: {value / 100:.2f}",
    "terminal_count": lambda value, days: f"terminal's transactions over {days}: {value:.0f}",
    "terminal_fraud_share": lambda value, days: f"terminal's fraud share over {days}: {value:.0%}",
    "r_mean": lambda value, _: f"amount {value:.1f} times the card's mean",
    "max_7_mean": lambda value, _: f"largest amount of 7 days {value:.1f} times the card's mean",
    "light_streak_age": lambda value, _: f"terminal's small frauds began {value:.0f} days ago",
}


def words(feature: str, value: float) -> str:
    """A feature's value as people say it."""
    windowed = re.fullmatch(r"(.+)_(\d+)", feature)
    if windowed is None:
        return _WORDS[feature](value, "")
    days = "1 day" if windowed[2] == "1" else f"{windowed[2]} days"
    return _WORDS[windowed[1]](value, days)


def reasons(
    model: Model, rows: Sequence[Sequence[float]], scores: npt.NDArray[np.float32]
) -> list[list[str]]:
    """For each row [18] with its score: what lowers the score most when it is made usual, most first.

    A feature is made usual by the model's reference value; up to MOST that lower the score at all.
    """
    if not rows:
        return []
    changed = model.score(_with_one_usual(np.asarray(rows, dtype=np.float32), model.reference))
    drops = scores[:, np.newaxis] - changed.reshape(len(rows), len(FEATURES))
    return [_most(row, drop) for row, drop in zip(rows, drops, strict=True)]


def _with_one_usual(rows: Rows, reference: npt.NDArray[np.float32]) -> Rows:
    """Each row len(FEATURES) times, in the i-th of them feature i by the reference: [n * 18, 18]."""
    size = len(FEATURES)
    repeated = np.repeat(rows, size, axis=0).reshape(len(rows), size, size)
    each = np.arange(size)
    repeated[:, each, each] = reference
    return repeated.reshape(-1, size)


def _most(row: Sequence[float], drop: npt.NDArray[np.float32]) -> list[str]:
    order = np.argsort(-drop, kind="stable")[:MOST]
    return [words(FEATURES[index], row[index]) for index in order if drop[index] > 0]
