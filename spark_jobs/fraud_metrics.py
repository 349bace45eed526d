"""How good scores are, by the handbook's three metrics, and from which score on to act."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

CARDS_A_DAY = 100
MISS_AGAINST_LOOK = 2.0
"""For `review`: recall counts this many times as much as precision (the F2 measure)."""
BLOCK_PRECISION = 0.95
MOST_ACTED_ON = 0.02
"""Share of all transactions that are reviewed or blocked, at most: nobody can look at everything."""

NEVER = float(np.nextafter(np.float32(1), np.float32(2)))
"""A score that no model gives."""

Floats = npt.NDArray[np.float64]

# ROC AUC, average precision, card precision@100 that the handbook publishes for its baseline week, and
# for XGBoost (100 trees of depth 3, rate 0.1) over the four weekly test folds.
PUBLISHED = {
    "logistic regression": (0.871, 0.606, 0.291),
    "random forest": (0.867, 0.658, 0.287),
    "XGBoost": (0.862, 0.639, 0.273),
    "XGBoost, four test folds": (0.872, 0.694, 0.304),
}
NAMES = ("roc_auc", "average_precision", f"card_precision_{CARDS_A_DAY}")


def metrics(tested: pd.DataFrame) -> dict[str, float]:
    """The metrics of rows that have day, card_id, fraud (0 or 1) and score; both kinds are there."""
    values = (
        roc_auc_score(tested["fraud"], tested["score"]),
        average_precision_score(tested["fraud"], tested["score"]),
        card_precision(tested),
    )
    return dict(zip(NAMES, map(float, values), strict=True))


def card_precision(tested: pd.DataFrame, cards: int = CARDS_A_DAY) -> float:
    """Of the cards with the highest scores of a day the share with a fraud that day; mean over the days.

    A card that was caught is not looked at again.
    """
    caught: set[str] = set()
    shares = []
    for _, day in tested.groupby("day"):
        rest = day[~day["card_id"].isin(caught)]
        by_card = rest.groupby("card_id")[["score", "fraud"]].max()
        top = by_card.sort_values("score", ascending=False, kind="stable").head(cards)
        hits = top.index[top["fraud"] == 1]
        shares.append(len(hits) / cards)
        caught.update(hits)
    return float(np.mean(shares))


def curve(tested: pd.DataFrame) -> tuple[Floats, Floats, Floats]:
    """Precision and recall of acting from each score on; the three in order of score."""
    precision, recall, scores = precision_recall_curve(tested["fraud"], tested["score"])
    return precision[:-1], recall[:-1], scores


def thresholds(tested: pd.DataFrame) -> dict[str, float]:
    """From which score on to review and to block, by scores of rows that no training has seen.

    Review where the F2 measure is highest, as a fraud that is missed costs more than a look at a card,
    but not more than MOST_ACTED_ON of the transactions, as a weak model would. Block from the lowest
    score on from which BLOCK_PRECISION of what is blocked is fraud; where none reaches that, nothing is
    blocked. On the simulator's validation folds more than 80 % of what is reviewed or blocked is fraud,
    about 45 cards of 5,000 a day, with 74 % of all frauds among them.
    """
    precision, recall, scores = curve(tested)
    weight = MISS_AGAINST_LOOK**2
    measure = precision * recall / (weight * precision + recall + np.finfo(np.float64).tiny)
    acted_on = 1 - np.searchsorted(np.sort(tested["score"]), scores) / len(tested)
    allowed = (acted_on <= MOST_ACTED_ON) | (scores == scores[-1])
    review = float(scores[np.argmax(np.where(allowed, measure, -1))])
    precise = scores[precision >= BLOCK_PRECISION]
    block = float(precise[0]) if len(precise) else NEVER
    return {"review": review, "block": max(review, block)}


def mean_metrics(folds: list[dict[str, Any]]) -> dict[str, float]:
    """The mean of each metric over folds."""
    return {name: float(np.mean([fold[name] for fold in folds])) for name in NAMES}
