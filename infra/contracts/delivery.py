"""A declared delivery stream: CreateDeliveryStream as Firehose takes it, from a stream to S3."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from infra.contracts.datasets import DataSet
from infra.contracts.delivery_policy import CREATE, S3
from infra.contracts.errors import UserError
from infra.contracts.events import EVENTS, Event, arrow_schema
from infra.contracts.prefixes import Prefix, parse_prefix
from infra.contracts.resources import check

Format = Literal["parquet", "json"]
DEFAULT_SIZE_MB, DEFAULT_INTERVAL_S = 5, 300
LEAST_SIZE_MB = 64
"""Firehose's own least buffer for Parquet and for dynamic partitioning."""
EXTENSIONS: dict[Format, str] = {"parquet": ".parquet", "json": ".gz"}
DEFAULT_BUCKET = "lake"
"""In a declaration this stands for the bucket of the settings."""
TIME_OF_DAY = "!{timestamp:yyyy/MM/dd/HH}/"
QUERY = re.compile(r"\{\s*(\w+)\s*:\s*\.(\w+)\s*\}")


@dataclass(frozen=True)
class Partitioning:
    """Dynamic partitioning by one field: the name in the prefix and the field of the event."""

    key: str
    field: str


@dataclass(frozen=True)
class DeclaredDelivery:
    """A delivery stream as it shall be. `recorded` are members of the request without effect here.

    `kind` is the event's name in EVENTS; an object holds up to `size_bytes` of records (a batch more) that
    waited for up to `interval_s` seconds.
    """

    name: str
    stream: str
    kind: str
    bucket: str
    prefix: Prefix
    error_prefix: Prefix
    size_bytes: int
    interval_s: float
    format: Format
    extension: str
    partitioning: Partitioning | None = None
    recorded: tuple[str, ...] = ()

    @property
    def event(self) -> type[Event]:
        """The kind of event that its records hold."""
        return EVENTS[self.kind]

    def of(self, data_set: DataSet) -> DeclaredDelivery:
        """The same for a data set: its names of streams, its bucket and prefixes.

        Raises UserError for a prefix that two data sets would share.
        """
        here = replace(
            self,
            name=data_set.stream(self.name),
            stream=data_set.stream(self.stream),
            bucket=data_set.bucket if self.bucket == DEFAULT_BUCKET else self.bucket,
        )
        if not data_set.id:
            return here
        return replace(
            here,
            prefix=self._moved("Prefix", self.prefix, "", data_set),
            error_prefix=self._moved("ErrorOutputPrefix", self.error_prefix, "errors/", data_set),
        )

    def _moved(self, what: str, prefix: Prefix, before: str, data_set: DataSet) -> Prefix:
        """A prefix that begins with `before` and the stream, under the data set's name of the stream."""
        namespace, text = prefix.parts[0]
        start = f"{before}{self.stream}/"
        if namespace or not text.startswith(start):
            raise UserError(
                f"delivery stream {self.name}: {what} must begin with {start} to serve several data sets"
            )
        moved = f"{before}{data_set.stream(self.stream)}/{text.removeprefix(start)}"
        return Prefix((("", moved), *prefix.parts[1:]))


def declared_deliveries(declarations: Sequence[Mapping[str, Any]]) -> list[DeclaredDelivery]:
    """The delivery streams of delivery_streams.json. Raises UserError, one line, for what can't be."""
    for declaration in declarations:
        if set(declaration) != {"CreateDeliveryStream"}:
            raise UserError(
                "a delivery stream is declared by CreateDeliveryStream, not by "
                f"{', '.join(sorted(declaration)) or 'nothing'}"
            )
    found = [declared_delivery(each["CreateDeliveryStream"]) for each in declarations]
    names = [each.name for each in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"delivery stream {twice} is declared twice")
    return found


def declared_delivery(request: Mapping[str, Any]) -> DeclaredDelivery:
    """One CreateDeliveryStream. Raises UserError, one line, for what can't be."""
    recorded = check(request, "firehose", "CreateDeliveryStream", CREATE)
    name = request["DeliveryStreamName"]
    if request.get("DeliveryStreamType") != "KinesisStreamAsSource":
        raise UserError(f"delivery stream {name}: DeliveryStreamType must be KinesisStreamAsSource")
    for needed in ("KinesisStreamSourceConfiguration", S3):
        if needed not in request:
            raise UserError(f"delivery stream {name}: {needed} is missing")
    stream = request["KinesisStreamSourceConfiguration"]["KinesisStreamARN"].rpartition("/")[2]
    try:
        return _declared(name, stream, request[S3], tuple(recorded))
    except UserError as error:
        raise UserError(f"delivery stream {name}: {error}") from error


def _declared(name: str, stream: str, s3: Mapping[str, Any], recorded: tuple[str, ...]) -> DeclaredDelivery:
    conversion = s3.get("DataFormatConversionConfiguration", {})
    form: Format = "parquet" if conversion.get("Enabled", bool(conversion)) else "json"
    kind = conversion.get("SchemaConfiguration", {}).get("TableName", stream)
    if kind not in EVENTS:
        raise UserError(f"TableName {kind!r} is no kind of event; there are {', '.join(EVENTS)}")
    _check_format(form, conversion, s3)
    partitioning = _partitioning(s3, kind)
    prefix, error_prefix = _prefixes(s3, partitioning)
    size_mb, interval_s = _buffering(s3, form, partitioning)
    return DeclaredDelivery(
        name=name,
        stream=stream,
        kind=kind,
        bucket=s3["BucketARN"].rpartition(":")[2],
        prefix=prefix,
        error_prefix=error_prefix,
        size_bytes=size_mb << 20,
        interval_s=interval_s,
        format=form,
        extension=s3.get("FileExtension") or EXTENSIONS[form],
        partitioning=partitioning,
        recorded=recorded,
    )


