"""The batch story as `make batch-job` tells it: real servers, a real cluster, a report that is true."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from infra.local.servers import servers
from infra.objects import ObjectStore
from infra.settings import ROOT, Settings
from infra.warehouse import open_warehouse
from producers.sales_patterns import expected_index
from tests.cluster_cases import WITHIN_S

pytestmark = pytest.mark.timeout(1200)
SMALL = ("--core", "1", "--task", "0")


def batch_job(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the story as the Makefile does."""
    return subprocess.run(
        [sys.executable, "-m", "infra.stories.batch_job", *arguments],
        env=settings.environment(),
        cwd=ROOT,
        text=True,
        capture_output=True,
        timeout=2 * WITHIN_S,
    )


def figures(settings: Settings, done: subprocess.CompletedProcess[str]) -> Mapping[str, Any]:
    """The report.json of a run that went well; the last line that it printed names the page beside it."""
    assert done.returncode == 0, done.stdout + done.stderr
    page = Path(done.stdout.splitlines()[-1].removeprefix("report: "))
    assert page.is_file()
    latest = settings.home / "reports" / "batch-job" / "latest"
    assert latest.resolve() == page.parent.resolve()
    found: dict[str, Any] = json.loads((page.parent / "report.json").read_text())
    return found


def test_the_generated_sales_show_what_was_planted(home_settings: Settings) -> None:
    """From nothing to a report: the cluster ends itself, the findings are those of the planted table."""
    done = batch_job(home_settings, "--rows", "200000", *SMALL)
    report = figures(home_settings, done)
    assert report["state"] == "TERMINATED"
    assert [step["state"] for step in report["steps"]] == ["COMPLETED", "COMPLETED"]
    assert (report["rows_read"], report["rows_used"], report["rows_rejected"]) == (200_000, 200_000, 0)
    assert set(report["seconds"]) == {"setup", "data", "cluster_start", "steps", "total"}
    assert 0 < report["cost"]["on_demand_usd"] < report["cost"]["always_on_month_usd"]
    assert report["peak_memory_mb"] > 0
    rows = open_warehouse(home_settings).query(
        "SELECT category, region, season, avg(seasonal_index) AS index, sum(revenue_cents) AS cents, "
        "count(*) AS years FROM sales_rollup GROUP BY ALL"
    )
    found = rows.to_pylist()
    assert sum(row["cents"] for row in found) == report["revenue_cents"]
    assert report["groups"] == report["warehouse"]["rows"] == sum(row["years"] for row in found)
    for row in found:
        truth = expected_index(row["category"], row["region"])[row["season"]]
        # 200,000 sales are about 250 a group and year: a few per cent each, over five years.
        assert row["index"] == pytest.approx(truth, rel=0.15), row
    with servers(home_settings) as live:
        store = ObjectStore(live)
        success = json.loads(store.get(f"{report['output']}_SUCCESS"))
        assert success["committer"] == "magic"
        logs = [item.url for item in store.list(report["logs"])]
        for step in report["steps"]:
            for name in ("controller", "stdout", "stderr"):
                assert f"{report['logs']}steps/{step['id']}/{name}.gz" in logs


ORDERS = """Order Date,Category,Region,Quantity,Sales
03/15/2024,Chairs,"North, upper",2,"1,234.565"
03/16/2024,Chairs,"North, upper",1,-0.005
12/31/2023,Desks,South,3,99.995
01/31/2024,"The ""best"" desks",South,1,0.1
02/30/2024,Desks,South,1,10.00
02/01/2024,Desks,South,1,ten
02/01/2024,,South,1,10.00
"""


def test_data_of_ones_own_is_exact(home_settings: Settings, tmp_path: Path) -> None:
    """A CSV with other names for its columns: equal to decimals to the cent, bad rows kept with reasons."""
    path = tmp_path / "my orders.csv"
    path.write_text(ORDERS)
    columns = "sold_at=Order Date,category=Category,region=Region,quantity=Quantity,amount=Sales"
    done = batch_job(home_settings, "--input", str(path), "--columns", columns, *SMALL)
    report = figures(home_settings, done)
    assert (report["rows_read"], report["rows_used"], report["rows_rejected"]) == (7, 4, 3)
    assert sum(report["rejected_reasons"].values()) == 3
    good = [Decimal("1234.565"), Decimal("-0.005"), Decimal("99.995"), Decimal("0.1")]
    cents = [int((amount * 100).quantize(Decimal(1), ROUND_HALF_UP)) for amount in good]
    assert report["revenue_cents"] == sum(cents)
    # The same in DuckDB, over the decimals of the file itself.
    relation = duckdb.sql(
        "SELECT Category, "
        "sum(CAST(round(CAST(replace(Sales, ',', '') AS DECIMAL(18, 4)), 2) * 100 AS BIGINT)) "
        f"FROM read_csv('{path}', all_varchar=true) WHERE Sales <> 'ten' AND Category <> '' "
        "AND \"Order Date\" <> '02/30/2024' GROUP BY ALL ORDER BY ALL"
    )
    assert relation is not None
    rolled_up = open_warehouse(home_settings).query(
        "SELECT category, sum(revenue_cents)::BIGINT FROM sales_rollup GROUP BY ALL ORDER BY ALL"
    )
    assert [tuple(row.values()) for row in rolled_up.to_pylist()] == relation.fetchall()


def test_a_missing_column_is_one_line(home_settings: Settings, tmp_path: Path) -> None:
    """A user's mistake comes through from the step: what is missing, what there is, exit code 2."""
    path = tmp_path / "orders.csv"
    path.write_text(ORDERS)
    columns = "sold_at=Date,category=Category,region=Region,amount=Sales"
    done = batch_job(home_settings, "--input", str(path), "--columns", columns, *SMALL)
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    assert "'Date'" in last
    assert "Order Date" in last


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--month", "2026-13"), "MONTH=2026-13"),
        (("--input", "/nowhere/at.csv"), "does not exist"),
        (("--rows", "0"), "ROWS"),
        (("--month", "2026-10", "--rows", "5"), "leave out ROWS"),
        (("--columns", "sold_at=a"), "INPUT"),
        (("--core", "x"), "x"),
    ],
)
def test_wrong_options_start_nothing(home_settings: Settings, arguments: tuple[str, ...], word: str) -> None:
    """What can't be meant is refused before any server starts."""
    done = batch_job(home_settings, *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert word in done.stderr
    assert not home_settings.home.exists()


@pytest.mark.slow
def test_a_month_again_gives_the_same_table(home_settings: Settings) -> None:
    """MONTH= reads one season of the lake and publishes what the full run did."""
    first = figures(home_settings, batch_job(home_settings, "--rows", "100000", *SMALL))
    everything = "SELECT * FROM sales_rollup ORDER BY ALL"
    before = open_warehouse(home_settings).query(everything)
    again = figures(home_settings, batch_job(home_settings, "--month", "2026-10", *SMALL))
    assert again["mode"] == "month"
    assert 0 < again["rows_read"] < first["rows_read"] / 10
    assert again["revenue_cents"] == first["revenue_cents"]
    assert open_warehouse(home_settings).query(everything).equals(before)
