"""What dynamic partitioning makes of the stream of sales is an input of the rollup."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from infra.contracts.datasets import DataSet
from infra.files import LocalFiles, address
from infra.parquet import read_parquet
from spark_jobs.reading import Request
from spark_jobs.sales_input import find_input
from spark_jobs.sales_rollup import SETTINGS, roll_up
from spark_jobs.session import spark_session
from stream_consumers.delivery import deliveries_of
from stream_consumers.delivery_cuts import Cut, Sorting, resolve
from tests.delivery_cases import records, sale

MONTHS = ("2024-01", "2024-02", "2024-06")
TOPIC = "5a4fbb5c-6fd8-4cf1-8d4c-55f4a1b8a7a6"


# pyspark leaves the sockets that results came through to the garbage collector.
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
@pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning")
def test_delivered_sales_can_be_rolled_up(tmp_path: Path) -> None:
    """Each month's folder is read as that month, and the sums are those of the sales."""
    sales = [sale(number, MONTHS[number % 3]) for number in range(90)]
    store, (delivery,) = LocalFiles(), deliveries_of(DataSet("lake"), ["sales"])
    for first in (0, 45):
        cut = Cut(Sorting.declared(delivery, None), first, None)
        cut.take(records(sales[first : first + 45], first), lambda _: True)
        for part, body in cut.bodies(resolve(cut, delivery, TOPIC, 0)):
            store.put(part.url.replace("s3://lake", address(str(tmp_path))), body)
    # The session is left to whichever test of this process made it, or to the end.
    spark = spark_session("tests", {**SETTINGS, "spark.master": "local[2]", "spark.ui.enabled": "false"})
    source, output = address(str(tmp_path / "sales-stream")), address(str(tmp_path / "out"))
    figures = roll_up(spark, store, Request(source, f"{output}/", "r1"), find_input(store, source))
    assert (figures["rows_used"], figures["rows_rejected"]) == (90, 0)
    assert figures["months_read"] == list(MONTHS)
    table = read_parquet(store, figures["table"]).to_pylist()
    revenue = Counter[str]()
    for each in sales:
        revenue["summer" if each.month == "2024-06" else "winter"] += each.quantity * each.unit_price_cents
    assert {row["season"]: row["revenue_cents"] for row in table} == revenue