def _check_format(form: Format, conversion: Mapping[str, Any], s3: Mapping[str, Any]) -> None:
    compression = s3.get("CompressionFormat", "UNCOMPRESSED")
    if form == "parquet":
        serializer = conversion.get("OutputFormatConfiguration", {}).get("Serializer", {})
        if "ParquetSerDe" not in serializer:
            raise UserError("DataFormatConversionConfiguration names no ParquetSerDe to write with")
        parquet = serializer["ParquetSerDe"].get("Compression", "SNAPPY")
        if compression != "UNCOMPRESSED" or parquet != "SNAPPY":
            raise UserError("Parquet is compressed by ParquetSerDe's SNAPPY, and CompressionFormat left out")
        return
    delimiters = [
        parameter["ParameterValue"]
        for processor in _processors(s3)
        if processor["Type"] == "AppendDelimiterToRecord"
        for parameter in processor.get("Parameters", [])
    ]
    if compression != "GZIP" or delimiters not in ([], ["\\n"]) or not _has(s3, "AppendDelimiterToRecord"):
        raise UserError(
            "the formats are Parquet (DataFormatConversionConfiguration) and lines of JSON: "
            "CompressionFormat GZIP with the processor AppendDelimiterToRecord"
        )


def _partitioning(s3: Mapping[str, Any], kind: str) -> Partitioning | None:
    queries = [
        parameter["ParameterValue"]
        for processor in _processors(s3)
        if processor["Type"] == "MetadataExtraction"
        for parameter in processor.get("Parameters", [])
        if parameter["ParameterName"] == "MetadataExtractionQuery"
    ]
    if not s3.get("DynamicPartitioningConfiguration", {}).get("Enabled", False):
        if queries:
            raise UserError("MetadataExtraction needs DynamicPartitioningConfiguration to be Enabled")
        return None
    match = QUERY.fullmatch(queries[0]) if len(queries) == 1 else None
    if match is None:
        raise UserError(
            "dynamic partitioning is by one flat field here: one MetadataExtraction processor with a "
            "MetadataExtractionQuery like {month:.month}"
        )
    schema = arrow_schema(EVENTS[kind])
    if match[2] not in schema.names or str(schema.field(match[2]).type) not in ("string", "int64"):
        raise UserError(
            f"{queries[0]}: an event of {kind} has no field {match[2]!r} of text or whole numbers"
        )
    return Partitioning(match[1], match[2])


def _prefixes(s3: Mapping[str, Any], partitioning: Partitioning | None) -> tuple[Prefix, Prefix]:
    """As in Firehose: a prefix without any expression is followed by the time."""
    prefix = parse_prefix(s3.get("Prefix", ""))
    if not prefix.expressions:
        prefix = parse_prefix(s3.get("Prefix", "") + TIME_OF_DAY)
    elif "ErrorOutputPrefix" not in s3:
        raise UserError("ErrorOutputPrefix is missing: a Prefix with expressions needs it")
    errors = parse_prefix(s3.get("ErrorOutputPrefix", "!{firehose:error-output-type}/" + TIME_OF_DAY))
    if prefix.names_error_type:
        raise UserError("Prefix can't name error-output-type; ErrorOutputPrefix does")
    if not errors.names_error_type:
        raise UserError("ErrorOutputPrefix must contain !{firehose:error-output-type}")
    if errors.keys:
        raise UserError("ErrorOutputPrefix can't name partition keys; a bad record has none")
    declared = [partitioning.key] if partitioning else []
    if sorted(set(prefix.keys)) != declared:
        raise UserError(
            f"Prefix names the partition keys {sorted(set(prefix.keys))} and dynamic partitioning "
            f"extracts {declared}; they must be the same"
        )
    return prefix, errors


def _buffering(s3: Mapping[str, Any], form: Format, partitioning: Partitioning | None) -> tuple[int, float]:
    hints = s3.get("BufferingHints", {})
    large = form == "parquet" or partitioning is not None
    size_mb = hints.get("SizeInMBs", LEAST_SIZE_MB if large else DEFAULT_SIZE_MB)
    interval_s = hints.get("IntervalInSeconds", DEFAULT_INTERVAL_S)
    if large and size_mb < LEAST_SIZE_MB:
        raise UserError(
            f"SizeInMBs must be at least {LEAST_SIZE_MB} for Parquet or dynamic partitioning, not {size_mb}"
        )
    if partitioning is not None and interval_s == 0:
        raise UserError("IntervalInSeconds can't be 0 with dynamic partitioning")
    return size_mb, interval_s


def _processors(s3: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    processing = s3.get("ProcessingConfiguration", {})
    found: list[Mapping[str, Any]] = processing.get("Processors", []) if processing.get("Enabled") else []
    for processor in found:
        if processor["Type"] not in ("MetadataExtraction", "AppendDelimiterToRecord"):
            raise UserError(
                f"the processor {processor['Type']} is not supported; there are MetadataExtraction and "
                "AppendDelimiterToRecord"
            )
    return found


def _has(s3: Mapping[str, Any], kind: str) -> bool:
    return any(processor["Type"] == kind for processor in _processors(s3))
