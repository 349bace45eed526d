"""A cluster's folder: its state as JSON written by rename, and the lock that its manager holds."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from infra.cluster.model import Cluster, Instance, Step


class Journal:
    """`<home>/clusters/<id>/`. Only the holder of the lock writes; anybody reads."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.request_file = folder / "request.json"
        self.lock_file = folder / "manager.lock"
        self.socket = folder / "manager.sock"
        self.manager_log = folder / "manager.log"
        self.conf = folder / "conf"
        self.scratch = folder / "scratch"

    def step_folder(self, step_id: str) -> Path:
        """Where a step's controller, stdout and stderr are written."""
        return self.folder / "steps" / step_id

    def node_folder(self, instance_id: str) -> Path:
        """Where everything of a node is written."""
        return self.folder / "node" / instance_id

    def write(self, cluster: Cluster) -> None:
        """Replace the recorded state; a reader sees the old one or the new one."""
        draft = self.folder / "cluster.json.new"
        with draft.open("w") as file:
            json.dump(asdict(cluster), file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self.folder / "cluster.json")

    def read(self) -> Cluster:
        """The recorded state. Raises FileNotFoundError when there is none."""
        data = json.loads((self.folder / "cluster.json").read_text())
        data["steps"] = [Step(**step) for step in data["steps"]]
        data["instances"] = [Instance(**instance) for instance in data["instances"]]
        data["states"] = [(state, at) for state, at in data["states"]]
        return Cluster(**data)

    def request(self) -> dict[str, Any]:
        """The request that the cluster was made from."""
        request: dict[str, Any] = json.loads(self.request_file.read_text())
        return request

    def clean(self) -> None:
        """Remove what only a running cluster needs; logs and the state stay."""
        shutil.rmtree(self.scratch, ignore_errors=True)
        for work in self.folder.glob("node/*/applications/spark/work"):
            for path in work.rglob("*"):
                if path.is_file() and path.name not in ("stdout", "stderr"):
                    path.unlink()  # copies of the step's code

    @contextmanager
    def try_lock(self) -> Iterator[int | None]:
        """Hold the manager's lock if nobody does: yields its file descriptor, or None.

        The lock lives as long as any process has the descriptor open, so handing it to the manager
        at its start leaves no moment in which it is free.
        """
        descriptor = os.open(self.lock_file, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield None
            else:
                yield descriptor
        finally:
            os.close(descriptor)

    def is_managed(self) -> bool:
        """Whether somebody holds the manager's lock."""
        return is_held(self.lock_file)


def is_held(lock_file: Path) -> bool:
    """Whether a process holds a lock. It is only looked at, by a shared lock for an instant."""
    try:
        descriptor = os.open(lock_file, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def journals(home: Path) -> list[Journal]:
    """Every cluster of this home, in no order."""
    return [Journal(path.parent) for path in (home / "clusters").glob("*/cluster.json")]
