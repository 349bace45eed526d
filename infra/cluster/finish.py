"""Finishing the work of a manager that died: end its processes, put its logs, record the end."""

from __future__ import annotations

import logging
import time

from infra import objects
from infra.cluster import logs
from infra.cluster.agent_nodes import end_ordered
from infra.cluster.journal import Journal
from infra.cluster.model import Cluster
from infra.local.servers import servers
from infra.objects import ObjectStore
from infra.settings import Settings
from infra.supervisor import end_marked

log = logging.getLogger(__name__)
WHY = "the cluster's manager ended unexpectedly"


def read_or_finish(journal: Journal, settings: Settings) -> Cluster:
    """The state of a cluster. If its manager is dead, this finishes the manager's work first.

    A manager holds its journal's lock for as long as it lives, so only one can ever be finishing.
    """
    cluster = journal.read()
    if cluster.is_over:
        return cluster
    with journal.try_lock() as free:
        if free is None:
            return cluster
        cluster = journal.read()  # it may have ended between the two
        if not cluster.is_over:
            _finish(cluster, journal, settings)
    return cluster


def _finish(cluster: Cluster, journal: Journal, settings: Settings) -> None:
    end_marked(cluster.id)
    end_ordered(cluster, settings, journal)
    now = time.time()
    if cluster.state != "TERMINATING":
        cluster.move("TERMINATING", now, "INTERNAL_ERROR", WHY)
    for step in cluster.steps:
        if not step.is_over:
            step.end("INTERRUPTED" if step.state == "RUNNING" else "CANCELLED", now, WHY)
    for node in cluster.instances:
        if node.is_up:
            node.end(now, WHY)
    _upload_logs(cluster, journal, settings)
    cluster.move("TERMINATED_WITH_ERRORS", now)
    journal.write(cluster)
    journal.clean()
    log.info("%s: %s; its processes were ended", cluster.id, WHY)


def _upload_logs(cluster: Cluster, journal: Journal, settings: Settings) -> None:
    """Put what the manager could not; without a reachable S3 server they stay in the folder."""
    if cluster.log_uri is None:
        return
    try:
        with servers(settings) as live:
            store = ObjectStore(live)
            for step in cluster.steps:
                logs.upload_step(store, cluster, journal, step)
            logs.upload_nodes(store, cluster, journal)
    except objects.FAILURES as error:
        log.error("logs of %s stay in %s: %s", cluster.id, journal.folder, error)
