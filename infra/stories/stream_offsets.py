"""Where a data set's streams stand, and whether their consumers have come to the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from infra.contracts.datasets import DELIVERIES, SCORERS, DataSet
from infra.progress import Update
from infra.streams.admin import StreamAdmin
from infra.streams.records import Shard

Offsets = Mapping[Shard, int]
POLL_S = 0.25


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


def reach_ends(
    admin: StreamAdmin,
    data_set: DataSet,
    update: Update,
    *,
    sinks: Sequence[str] = (),
    meanwhile: Callable[[], None] = lambda: None,
) -> None:
    """Wait until every consumer has committed all that the streams hold now, in two rounds.

    What the scorers answer, and so what is to be archived and alerted on, is known after the first.
    `sinks` are the groups that take alerts; `meanwhile` is called at each look.
    """
    transactions, labels, decisions = (data_set.group(name) for name in DELIVERIES)
    rounds: tuple[Mapping[str, Sequence[str]], ...] = (
        {"transactions": [data_set.group(SCORERS), transactions], "labels": [labels]},
        {"decisions": [decisions], "alerts": sinks},
    )
    for readers in rounds:
        wanted = [
            goal
            for name, groups in readers.items()
            if groups
            for goal in goals(admin, data_set.stream(name), groups)
        ]
        most = 1
        while behind := {goal.group: n for goal in wanted if (n := goal.behind(admin))}:
            meanwhile()
            left = sum(behind.values())
            most = max(most, left)
            update(1 - left / most, f"{left:,} records to go: {', '.join(behind)}")
            time.sleep(POLL_S)


def ends(admin: StreamAdmin, stream: str) -> dict[Shard, int]:
    """The offset after the last record (or mark) of each shard."""
    return {shard: end for shard, (_, end) in admin.offsets(stream).items()}
