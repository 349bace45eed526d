"""The standing cluster of a stack: kept alive without steps, and made anew when it has ended.

`python -m infra.cluster.standing` manages it in this process until SIGTERM.
"""

from __future__ import annotations

import logging

from infra.cluster.client import Clusters
from infra.cluster.finish import read_or_finish
from infra.cluster.journal import journals
from infra.cluster.manager import manage
from infra.cluster.model import Cluster
from infra.contracts import resources
from infra.contracts.errors import UserError
from infra.metrics import Metrics
from infra.process import EXIT_FAILED, run, stop_on_signals
from infra.settings import ROOT, Settings

REQUEST = ROOT / "infra" / "resources" / "clusters" / "standing.json"
log = logging.getLogger(__name__)


def standing_request(settings: Settings) -> dict[str, object]:
    """The declared RunJobFlow request, with this bucket's place for logs."""
    return {**resources.read_request(REQUEST), "LogUri": f"s3://{settings.bucket}/logs/"}


def find_standing(settings: Settings) -> Cluster | None:
    """The standing cluster that takes steps now, or None."""
    name = resources.read_request(REQUEST)["Name"]
    found = [journal.read() for journal in journals(settings.home) if journal.is_managed()]
    up = [each for each in found if each.name == name and each.state in ("RUNNING", "WAITING")]
    return max(up, key=lambda cluster: cluster.created_at, default=None)


def main() -> int:
    """Manage a new standing cluster to its end. Exit code 1 when it ended by itself."""
    settings = Settings.load()
    if not settings.nodes:
        raise UserError("a standing cluster needs nodes: set MILLSTREAM_NODES to the hosts of their agents")
    for journal in journals(settings.home):
        read_or_finish(journal, settings)
    with Clusters(settings).create(**standing_request(settings)) as (journal, _), stop_on_signals() as stop:

        def health() -> str | None:
            state = journal.read().state
            return None if state in ("RUNNING", "WAITING") else f"the cluster is {state}"

        with Metrics("cluster-manager").serve(settings, health):
            ended = manage(journal, settings, stop)
    log.info("%s is %s: %s", ended.id, ended.state, ended.message)
    return 0 if stop.is_set() else EXIT_FAILED


if __name__ == "__main__":
    run(main)
