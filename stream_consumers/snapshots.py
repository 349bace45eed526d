"""Snapshots of shards in S3: written beside the loop, found again, thinned out."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from infra.contracts.datasets import DataSet
from infra.contracts.features import FEATURE_LIST
from infra.objects import ObjectStore
from stream_consumers.background import retrying
from stream_consumers.shard_state import ShardState, Snapshot, encode, restore, snapshot

KEPT = 3
SUFFIX = ".msgpack"


class Snapshots:
    """The snapshots of a topic's shards, by offset. The newest KEPT of each shard stay.

    A name that is taken holds the same bytes, whoever wrote it, so it is never written again.
    """

    def __init__(self, store: ObjectStore, data_set: DataSet, topic_id: str) -> None:
        self._store, self._prefix = store, f"{data_set.snapshots}{topic_id}/"

    def newest(self, shard: int, below: int) -> ShardState | None:
        """The state of the newest snapshot at or below an offset."""
        offsets = [offset for offset in self._offsets(shard) if offset <= below]
        return restore(self._store.get(self._url(shard, offsets[-1]))) if offsets else None

    def write(self, shard: int, copy: Snapshot) -> None:
        """Write one, and drop old ones of its shard."""
        self._store.put_once(self._url(shard, copy.offset), encode(copy))
        old = self._offsets(shard)[:-KEPT]
        self._store.delete(self._url(shard, offset) for offset in old)

    def _offsets(self, shard: int) -> list[int]:
        """Of all snapshots of a shard, in order."""
        found = self._store.list(self._folder(shard))
        return [int(item.url.rsplit("/", 1)[1].removesuffix(SUFFIX)) for item in found]

    def _folder(self, shard: int) -> str:
        return f"{self._prefix}{shard}/{FEATURE_LIST}/"

    def _url(self, shard: int, offset: int) -> str:
        return f"{self._folder(shard)}{offset:020d}{SUFFIX}"


class SnapshotWriter:
    """Takes a snapshot of a shard every `every` records; writes one at a time in a thread of its own."""

    def __init__(self, snapshots: Snapshots, every: int, written: Callable[[], None]) -> None:
        """`written` is called for each one that was written, from the thread that calls `tick`."""
        self._snapshots, self._every, self._written = snapshots, every, written
        self._thread = ThreadPoolExecutor(1, "snapshots")
        self._writing: Future[None] | None = None
        self._last: dict[int, int] = {}

    def based(self, shard: int, offset: int) -> None:
        """A shard was restored at this offset: its next snapshot is counted from there."""
        self._last[shard] = offset

    def tick(self, states: dict[int, ShardState]) -> None:
        """Write the next snapshot that is due, if any. Raises what made the last one fail."""
        if self._writing is not None:
            if not self._writing.done():
                return
            self._finish()
        for shard, state in states.items():
            if state.offset - self._last[shard] >= self._every:
                self._begin(shard, state)
                return

    def close(self, states: dict[int, ShardState]) -> None:
        """Write all that changed, so that the next start has nothing to replay."""
        self._finish()
        for shard, state in states.items():
            if state.offset > self._last[shard]:
                self._begin(shard, state)
                self._finish()
        self._thread.shutdown()

    def _begin(self, shard: int, state: ShardState) -> None:
        self._last[shard] = state.offset
        self._writing = self._thread.submit(retrying(), self._snapshots.write, shard, snapshot(state))

    def _finish(self) -> None:
        if self._writing is not None:
            self._writing.result()
            self._writing = None
            self._written()
