"""The warehouse in PostgreSQL: load a table in place of one, query in a read-only transaction."""

from __future__ import annotations

import secrets

import pyarrow as pa

from infra.contracts.errors import UserError
from infra.settings import Settings
from infra.warehouse.answers import plain
from infra.warehouse.connection import Cursor, DatabaseFailure, PostgresServer, in_words, is_passing
from infra.warehouse.contract import NO_TABLE, check_name, with_tables

QUERY_WITHIN_S = 60
LOCK_WAIT_S = 60
SYNTAX_ERROR, TIMED_OUT = "42601", "57014"
WRONG = "42"
"""How the SQLSTATE of a statement that is wrong itself begins: syntax, names, types, permissions."""
TABLES = """
    SELECT table_name::text FROM information_schema.tables
    WHERE table_schema = ANY(current_schemas(false)) ORDER BY 1
"""


class PostgresWarehouse:
    """Tables in a PostgreSQL database; see Warehouse."""

    def __init__(self, settings: Settings) -> None:
        """Raises UserError for an address that is none."""
        self._server = PostgresServer(settings)
        self.address = self._server.address

    def load(self, table: str, rows: pa.Table) -> None:
        """See Warehouse. One transaction makes, fills and renames a table: a crash leaves nothing of it."""
        check_name(table)
        incoming = f"millstream_load_{secrets.token_hex(8)}"
        with self._server.connected() as (connection, cursor):
            try:
                cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_WAIT_S}s'")
                # One load of a table at a time; the lock ends with the transaction.
                cursor.execute(f"SELECT pg_advisory_xact_lock(hashtext('{table}')) IS NULL").fetchall()
                cursor.adbc_ingest(incoming, rows, mode="create")
                cursor.execute(f'DROP TABLE IF EXISTS "{table}"')
                cursor.execute(f'ALTER TABLE "{incoming}" RENAME TO "{table}"')
                connection.commit()
            except DatabaseFailure as error:
                raise self._server.failure(
                    error, f"table {table} of {self.address} was not loaded"
                ) from error

    def query(self, sql: str) -> pa.Table:
        """See Warehouse. It may take up to QUERY_WITHIN_S seconds."""
        if not sql.strip():
            raise UserError(NO_TABLE)
        with self._server.connected() as (connection, cursor):
            try:
                cursor.execute("SET TRANSACTION READ ONLY")
                cursor.execute(f"SET LOCAL statement_timeout = '{QUERY_WITHIN_S}s'")
                return _answer(cursor, sql)
            except DatabaseFailure as error:
                if is_passing(error):
                    raise self._server.failure(error, f"no answer from {self.address}") from error
                connection.rollback()
                raise UserError(_in_one_line(error, cursor)) from error


def _answer(cursor: Cursor, sql: str) -> pa.Table:
    """The statement's table. One without columns is not run at all: COPY could write a file of the server's.

    It is prepared first, which refuses a second statement and locks the tables; so the snapshot that it
    reads by is newer than a load that it had to wait for.
    """
    if not cursor.adbc_execute_schema(sql).names:
        raise UserError(NO_TABLE)
    try:
        # ADBC runs it inside COPY (...) TO STDOUT, which takes queries only.
        cursor.execute(sql)
    except DatabaseFailure as error:
        if error.sqlstate == SYNTAX_ERROR:
            raise UserError(NO_TABLE) from error
        raise
    return plain(cursor.fetch_arrow_table())


def _in_one_line(error: DatabaseFailure, cursor: Cursor) -> str:
    state = error.sqlstate or ""
    if state == TIMED_OUT:
        return f"the query took more than {QUERY_WITHIN_S} s and was ended; ask for less"
    if state.startswith(WRONG):
        return with_tables(in_words(error), [str(row[0]) for row in cursor.execute(TABLES).fetchall()])
    return in_words(error)
