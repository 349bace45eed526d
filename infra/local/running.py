"""A service that runs: started on free ports, checked, restarted, described."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from tenacity import (
    RetryError,
    Retrying,
    retry_if_exception_type,
    retry_if_result,
    stop_after_attempt,
    stop_after_delay,
    wait_fixed,
)

from infra.local.ports import is_open, taken
from infra.local.service import Node, Service, ServiceState
from infra.supervisor import Supervisor

TRIES = 3
CHECK_EVERY_S = 0.1
LOG_LINES = 20


class StartFailedError(Exception):
    """A service did not start: the reason in one line, and the last lines of its log."""

    def __init__(self, reason: str, log: Path, lines: list[str]) -> None:
        super().__init__(f"{reason} (log: {log})")
        self.lines = lines


class PortTakenError(StartFailedError):
    """Somebody took one of its ports between choosing and starting."""


class RunningService:
    """One service under a supervisor. It keeps its ports from the first start that succeeds."""

    def __init__(
        self, supervisor: Supervisor, make: Callable[[], Service], environment: Mapping[str, str]
    ) -> None:
        """`make` defines the service on ports chosen anew; `environment` is that of its processes."""
        self._supervisor = supervisor
        self._make = make
        self._environment = environment
        self.service: Service | None = None

    def ensure(self) -> str:
        """Start what does not run, wait until the service is ready, and give its endpoint.

        Raises StartFailedError, or UserError where something that it needs is missing.
        """
        if self.service is None:
            attempts = Retrying(
                stop=stop_after_attempt(TRIES), retry=retry_if_exception_type(PortTakenError), reraise=True
            )
            self.service = attempts(self._start, self._make)
        elif self._missing(self.service):
            self._run(self.service)
        return self.service.endpoint

    def state(self) -> ServiceState | None:
        """How it stands now; None when it was never started."""
        if self.service is None:
            return None
        total, missing = len(self.service.nodes), len(self._missing(self.service))
        state = (
            "running"
            if not missing
            else "down"
            if missing == total
            else f"{total - missing} of {total} running"
        )
        pids = [self._supervisor.children[node.name].pid for node in self._alive(self.service)]
        return ServiceState(self.service.name, state, self.service.endpoint, pids, str(self.service.data))

    def stop(self, grace_s: float) -> None:
        """End its processes one after the other, each by SIGKILL after `grace_s` seconds."""
        for node in self._alive(self.service) if self.service else ():
            self._supervisor.stop(self._supervisor.children[node.name], grace_s)

    def clear(self) -> None:
        """Remove what its processes left outside the home. Only once they have ended."""
        for path in self.service.leaves if self.service else ():
            path.unlink(missing_ok=True)

    def _start(self, make: Callable[[], Service]) -> Service:
        service = make()
        service.prepare()
        self._run(service)
        return service

    def _run(self, service: Service) -> None:
        offsets = {node.name: _size(node.log) for node in service.nodes}
        started = self._missing(service)
        if len(started) == len(service.nodes) and any(map(is_open, service.ports)):
            raise PortTakenError(
                f"{service.name} did not start: one of its ports is taken", started[0].log, []
            )
        try:
            for node in started:
                node.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                self._supervisor.start(
                    node.name,
                    node.command,
                    log=node.log,
                    environment=self._environment,
                    cwd=node.folder,
                    death_signal=node.death_signal,
                )
            self._wait(service)
        except _NotReadyError as failure:
            for node in self._alive(service):
                if node in started:
                    self._supervisor.stop(self._supervisor.children[node.name])
            kind = PortTakenError if taken(service.ports) else StartFailedError
            log = failure.node.log
            lines = _tail(log, offsets[failure.node.name])
            raise kind(f"{service.name} did not start: {failure}", log, lines) from failure

    def _wait(self, service: Service) -> None:
        def lacking() -> str:
            lacks = service.check()
            for node in self._missing(service):
                raise _NotReadyError(node, "it ended by itself")
            return lacks

        waiting = Retrying(
            stop=stop_after_delay(service.start_within_s),
            wait=wait_fixed(CHECK_EVERY_S),
            retry=retry_if_result(bool),
        )
        try:
            waiting(lacking)
        except RetryError as late:
            reason = f"{late.last_attempt.result()} after {service.start_within_s:.0f} s"
            raise _NotReadyError(service.nodes[0], reason) from late

    def _alive(self, service: Service) -> list[Node]:
        self._supervisor.ended()
        return [node for node in service.nodes if node.name in self._supervisor.children]

    def _missing(self, service: Service) -> list[Node]:
        alive = self._alive(service)
        return [node for node in service.nodes if node not in alive]


class _NotReadyError(Exception):
    def __init__(self, node: Node, reason: str) -> None:
        super().__init__(reason)
        self.node = node


def _size(log: Path) -> int:
    return log.stat().st_size if log.exists() else 0


def _tail(log: Path, offset: int) -> list[str]:
    """The last lines of what was logged from an offset on."""
    return log.read_bytes()[offset:].decode(errors="replace").splitlines()[-LOG_LINES:]
