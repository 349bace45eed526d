"""A topic: one subject that a thread looks at for all browsers, often while a page shows it, else rarely."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from infra import objects
from infra.contracts.errors import UserError
from infra.objects import StoreUnavailableError
from infra.streams.errors import KafkaUnavailableError

T = TypeVar("T")
WATCHED_FOR_S = 5.0
"""A page asks every second; one that has not for this long is closed."""
UNREADABLE = (*objects.FAILURES, StoreUnavailableError, KafkaUnavailableError, UserError)
log = logging.getLogger(__name__)


class NotThereError(Exception):
    """What a topic is about can't be looked at now; the text says why, in one line."""


@dataclass(frozen=True)
class Reading(Generic[T]):
    """What was seen last, when (seconds since 1970, 0: not yet), and why it could not be seen since then."""

    value: T
    at: float = 0.0
    error: str = ""


class Topic(Generic[T]):
    """Looks every `watched_s` seconds while a page watches, every `idle_s` otherwise.

    Whatever goes wrong in a look is said in the reading, and the next look tries again.
    """

    def __init__(
        self, name: str, look: Callable[[], T], nothing: T, *, watched_s: float, idle_s: float
    ) -> None:
        self.name, self._look = name, look
        self._watched_s, self._idle_s = watched_s, idle_s
        self._watched_at = float("-inf")
        self._wake, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"console-{name}", daemon=True)
        self.reading: Reading[T] = Reading(nothing)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more; a look that is under way is not waited for."""
        self._stop.set()
        self._wake.set()

    def watch(self) -> T:
        """What was seen last, for a page that shows it now."""
        idle = not self.is_watched
        self._watched_at = time.monotonic()
        if idle:
            self._wake.set()
        return self.reading.value

    @property
    def is_watched(self) -> bool:
        """Whether a page shows it."""
        return time.monotonic() - self._watched_at < WATCHED_FOR_S

    def look(self) -> None:
        """Look once."""
        try:
            self.reading = Reading(self._look(), time.time())
        except NotThereError as error:
            self._failed(str(error))
        except UNREADABLE as error:
            self._failed(_line(error))
        except Exception as error:  # a bug in one look must not end what is shown of all the others
            if self.reading.error != (text := f"{type(error).__name__}; the console's own log says more"):
                log.exception("%s can't be looked at", self.name)
            self._failed(text)

    def _failed(self, text: str) -> None:
        self.reading = Reading(self.reading.value, self.reading.at, text)

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.clear()
            began = time.monotonic()
            self.look()
            every = self._watched_s if self.is_watched else self._idle_s
            # A page that comes wakes an idle thread; one that is there does not hurry it.
            if every == self._idle_s:
                self._wake.wait(every)
            else:
                self._stop.wait(max(0.05, every - (time.monotonic() - began)))


def _line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:300]
