"""The processes of a stream: started, watched, started again when one dies, ended; their CPU seconds."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from infra import metrics, process
from infra.contracts.errors import FailedError, UserError
from infra.settings import Settings
from infra.supervisor import Child, Supervisor

RESTARTS = 5
POLL_S = 0.1
UP_WITHIN_S = 90.0
TAIL_LINES = 12


class ProcessFailedError(FailedError):
    """A process of the stream could not go on; the text says which and why."""


@dataclass
class Role:
    """One process that should run: `arguments` are asked for anew at each start."""

    name: str
    module: str
    arguments: Callable[[], Sequence[str]]
    may_end: bool
    """Whether it is over when it ends with 0; others are to run until they are stopped."""
    child: Child | None = None
    restarts: int = 0
    cpu_s: float = 0.0
    """CPU seconds of the starts that have ended."""
    cpu_now_s: float = 0.0


class Processes:
    """Runs roles until they are stopped. Used from the main thread only, as Supervisor is."""

    def __init__(self, supervisor: Supervisor, settings: Settings, say: Callable[[str], None]) -> None:
        """`say` gets one line for each process that is started again."""
        self._supervisor, self._say = supervisor, say
        self._settings = replace(settings, metrics_port=0)  # one port is not for all of them
        self.roles: dict[str, Role] = {}

    def start(
        self, name: str, module: str, arguments: Callable[[], Sequence[str]], *, may_end: bool = False
    ) -> Role:
        """Start `python -m module` with arguments, its output in the home's logs."""
        role = self.roles[name] = Role(name, module, arguments, may_end)
        self._launch(role)
        return role

    def wait_until_up(self, names: Sequence[str], update: Callable[[float, str], None]) -> None:
        """Wait until each serves its metrics, which it does once it is ready to work."""
        deadline = time.monotonic() + UP_WITHIN_S
        while waiting := [name for name in names if name not in metrics.noted(self._settings.home)]:
            if time.monotonic() > deadline:
                raise ProcessFailedError(self._explain(self.roles[waiting[0]], "is not ready"))
            update(1 - len(waiting) / len(names), f"waiting for {', '.join(waiting)}")
            self.watch()
            time.sleep(POLL_S)

    def watch(self) -> None:
        """Measure all; start again what died. Raises ProcessFailedError after RESTARTS of one role.

        Not what ended with the exit code of a user's mistake, or may end and did with 0.
        """
        for role in self.roles.values():
            self._measure(role)
        for child in self._supervisor.ended():
            ended = self.roles.get(child.name)
            if ended is not None and ended.child is child:
                self._ended(ended, child)

    def is_running(self, name: str) -> bool:
        """Whether a role's process runs now."""
        return self.roles[name].child is not None

    def stop(self, name: str) -> None:
        """End a role's process: SIGTERM, and time to finish what it holds."""
        role = self.roles[name]
        self._measure(role)
        if role.child is not None:
            self._supervisor.stop(role.child, grace_s=30)
        self._forget(role)

    def stop_all(self) -> None:
        """End every role's process at once."""
        for role in self.roles.values():
            self._measure(role)
            self._forget(role)
        self._supervisor.stop_all(grace_s=30)

    def cpu_seconds(self) -> dict[str, float]:
        """CPU seconds used by each role so far, over all its starts."""
        return {role.name: round(role.cpu_s + role.cpu_now_s, 2) for role in self.roles.values()}

    def restarts(self) -> int:
        """How often any process was started again."""
        return sum(role.restarts for role in self.roles.values())

    def log(self, role: Role) -> Path:
        """Where a role's process writes."""
        return self._settings.home / "logs" / f"{role.name}.log"

    def _launch(self, role: Role) -> None:
        command = [sys.executable, "-m", role.module, *role.arguments()]
        role.child = self._supervisor.start(
            role.name, command, log=self.log(role), environment=self._settings.environment()
        )

    def _ended(self, role: Role, child: Child) -> None:
        code = child.exit_code
        self._forget(role)
        if code == 0 and role.may_end:
            return
        if code == process.EXIT_USER_ERROR:
            raise UserError(self._last_line(role).removeprefix("error: "))
        if role.restarts >= RESTARTS:
            raise ProcessFailedError(
                self._explain(role, f"ended {RESTARTS + 1} times, last with code {code}")
            )
        role.restarts += 1
        self._say(f"{role.name} ended with code {code}: started again ({self.log(role)})")
        self._launch(role)

    def _forget(self, role: Role) -> None:
        role.cpu_s, role.cpu_now_s = role.cpu_s + role.cpu_now_s, 0.0
        role.child = None

    def _measure(self, role: Role) -> None:
        if role.child is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                role.cpu_now_s = cpu_s(role.child.pid)

    def _explain(self, role: Role, what: str) -> str:
        lines = self.log(role).read_text(errors="replace").splitlines()[-TAIL_LINES:]
        return "\n".join([f"{role.name} {what}; its log {self.log(role)} ends with", *lines])

    def _last_line(self, role: Role) -> str:
        lines = self.log(role).read_text(errors="replace").split("\n")
        return next((line for line in reversed(lines) if line.startswith("error: ")), lines[-1])


def cpu_s(pid: int) -> float:
    """CPU seconds that a process has used. Raises psutil.NoSuchProcess."""
    used = psutil.Process(pid).cpu_times()
    return float(used.user + used.system)
