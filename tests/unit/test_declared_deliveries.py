"""CreateDeliveryStream as it is declared here: what is honoured, refused and derived."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from infra.contracts.datasets import DataSet
from infra.contracts.delivery import Partitioning, declared_deliveries, declared_delivery
from infra.contracts.delivery_policy import CREATE
from infra.contracts.errors import UserError
from infra.contracts.resources import undecided
from infra.settings import ROOT
from stream_consumers.delivery import deliveries_of
from tests.delivery_cases import JSON_LINES

DECLARED: list[dict[str, Any]] = json.loads((ROOT / "infra/resources/delivery_streams.json").read_text())
BY_NAME = {
    each["CreateDeliveryStream"]["DeliveryStreamName"]: each["CreateDeliveryStream"] for each in DECLARED
}
S3 = "ExtendedS3DestinationConfiguration"


def test_every_member_of_the_request_is_decided() -> None:
    """The policy names each member of AWS's request once."""
    assert undecided("firehose", "CreateDeliveryStream", CREATE) == []


def test_the_declared_ones_are_those_of_the_story() -> None:
    """Transactions, labels and decisions go to their live folders, sales to their months."""
    found = {each.name: each for each in declared_deliveries(DECLARED)}
    assert set(found) == {"transactions", "labels", "decisions", "sales"}
    assert {each.format for each in found.values()} == {"parquet"}
    for name in ("transactions", "labels", "decisions"):
        assert found[name].prefix.parts[0] == ("", f"{name}/live/")
    assert found["sales"].partitioning == Partitioning("month", "month")
    assert found["sales"].prefix.parts[0] == ("", "sales-stream/month=")


def test_a_data_set_has_its_own() -> None:
    """Under its names of streams, in its bucket, and without the sales, which are nobody's."""
    found = {each.name: each for each in deliveries_of(DataSet("bucket", "0123abcd"))}
    assert set(found) == {f"{name}-0123abcd" for name in ("transactions", "labels", "decisions")}
    labels = found["labels-0123abcd"]
    assert labels.stream == "labels-0123abcd"
    assert labels.bucket == "bucket"
    assert labels.prefix.parts[0] == ("", "labels-0123abcd/live/")
    assert labels.error_prefix.parts[0] == ("", "errors/labels-0123abcd/")
    assert [each.name for each in deliveries_of(DataSet("bucket"), ["sales"])] == ["sales"]


def test_lines_of_json_are_declared_too() -> None:
    """GZIP with a delimiter; a prefix without an expression is followed by the time."""
    found = declared_delivery(JSON_LINES)
    assert (found.format, found.extension) == ("json", ".gz")
    assert found.prefix.expressions == [("timestamp", "yyyy/MM/dd/HH")]
    assert (found.size_bytes, found.interval_s) == (5 << 20, 300)


def change(name: str, path: str, value: Any) -> dict[str, Any]:
    """A declared request with one member set, or taken away by None."""
    request: dict[str, Any] = copy.deepcopy(BY_NAME[name])
    *way, last = path.split(".")
    inner: Any = request
    for step in way:
        inner = inner.setdefault(step, {})
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    return request


@pytest.mark.parametrize(
    ("request_of", "part"),
    [
        (lambda: change("sales", "DeliveryStreamType", "DirectPut"), "must be KinesisStreamAsSource"),
        (lambda: change("sales", "KinesisStreamSourceConfiguration", None), "is missing"),
        (lambda: change("sales", f"{S3}.BufferingHints.SizeInMBs", 32), "at least 64"),
        (lambda: change("sales", f"{S3}.BufferingHints.IntervalInSeconds", 0), "can't be 0"),
        (lambda: change("sales", f"{S3}.BufferingHints.IntervalInSeconds", 901), "at most 900"),
        (lambda: change("sales", f"{S3}.Prefix", "x/!{timestamp:yyyy}/"), "partition keys []"),
        (lambda: change("labels", f"{S3}.Prefix", "!{partitionKeyFromQuery:x}/"), "partition keys ['x']"),
        (lambda: change("labels", f"{S3}.Prefix", "!{timestamp:QQ}/"), "'QQ' is not supported"),
        (lambda: change("labels", f"{S3}.Prefix", "!{firehose:error-output-type}/"), "can't name"),
        (lambda: change("labels", f"{S3}.ErrorOutputPrefix", None), "ErrorOutputPrefix is missing"),
        (lambda: change("labels", f"{S3}.ErrorOutputPrefix", "e/"), "must contain"),
        (lambda: change("labels", f"{S3}.CompressionFormat", "GZIP"), "SNAPPY"),
        (lambda: change("labels", f"{S3}.DataFormatConversionConfiguration", None), "the formats are"),
        (lambda: change("labels", f"{S3}.CustomTimeZone", "Asia/Tokyo"), "times are UTC"),
        (lambda: change("labels", f"{S3}.S3BackupMode", "Enabled"), "stay in the stream"),
        (
            lambda: change(
                "labels", f"{S3}.DataFormatConversionConfiguration.SchemaConfiguration.TableName", "people"
            ),
            "no kind of event",
        ),
    ],
)
def test_what_can_not_be_is_refused(request_of: Callable[[], dict[str, Any]], part: str) -> None:
    """One line says which member is wrong, and what to do."""
    with pytest.raises(UserError) as caught:
        declared_delivery(request_of())
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_query_must_be_one_flat_field() -> None:
    """Of the event, and of text or whole numbers."""
    for query in ("{month:.a.b}", "{month:.missing}", "{month:.sold_at}", ".month"):
        request = copy.deepcopy(BY_NAME["sales"])
        processor = request[S3]["ProcessingConfiguration"]["Processors"][0]
        processor["Parameters"][0]["ParameterValue"] = query
        with pytest.raises(UserError, match="field"):
            declared_delivery(request)


def test_a_prefix_for_one_data_set_only_is_refused_for_another() -> None:
    """Two data sets under one prefix could not be told apart."""
    with pytest.raises(UserError, match="must begin with sales/"):
        declared_delivery(BY_NAME["sales"]).of(DataSet("bucket", "0123abcd"))
