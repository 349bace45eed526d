"""Loads the published rollup into the warehouse. Needs no Spark session.

spark-submit --py-files millstream.zip spark_jobs/load_warehouse.py --pointer s3://.../latest.json
"""

from __future__ import annotations

import json

import click

from infra.contracts.errors import UserError
from infra.files import Store, address, open_store
from infra.parquet import read_parquet
from infra.process import run_command
from infra.settings import Settings
from infra.warehouse import Warehouse, open_warehouse


def load(store: Store, warehouse: Warehouse, pointer: str, table: str) -> int:
    """Put the rows of the run that `pointer` names in place of `table`; returns their number."""
    try:
        run = json.loads(store.get(pointer))
    except FileNotFoundError as error:
        raise UserError(f"there is no {pointer}: no rollup is published there") from error
    rows = read_parquet(store, run["table"])
    warehouse.load(table, rows)
    return int(rows.num_rows)


@click.command()
@click.option("--pointer", required=True, help="the latest.json of a rollup, s3:// or local")
@click.option("--table", required=True, help="the table to replace")
def main(pointer: str, table: str) -> None:
    """Load the published rollup into the warehouse."""
    settings = Settings.load()
    source = address(pointer)
    warehouse = open_warehouse(settings)
    rows = load(open_store(source, settings), warehouse, source, table)
    click.echo(f"{table}: {rows} rows from {source} in {warehouse.address}")


if __name__ == "__main__":
    run_command(main)
