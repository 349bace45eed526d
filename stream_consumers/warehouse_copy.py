"""Copies delivered objects into the warehouse's PostgreSQL: `python -m stream_consumers.warehouse_copy`.

It stands for Firehose's Redshift destination: the archive in S3 first, then a COPY into a table.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Sequence

import click
from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_exponential
from tenacity.nap import sleep_using_event
from tenacity.stop import stop_when_event_set

from infra.contracts.copies import DeclaredCopy, declared_copies
from infra.contracts.datasets import DataSet
from infra.contracts.errors import UserError
from infra.metrics import Metrics
from infra.objects import open_bucket
from infra.process import run_command, stop_on_signals
from infra.settings import ROOT, Settings
from infra.warehouse.contract import TableMismatchError, WarehouseUnavailableError, check_name
from infra.warehouse.copies import LEDGER, WarehouseCopies
from stream_consumers.copying import Copier
from stream_consumers.delivery import deliveries_of

DECLARED = ROOT / "infra" / "resources" / "warehouse_copies.json"
LOOK_EVERY_S = 2.0
LOOK_AGAIN_S = 15.0
"""After a table could not take an object: somebody may have changed it."""
log = logging.getLogger(__name__)


class Worker(threading.Thread):
    """One copy in a thread: a server that is down is waited for, a table that does not fit too.

    Any other failure ends all.
    """

    def __init__(self, copy: DeclaredCopy, copier: Copier, stop: threading.Event) -> None:
        super().__init__(name=f"copy-{copy.delivery}", daemon=True)
        self._copier, self._stopping = copier, stop
        self.trouble: str | None = None
        """What is wrong now, in one line."""
        self.failure: BaseException | None = None

    def run(self) -> None:
        """Copy until told to stop."""
        try:
            while not self._stopping.is_set():
                self._stopping.wait(self._look())
        except BaseException as error:  # handed to the main thread, which raises it
            self.failure = error
        finally:
            self._stopping.set()

    def _look(self) -> float:
        """Copy what there is; seconds until it shall be looked again."""
        try:
            self._patient()(self._copier.catch_up, self._stopping.is_set)
        except TableMismatchError as error:
            self._tell(str(error))
            return LOOK_AGAIN_S
        except WarehouseUnavailableError:  # asked to stop while the server was down
            return 0
        if self.trouble is not None:
            log.info("%s: goes on", self.name)
        self.trouble = None
        return LOOK_EVERY_S

    def _patient(self) -> Retrying:
        return Retrying(
            retry=retry_if_exception_type(WarehouseUnavailableError),
            wait=wait_exponential(multiplier=0.2, max=10),
            stop=stop_when_event_set(self._stopping),
            sleep=sleep_using_event(self._stopping),
            before_sleep=self._unavailable,
            reraise=True,
        )

    def _unavailable(self, state: RetryCallState) -> None:
        assert state.outcome is not None
        self._tell(str(state.outcome.exception()))

    def _tell(self, trouble: str) -> None:
        if trouble != self.trouble:
            log.error("%s waits: %s", self.name, trouble)
        self.trouble = trouble


def copies_of(data_set: DataSet, only: Sequence[str] = ()) -> list[tuple[DeclaredCopy, str]]:
    """The copies of a data set, each with the bucket of its delivery stream.

    `only` names delivery streams as they are declared. Raises UserError for what can't be copied.
    """
    everywhere = {each.name for each in deliveries_of(DataSet(data_set.bucket))}
    declared = declared_copies(json.loads(DECLARED.read_text()), everywhere)
    names = [copy.delivery for copy in declared]
    for name in only:
        if name not in names:
            raise UserError(
                f"{name!r} is not copied to the warehouse; {', '.join(names)} are ({DECLARED.name})"
            )
    buckets = {each.name: each.bucket for each in deliveries_of(data_set)}
    found = [copy.of(data_set) for copy in declared if not only or copy.delivery in only]
    for copy in found:
        check_name(copy.table)
        if copy.table == LEDGER:
            raise UserError(f"{DECLARED.name}: {LEDGER} is taken: it says what was copied")
    return [(copy, buckets[copy.delivery]) for copy in found if copy.delivery in buckets]


def run(settings: Settings, copies: Sequence[tuple[DeclaredCopy, str]]) -> None:
    """Copy until SIGTERM, Ctrl-C or a failure, which is raised."""
    store, metrics = open_bucket(settings), Metrics("warehouse-copy")
    warehouse = WarehouseCopies(settings)
    with stop_on_signals() as stop:
        workers = [
            Worker(copy, Copier(copy, bucket, store, warehouse, metrics), stop) for copy, bucket in copies
        ]
        for worker in workers:
            worker.start()

        def health() -> str | None:
            return next((worker.trouble for worker in workers if worker.trouble is not None), None)

        with metrics.serve(settings, health):
            for worker in workers:
                worker.join()
    failure = next((worker.failure for worker in workers if worker.failure is not None), None)
    if failure is not None:
        raise failure


@click.command()
@click.option("--data-set", "data_set_id", default="", help="8 hex digits; the default data set without")
@click.option("--only", multiple=True, help="only this delivery stream (as it is declared); may be repeated")
def main(data_set_id: str, only: tuple[str, ...]) -> None:
    """Append what delivery streams wrote to S3 to tables of the warehouse, exactly once."""
    settings = Settings.load()
    if not settings.warehouse:
        raise UserError("copies go into PostgreSQL: set MILLSTREAM_WAREHOUSE; a DuckDB file takes none")
    if not settings.s3_endpoint:
        raise UserError("no S3 server is given: set AWS_ENDPOINT_URL_S3")
    run(settings, copies_of(DataSet(settings.bucket, data_set_id), only))


if __name__ == "__main__":
    run_command(main)
