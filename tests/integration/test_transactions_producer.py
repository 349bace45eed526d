"""The producer plays a data set: in order per card, at a rate, on from where the shards end."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from infra.contracts.datasets import LABEL_DELAY, DataSet, read_manifest
from infra.contracts.events import Label, Sale, Transaction, decoder, encode
from infra.objects import ObjectStore
from infra.provision import provision
from infra.settings import Settings
from infra.streams.admin import StreamAdmin
from infra.streams.played import live_played
from infra.streams.producer import StreamProducer
from infra.streams.records import Record
from producers.pacing import Pace
from producers.simulator import World
from tests.data_set_cases import both_servers, prepared, read_all, run_module, start_module

COUNTER = itertools.count(70)


@pytest.fixture(scope="module")
def live(s3_settings: Settings, kafka_settings: Settings) -> Iterator[Settings]:
    """Both servers."""
    with both_servers(s3_settings, kafka_settings) as settings:
        yield settings


@pytest.fixture
def data_set(live: Settings) -> DataSet:
    """A data set of this test's own with its streams, nothing played yet."""
    world = World(customers=next(COUNTER), terminals=120, radius=20.0)
    found, manifest = prepared(live, live=4_000, world=world)
    provision(live, found, manifest.shards)
    return found


def transactions(records: list[Record]) -> list[Transaction]:
    """The events of records."""
    return [decoder(Transaction).decode(record.value or b"") for record in records]


def wait_for_more(settings: Settings, data_set: DataSet, records: int) -> None:
    """Wait until so many more transactions are in the stream."""
    stream = data_set.stream("transactions")
    deadline = time.monotonic() + 180
    with StreamAdmin(settings.kafka_servers) as admin:
        begun = sum(end for _, end in admin.offsets(stream).values())
        while sum(end for _, end in admin.offsets(stream).values()) < begun + records:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def check(records: list[Record], sent: int) -> list[Transaction]:
    """Each transaction once, without a gap from the first live one on, each shard's in order of time."""
    events = transactions(records)
    ids = sorted(event.transaction_id for event in events)
    assert ids == list(range(ids[0], ids[0] + sent))
    for _, own in itertools.groupby(sorted(records, key=lambda record: record.shard), key=lambda r: r.shard):
        times = [(event.event_time, event.transaction_id) for event in transactions(list(own))]
        assert times == sorted(times)
    assert all(record.key == event.card_id.encode() for record, event in zip(records, events, strict=True))
    return events


