"""Cuts, their intents and objects, without servers."""

from __future__ import annotations

import gzip
import io
import json
from dataclasses import replace
from datetime import timedelta

import msgspec
import pyarrow.parquet as pq
import pytest

from infra.archive.errors import FORMAT_CONVERSION, PARTITIONS_EXCEEDED, PROCESSING, raw_data, read_failed
from infra.archive.formats import columns_of, object_format
from infra.archive.intents import Intent, runs_of
from infra.archive.reading import offsets_of
from infra.contracts.datasets import DataSet
from infra.contracts.delivery import DeclaredDelivery, Partitioning, declared_delivery
from infra.contracts.errors import UserError
from infra.contracts.events import Transaction, encode
from infra.contracts.prefixes import parse_prefix
from infra.streams.records import Record
from stream_consumers.delivery import deliveries_of
from stream_consumers.delivery_cuts import Cut, ReplayDiffersError, Sorting, resolve
from tests.delivery_cases import JSON_LINES, T0, records, sale, transaction

TOPIC = "5a4fbb5c-6fd8-4cf1-8d4c-55f4a1b8a7a6"
TRANSACTIONS, _, _, SALES = deliveries_of(DataSet("lake"))


def always(_: str) -> bool:
    """No limit of partitions."""
    return True


def cut_of(
    delivery: DeclaredDelivery, taken: list[Record], batch: int = 1000, intent: Intent | None = None
) -> Cut:
    """A cut of records in batches."""
    sorting = Sorting.declared(delivery, T0) if intent is None else Sorting.of(intent)
    cut = Cut(sorting, taken[0].offset, None if intent is None else intent.newest, intent)
    for begin in range(0, len(taken), batch):
        cut.take(taken[begin : begin + batch], always)
    return cut


def test_the_objects_do_not_depend_on_batches() -> None:
    """The same range gives the same addresses and the same bytes, in whatever batches it comes."""
    taken = records([transaction(number) for number in range(100)])
    made = []
    for batch in (1, 7, 1000):
        cut = cut_of(TRANSACTIONS, taken, batch)
        intent = resolve(cut, TRANSACTIONS, TOPIC, 3)
        made.append([(part.url, body) for part, body in cut.bodies(intent)])
    assert made[0] == made[1] == made[2]
    ((url, body),) = made[0]
    assert url.startswith("s3://lake/transactions/live/2018/08/08/00/transactions-1-2018-08-08-00-00-00-")
    assert url.endswith(".parquet")
    assert pq.read_table(io.BytesIO(body)).to_pylist() == [
        msgspec.structs.asdict(transaction(number)) for number in range(100)
    ]


def test_bad_records_are_set_aside_in_an_object_of_their_own() -> None:
    """With their reason and data, good ones untouched; one too far in the future does not move the time."""
    far = transaction(1, event_time=T0 + timedelta(days=32))
    bad = [
        (b"C00001", b"{"),
        (b"C00001", encode(transaction(2))),
        (far.key.encode(), encode(far)),
        (b"C00001", b""),
        (b"C00001", encode(transaction(1)).replace(b'"amount_cents":101', b'"amount_cents":-1')),
        (
            b"C00001",
            encode(transaction(1)).replace(b'"transaction_id":1', b'"transaction_id":9223372036854775808'),
        ),
        (b"C00001", b"\xff\xfe"),
    ]
    good = [transaction(number) for number in range(10, 14)]
    cut = cut_of(TRANSACTIONS, records([good[0], *bad, *good[1:], far]))
    intent = resolve(cut, TRANSACTIONS, TOPIC, 0)
    assert cut.newest == good[-1].event_time
    (_, body), (part, errors) = cut.bodies(intent)
    assert pq.read_table(io.BytesIO(body))["transaction_id"].to_pylist() == [10, 11, 12, 13]
    assert part.url.startswith(f"s3://lake/errors/transactions/{FORMAT_CONVERSION}/2018/08/08/00/")
    failed = read_failed(errors)
    assert [(int(each.sequence_number), raw_data(each)) for each in failed] == [
        *((number + 1, value) for number, (_, value) in enumerate(bad)),
        (11, encode(far)),
    ]
    assert all(each.last_error_message and each.last_error_code == FORMAT_CONVERSION for each in failed)
    assert json.loads(errors.splitlines()[0])["attemptsMade"] == 1
    assert intent.good[0].offsets == [(0, 1), (8, 3)]
    assert intent.bad[0].offsets == [(1, 7), (11, 1)]


