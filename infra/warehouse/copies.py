"""Appends delivered objects to tables of the warehouse's PostgreSQL, each exactly once.

An object's rows and its key in `millstream_copied` are written by one transaction, so the table says
what was copied: nothing else has to be remembered, and a crash at any moment changes nothing of that.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from infra.contracts.errors import UserError
from infra.settings import Settings
from infra.warehouse.connection import Connection, Cursor, DatabaseFailure, PostgresServer
from infra.warehouse.contract import TableMismatchError, check_name

LEDGER = "millstream_copied"
MAKE_LEDGER = f"""
    CREATE TABLE IF NOT EXISTS {LEDGER} (
        delivery text NOT NULL, object_key text PRIMARY KEY, topic_id text NOT NULL, shard integer NOT NULL,
        first_offset bigint NOT NULL, rows bigint NOT NULL, copied_at timestamptz NOT NULL DEFAULT now()
    )
"""


@dataclass(frozen=True)
class CopiedObject:
    """An object of good records, and the cut of a shard that it belongs to."""

    delivery: str
    url: str
    topic_id: str
    shard: int
    first_offset: int


class WarehouseCopies:
    """The tables that delivered objects are appended to. Safe to use by several processes at once."""

    def __init__(self, settings: Settings) -> None:
        """Raises UserError unless the settings name a PostgreSQL."""
        if not settings.warehouse:
            raise UserError("copies go into PostgreSQL: set MILLSTREAM_WAREHOUSE; a DuckDB file takes none")
        self._server = PostgresServer(settings)
        self.address = self._server.address

    def newest(self, delivery: str) -> dict[tuple[str, int], int]:
        """By topic id and shard, where the newest cut that was copied begins: at least in part.

        Makes the ledger first, unless it is there. Raises WarehouseUnavailableError, UserError.
        """
        sql = f"SELECT topic_id, shard, max(first_offset) FROM {LEDGER} WHERE delivery = $1 GROUP BY 1, 2"
        with self._server.connected() as (connection, cursor):
            try:
                _lock(cursor, LEDGER)
                cursor.execute(MAKE_LEDGER)
                connection.commit()
                found = cursor.execute(sql, (delivery,)).fetchall()
            except DatabaseFailure as error:
                what = f"{LEDGER} of {self.address} can't be used"
                raise self._server.failure(error, what, TableMismatchError) from error
        return {(topic_id, shard): first for topic_id, shard, first in found}

    def copy(self, table: str, item: CopiedObject, rows: pa.Table) -> bool:
        """Append an object's rows, unless that was done; whether they were. Makes the table if there is none.

        A zero byte in a text, which PostgreSQL has not, becomes U+FFFD. Raises TableMismatchError when the
        table can't take the rows, WarehouseUnavailableError, and UserError.
        """
        check_name(table)
        with self._server.connected() as (connection, cursor):
            try:
                _lock(cursor, table)  # two that make the table at once would fail
                sql = f"SELECT 1 FROM {LEDGER} WHERE object_key = $1"
                if cursor.execute(sql, (item.url,)).fetchall():
                    return False
                self._check_columns(connection, cursor, table, rows.schema, item.url)
                cursor.adbc_ingest(LEDGER, _entry(item, rows.num_rows), mode="append")
                cursor.adbc_ingest(table, _without_zero_bytes(rows), mode="create_append")
                connection.commit()
            except DatabaseFailure as error:
                what = f"table {table} of {self.address} can't take {item.url}"
                raise self._server.failure(error, what, TableMismatchError) from error
        return True

    def _check_columns(
        self, connection: Connection, cursor: Cursor, table: str, wanted: pa.Schema, url: str
    ) -> None:
        """The binary COPY that follows would take a number for a time where both have eight bytes."""
        if cursor.execute("SELECT to_regclass($1)::text", (table,)).fetchall() == [(None,)]:
            return
        found = connection.adbc_get_table_schema(table)
        for field in wanted:
            there = found.field(field.name).type if field.name in found.names else "missing"
            if there != field.type:
                raise TableMismatchError(
                    f"table {table} of {self.address} can't take {url}: column {field.name} is {there} "
                    f"in the table and {field.type} in the object; alter or rename the table"
                )


def _lock(cursor: Cursor, name: str) -> None:
    """Held until the transaction ends; loads of the same table hold it too."""
    cursor.execute("SELECT pg_advisory_xact_lock(hashtext($1)) IS NULL", (name,)).fetchall()


def _entry(item: CopiedObject, rows: int) -> pa.Table:
    return pa.table(
        {
            "delivery": [item.delivery],
            "object_key": [item.url],
            "topic_id": [item.topic_id],
            "shard": pa.array([item.shard], pa.int32()),
            "first_offset": [item.first_offset],
            "rows": [rows],
        }
    )


def _without_zero_bytes(rows: pa.Table) -> pa.Table:
    for place, field in enumerate(rows.schema):
        if pa.types.is_string(field.type):
            column = pc.replace_substring(rows.column(place), "\0", "\ufffd")
            rows = rows.set_column(place, field, column)
    return rows
