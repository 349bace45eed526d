"""Reaching the daemon of a home: connect to the one that runs, start one when none does, end it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sys
from collections.abc import Callable
from typing import NoReturn

import click
import psutil
from tenacity import Retrying, retry_if_exception_type, retry_if_result, stop_after_delay, wait_fixed

from infra.contracts.errors import UserError
from infra.local.daemon import EXIT_TAKEN, mark_of
from infra.local.places import Places
from infra.settings import Settings
from infra.supervisor import end_marked, is_running, start_detached
from infra.wire import Channel, Message

CONNECT_WITHIN_S = 90.0
ANSWER_WITHIN_S = 300.0
STOP_WITHIN_S = 30.0
LOG_LINES = 20


class _NoDaemonError(Exception):
    """Nobody answers yet: the daemon is being started, or an older one is still stopping."""


def connect(settings: Settings, request: Message) -> tuple[Channel, Message]:
    """A connection to the home's daemon, which is started when none runs, and its answer to a request.

    Raises UserError when no daemon can be started.
    """
    start = _starter(settings)

    def attempt() -> tuple[Channel, Message]:
        found = connect_running(settings, request)
        if found is None:
            start()
            raise _NoDaemonError
        return found

    attempts = Retrying(
        retry=retry_if_exception_type(_NoDaemonError),
        stop=stop_after_delay(CONNECT_WITHIN_S),
        wait=wait_fixed(0.05),
        reraise=True,
    )
    try:
        return attempts(attempt)
    except _NoDaemonError:
        _fail(settings, f"the servers of {settings.home} could not be reached in {CONNECT_WITHIN_S:.0f} s")


def connect_running(settings: Settings, request: Message) -> tuple[Channel, Message] | None:
    """The same with a daemon that runs already; None when none does."""
    try:
        channel = Channel(Places(settings.home).socket)
    except OSError:
        return None
    try:
        return channel, channel.ask(request, ANSWER_WITHIN_S)
    except TimeoutError as error:
        channel.close()
        raise UserError("the servers do not answer; run `make down` and try again") from error
    except ConnectionError:
        channel.close()
        return None
    except BaseException:
        channel.close()
        raise


def stop(settings: Settings) -> bool:
    """End the daemon of a home, exactly the one on record, with its servers; whether one was running."""
    record = Places(settings.home).record
    if not record.exists():
        return False
    recorded = json.loads(record.read_text())
    pid, started = recorded["pid"], recorded["started"]
    found = is_running(pid, started)
    if found:
        psutil.Process(pid).terminate()
        waiting = Retrying(
            retry=retry_if_result(bool),
            stop=stop_after_delay(STOP_WITHIN_S),
            wait=wait_fixed(0.05),
            retry_error_callback=lambda _state: psutil.Process(pid).kill(),
        )
        waiting(is_running, pid, started)
    _clear(settings)
    return found


def _clear(settings: Settings) -> None:
    """End and forget what a killed daemon left, unless another one has the lock by now."""
    places = Places(settings.home)
    with places.lock.open("a") as lock, contextlib.suppress(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        end_marked(mark_of(settings.home))
        places.record.unlink(missing_ok=True)


def _starter(settings: Settings) -> Callable[[], None]:
    """A function that starts a daemon unless the one it started before is still at it."""
    pid = 0

    def start() -> None:
        nonlocal pid
        code = _exit_code(pid) if pid else 0
        if code is None:
            return
        if code > 0 and code != EXIT_TAKEN:
            _fail(settings, f"the servers' process ended with {code}")
        pid = _launch(settings)

    return start


def _exit_code(pid: int) -> int | None:
    """How a child ended; None while it runs, 0 when somebody else collected it."""
    try:
        ended, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return 0
    return os.waitstatus_to_exitcode(status) if ended else None


def _launch(settings: Settings) -> int:
    """Start a daemon that may live longer than we do; its pid."""
    command = [sys.executable, "-m", "infra.local.daemon"]
    try:
        log = Places(settings.home).daemon_log
        return start_detached(command, log=log, environment=settings.environment())
    except OSError as error:
        raise UserError(f"{settings.home} can't be used: {error.strerror}; set MILLSTREAM_HOME") from error


def _fail(settings: Settings, reason: str) -> NoReturn:
    log = Places(settings.home).daemon_log
    with contextlib.suppress(FileNotFoundError):
        show_lines(log.read_text(errors="replace").splitlines()[-LOG_LINES:])
    raise UserError(f"{reason} (log: {log})")


def show_lines(lines: list[str]) -> None:
    """Show the end of a log, above the one line that says what went wrong."""
    for line in lines:
        click.echo(f"  | {line}", err=True)
