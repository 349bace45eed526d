"""A small data set and its servers, shared by the tests of the streaming story."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from infra.contracts.datasets import DataSet, Manifest
from infra.local.servers import servers
from infra.objects import ObjectStore
from infra.settings import ROOT, Settings
from infra.streams.consumer import StreamConsumer
from infra.streams.records import Record
from producers import dataset
from producers.simulator import World

SMALL = World(customers=60, terminals=120, radius=20.0)


def prepared(
    settings: Settings, live: int, world: World = SMALL, shards: int = 2
) -> tuple[DataSet, Manifest]:
    """A small simulated data set, made in S3."""
    data_set, definition = dataset.simulated(settings.bucket, world, shards)
    manifest = dataset.prepare_simulated(
        ObjectStore(settings), data_set, definition, world, live, lambda share, detail: None
    )
    return data_set, manifest


@contextmanager
def both_servers(s3: Settings, kafka: Settings) -> Iterator[Settings]:
    """One settings with the session's S3 and Kafka."""
    with servers(replace(s3, kafka_servers=kafka.kafka_servers), ("s3", "kafka")) as live:
        yield live


def run_module(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m ...` with these settings to its end."""
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        env=settings.environment(),
        cwd=ROOT,
        text=True,
        capture_output=True,
        timeout=240,
    )


def start_module(settings: Settings, *arguments: str) -> subprocess.Popen[bytes]:
    """Start `python -m ...` with these settings."""
    return subprocess.Popen(
        [sys.executable, "-m", *arguments],
        env=settings.environment(),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
    )


def read_all(settings: Settings, stream: str) -> list[Record]:
    """All committed records of a stream, each shard's in order."""
    consumer = StreamConsumer(settings.kafka_servers, streams=[], group=None, client_id="test-reader")
    try:
        shards = consumer.shards(stream)
        consumer.assign(shards)
        begins, ends = consumer.beginning_offsets(shards), consumer.end_offsets(shards)
        for shard, offset in begins.items():
            consumer.seek(shard, offset)
        found: list[Record] = []
        while any(consumer.position(shard) < ends[shard] for shard in shards):
            for records in consumer.poll(0.2, 5_000).values():
                found += records
        return found
    finally:
        consumer.close()
