"""Provisioning against a real Kafka and S3: what is declared is made, once, or refused by name."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from infra import provision as module
from infra.contracts.datasets import DataSet
from infra.contracts.errors import UserError
from infra.objects import ObjectStore
from infra.provision import provision
from infra.settings import Settings
from infra.streams.admin import StreamAdmin
from tests.stream_cases import joined, wait


@pytest.fixture
def settings(s3_settings: Settings, kafka_settings: Settings) -> Settings:
    """Both servers."""
    return s3_settings.with_kafka(kafka_settings.kafka_servers)


@pytest.fixture
def data_set() -> DataSet:
    """A data set that no other test has."""
    return DataSet("test", uuid.uuid4().hex[:8])


def test_provisioning_twice_makes_everything_once(settings: Settings, data_set: DataSet) -> None:
    """All streams of the data set with their shards and retention; the second time there is nothing to do."""
    made = provision(settings, data_set, shards=4)
    assert len(made) == 5
    assert provision(settings, data_set, shards=4) == []
    with StreamAdmin(settings.kafka_servers) as admin:
        found = {
            name: admin.describe(data_set.stream(name)) for name in ("transactions", "decisions", "labels")
        }
        assert admin.describe(data_set.stream("sales")) is None
    shards = {name: stream.shards for name, stream in found.items() if stream}
    assert shards == {"transactions": 4, "decisions": 4, "labels": 1}
    assert all(stream and stream.retention_hours == 8_760 for stream in found.values())
    assert ObjectStore(settings).check("test")


def test_a_stream_grows_but_not_under_its_consumers(settings: Settings, data_set: DataSet) -> None:
    """While a consumer is in a group the growth is refused by name; afterwards it is done."""
    provision(settings, data_set, shards=2)
    stream = data_set.stream("transactions")
    refusal = f"has 2 shards and shall have 4: .* readers-of-{stream}; stop"
    with (
        joined(settings.kafka_servers, stream, f"readers-of-{stream}"),
        pytest.raises(UserError, match=refusal),
    ):
        provision(settings, data_set, shards=4)
    with StreamAdmin(settings.kafka_servers) as admin:
        wait(lambda: admin.group_members(f"readers-of-{stream}") == 0)
    made = provision(settings, data_set, shards=4)
    assert f"stream {stream}: from 2 to 4 shards" in made


def test_shards_are_not_merged(settings: Settings, data_set: DataSet) -> None:
    """Fewer shards than there are is refused by name."""
    provision(settings, data_set, shards=4)
    with pytest.raises(UserError, match="has 4 shards and shall have 2: shards can't be merged"):
        provision(settings, data_set, shards=2)


def test_another_retention_is_taken_over(
    settings: Settings, data_set: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream whose declaration was changed is changed, and nothing else about it."""
    provision(settings, data_set)
    changed = tmp_path / "streams.json"
    changed.write_text(
        '[{"CreateStream": {"StreamName": "labels", "ShardCount": 1},'
        ' "IncreaseStreamRetentionPeriod": {"StreamName": "labels", "RetentionPeriodHours": 48}}]'
    )
    monkeypatch.setattr(module, "STREAMS", changed)
    labels = data_set.stream("labels")
    assert provision(settings, data_set) == [f"stream {labels}: kept for 48 hours (was 8760)"]
    with StreamAdmin(settings.kafka_servers) as admin:
        found = admin.describe(labels)
        assert found is not None
        assert found.retention_hours == 48
        assert admin.settings(labels)["max.message.bytes"] == str((1 << 20) + (1 << 16))
