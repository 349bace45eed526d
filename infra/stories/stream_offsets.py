"""Where a data set's streams stand, and whether their consumers have come to the end."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from infra import metrics
from infra.contracts.datasets import DELIVERED, DELIVERIES, SCORERS, DataSet
from infra.contracts.errors import FailedError
from infra.progress import Update
from infra.streams.admin import StreamAdmin
from infra.streams.errors import KafkaUnavailableError
from infra.streams.records import Shard

T = TypeVar("T")
Offsets = Mapping[Shard, int]
POLL_S = 0.25
SILENT_S, STALLED_S = 90.0, 300.0
"""How long Kafka may not answer, and how long no consumer may move on. A stack's scorer may wait for a
terminals' table, which is made after a batch job's steps."""


@dataclass(frozen=True)
class Goal:
    """A group is through when it has committed at least these offsets."""

    group: str
    offsets: Offsets

    def behind(self, admin: StreamAdmin) -> int:
        """Records that the group has not committed yet (marks of transactions may count as some)."""
        done = admin.group_offsets(self.group)
        return sum(max(0, offset - done.get(shard, 0)) for shard, offset in self.offsets.items())


def goals(admin: StreamAdmin, stream: str, groups: Sequence[str]) -> list[Goal]:
    """That each group has committed past the last record that a stream holds now."""
    last = admin.last_records(admin.shards(stream))
    offsets = {shard: record.offset + 1 for shard, record in last.items()}
    return [Goal(group, offsets) for group in groups]


class Streams:
    """A data set's streams, asked with patience: a broker may be about to be started again."""

    def __init__(
        self, admin: StreamAdmin, data_set: DataSet, home: Path, meanwhile: Callable[[], None] = lambda: None
    ) -> None:
        """`home` is where the consumers' metrics are noted; `meanwhile` is called before each question."""
        self._admin, self._data_set, self._home, self._meanwhile = admin, data_set, home, meanwhile

    def ends(self, name: str) -> dict[Shard, int]:
        """The offset after the last record (or mark) of each shard of a stream."""
        found = self._answer(lambda: self._admin.offsets(self._data_set.stream(name)))
        return {shard: end for shard, (_, end) in found.items()}

    def reach_ends(self, update: Update, sinks: Sequence[str] = ()) -> None:
        """Wait until every consumer has committed all that the streams hold now, in two rounds.

        What the scorers answer, and so what is to be archived and alerted on, is known after the first.
        `sinks` are the groups that take alerts. Raises FailedError when nothing moves for STALLED_S.
        """
        transactions, labels, decisions = (self._data_set.group(name) for name in DELIVERIES)
        rounds: tuple[Mapping[str, Sequence[str]], ...] = (
            {"transactions": [self._data_set.group(SCORERS), transactions], "labels": [labels]},
            {"decisions": [decisions], "alerts": sinks},
        )
        for readers in rounds:
            wanted = [
                goal
                for name, groups in readers.items()
                if groups
                for goal in self._goals(self._data_set.stream(name), groups)
            ]
            self._reach(wanted, update)

    def unarchived(self) -> int:
        """Records that no delivery stream has committed yet."""
        found = [
            goal
            for name, group in zip(DELIVERED, DELIVERIES, strict=True)
            for goal in self._goals(self._data_set.stream(name), [self._data_set.group(group)])
        ]
        return self._answer(lambda: sum(goal.behind(self._admin) for goal in found))

    def _goals(self, stream: str, groups: Sequence[str]) -> list[Goal]:
        return self._answer(lambda: goals(self._admin, stream, groups))

    def _reach(self, wanted: Sequence[Goal], update: Update) -> None:
        most, least, moved_at = 1, math.inf, time.monotonic()
        while behind := self._answer(
            lambda: {goal.group: n for goal in wanted if (n := goal.behind(self._admin))}
        ):
            left = sum(behind.values())
            words = f"{left:,} records to go: {', '.join(behind)}"
            if left < least:
                least, moved_at = left, time.monotonic()
            elif time.monotonic() - moved_at > STALLED_S:
                raise FailedError(f"nothing moves any more, {words}{self._troubles()}")
            most = max(most, left)
            update(1 - left / most, words)
            time.sleep(POLL_S)

    def _troubles(self) -> str:
        """What the processes say of themselves."""
        said = {name: metrics.trouble(address) for name, address in metrics.noted(self._home).items()}
        return "".join(f"; {name}: {what}" for name, what in said.items() if what)

    def _answer(self, ask: Callable[[], T]) -> T:
        """An answer of Kafka. Raises FailedError when there is none within SILENT_S."""
        deadline = time.monotonic() + SILENT_S
        while True:
            self._meanwhile()
            try:
                with self._admin.answering():
                    return ask()
            except KafkaUnavailableError as error:
                if time.monotonic() > deadline:
                    raise FailedError(str(error)) from error
            time.sleep(POLL_S)
