"""Quantiles of a histogram's buckets, as Prometheus' histogram_quantile estimates them."""

from __future__ import annotations

import math
from collections.abc import Mapping


def quantile(counts: Mapping[float, float], share: float) -> float | None:
    """The value below which a share (0 to 1) of what was counted lies, in the buckets' unit.

    `counts` are cumulative: upper bound -> how many were at or below it, the last bound being infinity.
    Inside a bucket values are taken to be spread evenly; what lies above the last finite bound is said to be
    at it. None when nothing was counted.
    """
    bounds = sorted(counts)
    total = counts[bounds[-1]] if bounds else 0.0
    if total <= 0:
        return None
    rank = share * total
    low, below = 0.0, 0.0
    for bound in bounds:
        inside = counts[bound] - below
        if counts[bound] >= rank and inside > 0:
            return low if math.isinf(bound) else low + (bound - low) * max(0.0, rank - below) / inside
        low, below = (low if math.isinf(bound) else bound), max(below, counts[bound])
    return low
