"""Delivers the streams of a data set to S3, as Firehose does: `python -m stream_consumers.delivery`."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import click

from infra.archive.intents import check_store
from infra.contracts.datasets import DataSet, read_manifest
from infra.contracts.delivery import DeclaredDelivery, declared_deliveries
from infra.contracts.errors import UserError
from infra.contracts.validity import TIMED
from infra.metrics import Metrics
from infra.objects import ObjectStore, open_bucket
from infra.process import run_command, stop_on_signals
from infra.provision import SHARED
from infra.settings import ROOT, Settings
from infra.streams.consumer import StreamConsumer
from stream_consumers.delivery_cuts import Sorting
from stream_consumers.delivery_stream import Clocks, DeliveryStream
from stream_consumers.lag import Lag
from stream_consumers.worker import Relay, consume

DECLARED = ROOT / "infra" / "resources" / "delivery_streams.json"
POLL_S, MOST_RECORDS = 0.5, 5_000
GATHER_BYTES, GATHER_S = 1_000_000, 0.5
"""Delivery is in no hurry: few large fetches cost the brokers and this process less."""
LAG_EVERY_S, STUCK_AFTER_S = 1.0, 90.0
GIVES_WAY = 10
"""Niceness: what answers goes before what is kept when all processors are busy."""
CLOCKS = Clocks(time.monotonic, time.time)
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Delivering:
    """What the process's delivery streams have in common."""

    settings: Settings
    data_set: DataSet
    store: ObjectStore
    metrics: Metrics
    timeout_s: float


class Worker(threading.Thread):
    """One delivery stream's consume loop in a thread. Its failure stops the others."""

    def __init__(
        self, delivering: Delivering, delivery: DeclaredDelivery, sorting: Sorting, stop: threading.Event
    ) -> None:
        super().__init__(name=f"delivery-{delivery.name}", daemon=True)
        self._delivering, self._delivery, self._sorting = delivering, delivery, sorting
        self._stopping = stop
        relay = Relay()
        self._consumer = consumer_of(delivering, delivery, relay)
        self._handler = relay.handler = self._made()
        self._beaten = self._measured = time.monotonic()
        self._lag = Lag(delivering.metrics)
        self.is_ready = threading.Event()
        self.failure: BaseException | None = None

    def run(self) -> None:
        """Deliver until told to stop."""
        try:
            consume(
                self._consumer,
                self._handler,
                poll_s=POLL_S,
                max_records=MOST_RECORDS,
                stop=self._stopping,
                beat=self._beat,
            )
        except BaseException as error:  # handed to the main thread, which raises it
            self.failure = error
        finally:
            self.is_ready.set()
            self._stopping.set()

    def health(self) -> str | None:
        """What is wrong, in one line."""
        silent_s = time.monotonic() - self._beaten
        if self.failure is not None:
            return f"{self.name} has ended: {type(self.failure).__name__}"
        return f"{self.name} stands still for {silent_s:.0f} s" if silent_s > STUCK_AFTER_S else None

    def discard(self) -> None:
        """Give up before it was started."""
        self._consumer.close()

    def _made(self) -> DeliveryStream:
        return DeliveryStream(
            self._delivery,
            self._sorting,
            self._consumer,
            self._delivering.store,
            self._consumer.topic_id(self._delivery.stream),
            self._delivering.metrics,
            CLOCKS,
        )

    def _beat(self) -> None:
        self._beaten = time.monotonic()
        self.is_ready.set()
        if self._beaten - self._measured >= LAG_EVERY_S:
            self._measured = self._beaten
            self._lag.show(self._consumer.lag())


def deliveries_of(data_set: DataSet, only: Sequence[str] = ()) -> list[DeclaredDelivery]:
    """The delivery streams of a data set, or those of these names. Raises UserError for an unknown one."""
    declared = [
        each
        for each in declared_deliveries(json.loads(DECLARED.read_text()))
        if not data_set.id or each.name not in SHARED
    ]
    names = [each.name for each in declared]
    for name in only:
        if name not in names:
            raise UserError(f"there is no delivery stream {name!r}; there are {', '.join(names)}")
    return [each.of(data_set) for each in declared if not only or each.name in only]


