"""The logs of a cluster in S3, in EMR's layout and gzipped.

`<LogUri>/<cluster id>/steps/<step id>/{controller,stdout,stderr}.gz` when a step has ended, and
`<LogUri>/<cluster id>/node/<instance id>/...` when the cluster ends.
"""

from __future__ import annotations

import gzip
import logging
from collections.abc import Iterator
from pathlib import Path

from infra import objects
from infra.cluster.journal import Journal
from infra.cluster.model import Cluster, Step
from infra.objects import ObjectStore

log = logging.getLogger(__name__)
TAIL_BYTES = 64 * 1024


def upload_step(store: ObjectStore, cluster: Cluster, journal: Journal, step: Step) -> None:
    """Put a step's logs, if the cluster has a LogUri."""
    _upload(store, cluster, journal.folder, journal.step_folder(step.id).glob("*"))


def upload_nodes(store: ObjectStore, cluster: Cluster, journal: Journal) -> None:
    """Put the logs of every node, if the cluster has a LogUri. Files that jobs left are not logs."""
    _upload(store, cluster, journal.folder, _node_logs(journal.folder / "node"))


def _node_logs(folder: Path) -> Iterator[Path]:
    names = ("stdout", "stderr", "daemon.log")
    return (path for path in folder.rglob("*") if path.name in names and path.is_file())


def _upload(store: ObjectStore, cluster: Cluster, folder: Path, paths: Iterator[Path]) -> None:
    """A cluster ends even when its logs can't be put: they stay in its folder, and the log says so."""
    if cluster.log_folder is None:
        return
    try:
        for path in paths:
            name = path.relative_to(folder).as_posix()
            store.put(f"{cluster.log_folder}{name}.gz", gzip.compress(path.read_bytes()), "application/gzip")
    except objects.FAILURES as error:
        log.error("logs of %s stay in %s: %s", cluster.id, folder, error)


def failure_message(step_folder: Path, exit_code: int) -> str:
    """Why a step failed, in one line: its own `error: ...`, or the exception of its last traceback.

    Both outputs are looked at: spark-submit writes all that a Python script prints to its own stdout.
    """
    lines = [line for name in ("stderr", "stdout") for line in tail(step_folder / name).splitlines()]
    own = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    if own:
        return own[-1]
    starts = [number for number, line in enumerate(lines) if line.startswith("Traceback ")]
    if starts:
        # The first line after the indented frames is the exception itself.
        after = (line for line in lines[starts[-1] + 1 :] if line and not line.startswith(" "))
        return next(after, f"exit code {exit_code}")
    return f"exit code {exit_code}"


def tail(path: Path) -> str:
    """The end of a log file; empty when there is none."""
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - TAIL_BYTES))
        return file.read().decode(errors="replace")
