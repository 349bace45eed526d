"""The protocol of training and testing: which days a fold trains on and is tested on.

As in the Fraud Detection Handbook: train on a week, wait the week that labels take, test on the week
after. Cards whose fraud is known when a day of the test begins are left out of that day.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import pandas as pd

from infra.contracts.datasets import LEAST_HISTORY
from infra.contracts.errors import UserError
from infra.contracts.features import DAY_US, microseconds

WEEK, DAY = timedelta(days=7), timedelta(days=1)
VALIDATION_WEEKS = (7, 6, 5, LEAST_HISTORY // WEEK)
"""How many weeks before the history's end the validation folds begin; the last is needed at least."""
FINAL_WEEKS = 2
"""The same of the published model: its newest training day is a week old, so all its labels are known."""


@dataclass(frozen=True)
class Fold:
    """A week to train on that begins at `begin` (UTC), and the week to test on, two weeks later."""

    begin: datetime

    @property
    def train_until(self) -> datetime:
        """The training's end."""
        return self.begin + WEEK

    @property
    def test_from(self) -> datetime:
        """The test's begin: by then the labels of the training are known."""
        return self.begin + 2 * WEEK

    @property
    def test_until(self) -> datetime:
        """The test's end."""
        return self.begin + 3 * WEEK


def validation_folds(first: datetime, history_end: datetime) -> list[Fold]:
    """The validation folds that a history from `first` to its end holds; one at least.

    Raises UserError when it is too short for one.
    """
    folds = [Fold(history_end - weeks * WEEK) for weeks in VALIDATION_WEEKS]
    held = [fold for fold in folds if fold.begin >= first]
    if not held:
        needed, there = LEAST_HISTORY.days, (history_end - first) / DAY
        raise UserError(
            f"the history from {first:%Y-%m-%d %H:%M} to {history_end:%Y-%m-%d %H:%M} has {there:.1f} days; "
            f"training needs {needed} (four weeks: train, wait for labels, test, and the newest week)"
        )
    return held


def rows_to_test(rows: pd.DataFrame, labels: pd.DataFrame, fold: Fold) -> pd.DataFrame:
    """The rows of a fold's test, with `day` 0 to 6, without the cards whose fraud was known by then.

    `rows` and `labels` have card_id and event_time_us, labels known_us too; only frauds since the
    fold's begin count as known.
    """
    times = rows["event_time_us"]
    inside = rows[(times >= microseconds(fold.test_from)) & (times < microseconds(fold.test_until))]
    tested = inside.assign(day=(inside["event_time_us"] - microseconds(fold.test_from)) // (DAY_US))
    since = labels[labels["event_time_us"] >= microseconds(fold.begin)]
    first_known = since.groupby("card_id")["known_us"].min()
    known = tested["card_id"].map(first_known)
    begins = microseconds(fold.test_from) + tested["day"] * (DAY_US)
    return tested[~(known <= begins)]
