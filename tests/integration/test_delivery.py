"""Delivery on real Kafka and S3: exactly once through every crash, bad records, partitions, proofs."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import replace
from datetime import timedelta

import msgspec
import pytest

from infra.archive.intents import WRITER, Intent, check_store
from infra.archive.reading import delivered, delivered_errors, delivered_rows
from infra.contracts.delivery import DeclaredDelivery
from infra.contracts.errors import FailedError, UserError
from infra.contracts.events import encode
from infra.contracts.prefixes import parse_prefix
from infra.metrics import Metrics
from infra.objects import ObjectStore
from infra.settings import Settings
from infra.streams.errors import OffsetOutOfRangeError
from infra.streams.records import Shard
from stream_consumers.delivery import Delivering, Worker
from stream_consumers.delivery_cuts import Cut, Sorting, resolve
from stream_consumers.delivery_stream import DeliveryStream
from stream_consumers.worker import BAD_IN_A_ROW
from tests.delivery_cases import T0, sale, transaction
from tests.delivery_stage import (
    SHARDS,
    WITHIN_S,
    Crash,
    Stage,
    SteppedConsumer,
    Steps,
    ids,
    partitioned,
    read_rows,
    stage,
)
from tests.stream_cases import wait


@pytest.fixture
def settings(s3_settings: Settings, kafka_settings: Settings) -> Settings:
    """Servers that all tests share."""
    return replace(s3_settings, kafka_servers=kafka_settings.kafka_servers)


@pytest.fixture
def scene(settings: Settings) -> Iterator[Stage]:
    """A stream of transactions of the test's own."""
    with stage(settings) as made:
        yield made


def other(delivery: DeclaredDelivery) -> DeclaredDelivery:
    """The same delivery stream, declared otherwise: another format, place and buffer."""
    prefix = parse_prefix(f"{delivery.stream}/other/!{{timestamp:yyyy}}/!{{firehose:random-string}}-")
    return replace(delivery, format="json", extension=".gz", prefix=prefix, size_bytes=1 << 10)


def bad(number: int) -> tuple[bytes, bytes]:
    """A bad record, unlike all others; every second one is too far in the future."""
    if number % 2:
        return b"C00001", b'{"transaction_id": %d}' % number
    event = transaction(number, event_time=T0 + timedelta(days=100 + number))
    return event.key.encode(), encode(event)


def test_a_crash_after_any_step_loses_and_doubles_nothing(scene: Stage) -> None:
    """Also when the next process has another configuration: the intent decides, and no object is orphaned."""
    configurations = (scene.declared, other(scene.declared))
    put, wrong, after, seen = 0, list[bytes](), 0, list[str]()
    while True:
        values = [transaction(number) for number in range(put, put + 30)]
        broken = [bad(number) for number in range(put, put + 4)]
        scene.put([*values[:20], *broken, *values[20:]])
        put, wrong = put + 30, [*wrong, *(value for _, value in broken)]
        steps = Steps(crash_after=after)
        try:
            scene.deliver(configurations[after % 2], steps, max_records=1000)
        except Crash:
            seen.append(steps.names[-1] if steps.names else "nothing")
        else:
            break
        scene.deliver(configurations[(after + 1) % 2])
        check(scene, put, wrong)
        after += 1
    check(scene, put, wrong)
    assert set(seen) == {"nothing", "intent", "object", "offset"}
    assert len(seen) >= 5
    formats = {url.rsplit(".", 1)[1] for url in scene.objects(f"/{scene.stream}/") if "/errors/" not in url}
    assert formats == {"parquet", "gz"}


def check(scene: Stage, put: int, wrong: list[bytes]) -> None:
    """Each record is once in the archive, each bad one once in the errors; no object is unaccounted for."""
    assert ids(scene.archived()) == Counter(range(put))
    assert scene.errors() == Counter(wrong)
    assert set(scene.objects()) == scene.intended()