def test_the_future_begins_at_the_newest_before_the_range() -> None:
    """Before a shard's first record it is the data set's first live time."""
    late = transaction(1, event_time=T0 + timedelta(days=40))
    taken = records([late])
    assert cut_of(TRANSACTIONS, taken).bad == 1
    cut = Cut(Sorting.declared(TRANSACTIONS, T0), 0, T0 + timedelta(days=20))
    cut.take(taken, always)
    assert (cut.good, cut.bad, cut.newest) == (1, 0, late.event_time)


def test_partitions_have_objects_of_their_own() -> None:
    """One for each value, in order of the first record, the rows in order."""
    months = ["2024-02", "2024-01", "2024-02", "2024-01", "2024-03"]
    cut = cut_of(SALES, records([sale(number, month) for number, month in enumerate(months)]))
    intent = resolve(cut, SALES, TOPIC, 1)
    found = {part.partition: pq.read_table(io.BytesIO(body)) for part, body in cut.bodies(intent)}
    assert list(found) == ["2024-02", "2024-01", "2024-03"]
    assert found["2024-02"]["sale_id"].to_pylist() == [0, 2]
    for part in intent.parts:
        folder, _, file = part.url.removeprefix("s3://lake/sales-stream/").partition("/")
        assert folder == f"month={part.partition}"
        assert "/" not in file


def test_a_partition_too_many_goes_to_the_errors_as_the_intent_says() -> None:
    """A value that is refused stays so in its cut, and a replay refuses the same whatever is allowed then."""
    months = ["2024-01", "2024-02", "2024-01", "2024-02", "2024-03"]
    taken = records([sale(number, month) for number, month in enumerate(months)])
    cut = Cut(Sorting.declared(SALES, None), 0, None)
    answers = iter([True, False, True])
    cut.take(taken[:2], lambda _: next(answers))
    cut.take(taken[2:], lambda _: next(answers))
    intent = resolve(cut, SALES, TOPIC, 0)
    assert {part.partition: part.offsets for part in intent.good} == {
        "2024-01": [(0, 1), (2, 1)],
        "2024-03": [(4, 1)],
    }
    (refused,) = intent.bad
    assert (refused.error, refused.offsets) == (PARTITIONS_EXCEEDED, [(1, 1), (3, 1)])
    assert f"/{PARTITIONS_EXCEEDED}/" in refused.url
    again = cut_of(SALES, taken, intent=intent)
    assert [body for _, body in again.bodies(intent)] == [body for _, body in cut.bodies(intent)]


def test_a_partition_that_no_address_holds_goes_to_the_errors() -> None:
    """One that climbs, has what S3's XML can't hold, or makes a name longer than a server's file takes."""
    delivery = replace(
        SALES,
        partitioning=Partitioning("store", "store"),
        prefix=parse_prefix("sales-stream/store=!{partitionKeyFromQuery:store}/"),
    )
    fitting = ["S1", "s" * 200, "\u00e4" * 100, "a b", "a..b"]
    long = ["s" * 201, "\u00e4" * 101, "s" * 256]
    wrong = ["..", "a/b", "a\\b", "a\0b", "a\n", "\x7f", "\x85", "\ufffe", *long]
    stores = enumerate([*fitting, *wrong, *fitting])
    sales = [msgspec.structs.replace(sale(number, "2024-01"), store=store) for number, store in stores]
    cut = cut_of(delivery, records(sales))
    intent = resolve(cut, delivery, TOPIC, 0)
    assert [part.partition for part in intent.good] == fitting
    ((_, errors),) = [each for each in cut.bodies(intent) if each[0].error is not None]
    failed = read_failed(errors)
    assert [msgspec.json.decode(raw_data(each))["store"] for each in failed] == wrong
    assert {each.last_error_code for each in failed} == {PROCESSING}
    assert cut.bad == len(wrong)


