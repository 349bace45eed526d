"""What every warehouse can do, and how it fails."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

import pyarrow as pa

from infra.contracts.errors import UserError

IDENTIFIER = re.compile(r"[a-z_][a-z0-9_]{0,62}")
NO_TABLE = (
    "there is no table to show: write a statement that gives one, as SELECT does (a query is read-only)"
)


class Warehouse(Protocol):
    """SQL tables. `address` says where they are, without any password."""

    address: str

    def load(self, table: str, rows: pa.Table) -> None:
        """Put `rows` in place of table `table`, as a whole; again with the same rows changes nothing.

        A reader sees the old table or the new one. Raises UserError when `table` is not a plain lower-case
        name, or the warehouse can't be reached or refuses.
        """

    def query(self, sql: str) -> pa.Table:
        """The result of one read-only statement. Raises UserError, in one line, when it can't be run."""


class WarehouseUnavailableError(UserError):
    """The warehouse's server does not answer, or not now: the same may work a moment later."""


class TableMismatchError(UserError):
    """A table can't take the rows that are meant for it; somebody has to change one of them."""


def check_name(table: str) -> None:
    """Raise UserError unless `table` is a plain lower-case name."""
    if not IDENTIFIER.fullmatch(table):
        raise UserError(f"{table!r} is no table name: use lower-case letters, digits and _")


def with_tables(text: str, tables: Sequence[str]) -> str:
    """An error's text in one line, followed by the tables that there are."""
    return " ".join(text.split()) + f" (tables: {', '.join(tables) or 'none; run `make batch-job`'})"
