"""Addresses, and local files with the verbs of an object store."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.contracts.errors import UserError
from infra.files import LocalFiles, address, below, open_store
from infra.settings import Settings


def test_addresses_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain paths become file://, s3a:// becomes s3://, special characters stay as they are."""
    monkeypatch.chdir(tmp_path)
    assert address("my file#1?.csv") == f"file://{tmp_path}/my file#1?.csv"
    assert address("file:///a%20b") == "file:///a%20b"
    assert address("s3a://lake/x y/") == "s3://lake/x y/"
    with pytest.raises(UserError, match="not an S3 address"):
        address("https://lake/x")


def test_files_are_objects(tmp_path: Path) -> None:
    """Put, get, list and delete keep to what is below a prefix."""
    store, root = LocalFiles(), address(str(tmp_path / "a b"))
    assert list(store.list(root)) == []
    with pytest.raises(FileNotFoundError):
        store.get(below(root, "x"))
    for name in ("y/1", "x", "y/2"):
        store.put(below(root, name), name.encode())
    store.put(below(root, "x"), b"new")
    assert store.get(below(root, "x")) == b"new"
    assert [(item.url.removeprefix(root), item.size) for item in store.list(root)] == [
        ("/x", 3),
        ("/y/1", 3),
        ("/y/2", 3),
    ]
    assert [item.url for item in store.list(below(root, "x"))] == [below(root, "x")]
    store.delete_prefix(below(root, "y", ""))
    assert [item.url for item in store.list(root)] == [below(root, "x")]


def test_s3_needs_a_server() -> None:
    """Without an endpoint there is one line that says which setting is missing."""
    with pytest.raises(UserError, match="AWS_ENDPOINT_URL_S3"):
        open_store("s3://lake/x", Settings.load({}))
