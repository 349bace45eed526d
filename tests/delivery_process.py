"""Delivery as it is started, but with short intervals: `python -m tests.delivery_process DATA_SET`."""

from __future__ import annotations

import sys
from dataclasses import replace

from infra.contracts.datasets import DataSet
from infra.metrics import Metrics
from infra.process import run
from infra.settings import Settings
from stream_consumers.delivery import Delivering, deliveries_of, open_store
from stream_consumers.delivery import run as deliver


def main() -> None:
    """Deliver the transactions of a data set, a cut each half a second."""
    settings = Settings.load()
    data_set = DataSet(settings.bucket, sys.argv[1])
    declared = [replace(each, interval_s=0.5) for each in deliveries_of(data_set, ["transactions"])]
    deliver(Delivering(settings, data_set, open_store(settings), Metrics("delivery"), 6), declared)


if __name__ == "__main__":
    run(main)
