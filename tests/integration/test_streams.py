"""Producers, readers, transactions and administration on a real Kafka."""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from collections.abc import Iterator

import pytest

from infra.contracts.errors import UserError
from infra.settings import Settings
from infra.streams.admin import StreamAdmin
from infra.streams.consumer import StreamConsumer
from infra.streams.errors import (
    FencedError,
    IdTakenError,
    InvalidArgumentException,
    OffsetOutOfRangeError,
    ProvisionedThroughputExceededException,
)
from infra.streams.limits import RECORD_BYTES, RECORDS_PER_S
from infra.streams.producer import StreamProducer
from infra.streams.records import Shard
from infra.streams.transactions import TransactionalProducer
from tests.stream_cases import (
    member,
    new_stream,
    polled,
    put_all,
    read_to_end,
    read_until,
    reader,
    shards_of,
    wait,
)


@pytest.fixture
def servers(kafka_settings: Settings) -> str:
    """A running Kafka."""
    return kafka_settings.kafka_servers


@pytest.fixture
def producer(servers: str) -> Iterator[StreamProducer]:
    """A producer whose shards' second never ends."""
    made = StreamProducer(servers, "test", clock=lambda: 0.0)
    yield made
    made.close()


@pytest.fixture
def writer(servers: str) -> Iterator[TransactionalProducer]:
    """A transactional producer with an id of its own."""
    made = TransactionalProducer(servers, f"test-{uuid.uuid4().hex[:8]}", timeout_s=30)
    yield made
    made.close()


def test_records_of_a_key_are_in_one_shard_in_order(servers: str, producer: StreamProducer) -> None:
    """What was put is read back whole: key, value, headers, in order of its key's shard."""
    stream = new_stream(servers, 4)
    for number in range(200):
        producer.put(stream, f"C{number % 10}", str(number).encode(), [("h", b"\xff")])
    producer.flush()
    records = read_to_end(reader_ := reader(servers, shards_of(stream, 4)), shards_of(stream, 4))
    reader_.close()
    assert producer.acknowledged == len(records) == 200
    assert {record.headers for record in records} == {(("h", b"\xff"),)}
    for card in range(10):
        own = [record for record in records if record.key == f"C{card}".encode()]
        assert [int(record.value or b"") for record in own] == list(range(card, 200, 10))
        assert {record.shard for record in own} == {producer.shard_of(stream, f"C{card}")}


def test_a_full_shard_throttles_and_the_others_do_not(servers: str, producer: StreamProducer) -> None:
    """One second's records are taken, the next put is held back with its wait; another shard takes more."""
    stream = new_stream(servers)
    for _ in range(RECORDS_PER_S):
        producer.put(stream, "C1", b"x")
    with pytest.raises(ProvisionedThroughputExceededException) as caught:
        producer.put(stream, "C1", b"x")
    assert caught.value.wait_s == pytest.approx(1 / RECORDS_PER_S)
    full = producer.shard_of(stream, "C1")
    other = next(key for key in map(str, range(99)) if producer.shard_of(stream, key) != full)
    producer.put(stream, other, b"x")
    producer.flush()
    use = producer.by_shard()
    assert (use[full].records, use[full].throttled, producer.throttled) == (RECORDS_PER_S, 1, 1)
    assert producer.acknowledged == RECORDS_PER_S + 1


def test_what_no_shard_takes_is_refused_and_counted(servers: str, producer: StreamProducer) -> None:
    """2 MB, an empty key and one of 257 characters are never written; 1 MiB and 256 characters are."""
    stream, other = new_stream(servers), new_stream(servers)
    for key, size in (("C1", 2_000_000), ("", 10), ("k" * 257, 10), ("C1", RECORD_BYTES - 1)):
        with pytest.raises(InvalidArgumentException):
            producer.put(stream, key, b"x" * size)
    assert producer.refused[stream] == 4
    producer.put(stream, "C1", b"x" * (RECORD_BYTES - 2))
    producer.put(other, "ü" * 256, b"x")
    producer.flush()
    with StreamAdmin(servers) as admin:
        assert [sum(end for _, end in admin.offsets(each).values()) for each in (stream, other)] == [1, 1]


def test_a_stream_that_is_not_there_is_said(servers: str) -> None:
    """One line names the stream and what makes it."""
    producer = StreamProducer(servers, "test")
    with pytest.raises(UserError, match="there is no stream nowhere"):
        producer.put("nowhere", "C1", b"x")
    producer.close()


