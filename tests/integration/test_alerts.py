"""Alerts on a real Kafka: each sink as a process, crashes, outages and members that come and go."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest
import urllib3

from infra import metrics
from infra.contracts.errors import UserError
from infra.metrics import Metrics
from infra.settings import Settings
from infra.streams.consumer import StreamConsumer
from stream_consumers.alert_file import AlertFile, line
from stream_consumers.alert_intake import Intake, Taken
from stream_consumers.sinks import FileSink, SinkHandler
from stream_consumers.webhook import Webhook
from stream_consumers.webhook_handler import WebhookHandler
from stream_consumers.worker import Relay, consume
from tests.alert_cases import (
    SECRET,
    AlertStage,
    alert,
    alert_stage,
    held_port,
    in_order,
    receiving,
)
from tests.stream_cases import WITHIN_S, Running, wait


@pytest.fixture
def scene(kafka_settings: Settings, tmp_path: Path) -> Iterator[AlertStage]:
    """A data set of the test's own, on the Kafka that all tests share."""
    with alert_stage(kafka_settings, tmp_path / "home") as made:
        yield made


class Member:
    """A sink that runs in a thread, in a group of the test's own."""

    def __init__(self, consumer: StreamConsumer, handler: SinkHandler | WebhookHandler) -> None:
        self.handler = handler
        self.running = Running(
            lambda stop: consume(consumer, handler, poll_s=0.05, max_records=10, stop=stop)
        )

    def wait(self, done: Callable[[], bool]) -> None:
        """Wait until something is so; raises what the sink failed with before."""
        wait(lambda: done() or self.running.failure is not None)
        if self.running.failure is not None:
            raise self.running.failure

    def wait_for(self, records: int) -> None:
        """Wait until so many records are behind all shards' offsets."""
        self.wait(lambda: sum(self.handler.offsets.values()) == records)

    def end(self) -> None:
        """End it; raises what it failed with."""
        try:
            self.running.end()
        finally:
            self.handler.abandon()


Join = Callable[[FileSink | Webhook], Member]


@pytest.fixture
def join(scene: AlertStage) -> Iterator[Join]:
    """Starts members, whose threads end with the test."""
    members: list[Member] = []

    def start(sink: FileSink | Webhook) -> Member:
        relay = Relay()
        consumer = scene.consumer(relay)
        intake = Intake(Metrics("test"), "test")
        handler = (
            SinkHandler(consumer, sink, intake)
            if isinstance(sink, FileSink)
            else WebhookHandler(consumer, sink, intake, most_waiting=20)
        )
        relay.handler = handler
        members.append(Member(consumer, handler))
        return members[-1]

    yield start
    for member in members:
        member.running.stop.set()
        member.handler.abandon()
    for member in members:
        member.running.join(WITHIN_S)


def served(scene: AlertStage, sink: str) -> str:
    """The metrics of a sink."""
    address = metrics.noted(scene.settings.home)[f"alerts-{sink}"]
    return urllib3.request("GET", f"{address}/metrics").data.decode()


def test_every_sink_takes_every_alert(scene: AlertStage) -> None:
    """One process with all three; what is no alert is passed by; the next start goes on where it ended."""
    scene.put([*map(alert, range(40)), b"{", *map(alert, range(40, 60))])
    with receiving() as receiver:
        arguments = ["--sink", "log", "--sink", "file", "--file", str(scene.file)]
        arguments += ["--sink", "webhook", "--url", receiver.url]
        first = scene.start(*arguments)
        wait(lambda: all(scene.committed(sink) == 61 for sink in ("log", "file", "webhook")))
        wait(lambda: len(metrics.noted(scene.settings.home)) == 3)
        for sink in ("log", "file", "webhook"):
            text = served(scene, sink)
            assert f'millstream_alerts_sent_total{{sink="{sink}"}} 60.0' in text
            assert f'millstream_alert_delay_seconds_count{{sink="{sink}"}} 60.0' in text
            assert f'millstream_dead_letters_total{{stream="{scene.stream}"}} 1.0' in text
        first.send_signal(signal.SIGTERM)
        said, _ = first.communicate(timeout=WITHIN_S)
        assert first.returncode == 0, said
        scene.put(map(alert, range(60, 70)))
        second = scene.start(*arguments)
        wait(lambda: all(scene.committed(sink) == 71 for sink in ("log", "file", "webhook")))
        second.send_signal(signal.SIGINT)
        said += second.communicate(timeout=WITHIN_S)[0]
        assert second.returncode == 0, said
    assert said.count(" block  card ") == 70
    assert said.count("holds no alert") == 3
    numbers = [found["transaction_id"] for found in scene.lines()]
    assert sorted(numbers) == list(range(70))
    assert in_order(numbers)
    posted = [post.alert["transaction_id"] for post in receiver.posts]
    assert sorted(posted) == list(range(70))
    assert in_order(posted)
    assert all(post.is_genuine for post in receiver.posts)


