"""A declared stream: CreateStream with IncreaseStreamRetentionPeriod beside it, as Kinesis takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infra.contracts.errors import UserError
from infra.contracts.resources import Policy, check

DEFAULT_RETENTION_HOURS = 24
MOST_RETENTION_HOURS = 8_760

CREATE = Policy(
    honoured=frozenset({"StreamName", "ShardCount", "StreamModeDetails.StreamMode"}),
    recorded=frozenset({"Tags"}),
    refused={
        "MaxRecordSizeInKiB": "a record has up to 1 MiB, Kinesis' default",
        "WarmThroughputMiBps": "it belongs to on-demand streams; declare ShardCount",
        "RecordDistributionStrategy": "records are spread by their partition key",
    },
)
RETAIN = Policy(
    honoured=frozenset({"StreamName", "RetentionPeriodHours"}),
    refused={"StreamARN": "name the stream by StreamName", "StreamId": "name the stream by StreamName"},
)


@dataclass(frozen=True)
class DeclaredStream:
    """A stream as it shall be. `recorded` are members of the request that have no effect here."""

    name: str
    shards: int
    retention_hours: int
    recorded: tuple[str, ...] = ()


def declared_streams(declarations: Sequence[Mapping[str, Any]]) -> list[DeclaredStream]:
    """The streams of streams.json. Raises UserError, one line, for what can't be."""
    streams = [declared_stream(declaration) for declaration in declarations]
    names = [stream.name for stream in streams]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"stream {name} is declared twice")
    return streams


def declared_stream(declaration: Mapping[str, Any]) -> DeclaredStream:
    """One declaration: an object with CreateStream and, if need be, IncreaseStreamRetentionPeriod."""
    unknown = set(declaration) - {"CreateStream", "IncreaseStreamRetentionPeriod"}
    if unknown or "CreateStream" not in declaration:
        raise UserError(
            "a stream is declared by CreateStream with IncreaseStreamRetentionPeriod beside it, not by "
            f"{', '.join(sorted(declaration)) or 'nothing'}"
        )
    request = declaration["CreateStream"]
    recorded = check(request, "kinesis", "CreateStream", CREATE)
    name = request["StreamName"]
    if request.get("StreamModeDetails", {}).get("StreamMode") == "ON_DEMAND":
        raise UserError(f"stream {name}: ON_DEMAND is not supported; declare PROVISIONED with a ShardCount")
    if "ShardCount" not in request:
        raise UserError(f"stream {name}: ShardCount is missing")
    return DeclaredStream(name, request["ShardCount"], _retention(name, declaration), tuple(recorded))


def _retention(name: str, declaration: Mapping[str, Any]) -> int:
    request = declaration.get("IncreaseStreamRetentionPeriod")
    if request is None:
        return DEFAULT_RETENTION_HOURS
    check(request, "kinesis", "IncreaseStreamRetentionPeriod", RETAIN)
    if request.get("StreamName") != name:
        raise UserError(f"stream {name}: IncreaseStreamRetentionPeriod names {request.get('StreamName')!r}")
    hours = int(request["RetentionPeriodHours"])
    if not DEFAULT_RETENTION_HOURS <= hours <= MOST_RETENTION_HOURS:
        raise UserError(
            f"stream {name}: RetentionPeriodHours is {DEFAULT_RETENTION_HOURS} to "
            f"{MOST_RETENTION_HOURS:,}, not {hours:,}"
        )
    return hours
