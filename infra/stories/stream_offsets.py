"""Where a data set's streams stand, and whether their consumers have come to the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from infra.contracts.datasets import DELIVERIES, SCORERS, DataSet
from infra.streams.admin import StreamAdmin
from infra.streams.records import Shard

Offsets = Mapping[Shard, int]


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


def behind_archive(admin: StreamAdmin, data_set: DataSet) -> int:
    """Records of a data set that are not decided or not archived yet, decisions in the making left out."""
    wanted = goals(admin, data_set.stream("transactions"), [data_set.group(SCORERS)])
    for delivery in DELIVERIES:
        stream = data_set.stream(delivery.removeprefix("delivery-"))
        wanted += goals(admin, stream, [data_set.group(delivery)])
    return sum(goal.behind(admin) for goal in wanted)


def ends(admin: StreamAdmin, stream: str) -> dict[Shard, int]:
    """The offset after the last record (or mark) of each shard."""
    return {shard: end for shard, (_, end) in admin.offsets(stream).items()}