def test_the_intents_cover_the_stream_and_tell_what_holds_its_offsets(scene: Stage) -> None:
    """Read back by ranges of offsets: each range gives just its own records, whatever the cuts were."""
    scene.put([transaction(number) for number in range(60)])
    middle = {shard: end for shard, (_, end) in scene.ranges().items()}
    broken = [bad(number) for number in range(10)]
    scene.put([transaction(60), *broken, *(transaction(number) for number in range(61, 120))])
    scene.deliver(replace(scene.declared, interval_s=900.0), max_records=1000)
    assert len(scene.objects()) <= 2 * SHARDS
    whole = scene.ranges()
    for shard in whole:
        firsts = scene.intents.firsts(shard.number)
        assert len(firsts) == 1
    older = {shard: (begin, middle[shard]) for shard, (begin, _) in whole.items()}
    newer = {shard: (middle[shard], end) for shard, (_, end) in whole.items()}
    found = []
    for ranges in (older, newer, whole):
        tables = delivered_rows(scene.store, scene.intents, ranges, ["transaction_id"])
        found.append(sorted(value for table in tables for value in table["transaction_id"].to_pylist()))
    assert found == [list(range(60)), list(range(60, 120)), list(range(120))]
    errors = [list(delivered_errors(scene.store, scene.intents, ranges)) for ranges in (older, newer, whole)]
    assert [len(each) for each in errors] == [0, 10, 10]
    held = list(delivered(scene.intents, whole))
    assert {each.part.url for each in held} == set(scene.objects())


def test_a_shard_without_records_reads_back_as_nothing(scene: Stage) -> None:
    """All records have one card, so the other shard has neither records nor cuts."""
    scene.put([transaction(number, card_id="C1") for number in range(5)])
    scene.deliver(scene.declared)
    ranges = scene.ranges()
    assert sorted(end - begin == 0 for begin, end in ranges.values()) == [False, True]
    tables = delivered_rows(scene.store, scene.intents, ranges, ["transaction_id"])
    assert [value for table in tables for value in table["transaction_id"].to_pylist()] == list(range(5))
    empty = next(shard for shard, (begin, end) in ranges.items() if begin == end)
    assert list(scene.intents.overlapping(empty.number, 0, 5)) == []


def test_buffers_are_cut_by_size_and_at_the_orderly_end(scene: Stage) -> None:
    """A long interval with a small size makes several objects; the rest is written when it ends."""
    scene.put([transaction(number) for number in range(200)])
    metrics = scene.deliver(replace(scene.declared, interval_s=900.0, size_bytes=3_000), max_records=20)
    assert ids(scene.archived()) == Counter(range(200))
    assert 4 <= len(scene.objects()) <= 10
    text = metrics.render().decode()
    assert f'millstream_delivered_records_total{{delivery="{scene.declared.name}"}} 200.0' in text
    assert f'millstream_open_intents{{delivery="{scene.declared.name}"}} 0.0' in text


def test_a_cut_of_bad_records_only_moves_on(scene: Stage) -> None:
    """It has an object of errors and no other; nothing new makes no cut at all."""
    broken = [bad(number) for number in range(8)]
    scene.put(broken)
    scene.deliver()
    assert scene.archived() == []
    assert scene.errors() == Counter(value for _, value in broken)
    before = scene.objects()
    scene.deliver()
    assert scene.objects() == before
    scene.put([transaction(1)])
    scene.deliver()
    assert ids(scene.archived()) == Counter([1])


def test_the_newest_time_before_a_cut_is_remembered(scene: Stage) -> None:
    """A later process knows it: what is good after it would be too far from the beginning."""
    late = [
        transaction(number, card_id="C00001", event_time=T0 + timedelta(days=20 * number))
        for number in (1, 2, 3)
    ]
    for event in late:
        scene.put([event])
        scene.deliver()
    far = transaction(9, card_id="C00001", event_time=late[-1].event_time + timedelta(days=32))
    scene.put([far])
    scene.deliver()
    assert ids(scene.archived()) == Counter([1, 2, 3])
    assert scene.errors() == Counter([encode(far)])


