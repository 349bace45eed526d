"""Terminals' tables as batch jobs published them: loaded from S3 beside the loop, looked up in it."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from infra.contracts.datasets import DataSet
from infra.contracts.features import EPOCH, TerminalRow
from infra.objects import ObjectStore

COLUMNS = ("count_1", "count_7", "count_30", "frauds_1", "frauds_7", "frauds_30", "light_streak_age")
NOTHING = TerminalRow(*[0] * len(COLUMNS))
HELD = 16
"""Tables in memory; shards that are not at the same event time use different ones."""


class TerminalTable:
    """The terminals as of one time (UTC)."""

    def __init__(self, as_of: datetime, terminals: pa.Table) -> None:
        """`terminals` has terminal_id and COLUMNS, one row each."""
        self.as_of = as_of
        ids = terminals.column("terminal_id").to_pylist()
        self._index = dict(zip(ids, range(len(ids)), strict=True))
        self._rows = np.column_stack([terminals.column(name).to_numpy() for name in COLUMNS])

    def row(self, terminal_id: str) -> TerminalRow:
        """A terminal's row; zeros for one that the table lacks."""
        index = self._index.get(terminal_id)
        return NOTHING if index is None else TerminalRow._make(self._rows[index].tolist())


class TerminalTables:
    """The tables of a data set. `get` is for the loop and never waits; `refresh` loads what it asked for."""

    def __init__(self, store: ObjectStore, data_set: DataSet, wake: Callable[[], None]) -> None:
        """`wake` is called when there is something for `refresh` to do."""
        self._store, self._data_set, self._wake = store, data_set, wake
        self._lock = threading.Lock()
        self._tables: OrderedDict[int, TerminalTable] = OrderedDict()  # by as-of time, last used last
        self._wanted: set[int] = set()
        self._ahead: int | None = None

    def get(self, as_of_us: int, step_us: int) -> TerminalTable | None:
        """The table of an as-of time (microseconds since 1970), or None while it is not here.

        It and the next one, `step_us` later, are loaded then, as soon as they are published.
        """
        with self._lock:
            table = self._tables.get(as_of_us)
            asked = self._wanted if table is None else ()
            news = (table is None and as_of_us not in asked) or self._ahead != as_of_us + step_us
            self._ahead = as_of_us + step_us
            if table is None:
                self._wanted.add(as_of_us)
            else:
                self._tables.move_to_end(as_of_us)
        if news:
            self._wake()
        return table

    def refresh(self) -> None:
        """Load the tables that are wanted and published. Raises the store's errors."""
        with self._lock:
            ahead = set() if self._ahead is None else {self._ahead}
            missing = sorted((self._wanted | ahead) - set(self._tables))
        for as_of_us in missing:
            table = self._load(as_of_us)
            if table is not None:
                self._hold(as_of_us, table)

    def _load(self, as_of_us: int) -> TerminalTable | None:
        as_of = EPOCH + timedelta(microseconds=as_of_us)
        try:
            body = self._store.get(self._data_set.terminal_table(as_of))
        except FileNotFoundError:
            return None
        return TerminalTable(as_of, pq.read_table(io.BytesIO(body)))

    def _hold(self, as_of_us: int, table: TerminalTable) -> None:
        with self._lock:
            self._tables[as_of_us] = table
            self._wanted.discard(as_of_us)
            while len(self._tables) > HELD:
                self._tables.popitem(last=False)
