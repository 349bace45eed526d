"""The SQL warehouse, a DuckDB file: load a table, query it. The only importer of duckdb.

`python -m infra.warehouse query "SELECT ..."` prints a table.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import click
import duckdb
import pyarrow as pa
from filelock import FileLock, Timeout
from rich.console import Console
from rich.table import Table
from rich.text import Text

from infra.contracts.errors import UserError
from infra.process import run_command
from infra.settings import Settings

IDENTIFIER = re.compile(r"[a-z_][a-z0-9_]{0,62}")
ROWS_SHOWN = 200
LOCK_WAIT_S = 60


class Warehouse:
    """Tables in `<home>/warehouse.duckdb`.

    DuckDB lets one writer shut out every other process, so the file is opened for one operation at
    a time, under the lock `<home>/warehouse.lock`: a reader sees a table before a load or after it.
    """

    def __init__(self, settings: Settings) -> None:
        self.path = settings.home / "warehouse.duckdb"
        self._lock = FileLock(settings.home / "warehouse.lock", timeout=LOCK_WAIT_S)

    def load(self, table: str, rows: pa.Table) -> None:
        """Put `rows` in place of table `table`, as a whole; again with the same rows changes nothing.

        Raises UserError when `table` is not a plain lower-case name.
        """
        if not IDENTIFIER.fullmatch(table):
            raise UserError(f"{table!r} is no table name: use lower-case letters, digits and _")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._open(read_only=False) as connection:
            connection.register("incoming", rows)
            connection.execute(f'CREATE OR REPLACE TABLE "{table}" AS SELECT * FROM incoming')

    def query(self, sql: str) -> pa.Table:
        """The result of one read-only statement. Raises UserError, in one line, when it can't be run."""
        if not self.path.exists():
            raise UserError("the warehouse is empty: run `make batch-job` first")
        with self._open(read_only=True) as connection:
            try:
                result = connection.sql(sql)
                if result is None:
                    raise UserError(
                        "there is no table to show: write a statement that gives one, as SELECT does"
                    )
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
            raise UserError(f"{self.path} is in use for more than {LOCK_WAIT_S} s; try again") from error

    def _connect(self, read_only: bool) -> duckdb.DuckDBPyConnection:
        # A query reaches nothing but the warehouse: no file (COPY ... TO would write one), no variable.
        config: dict[str, str | bool | int | float | list[str]] = {
            "enable_external_access": not read_only,
            "python_enable_replacements": False,
        }
        try:
            return duckdb.connect(str(self.path), read_only=read_only, config=config)
        except duckdb.IOException as error:
            if "lock" in str(error):
                raise UserError(f"another program has {self.path} open; close it there") from error
            raise

    def _in_one_line(self, error: duckdb.Error, connection: duckdb.DuckDBPyConnection) -> str:
        text = str(error).split("\n\nLINE", 1)[0]
        names = [str(row[0]) for row in connection.execute("SHOW TABLES").fetchall()]
        return " ".join(text.split()) + f" (tables: {', '.join(names) or 'none; run `make batch-job`'})"


def as_table(result: pa.Table) -> Table:
    """A query's result for the terminal: numbers to the right, the first ROWS_SHOWN rows."""
    table = Table()
    for field in result.schema:
        table.add_column(Text(field.name), justify="right" if _is_number(field.type) else "left")
    for row in result.slice(0, ROWS_SHOWN).to_pylist():
        table.add_row(*(Text("" if value is None else str(value)) for value in row.values()))
    return table


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


@click.group()
def main() -> None:
    """The SQL warehouse."""


@main.command()
@click.argument("sql")
def query(sql: str) -> None:
    """Run one read-only SQL statement and print its result."""
    result = Warehouse(Settings.load()).query(sql)
    console, table = Console(), as_table(result)
    # A table wider than the terminal is wrapped by it, rather than cut by rich.
    widest = console.measure(table, options=console.options.update(width=10_000)).maximum
    console.width = max(console.width, widest)
    console.print(table)
    if result.num_rows > ROWS_SHOWN:
        console.print(f"and {result.num_rows - ROWS_SHOWN} more rows")


if __name__ == "__main__":
    run_command(main)
