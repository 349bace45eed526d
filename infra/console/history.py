"""Totals over time: their rates, their growth, and the rates as a series for a chart."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
KEEP_S = 660.0
RATE_OVER_S = 5.0


@dataclass
class History(Generic[K]):
    """Samples of totals by key, in seconds of any clock, those of the last `keep_s` seconds.

    A total that falls was begun anew by its process: it counts on from what it had. One that is missing
    from a sample stays where it was, and one that is new has not grown yet.
    """

    keep_s: float = KEEP_S
    _last: dict[K, float] = field(default_factory=dict)
    _grown: dict[K, float] = field(default_factory=dict)
    _samples: deque[tuple[float, dict[K, float]]] = field(default_factory=deque)

    def add(self, at: float, totals: Mapping[K, float]) -> None:
        """Note the totals of a moment, which is after all earlier ones."""
        for key, total in totals.items():
            last = self._last.get(key, total)
            self._grown[key] = self._grown.get(key, 0.0) + (total - last if total >= last else total)
            self._last[key] = total
        self._samples.append((at, dict(self._grown)))
        while self._samples[0][0] < at - self.keep_s:
            self._samples.popleft()

    def growth(self, key: K, over_s: float) -> float:
        """By how much a total grew within the last `over_s` seconds, or since the sample before the last."""
        return self._pair(key, over_s)[1]

    def rate(self, key: K, over_s: float = RATE_OVER_S) -> float:
        """The same per second; 0 while there is one sample or none."""
        passed, grown = self._pair(key, over_s)
        return grown / passed if passed else 0.0

    def series(self, *keys: K, over_s: float = RATE_OVER_S) -> list[tuple[float, float]]:
        """The rate of the sum of some totals at each sample but the first: (moment, rate)."""
        sums = [(at, sum(totals.get(key, 0.0) for key in keys)) for at, totals in self._samples]
        found, begin = [], 0
        for number in range(1, len(sums)):
            at, total = sums[number]
            while begin < number - 1 and sums[begin][0] < at - over_s:
                begin += 1
            found.append((at, (total - sums[begin][1]) / (at - sums[begin][0])))
        return found

    def _pair(self, key: K, over_s: float) -> tuple[float, float]:
        """Seconds and growth between the last sample and the one that a look back begins with."""
        if len(self._samples) < 2:
            return 0.0, 0.0
        end_at, end = self._samples[-1]
        begin_at, begin = self._samples[-2]
        for at, totals in reversed(self._samples):
            if at < end_at - over_s:
                break
            if at < end_at:
                begin_at, begin = at, totals
        # A key that came later has not grown before it came.
        return end_at - begin_at, end.get(key, 0.0) - begin.get(key, 0.0)
