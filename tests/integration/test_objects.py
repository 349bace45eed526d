"""Objects on a real S3 server. Each test has a prefix of its own, so nothing is cleaned up."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from infra.contracts.errors import UserError
from infra.objects import ObjectStore, StoreUnavailableError
from infra.settings import Settings


@pytest.fixture
def store(s3_settings: Settings) -> ObjectStore:
    """The store under test."""
    return ObjectStore(s3_settings)


@pytest.fixture
def prefix(s3_settings: Settings) -> str:
    """An address that no other test uses."""
    return f"s3://{s3_settings.bucket}/{uuid.uuid4().hex}"


def test_an_object_comes_back_as_it_was_put_last(store: ObjectStore, prefix: str) -> None:
    """A second put replaces the first, also by nothing."""
    url = f"{prefix}/a b/ü+%.bin"
    for body in (bytes(range(256)) * 5000, b"second", b""):
        store.put(url, body)
        assert store.get(url) == body


def test_a_file_is_put_as_it_is(store: ObjectStore, prefix: str, tmp_path: Path) -> None:
    """A file's bytes are the object's."""
    path = tmp_path / "part-0"
    path.write_bytes(b"row\n" * 1000)
    store.put_file(f"{prefix}/part-0", path)
    assert store.get(f"{prefix}/part-0") == path.read_bytes()


def test_a_missing_object_is_a_missing_file(store: ObjectStore, prefix: str) -> None:
    """Getting what is not there is FileNotFoundError, asking for it is False."""
    store.put(f"{prefix}/here", b"1")
    assert store.exists(f"{prefix}/here")
    assert not store.exists(f"{prefix}/her")
    with pytest.raises(FileNotFoundError, match="gone"):
        store.get(f"{prefix}/gone")


def test_a_list_is_in_order_and_below_the_prefix_only(store: ObjectStore, prefix: str) -> None:
    """Objects of all depths come in order of key with their sizes; a neighbour's do not."""
    for size, name in enumerate(("in/b", "in/a/2", "in/a/10", "out")):
        store.put(f"{prefix}/{name}", b"x" * size)
    found = [(item.url.removeprefix(prefix), item.size) for item in store.list(f"{prefix}/in/")]
    assert found == [("/in/a/10", 2), ("/in/a/2", 1), ("/in/b", 0)]
    assert next(store.list(f"{prefix}/in/b")).modified.tzinfo is not None


def test_a_list_goes_on_after_a_thousand(store: ObjectStore, prefix: str) -> None:
    """More objects than one answer holds are all listed."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: store.put(f"{prefix}/{number:04}", b""), range(1005)))
    assert [item.url for item in store.list(prefix)] == [f"{prefix}/{number:04}" for number in range(1005)]
    store.delete_prefix(f"{prefix}/")
    assert list(store.list(prefix)) == []


def test_a_list_begins_behind_an_address(store: ObjectStore, prefix: str) -> None:
    """Which need not be there; folders are those one level below that hold anything."""
    for name in ("in/a/1", "in/a/3", "in/b/2/c", "in/d", "inner/e"):
        store.put(f"{prefix}/{name}", b"")
    found = [item.url.removeprefix(prefix) for item in store.list(f"{prefix}/in/", f"{prefix}/in/a/2")]
    assert found == ["/in/a/3", "/in/b/2/c", "/in/d"]
    assert list(store.list(f"{prefix}/in/a/", f"{prefix}/in/a/3")) == []
    assert list(store.folders(f"{prefix}/in/")) == [f"{prefix}/in/a/", f"{prefix}/in/b/"]
    assert list(store.folders(f"{prefix}/none/")) == []


def test_deleting_leaves_the_rest(store: ObjectStore, prefix: str) -> None:
    """Exactly the named objects go; one that was not there is no error."""
    for name in ("a", "b"):
        store.put(f"{prefix}/{name}", b"1")
    store.delete([f"{prefix}/a", f"{prefix}/never"])
    assert [item.url for item in store.list(prefix)] == [f"{prefix}/b"]


def test_one_of_sixteen_writers_creates_an_object(store: ObjectStore, prefix: str) -> None:
    """However many race with put_once, one wins and its body stays."""
    for key in range(3):
        url = f"{prefix}/{key}"
        with ThreadPoolExecutor(16) as pool:
            won = list(pool.map(lambda writer, url=url: store.put_once(url, b"%d" % writer), range(16)))
        assert won.count(True) == 1
        assert store.get(url) == b"%d" % won.index(True)
        assert not store.put_once(url, b"late")


def test_a_missing_bucket_is_named(store: ObjectStore) -> None:
    """Each operation on a bucket that is not there is one line that names it."""
    url = "s3://no-such-bucket/key"
    for attempt in (lambda: store.put(url, b""), lambda: store.get(url), lambda: list(store.list(url))):
        with pytest.raises(UserError, match="no bucket 'no-such-bucket'"):
            attempt()
    assert not store.check("no-such-bucket")


def test_a_wrong_key_is_refused(s3_settings: Settings) -> None:
    """The server takes only its own keys, and the refusal says so."""
    wrong = ObjectStore(replace(s3_settings, secret_key="not the secret"))
    with pytest.raises(UserError, match="refused the access key"):
        wrong.check(s3_settings.bucket)
    with pytest.raises(UserError, match="refused the access key"):
        wrong.put(f"s3://{s3_settings.bucket}/key", b"")


def test_a_server_that_is_not_there_does_not_answer(s3_settings: Settings) -> None:
    """Asking a closed port is StoreUnavailableError with the address."""
    with pytest.raises(StoreUnavailableError, match=r"127\.0\.0\.1:1 does not answer"):
        ObjectStore(replace(s3_settings, s3_endpoint="http://127.0.0.1:1")).check("test")
