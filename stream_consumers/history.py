"""Card windows at a data set's first live transaction, from the days before it."""

from __future__ import annotations

import io
from array import array
from collections.abc import Callable, Collection
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from infra.contracts.datasets import DataSet, day_object
from infra.contracts.features import DAY_US
from infra.objects import ObjectStore
from stream_consumers.card_windows import KEPT_US, CardWindow, Entries

COLUMNS = ["card_id", "event_time", "transaction_id", "amount_cents"]
Cards = dict[str, CardWindow]


def load_history(
    store: ObjectStore,
    data_set: DataSet,
    live_from: datetime,
    shard_of: Callable[[str], int],
    shards: Collection[int],
) -> dict[int, Cards]:
    """The cards of these shards as they are before the first live record.

    `shard_of` gives a card's shard. Days that are not there have no transactions.
    """
    since = live_from - timedelta(microseconds=KEPT_US)
    found: dict[int, Cards] = {shard: {} for shard in shards}
    table = _rows(store, data_set.history("transactions"), since, live_from)
    for card_id, entries in _by_card(table):
        shard = shard_of(card_id)
        if shard in found:
            found[shard][card_id] = CardWindow(entries)
    return found


def _rows(store: ObjectStore, prefix: str, since: datetime, until: datetime) -> pa.Table:
    """All rows with since < event_time < until, in the order of the objects' days."""
    there = {item.url for item in store.list(prefix)}
    days = (since + timedelta(days=day) for day in range(KEPT_US // DAY_US + 1))
    wanted = [day_object(prefix, f"{day:%Y-%m-%d}") for day in days]
    tables = [pq.read_table(io.BytesIO(store.get(url)), columns=COLUMNS) for url in wanted if url in there]
    if not tables:
        return pa.table({name: [] for name in COLUMNS})
    rows = pa.concat_tables(tables)
    times = rows["event_time"]
    return rows.filter(pc.and_(pc.greater(times, pa.scalar(since)), pc.less(times, pa.scalar(until))))


def _by_card(rows: pa.Table) -> list[tuple[str, Entries]]:
    """Each card with its transactions in order of (event_time, transaction_id)."""
    if rows.num_rows == 0:
        return []
    cards = rows["card_id"].combine_chunks().dictionary_encode()
    codes = cards.indices.to_numpy()
    times = rows["event_time"].cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_numpy()
    columns = [times, rows["transaction_id"].to_numpy(), rows["amount_cents"].to_numpy()]
    order = np.lexsort((columns[1], times, codes))
    bounds = np.searchsorted(codes[order], np.arange(len(cards.dictionary) + 1))
    sorted_columns = [column[order].astype("<i8", copy=False) for column in columns]
    return [
        (card_id, Entries(*(array("q", column[first:last].tobytes()) for column in sorted_columns)))
        for card_id, first, last in zip(cards.dictionary.to_pylist(), bounds[:-1], bounds[1:], strict=True)
    ]
