"""Asks the warehouse: `python -m infra.warehouse query "SELECT ..."` prints a table."""

from __future__ import annotations

import click
import pyarrow as pa
from rich.table import Table
from rich.text import Text

from infra.contracts.errors import UserError
from infra.process import run_command
from infra.settings import Settings
from infra.terminal import terminal
from infra.warehouse import open_warehouse

ROWS_SHOWN = 200


def as_table(result: pa.Table) -> Table:
    """A query's result for the terminal: numbers to the right, the first ROWS_SHOWN rows."""
    table = Table()
    for field in result.schema:
        table.add_column(Text(field.name), justify="right" if _is_number(field.type) else "left")
    columns = [column.to_pylist() for column in result.slice(0, ROWS_SHOWN).columns]
    for row in zip(*columns, strict=True):
        table.add_row(*(Text("" if value is None else str(value)) for value in row))
    return table


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


@click.group()
def main() -> None:
    """The SQL warehouse."""


@main.command()
@click.argument("sql", required=False)
def query(sql: str | None) -> None:
    """Run one read-only SQL statement and print its result."""
    if not sql:
        raise UserError('no statement is given; write make query SQL="SELECT * FROM sales_rollup LIMIT 5"')
    result = open_warehouse(Settings.load()).query(sql)
    console, table = terminal(), as_table(result)
    # A table wider than the terminal is wrapped by it, rather than cut by rich.
    widest = console.measure(table, options=console.options.update(width=10_000)).maximum
    console.width = max(console.width, widest)
    console.print(table)
    if result.num_rows > ROWS_SHOWN:
        console.print(f"and {result.num_rows - ROWS_SHOWN} more rows")


if __name__ == "__main__":
    run_command(main)
