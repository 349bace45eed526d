"""The console that entry points print on."""

from __future__ import annotations

from rich.console import Console

FILE_WIDTH = 240  # columns of a file or pipe, which have no width of their own: no path is broken


def terminal() -> Console:
    """Standard output: as wide as its terminal, or FILE_WIDTH."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = FILE_WIDTH
    return console
