"""Brings a file or folder of the user's into the stack.

From outside `upload(...)`; inside, `python -m infra.compose.upload` unpacks what comes on its standard
input. Contents go as a stream, so neither ports nor the owner of a file matter.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import click

from infra.compose.stack import Stack
from infra.contracts.errors import UserError
from infra.objects import open_bucket
from infra.process import run_command
from infra.progress import progress
from infra.settings import Settings
from infra.terminal import terminal


def upload(stack: Stack, path: str, *, to_s3: bool) -> str:
    """Send a file or a folder; where it is for a job: an s3:// address, or a path in the stack's home."""
    source = Path(path).expanduser().absolute()
    files = [source] if source.is_file() else sorted(each for each in source.rglob("*") if each.is_file())
    if not files:
        raise UserError(f"INPUT={path} does not exist or is empty; give a file, a folder or an s3:// prefix")
    total = sum(file.stat().st_size for file in files)
    words = ["-m", "infra.compose.upload", *(["--s3"] if to_s3 else [])]
    child = subprocess.Popen(
        stack.job(words, terminal=False),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert child.stdin is not None
    with progress(terminal(), "upload") as update:
        try:
            with tarfile.open(fileobj=child.stdin, mode="w|", dereference=True) as archive:
                done = 0
                for file in files:
                    archive.add(file, file.relative_to(source.parent).as_posix())
                    done += file.stat().st_size
                    update(done / max(1, total), f"{done / 1e6:,.1f} of {total / 1e6:,.1f} MB")
        except BrokenPipeError:
            pass  # its exit code says what went wrong
        output, errors = child.communicate()
    if child.returncode:
        raise UserError(f"{path} could not be uploaded: {errors.decode().strip().splitlines()[-1]}")
    return output.decode().split()[-1]


@click.command()
@click.option("--s3", "to_s3", is_flag=True, help="to the bucket; without it to the home's folder")
def main(to_s3: bool) -> None:
    """Take a tar stream from standard input and say where its first part lies now."""
    settings = Settings.load()
    with tempfile.TemporaryDirectory(dir=settings.home, prefix=".upload-") as folder:
        with tarfile.open(fileobj=sys.stdin.buffer, mode="r|") as archive:
            archive.extractall(folder, filter="data")
        (source,) = Path(folder).iterdir()
        name = f"uploads/{digest(source)}"
        click.echo(put(settings, source, name) if to_s3 else keep(settings, source, name))


def digest(source: Path) -> str:
    """16 hex digits of the contents of a file, or of all files of a folder with their names."""
    whole = hashlib.sha256()
    for path in sorted(each for each in (source, *source.rglob("*")) if each.is_file()):
        whole.update(path.relative_to(source.parent).as_posix().encode() + b"\0")
        with path.open("rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()[:16]


def put(settings: Settings, source: Path, name: str) -> str:
    """Put it into the bucket; its address, with a slash at the end for a folder."""
    store, base = open_bucket(settings), f"s3://{settings.bucket}/{name}/"
    for path in [source] if source.is_file() else source.rglob("*"):
        if path.is_file():
            store.put_file(base + path.relative_to(source.parent).as_posix(), path)
    return f"{base}{source.name}{'' if source.is_file() else '/'}"


def keep(settings: Settings, source: Path, name: str) -> str:
    """Move it into the home, unless the same is there already; its path."""
    target = settings.home / name / source.name
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        source.rename(target)
    return str(target)


if __name__ == "__main__":
    run_command(main)
