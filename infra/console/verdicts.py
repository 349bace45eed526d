"""Precision and recall as labels arrive: over those transactions only that could already be labelled.

A label says that a transaction was fraud, and comes seven days of event time after it; without one by then it
was none. So with `labelled_until`, the newest label's `known_at`, less seven days, every transaction *before*
that moment is judged for good: its label has come, or never will. A scorer that is far behind may not have
decided on it yet, so the moment is never after that up to which all are decided, in every shard. Of the
transactions from `since` up to there, where `since` is the data set's first live moment, or later when not
all was read:

- precision: alerts whose transaction has a label, of all alerts;
- recall: labels whose transaction had an alert, of all labels.

Neither moves when alerts come whose labels can't be there yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from infra.contracts.datasets import LABEL_DELAY
from infra.contracts.events import Alert, Label

KEPT = 20_000
MOMENT = timedelta(microseconds=1)
DEFINITION = (
    "Only transactions that could already be labelled count: those older than the newest label less seven "
    "days of event time, and decided in every shard. Precision: alerts whose transaction was labelled fraud, "
    "of all alerts on them. Recall: labelled frauds that had an alert, of all labelled frauds among them."
)


@dataclass(frozen=True)
class Verdict:
    """How the alerts on transactions from `since` to `until` (event times) turned out.

    `hits` of `alerts` were frauds, and as many of `frauds` had an alert.
    """

    since: datetime
    until: datetime
    alerts: int
    frauds: int
    hits: int

    @property
    def precision(self) -> float | None:
        """None without any alert."""
        return self.hits / self.alerts if self.alerts else None

    @property
    def recall(self) -> float | None:
        """None without any fraud."""
        return self.hits / self.frauds if self.frauds else None


@dataclass
class Verdicts:
    """The event times of alerts and labels by transaction, at most `kept` of each, the newest."""

    kept: int = KEPT
    cut: datetime | None = None
    """Nothing before this moment is held; None when all is."""
    _alerts: dict[int, datetime] = field(default_factory=dict)
    _labels: dict[int, datetime] = field(default_factory=dict)
    _labelled_until: datetime | None = None

    def alerted(self, alerts: Iterable[Alert]) -> None:
        """Note alerts, in the order of the stream."""
        for alert in alerts:
            self._alerts[alert.transaction_id] = alert.event_time
        self._drop(self._alerts)

    def labelled(self, labels: Iterable[Label]) -> None:
        """Note labels, in the order of the stream, which is that of `known_at`."""
        for label in labels:
            self._labels[label.transaction_id] = label.event_time
            if self._labelled_until is None or label.known_at > self._labelled_until:
                self._labelled_until = label.known_at
        self._drop(self._labels)

    def begin_at(self, event_time: datetime) -> None:
        """Not all up to this moment is held: others of the very same moment may be missing too."""
        since = event_time + MOMENT
        self.cut = since if self.cut is None else max(self.cut, since)

    def verdict(self, live_from: datetime, decided_until: datetime) -> Verdict | None:
        """What has turned out so far; None while nothing could be labelled yet.

        In every shard the transactions before `decided_until` are decided.
        """
        if self._labelled_until is None:
            return None
        since = live_from if self.cut is None else max(self.cut, live_from)
        until = min(self._labelled_until - LABEL_DELAY, decided_until)
        if until <= since:
            return None
        alerts = set(_between(self._alerts, since, until))
        frauds = set(_between(self._labels, since, until))
        return Verdict(since, until, len(alerts), len(frauds), len(alerts & frauds))

    def _drop(self, held: dict[int, datetime]) -> None:
        while len(held) > self.kept:
            self.begin_at(held.pop(next(iter(held))))


def _between(times: dict[int, datetime], since: datetime, until: datetime) -> Iterator[int]:
    return (number for number, at in times.items() if since <= at < until)
