"""The servers of ours that a play uses: watched, started again when one ends; their CPU seconds."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Callable

import psutil

from infra.local.servers import servers, status
from infra.settings import Settings
from infra.stories.stream_processes import RESTARTS, ProcessFailedError, cpu_s

EVERY_S = 1.0
WELL = ("running", "given")


class OwnServers:
    """Those that the settings do not give. What they have stored is there again after a new start."""

    def __init__(self, own: Settings, say: Callable[[str], None]) -> None:
        """`own` are the settings as the user has them; `say` gets a line for each that is started again."""
        self._own, self._say = own, say
        self.restarts = 0
        self._look_at = 0.0
        self._used: dict[tuple[str, int], float] = {}  # CPU seconds by service and process
        self._measure()
        self._before = dict(self._used)

    def watch(self) -> None:
        """Start again what has ended, at its old address. Raises ProcessFailedError after RESTARTS.

        Raises UserError for a server that does not start any more.
        """
        if time.monotonic() < self._look_at:
            return
        gone = self._measure()
        if gone:
            names = " and ".join(gone)
            if self.restarts >= RESTARTS:
                raise ProcessFailedError(f"{names} ended again; see {self._own.home / 'logs'}")
            self.restarts += 1
            self._say(f"{names} ended: started again ({self._own.home / 'logs'})")
            with servers(self._own, gone):
                pass  # the story's own hold on the servers keeps it
        self._look_at = time.monotonic() + EVERY_S

    def cpu_seconds(self) -> dict[str, float]:
        """CPU seconds of each service since this was made, all its starts together."""
        self._measure()
        used: dict[str, float] = defaultdict(float)
        for (service, pid), seconds in self._used.items():
            used[service] += seconds - self._before.get((service, pid), 0.0)
        return {service: round(seconds, 2) for service, seconds in used.items()}

    def _measure(self) -> list[str]:
        """Note what each process has used; the services that do not stand as they should."""
        rows = status(self._own)
        for row in rows:
            for pid in row.pids:
                with contextlib.suppress(psutil.NoSuchProcess):
                    self._used[row.service, pid] = cpu_s(pid)
        return [row.service for row in rows if row.state not in WELL]
