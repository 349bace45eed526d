"""Spreads a rate smoothly over time: how many records are due now."""

from __future__ import annotations

from dataclasses import dataclass

TICK_S = 0.005
"""How often a producer looks: a record waits half of this on average."""


@dataclass
class Pace:
    """`rate` records per second from `began` (seconds, of any clock) on."""

    rate: float
    began: float
    given: int = 0

    def due(self, now: float) -> int:
        """Records that are due and not given yet; they count as given. At most a tenth of a second's worth.

        So after a stall the producer catches up in small steps instead of one burst.
        """
        behind = int((now - self.began) * self.rate) - self.given
        due = max(0, min(behind, int(self.rate / 10) + 1))
        self.given += due
        return due

    def give_back(self, records: int) -> None:
        """Records that were due and could not be put; they are due again."""
        self.given -= records
