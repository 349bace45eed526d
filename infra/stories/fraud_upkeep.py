"""Keeps a stack's default data set ahead of its play: days to be played, terminals' tables, a first model.

`python -m infra.stories.fraud_upkeep` looks every few seconds until SIGTERM. The steps run on the
standing cluster; what fails is tried again.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import time

import click

from infra.contracts.datasets import DataSet, Manifest, read_manifest
from infra.contracts.errors import UserError
from infra.metrics import Metrics
from infra.objects import FAILURES, ObjectStore
from infra.process import run_command
from infra.settings import Settings
from infra.stories.fraud_model import ModelFailedError, making, prepare_model
from infra.streams.admin import StreamAdmin
from infra.streams.errors import KafkaUnavailableError
from infra.streams.played import live_played
from infra.terminal import terminal

LOOK_S, RETRY_S = 20.0, 30.0
AHEAD_S, GROW_S = 600, 2000
"""Less than AHEAD_S seconds of play left: GROW_S more are made, which is a step every half hour."""
LEAST_AHEAD, LEAST_GROWTH = 30_000, 100_000
"""Transactions, some three and ten simulated days: a step costs the same for few."""
RETRIED = (ModelFailedError, UserError, subprocess.CalledProcessError, KafkaUnavailableError, *FAILURES)
log = logging.getLogger(__name__)


class Upkeep:
    """One look after the other at what is left to be played."""

    def __init__(self, settings: Settings, rate: float) -> None:
        self._settings = settings
        self._data_set = DataSet(settings.bucket)
        self._ahead = max(LEAST_AHEAD, int(rate * AHEAD_S))
        self._growth = max(LEAST_GROWTH, int(rate * GROW_S))
        self._trouble, self._well_at = "", time.monotonic()

    def health(self) -> str | None:
        """What has failed for longer than the play has days for; None while there is no hurry."""
        late = time.monotonic() - self._well_at > AHEAD_S / 2
        return self._trouble if self._trouble and late else None

    def look(self) -> None:
        """Add what is missing. Raises ModelFailedError, UserError or CalledProcessError when it can't be."""
        with making(self._settings, self._data_set):
            if self._left() < self._ahead:
                self._grow()
            manifest = self._manifest()
            assert manifest is not None, "the data set was just made"
            prepare_model(self._settings, self._data_set, manifest, terminal(), gives_way=True)

    def run(self) -> None:
        """Look until SIGTERM, which cancels a step that runs."""
        wait_s = 0.0
        while True:
            time.sleep(wait_s)
            try:
                self.look()
                self._trouble, self._well_at, wait_s = "", time.monotonic(), LOOK_S
            except RETRIED as why:
                self._trouble, wait_s = str(why), RETRY_S
                log.error("%s; tried again in %.0f s", why, RETRY_S)

    def _left(self) -> int:
        """Transactions of the data set that the stream does not hold yet."""
        manifest = self._manifest()
        if manifest is None:
            return 0
        with StreamAdmin(self._settings.kafka_servers) as admin:
            return manifest.live_transactions - live_played(admin, self._data_set, manifest)

    def _manifest(self) -> Manifest | None:
        return read_manifest(ObjectStore(self._settings).get, self._data_set)

    def _grow(self) -> None:
        command = [sys.executable, "-m", "producers.dataset", "--live", str(self._growth)]
        subprocess.run(command, check=True, env=self._settings.environment(), stdin=subprocess.DEVNULL)


@click.command()
@click.option("--rate", type=click.FloatRange(0.1), default=50, show_default=True, help="of the producer")
def main(rate: float) -> None:
    """Keep days, tables and a model ahead of a producer."""
    settings = Settings.load()
    upkeep = Upkeep(settings, rate)
    with Metrics("fraud-upkeep").serve(settings, upkeep.health):
        upkeep.run()


if __name__ == "__main__":
    run_command(main)
