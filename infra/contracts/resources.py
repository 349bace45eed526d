"""Checks a request, AWS's own JSON, against botocore's service model and what is supported here.

A policy sorts the members of a request into three lists: honoured, recorded (accepted and kept, but
without effect here) and refused. A path is written without list positions, `Steps.HadoopJarStep.Jar`,
and speaks for everything below it that is not listed itself. What no list names is refused.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.validate import ParamValidator

from infra.contracts.errors import UserError

KINDS = {
    "structure": (dict, "an object"),
    "map": (dict, "an object"),
    "list": (list, "a list"),
    "string": (str, "a string"),
    "integer": (int, "a whole number"),
    "long": (int, "a whole number"),
    "float": (float, "a number"),
    "double": (float, "a number"),
    "boolean": (bool, "true or false"),
}


@dataclass(frozen=True)
class Policy:
    """What is supported of one operation's request. `refused` says what to use instead, by path."""

    honoured: frozenset[str]
    recorded: frozenset[str] = frozenset()
    refused: Mapping[str, str] = field(default_factory=dict)

    def decide(self, path: str) -> tuple[str, str]:
        """The list that decides a path and the path listed there.

        The list is `honoured`, `recorded`, `refused`, `inside` (something below it is listed) or
        `undecided` (nobody lists it, so it is refused).
        """
        if any(listed.startswith(f"{path}.") for listed in self.honoured | self.recorded):
            return "inside", path
        for listed in _upwards(path):
            for name in ("honoured", "recorded", "refused"):
                if listed in getattr(self, name):
                    return name, listed
        return "undecided", path


@dataclass(frozen=True)
class _Node:
    """One value of a request: `path` is without list positions, `shown` with them."""

    shown: str
    path: str
    value: Any
    shape: Any


def check(request: Mapping[str, Any], service: str, operation: str, policy: Policy) -> list[str]:
    """Check one operation's request; return the paths that are recorded, in the request's order.

    `service` is botocore's name (`emr`, `kinesis`, `firehose`). Raises UserError, one line with the
    path, for an unknown or unsupported key and for a value that AWS would not take either.
    """
    shape = input_shape(service, operation)
    recorded: dict[str, None] = {}
    for node in _nodes(request, shape, "", ""):
        _check_value(node)
        if node.path:
            verdict, listed = policy.decide(node.path)
            if verdict in ("refused", "undecided"):
                raise UserError(_refusal(node, policy, listed, shape))
            if verdict == "recorded":
                recorded[listed] = None
    _check_with_botocore(request, shape, operation)
    return list(recorded)


@cache
def input_shape(service: str, operation: str) -> Any:
    """The shape of an operation's request in botocore's model, which is read from disk once."""
    return _service(service).operation_model(operation).input_shape


@cache
def _service(service: str) -> Any:
    return ServiceModel(Loader().load_service_model(service, "service-2"), service)


def undecided(service: str, operation: str, policy: Policy) -> list[str]:
    """What is wrong with a policy: paths of the model in no list or in two, listed paths not in the model."""
    shape = input_shape(service, operation)
    lists = [*policy.honoured, *policy.recorded, *policy.refused]
    twice = {path for path in lists if lists.count(path) > 1}
    unknown = {path for path in lists if _find(shape, path) is None}
    open_paths = (path for path in _model_paths(shape, "", policy) if policy.decide(path)[0] == "undecided")
    return sorted({*twice, *unknown, *open_paths})


