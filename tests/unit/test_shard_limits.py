"""A shard's limits in and out, by a clock that the test moves."""

from __future__ import annotations

import pytest

from infra.streams.limits import (
    BYTES_OUT_PER_S,
    BYTES_PER_S,
    RECORD_BYTES,
    RECORDS_PER_S,
    ReadLimit,
    ShardLimit,
    shards_needed,
)


class Clock:
    """Seconds as the test has them."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def taken(limit: ShardLimit, tries: int, size: int) -> int:
    """How many of so many tries are let in."""
    return sum(limit.take(size) == 0.0 for _ in range(tries))


def test_a_burst_of_one_second_is_let_in_and_no_more() -> None:
    """A quiet shard takes 1,000 records at once, the others are counted as throttled."""
    limit = ShardLimit(Clock())
    assert taken(limit, 1_500, 10) == RECORDS_PER_S
    assert limit.use.records == limit.use.peak_records_per_s == RECORDS_PER_S
    assert limit.use.throttled == 500


def test_under_load_records_are_let_in_smoothly() -> None:
    """Each hundredth of a second lets its ten records in, not a second's worth at once."""
    clock = Clock()
    limit = ShardLimit(clock)
    taken(limit, 1_500, 10)
    for _ in range(50):
        clock.now += 0.01
        assert 9 <= taken(limit, 20, 10) <= 11


def test_bytes_are_limited_too() -> None:
    """Ten records of 100 kB are one second's bytes."""
    clock = Clock()
    limit = ShardLimit(clock)
    assert taken(limit, 20, BYTES_PER_S // 10) == 10
    clock.now += 0.5
    assert taken(limit, 20, BYTES_PER_S // 10) == 5


def test_the_wait_is_just_what_is_needed() -> None:
    """After the seconds that it was told, a put is let in."""
    clock = Clock()
    limit = ShardLimit(clock)
    taken(limit, 20, BYTES_PER_S // 10)
    wait_s = limit.take(300_000)
    assert wait_s == pytest.approx(0.3)
    clock.now += wait_s + 1e-9
    assert limit.take(300_000) == 0.0


def test_a_record_larger_than_a_seconds_bytes_can_be_put() -> None:
    """1 MiB is more than 1 MB: it is let in by a full second, and the next record pays for it."""
    clock = Clock()
    limit = ShardLimit(clock)
    assert limit.take(RECORD_BYTES) == 0.0
    clock.now += 1.0
    assert limit.take(RECORD_BYTES) == pytest.approx((RECORD_BYTES - BYTES_PER_S) / BYTES_PER_S)


def test_a_reader_is_held_after_a_seconds_bytes_and_pays_for_what_was_more() -> None:
    """A shard that gave 3 MB at once is held for half a second and a bit, then read on."""
    clock = Clock()
    limit = ReadLimit(clock)
    assert limit.took(BYTES_OUT_PER_S // 2)
    assert not limit.took(BYTES_OUT_PER_S)
    clock.now += 0.5
    assert not limit.free()
    clock.now += 0.2
    assert limit.free()


@pytest.mark.parametrize(
    ("records", "size", "fullest", "shards", "needed"),
    [
        (5_000, 250, 0.25, 4, 5),
        (5_000, 250, 0.30, 4, 6),
        (900, 250, 1.0, 1, 1),
        (1_000, 5_000, 0.25, 4, 5),
    ],
)
def test_shards_needed_follow_the_fullest_shard(
    records: int, size: int, fullest: float, shards: int, needed: int
) -> None:
    """The rate, by records or by bytes, and how uneven the keys are decide how many shards it takes."""
    assert shards_needed(records, records * size, fullest, shards) == needed