def consumer_of(delivering: Delivering, delivery: DeclaredDelivery, relay: Relay) -> StreamConsumer:
    """The member of a delivery stream's group. Raises UserError if there is no stream."""
    consumer = StreamConsumer(
        delivering.settings.kafka_servers,
        streams=[delivery.stream],
        group=f"delivery-{delivery.name}",
        client_id=f"delivery-{delivery.name}",
        session_timeout_s=delivering.timeout_s,
        listener=relay,
        gather_bytes=GATHER_BYTES,
        gather_s=GATHER_S,
    )
    if not consumer.shards(delivery.stream):
        consumer.close()
        raise UserError(
            f"there is no stream {delivery.stream}; `python -m infra.provision` makes those declared"
        )
    return consumer


def live_from(store: ObjectStore, data_set: DataSet, delivery: DeclaredDelivery) -> datetime | None:
    """What stands for a shard's newest event time before its first record, where that matters."""
    if delivery.event not in TIMED:
        return None
    manifest = read_manifest(store.get, data_set)
    if manifest is None:
        raise UserError(
            f"there is no data set {data_set.id or 'default'!r} ({data_set.manifest}); "
            "make it by `python -m producers.dataset`"
        )
    return manifest.live_from


def run(delivering: Delivering, deliveries: Sequence[DeclaredDelivery]) -> None:
    """Deliver until SIGTERM, Ctrl-C or a failure, which is raised."""
    store, data_set = delivering.store, delivering.data_set
    sortings = [Sorting.declared(each, live_from(store, data_set, each)) for each in deliveries]
    for each in deliveries:
        log.info("%s: recorded, without effect here: %s", each.name, ", ".join(each.recorded))
    with stop_on_signals() as stop:
        workers = made(delivering, deliveries, sortings, stop)
        for worker in workers:
            worker.start()
        with serving(delivering, workers):
            for worker in workers:
                worker.join()
    failure = next((worker.failure for worker in workers if worker.failure is not None), None)
    if failure is not None:
        raise failure


def made(
    delivering: Delivering,
    deliveries: Sequence[DeclaredDelivery],
    sortings: Sequence[Sorting],
    stop: threading.Event,
) -> list[Worker]:
    """A worker for each delivery stream; none is left if one can't be made."""
    with contextlib.ExitStack() as undoing:
        workers = []
        for delivery, sorting in zip(deliveries, sortings, strict=True):
            worker = Worker(delivering, delivery, sorting, stop)
            undoing.callback(worker.discard)
            workers.append(worker)
        undoing.pop_all()
    return workers


@contextlib.contextmanager
def serving(delivering: Delivering, workers: Sequence[Worker]) -> Iterator[None]:
    """Serve the metrics once all have polled; of several processes one may have no shards of a stream."""

    def health() -> str | None:
        return next((wrong for worker in workers if (wrong := worker.health()) is not None), None)

    for worker in workers:
        worker.is_ready.wait()
    with delivering.metrics.serve(delivering.settings, health):
        yield


def open_store(settings: Settings) -> ObjectStore:
    """The S3 server of the settings. Raises UserError if it is not there, or unfit for delivery."""
    if not settings.s3_endpoint or not settings.kafka_servers:
        raise UserError("no servers are given: set AWS_ENDPOINT_URL_S3 and KAFKA_BOOTSTRAP_SERVERS")
    store = open_bucket(settings)
    check_store(store, settings.bucket)
    return store


@click.command()
@click.option("--data-set", "data_set_id", default="", help="8 hex digits; the default data set without")
@click.option("--only", multiple=True, help="only this delivery stream (as it is declared); may be repeated")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(6),
    default=10,
    show_default=True,
    help="seconds after which a process that is silent loses its shards",
)
def main(data_set_id: str, only: tuple[str, ...], timeout_s: float) -> None:
    """Write every record of a data set's streams to S3, exactly once."""
    os.nice(GIVES_WAY)
    settings = Settings.load()
    data_set = DataSet(settings.bucket, data_set_id)
    deliveries = deliveries_of(data_set, only)
    metrics = Metrics("delivery")
    run(Delivering(settings, data_set, open_store(settings), metrics, timeout_s), deliveries)


if __name__ == "__main__":
    run_command(main)