def read_request(path: Path) -> dict[str, Any]:
    """Read a request from a JSON file. Raises UserError if it is missing or not one JSON object."""
    try:
        request = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not a text file in UTF-8") from error
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise UserError(f"{path} is not valid JSON, {place}: {error.msg}") from error
    if not isinstance(request, dict):
        raise UserError(f"{path} must hold one JSON object, as `aws --cli-input-json` takes it")
    return request


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a message: `; did you mean X?` for the nearest known name, or nothing."""
    lower = {candidate.lower(): candidate for candidate in known}
    near = difflib.get_close_matches(name.lower(), lower, n=1)
    return f"; did you mean {lower[near[0]]}?" if near else ""


def _nodes(value: Any, shape: Any, shown: str, path: str) -> Iterator[_Node]:
    """A value and all below it, outer first; stays out of values of the wrong type."""
    yield _Node(shown, path, value, shape)
    kind = shape.type_name
    if kind == "structure" and isinstance(value, Mapping):
        for key, item in value.items():
            inner = _join(shown, key)
            if key not in shape.members:
                one_line = " ".join(inner.split())
                raise UserError(f"{one_line} is not known to AWS{did_you_mean(key, shape.members)}")
            yield from _nodes(item, shape.members[key], inner, _join(path, key))
    elif kind == "map" and isinstance(value, Mapping):
        for key, item in value.items():
            yield from _nodes(item, shape.value, _join(shown, key), path)
    elif kind == "list" and isinstance(value, list | tuple):
        for position, item in enumerate(value):
            yield from _nodes(item, shape.member, f"{shown}[{position}]", path)


def _check_value(node: _Node) -> None:
    """What botocore leaves to the service: enumerations, upper bounds, and that true is not 1."""
    value, shape = node.value, node.shape
    values = getattr(shape, "enum", None)
    if values and isinstance(value, str) and value not in values:
        raise UserError(f"{node.shown} must be one of {', '.join(values)}, not {_quoted(value)}")
    if isinstance(value, bool) and shape.type_name in ("integer", "long", "float", "double"):
        raise UserError(f"{node.shown} must be {KINDS[shape.type_name][1]}, not {_quoted(value)}")
    most = shape.metadata.get("max")
    if most is None:
        return
    if isinstance(value, int | float) and value > most:
        raise UserError(f"{node.shown} must be at most {most:,}, not {_quoted(value)}")
    if isinstance(value, str | list) and len(value) > most:
        raise UserError(f"{node.shown} is too long: {len(value):,}, at most {most:,}")


def _refusal(node: _Node, policy: Policy, listed: str, root: Any) -> str:
    hint = policy.refused.get(listed, "")
    if not hint:
        parent, _, _ = node.path.rpartition(".")
        members = getattr(_find(root, parent), "members", {})
        known = [name for name in members if policy.decide(_join(parent, name))[0] in ("honoured", "inside")]
        hint = f"supported here: {', '.join(known)}"
    return f"{node.shown} is not supported; {hint}"


def _check_with_botocore(request: Mapping[str, Any], shape: Any, operation: str) -> None:
    """Types, required members, lower bounds: botocore's own findings, told in our words."""
    # Its public report is one long text of Python types; the findings themselves are only here.
    for reason, name, details in ParamValidator().validate(request, shape)._errors:
        path = name.lstrip(".")
        if reason == "missing required field":
            raise UserError(f"{_join(path, details['required_name'])} is missing: {operation} needs it")
        value = _quoted(details.get("param"))
        if reason == "invalid type":
            raise UserError(f"{path or 'the request'} must be {_wanted(details['valid_types'])}, not {value}")
        if reason in ("invalid range", "invalid length"):
            size = "be at least" if reason == "invalid range" else "have a length of at least"
            raise UserError(f"{path} must {size} {details['min_allowed']:,}, not {value}")
        raise UserError(f"{path or 'the request'}: {reason}")


def _wanted(valid_types: list[str]) -> str:
    words = {str(kind): text for kind, text in KINDS.values()}
    return next((words[name] for name in valid_types if name in words), " or ".join(valid_types))


def _quoted(value: Any) -> str:
    """A value as JSON, cut to a line's length."""
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _upwards(path: str) -> Iterator[str]:
    while path:
        yield path
        path = path.rpartition(".")[0]


def _below_lists(shape: Any) -> Any:
    while shape.type_name == "list":
        shape = shape.member
    return shape


def _find(shape: Any, path: str) -> Any:
    """The shape at a path (a list's member for a list), or None if the model has no such path."""
    for name in path.split(".") if path else ():
        shape = getattr(_below_lists(shape), "members", {}).get(name)
        if shape is None:
            return None
    return _below_lists(shape)


def _model_paths(shape: Any, path: str, policy: Policy) -> Iterator[str]:
    """The members that a policy has to decide one by one: those of what it looks inside of."""
    for name, member in getattr(_below_lists(shape), "members", {}).items():
        inner = _join(path, name)
        yield inner
        if policy.decide(inner)[0] == "inside":
            yield from _model_paths(member, inner, policy)
