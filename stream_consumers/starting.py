"""The states of shards that a scorer starts with: a snapshot, or the history, and what came after it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping

from infra.streams.consumer import StreamConsumer
from infra.streams.errors import OffsetOutOfRangeError
from infra.streams.records import Shard
from stream_consumers.history import Cards
from stream_consumers.shard_state import ShardState
from stream_consumers.snapshots import Snapshots
from stream_consumers.taking import Taker

log = logging.getLogger(__name__)
STALLED_AFTER_S = 60.0
POLL_S = 0.5
REPLAY_BATCH = 2_000


class ReplayStalledError(Exception):
    """Records that a state is rebuilt from can't be read."""


class Starter:
    """Rebuilds the states of shards as they are at given offsets."""

    def __init__(
        self,
        snapshots: Snapshots,
        history: Callable[[Collection[int]], Mapping[int, Cards]],
        reader: Callable[[], StreamConsumer],
        taker: Taker,
        based: Callable[[int, int], None],
        replayed: Callable[[int], None],
    ) -> None:
        """`history` gives the cards of shards before their first record; `reader` a consumer without a
        group. `based` gets each shard with the offset that it was restored at, `replayed` how many
        records were read again.
        """
        self._snapshots, self._history, self._reader = snapshots, history, reader
        self._taker, self._based, self._replayed = taker, based, replayed

    def states(self, targets: Mapping[Shard, int], begins: Mapping[Shard, int]) -> dict[Shard, ShardState]:
        """The states at `targets`. `begins` are the shards' oldest offsets.

        Raises OffsetOutOfRangeError when records that a state needs are no longer in the stream.
        """
        states = self._bases(targets)
        for shard, state in states.items():
            self._based(shard.number, state.offset)
            if state.offset < begins[shard]:
                raise OffsetOutOfRangeError(
                    f"{shard.stream} shard {shard.number}: card windows need the records from "
                    f"{state.offset} on, but the stream begins at {begins[shard]}"
                )
        behind = {shard: targets[shard] for shard in states if states[shard].offset < targets[shard]}
        if behind:
            self._replay(states, behind)
        return states

    def _bases(self, targets: Mapping[Shard, int]) -> dict[Shard, ShardState]:
        """The newest snapshot of each shard at or below its target, else the state before all records."""
        found = {shard: self._snapshots.newest(shard.number, target) for shard, target in targets.items()}
        without = [shard.number for shard, state in found.items() if state is None]
        history = self._history(without) if without else {}
        return {
            shard: ShardState(0, cards=dict(history[shard.number])) if state is None else state
            for shard, state in found.items()
        }

    def _replay(self, states: Mapping[Shard, ShardState], targets: Mapping[Shard, int]) -> None:
        reader = self._reader()
        try:
            reader.assign(list(targets))
            for shard in targets:
                reader.seek(shard, states[shard].offset)
            self._read_up(reader, states, targets)
        finally:
            reader.close()

    def _read_up(
        self, reader: StreamConsumer, states: Mapping[Shard, ShardState], targets: Mapping[Shard, int]
    ) -> None:
        began = moved = time.monotonic()
        total, behind = 0, set(targets)
        while behind:
            for shard, records in reader.poll(POLL_S, REPLAY_BATCH).items():
                older = [record for record in records if record.offset < targets[shard]]
                self._taker.replay(states[shard], older)
                total, moved = total + len(older), time.monotonic()
            for shard in [each for each in behind if reader.position(each) >= targets[each]]:
                states[shard].offset = targets[shard]
                behind.discard(shard)
                reader.pause([shard])
            if time.monotonic() - moved > STALLED_AFTER_S:
                raise ReplayStalledError(f"no records of {behind} for {STALLED_AFTER_S:.0f} s")
        self._replayed(total)
        log.info("%d records replayed in %.1f s", total, time.monotonic() - began)
