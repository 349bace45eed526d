"""A data set that is started anew: all of it, also when that was interrupted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest

from infra.contracts.datasets import DataSet
from infra.objects import ObjectStore
from infra.provision import provision
from infra.settings import Settings
from infra.stories.stream_fresh import is_half_done, start_anew
from infra.stories.stream_play import alerts_file
from infra.streams.admin import StreamAdmin
from infra.streams.producer import StreamProducer

DATA_SET = DataSet("test", "f4e5410e")


@pytest.fixture
def played(s3_settings: Settings, kafka_settings: Settings) -> Iterator[Settings]:
    """Both servers, with a record in a stream of the data set, one in its archive, an alert in its file."""
    live = replace(s3_settings, kafka_servers=kafka_settings.kafka_servers)
    provision(live, DATA_SET, 2)
    with closing(StreamProducer(live.kafka_servers, client_id="test")) as producer:
        producer.put(DATA_SET.stream("transactions"), "C1", b"{}")
        producer.flush()
    store = ObjectStore(live)
    store.put(f"{DATA_SET.archive('decisions')}live/2026/part.parquet", b"x")
    store.put(f"{DATA_SET.history('transactions')}day=2026-01-01/part.parquet", b"x")
    alerts_file(live, DATA_SET).parent.mkdir(parents=True, exist_ok=True)
    alerts_file(live, DATA_SET).write_text("{}\n")
    yield live
    with StreamAdmin(live.kafka_servers) as admin:
        admin.delete([DATA_SET.stream(name) for name in ("transactions", "labels", "decisions", "alerts")])


def archived(live: Settings) -> list[str]:
    """What is in the data set's archive."""
    prefixes = (DATA_SET.archive(name) for name in ("transactions", "labels", "decisions"))
    return [item.url for prefix in prefixes for item in ObjectStore(live).list(prefix)]


def test_what_was_played_goes_and_history_stays(played: Settings) -> None:
    """Streams, archive and alerts; the history was prepared, not played."""
    start_anew(played, DATA_SET)
    with StreamAdmin(played.kafka_servers) as admin:
        assert admin.describe(DATA_SET.stream("transactions")) is None
    assert archived(played) == [f"{DATA_SET.history('transactions')}day=2026-01-01/part.parquet"]
    assert not alerts_file(played, DATA_SET).exists()
    assert not is_half_done(played, DATA_SET)


def test_one_that_was_interrupted_is_known_and_done_again(
    played: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its streams are gone and its archive is there: the next run must not add to that."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ObjectStore, "delete_prefix", interrupted)
        with pytest.raises(KeyboardInterrupt):
            start_anew(played, DATA_SET)
    assert len(archived(played)) == 2
    assert is_half_done(played, DATA_SET)
    start_anew(played, DATA_SET)
    assert len(archived(played)) == 1
    assert not is_half_done(played, DATA_SET)