def test_without_committed_offsets_it_goes_on_after_the_last_cut(scene: Stage) -> None:
    """Offsets that Kafka has forgotten double nothing, also when the log begins amidst a cut by then."""
    group = f"delivery-{scene.declared.name}"
    scene.put([transaction(number) for number in range(30)])
    scene.deliver()
    scene.admin.trim({shard: begin + 3 for shard, (begin, _) in scene.ranges().items()})
    scene.admin.delete_groups([group])
    scene.put([transaction(number) for number in range(30, 40)])
    with pytest.raises(Crash):
        scene.deliver(steps=Steps(crash_after=1))
    scene.admin.delete_groups([group])
    scene.deliver()
    assert ids(scene.archived()) == Counter(range(40))
    assert set(scene.objects()) == scene.intended()


def test_an_offset_that_is_not_in_the_log_is_an_error(scene: Stage) -> None:
    """Records that are gone before they were read are told with both numbers, never passed over."""
    scene.put([transaction(number) for number in range(30)])
    scene.deliver()
    offsets = scene.admin.group_offsets(f"delivery-{scene.declared.name}")
    scene.put([transaction(number) for number in range(30, 60)])
    ends = {shard: end for shard, (_, end) in scene.ranges().items()}
    scene.admin.trim(ends)
    with pytest.raises(OffsetOutOfRangeError) as caught:
        scene.deliver()
    lost = [f"offset {offsets[shard]:,}, but its log goes from {ends[shard]:,}" for shard in offsets]
    assert any(each in str(caught.value) for each in lost), str(caught.value)


def test_a_newer_writers_cut_stops_an_older_one(scene: Stage) -> None:
    """With a message that says what to start instead."""
    scene.put([transaction(number) for number in range(10)])
    with pytest.raises(Crash):
        scene.deliver(steps=Steps(crash_after=SHARDS))
    for shard in range(SHARDS):
        url = scene.intents.url(shard, scene.intents.firsts(shard)[0])
        body = scene.store.get(url)
        scene.store.put(url, body.replace(b'"writer":%d' % WRITER, b'"writer":%d' % (WRITER + 1)))
    with pytest.raises(UserError, match="start the newer one"):
        scene.deliver()
    assert scene.objects() == []


def test_another_members_cut_is_taken_up(scene: Stage) -> None:
    """Of two processes that both think that a shard is theirs, the first to say how it is cut decides."""
    scene.put([transaction(number) for number in range(40)])
    rival = Rival(scene)
    scene.deliver(store=rival, max_records=1000)
    assert ids(scene.archived()) == Counter(range(40))
    assert len(rival.urls) == SHARDS
    assert rival.urls < set(scene.objects())
    assert set(scene.objects()) == scene.intended()


class Rival(ObjectStore):
    """A store in which somebody else is always just before us with a smaller cut, once for each shard."""

    def __init__(self, scene: Stage) -> None:
        super().__init__(scene.settings)
        self._scene = scene
        self.urls: set[str] = set()

    def put_once(self, url: str, body: bytes) -> bool:
        """See ObjectStore."""
        ours = msgspec.json.decode(body, type=Intent)
        records = self._scene.read(Shard(ours.stream, ours.shard))[:3]
        if ours.first == 0:
            declared = other(self._scene.declared)
            cut = Cut(Sorting.declared(declared, T0), 0, None)
            cut.take(records, lambda _: True)
            theirs = resolve(cut, declared, ours.topic_id, ours.shard)
            assert super().put_once(url, msgspec.json.encode(theirs))
            self.urls.add(theirs.parts[0].url)
        return super().put_once(url, body)


