"""Progress of long work: a bar on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

PLAIN_EVERY_S = 5.0
Update = Callable[[float, str], None]


@contextmanager
def progress(console: Console, label: str) -> Iterator[Update]:
    """Show work in progress. Yields `update(share, detail)`: share 0 to 1 (below 0: not known).

    When the block ends the line stays, with the time that it took; an exception marks it failed.
    """
    show = _bar if console.is_terminal else _lines
    with show(console, label) as update:
        yield update


@contextmanager
def _bar(console: Console, label: str) -> Iterator[Update]:
    columns = (
        TextColumn("{task.description:<18}", markup=False),
        BarColumn(bar_width=28),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[detail]}", markup=False, style="dim"),
    )
    with Progress(*columns, console=console) as bars:
        task = bars.add_task(label, total=None, detail="")

        def update(share: float, detail: str) -> None:
            if share < 0:
                bars.update(task, detail=detail)
            else:
                bars.update(task, detail=detail, total=1.0, completed=min(share, 1.0))

        yield update
        bars.update(task, total=1.0, completed=1.0)


@contextmanager
def _lines(console: Console, label: str) -> Iterator[Update]:
    started = shown = time.monotonic()
    last = said = ""

    def say(text: str) -> None:
        console.print(f"{label}: {text}", markup=False, highlight=False, soft_wrap=True)

    def update(share: float, detail: str) -> None:
        nonlocal shown, said, last
        last = detail
        text = f"{'' if share < 0 else f'{share:.0%} '}{detail}"
        if time.monotonic() - shown >= PLAIN_EVERY_S and text != said:
            shown, said = time.monotonic(), text
            say(text)

    yield update
    say(f"done in {time.monotonic() - started:.1f} s{f' ({last})' if last else ''}")
