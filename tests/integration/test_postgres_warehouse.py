"""The warehouse in PostgreSQL: types, what a query can't do, one line for each failure, nothing left half."""

from __future__ import annotations

import datetime
import subprocess
import sys
import time
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest

from infra.contracts.errors import UserError
from infra.local.ports import HOST, free_ports
from infra.settings import Settings
from infra.warehouse import open_warehouse, postgres
from infra.warehouse.contract import WarehouseUnavailableError
from tests.postgres import Postgres

NOON = datetime.datetime(2026, 1, 2, 12, tzinfo=datetime.UTC)
TYPES = {
    "cents": (pa.array([2**53 + 1, None]), "bigint"),
    "day": (pa.array([NOON.date(), None]), "date"),
    "at": (pa.array([NOON, None], pa.timestamp("us", tz="UTC")), "timestamp with time zone"),
    "words": (pa.array(["ä", None]), "text"),
    "share": (pa.array([0.1, None]), "double precision"),
    "good": (pa.array([True, None]), "boolean"),
    "small": (pa.array([1, None], pa.int32()), "integer"),
    "reasons": (pa.array([["a", "b"], None]), "ARRAY"),
    "features": (pa.array([[0.5], None]), "ARRAY"),
}
LOADER = """
import pyarrow as pa
from infra.settings import Settings
from infra.warehouse import open_warehouse
warehouse = open_warehouse(Settings.load())
print("ready", flush=True)
while True:
    warehouse.load("t", pa.table({"n": range(300_000)}))
"""


@pytest.fixture
def settings(postgres_server: Postgres, tmp_path: Path) -> Settings:
    """Settings with a database of the test's own."""
    return replace(
        Settings.load({}),
        home=tmp_path,
        warehouse=postgres_server.new_database(),
        warehouse_password=postgres_server.password,
    )


def test_columns_have_the_types_of_their_kind(settings: Settings) -> None:
    """Each type is PostgreSQL's own for it, and comes back as it went in."""
    warehouse, rows = open_warehouse(settings), pa.table({name: each for name, (each, _) in TYPES.items()})
    warehouse.load("t", rows)
    found = warehouse.query(
        "SELECT column_name::text, data_type::text FROM information_schema.columns WHERE table_name = 't'"
    )
    assert {row["column_name"]: row["data_type"] for row in found.to_pylist()} == {
        name: kind for name, (_, kind) in TYPES.items()
    }
    assert warehouse.query("SELECT * FROM t ORDER BY cents").equals(rows)


def test_sums_are_exact_numbers(settings: Settings) -> None:
    """PostgreSQL's numeric, which a sum of whole numbers is too, comes as decimals; NaN as its text."""
    warehouse = open_warehouse(settings)
    warehouse.load("t", pa.table({"cents": [2**62, 2**62, 2**62]}))
    (row,) = warehouse.query(
        "SELECT sum(cents), avg(cents) mean, sum(cents) FILTER (WHERE cents < 0) nothing, 'NaN'::numeric nan"
        " FROM t"
    ).to_pylist()
    assert row == {"sum": Decimal(3 * 2**62), "mean": Decimal(2**62), "nothing": None, "nan": "nan"}


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("INSERT INTO t VALUES (2) RETURNING a", "read-only transaction"),
        ("WITH gone AS (DELETE FROM t RETURNING a) SELECT * FROM gone", "read-only transaction"),
        ("SELECT 1; DROP TABLE t", "multiple commands"),
        ("COMMIT; DROP TABLE t", "multiple commands"),
        ("COMMIT", "no table to show"),
        ("SET TRANSACTION READ WRITE", "no table to show"),
        ("SELECT set_config('transaction_read_only', 'off', false)", "read-write mode must be set before"),
        ("COPY t TO PROGRAM 'touch {home}/stolen.csv'", "no table to show"),
        ("DO $$ BEGIN DELETE FROM t; END $$", "no table to show"),
        ("EXPLAIN SELECT 1", "no table to show"),
        ("-- nothing", "no table to show"),
        ("SELECT b FROM t", r'column "b" does not exist \(tables: t\)'),
        ("SELECT 1 / (a - 1) FROM t", "division by zero"),
        ("SELECT pg_sleep(60)", "took more than"),
    ],
)
def test_a_query_only_reads(settings: Settings, monkeypatch: pytest.MonkeyPatch, sql: str, says: str) -> None:
    """Also as a superuser; what is wrong is said in one line."""
    if "pg_sleep" in sql:
        monkeypatch.setattr(postgres, "QUERY_WITHIN_S", 1)
    warehouse = open_warehouse(settings)
    warehouse.load("t", pa.table({"a": [1]}))
    settings.home.chmod(0o777)
    with pytest.raises(UserError, match=says) as error:
        warehouse.query(sql.format(home=settings.home))
    assert "\n" not in str(error.value)
    assert not (settings.home / "stolen.csv").exists()
    assert warehouse.query("SELECT a FROM t").to_pylist() == [{"a": 1}]


