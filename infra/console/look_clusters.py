"""Looks at the clusters' journals. Changes nothing: a dead manager's work is left to who asks for it."""

from __future__ import annotations

import time
from pathlib import Path

from infra.cluster.cost import ClusterCost, cost_of
from infra.cluster.journal import Journal, journals
from infra.cluster.model import Cluster
from infra.console.state import ClusterState

MANAGER_WITHIN_S = 10.0
"""A cluster this young may not have its manager yet, and is not asked for it."""


class ClustersLook:
    """All clusters of a home; a journal is read again when it has changed."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._read: dict[Path, tuple[int, Cluster]] = {}

    def __call__(self) -> tuple[ClusterState, ...]:
        """The clusters, newest first."""
        now = time.time()
        found = [self._state(journal, now) for journal in journals(self._home)]
        return tuple(sorted(found, key=lambda state: state.cluster.created_at, reverse=True))

    def _state(self, journal: Journal, now: float) -> ClusterState:
        cluster = self._cluster(journal)
        young = now - cluster.created_at < MANAGER_WITHIN_S
        gone = not (cluster.is_over or young or journal.is_managed())
        return ClusterState(cluster, gone, cost_until(cluster, now))

    def _cluster(self, journal: Journal) -> Cluster:
        changed = (journal.folder / "cluster.json").stat().st_mtime_ns
        known = self._read.get(journal.folder)
        if known is None or known[0] != changed:
            known = self._read[journal.folder] = changed, journal.read()
        return known[1]


def cost_until(cluster: Cluster, now: float) -> ClusterCost | None:
    """What a cluster has cost so far; None when a type of its nodes has no price any more."""
    try:
        return cost_of(cluster, now)
    except KeyError:
        return None
