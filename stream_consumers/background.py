"""A thread that repeats some work beside the consume loop, and whose failure ends the process."""

from __future__ import annotations

import threading
from collections.abc import Callable

from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_exponential

from infra.contracts.errors import UserError
from infra.objects import FAILURES

GIVE_UP_AFTER_S = 60.0


def _is_transient(error: BaseException) -> bool:
    return isinstance(error, FAILURES) and not isinstance(error, UserError)


def retrying(give_up_after_s: float = GIVE_UP_AFTER_S) -> Retrying:
    """Retries of work on the object store, with backoff; the last failure is raised as it is."""
    return Retrying(
        retry=retry_if_exception(_is_transient),
        wait=wait_exponential(multiplier=0.1, max=5),
        stop=stop_after_delay(give_up_after_s),
        reraise=True,
    )


class Background:
    """Runs `work` now, then every `every_s` seconds or when woken, until closed.

    A failure of the object store is retried for a minute. What is raised then is raised by the next
    `check`, in the thread that asks, and the work is not run again.
    """

    def __init__(self, name: str, every_s: float, work: Callable[[], None]) -> None:
        self._every_s, self._work = every_s, work
        self._woken, self._closed = threading.Event(), threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def wake(self) -> None:
        """Run the work as soon as it is not running."""
        self._woken.set()

    def check(self) -> None:
        """Raise what ended the work, if anything did."""
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """End the thread, after the work that runs now."""
        self._closed.set()
        self._woken.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def _run(self) -> None:
        try:
            while not self._closed.is_set():
                self._woken.clear()
                retrying()(self._work)
                self._woken.wait(self._every_s)
        except BaseException as error:  # handed to the thread that calls `check`, which raises it
            self._failure = error
