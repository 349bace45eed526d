"""Makes the streams and buckets match infra/resources; running it again changes nothing.

`python -m infra.provision [--data-set ID] [--shards N]`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import click

from infra.contracts.datasets import DataSet
from infra.contracts.errors import UserError
from infra.contracts.streams import DeclaredStream, declared_streams
from infra.objects import ObjectStore
from infra.process import run_command
from infra.settings import ROOT, Settings
from infra.streams.admin import StreamAdmin, StreamDescription
from infra.streams.errors import StreamInUseError

STREAMS = ROOT / "infra" / "resources" / "streams.json"
SHARED = ("sales",)
"""Streams that belong to no data set of transactions: only the default one has them."""
SCALED = ("transactions", "decisions")
"""Streams whose shards a data set may have another number of."""


def streams_of(data_set: DataSet, shards: int | None = None) -> list[DeclaredStream]:
    """The streams of a data set as they shall be: streams.json under the data set's names."""
    declared = declared_streams(json.loads(STREAMS.read_text()))
    return [
        replace(
            stream,
            name=data_set.stream(stream.name),
            shards=shards if shards and stream.name in SCALED else stream.shards,
        )
        for stream in declared
        if not data_set.id or stream.name not in SHARED
    ]


def provision(settings: Settings, data_set: DataSet, shards: int | None = None) -> list[str]:
    """Make the bucket and the streams of a data set; what was made or changed, one line each.

    Raises UserError, by name, for what can't be done to a stream that exists.
    """
    ObjectStore(settings).ensure_bucket(data_set.bucket)
    with StreamAdmin(settings.kafka_servers) as admin:
        return [line for stream in streams_of(data_set, shards) for line in _match(admin, stream)]


def _match(admin: StreamAdmin, stream: DeclaredStream) -> Iterator[str]:
    found = admin.describe(stream.name)
    if found is None:
        admin.create(stream.name, stream.shards, stream.retention_hours)
        yield f"stream {stream.name}: {stream.shards} shards, {stream.retention_hours} hours"
        if stream.recorded:
            yield f"stream {stream.name}: {', '.join(stream.recorded)} has no effect here"
        return
    if found.shards != stream.shards:
        _grow(admin, stream, found)
        yield f"stream {stream.name}: from {found.shards} to {stream.shards} shards"
    if found.retention_hours != stream.retention_hours:
        admin.set_retention(stream.name, stream.retention_hours)
        yield f"stream {stream.name}: kept for {stream.retention_hours} hours (was {found.retention_hours})"


def _grow(admin: StreamAdmin, stream: DeclaredStream, found: StreamDescription) -> None:
    change = f"stream {stream.name} has {found.shards} shards and shall have {stream.shards}"
    if stream.shards < found.shards:
        raise UserError(f"{change}: shards can't be merged here; delete the stream or declare more")
    try:
        admin.grow(stream.name, stream.shards)
    except StreamInUseError as error:
        raise UserError(f"{change}: {error}; stop these consumers first") from error


@click.command()
@click.option("--data-set", "data_set_id", default="", help="The data set's id; empty: the default one.")
@click.option("--shards", type=click.IntRange(1, 200), help="Shards of transactions and decisions.")
def main(data_set_id: str, shards: int | None) -> None:
    """Make streams and buckets as they are declared."""
    settings = Settings.load()
    if not settings.kafka_servers or not settings.s3_endpoint:
        raise UserError("no servers are given: set KAFKA_BOOTSTRAP_SERVERS and AWS_ENDPOINT_URL_S3")
    lines = provision(settings, DataSet(settings.bucket, data_set_id), shards)
    click.echo("\n".join(lines) or "streams and buckets are as declared")


if __name__ == "__main__":
    run_command(main)