class CrashError(Exception):
    """The crash of a test."""


class Crashing(FileSink):
    """Fails when it has written `whole` alerts of its first batch, and a half."""

    def __init__(self, file: AlertFile, whole: int) -> None:
        super().__init__(file)
        self._torn, self._whole = file, whole

    def take(self, alerts: Sequence[Taken]) -> None:
        """Write a part of them and fail."""
        lines = [line(*taken) for taken in alerts[: self._whole + 1]]
        lines[-1] = lines[-1][:100]
        self._torn.append(lines)
        raise CrashError


def crash(scene: AlertStage, join: Join, whole: int) -> None:
    """Let a sink crash within its first batch."""
    with closing(AlertFile(scene.file)) as file:
        member = join(Crashing(file, whole))
        with pytest.raises(CrashError):
            member.wait(lambda: False)


def take(scene: AlertStage, join: Join, wanted: int) -> None:
    """Let a sink take all alerts."""
    with closing(AlertFile(scene.file)) as file:
        member = join(FileSink(file))
        member.wait_for(wanted)
        member.end()


@pytest.mark.parametrize("whole", [0, 3])
def test_a_crash_between_line_and_commit_doubles_nothing(scene: AlertStage, join: Join, whole: int) -> None:
    """It happens at the first batch, and again in mid-stream; each time the file is rewound."""
    for first, end in ((0, 25), (25, 60)):
        scene.put(map(alert, range(first, end)))
        crash(scene, join, whole)
        assert not scene.file.read_bytes().endswith(b"\n")
        take(scene, join, end)
        numbers = [found["transaction_id"] for found in scene.lines()]
        assert sorted(numbers) == list(range(end))
        assert in_order(numbers)


def test_a_second_process_is_refused(scene: AlertStage) -> None:
    """Of the same file at once, of another when the group's members had time to end; neither disturbs."""
    scene.put(map(alert, range(10)))
    first = scene.start("--sink", "file", "--file", str(scene.file))
    wait(lambda: scene.committed("file") == 10)
    same = scene.start("--sink", "file", "--file", str(scene.file))
    other = scene.start("--sink", "file", "--file", str(scene.file.with_name("other")))
    said, _ = same.communicate(timeout=WITHIN_S)
    assert same.returncode == 2, said
    assert "another process writes" in said
    scene.put(map(alert, range(10, 20)))
    wait(lambda: scene.committed("file") == 20)
    said, _ = other.communicate(timeout=WITHIN_S)
    assert other.returncode == 2, said
    assert "another process takes" in said
    assert first.poll() is None
    assert len(scene.lines()) == 20


def test_a_file_needs_all_shards(scene: AlertStage, join: Join) -> None:
    """Of two members that came at the same moment the first that gets a part of the shards ends."""
    with closing(AlertFile(scene.file)) as file, closing(AlertFile(scene.file.with_name("other"))) as other:
        first = join(FileSink(file))
        first.wait(lambda: len(first.handler.offsets) == 2)
        second = join(FileSink(other))
        wait(lambda: first.running.failure is not None or second.running.failure is not None)
        with pytest.raises(UserError, match="takes a part of the alerts"):
            (first if first.running.failure is not None else second).end()


