"""Objects in S3: put, put once, get, list, delete. The only importer of minio."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

import urllib3
from minio import Minio
from minio.deleteobjects import DeleteObject
from minio.error import MinioException, S3Error

from infra.contracts.errors import UserError
from infra.settings import Settings

PRESIGNED_FOR = timedelta(minutes=10)
REFUSALS = ("AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch")
# What any operation may raise when the server can't do it, after the client's own retries.
FAILURES = (MinioException, urllib3.exceptions.HTTPError, OSError, UserError)


class StoreUnavailableError(Exception):
    """The S3 server does not answer, or is not ready to."""


@dataclass(frozen=True)
class StoredObject:
    """One object: its address, size in bytes and time of its last change (UTC)."""

    url: str
    size: int
    modified: datetime


def split_url(url: str) -> tuple[str, str]:
    """The bucket and key of s3://bucket/key. Raises UserError for anything else."""
    parts = urlsplit(url)
    if parts.scheme not in ("s3", "s3a") or len(parts.netloc) < 3:
        raise UserError(f"{url!r} is not an S3 address; write it as s3://bucket/key")
    return parts.netloc, url.split("/", 3)[3] if url.count("/") > 2 else ""


class ObjectStore:
    """An S3 server. Addresses are s3://bucket/key; a missing bucket is a UserError.

    Transient failures are retried by the client (up to 5 times with backoff) before they are raised.
    """

    def __init__(self, settings: Settings) -> None:
        endpoint = urlsplit(settings.s3_endpoint)
        self.endpoint = settings.s3_endpoint
        self._http = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=5, read=60),
            retries=urllib3.Retry(total=5, backoff_factor=0.2, status_forcelist=[500, 502, 503, 504]),
            maxsize=16,
        )
        self._client = Minio(
            endpoint.netloc,
            access_key=settings.access_key,
            secret_key=settings.secret_key,
            region=settings.region,
            secure=endpoint.scheme == "https",
            http_client=self._http,
        )

    def check(self, bucket: str, timeout_s: float = 15.0) -> bool:
        """Whether the server, which answers, has this bucket.

        Raises StoreUnavailableError when it does not answer within `timeout_s` seconds, UserError when it
        refuses the key.
        """
        try:
            # Whether it answers now: the client's own requests are tried again and again.
            self._http.request("HEAD", self.endpoint, retries=False, timeout=timeout_s)
            return self._client.bucket_exists(bucket)
        except S3Error as error:
            if error.code in REFUSALS:
                self._explain(error, bucket)
            raise StoreUnavailableError(f"{self.endpoint} answers with {error.code}") from error
        except (MinioException, urllib3.exceptions.HTTPError) as error:
            raise StoreUnavailableError(f"{self.endpoint} does not answer") from error

    def ensure_bucket(self, bucket: str) -> None:
        """Create a bucket unless it exists."""
        try:
            if not self._client.bucket_exists(bucket):
                self._client.make_bucket(bucket)
        except S3Error as error:
            if error.code not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                raise

    def put(self, url: str, body: bytes, content_type: str = "application/octet-stream") -> None:
        """Write an object as a whole, in place of one that may be there."""
        bucket, key = split_url(url)
        try:
            self._client.put_object(bucket, key, io.BytesIO(body), len(body), content_type=content_type)
        except S3Error as error:
            self._explain(error, bucket)

    def put_file(self, url: str, path: Path) -> None:
        """Write a file as an object."""
        bucket, key = split_url(url)
        try:
            self._client.fput_object(bucket, key, str(path))
        except S3Error as error:
            self._explain(error, bucket)

    def put_once(self, url: str, body: bytes) -> bool:
        """Create an object unless there is one; True for the one writer that did, however many race.

        By `If-None-Match: *` on a presigned PUT, since minio's own put can't send that header.
        """
        bucket, key = split_url(url)
        address = self._client.presigned_put_object(bucket, key, expires=PRESIGNED_FOR)
        answer = self._http.request("PUT", address, body=body, headers={"If-None-Match": "*"}, retries=False)
        if answer.status not in (200, 412):
            raise OSError(f"put_once {url}: HTTP {answer.status} {answer.data[:200]!r}")
        return answer.status == 200

    def get(self, url: str) -> bytes:
        """An object's bytes. Raises FileNotFoundError when there is none."""
        bucket, key = split_url(url)
        try:
            answer = self._client.get_object(bucket, key)
        except S3Error as error:
            if error.code == "NoSuchKey":
                raise FileNotFoundError(url) from error
            self._explain(error, bucket)
        try:
            return answer.data
        finally:
            answer.close()
            answer.release_conn()

    def exists(self, url: str) -> bool:
        """Whether there is an object at exactly this address."""
        bucket, key = split_url(url)
        try:
            self._client.stat_object(bucket, key)
        except S3Error as error:
            if error.code in ("NoSuchKey", "NoSuchBucket"):
                return False
            raise
        return True

    def list(self, prefix: str, after: str = "") -> Iterator[StoredObject]:
        """Every object below a prefix, in order of key; folder markers are left out.

        With `after`, an address that need not be there, only those whose key is greater.
        """
        bucket, key = split_url(prefix)
        start = split_url(after)[1] if after else None
        try:
            for item in self._client.list_objects(bucket, prefix=key, recursive=True, start_after=start):
                name = item.object_name or ""
                if not name.endswith("/") and item.last_modified is not None:
                    yield StoredObject(f"s3://{bucket}/{name}", item.size or 0, item.last_modified)
        except S3Error as error:
            self._explain(error, bucket)

    def folders(self, prefix: str) -> Iterator[str]:
        """The addresses one level below a prefix (both end in /) that have objects below them, in order."""
        bucket, key = split_url(prefix)
        try:
            for item in self._client.list_objects(bucket, prefix=key):
                if item.is_dir:
                    yield f"s3://{bucket}/{item.object_name}"
        except S3Error as error:
            self._explain(error, bucket)

    def delete(self, urls: Iterable[str]) -> None:
        """Delete objects; one that is not there is no error."""
        by_bucket: dict[str, list[DeleteObject]] = {}
        for url in urls:
            bucket, key = split_url(url)
            by_bucket.setdefault(bucket, []).append(DeleteObject(key))
        for bucket, names in by_bucket.items():
            errors = list(self._client.remove_objects(bucket, names))
            if errors:
                raise OSError(f"could not delete from s3://{bucket}: {errors[0].message}")

    def delete_prefix(self, prefix: str) -> None:
        """Delete every object below a prefix."""
        self.delete(item.url for item in list(self.list(prefix)))

    def _explain(self, error: S3Error, bucket: str) -> NoReturn:
        if error.code == "NoSuchBucket":
            raise UserError(f"there is no bucket {bucket!r} at {self.endpoint}") from error
        if error.code in REFUSALS:
            raise UserError(f"{self.endpoint} refused the access key ({error.code})") from error
        raise error


def open_bucket(settings: Settings) -> ObjectStore:
    """The S3 server that the settings give. Raises UserError if it does not answer or lacks the bucket."""
    store = ObjectStore(settings)
    try:
        found = store.check(settings.bucket)
    except StoreUnavailableError as error:
        raise UserError(f"{error}; is AWS_ENDPOINT_URL_S3 right and the server up?") from error
    if not found:
        raise UserError(f"there is no bucket {settings.bucket!r} at {settings.s3_endpoint}; create it first")
    return store