def test_an_intent_is_executed_as_it_says_whatever_is_declared_now() -> None:
    """Its body is all that a replay needs; it takes the records of its range and no more."""
    taken = records([transaction(number) for number in range(20)])
    cut = cut_of(TRANSACTIONS, taken[:12])
    intent = resolve(cut, TRANSACTIONS, TOPIC, 0)
    read = msgspec.json.decode(msgspec.json.encode(intent), type=Intent)
    assert read == intent
    again = Cut(Sorting.of(read), 0, read.newest, read)
    assert again.take(taken[:5], always) == 5
    assert not again.is_complete
    assert again.take(taken[5:], always) == 7
    assert again.is_complete
    assert [body for _, body in again.bodies(read)] == [body for _, body in cut.bodies(intent)]


def test_a_replay_of_other_records_is_an_error() -> None:
    """Nothing is written when the records are not those that the intent was made for."""
    taken = records([transaction(number) for number in range(5)])
    intent = resolve(cut_of(TRANSACTIONS, taken), TRANSACTIONS, TOPIC, 0)
    others = cut_of(TRANSACTIONS, [*taken[:2], *taken[3:]], intent=intent)
    with pytest.raises(ReplayDiffersError, match="from 0 to 5"):
        list(others.bodies(intent))


def test_lines_of_json_are_the_records_own() -> None:
    """Unknown fields stay, a line break between fields goes, and the bytes are always the same."""
    delivery = declared_delivery(JSON_LINES)
    spread = encode(sale(1, "2024-01")).replace(b",", b',\n"extra" : 1,', 1)
    plain = encode(sale(2, "2024-01"))
    cut = cut_of(delivery, records([(b"S001", spread), (b"S002", plain), (b"S002", b"{}")]))
    intent = resolve(cut, delivery, TOPIC, 0)
    (_, body), (errors, _) = cut.bodies(intent)
    lines = gzip.decompress(body).splitlines()
    assert [json.loads(line) for line in lines] == [json.loads(spread), json.loads(plain)]
    assert lines[1] == plain
    assert errors.error == "processing-failed"
    assert body == next(cut.bodies(intent))[1]


def test_an_older_schema_can_be_written_and_a_newer_one_not() -> None:
    """A column that the event has no more, or as another type, stops the replay with a message."""
    columns = columns_of("parquet", Transaction)
    body = object_format("parquet", Transaction, columns[:2]).body([])
    assert pq.read_schema(io.BytesIO(body)).names == ["transaction_id", "event_time"]
    for wrong in (("new_field", "int64"), ("amount_cents", "double")):
        with pytest.raises(UserError, match=wrong[0]):
            object_format("parquet", Transaction, [wrong])


def test_addresses_follow_from_topic_and_range() -> None:
    """Another topic, shard or range has another address; the declaration's name alone does not decide."""
    taken = records([transaction(number) for number in range(4)])
    other = "00000000-0000-4000-8000-000000000000"
    made = [
        resolve(cut_of(TRANSACTIONS, taken), TRANSACTIONS, TOPIC, 0),
        resolve(cut_of(TRANSACTIONS, taken), TRANSACTIONS, TOPIC, 1),
        resolve(cut_of(TRANSACTIONS, taken), TRANSACTIONS, other, 0),
        resolve(cut_of(TRANSACTIONS, taken[:3]), TRANSACTIONS, TOPIC, 0),
        resolve(cut_of(TRANSACTIONS, taken[1:]), TRANSACTIONS, TOPIC, 0),
    ]
    assert len({each.parts[0].url for each in made}) == 5


def test_runs_name_each_offset() -> None:
    """Gaps of transactions are no offsets of records."""
    offsets = [3, 4, 5, 9, 11, 12]
    assert runs_of(offsets) == [(3, 3), (9, 1), (11, 2)]
    assert offsets_of(runs_of(offsets)).tolist() == offsets
    assert runs_of([]) == []
    assert offsets_of([]).tolist() == []
