"""A delivered stream and the PostgreSQL that it is copied to."""

from __future__ import annotations

import threading
from typing import Any

from infra.contracts.copies import DeclaredCopy
from infra.metrics import Metrics
from infra.settings import Settings
from infra.warehouse import open_warehouse
from infra.warehouse.copies import LEDGER, WarehouseCopies
from stream_consumers.copying import Copier
from tests.delivery_stage import Stage, ids


class Copying:
    """The copy of a stage's delivery stream into table `t`."""

    def __init__(self, scene: Stage, settings: Settings, table: str = "t") -> None:
        """`settings` name the warehouse."""
        self.scene, self.settings, self.table = scene, settings, table
        self.metrics = Metrics("test")

    def copier(self) -> Copier:
        """A copier, as a new process has it."""
        copy = DeclaredCopy(self.scene.declared.name, self.table)
        warehouse = WarehouseCopies(self.settings)
        return Copier(copy, self.scene.settings.bucket, self.scene.store, warehouse, self.metrics)

    def catch_up(self) -> None:
        """Copy all that there is, as a new process."""
        self.copier().catch_up(threading.Event().is_set)

    def rows(self) -> list[dict[str, Any]]:
        """The rows of the table."""
        found: list[dict[str, Any]] = self.query(f"SELECT * FROM {self.table}")
        return found

    def query(self, sql: str) -> list[dict[str, Any]]:
        """The rows that a query gives."""
        rows: list[dict[str, Any]] = open_warehouse(self.settings).query(sql).to_pylist()
        return rows

    def copied(self) -> list[str]:
        """The objects that the warehouse says were copied."""
        delivery = self.scene.declared.name
        found = self.query(f"SELECT object_key FROM {LEDGER} WHERE delivery = '{delivery}' ORDER BY 1")
        return [row["object_key"] for row in found]

    def lag(self) -> float:
        """The metric."""
        text = self.metrics.render().decode()
        return float(text.split("millstream_copy_lag_objects{", 1)[1].split("} ", 1)[1].split("\n", 1)[0])

    def check(self, name: str = "transaction_id") -> None:
        """All that was archived is in the table, once, and each object is noted once."""
        assert ids(self.rows(), name) == ids(self.scene.archived(), name)
        assert self.copied() == sorted(url for url in self.scene.objects() if "/errors/" not in url)
