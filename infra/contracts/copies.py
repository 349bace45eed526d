"""Declared copies: which delivery streams go into the warehouse too, each into a table.

Firehose's RedshiftDestinationConfiguration can't say it: its S3Configuration has neither Parquet nor
dynamic partitioning, so the archive would not be the same.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from infra.contracts.datasets import DataSet
from infra.contracts.errors import UserError


@dataclass(frozen=True)
class DeclaredCopy:
    """What `delivery` writes to S3 is appended to `table`."""

    delivery: str
    table: str

    def of(self, data_set: DataSet) -> DeclaredCopy:
        """The same for a data set, which has tables of its own."""
        table = f"{self.table}_{data_set.id}" if data_set.id else self.table
        return DeclaredCopy(data_set.stream(self.delivery), table)


def declared_copies(declarations: Mapping[str, str], deliveries: Collection[str]) -> list[DeclaredCopy]:
    """The copies of warehouse_copies.json: a table's name by the name of a delivery stream.

    Raises UserError for a delivery stream that is not one of `deliveries`, or two copies into one table.
    """
    copies = [DeclaredCopy(delivery, table) for delivery, table in declarations.items()]
    tables = [copy.table for copy in copies]
    for copy in copies:
        if copy.delivery not in deliveries:
            known = ", ".join(sorted(deliveries))
            raise UserError(
                f"warehouse_copies.json: there is no delivery stream {copy.delivery!r}; there are {known}"
            )
        if tables.count(copy.table) > 1:
            raise UserError(f"warehouse_copies.json: two delivery streams go into table {copy.table}")
    return copies
