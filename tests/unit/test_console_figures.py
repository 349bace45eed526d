"""The console's arithmetic: rates of totals, quantiles of histograms, precision and recall, words."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from infra.console.history import History
from infra.console.quantiles import quantile
from infra.console.verdicts import Verdicts
from infra.console.words import amount, millis, rate, size
from infra.contracts.datasets import LABEL_DELAY
from infra.contracts.events import Alert, Label
from infra.metrics import LATENCY_S

LIVE_FROM = datetime(2018, 8, 8, tzinfo=UTC)
DAY = timedelta(days=1)
LATER = LIVE_FROM + 100 * DAY


def alert(number: int, at: datetime) -> Alert:
    """An alert on a transaction."""
    return Alert(
        alert_id=str(number), transaction_id=number, event_time=at, card_id="c", terminal_id="t",
        amount_cents=1, score=0.9, action="block", reasons=[], model_version="m", sent_at=at, scored_at=at,
    )  # fmt: skip


def label(number: int, at: datetime) -> Label:
    """A label that comes when it is due."""
    return Label(
        transaction_id=number, event_time=at, card_id="c", terminal_id="t", known_at=at + LABEL_DELAY
    )


def test_a_rate_is_over_the_last_seconds() -> None:
    """Growth before the look back does not count; one sample alone has no rate."""
    history: History[str] = History()
    history.add(0, {"a": 1_000})
    assert history.rate("a") == 0
    for second in range(1, 21):
        history.add(second, {"a": 1_000 + min(second, 10) * 100})
    assert history.rate("a") == 0
    assert history.growth("a", 60) == 1_000
    assert history.growth("a", 15) == 500
    assert history.growth("unknown", 60) == 0


def test_samples_far_apart_have_a_rate_too() -> None:
    """When nobody watches, samples are further apart than the look back."""
    history: History[str] = History()
    history.add(0, {"a": 0})
    history.add(20, {"a": 40})
    assert history.rate("a", 5) == 2


def test_a_total_that_begins_anew_counts_on() -> None:
    """A process that was started again counts from 0; one that is gone for a while loses nothing."""
    history: History[str] = History()
    for at, totals in enumerate(({"a": 50}, {"a": 70}, {"a": 5}, {}, {"a": 9})):
        history.add(at, totals)
    assert history.growth("a", 60) == 20 + 5 + 4
    assert history.series("a", over_s=1) == [(1, 20), (2, 5), (3, 0), (4, 4)]
    assert history.series("a", over_s=2) == [(1, 20), (2, 12.5), (3, 2.5), (4, 2)]


def test_old_samples_are_forgotten() -> None:
    """A console that runs for weeks holds minutes."""
    history: History[str] = History(keep_s=10)
    for at in range(100):
        history.add(at, {"a": at})
    assert [at for at, _ in history.series("a")] == list(range(90, 100))


def buckets(values: list[float]) -> dict[float, float]:
    """Values counted as the histogram of latencies does."""
    return {bound: float(sum(v <= bound for v in values)) for bound in (*LATENCY_S, math.inf)}


def test_quantiles_of_a_histogram_lie_in_the_right_bucket() -> None:
    """The estimate and the true quantile are in the same bucket, for each of several shares."""
    values = np.random.default_rng(5).lognormal(-3, 0.8, 10_000).tolist()
    counts, bounds = buckets(values), (0.0, *LATENCY_S)
    for share in (0.01, 0.5, 0.9, 0.99):
        found, true = quantile(counts, share), float(np.quantile(values, share))
        assert found is not None
        assert np.searchsorted(bounds, found) == np.searchsorted(bounds, true)


def test_quantiles_at_the_edges() -> None:
    """Nothing counted is None; what is above the last finite bound is said to be at it."""
    assert quantile({}, 0.5) is None
    assert quantile(buckets([]), 0.5) is None
    assert quantile(buckets([100.0]), 0.5) == LATENCY_S[-1]
    assert quantile({1.0: 10.0, 2.0: 10.0, math.inf: 10.0}, 0.5) == 0.5


def test_only_what_could_be_labelled_counts() -> None:
    """An alert whose label can't be there yet moves neither figure."""
    verdicts = Verdicts()
    verdicts.alerted([alert(1, LIVE_FROM), alert(2, LIVE_FROM + DAY), alert(3, LIVE_FROM + 2 * DAY)])
    assert verdicts.verdict(LIVE_FROM, LATER) is None
    verdicts.labelled([label(1, LIVE_FROM), label(9, LIVE_FROM + DAY), label(10, LIVE_FROM + 2 * DAY)])
    found = verdicts.verdict(LIVE_FROM, LATER)
    assert found is not None
    # Up to the newest label's own event time, which another label of that moment may still share.
    assert (found.alerts, found.frauds, found.hits) == (2, 2, 1)
    assert (found.precision, found.recall) == (0.5, 0.5)
    before = found
    verdicts.alerted([alert(4, LIVE_FROM + 3 * DAY)])
    assert verdicts.verdict(LIVE_FROM, LATER) == before


def test_what_is_not_decided_yet_is_not_missed() -> None:
    """A scorer that is behind has missed no fraud: what it has not decided on does not count."""
    verdicts = Verdicts()
    verdicts.alerted([alert(1, LIVE_FROM)])
    verdicts.labelled([label(n, LIVE_FROM + (n - 1) * DAY) for n in (1, 2, 3)])
    behind = verdicts.verdict(LIVE_FROM, LIVE_FROM + DAY)
    assert behind is not None
    assert (behind.alerts, behind.frauds, behind.recall) == (1, 1, 1.0)
    caught_up = verdicts.verdict(LIVE_FROM, LATER)
    assert caught_up is not None
    assert (caught_up.frauds, caught_up.recall) == (2, 0.5)


def test_labels_of_history_do_not_count() -> None:
    """Frauds before the first live moment were never scored: nobody missed them."""
    verdicts = Verdicts()
    verdicts.labelled([label(1, LIVE_FROM - DAY), label(2, LIVE_FROM), label(3, LIVE_FROM + DAY)])
    found = verdicts.verdict(LIVE_FROM, LATER)
    assert found is not None
    assert (found.frauds, found.recall, found.precision) == (1, 0.0, None)


def test_what_was_not_read_does_not_count() -> None:
    """With the oldest alerts cut off, only frauds after the cut count, or recall would be too low."""
    verdicts = Verdicts(kept=2)
    verdicts.alerted([alert(n, LIVE_FROM + n * DAY) for n in range(4)])
    verdicts.labelled([label(n, LIVE_FROM + n * DAY) for n in range(2, 6)])
    found = verdicts.verdict(LIVE_FROM, LATER)
    assert found is not None
    assert found.since > LIVE_FROM
    assert (found.alerts, found.frauds, found.hits) == (0, 1, 0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (rate(0), "0"), (rate(0.42), "0.4"), (rate(5011.6), "5,012"),
        (size(812), "812 B"), (size(4_212), "4.2 kB"), (size(13_700_000), "13.7 MB"), (size(None), "\u2013"),
        (millis(0.0431), "43 ms"), (millis(12.52), "12.5 s"), (millis(None), "\u2013"),
        (amount(123_450), "1,234.50"),
    ],
)  # fmt: skip
def test_figures_in_words(text: str, expected: str) -> None:
    """Separators, units, a dash for what is not known."""
    assert text == expected
