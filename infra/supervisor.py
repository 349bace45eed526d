"""Ownership of child processes: whatever a supervisor starts ends with it, grandchildren included.

Three things hold that on Linux. The supervisor is a child subreaper, so orphans of its children
become its own. Children get a parent-death signal, so they end when the supervisor is killed. And
every process of the tree carries the supervisor's mark in its environment, so that somebody else
can find and end what is left, without ever guessing by name. Elsewhere only the mark holds.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import psutil

MARK = "MILLSTREAM_OWNER"
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h


@dataclass
class Child:
    """A started process: `mark` finds its descendants."""

    name: str
    mark: str
    process: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative: the signal that ended it."""
        return self.process.poll()


class Supervisor:
    """Starts children and ends them. One per process, used from its main thread only.

    The parent-death signal is sent when the *thread* that started a child ends, hence that rule.
    """

    def __init__(self, mark: str) -> None:
        """`mark` is unique to this supervisor; a child's own mark is `mark/name`."""
        self.mark = mark
        self.children: dict[str, Child] = {}
        self._prctl = _load_prctl()
        self._prctl(PR_SET_CHILD_SUBREAPER, 1)

    def start(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path | None,
        environment: Mapping[str, str],
        errors: Path | None = None,
        cwd: Path | None = None,
        death_signal: signal.Signals = signal.SIGTERM,
    ) -> Child:
        """Start a child with its output appended to `log` (and its errors to `errors`, if given).

        Without a log it writes where this process writes. `death_signal` is what it gets when this
        process dies: SIGKILL for one that may not heed SIGTERM. It is in a process group of its own, so
        Ctrl-C at the terminal reaches this process alone. Raises OSError when it can't be started.
        """
        mark = f"{self.mark}/{name}"
        parent = os.getpid()

        def die_with_parent() -> None:
            self._prctl(PR_SET_PDEATHSIG, death_signal)
            if os.getppid() != parent:  # it died before the signal was asked for
                os._exit(1)

        with contextlib.ExitStack() as files:
            output = files.enter_context(_append(log)) if log else None
            error_output = files.enter_context(_append(errors)) if errors else subprocess.STDOUT
            process = subprocess.Popen(
                command,
                env={**environment, MARK: mark},
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=error_output if log else None,
                preexec_fn=die_with_parent,
                process_group=0,
            )
        child = Child(name, mark, process)
        self.children[name] = child
        return child

    def ended(self) -> list[Child]:
        """Children that have ended since the last call, each once; reaps adopted orphans too."""
        gone = [child for child in self.children.values() if child.exit_code is not None]
        for child in gone:
            del self.children[child.name]
        _reap_orphans({child.pid for child in self.children.values()})
        return gone

    def stop(self, child: Child, grace_s: float = 10.0) -> None:
        """End one child and everything below it: SIGTERM, then SIGKILL after `grace_s` seconds."""
        end_marked(child.mark, grace_s)
        child.process.wait()
        self.children.pop(child.name, None)

    def stop_all(self, grace_s: float = 10.0) -> None:
        """End every child and everything below it."""
        end_marked(self.mark, grace_s)
        for child in self.children.values():
            child.process.wait()
        self.children.clear()
        _reap_orphans(set())


def start_detached(
    command: Sequence[str], *, log: Path, environment: Mapping[str, str], inherit: int | None = None
) -> int:
    """Start a process that may outlive this one, in a session of its own; its pid.

    Neither Ctrl-C at our terminal nor a supervisor of ours ends it: it carries no mark. `inherit` is
    an open descriptor that it gets as number 3. Not by subprocess, which wants a child waited for.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    appending = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    handed_on = [] if inherit is None else [(os.POSIX_SPAWN_DUP2, inherit, 3)]
    return os.posix_spawn(
        command[0],
        list(command),
        {key: value for key, value in environment.items() if key != MARK},
        file_actions=[
            *handed_on,
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), appending, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )


def _append(path: Path) -> BinaryIO:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("ab")


def marked(mark: str) -> Iterator[psutil.Process]:
    """Every running process with this mark, or with one below it (`mark/...`); never this one."""
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        try:
            value = process.environ().get(MARK, "")
            if (value == mark or value.startswith(f"{mark}/")) and process.status() != psutil.STATUS_ZOMBIE:
                yield process
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue


def end_marked(mark: str, grace_s: float = 10.0) -> None:
    """End every process with this mark or below it: SIGTERM, then SIGKILL after `grace_s` seconds.

    Repeats until none is found, because a process can start another while it is being ended.
    """
    deadline = time.monotonic() + grace_s
    asked: set[psutil.Process] = set()
    while found := list(marked(mark)):
        late = time.monotonic() > deadline
        for process in found:
            if late or process not in asked:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGKILL if late else signal.SIGTERM)
        asked.update(found)
        psutil.wait_procs(found, timeout=0.2)


def is_running(pid: int, started: float) -> bool:
    """Whether the process with this pid and start time (seconds since 1970) still runs."""
    try:
        process = psutil.Process(pid)
        alive = abs(process.create_time() - started) < 0.05
        return alive and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _reap_orphans(own: set[int]) -> None:
    """Collect the exit status of ended processes that came to us when their parent ended."""
    for process in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess, ChildProcessError):
            if process.pid not in own and process.status() == psutil.STATUS_ZOMBIE:
                os.waitpid(process.pid, os.WNOHANG)


def _load_prctl() -> ctypes._NamedFuncPointer | type[_NoPrctl]:
    return ctypes.CDLL(None, use_errno=True).prctl if sys.platform == "linux" else _NoPrctl


class _NoPrctl:
    """prctl where there is none: calling it does nothing."""

    def __init__(self, option: int, value: int) -> None:
        del option, value
