"""What every story's run needs: to be the only one of its kind, a name, and the time of its parts."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import click
from filelock import FileLock, Timeout

from infra import process
from infra.cluster.model import new_id
from infra.contracts.errors import FailedError, UserError
from infra.settings import Settings
from infra.supervisor import Supervisor


class Variable(click.Option):
    """An option that its user gives as a variable of make, which errors name."""

    def get_error_hint(self, ctx: click.Context | None) -> str:
        """ROWS for --rows."""
        return (self.name or "").strip("_").upper()

    def type_cast_value(self, ctx: click.Context, value: Any) -> Any:
        """The value; what is no number is refused with an example of one."""
        try:
            return super().type_cast_value(ctx, value)
        except click.BadParameter as error:
            if self.type not in (click.INT, click.FLOAT):
                raise
            example = "a whole number such as 8" if self.type is click.INT else "a number such as 5000 or 0.5"
            message = f"{value!r} is not {example}, without commas and units"
            raise click.BadParameter(message, ctx, self) from error


class Stopwatch:
    """Seconds that each named part took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time the block; a part that comes again adds up."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0) + time.monotonic() - started, 2)


@contextmanager
def only_one(settings: Settings, job: str, words: str) -> Iterator[None]:
    """Runs of a job share its data and what it publishes, so a second one of a home is refused.

    `job` is the make target's name, `words` say what may be running. Raises UserError.
    """
    folder = settings.home / "run"
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f"{job}.lock", blocking=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise UserError(f"another {words} is running here; wait for it, or set MILLSTREAM_HOME") from error
    try:
        yield
    finally:
        lock.release()


def run_name(began: float) -> str:
    """A name for a run that began at a time (seconds since 1970): unique, sorted by time."""
    return f"{datetime.fromtimestamp(began, UTC):%Y%m%dT%H%M%SZ}-{new_id('').lower()[:4]}"


def run_child(
    supervisor: Supervisor, settings: Settings, name: str, command: Sequence[str], failed: str
) -> None:
    """Run a process that says on the terminal how far it is, to its end.

    Leaves with exit code 2 when it refused its input, having said why. Raises FailedError, with what
    `failed`, when it did not do its work.
    """
    child = supervisor.start(name, command, log=None, environment=settings.environment())
    try:
        code = child.process.wait()
    finally:
        supervisor.stop_all()
    if code == process.EXIT_USER_ERROR:
        raise SystemExit(code)
    if code:
        raise FailedError(f"{failed} (exit code {code}, see above)")
