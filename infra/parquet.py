"""Reads the Parquet files below an address into one Arrow table."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq

from infra.contracts.errors import UserError
from infra.files import Store


def read_parquet(store: Store, prefix: str) -> pa.Table:
    """All Parquet files below `prefix` as one table, in order of address.

    Files whose name begins with _ or . are not data. Raises UserError when there are none.
    """
    urls = [item.url for item in store.list(prefix) if _is_data(item.url)]
    if not urls:
        raise UserError(f"there is no Parquet file below {prefix}")
    return pa.concat_tables([pq.read_table(io.BytesIO(store.get(url))) for url in urls])


def _is_data(url: str) -> bool:
    name = url.rsplit("/", 1)[1]
    return name.endswith(".parquet") and not name.startswith(("_", "."))