def test_a_second_run_goes_on_after_the_first(live: Settings, data_set: DataSet, tmp_path: Path) -> None:
    """Two runs put one gapless sequence; acknowledged is sent; labels come when they are due, not before."""
    total = 0
    for _ in range(2):
        done = run_module(
            live, "producers.transactions", "--data-set", data_set.id, "--rate", "700", "--seconds", "2.5",
            "--summary", str(tmp_path / "summary.json"),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        summary = json.loads((tmp_path / "summary.json").read_text())
        assert summary["acknowledged"] == summary["sent"] + summary["followed"]
        assert summary["sent"] == sum(shard["records"] for shard in summary["shards"])
        assert summary["throttled"] == summary["refused"] == summary["held_back"] == 0
        total += summary["sent"]
    events = check(read_all(live, data_set.stream("transactions")), total)
    manifest = read_manifest(ObjectStore(live).get, data_set)
    assert manifest is not None
    first_live = manifest.transactions - manifest.live_transactions
    assert min(event.transaction_id for event in events) == first_live
    newest = max(event.event_time for event in events)
    labels = [decoder(Label).decode(r.value or b"") for r in read_all(live, data_set.stream("labels"))]
    known = [(label.known_at, label.transaction_id) for label in labels]
    assert known == sorted(set(known))
    assert all(label.known_at <= newest for label in labels)
    assert labels


def test_somebody_elses_records_stop_no_play(live: Settings, data_set: DataSet) -> None:
    """What others put after it, broken or with strange ids, does not say how far the play is."""
    stream = data_set.stream("transactions")
    play = ("producers.transactions", "--data-set", data_set.id, "--rate", "700", "--seconds", "2")
    assert run_module(live, *play).returncode == 0
    first = read_all(live, stream)
    event = transactions(first[-1:])[0]
    with closing(StreamProducer(live.kafka_servers, client_id="somebody")) as other:
        for card in ("K1", "K2", "K3", "K4", "K5"):
            strange = msgspec.structs.replace(event, card_id=card, transaction_id=10**12)
            for value in (b"not JSON", b"{}", encode(strange), encode(event)):
                other.put(stream, card, value)
        other.flush()
    done = run_module(live, *play)
    assert done.returncode == 0, done.stderr
    own = [record for record in read_all(live, stream) if not (record.key or b"").startswith(b"K")]
    check(own, len(own))
    assert len(own) > len(first)
    with StreamAdmin(live.kafka_servers) as admin:
        manifest = read_manifest(ObjectStore(live).get, data_set)
        assert manifest is not None
        assert live_played(admin, data_set, manifest) == len(own)


def test_labels_that_a_shard_held_back_are_put_at_the_end(live: Settings, tmp_path: Path) -> None:
    """Almost all are frauds, so more labels are due than their shard takes: in the end all are there."""
    path = tmp_path / "frauds.csv"
    rows = [
        f"{86_400 + 600 * number},{number % 40},{number % 9},5.00,{int(number < 3_999)}"
        for number in range(4_000)
    ]
    path.write_text("\n".join(["event_time,card_id,terminal_id,amount,fraud", *rows]))
    result = tmp_path / "result.json"
    made = run_module(
        live, "producers.dataset", "--input", str(path), "--history", "0.3", "--result", str(result)
    )
    assert made.returncode == 0, made.stderr
    data_set = DataSet(live.bucket, json.loads(result.read_text())["id"])
    provision(live, data_set, 8)
    done = run_module(live, "producers.transactions", "--data-set", data_set.id, "--rate", "5000")
    assert done.returncode == 0, done.stderr
    events = transactions(read_all(live, data_set.stream("transactions")))
    assert len(events) == 2_800
    newest = max(event.event_time for event in events)
    labels = [decoder(Label).decode(r.value or b"") for r in read_all(live, data_set.stream("labels"))]
    begin = min(event.event_time for event in events)
    first = datetime.fromtimestamp(86_400, UTC)
    due = [first + timedelta(seconds=600 * number) + LABEL_DELAY for number in range(4_000)]
    assert len(labels) == sum(begin <= moment <= newest for moment in due)


@pytest.mark.slow
def test_a_killed_producer_loses_and_repeats_nothing(live: Settings, data_set: DataSet) -> None:
    """kill -9 in mid-play, several times; the next one goes on after each shard's last record."""
    for _ in range(3):
        child = start_module(live, "producers.transactions", "--data-set", data_set.id, "--rate", "300")
        try:
            wait_for_more(live, data_set, 300)
        finally:
            child.kill()
            child.wait()
    done = run_module(
        live, "producers.transactions", "--data-set", data_set.id, "--rate", "3000", "--seconds", "60"
    )
    assert done.returncode == 0, done.stderr
    records = read_all(live, data_set.stream("transactions"))
    check(records, len(records))
    assert len(records) >= 4_000  # to the end of the data set


def test_too_few_shards_hold_the_play_back(live: Settings, data_set: DataSet) -> None:
    """More than two shards take: throttled, counted, in order and to the end; what is needed is said."""
    done = run_module(live, "producers.transactions", "--data-set", data_set.id, "--rate", "20000")
    assert done.returncode == 0, done.stderr
    records = read_all(live, data_set.stream("transactions"))
    assert len(records) >= 4_000
    check(records, len(records))
    assert "2 shards can't take 20,000/s; with these keys it needs" in done.stdout


def test_a_throttled_shard_is_waited_for(live: Settings, tmp_path: Path) -> None:
    """Most transactions are one card's: the others' shard ends less than a week of the data after its own."""
    path, result = tmp_path / "one-card.csv", tmp_path / "result.json"
    rows = [
        f"{86_400 + 600 * number},{number % 40 if number % 4 == 0 else 'C'},T,5.00,{int(number % 9 == 0)}"
        for number in range(20_000)
    ]
    path.write_text("\n".join(["event_time,card_id,terminal_id,amount,fraud", *rows]))
    made = run_module(
        live, "producers.dataset", "--input", str(path), "--history", "0.3", "--shards", "2",
        "--result", str(result),
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    data_set = DataSet(live.bucket, json.loads(result.read_text())["id"])
    provision(live, data_set, 2)
    done = run_module(
        live, "producers.transactions", "--data-set", data_set.id, "--rate", "9000", "--seconds", "3",
        "--summary", str(tmp_path / "summary.json"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "summary.json").read_text())["held_back"] > 0
    newest: dict[int, datetime] = {}
    for record in read_all(live, data_set.stream("transactions")):
        newest[record.shard.number] = transactions([record])[0].event_time
    assert len(newest) == 2
    assert max(newest.values()) - min(newest.values()) <= LABEL_DELAY


def test_one_producer_at_a_time(live: Settings, data_set: DataSet) -> None:
    """A second producer of the data set is refused with one line."""
    first = start_module(live, "producers.transactions", "--data-set", data_set.id, "--rate", "10")
    try:
        wait_for_more(live, data_set, 1)
        done = run_module(live, "producers.transactions", "--data-set", data_set.id, "--seconds", "1")
    finally:
        first.terminate()
        assert first.wait(30) == 0
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: another producer")


def test_sales_go_on_after_the_last_run(live: Settings) -> None:
    """`producers.sales --stream` plays generated sales in order, each with its month, once."""
    provision(live, DataSet(live.bucket))
    arguments = ("producers.sales", "--stream", "--rows", "1200", "--rate", "400")
    first = run_module(live, *arguments, "--seconds", "1.5")
    assert first.returncode == 0, first.stderr
    assert 100 < len(read_all(live, "sales")) < 1_000
    second = run_module(live, *arguments)
    assert "all 1,200 sales of seed 7 are in the stream" in second.stdout
    events = [decoder(Sale).decode(record.value or b"") for record in read_all(live, "sales")]
    assert sorted(event.sale_id for event in events) == list(range(1, 1_201))
    assert all(event.month == f"{event.sold_at:%Y-%m}" for event in events)
    other = run_module(live, *arguments, "--seed", "8")
    assert other.returncode == 2
    assert "error: the stream sales holds other sales" in other.stderr


def test_a_pace_is_smooth() -> None:
    """What is due follows the clock; after a stall it goes half as fast again, and nothing is forgotten."""
    pace = Pace(rate=1_024, began=10.0)
    assert [pace.due(10.0 + n / 256) for n in range(5)] == [0, 4, 4, 4, 4]
    late = [pace.due(12.0 + n / 256) for n in range(1024)]
    assert late[:3] == [77, 7, 7]  # a stall of nearly two seconds is first felt as one of 50 ms
    assert late[-3:] == [4, 4, 4]
    assert sum(late) == pace.given - 16 == int((2.0 + 1023 / 256) * 1_024) - 16
    pace.give_back(1)
    assert pace.due(12.0 + 1023 / 256) == 1
