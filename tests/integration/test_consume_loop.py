"""The consume loop on a real Kafka: members come and go, handlers fail, processes are asked to end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import pytest

from infra.settings import ROOT, Settings
from infra.streams.admin import StreamAdmin
from infra.streams.consumer import StreamConsumer
from infra.streams.records import Shard
from stream_consumers.worker import Batch, Relay, consume
from tests.stream_cases import Remembering, Running, new_stream, put_all, shards_of, wait

KEYS = [f"C{number:03}" for number in range(100)]

# Commits each batch five seconds after it got it, and says what it handled.
SLOW_MEMBER = """
import sys, time
from infra.process import run, stop_on_signals
from infra.streams.consumer import StreamConsumer
from stream_consumers.worker import Relay, consume
from tests.stream_cases import Remembering
servers, stream, group = sys.argv[1:]

class Slow(Remembering):
    def handle(self, batch):
        print("began", flush=True)
        time.sleep(5)
        super().handle(batch)
        print("handled", sum(map(len, batch.records.values())), flush=True)
    def close(self):
        print("closed", flush=True)

def main():
    relay = Relay()
    consumer = StreamConsumer(servers, streams=[stream], group=group, client_id="slow", session_timeout_s=6,
                              listener=relay)
    relay.handler = handler = Slow(consumer)
    with stop_on_signals() as stop:
        consume(consumer, handler, poll_s=0.1, max_records=10, stop=stop)

run(main)
"""


@pytest.fixture
def servers(kafka_settings: Settings) -> str:
    """A running Kafka."""
    return kafka_settings.kafka_servers


Kind = Callable[[StreamConsumer], Remembering]


class Member:
    """A member of a group, named as its stream, that runs in a thread."""

    def __init__(self, servers: str, stream: str, kind: Kind, session_timeout_s: float) -> None:
        relay = Relay()
        consumer = StreamConsumer(
            servers,
            streams=[stream],
            group=stream,
            client_id="test",
            session_timeout_s=session_timeout_s,
            listener=relay,
        )
        self.handler = relay.handler = kind(consumer)
        self.running = Running(
            lambda stop: consume(consumer, self.handler, poll_s=0.05, max_records=10, stop=stop)
        )

    @property
    def handled(self) -> list[tuple[Shard, int]]:
        """What it has handled so far."""
        return self.handler.handled


Join = Callable[..., Member]


@pytest.fixture
def join(servers: str) -> Iterator[Join]:
    """Makes members, which are ended with the test."""
    members: list[Member] = []

    def start(stream: str, kind: Kind = Remembering, session_timeout_s: float = 10) -> Member:
        members.append(Member(servers, stream, kind, session_timeout_s))
        return members[-1]

    yield start
    for member in members:
        member.running.stop.set()
        member.running.join()


def test_members_share_the_shards_and_each_record_is_handled_once(servers: str, join: Join) -> None:
    """A second member takes half of the shards and gives them back, in mid-stream, without loss or repeat."""
    stream, enough = new_stream(servers, 4), threading.Event()
    put = [0]

    def put_until_enough() -> None:
        while not enough.is_set():
            put_all(servers, stream, KEYS)
            put[0] += len(KEYS)

    putting = threading.Thread(target=put_until_enough)
    putting.start()
    try:
        first = join(stream)
        wait(lambda: len(first.handled) > 100)
        second = join(stream)
        wait(lambda: len(second.handled) > 100)
        wait(lambda: len(first.handler.shards) == len(second.handler.shards) == 2)
        second.running.end()
        wait(lambda: len(first.handler.shards) == 4)
    finally:
        enough.set()
        putting.join()
    wait(lambda: len(first.handled) + len(second.handled) >= put[0])
    first.running.end()
    counts = Counter(first.handled + second.handled)
    assert (len(counts), set(counts.values())) == (put[0], {1})
    assert first.handler.calls == ["assigned", "revoked", "assigned", "revoked", "assigned", "close"]
    assert second.handler.calls == ["assigned", "close"]


class Failing(Remembering):
    """Fails after it has handled, before it has committed."""

    def handle(self, batch: Batch) -> None:
        """Fail."""
        raise ValueError("no use")


def test_after_a_failure_nothing_is_committed_and_the_group_is_left(servers: str, join: Join) -> None:
    """The handler is told neither `revoked` nor `close`, and nobody waits for its session to time out."""
    stream = new_stream(servers)
    put_all(servers, stream, KEYS)
    member = join(stream, Failing, session_timeout_s=60)
    with pytest.raises(ValueError, match="no use"):
        member.running.wait()
    assert member.handler.calls == ["assigned"]
    with StreamAdmin(servers) as admin:
        wait(lambda: admin.group_members(stream) == 0, within_s=30)
        assert admin.group_offsets(stream) == {}


class Unready(Remembering):
    """Can't take shards up."""

    def assigned(self, shards: Collection[Shard]) -> None:
        """Fail."""
        raise ValueError("not ready")


def test_what_a_rebalance_raises_ends_the_loop(servers: str, join: Join) -> None:
    """It is raised as it is, not as Kafka's own error about a callback."""
    member = join(new_stream(servers), Unready)
    with pytest.raises(ValueError, match="not ready"):
        member.running.wait()


def start_slow_member(servers: str, stream: str, log: Path) -> subprocess.Popen[bytes]:
    """SLOW_MEMBER as a process of its own, its output in a file."""
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", SLOW_MEMBER, servers, stream, stream],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=output,
            stderr=subprocess.STDOUT,
        )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_process_that_is_asked_to_end_finishes_its_batch(
    servers: str, tmp_path: Path, number: signal.Signals
) -> None:
    """The batch in hand is handled and committed, the handler closed, the group left; exit code 0."""
    stream, log = new_stream(servers), tmp_path / "log"
    put_all(servers, stream, KEYS)
    process = start_slow_member(servers, stream, log)
    try:
        wait(lambda: "began" in log.read_text())
        process.send_signal(number)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
    lines = [line for line in log.read_text().split("\n") if not line.startswith("20")]  # without the log
    handled = sum(int(line.split()[1]) for line in lines if line.startswith("handled"))
    assert lines[-2] == "closed"
    assert lines.count("began") == sum(line.startswith("handled") for line in lines)
    with StreamAdmin(servers) as admin:
        assert sum(admin.group_offsets(stream).values()) == handled > 0
        assert admin.group_members(stream) == 0


def test_a_member_that_slept_too_long_commits_nothing(servers: str, join: Join, tmp_path: Path) -> None:
    """While it is stopped another takes its shards over; awake again, its late commit is refused."""
    stream, log = new_stream(servers), tmp_path / "log"
    put_all(servers, stream, KEYS)
    process = start_slow_member(servers, stream, log)
    try:
        wait(lambda: "began" in log.read_text())
        process.send_signal(signal.SIGSTOP)
        other = join(stream)
        wait(lambda: other.handler.shards == set(shards_of(stream)))
        with StreamAdmin(servers) as admin:
            wait(lambda: sum(admin.group_offsets(stream).values()) == len(KEYS))
            process.send_signal(signal.SIGCONT)
            assert process.wait(60) == 1
            assert sum(admin.group_offsets(stream).values()) == len(KEYS)
        other.running.end()
    finally:
        process.kill()
        process.wait()
    assert "FencedError" in log.read_text()
