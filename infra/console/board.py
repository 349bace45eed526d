"""The board: every topic, which settings it looks with, and which data sets pages have asked for."""

from __future__ import annotations

from infra.console.look_archive import ArchiveLook
from infra.console.look_clusters import ClustersLook
from infra.console.look_models import ModelsLook
from infra.console.look_processes import ProcessesLook
from infra.console.look_results import ResultsLook
from infra.console.look_servers import ServersLook
from infra.console.look_streams import StreamsLook
from infra.console.state import (
    Archives,
    ClusterState,
    Models,
    Processes,
    Results,
    Servers,
    Streams,
)
from infra.console.topic import Topic
from infra.settings import Settings


class Board:
    """All that is known now, for all pages. Its topics run from `start` to `stop`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._wanted = {""}
        nowhere = Servers(settings)
        self.servers: Topic[Servers] = Topic(
            "servers", ServersLook(settings), nowhere, watched_s=2, idle_s=15
        )
        self.processes: Topic[Processes] = Topic(
            "processes", ProcessesLook(settings.home), Processes(), watched_s=1, idle_s=15
        )
        self._streams_look = StreamsLook(self.live, self.wanted, lambda: self.models.reading.value.live_from)
        self.streams: Topic[Streams] = Topic("streams", self._streams_look, Streams(), watched_s=1, idle_s=20)
        self.models: Topic[Models] = Topic(
            "models", ModelsLook(self.live, self.wanted), Models(), watched_s=5, idle_s=120
        )
        archive = ArchiveLook(
            self.live, self.wanted, lambda name: self.streams.reading.value.sets.get(name, ())
        )
        self.archives: Topic[Archives] = Topic("archive", archive, Archives(), watched_s=2, idle_s=120)
        self.clusters: Topic[tuple[ClusterState, ...]] = Topic(
            "clusters", ClustersLook(settings.home), (), watched_s=1, idle_s=30
        )
        self.results: Topic[Results] = Topic(
            "results", ResultsLook(self.live, settings.home), Results(), watched_s=5, idle_s=120
        )
        self._topics: tuple[Topic[object], ...] = (
            self.servers, self.processes, self.streams, self.models, self.archives, self.clusters,
            self.results,
        )  # type: ignore[assignment]  # fmt: skip

    def start(self) -> None:
        """Look at the servers, then begin with all the others."""
        self.servers.look()
        for topic in self._topics:
            topic.start()

    def stop(self) -> None:
        """End."""
        for topic in self._topics:
            topic.stop()

    def live(self) -> Settings:
        """The settings with the endpoints of the servers that are up now, and none of the others."""
        return self.servers.reading.value.settings

    def want(self, data_set: str) -> None:
        """A page shows this data set."""
        self._wanted = self._wanted | {data_set}

    def wanted(self) -> set[str]:
        """The data sets that pages have asked for, the default one always."""
        return set(self._wanted)

    def data_sets(self) -> list[str]:
        """The ids of those that there are, the default one first."""
        return sorted({"", *self.streams.reading.value.sets})
