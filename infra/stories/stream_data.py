"""Runs `producers.dataset` for a story: which data set is meant, and making it."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from infra.contracts.datasets import DataSet
from infra.settings import Settings
from infra.stories.run import run_child
from infra.supervisor import Supervisor


def named_data_set(supervisor: Supervisor, settings: Settings, arguments: Sequence[str]) -> DataSet:
    """The data set that the arguments of producers.dataset mean. Needs no server, and makes nothing."""
    return DataSet(settings.bucket, run_dataset(supervisor, settings, [*arguments, "--only-name"])["id"])


def run_dataset(supervisor: Supervisor, settings: Settings, arguments: Sequence[str]) -> dict[str, Any]:
    """Run producers.dataset; its result. Ends as `run_child` says."""
    result = settings.home / "run" / "data-set.json"
    command = [sys.executable, "-m", "producers.dataset", *arguments, "--result", str(result)]
    run_child(supervisor, settings, "data-set", command, "the data set could not be made")
    made: dict[str, Any] = json.loads(result.read_text())
    return made
