"""The project's code for spark-submit: one zip of infra and spark_jobs in S3, named by its content."""

from __future__ import annotations

import hashlib
import io
import zipfile

from infra.objects import ObjectStore
from infra.settings import ROOT, Settings

PACKAGES = ("infra", "spark_jobs")
KINDS = (".py", ".json", ".lock", ".html", ".css")
FIXED_TIME = (1980, 1, 1, 0, 0, 0)  # the oldest a zip can hold: same code, same bytes


def upload(store: ObjectStore, settings: Settings) -> str:
    """Put the zip unless it is there already; its address, for `--py-files`."""
    body = archive()
    url = f"s3://{settings.bucket}/code/millstream-{hashlib.sha256(body).hexdigest()[:16]}.zip"
    if not store.exists(url):
        store.put(url, body, "application/zip")
    return url


def archive() -> bytes:
    """The zip's bytes; equal code gives equal bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as bundle:
        for package in PACKAGES:
            for path in sorted((ROOT / package).rglob("*")):
                if path.suffix in KINDS:
                    name = path.relative_to(ROOT).as_posix()
                    bundle.writestr(zipfile.ZipInfo(name, FIXED_TIME), path.read_bytes())
    return buffer.getvalue()
