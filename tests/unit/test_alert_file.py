"""The alerts' file: whole lines, rewound to what is committed, never somebody else's."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from infra.contracts.errors import UserError
from infra.streams.records import Record, Shard
from stream_consumers.alert_file import AlertFile, line
from tests.alert_cases import alert

Opened = Callable[[Path], AlertFile]
FIRST, SECOND = Shard("alerts", 0), Shard("alerts", 1)


@pytest.fixture
def opened() -> Iterator[Opened]:
    """Opens files, and closes them at the end."""
    with ExitStack() as files:
        yield lambda path: files.enter_context(closing(AlertFile(path)))


def lines(shard: Shard, *offsets: int) -> list[bytes]:
    """Lines of these offsets of a shard."""
    return [line(Record(shard, offset, b"k", b"", 0, ()), alert(offset)) for offset in offsets]


def write(path: Path, *parts: bytes) -> None:
    """What a process leaves that was killed: bytes at the end of the file."""
    with path.open("ab") as file:
        file.write(b"".join(parts))


def test_a_line_has_alert_and_place() -> None:
    """It is one JSON object with the alert's fields, and the record's place beside them."""
    (text,) = lines(SECOND, 17)
    assert text.endswith(b"}\n")
    assert text.count(b"\n") == 1
    found = json.loads(text)
    assert (found["stream"], found["shard"], found["offset"]) == ("alerts", 1, 17)
    assert found["alert_id"] == "transactions-17"
    assert found["amount_cents"] == 123405
    assert found["event_time"] == "2018-08-08T00:00:17Z"


@pytest.mark.parametrize("torn", [0, 1, 50, -1])
@pytest.mark.parametrize("whole", [0, 1, 3])
def test_what_was_not_committed_is_cut_off(opened: Opened, tmp_path: Path, whole: int, torn: int) -> None:
    """Whole lines and a torn one, of any shard, behind the committed length."""
    path = tmp_path / "folder" / "alerts"
    file = opened(path)
    file.append([*lines(FIRST, 0, 1), *lines(SECOND, 0)])
    mark, kept = file.mark.text(), path.read_bytes()
    file.close()
    tail = [*lines(SECOND, 1), *lines(FIRST, 2), *lines(SECOND, 2), *lines(FIRST, 3)]
    write(path, *tail[:whole], tail[whole][:torn])
    again = opened(path)
    assert again.rewind(["", mark], {FIRST: 2, SECOND: 1}) == len(
        b"".join([*tail[:whole], tail[whole][:torn]])
    )
    assert path.read_bytes() == kept
    again.append(lines(FIRST, 2))
    assert path.read_bytes() == kept + lines(FIRST, 2)[0]


def test_before_the_first_alert_the_mark_is_the_length_found(opened: Opened, tmp_path: Path) -> None:
    """Lines that were there before the first commit stay, however low the offsets are."""
    path = tmp_path / "alerts"
    old = lines(FIRST, 0, 1, 2)
    write(path, *old, b'{"torn')
    file = opened(path)
    assert file.rewind(["", ""], {FIRST: 0, SECOND: 0}) == len(b'{"torn')
    mark = file.mark.text()
    file.append(lines(FIRST, 0))
    assert file.rewind([mark, mark], {FIRST: 0, SECOND: 0}) == len(lines(FIRST, 0)[0])
    assert path.read_bytes() == b"".join(old)
    file.close()


def test_a_long_torn_line_is_cut_off(opened: Opened, tmp_path: Path) -> None:
    """Also if it is longer than a block, and if it is all there is."""
    path = tmp_path / "alerts"
    write(path, b"whole\n", b"x" * 200_000)
    file = opened(path)
    assert file.rewind([], {}) == 200_000
    assert path.read_bytes() == b"whole\n"
    file.close()
    only = tmp_path / "only"
    write(only, b"x" * 70_000)
    file = opened(only)
    assert file.rewind([], {}) == 70_000
    file.close()


def test_a_file_that_was_moved_away_is_begun_anew(opened: Opened, tmp_path: Path) -> None:
    """A mark that is past the file's end, or another file's, says nothing of this one."""
    path = tmp_path / "alerts"
    file = opened(path)
    file.append(lines(FIRST, 0, 1))
    mark = file.mark.text()
    file.close()
    path.rename(tmp_path / "alerts.1")
    for other, offsets in ((path, [9]), (tmp_path / "other", [9, 10, 11, 12])):
        write(other, *lines(SECOND, *offsets))
        file = opened(other)
        assert file.rewind([mark], {FIRST: 2, SECOND: 0}) == 0
        assert other.read_bytes() == b"".join(lines(SECOND, *offsets))
        file.close()


@pytest.mark.parametrize(
    "foreign",
    [b"a note\n", lines(FIRST, 1)[0], lines(Shard("others", 0), 5)[0]],
    ids=["no alert", "committed", "of another stream"],
)
def test_what_others_wrote_is_never_cut_off(opened: Opened, tmp_path: Path, foreign: bytes) -> None:
    """Only lines of records that are not committed are; for others the user decides."""
    path = tmp_path / "alerts"
    file = opened(path)
    file.append(lines(FIRST, 0, 1))
    mark = file.mark.text()
    write(path, *lines(FIRST, 2), foreign)
    before = path.read_bytes()
    with pytest.raises(UserError, match="changed by somebody else"):
        file.rewind([mark], {FIRST: 2})
    assert path.read_bytes() == before
    file.close()


def test_a_mark_in_the_middle_of_a_line_is_never_cut_at(opened: Opened, tmp_path: Path) -> None:
    """Then the file is not the one that was marked."""
    path = tmp_path / "alerts"
    file = opened(path)
    file.append(lines(FIRST, 0))
    mark = file.mark.text()
    file.close()
    path.write_bytes(b"x" * (len(lines(FIRST, 0)[0]) + 10))
    file = opened(path)
    with pytest.raises(UserError, match="changed by somebody else"):
        file.rewind([mark], {FIRST: 1})
    file.close()


def test_a_file_is_one_process_s(opened: Opened, tmp_path: Path) -> None:
    """A second one is refused by name; a folder can't be one."""
    file = opened(tmp_path / "alerts")
    with pytest.raises(UserError, match="another process writes"):
        opened(tmp_path / "alerts")
    file.close()
    opened(tmp_path / "alerts")
    with pytest.raises(UserError, match="can't write alerts"):
        opened(tmp_path)
