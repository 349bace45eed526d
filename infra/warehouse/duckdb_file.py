"""The warehouse as a DuckDB file. The only importer of duckdb."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import duckdb
import pyarrow as pa
from filelock import FileLock, Timeout

from infra.contracts.errors import UserError
from infra.settings import Settings
from infra.warehouse.contract import NO_TABLE, check_name, with_tables

LOCK_WAIT_S = 60


class DuckDBFile:
    """Tables in `<home>/warehouse.duckdb`; see Warehouse.

    DuckDB lets one writer shut out every other process, so the file is opened for one operation at
    a time, under the lock `<home>/warehouse.lock`: a reader sees a table before a load or after it.
    """

    def __init__(self, settings: Settings) -> None:
        self._path = settings.home / "warehouse.duckdb"
        self.address = str(self._path)
        self._lock = FileLock(settings.home / "warehouse.lock", timeout=LOCK_WAIT_S)

    def load(self, table: str, rows: pa.Table) -> None:
        """See Warehouse."""
        check_name(table)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._open(read_only=False) as connection:
            connection.register("incoming", rows)
            connection.execute(f'CREATE OR REPLACE TABLE "{table}" AS SELECT * FROM incoming')

    def query(self, sql: str) -> pa.Table:
        """See Warehouse."""
        if not self._path.exists():
            raise UserError("the warehouse is empty: run `make batch-job` first")
        with self._open(read_only=True) as connection:
            try:
                result = connection.sql(sql)
                if result is None:
                    raise UserError(NO_TABLE)
                return result.to_arrow_table()
            except (duckdb.InternalException, duckdb.FatalException):
                raise
            except duckdb.Error as error:
                raise UserError(self._in_one_line(error, connection)) from error

    @contextmanager
    def _open(self, *, read_only: bool) -> Iterator[duckdb.DuckDBPyConnection]:
        try:
            with self._lock, self._connect(read_only) as connection:
                yield connection
        except Timeout as error:
            raise UserError(f"{self._path} is in use for more than {LOCK_WAIT_S} s; try again") from error

    def _connect(self, read_only: bool) -> duckdb.DuckDBPyConnection:
        # A query reaches nothing but the warehouse: no file (COPY ... TO would write one), no variable.
        config: dict[str, str | bool | int | float | list[str]] = {
            "enable_external_access": not read_only,
            "python_enable_replacements": False,
        }
        try:
            return duckdb.connect(str(self._path), read_only=read_only, config=config)
        except duckdb.IOException as error:
            if "lock" in str(error):
                raise UserError(f"another program has {self._path} open; close it there") from error
            raise

    def _in_one_line(self, error: duckdb.Error, connection: duckdb.DuckDBPyConnection) -> str:
        tables = [str(row[0]) for row in connection.execute("SHOW TABLES").fetchall()]
        return with_tables(str(error).split("\n\nLINE", 1)[0], tables)