def test_a_lost_place_in_the_group_doubles_nothing(scene: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit that is refused, after the objects were written: they are written again, the same.

    Which shards are this member's then, and from where on, only a rebalance says.
    """
    threads: list[str] = []
    assigned = DeliveryStream.assigned

    def noting(stream: DeliveryStream, shards: Collection[Shard]) -> None:
        threads.append(threading.current_thread().name)
        assigned(stream, shards)

    monkeypatch.setattr(DeliveryStream, "assigned", noting)
    scene.put([transaction(number) for number in range(60)])
    steps = Losing()
    scene.deliver(steps=steps, max_records=20)
    assert steps.lost == 2
    assert threads == ["assigned"] * 3
    assert ids(scene.archived()) == Counter(range(60))
    assert set(scene.objects()) == scene.intended()


class Losing(Steps):
    """Loses the place in the group before the first commits."""

    lost = 0

    def commits(self, consumer: SteppedConsumer) -> None:
        """See Steps."""
        if self.lost < 2:
            self.lost += 1
            consumer.lose_place()


def test_another_bucket_is_refused_without_the_intents(scene: Stage) -> None:
    """After an orderly end and after a crash; with the old one, or a copy of its intents, it goes on."""
    late = timedelta(days=20)
    scene.put([transaction(number, event_time=T0 + late) for number in range(20)])
    scene.deliver()
    moved = replace(scene.declared, bucket="test-other")
    scene.store.ensure_bucket(moved.bucket)
    with pytest.raises(UserError, match=f"copy delivery/{scene.declared.name}/ from the old bucket"):
        scene.deliver(moved)
    scene.put([transaction(number, event_time=T0 + 2 * late) for number in range(20, 40)])
    with pytest.raises(Crash):
        scene.deliver(steps=Steps(crash_after=SHARDS + 1), max_records=1000)
    with pytest.raises(UserError, match="BucketARN"):
        scene.deliver(moved)
    assert not [each for each in scene.store.list("s3://test-other/") if scene.stream in each.url]
    scene.deliver()
    assert ids(scene.archived()) == Counter(range(40))
    for intent in scene.intents.listed():
        scene.store.put(intent.url.replace("s3://test/", "s3://test-other/"), scene.store.get(intent.url))
    scene.put([transaction(number, event_time=T0 + 3 * late) for number in range(40, 60)])
    scene.deliver(moved)
    assert ids(scene.archived()) == Counter(range(40))
    new = [each.url for each in scene.store.list(f"s3://test-other/{scene.stream}/")]
    assert ids(row for url in new for row in read_rows(url, scene.store.get(url))) == Counter(range(40, 60))


def test_too_many_bad_records_in_a_row_end_it_behind_them(scene: Stage) -> None:
    """They are written and committed before, so that the next start has others; a crash amid it is mended."""
    broken = [(b"C00001", b"{%d" % number) for number in range(BAD_IN_A_ROW + 2_500)]
    scene.put(broken, per_transaction=500)
    with pytest.raises(Crash):
        scene.deliver(replace(scene.declared, interval_s=900.0), Steps(crash_after=1), max_records=1000)
    (shard,) = (each for each in range(SHARDS) if scene.intents.firsts(each))
    intent = scene.intents.last_before(shard)
    assert intent is not None
    assert sum(part.records for part in intent.bad) > BAD_IN_A_ROW
    scene.deliver(max_records=1000)
    assert scene.errors() == Counter(value for _, value in broken)

    more = [(b"C00001", b"[%d" % number) for number in range(BAD_IN_A_ROW + 2_500)]
    scene.put([*more, transaction(1)], per_transaction=500)
    with pytest.raises(FailedError, match="bad records in a row") as caught:
        scene.deliver(max_records=1000)
    assert "\n" not in str(caught.value)
    assert scene.declared.name in str(caught.value)
    scene.deliver(max_records=1000)
    assert scene.errors() == Counter(value for _, value in [*broken, *more])
    assert ids(scene.archived()) == Counter([1])
    assert set(scene.objects()) == scene.intended()


def test_what_a_lines_reader_can_not_read_is_no_good_record(scene: Stage) -> None:
    """In lines of JSON a field that nobody knows is kept: it must be text, its numbers may be any."""
    good = [transaction(number) for number in range(4)]
    huge = encode(good[3])[:-1] + b',"new":1e999}'
    unreadable = encode(good[0])[:-1] + b',"new":"a\xff"}'
    scene.put([*good[:3], (good[3].key.encode(), huge), (good[0].key.encode(), unreadable)])
    scene.deliver(other(scene.declared), max_records=1000)
    columns = ["transaction_id", "event_time"]
    tables = delivered_rows(scene.store, scene.intents, scene.ranges(), columns)
    rows = sorted((row for table in tables for row in table.to_pylist()), key=lambda row: row[columns[0]])
    assert rows == [{"transaction_id": each.transaction_id, "event_time": each.event_time} for each in good]
    assert scene.errors() == Counter([unreadable])


def test_processes_share_the_shards_and_each_is_ready(scene: Stage) -> None:
    """One that gets none is ready too; a shard's lag is measured by the process that has it alone."""
    stop, workers, metrics = threading.Event(), list[Worker](), list[Metrics]()

    def start() -> None:
        metrics.append(Metrics("delivery"))
        delivering = Delivering(scene.settings, scene.data_set, scene.store, metrics[-1], 6)
        workers.append(Worker(delivering, scene.declared, Sorting.declared(scene.declared, T0), stop))
        workers[-1].start()

    def measured() -> list[int]:
        return sorted(each.render().decode().count("millstream_consumer_lag{") for each in metrics)

    try:
        start()
        wait(lambda: measured() == [SHARDS])
        for _ in range(SHARDS):
            start()
        wait(lambda: measured() == [0, *[1] * SHARDS])
        wait(lambda: all(worker.is_ready.is_set() for worker in workers))
        assert [worker.health() for worker in workers] == [None] * len(workers)
    finally:
        stop.set()
        for worker in workers:
            worker.join(WITHIN_S)
    assert [worker.failure for worker in workers] == [None] * len(workers)


def test_partitions_go_to_their_months_and_too_many_to_the_errors(settings: Settings) -> None:
    """Dynamic partitioning with a limit: a month has one object a cut and shard."""
    with stage(settings, "sales") as scene:
        scene.declared = partitioned(scene)
        months = ["2024-01", "2024-02", "2024-03"]
        sales = [sale(number, months[number % 3]) for number in range(60)]
        scene.put(sales)
        with pytest.raises(Crash):
            scene.deliver(steps=Steps(crash_after=SHARDS + 1), max_records=1000, active_partitions=2)
        scene.deliver(max_records=1000)
        rows = scene.archived()
        kept = {row["month"] for row in rows}
        assert len(kept) == 2
        assert ids(rows, "sale_id") == Counter(each.sale_id for each in sales if each.month in kept)
        assert scene.errors() == Counter(encode(each) for each in sales if each.month not in kept)
        assert {url.split("/")[4] for url in scene.objects("month=")} == {f"month={month}" for month in kept}
        assert all("activePartitionExceeded" in url for url in scene.objects("/errors/"))


def test_a_store_that_overwrites_is_refused(s3_settings: Settings) -> None:
    """SeaweedFS honours If-None-Match; one that does not is named with what to use."""
    store = ObjectStore(s3_settings)
    check_store(store, s3_settings.bucket)
    check_store(store, s3_settings.bucket)

    class Careless(ObjectStore):
        """Ignores the header."""

        def put_once(self, url: str, body: bytes) -> bool:
            """Overwrites."""
            self.put(url, body)
            return True

    with pytest.raises(UserError, match="ignores If-None-Match"):
        check_store(Careless(s3_settings), s3_settings.bucket)
