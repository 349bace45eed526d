"""Looks at what delivery writes: the newest objects by the intents, and the cuts that are still open."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

from infra.archive.intents import Intent, Intents
from infra.console.state import Archived, Archives, Landed, StreamState
from infra.console.topic import NotThereError
from infra.contracts.datasets import DataSet
from infra.contracts.delivery import DeclaredDelivery, declared_deliveries
from infra.objects import ObjectStore, StoredObject
from infra.provision import SHARED
from infra.settings import ROOT, Settings

DECLARED = ROOT / "infra" / "resources" / "delivery_streams.json"
NEWEST_CUTS = 8
"""So many cuts of each delivery stream are shown, each with its objects."""


class ArchiveLook:
    """The delivery streams of data sets. Intents never change, so each is read once."""

    def __init__(
        self,
        settings: Callable[[], Settings],
        wanted: Callable[[], set[str]],
        streams: Callable[[str], tuple[StreamState, ...]],
    ) -> None:
        """`settings` has S3's address while it is up; `streams` are those of a data set, as last seen."""
        self._settings, self._wanted, self._streams = settings, wanted, streams
        self._intents: dict[str, Intent] = {}
        self._there: dict[str, StoredObject] = {}

    def __call__(self) -> Archives:
        """Ask S3 once. Raises NotThereError while it, or Kafka's word on the streams, is missing."""
        settings = self._settings()
        if not settings.s3_endpoint:
            raise NotThereError("S3 is not running")
        store, found = ObjectStore(settings), {}
        known = {name: self._streams(name) for name in self._wanted()}
        if not any(known.values()):
            raise NotThereError("Kafka has not said yet which streams there are")
        for name, streams in known.items():
            states = {state.name: state for state in streams}
            declared = _declared(DataSet(settings.bucket, name))
            found[name] = tuple(
                self._archived(store, each, states[each.stream]) for each in declared if each.stream in states
            )
        return Archives(found)

    def _archived(self, store: ObjectStore, delivery: DeclaredDelivery, stream: StreamState) -> Archived:
        intents = Intents(store, delivery.bucket, delivery.name, stream.topic_id)
        listed = sorted(intents.listed(), key=lambda item: item.modified, reverse=True)
        committed = stream.committed.get(f"delivery-{delivery.name}", {})
        return Archived(
            delivery=delivery.name,
            stream=delivery.stream,
            cuts=len(listed),
            open_intents=sum(first >= committed.get(shard, 0) for shard, first in map(_place, listed)),
            newest=tuple(
                landed
                for item in listed[:NEWEST_CUTS]
                for landed in self._landed(store, delivery.name, self._intent(intents, item.url))
            ),
        )

    def _intent(self, intents: Intents, url: str) -> Intent:
        if url not in self._intents:
            self._intents[url] = intents.at(url)
        return self._intents[url]

    def _landed(self, store: ObjectStore, delivery: str, intent: Intent) -> Iterator[Landed]:
        for part in intent.parts:
            there = self._there.get(part.url) or next(store.list(part.url), None)
            if there is not None and there.url == part.url:
                self._there[part.url] = there
                yield Landed(
                    delivery, part.url, part.records, part.error is not None, there.size, there.modified
                )
            else:
                yield Landed(delivery, part.url, part.records, part.error is not None, None, None)


def _declared(data_set: DataSet) -> list[DeclaredDelivery]:
    found = declared_deliveries(json.loads(DECLARED.read_text()))
    return [each.of(data_set) for each in found if not data_set.id or each.name not in SHARED]


def _place(item: StoredObject) -> tuple[int, int]:
    """The shard and the first offset of an intent, from its address."""
    shard, first = item.url.rsplit("/", 2)[1:]
    return int(shard), int(first)