def test_a_receiver_that_is_down_loses_nothing(scene: AlertStage, join: Join) -> None:
    """All alerts arrive when it is up, each card's in order; meanwhile the place in the group is kept."""
    scene.put(map(alert, range(100)))
    with held_port() as port:
        webhook = Webhook(f"http://127.0.0.1:{port}/", SECRET)
        member = join(webhook)
        member.wait(lambda: webhook.trouble is not None)
        assert sum(member.handler.offsets.values()) == 0
        with receiving(port) as receiver:
            member.wait_for(100)
            member.end()
    assert webhook.trouble is None
    posted = [post.alert["transaction_id"] for post in receiver.posts]
    assert sorted(posted) == list(range(100))
    assert in_order(posted)


def test_members_come_and_go_in_an_outage(scene: AlertStage, join: Join) -> None:
    """A second member joins while nothing can be delivered, the first leaves; nothing is lost."""
    scene.put(map(alert, range(60)))
    with held_port() as port:
        url = f"http://127.0.0.1:{port}/"
        first = join(Webhook(url, SECRET))
        first.wait(lambda: len(first.handler.offsets) == 2)
        second = join(Webhook(url, SECRET))
        first.wait(lambda: len(first.handler.offsets) == len(second.handler.offsets) == 1)
        first.end()
        second.wait(lambda: len(second.handler.offsets) == 2)
        with receiving(port) as receiver:
            scene.put(map(alert, range(60, 90)))
            second.wait_for(90)
            second.end()
    taken = [post.alert["transaction_id"] for post in receiver.taken()]
    assert sorted(taken) == list(range(90))
    assert in_order(taken)


def test_an_orderly_end_waits_for_the_post_under_way(scene: AlertStage, join: Join) -> None:
    """It is committed, so that the next start repeats nothing of that card."""
    scene.put(alert(number, cards=1) for number in range(40))
    with receiving(delay_s=0.1) as receiver:
        first = join(Webhook(receiver.url, SECRET))
        first.wait(lambda: len(receiver.posts) > 5)
        first.end()
        assert len(receiver.posts) < 40
        second = join(Webhook(receiver.url, SECRET))
        second.wait_for(40)
        second.end()
    assert [post.alert["transaction_id"] for post in receiver.posts] == list(range(40))


def test_what_is_not_committed_is_posted_again_with_the_same_key(scene: AlertStage) -> None:
    """An answer of 4xx ends the sink with one line; the next start repeats, and the key tells."""
    scene.put(map(alert, range(30)))
    with receiving(answers=[(200, {})] * 10 + [(404, {})]) as receiver:
        process = scene.start("--sink", "webhook", "--url", receiver.url)
        said, _ = process.communicate(timeout=WITHIN_S)
        assert process.returncode == 2, said
        assert said.strip().splitlines()[-1].startswith("error: the webhook at http://127.0.0.1")
        member = scene.start("--sink", "webhook", "--url", receiver.url)
        wait(lambda: scene.committed("webhook") == 30)
        member.send_signal(signal.SIGTERM)
        member.wait(WITHIN_S)
    taken = [post.alert["transaction_id"] for post in receiver.taken()]
    assert sorted(taken) == list(range(30))
    assert in_order(taken)
    assert {post.key for post in receiver.posts} == {f"transactions-{number}" for number in range(30)}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--sink", "webhook"], "MILLSTREAM_WEBHOOK_URL"),
        (["--sink", "file", "--file", "/"], "can't write alerts to /"),
        ([], "--sink"),
        (["--sink", "mail"], "'mail'"),
        (["--sink", "log", "--data-set", "ffffffff"], "there is no stream alerts-ffffffff"),
    ],
)
def test_a_mistake_is_one_line(scene: AlertStage, arguments: list[str], words: str) -> None:
    """It says what to do, and the exit code is 2."""
    process = scene.start(*arguments)
    said, _ = process.communicate(timeout=WITHIN_S)
    assert process.returncode == 2, said
    assert said.startswith("error: ")
    assert words in said
    assert said.count("\n") == 1
