"""What may happen to alerts: kill -9, a process that is stopped for long, a webhook that is down."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from infra.settings import Settings
from tests.alert_cases import TIMEOUT_S, AlertStage, alert, alert_stage, held_port, in_order, receiving
from tests.stream_cases import wait

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
OUTAGE_S = 60
WITHIN_S = 180.0

# The real process, but it kills itself when it has written a batch but for the last bytes of its last line.
KILLED = """
import os, signal, sys
from infra.process import run_command
from stream_consumers import alerts
from stream_consumers.alert_file import line
from stream_consumers.sinks import FileSink

def take(self, taken):
    lines = [line(*each) for each in taken]
    lines[-1] = lines[-1][:-20]
    self._file.append(lines)
    os.kill(os.getpid(), signal.SIGKILL)

FileSink.take = take
run_command(alerts.main)
"""


@pytest.fixture
def scene(kafka_settings: Settings, tmp_path: Path) -> Iterator[AlertStage]:
    """A data set of the test's own, on the Kafka that all tests share."""
    with alert_stage(kafka_settings, tmp_path / "home") as made:
        yield made


@contextmanager
def putting(scene: AlertStage, per_s: int = 50) -> Iterator[Callable[[], int]]:
    """Put alerts evenly beside the block, however long it takes; it gets how many were put."""
    count, ended = 0, threading.Event()

    def put() -> None:
        nonlocal count
        while not ended.wait(10 / per_s):
            scene.put(map(alert, range(count, count + 10)))
            count += 10

    thread = threading.Thread(target=put)
    thread.start()
    try:
        yield lambda: count
    finally:
        ended.set()
        thread.join()


def size(path: Path) -> int:
    """A file's length; 0 if there is none."""
    return path.stat().st_size if path.exists() else 0


def check(scene: AlertStage, count: int) -> None:
    """Each alert is one line, and each card's are in order."""
    numbers = [found["transaction_id"] for found in scene.lines()]
    assert sorted(numbers) == list(range(count))
    assert in_order(numbers)


def test_kill_9_of_the_file_sink(scene: AlertStage) -> None:
    """Killed as soon as it has written something, four times: each alert is one whole line."""
    with putting(scene) as count:
        for _ in range(4):
            before = size(scene.file)
            process = scene.start("--sink", "file", "--file", str(scene.file))
            wait(lambda before=before: size(scene.file) > before, WITHIN_S)  # type: ignore[misc]
            process.kill()
            process.wait()
    scene.start("--sink", "file", "--file", str(scene.file))
    wait(lambda: scene.committed("file") == count(), WITHIN_S)
    check(scene, count())


def test_kill_9_between_line_and_commit(scene: AlertStage) -> None:
    """With the file torn, at the first batch and in mid-stream: each alert is one whole line."""
    arguments = ["--data-set", scene.data_set.id, "--sink", "file", "--file", str(scene.file)]
    for first, end in ((0, 60), (60, 100)):
        scene.put(map(alert, range(first, end)))
        command = [sys.executable, "-c", KILLED, *arguments, "--timeout", str(TIMEOUT_S)]
        assert scene.spawn(command).wait(WITHIN_S) == -signal.SIGKILL
        assert not scene.file.read_bytes().endswith(b"\n")
        process = scene.start("--sink", "file", "--file", str(scene.file))
        wait(lambda end=end: scene.committed("file") == end, WITHIN_S)  # type: ignore[misc]
        process.send_signal(signal.SIGTERM)
        assert process.wait(WITHIN_S) == 0
        check(scene, end)


def test_a_sink_that_is_stopped_for_long(scene: AlertStage) -> None:
    """Beyond its session, as a laptop is that sleeps: it takes its shards up again where it stood."""
    process = scene.start("--sink", "file", "--file", str(scene.file))
    with putting(scene) as count:
        wait(lambda: size(scene.file) > 0, WITHIN_S)
        process.send_signal(signal.SIGSTOP)
        time.sleep(TIMEOUT_S + 3)
        process.send_signal(signal.SIGCONT)
    wait(lambda: scene.committed("file") == count(), WITHIN_S)
    assert process.poll() is None
    check(scene, count())


def test_a_webhook_that_is_down_for_a_minute(scene: AlertStage) -> None:
    """With a kill -9 in the outage too: all alerts arrive, each once by its key, each card's in order."""
    with held_port() as port:
        arguments = ["--sink", "webhook", "--url", f"http://127.0.0.1:{port}/"]
        with receiving(port) as receiver, putting(scene, per_s=10) as count:
            process = scene.start(*arguments)
            wait(lambda: len(receiver.posts) > 50, WITHIN_S)
            receiver.close()
            time.sleep(OUTAGE_S / 2)
            process.kill()
            process.wait()
            process = scene.start(*arguments)
            time.sleep(OUTAGE_S / 2)
        assert scene.committed("webhook") < count()
        with receiving(port) as again:
            wait(lambda: scene.committed("webhook") == count(), WITHIN_S)
            process.send_signal(signal.SIGTERM)
            assert process.wait(WITHIN_S) == 0
    posts = {post.key: post for post in reversed([*receiver.posts, *again.posts])}
    numbers = [post.alert["transaction_id"] for post in reversed(posts.values())]
    assert sorted(numbers) == list(range(count()))
    assert in_order(numbers)
    assert all(post.is_genuine for post in posts.values())
