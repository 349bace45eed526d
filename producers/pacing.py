"""Spreads a rate smoothly over time: how many records are due now."""

from __future__ import annotations

from dataclasses import dataclass, field

TICK_S = 0.005
"""How often a producer looks: a record waits half of this on average."""
CATCH_UP = 1.5
"""How much faster than its rate a producer goes after a stall: shards with room to spare take that."""
LONGEST_S = 0.05
"""A look later than this after the one before was a stall."""


@dataclass
class Pace:
    """`rate` records per second from `began` (seconds, of any clock) on."""

    rate: float
    began: float
    given: int = 0
    looked: float = field(init=False)

    def __post_init__(self) -> None:
        self.looked = self.began

    def due(self, now: float) -> int:
        """Records that are due and not given yet; they count as given.

        After a stall what is late is caught up at CATCH_UP times the rate instead of in one burst.
        """
        behind = int((now - self.began) * self.rate) - self.given
        passed, self.looked = min(now - self.looked, LONGEST_S), now
        due = max(0, min(behind, int(passed * self.rate * CATCH_UP) + 1))
        self.given += due
        return due

    def give_back(self, records: int) -> None:
        """Records that were due and could not be put; they are due again."""
        self.given -= records
