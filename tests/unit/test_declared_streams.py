"""Declarations of streams: what is taken, what is refused and how it is said."""

from __future__ import annotations

from typing import Any

import pytest

from infra.contracts.datasets import DataSet
from infra.contracts.errors import UserError
from infra.contracts.resources import undecided
from infra.contracts.streams import CREATE, RETAIN, declared_stream, declared_streams
from infra.provision import streams_of


def declaration(hours: int | None = None, **request: Any) -> dict[str, Any]:
    """A declaration of the stream `clicks` with these members of CreateStream."""
    found: dict[str, Any] = {"CreateStream": {"StreamName": "clicks", "ShardCount": 2, **request}}
    if hours is not None:
        found["IncreaseStreamRetentionPeriod"] = {"StreamName": "clicks", "RetentionPeriodHours": hours}
    return found


def test_every_member_of_the_requests_is_decided() -> None:
    """Each member that AWS knows is in exactly one list."""
    assert undecided("kinesis", "CreateStream", CREATE) == []
    assert undecided("kinesis", "IncreaseStreamRetentionPeriod", RETAIN) == []


def test_a_stream_is_kept_for_a_day_unless_declared() -> None:
    """Without IncreaseStreamRetentionPeriod it is Kinesis' 24 hours; tags are recorded."""
    stream = declared_stream(declaration(Tags={"team": "fraud"}))
    assert (stream.name, stream.shards, stream.retention_hours) == ("clicks", 2, 24)
    assert stream.recorded == ("Tags",)
    assert declared_stream(declaration(8_760)).retention_hours == 8_760


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (declaration(23), "24 to 8,760"),
        (declaration(8_761), "24 to 8,760"),
        (declaration(StreamModeDetails={"StreamMode": "ON_DEMAND"}), "ON_DEMAND is not supported"),
        (declaration(MaxRecordSizeInKiB=2048), "MaxRecordSizeInKiB is not supported"),
        (declaration(Shards=2), "did you mean"),
        (declaration(ShardCount=0), "ShardCount must be at least 1"),
        ({"CreateStream": {"StreamName": "clicks"}}, "ShardCount is missing"),
        ({"IncreaseStreamRetentionPeriod": {}}, "declared by CreateStream"),
        (
            {
                **declaration(),
                "IncreaseStreamRetentionPeriod": {"StreamName": "x", "RetentionPeriodHours": 48},
            },
            "names 'x'",
        ),
    ],
)
def test_what_can_not_be_is_refused_by_name(wrong: dict[str, Any], said: str) -> None:
    """Each wrong declaration is one line that names what is wrong."""
    with pytest.raises(UserError, match=said) as caught:
        declared_stream(wrong)
    assert "\n" not in str(caught.value)


def test_a_stream_is_declared_once() -> None:
    """The same name twice is refused."""
    with pytest.raises(UserError, match="clicks is declared twice"):
        declared_streams([declaration(), declaration()])


def test_decisions_have_as_many_shards_as_transactions() -> None:
    """A decision goes to the shard number of its transaction, in the default data set and any other."""
    for data_set, shards in ((DataSet("lake"), None), (DataSet("lake", "0123abcd"), 4)):
        found = {stream.name: stream.shards for stream in streams_of(data_set, shards)}
        assert found[data_set.stream("transactions")] == found[data_set.stream("decisions")] == (shards or 8)


def test_another_data_set_has_streams_of_its_own() -> None:
    """It shares no stream with the default one; dead letters stay `<stream>.dead-letter`."""
    default = {stream.name for stream in streams_of(DataSet("lake"))}
    other = {stream.name for stream in streams_of(DataSet("lake", "0123abcd"), 4)}
    assert not default & other
    assert "transactions-0123abcd.dead-letter" in other
