"""Copies what a delivery stream wrote to S3 into a table of the warehouse, object after object.

Delivery's intents say which objects there are. A shard's cuts are gone through in order; where to go on
is in the warehouse, beside the rows (infra/warehouse/copies.py).
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from infra.archive.intents import Intent, Intents, topics_and_shards
from infra.archive.reading import object_rows
from infra.contracts.copies import DeclaredCopy
from infra.metrics import Metrics
from infra.objects import ObjectStore
from infra.warehouse.copies import CopiedObject, WarehouseCopies
from stream_consumers.background import retrying

COUNTED = ("copied_objects_total", "copied_rows_total")
Part = tuple[str, int]
"""A topic id and a shard's number: a stream made anew has another topic id."""
log = logging.getLogger(__name__)


class Copier:
    """One declared copy. Used from one thread."""

    def __init__(
        self,
        copy: DeclaredCopy,
        bucket: str,
        store: ObjectStore,
        warehouse: WarehouseCopies,
        metrics: Metrics,
    ) -> None:
        """`bucket` is the delivery stream's."""
        self._copy, self._bucket = copy, bucket
        self._store, self._warehouse, self._metrics = store, warehouse, metrics
        self._begin: dict[Part, int] | None = None
        """The offset from which on cuts are to be looked at; None before the warehouse was asked."""
        for counter in COUNTED:
            metrics.count(counter, 0, delivery=copy.delivery)
        metrics.set("copy_lag_objects", 0, delivery=copy.delivery)

    def catch_up(self, is_stopping: Callable[[], bool]) -> None:
        """Copy all that was delivered and is not copied yet.

        Raises what WarehouseCopies does; called again it goes on where it was.
        """
        if self._begin is None:
            self._begin = self._warehouse.newest(self._copy.delivery)
        waiting = {part: self._firsts(part) for part in self._parts()}
        for (topic_id, shard), firsts in waiting.items():
            intents = Intents(self._store, self._bucket, self._copy.delivery, topic_id)
            while firsts and not is_stopping():
                self._metrics.set(
                    "copy_lag_objects", sum(map(len, waiting.values())), delivery=self._copy.delivery
                )
                intent = retrying()(intents.get, shard, firsts[0])
                assert intent is not None, "intents are never deleted"
                if not self._cut(intent, is_last=len(firsts) == 1):
                    firsts.pop()  # being written: it is no lag of ours
                    break
                self._begin[topic_id, shard] = firsts.pop(0) + 1
        self._metrics.set("copy_lag_objects", sum(map(len, waiting.values())), delivery=self._copy.delivery)

    def _parts(self) -> list[Part]:
        return retrying()(topics_and_shards, self._store, self._bucket, self._copy.delivery)

    def _firsts(self, part: Part) -> list[int]:
        topic_id, shard = part
        assert self._begin is not None
        intents = Intents(self._store, self._bucket, self._copy.delivery, topic_id)
        return retrying()(intents.firsts, shard, self._begin.get(part, 0))

    def _cut(self, intent: Intent, *, is_last: bool) -> bool:
        """Copy a cut's objects; False when one is not written yet, which only a shard's last cut can lack."""
        for part in intent.good:
            body = retrying()(self._body, part.url)
            if body is None and is_last:
                return False
            if body is None:
                log.warning("%s was deleted before it was copied; it is passed by", part.url)
                continue
            rows = object_rows(body, intent)
            assert rows.num_rows == part.records, f"{part.url} has {rows.num_rows} rows, not {part.records}"
            item = CopiedObject(intent.delivery, part.url, intent.topic_id, intent.shard, intent.first)
            if self._warehouse.copy(self._copy.table, item, rows):
                self._metrics.count("copied_objects_total", delivery=intent.delivery)
                self._metrics.count("copied_rows_total", rows.num_rows, delivery=intent.delivery)
        return True

    def _body(self, url: str) -> bytes | None:
        try:
            return self._store.get(url)
        except FileNotFoundError:
            return None
