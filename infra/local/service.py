"""What a service of the embedded servers is: its processes, ports, data, and how to see that it is ready."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Node:
    """One process of a service: it runs in `folder`, and its output goes to `log`.

    `death_signal` ends it when its owner was killed.
    """

    name: str
    command: tuple[str, ...]
    folder: Path
    log: Path
    death_signal: signal.Signals = signal.SIGTERM


@dataclass(frozen=True)
class Service:
    """A definition; nothing runs yet.

    `prepare` writes what the processes need (raises UserError when something is missing). `check` asks
    the server: an empty text when it is ready, otherwise what is still missing. `leaves` are files that
    the processes leave outside the home when they end.
    """

    name: str
    endpoint: str
    ports: tuple[int, ...]
    data: Path
    nodes: tuple[Node, ...]
    prepare: Callable[[], None]
    check: Callable[[], str]
    start_within_s: float
    leaves: tuple[Path, ...] = ()


@dataclass(frozen=True)
class ServiceState:
    """How a service stands: state is `running`, `n of m running` or `down`; data is its folder."""

    name: str
    state: str
    endpoint: str
    pids: list[int]
    data: str
