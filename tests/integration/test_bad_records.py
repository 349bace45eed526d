"""A thousand broken records among good ones, through the scorer and delivery as processes."""

from __future__ import annotations

import base64
import itertools
import random
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from msgspec import structs

from infra.archive.errors import FailedRecord, raw_data
from infra.archive.intents import Intents
from infra.archive.reading import delivered_errors, delivered_rows
from infra.contracts.events import Transaction, encode
from infra.settings import Settings
from infra.streams import producer as streams_producer
from infra.streams.admin import StreamAdmin
from infra.streams.errors import InvalidArgumentException
from infra.streams.limits import RECORD_BYTES
from infra.streams.producer import StreamProducer
from infra.streams.records import Record
from stream_consumers.scorer import KEY_BYTES
from tests import scorer_cases as cases
from tests.scorer_stage import DAYS, WITHIN_S, Stage, check, stage

pytestmark = pytest.mark.timeout(1200)
GOOD_PER_DAY = 800
OF_EACH_KIND = 200
FIELDS = Transaction.__struct_fields__
REASONS = {
    "not JSON": r"JSON is malformed: .*|Input data was truncated",
    "missing field": r"Object missing required field `\w+`",
    "wrong type": r"Expected `\w+`, got `\w+` - at `\$\.\w+`",
    "negative amount": r"Expected `int` >= 0 - at `\$\.amount_cents`",
    "far future": r"event_time \S+ is more than 31 days past the shard's newest, \S+",
}
"""The kinds of broken records, and the reason for each."""
Place = tuple[int, int]
"""Shard number and offset."""


class Broken(NamedTuple):
    """A record that is none; no two have the same value."""

    kind: str
    key: str
    value: bytes


@pytest.fixture
def scene(s3_settings: Settings, kafka_settings: Settings, tmp_path: Path) -> Iterator[Stage]:
    """A data set of the test's own on servers that all tests share."""
    both = replace(s3_settings, kafka_servers=kafka_settings.kafka_servers)
    with stage(both, tmp_path / "home") as made:
        yield made


def test_a_thousand_broken_records_among_good_ones(scene: Stage) -> None:
    """Each once in the dead letters and once below the error prefix, with its reason; no good one is touched.

    What no shard takes is refused where it is put, and counted.
    """
    scene.publish()
    good = cases.transactions(2, cases.LIVE_FROM, DAYS, GOOD_PER_DAY, first_id=len(scene.history))
    broken = broken_like(good)
    assert len({each.value for each in broken}) == len(broken) == 1_000
    stream = scene.data_set.stream("transactions")
    huge = encode(good[0]) + b" " * (2 * RECORD_BYTES)
    scene.put(mixed(good, broken))
    for key, value in ((good[0].key, huge), ("", encode(good[0]))):
        with pytest.raises(InvalidArgumentException):
            scene.producer.put(stream, key, value)
    scene.producer.flush()
    assert scene.producer.refused == {stream: 2}
    delivery = start_delivery(scene)
    scorer = scene.start()

    found = scene.wait_for_decisions(len(good))
    scene.wait(lambda: len(scene.read("transactions.dead-letter")) >= len(broken))
    scene.wait(lambda: archive(scene).is_at_least(len(good), len(broken)))
    for process in (delivery, scorer):
        process.send_signal(signal.SIGTERM)
        assert process.wait(WITHIN_S) == 0, scene.log()

    put = scene.read("transactions")
    assert len(put) == len(good) + len(broken)
    by_value = {each.value: each for each in broken}
    expected = {place_of(record): by_value[record.value] for record in put if record.value in by_value}
    assert len(expected) == len(broken)
    check(found, scene.expected(good))
    reasons = check_dead_letters(scene, expected)
    written = archive(scene)
    check_errors(scene, written.errors, expected, reasons)
    rows = {row["transaction_id"]: row for row in written.rows}
    assert len(written.rows) == len(rows)
    assert rows == {each.transaction_id: structs.asdict(each) for each in good}