def test_a_transaction_is_seen_when_it_is_committed(servers: str, writer: TransactionalProducer) -> None:
    """Records of an open transaction are not read, of a committed one all are, of an aborted one none."""
    stream = new_stream(servers, 1)
    shards = shards_of(stream, 1)
    consumer = reader(servers, shards)
    writer.begin()
    writer.send(stream, "C1", b"first")
    writer.send(stream, b"\xff\xfe", b"raw key")
    assert polled(consumer, 1.0) == []
    writer.commit()
    assert [record.value for record in read_to_end(consumer, shards)] == [b"first", b"raw key"]
    writer.begin()
    writer.send(stream, "C1", b"never")
    writer.abort()
    writer.begin()
    writer.send(stream, "C1", b"second", shard=0)
    writer.commit()
    assert [record.value for record in read_to_end(consumer, shards)] == [b"second"]
    consumer.close()


def test_the_last_record_is_the_last_one_that_counts(servers: str, writer: TransactionalProducer) -> None:
    """Marks and aborted records at the end of a shard are passed over; an empty shard has none."""
    stream = new_stream(servers)
    with StreamAdmin(servers) as admin:
        assert admin.last_records(shards_of(stream)) == {}
        writer.begin()
        writer.send(stream, "C1", b"kept", shard=0)
        writer.commit()
        writer.begin()
        for _ in range(300):
            writer.send(stream, "C1", b"aborted", shard=0)
        writer.abort()
        last = admin.last_record(Shard(stream, 0))
        assert last is not None
        assert last.value == b"kept"
        assert admin.last_record(Shard(stream, 1)) is None


def test_offsets_are_committed_with_the_answers(servers: str, writer: TransactionalProducer) -> None:
    """Until the transaction is committed the group's offset stays; then it is what was sent."""
    stream = new_stream(servers, 1)
    shard = Shard(stream, 0)
    consumer = member(servers, stream, group := f"{stream}-group")
    put_all(servers, stream, ["C1"] * 3)
    wait(lambda: bool(polled(consumer)))
    writer.begin()
    writer.send(stream, "C1", b"answer")
    writer.send_offsets({shard: 3}, consumer.group_metadata())
    with StreamAdmin(servers) as admin:
        assert admin.group_offsets(group) == {}
        writer.commit()
        assert consumer.committed([shard]) == {shard: 3}
        wait(lambda: admin.group_offsets(group) == {shard: 3})
        assert admin.group_members(group) == 1
    consumer.close()


def test_a_new_owner_waits_for_the_offsets_of_an_open_transaction(
    servers: str, writer: TransactionalProducer
) -> None:
    """`committed` gives no answer while a transaction that holds an offset is open."""
    stream = new_stream(servers, 1)
    shard = Shard(stream, 0)
    consumer = member(servers, stream, f"{stream}-group")
    put_all(servers, stream, ["C1"])
    wait(lambda: bool(polled(consumer)))
    writer.begin()
    writer.send_offsets({shard: 1}, consumer.group_metadata())
    found: list[dict[Shard, int | None]] = []
    asking = threading.Thread(target=lambda: found.append(consumer.committed([shard])))
    asking.start()
    asking.join(0.5)
    assert asking.is_alive()
    writer.commit()
    asking.join(20)
    assert found == [{shard: 1}]
    consumer.close()


def test_who_lost_its_place_commits_nothing(servers: str, writer: TransactionalProducer) -> None:
    """Offsets by the place of a member that left are refused, and its answers are never seen."""
    stream = new_stream(servers, 1)
    shard = Shard(stream, 0)
    consumer = member(servers, stream, f"{stream}-group")
    place = consumer.group_metadata()
    consumer.close()
    later = member(servers, stream, f"{stream}-group")
    writer.begin()
    writer.send(stream, "C1", b"answer")
    with pytest.raises(FencedError):
        writer.send_offsets({shard: 0}, place)
    with pytest.raises(FencedError):
        writer.commit()
    writer.abort()
    assert later.committed([shard]) == {shard: None}
    later.close()
    consumer = reader(servers, [shard])
    assert read_to_end(consumer, [shard]) == []
    consumer.close()


def test_nobodys_place_is_refused(servers: str) -> None:
    """A consumer that has not joined its group gives no place: Kafka would not check it."""
    consumer = StreamConsumer(servers, streams=[new_stream(servers)], group="nobody", client_id="test")
    with pytest.raises(FencedError):
        consumer.group_metadata()
    consumer.close()


