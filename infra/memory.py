"""How much memory all processes of this home use together, sampled while something runs."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil

EVERY_S = 1.0
HOME = "MILLSTREAM_HOME"  # in the environment of every process that belongs to a home


class PeakMemory:
    """The highest sum seen so far, in bytes."""

    def __init__(self) -> None:
        self.peak = 0


@contextlib.contextmanager
def peak_memory(home: Path) -> Iterator[PeakMemory]:
    """Sample in a thread while the block runs; memory shared by processes counts once."""
    result, stop = PeakMemory(), threading.Event()

    def sample() -> None:
        while not stop.wait(EVERY_S):
            result.peak = max(result.peak, in_use(home))

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield result
    finally:
        stop.set()
        thread.join()


def in_use(home: Path) -> int:
    """Bytes that this process and all others of this home use now."""
    own = psutil.Process().pid
    total = 0
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if process.pid == own or process.environ().get(HOME) == str(home):
                memory = process.memory_full_info()
                total += getattr(memory, "pss", memory.rss)
    return total