def test_what_no_shard_takes_but_compressed_is_cut_in_the_dead_letters(
    scene: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other producers may put it. The errors of delivery, which have no limit, have the whole of it."""
    scene.publish()
    good, size = scene.live[0], 3 * RECORD_BYTES
    keys, values = ("C00001", "k" * size), (b"[" * size, b"{")
    for name in ("RECORD_BYTES", "KEY_CHARACTERS"):
        monkeypatch.setattr(streams_producer, name, 2 * size)
    monkeypatch.setitem(streams_producer.DURABLE, "compression_type", "gzip")
    hours = itertools.count(0, 3600).__next__
    other = StreamProducer(scene.settings.kafka_servers, "other", clock=hours)
    for key, value in zip(keys, values, strict=True):
        other.put(scene.data_set.stream("transactions"), key, value)
        other.flush()
    other.close()
    scene.put([good])
    scene.start()
    start_delivery(scene)

    check(scene.wait_for_decisions(1), scene.expected([good]))
    scene.wait(lambda: len(scene.read("transactions.dead-letter")) == len(keys))
    scene.wait(lambda: archive(scene).is_at_least(1, len(keys)))
    letters = sorted(scene.read("transactions.dead-letter"), key=lambda letter: len(letter.key or b""))
    for letter, key, value in zip(letters, keys, values, strict=True):
        assert letter.key == key[:KEY_BYTES].encode()
        assert letter.value == value[: RECORD_BYTES - KEY_BYTES]
        assert dict(letter.headers)["cut"] == b"%d" % (len(key) + len(value))
    errors = {(base64.b64decode(each.partition_key), raw_data(each)) for each in archive(scene).errors}
    assert errors == {(key.encode(), value) for key, value in zip(keys, values, strict=True)}
    assert "aborted" not in scene.log()


def broken_like(good: Sequence[Transaction]) -> list[Broken]:
    """OF_EACH_KIND of each kind, each like another good transaction but for what is wrong with it."""
    chance = random.Random(3)
    return [
        Broken(kind, model.key, spoilt(kind, model, number))
        for kind in REASONS
        for number, model in enumerate(chance.sample(good, OF_EACH_KIND))
    ]


def spoilt(kind: str, model: Transaction, number: int) -> bytes:
    """The transaction as a record of this kind; which field it is goes round with `number`."""
    plain: dict[str, Any] = msgspec.json.decode(encode(model))
    field = FIELDS[number % len(FIELDS)]
    match kind:
        case "not JSON":
            return (encode(model)[:-1], b"<%d>" % number, b"\xff\xfe%d" % number)[number % 3]
        case "missing field":
            del plain[field]
        case "wrong type":
            plain[field] = [plain[field]]
        case "negative amount":
            plain["amount_cents"] = -1 - number
        case "far future":
            plain["event_time"] = model.event_time + (DAYS + 31) * cases.DAY
    return msgspec.json.encode(plain)


def mixed(good: Sequence[Transaction], broken: Sequence[Broken]) -> list[Transaction | tuple[str, bytes]]:
    """All of them, the broken ones at any places among the good ones, which stay in order."""
    chance = random.Random(4)
    places = sorted(chance.randrange(len(good) + 1) for _ in broken)
    shuffled = chance.sample(broken, len(broken))
    whole: list[Transaction | tuple[str, bytes]] = []
    done = 0
    for place, each in zip(places, shuffled, strict=True):
        whole += good[done:place]
        whole.append((each.key, each.value))
        done = place
    return [*whole, *good[done:]]


def start_delivery(scene: Stage) -> subprocess.Popen[bytes]:
    """Delivery of the data set's transactions as a process, which the stage ends with its own."""
    command = [sys.executable, "-m", "tests.delivery_process", scene.data_set.id]
    process = subprocess.Popen(command, env=scene.settings.environment())
    scene.processes.append(process)
    return process


class Archive(NamedTuple):
    """What the intents say that delivery has written, as far as it is written."""

    rows: list[dict[str, Any]]
    errors: list[FailedRecord]

    def is_at_least(self, rows: int, errors: int) -> bool:
        """Whether there is so much."""
        return len(self.rows) >= rows and len(self.errors) >= errors


def archive(scene: Stage) -> Archive:
    """Read the archive of the transactions; empty while an object that was declared is not there yet."""
    stream = scene.data_set.stream("transactions")
    with StreamAdmin(scene.settings.kafka_servers) as admin:
        described, ranges = admin.describe(stream), admin.offsets(stream)
    assert described is not None
    intents = Intents(scene.store, scene.settings.bucket, stream, described.topic_id)
    try:
        tables = list(delivered_rows(scene.store, intents, ranges, FIELDS))
        errors = list(delivered_errors(scene.store, intents, ranges))
    except FileNotFoundError:
        return Archive([], [])
    return Archive([row for table in tables for row in table.to_pylist()], errors)


def place_of(record: Record) -> Place:
    """Where a record of the stream is."""
    return record.shard.number, record.offset


def check_dead_letters(scene: Stage, expected: dict[Place, Broken]) -> dict[Place, str]:
    """Fail unless each broken record is there once, as it was put; the reasons."""
    places, reasons = Counter[Place](), {}
    for letter in scene.read("transactions.dead-letter"):
        headers = {name: value.decode() for name, value in letter.headers}
        place = int(headers["shard"]), int(headers["offset"])
        places[place] += 1
        broken, reasons[place] = expected[place], headers["reason"]
        assert (letter.key, letter.value) == (broken.key.encode(), broken.value)
        assert headers["stream"] == scene.data_set.stream("transactions")
        assert re.fullmatch(REASONS[broken.kind], headers["reason"]), (broken, headers["reason"])
    assert places == Counter(expected.keys())
    return reasons


def check_errors(
    scene: Stage, errors: Sequence[FailedRecord], expected: dict[Place, Broken], reasons: dict[Place, str]
) -> None:
    """Fail unless each broken record is among the errors once, as it was put and for the same reason."""
    places = Counter((each.shard, int(each.sequence_number)) for each in errors)
    assert places == Counter(expected.keys())
    for each in errors:
        place = each.shard, int(each.sequence_number)
        broken = expected[place]
        assert (base64.b64decode(each.partition_key), raw_data(each)) == (broken.key.encode(), broken.value)
        assert each.stream == scene.data_set.stream("transactions")
        assert each.last_error_message == reasons[place]
    below = f"s3://{scene.settings.bucket}/errors/{scene.data_set.stream('transactions')}/"
    in_objects = sum(scene.store.get(item.url).count(b"\n") for item in scene.store.list(below))
    assert in_objects == len(errors)
