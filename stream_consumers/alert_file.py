"""A file of alerts, one JSON line each, that can be rewound to what is committed.

Why no line is lost, doubled or torn, whenever the process is killed: each commit moves the offsets of
*all* shards together with a mark, the file's length then, in one request that Kafka applies as a whole;
and the file is on disk before it. So at a start the committed mark is the length at which the file holds
just the records below the committed offsets, and what is behind it is cut off. A file beside it could
not tell that: it would be written before the commit or after it, and the kill may come between the two.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import BinaryIO

import msgspec

from infra.contracts.errors import UserError
from infra.contracts.events import Alert, encode
from infra.streams.records import Record, Shard

BLOCK = 1 << 16


class FiledAlert(Alert, frozen=True, kw_only=True):
    """A line of the file: an alert and its place in the stream."""

    stream: str
    shard: int
    offset: int


class Mark(msgspec.Struct, frozen=True):
    """What is committed with the offsets: the file, and its length in bytes."""

    file: str
    length: int

    def text(self) -> str:
        """As the commit carries it."""
        return msgspec.json.encode(self).decode()


class _Place(msgspec.Struct):
    stream: str
    shard: int
    offset: int


class AlertFile:
    """Appends lines to a file that is this process's own until it closes it."""

    def __init__(self, path: Path) -> None:
        """Open or make the file. Raises UserError if that can't be, or another process has it."""
        self.path = path.absolute()
        self._file = _open(self.path)

    @property
    def mark(self) -> Mark:
        """The file as it is now."""
        return Mark(str(self.path), self._size())

    def append(self, lines: Iterable[bytes]) -> None:
        """Add whole lines; they are on disk when it returns."""
        self._file.write(b"".join(lines))
        self._sync()

    def rewind(self, marks: Iterable[str], committed: Mapping[Shard, int]) -> int:
        """Cut off what was written after the last commit; the number of bytes.

        `marks` are the texts committed with the `committed` offsets. Of a file that they don't tell of
        (a new one, or one that was moved away) only a torn last line is cut off. Raises UserError if what
        would be cut off was not written by a sink of these shards.
        """
        size = self._size()
        known = (msgspec.json.decode(mark, type=Mark) for mark in marks if mark)
        lengths = [mark.length for mark in known if mark.file == str(self.path) and mark.length <= size]
        if lengths:
            keep = max(lengths)
            self._check_own(keep, committed)
        else:
            keep = self._end_of_last_line(size)
        self._file.truncate(keep)
        self._sync()
        return size - keep

    def close(self) -> None:
        """Close it; another process may have it then."""
        self._file.close()

    def _check_own(self, start: int, committed: Mapping[Shard, int]) -> None:
        self._file.seek(max(0, start - 1))
        before = self._file.read(min(1, start))
        *lines, _torn = self._file.read().split(b"\n")
        if before not in (b"", b"\n") or not all(_is_open(line, committed) for line in lines):
            raise UserError(
                f"{self.path} was changed by somebody else after byte {start:,}: "
                "move it away, or give another --file"
            )

    def _end_of_last_line(self, size: int) -> int:
        start = size
        while start > 0:
            end, start = start, max(0, start - BLOCK)
            self._file.seek(start)
            found = self._file.read(end - start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
        return 0

    def _size(self) -> int:
        return os.fstat(self._file.fileno()).st_size

    def _sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())


def line(record: Record, alert: Alert) -> bytes:
    """An alert as a line of the file: one JSON object and a line feed."""
    fields = {name: getattr(alert, name) for name in alert.__struct_fields__}
    stream, shard = record.shard
    return encode(FiledAlert(**fields, stream=stream, shard=shard, offset=record.offset)) + b"\n"


def _is_open(text: bytes, committed: Mapping[Shard, int]) -> bool:
    """Whether a line holds a record that is not committed."""
    try:
        place = msgspec.json.decode(text, type=_Place)
    except msgspec.MsgspecError:
        return False
    offset = committed.get(Shard(place.stream, place.shard))
    return offset is not None and place.offset >= offset


def _open(path: Path) -> BinaryIO:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+b")
    except OSError as error:
        raise UserError(f"can't write alerts to {path}: {error.strerror}") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise UserError(f"another process writes {path}: end it, or give another --file") from error
    return file
