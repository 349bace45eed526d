"""The verbs of an object store over S3 or local files, so that one code reads and writes either."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from infra.contracts.errors import UserError
from infra.objects import ObjectStore, StoredObject, split_url
from infra.settings import Settings


class Store(Protocol):
    """What ObjectStore (s3://) and LocalFiles (file://) have in common."""

    def put(self, url: str, body: bytes) -> None:
        """Write as a whole, in place of what may be there."""

    def get(self, url: str) -> bytes:
        """The bytes; raises FileNotFoundError when there are none."""

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """All below a prefix, in order of address."""

    def delete_prefix(self, prefix: str) -> None:
        """Delete all below a prefix."""


class LocalFiles:
    """Local files by their file:// addresses. A put is a rename, so a reader sees old or new."""

    def put(self, url: str, body: bytes) -> None:
        """Write a file as a whole, its folders too."""
        path = local_path(url)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}.{os.getpid()}")
        unfinished.write_bytes(body)
        unfinished.replace(path)

    def get(self, url: str) -> bytes:
        """A file's bytes. Raises FileNotFoundError when there is none."""
        return local_path(url).read_bytes()

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Every file that is, or is in, the folder at `prefix`."""
        root = local_path(prefix)
        paths = [root] if root.is_file() else sorted(root.rglob("*")) if root.is_dir() else []
        for path in filter(Path.is_file, paths):
            state = path.stat()
            yield StoredObject(local_url(path), state.st_size, datetime.fromtimestamp(state.st_mtime, UTC))

    def delete_prefix(self, prefix: str) -> None:
        """Delete the folder at `prefix`, if there is one."""
        root = local_path(prefix)
        if root.is_dir():
            shutil.rmtree(root)


def address(text: str) -> str:
    """An address as Spark and `open_store` take it: s3://bucket/key, or file:///absolute/path.

    `text` may also be a plain local path. Raises UserError for any other scheme.
    """
    if "://" not in text:
        return local_url(Path(text).expanduser().absolute())
    if text.startswith("file://"):
        return local_url(local_path(text))
    split_url(text)
    return "s3://" + text.split("://", 1)[1]


def open_store(url: str, settings: Settings) -> Store:
    """The store that an address of `address` lies in. Makes no connection yet."""
    if url.startswith("file://"):
        return LocalFiles()
    if not settings.s3_endpoint:
        raise UserError(f"{url} needs an S3 server: set AWS_ENDPOINT_URL_S3, or run this through make")
    return ObjectStore(settings)


def below(url: str, *names: str) -> str:
    """An address below another: below("s3://b/x/", "y") is s3://b/x/y."""
    return "/".join([url.rstrip("/"), *names])


def local_path(url: str) -> Path:
    """The path of a file:// address."""
    return Path(url.removeprefix("file://"))


def local_url(path: Path) -> str:
    """The file:// address of an absolute path, nothing in it encoded: Spark takes it so."""
    return f"file://{path}"
