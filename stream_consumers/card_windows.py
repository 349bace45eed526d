"""A card's last transactions: running counts, sums and maximum over the windows of the features.

The order is (event_time, transaction_id), also when a record comes late. Everything is an integer, so
the same records give the same values bit for bit, whether they came one by one or were restored.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from infra.contracts.features import CARD_DAYS, DAY_US, MAX_DAYS, CardView

KEPT_US = (max(CARD_DAYS) + 1) * DAY_US
"""What is kept before a card's newest transaction: a record may be a day late and still be exact."""
TRIM_FROM, TRIM_BY = 64, 32


class Entries(NamedTuple):
    """Transactions in order, as columns of int64: microseconds since 1970, ids, cents."""

    times: array[int]
    ids: array[int]
    cents: array[int]


def entries(rows: Iterable[tuple[int, int, int]] = ()) -> Entries:
    """Entries from (time, id, cents) rows, which are in order."""
    columns = Entries(array("q"), array("q"), array("q"))
    for row in rows:
        for column, value in zip(columns, row, strict=True):
            column.append(value)
    return columns


class _Span:
    """A running window: the index of the first transaction in it and the sum from there on."""

    __slots__ = ("start", "total", "width_us")

    def __init__(self, width_us: int) -> None:
        self.width_us, self.start, self.total = width_us, 0, 0


class CardWindow:
    """One card; as a CardView it shows the transaction that was added last, if that came in order.

    One that is KEPT_US or more before the card's newest is seen alone and not kept.
    """

    __slots__ = ("_by_days", "_cents", "_earlier_max", "_ids", "_peaks", "_spans", "_times")

    def __init__(self, kept: Entries | None = None) -> None:
        """A card with these transactions (the arrays become its own)."""
        self._times, self._ids, self._cents = kept or entries()
        self._spans = tuple(_Span(days * DAY_US) for days in CARD_DAYS)
        self._by_days = dict(zip(CARD_DAYS, self._spans, strict=True))
        self._peaks: deque[tuple[int, int]] = deque()
        self._earlier_max = 0
        if self._times:
            self._recount()

    def add(self, time_us: int, transaction_id: int, cents: int) -> CardView:
        """Take a transaction. Returns what its features see, which is valid until the next `add`."""
        times = self._times
        if times and (time_us, transaction_id) < (times[-1], self._ids[-1]):
            return self._add_late(time_us, transaction_id, cents)
        times.append(time_us)
        self._ids.append(transaction_id)
        self._cents.append(cents)
        self._slide(time_us, cents)
        self._push_peak(time_us, cents)
        if self._spans[-1].start >= TRIM_FROM:
            self._trim()
        return self

    def count(self, days: int) -> int:
        """Transactions in the last `days`, this one included."""
        return len(self._times) - self._by_days[days].start

    def sum_cents(self, days: int) -> int:
        """Their sum."""
        return self._by_days[days].total

    def earlier_max_cents(self, days: int) -> int:
        """The largest of the earlier ones; 0 if there is none."""
        assert days == MAX_DAYS, days
        return self._earlier_max

    def kept(self) -> Entries:
        """A copy of what decides this card's future: nothing else does."""
        first = bisect_right(self._times, self._times[-1] - KEPT_US) if self._times else 0
        return Entries(self._times[first:], self._ids[first:], self._cents[first:])

    def _slide(self, time_us: int, cents: int) -> None:
        times, amounts = self._times, self._cents
        for span in self._spans:
            span.total += cents
            start, before = span.start, time_us - span.width_us
            while times[start] <= before:
                span.total -= amounts[start]
                start += 1
            span.start = start

    def _push_peak(self, time_us: int, cents: int) -> None:
        """Note the maximum before this one; `_peaks` holds (time, cents), falling, from the window's on."""
        peaks, before = self._peaks, time_us - MAX_DAYS * DAY_US
        while peaks and peaks[0][0] <= before:
            peaks.popleft()
        self._earlier_max = peaks[0][1] if peaks else 0
        while peaks and peaks[-1][1] <= cents:
            peaks.pop()
        peaks.append((time_us, cents))

    def _trim(self) -> None:
        old = bisect_right(self._times, self._times[-1] - KEPT_US)
        if old < TRIM_BY:
            return
        for column in (self._times, self._ids, self._cents):
            del column[:old]
        for span in self._spans:
            span.start -= old

    def _add_late(self, time_us: int, transaction_id: int, cents: int) -> CardView:
        times, ids, amounts = self._times, self._ids, self._cents
        oldest = bisect_right(times, times[-1] - KEPT_US)
        if time_us <= times[-1] - KEPT_US:
            return _PastView(entries([(time_us, transaction_id, cents)]))
        low, high = bisect_left(times, time_us, oldest), bisect_right(times, time_us, oldest)
        place = bisect_right(ids, transaction_id, low, high)
        times.insert(place, time_us)
        ids.insert(place, transaction_id)
        amounts.insert(place, cents)
        self._recount()
        seen = slice(oldest, place + 1)
        return _PastView(Entries(times[seen], ids[seen], amounts[seen]))

    def _recount(self) -> None:
        """Set what runs from the transactions themselves."""
        newest = self._times[-1]
        for span in self._spans:
            span.start = bisect_right(self._times, newest - span.width_us)
            span.total = sum(self._cents[span.start :])
        self._peaks.clear()
        for index in range(self._by_days[MAX_DAYS].start, len(self._times)):
            self._push_peak(self._times[index], self._cents[index])


class _PastView:
    """What a late transaction sees: those up to and with itself, which is the last of `seen`."""

    def __init__(self, seen: Entries) -> None:
        self._seen = seen

    def count(self, days: int) -> int:
        return len(self._window(days))

    def sum_cents(self, days: int) -> int:
        return sum(self._window(days))

    def earlier_max_cents(self, days: int) -> int:
        return max(self._window(days)[:-1], default=0)

    def _window(self, days: int) -> array[int]:
        times = self._seen.times
        return self._seen.cents[bisect_right(times, times[-1] - days * DAY_US) :]
