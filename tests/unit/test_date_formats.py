"""Which date format wins."""

from __future__ import annotations

import pytest

from infra.contracts.errors import UserError
from spark_jobs.dates import FORMATS, best_format

PAIRS = [("M/d/yyyy", "d/M/yyyy")]
NONE = {item.name: 0 for item in FORMATS}


def test_the_format_that_reads_most_wins() -> None:
    """More rows read decide, whatever the other format would make of them."""
    counts = {**NONE, "M/d/yyyy": 10, "d/M/yyyy": 4, "M/d/yyyy d/M/yyyy": 9}
    assert best_format(counts, PAIRS) == "M/d/yyyy"


def test_a_tie_without_a_difference_is_none() -> None:
    """Two formats that read all rows as the same dates are as good as one."""
    counts = {**NONE, "M/d/yyyy": 3, "d/M/yyyy": 3, "M/d/yyyy d/M/yyyy": 0}
    assert best_format(counts, PAIRS) == "M/d/yyyy"


@pytest.mark.parametrize("other", ["d/M/yyyy", "yyyy-MM-dd"])
def test_a_tie_with_a_difference_is_refused(other: str) -> None:
    """Both names are given, and what to do."""
    counts = {**NONE, "M/d/yyyy": 3, other: 3, "M/d/yyyy d/M/yyyy": 1}
    with pytest.raises(UserError, match=r"M/d/yyyy.*DATE_FORMAT") as error:
        best_format(counts, PAIRS)
    assert other in str(error.value)


def test_no_format_reads_anything() -> None:
    """Then it is ISO 8601, and every row is rejected by it."""
    assert best_format({**NONE, "M/d/yyyy d/M/yyyy": 0}, PAIRS) == "yyyy-MM-dd"
