"""Runs `producers.dataset` for a story: which data set is meant, and making it."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from infra import process
from infra.contracts.datasets import DataSet
from infra.settings import Settings
from infra.stories.stream_processes import ProcessFailedError
from infra.supervisor import Supervisor


def named_data_set(supervisor: Supervisor, settings: Settings, arguments: Sequence[str]) -> DataSet:
    """The data set that the arguments of producers.dataset mean. Needs no server, and makes nothing."""
    return DataSet(settings.bucket, run_dataset(supervisor, settings, [*arguments, "--only-name"])["id"])


def run_dataset(supervisor: Supervisor, settings: Settings, arguments: Sequence[str]) -> dict[str, Any]:
    """Run producers.dataset, which says on the terminal how far it is; its result.

    Leaves with exit code 2 when it refused its input, having said why.
    """
    result = settings.home / "run" / "data-set.json"
    command = [sys.executable, "-m", "producers.dataset", *arguments, "--result", str(result)]
    child = supervisor.start("data-set", command, log=None, environment=settings.environment())
    try:
        code = child.process.wait()
    finally:
        supervisor.stop_all()
    if code == process.EXIT_USER_ERROR:
        raise SystemExit(code)
    if code:
        raise ProcessFailedError(f"the data set could not be made (exit code {code}, see above)")
    made: dict[str, Any] = json.loads(result.read_text())
    return made
