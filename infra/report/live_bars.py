"""Numbers as one line of block characters."""

from __future__ import annotations

from collections.abc import Sequence

BLOCKS = "▁▂▃▄▅▆▇█"
ASCII = "_.:-=+*#"


def bars(values: Sequence[float], full: float, width: int, blocks: str = BLOCKS) -> str:
    """One character for each value, the highest at `full` and above.

    More values than `width` share characters, the largest of each standing for its neighbours.
    """
    if not values or width < 1:
        return ""
    step = -(-len(values) // width)
    groups = (values[start : start + step] for start in range(0, len(values), step))
    return "".join(blocks[_level(max(group), full, len(blocks))] for group in groups)


def _level(value: float, full: float, levels: int) -> int:
    return min(levels - 1, int(value / full * levels)) if full > 0 and value > 0 else 0
