"""Put five years of generated retail sales into S3, in place of all that lies under sales/.

The manifest is the commit: it is deleted before anything else and written after everything else, so
where there is one, the objects beside it are whole. `python -m producers.sales --rows N --seed S`.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import pyarrow as pa
import pyarrow.parquet as pq

from infra.contracts.errors import UserError
from infra.objects import ObjectStore, open_bucket
from infra.process import run_command
from infra.progress import progress
from infra.settings import Settings
from infra.terminal import terminal
from producers.sales_rows import BLOCK_ROWS, SCHEMA, VERSION, Month, generate_month, plan
from producers.sales_stream import play_sales

MANIFEST = "_generated.json"
GROUP_BLOCKS = 64  # a row group of a million rows: what a writer holds in memory, some 40 MB
PART_BLOCKS = 1024  # 16.8 million rows, 67 MB
WRITERS = 2
IN_ORDER = ("sale_id", "sold_at")

Update = Callable[[float, str], None]


@dataclass(frozen=True)
class Manifest:
    """What lies under sales/, as its manifest says: `bytes` and `files` count the data only."""

    rows: int
    seed: int
    version: int
    first_month: str
    last_month: str
    bytes: int
    files: int


@dataclass(frozen=True)
class Part:
    """One object to be: some blocks of a month."""

    month: Month
    blocks: range
    number: int

    @property
    def key(self) -> str:
        """Its key below sales/."""
        return f"month={self.month.label}/part-{self.number:05}.parquet"

    @property
    def rows(self) -> int:
        """Its number of rows: whole blocks, except for the month's last."""
        return min(self.blocks.stop * BLOCK_ROWS, self.month.rows) - self.blocks.start * BLOCK_ROWS


def parts(rows: int) -> list[Part]:
    """The objects of a plan, in order of time. A month without rows has none."""
    return [
        Part(month, month.blocks[first : first + PART_BLOCKS], number)
        for month in plan(rows)
        for number, first in enumerate(range(0, len(month.blocks), PART_BLOCKS))
    ]


def find_generated(store: ObjectStore, prefix: str, rows: int, seed: int) -> Manifest | None:
    """The manifest under a prefix, if it is of these rows, seed and VERSION and its objects are there."""
    try:
        found = json.loads(store.get(prefix + MANIFEST))
    except FileNotFoundError:
        return None
    if not {"rows": rows, "seed": seed, "version": VERSION}.items() <= found.items():
        return None
    manifest = Manifest(**found)
    sizes = [item.size for item in store.list(prefix) if item.url != prefix + MANIFEST]
    return manifest if (len(sizes), sum(sizes)) == (manifest.files, manifest.bytes) else None


def replace_sales(store: ObjectStore, prefix: str, rows: int, seed: int, update: Update) -> Manifest:
    """Replace all objects under a prefix by generated ones. Whatever stops it, no manifest is left."""
    store.delete([prefix + MANIFEST])
    store.delete_prefix(prefix)
    planned = parts(rows)
    manifest = Manifest(
        rows=rows,
        seed=seed,
        version=VERSION,
        first_month=planned[0].month.label,
        last_month=planned[-1].month.label,
        bytes=_write_parts(store, prefix, planned, seed, update),
        files=len(planned),
    )
    store.put(prefix + MANIFEST, json.dumps(asdict(manifest)).encode(), "application/json")
    return manifest


def write_parquet(path: Path, part: Part, seed: int) -> None:
    """Write one part as a Parquet file of SCHEMA, holding one row group at a time.

    Snappy: strings, prices and quantities are dictionary codes and the two ascending columns are
    deltas, about 5 bytes a row; zstd saves a tenth of that and costs more to read.
    """
    coded = [name for name in SCHEMA.names if name not in IN_ORDER]
    deltas = dict.fromkeys(IN_ORDER, "DELTA_BINARY_PACKED")
    with pq.ParquetWriter(
        path, SCHEMA, compression="snappy", use_dictionary=coded, column_encoding=deltas
    ) as writer:
        for first in range(0, len(part.blocks), GROUP_BLOCKS):
            blocks = part.blocks[first : first + GROUP_BLOCKS]
            table = pa.Table.from_batches(generate_month(part.month, seed, blocks))
            writer.write_table(table, row_group_size=len(table))


def _write_parts(store: ObjectStore, prefix: str, planned: list[Part], seed: int, update: Update) -> int:
    """Write all parts, WRITERS at a time; returns their size in bytes."""
    rows = sum(part.rows for part in planned)
    size = done = 0
    with (
        tempfile.TemporaryDirectory(prefix="millstream-sales-") as folder,
        ThreadPoolExecutor(WRITERS) as pool,
    ):
        try:
            work = {
                pool.submit(_write_part, store, prefix, part, seed, Path(folder)): part for part in planned
            }
            for future in as_completed(work):
                size += future.result()
                done += work[future].rows
                update(done / rows, f"{done:,} of {rows:,} rows")
        finally:
            pool.shutdown(cancel_futures=True)  # after a failure the parts that wait are not begun
    return size


def _write_part(store: ObjectStore, prefix: str, part: Part, seed: int, folder: Path) -> int:
    path = folder / part.key.replace("/", "-")
    write_parquet(path, part, seed)
    store.put_file(prefix + part.key, path)
    size = path.stat().st_size
    path.unlink()
    return size


def open_store(settings: Settings) -> ObjectStore:
    """The S3 server of the settings. Raises UserError if there is none, or not with the bucket."""
    if not settings.s3_endpoint:
        raise UserError("no S3 server is given: use `make batch-job`, or set AWS_ENDPOINT_URL_S3")
    return open_bucket(settings)


@click.command()
@click.option("--rows", type=click.IntRange(1, 2_000_000_000), default=2_000_000, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=7, show_default=True, help="same seed, same rows")
@click.option("--stream", is_flag=True, help="play them into the stream `sales` instead")
@click.option(
    "--rate", type=click.FloatRange(0.1, 1_000_000), default=100, show_default=True, help="sales a second"
)
@click.option("--seconds", type=click.FloatRange(0.1), help="how long; without it until all are played")
def main(rows: int, seed: int, stream: bool, rate: float, seconds: float | None) -> None:
    """Replace s3://BUCKET/sales/ by generated sales, unless just these are there already."""
    settings = Settings.load()
    if stream:
        if not settings.kafka_servers:
            raise UserError("no Kafka is given: set KAFKA_BOOTSTRAP_SERVERS")
        play_sales(settings, rows, seed, rate, seconds)
        return
    store = open_store(settings)
    prefix = f"s3://{settings.bucket}/sales/"
    manifest = find_generated(store, prefix, rows, seed)
    note = " (kept: these rows were there)" if manifest else ""
    if manifest is None:
        with progress(terminal(), "sales") as update:
            manifest = replace_sales(store, prefix, rows, seed, update)
    click.echo(f"sales: {summary(manifest)} at {prefix}{note}")


def summary(manifest: Manifest) -> str:
    """A manifest in words: rows, months that have any, and megabytes."""
    months = len({part.month.label for part in parts(manifest.rows)})
    return f"{manifest.rows:,} rows, {months} months, {manifest.bytes / 1e6:.1f} MB"


if __name__ == "__main__":
    run_command(main)