def test_a_second_owner_of_a_transactional_id_ends_the_first(servers: str) -> None:
    """What the first had open is aborted, and it can commit nothing more."""
    stream, name = new_stream(servers, 1), f"test-{uuid.uuid4().hex[:8]}"
    first = TransactionalProducer(servers, name, timeout_s=30)
    first.begin()
    first.send(stream, "C1", b"first")
    second = TransactionalProducer(servers, name, timeout_s=30)
    second.begin()
    second.send(stream, "C1", b"second")
    second.commit()
    with pytest.raises(IdTakenError):
        first.commit()
    first.close()
    second.close()
    consumer = reader(servers, shards := shards_of(stream, 1))
    assert [record.value for record in read_to_end(consumer, shards)] == [b"second"]
    consumer.close()


def test_a_transaction_that_took_too_long_is_no_sign_of_another_owner(
    servers: str, writer: TransactionalProducer
) -> None:
    """Kafka answers the same when a broker ended it; who was asleep so long goes on with a new producer."""
    stream = new_stream(servers, 1)
    slow = TransactionalProducer(servers, f"test-{uuid.uuid4().hex[:8]}", timeout_s=2)
    for each, value in ((slow, b"slow"), (writer, b"quick")):
        each.begin()
        each.send(stream, "C1", value)
        each.flush()
    writer.commit()
    consumer = reader(servers, shards_of(stream, 1))
    found = read_until(consumer, bool)  # once the slow one is ended
    assert [record.value for record in found] == [b"quick"]
    with pytest.raises(FencedError) as raised:
        slow.commit()
    assert not isinstance(raised.value, IdTakenError)
    slow.close()
    consumer.close()


def test_a_committed_offset_that_is_gone_is_an_error_with_both_numbers(servers: str) -> None:
    """Neither at the start nor in a poll is a position moved to where the log happens to begin."""
    stream = new_stream(servers, 1)
    shard = Shard(stream, 0)
    put_all(servers, stream, ["C1"] * 10)
    consumer = member(servers, stream, f"{stream}-group")
    consumer.commit({shard: 2})
    with StreamAdmin(servers) as admin:
        admin.trim({shard: 7})
    with pytest.raises(OffsetOutOfRangeError, match=r"offset 2, .* from 7 to 10"):
        consumer.start([shard])
    consumer.seek(shard, 2)
    with pytest.raises(OffsetOutOfRangeError, match=r"offset 2, .* from 7 to 10"):
        wait(lambda: bool(polled(consumer)))
    consumer.close()


def test_a_shard_gives_a_consumer_two_megabytes_a_second(servers: str) -> None:
    """After 2 MB the shard is held, while the other is read; a second later it is read on."""
    stream, now = new_stream(servers), [0.0]
    producer = StreamProducer(servers, "test", clock=lambda: now[0])
    full = producer.shard_of(stream, "C1")
    other = next(key for key in map(str, range(99)) if producer.shard_of(stream, key) != full)
    for second in range(4):
        now[0] = second * 2.0
        producer.put(stream, "C1", b"x" * (RECORD_BYTES - 2))
    producer.put(stream, other, b"x")
    producer.flush()
    producer.close()
    now = [0.0]
    consumer = StreamConsumer(servers, streams=[], group=None, client_id="test", clock=lambda: now[0])
    consumer.assign(shards_of(stream))
    for shard in shards_of(stream):
        consumer.seek(shard, 0)
    found = read_until(consumer, lambda records: len(records) >= 3)
    assert Counter(record.shard for record in found) == {full: 2, producer.shard_of(stream, other): 1}
    assert polled(consumer, 1.0) == []
    assert consumer.lag() == {full: 2, Shard(stream, 1 - full.number): 0}
    now[0] = 1.1
    assert [record.shard for record in read_until(consumer, lambda records: len(records) == 2)] == [full] * 2
    consumer.close()


def test_a_pause_of_the_callers_outlasts_the_limits(servers: str) -> None:
    """A shard that its reader paused is not read until it is resumed."""
    stream = new_stream(servers, 1)
    put_all(servers, stream, ["C1"] * 5)
    consumer = reader(servers, shards := shards_of(stream, 1))
    consumer.pause(shards)
    assert polled(consumer, 1.0) == []
    consumer.resume(shards)
    assert len(read_to_end(consumer, shards)) == 5
    consumer.close()


def test_a_stream_made_anew_has_another_topic_id(servers: str) -> None:
    """Admin and consumer know the same id; after delete and create it is another."""
    stream = new_stream(servers)
    with StreamAdmin(servers) as admin:
        described = admin.describe(stream)
        assert described is not None
        consumer = reader(servers, shards_of(stream))
        assert consumer.topic_id(stream) == described.topic_id
        consumer.close()
        admin.delete([stream, "nowhere"])
        assert admin.describe(stream) is None
        admin.create(stream, 2, 48)
        again = admin.describe(stream)
        assert again is not None
        assert again.topic_id != described.topic_id
        assert (again.shards, again.retention_hours) == (2, 48)
