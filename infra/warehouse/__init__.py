"""The SQL warehouse: load a table, query it, append what was delivered. PostgreSQL or a DuckDB file."""

from __future__ import annotations

from infra.settings import Settings
from infra.warehouse.contract import Warehouse
from infra.warehouse.duckdb_file import DuckDBFile
from infra.warehouse.postgres import PostgresWarehouse

__all__ = ["Warehouse", "open_warehouse"]


def open_warehouse(settings: Settings) -> Warehouse:
    """The warehouse that the settings give; nothing is opened before it is used.

    Raises UserError for an address that is none.
    """
    return PostgresWarehouse(settings) if settings.warehouse else DuckDBFile(settings)
