"""Firehose's prefix expressions."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from infra.contracts.errors import UserError
from infra.contracts.prefixes import RANDOM_LENGTH, Place, parse_prefix

AT = datetime(2018, 8, 9, 3, 4, 5, tzinfo=UTC)


def place(seed: str = "a", **keys: str) -> Place:
    """A place at AT."""
    return Place(AT, seed, keys, "format-conversion-failed")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain/text/", "plain/text/"),
        ("x/!{timestamp:yyyy/MM/dd/HH}/", "x/2018/08/09/03/"),
        ("!{timestamp:'day='yyyyMMdd'T'HHmmss}", "day=20180809T030405"),
        ("!{timestamp:yy-MM''%d}".replace("%d", "dd"), "18-08'09"),
        ("!{timestamp:'%Y'}", "%Y"),
        ("e/!{firehose:error-output-type}/", "e/format-conversion-failed/"),
        ("month=!{partitionKeyFromQuery:month}/", "month=2018-08/"),
        ("", ""),
    ],
)
def test_expressions_are_evaluated(text: str, expected: str) -> None:
    """Each namespace gives what Firehose gives, in UTC."""
    assert parse_prefix(text).evaluate(place(month="2018-08")) == expected


def test_random_strings_follow_from_the_seed() -> None:
    """The same seed gives the same strings, another one others, and each place of a prefix its own."""
    prefix = parse_prefix("!{firehose:random-string}/!{firehose:random-string}")
    first, second = prefix.evaluate(place("a")).split("/")
    assert len(first) == len(second) == RANDOM_LENGTH
    assert first != second
    assert prefix.evaluate(place("a")) == f"{first}/{second}"
    assert prefix.evaluate(place("b")).split("/")[0] != first


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("!{timestamp:YYYY}", "'YYYY' is not supported"),
        ("!{timestamp:EEE}", "'EEE' is not supported"),
        ("!{timestamp:}", "is not a pattern"),
        ("!{timestamp:yyyy'}", "is not a pattern"),
        ("!{firehose:other}", "random-string and error-output-type"),
        ("!{partitionKeyFromLambda:x}", "is not supported"),
        ("!{partitionKeyFromQuery:}", "names no partition key"),
        ("a/!{timestamp/", "is not !{namespace:value}"),
    ],
)
def test_a_wrong_expression_is_named(text: str, part: str) -> None:
    """One line says which expression is wrong."""
    with pytest.raises(UserError) as caught:
        parse_prefix(text)
    assert part in str(caught.value)
