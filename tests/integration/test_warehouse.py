"""The warehouse: atomic loads, readers beside a loader, errors in one line."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.contracts.errors import UserError
from infra.files import LocalFiles, address, below
from infra.settings import Settings
from infra.warehouse import Warehouse, open_warehouse
from infra.warehouse.__main__ import ROWS_SHOWN
from spark_jobs.load_warehouse import load
from tests.postgres import Postgres

LOADS, ROWS = 12, 2000
# The file's lock is asked for every 0.05 s: each side leaves it alone for long enough that the other gets it.
LOADER = f"""
import sys, time
import pyarrow as pa
from infra.settings import Settings
from infra.warehouse import open_warehouse
warehouse = open_warehouse(Settings.load())
for n in range({LOADS}):
    warehouse.load("t", pa.table({{"n": [n] * {ROWS}}}))
    time.sleep(0.06)
sys.stdin.read()
"""


@pytest.fixture(params=["duckdb", "postgres"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Settings with a warehouse of their own, of each kind."""
    own = replace(Settings.load({}), home=tmp_path / "home")
    if request.param == "duckdb":
        return own
    server: Postgres = request.getfixturevalue("postgres_server")
    return replace(own, warehouse=server.new_database(), warehouse_password=server.password)


@pytest.fixture
def warehouse(settings: Settings) -> Warehouse:
    """An empty warehouse."""
    return open_warehouse(settings)


def _query(settings: Settings, sql: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "infra.warehouse", "query", sql]
    return subprocess.run(command, env=settings.environment(), capture_output=True, text=True, check=False)


def test_a_load_replaces_the_table(warehouse: Warehouse) -> None:
    """The second load is there as a whole, other columns included; the same again changes nothing."""
    warehouse.load("t", pa.table({"a": [1, 2, 3]}))
    for _ in range(2):
        warehouse.load("t", pa.table({"b": [4, None], "c": ["x", "y"]}))
        result = warehouse.query("SELECT * FROM t ORDER BY c")
        assert result.to_pylist() == [{"b": 4, "c": "x"}, {"b": None, "c": "y"}]


def test_columns_of_one_name_are_all_shown(settings: Settings) -> None:
    """Each value under its own heading, as a join may have several of a name."""
    open_warehouse(settings).load("t", pa.table({"a": [1]}))
    done = _query(settings, "SELECT x.a, y.a, 7 AS c FROM (SELECT 1 AS a) x, (SELECT 2 AS a) y")
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert ["│", "1", "│", "2", "│", "7", "│"] in rows


def test_a_failed_load_leaves_the_table(warehouse: Warehouse) -> None:
    """What can't be stored does not cost what was stored before."""
    warehouse.load("t", pa.table({"a": [1]}))
    with pytest.raises(UserError, match="no table name"):
        warehouse.load('t"; DROP TABLE t; --', pa.table({"a": [2]}))
    with pytest.raises((duckdb.Error, UserError)):
        # DuckDB has no half floats, PostgreSQL no zero byte in a text.
        warehouse.load("t", pa.table({"a": pa.array([2], pa.float16()), "b": ["\0"]}))
    assert warehouse.query("SELECT a FROM t").to_pylist() == [{"a": 1}]


def test_readers_see_whole_tables_while_another_process_loads(
    warehouse: Warehouse, settings: Settings
) -> None:
    """No reader fails, is shut out or sees rows of two loads, or only some of one."""
    warehouse.load("t", pa.table({"n": [-1] * ROWS}))
    seen = set()
    with subprocess.Popen(
        [sys.executable, "-c", LOADER], env=settings.environment(), stdin=subprocess.PIPE
    ) as loader:
        try:
            while LOADS - 1 not in seen:
                assert loader.poll() is None
                (row,) = warehouse.query("SELECT min(n) low, max(n) high, count(*) rows FROM t").to_pylist()
                assert row["low"] == row["high"]
                assert row["rows"] == ROWS
                seen.add(row["low"])
                time.sleep(0.02)
            loader.communicate(timeout=60)
        finally:
            loader.terminate()
    assert loader.returncode == 0
    assert warehouse.query("SELECT DISTINCT n FROM t").to_pylist() == [{"n": LOADS - 1}]
    assert len(seen) > 1


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("SELEC 1", "syntax error"),
        ("SELECT * FROM nothing", r"nothing\"? does not exist.*\(tables: t\)"),
        ("DROP TABLE t", "read-only"),
        ("INSERT INTO t VALUES (2)", "read-only"),
        ("COPY t TO '{home}/stolen.csv'", "disabled|read-only"),
        ("SELECT * FROM '/etc/passwd'", "."),
        ("", "no table to show"),
    ],
)
def test_a_wrong_query_is_one_line(warehouse: Warehouse, settings: Settings, sql: str, says: str) -> None:
    """Nothing but reading the warehouse is possible, and the reason is given in one line."""
    warehouse.load("t", pa.table({"a": [1]}))
    with pytest.raises(UserError, match=says) as error:
        warehouse.query(sql.format(home=settings.home))
    assert "\n" not in str(error.value)
    assert warehouse.query("SELECT a FROM t").to_pylist() == [{"a": 1}]
    assert not (settings.home / "stolen.csv").exists()


def test_the_command_line_prints_a_table(warehouse: Warehouse, settings: Settings) -> None:
    """Text is printed as it is, brackets too; beyond ROWS_SHOWN rows only their number."""
    warehouse.load(
        "t", pa.table({"name": ["[red]"] * (ROWS_SHOWN + 5), "x_cents": [12345] * (ROWS_SHOWN + 5)})
    )
    answer = _query(settings, "SELECT * FROM t")
    assert answer.returncode == 0, answer.stderr
    assert "[red]" in answer.stdout
    assert answer.stdout.count("12345") == ROWS_SHOWN
    assert answer.stdout.endswith("and 5 more rows\n")


def test_a_wide_table_is_not_cut(warehouse: Warehouse, settings: Settings) -> None:
    """Every name and value is printed in full, also where the terminal is narrow."""
    names = [f"a_column_with_a_long_name_{n}" for n in range(8)]
    warehouse.load("t", pa.table({name: [f"value of {name}"] for name in names}))
    answer = _query(settings, "SELECT * FROM t")
    assert all(f" {name} " in answer.stdout and f" value of {name} " in answer.stdout for name in names)


def test_without_a_table_it_says_what_to_do(settings: Settings) -> None:
    """Before the first batch job there is one line and exit code 2."""
    answer = _query(settings, "SELECT * FROM sales_rollup")
    assert (answer.returncode, answer.stdout) == (2, "")
    assert re.fullmatch(r"error: [^\n]*run `make batch-job`[^\n]*\n", answer.stderr)


def test_load_takes_the_run_that_the_pointer_names(warehouse: Warehouse, tmp_path: Path) -> None:
    """The table's Parquet files, and no others, become the warehouse's table."""
    store, root = LocalFiles(), address(str(tmp_path))
    part = io.BytesIO()
    pq.write_table(pa.table({"a": [1, 2]}), part)
    store.put(below(root, "r1/table/part-0.parquet"), part.getvalue())
    store.put(below(root, "r1/table/_SUCCESS"), b"")
    store.put(below(root, "latest.json"), json.dumps({"table": below(root, "r1/table/")}).encode())
    assert load(store, warehouse, below(root, "latest.json"), "sales_rollup") == 2
    assert warehouse.query("SELECT sum(a) s FROM sales_rollup").to_pylist() == [{"s": 3}]
    with pytest.raises(UserError, match="no rollup is published"):
        load(store, warehouse, below(root, "other.json"), "sales_rollup")
