"""Firehose's prefix expressions, `!{namespace:value}`: parsed once, evaluated for each object.

Namespaces: `timestamp` with a pattern of Java's DateTimeFormatter in UTC, `firehose:random-string`,
`firehose:error-output-type` and `partitionKeyFromQuery` with the name of a key.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from infra.contracts.errors import UserError

EXPRESSION = re.compile(r"!\{([^:{}]*):([^{}]*)\}")
# Java's letters that stand for numbers of a fixed width, as strftime has them.
PATTERNS = {"yyyy": "%Y", "yy": "%y", "MM": "%m", "dd": "%d", "HH": "%H", "mm": "%M", "ss": "%S"}
# Text in quotes (two quotes are one), a run of one letter, or any other character.
_TOKEN = re.compile(r"'(?P<quoted>[^']*)'|(?P<letters>([A-Za-z])\3*)|(?P<other>[^'])")
RANDOM_LETTERS = "0123456789abcdefghijklmnopqrstuvwxyz"
RANDOM_LENGTH = 11


@dataclass(frozen=True)
class Place:
    """What an object's expressions are evaluated by.

    `at` is a UTC time, `seed` decides the random strings, `keys` are the partition's; `error_type` only
    for an object of errors.
    """

    at: datetime
    seed: str
    keys: Mapping[str, str]
    error_type: str = ""


@dataclass(frozen=True)
class Prefix:
    """A prefix as pairs of a namespace and a value; plain text has an empty namespace."""

    parts: tuple[tuple[str, str], ...]

    @property
    def expressions(self) -> list[tuple[str, str]]:
        """Its expressions: namespace and value."""
        return [part for part in self.parts if part[0]]

    @property
    def keys(self) -> list[str]:
        """The partition keys that it names."""
        return [value for namespace, value in self.expressions if namespace == "partitionKeyFromQuery"]

    @property
    def names_error_type(self) -> bool:
        """Whether it tells kinds of errors apart."""
        return ("firehose", "error-output-type") in self.parts

    def evaluate(self, place: Place) -> str:
        """The text for one object. A random string is another one at each place of the prefix."""
        return "".join(
            _evaluate(namespace, value, place, number) for number, (namespace, value) in enumerate(self.parts)
        )


def parse_prefix(text: str) -> Prefix:
    """Parse a prefix. Raises UserError that names the expression which is wrong and what can be had."""
    parts: list[tuple[str, str]] = []
    end = 0
    for match in EXPRESSION.finditer(text):
        parts.append(("", text[end : match.start()]))
        parts.append(_checked(match[1], match[2], match[0]))
        end = match.end()
    parts.append(("", text[end:]))
    left = next((plain for namespace, plain in parts if not namespace and "!{" in plain), None)
    if left is not None:
        raise UserError(f"{text!r}: {left[left.index('!{') :]!r} is not !{{namespace:value}}")
    return Prefix(tuple(part for part in parts if part != ("", "")))


def random_string(seed: str, number: int) -> str:
    """Eleven letters and digits, always the same for a seed and number."""
    digest = int.from_bytes(hashlib.sha256(f"{seed}/{number}".encode()).digest())
    letters = []
    for _ in range(RANDOM_LENGTH):
        digest, index = divmod(digest, len(RANDOM_LETTERS))
        letters.append(RANDOM_LETTERS[index])
    return "".join(letters)


def _checked(namespace: str, value: str, shown: str) -> tuple[str, str]:
    if namespace == "timestamp":
        _time_pattern(value, shown)
    elif namespace == "firehose":
        if value not in ("random-string", "error-output-type"):
            raise UserError(f"{shown} is not known; firehose has random-string and error-output-type")
    elif namespace != "partitionKeyFromQuery":
        raise UserError(f"{shown} is not supported; there are timestamp, firehose and partitionKeyFromQuery")
    elif not value:
        raise UserError(f"{shown} names no partition key")
    return namespace, value


def _time_pattern(pattern: str, shown: str) -> str:
    """The pattern for strftime."""
    tokens = list(_TOKEN.finditer(pattern))
    if not pattern or sum(len(token[0]) for token in tokens) != len(pattern):
        raise UserError(f"{shown} is not a pattern of times; write it as !{{timestamp:yyyy/MM/dd/HH}}")
    return "".join(_time_token(token, shown) for token in tokens)


def _time_token(token: re.Match[str], shown: str) -> str:
    letters = token["letters"]
    if letters is None:
        text = token["other"] if token["quoted"] is None else token["quoted"] or "'"
        return text.replace("%", "%%")
    if letters not in PATTERNS:
        raise UserError(f"{shown}: {letters!r} is not supported; there are {', '.join(PATTERNS)}")
    return PATTERNS[letters]


def _evaluate(namespace: str, value: str, place: Place, number: int) -> str:
    if namespace == "timestamp":
        return place.at.strftime(_time_pattern(value, value))
    if namespace == "partitionKeyFromQuery":
        return place.keys[value]
    if namespace == "firehose":
        return place.error_type if value == "error-output-type" else random_string(place.seed, number)
    return value
