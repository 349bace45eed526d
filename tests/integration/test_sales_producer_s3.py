"""The sales producer against a real S3 server: what lies there afterwards, also after a crash."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from infra.contracts.errors import UserError
from infra.objects import ObjectStore
from infra.settings import Settings
from producers.sales import MANIFEST, find_generated, main, open_store, replace_sales
from producers.sales_rows import SCHEMA, VERSION, generate_month, plan


class Journal(ObjectStore):
    """A store that notes each request for a change, and can crash at the upload of the nth file."""

    def __init__(self, settings: Settings, crash_at: int = 0) -> None:
        super().__init__(settings)
        self.changes: list[tuple[str, list[str]]] = []
        self.files_left = crash_at

    def put(self, url: str, body: bytes, content_type: str = "application/octet-stream") -> None:
        """Put an object and note it."""
        self.changes.append(("put", [url]))
        super().put(url, body, content_type)

    def put_file(self, url: str, path: Path) -> None:
        """Put a file and note it, or crash."""
        self.files_left -= 1
        if self.files_left == 0:
            raise OSError("crash")
        self.changes.append(("put", [url]))
        super().put_file(url, path)

    def delete(self, urls: Iterable[str]) -> None:
        """Delete objects and note them."""
        urls = list(urls)
        self.changes.append(("delete", urls))
        super().delete(urls)


@pytest.fixture
def settings(s3_settings: Settings) -> Settings:
    """The server's settings with a bucket of the test's own."""
    settings = replace(s3_settings, bucket=f"sales-{uuid4().hex[:12]}")
    ObjectStore(settings).ensure_bucket(settings.bucket)
    return settings


def prefix(settings: Settings) -> str:
    """Where the sales lie."""
    return f"s3://{settings.bucket}/sales/"


def replaced(store: ObjectStore, settings: Settings, rows: int, seed: int = 7) -> None:
    """Replace the sales, progress unseen."""
    replace_sales(store, prefix(settings), rows, seed, lambda _share, _detail: None)


def stored(settings: Settings) -> dict[str, pa.Table]:
    """The tables in the bucket, by key below sales/."""
    store = ObjectStore(settings)
    urls = [item.url for item in store.list(prefix(settings)) if item.url.endswith(".parquet")]
    return {
        url.removeprefix(prefix(settings)): pq.ParquetFile(io.BytesIO(store.get(url))).read() for url in urls
    }


def generated(rows: int, seed: int = 7) -> dict[str, pa.Table]:
    """The tables that ought to be there, all small enough for one part a month."""
    return {
        f"month={month.label}/part-00000.parquet": pa.Table.from_batches(generate_month(month, seed), SCHEMA)
        for month in plan(rows)
        if month.rows
    }


def test_the_rows_read_back_are_the_generated_ones(settings: Settings) -> None:
    """Every month's object holds that month's rows, and the manifest says how many bytes and files."""
    store = ObjectStore(settings)
    replaced(store, settings, 20_000)
    assert stored(settings) == generated(20_000)
    sizes = [item.size for item in store.list(prefix(settings)) if item.url.endswith(".parquet")]
    assert json.loads(store.get(prefix(settings) + MANIFEST)) == {
        "rows": 20_000,
        "seed": 7,
        "version": VERSION,
        "first_month": "2021-12",
        "last_month": "2026-11",
        "bytes": sum(sizes),
        "files": 60,
    }


def test_the_manifest_goes_first_and_comes_last(settings: Settings) -> None:
    """A replacement deletes the manifest before all else and writes it after all else."""
    replaced(ObjectStore(settings), settings, 1_000)
    journal = Journal(settings)
    replaced(journal, settings, 2_000)
    manifest = prefix(settings) + MANIFEST
    assert journal.changes[0] == ("delete", [manifest])
    assert journal.changes[-1] == ("put", [manifest])
    kinds = [kind for kind, urls in journal.changes for _ in urls]
    assert kinds == ["delete"] * 61 + ["put"] * 61


def test_other_rows_replace_the_old_ones_as_a_whole(settings: Settings) -> None:
    """Nothing of an earlier, larger generation or of a stranger is left under sales/; the rest stays."""
    store = ObjectStore(settings)
    replaced(store, settings, 20_000)
    store.put(f"{prefix(settings)}month=1999-01/part-00000.parquet", b"stranger")
    store.put(f"s3://{settings.bucket}/sales-of-others/file", b"neighbour")
    replaced(store, settings, 10, seed=8)
    assert stored(settings) == generated(10, seed=8)
    assert store.get(f"s3://{settings.bucket}/sales-of-others/file") == b"neighbour"


def test_a_crash_leaves_no_manifest_and_the_next_run_repairs(settings: Settings) -> None:
    """After a crash in the middle nothing passes for whole, and the next run makes it so."""
    replaced(ObjectStore(settings), settings, 10_000)
    journal = Journal(settings, crash_at=30)
    with pytest.raises(OSError, match="crash"):
        replaced(journal, settings, 12_000)
    store = ObjectStore(settings)
    assert not store.exists(prefix(settings) + MANIFEST)
    assert 0 < len(stored(settings)) < 59
    assert find_generated(store, prefix(settings), 12_000, 7) is None
    replaced(store, settings, 12_000)
    assert stored(settings) == generated(12_000)
    assert find_generated(store, prefix(settings), 12_000, 7)


def test_only_just_these_rows_are_kept(settings: Settings) -> None:
    """Generated sales count as there for the same rows and seed only, and only while all objects are."""
    store = ObjectStore(settings)
    replaced(store, settings, 1_000)
    assert find_generated(store, prefix(settings), 1_000, 7)
    assert find_generated(store, prefix(settings), 1_001, 7) is None
    assert find_generated(store, prefix(settings), 1_000, 8) is None
    manifest = json.loads(store.get(prefix(settings) + MANIFEST))
    store.put(prefix(settings) + MANIFEST, json.dumps({**manifest, "version": VERSION + 1}).encode())
    assert find_generated(store, prefix(settings), 1_000, 7) is None
    store.put(prefix(settings) + MANIFEST, json.dumps(manifest).encode())
    store.delete([f"{prefix(settings)}month=2024-02/part-00000.parquet"])
    assert find_generated(store, prefix(settings), 1_000, 7) is None


def test_the_command_keeps_what_is_there(settings: Settings) -> None:
    """The second call with the same rows and seed says that it kept them, and changes no object."""
    runner = CliRunner(env=settings.environment())
    first = runner.invoke(main, ["--rows", "3000", "--seed", "1"])
    assert first.exit_code == 0, first.output
    assert first.output.splitlines()[-1].startswith("sales: 3,000 rows, 60 months, 0.")
    assert first.output.endswith(f" MB at {prefix(settings)}\n")
    before = list(ObjectStore(settings).list(prefix(settings)))
    second = runner.invoke(main, ["--rows", "3000", "--seed", "1"])
    assert second.output == first.output.splitlines()[-1] + " (kept: these rows were there)\n"
    assert list(ObjectStore(settings).list(prefix(settings))) == before


def test_a_missing_server_or_bucket_is_the_users_to_mend(settings: Settings) -> None:
    """No endpoint, and a bucket that isn't there, are each one line that says what to do."""
    with pytest.raises(UserError, match="make batch-job"):
        open_store(replace(settings, s3_endpoint=""))
    with pytest.raises(UserError, match="there is no bucket 'nowhere'"):
        open_store(replace(settings, bucket="nowhere"))