def test_a_view_on_a_table_is_not_lost_in_silence(settings: Settings, postgres_server: Postgres) -> None:
    """A load that would have to drop it is refused, names it, and leaves all as it was."""
    warehouse, database = open_warehouse(settings), settings.warehouse.rsplit("/", 1)[1]
    warehouse.load("t", pa.table({"a": [1]}))
    postgres_server.sql("CREATE VIEW v AS SELECT a FROM t", database)
    with pytest.raises(
        UserError, match=r"table t of .* was not loaded: .*view v depends on table t"
    ) as error:
        warehouse.load("t", pa.table({"a": [2]}))
    assert "\n" not in str(error.value)
    assert warehouse.query("SELECT a FROM v").to_pylist() == [{"a": 1}]


def test_a_killed_load_leaves_nothing(settings: Settings, postgres_server: Postgres) -> None:
    """SIGKILL at any moment of loads: the table is whole and there is no other."""
    database = settings.warehouse.rsplit("/", 1)[1]
    warehouse = open_warehouse(settings)
    warehouse.load("t", pa.table({"n": range(300_000)}))
    for delay in range(4):
        command = [sys.executable, "-c", LOADER]
        with subprocess.Popen(command, env=settings.environment(), stdout=subprocess.PIPE) as loader:
            assert loader.stdout is not None
            loader.stdout.readline()
            time.sleep(0.15 * delay)  # a different moment of a load each time, whichever it is
            loader.kill()
        assert warehouse.query("SELECT count(*) n FROM t").to_pylist() == [{"n": 300_000}]
    while postgres_server.sql(
        "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
        database,
    ):
        time.sleep(0.05)  # the server notices that its client is gone
    tables = "SELECT table_name::text FROM information_schema.tables WHERE table_schema = 'public'"
    assert postgres_server.sql(tables, database) == [("t",)]


@pytest.mark.parametrize(
    ("url", "password", "says"),
    [
        (f"postgresql://millstream@{HOST}:{{port}}/postgres", "sesame", "password is wrong or missing"),
        (f"postgresql://millstream@{HOST}:{{port}}/postgres", "", "password is wrong or missing"),
        (f"postgresql://millstream@{HOST}:{{port}}/none", "{password}", 'database "none" does not exist'),
        (f"postgresql://millstream@{HOST}:{{free}}/postgres", "sesame", "can't be reached"),
        ("postgresql://millstream:sesame@host/postgres", "", "holds a password"),
        ("postgresql://millstream@host/postgres?password=sesame", "", "holds a password"),
        ("mysql://millstream@host/postgres", "sesame", "must be postgresql://"),
        ("postgresql://millstream@host:sesame/postgres", "", "must be postgresql://"),
        ("sesame", "sesame", "must be postgresql://"),
    ],
)
def test_a_warehouse_that_cannot_be_entered_is_one_line(
    postgres_server: Postgres, tmp_path: Path, url: str, password: str, says: str
) -> None:
    """No password is told, neither by the error nor by the settings."""
    (free,) = free_ports(1)
    settings = replace(
        Settings.load({}),
        home=tmp_path,
        warehouse=url.format(port=postgres_server.port, free=free),
        warehouse_password=password.format(password=postgres_server.password),
    )
    command = [sys.executable, "-m", "infra.warehouse", "query", "SELECT 1"]
    answer = subprocess.run(command, env=settings.environment(), capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stdout, answer.stderr.count("\n")) == (2, "", 1)
    assert says in answer.stderr
    assert "sesame" not in answer.stderr
    assert postgres_server.password not in answer.stderr + repr(settings)


def test_a_server_that_goes_away_is_told_from_a_mistake(
    settings: Settings, postgres_server: Postgres
) -> None:
    """What may work later has a type of its own."""
    (free,) = free_ports(1)
    with pytest.raises(WarehouseUnavailableError, match="can't be reached"):
        open_warehouse(replace(settings, warehouse=f"postgresql://millstream@{HOST}:{free}/x")).query(
            "SELECT 1"
        )
    with pytest.raises(WarehouseUnavailableError, match="no answer from"):
        open_warehouse(settings).query("SELECT pg_terminate_backend(pg_backend_pid())")
