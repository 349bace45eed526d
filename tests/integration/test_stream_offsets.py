"""Waiting for the ends of streams, and reading them back: through a broker's new start, and not for ever."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator

import pytest

from infra.contracts.datasets import DataSet
from infra.contracts.errors import FailedError
from infra.local.servers import servers, status
from infra.settings import Settings
from infra.stories import stream_evidence, stream_offsets
from infra.stories.stream_offsets import Streams
from infra.stories.stream_servers import OwnServers
from infra.streams.admin import StreamAdmin
from infra.streams.producer import StreamProducer
from infra.streams.records import Shard

DATA_SET = DataSet("test", "0ff5e75a")
STREAMS = ("transactions", "labels", "decisions", "alerts")


@pytest.fixture
def admin(home_settings: Settings) -> Iterator[StreamAdmin]:
    """A Kafka of the test's own with the data set's streams, and five records in the first."""
    with servers(home_settings, ("s3", "kafka")) as live, StreamAdmin(live.kafka_servers) as found:
        for name in STREAMS:
            found.create(DATA_SET.stream(name), 1, 24)
        with contextlib.closing(StreamProducer(live.kafka_servers, client_id="test")) as producer:
            for _ in range(5):
                producer.put(DATA_SET.stream("transactions"), "C1", b"{}")
            producer.flush()
        yield found


def test_a_killed_broker_is_waited_for(admin: StreamAdmin, home_settings: Settings) -> None:
    """kill -9 of the broker: whoever asks has it started again first, and gets the answer."""
    said: list[str] = []
    own = OwnServers(home_settings, said.append)
    for pid in next(row.pids for row in status(home_settings) if row.service == "kafka"):
        os.kill(pid, signal.SIGKILL)
    ends = Streams(admin, DATA_SET, home_settings.home, own.watch).ends("transactions")
    assert ends == {Shard(DATA_SET.stream("transactions"), 0): 5}
    assert own.restarts == len(said) == 1


def test_a_broker_that_stays_away_is_an_error(
    admin: StreamAdmin, home_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one line, after some time."""
    monkeypatch.setattr(stream_offsets, "SILENT_S", 1.0)
    for pid in next(row.pids for row in status(home_settings) if row.service == "kafka"):
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(FailedError, match=r"Kafka at .* does not answer"):
        Streams(admin, DATA_SET, home_settings.home).ends("transactions")


def test_consumers_that_stand_still_are_an_error(
    admin: StreamAdmin, home_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody reads the five records: what is behind is said, and by how much."""
    monkeypatch.setattr(stream_offsets, "STALLED_S", 1.0)
    seen: list[str] = []
    with pytest.raises(FailedError, match=r"nothing moves any more, 10 records to go: .*scorer"):
        Streams(admin, DATA_SET, home_settings.home).reach_ends(lambda share, detail: seen.append(detail))
    assert all("10 records to go" in detail for detail in seen)


def test_a_broker_that_ends_while_records_are_read_back_is_an_error(
    admin: StreamAdmin, home_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More is asked for than there is, so that it ends in the midst of it: how far it came is said."""
    monkeypatch.setattr(stream_evidence, "SILENT_S", 15.0)
    shard = Shard(DATA_SET.stream("transactions"), 0)
    (kafka,) = (row for row in status(home_settings) if row.service == "kafka")
    assert admin.offsets(shard.stream) == {shard: (0, 5)}

    def end(share: float, detail: str) -> None:
        if share:
            for pid in kafka.pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    bad = {(*shard, offset) for offset in range(5)}
    with pytest.raises(FailedError, match=r"no records for 15 s, with 1 to go; .*next run goes on"):
        stream_evidence.sent_transactions(kafka.endpoint, {shard: (0, 6)}, bad, end)
