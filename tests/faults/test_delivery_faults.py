"""Delivery as a process that is killed, stopped and ended while records come in."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from infra.contracts.datasets import Manifest
from infra.settings import Settings
from tests.delivery_cases import T0, transaction
from tests.delivery_stage import WITHIN_S, Stage, ids, stage

pytestmark = pytest.mark.timeout(1200)


@pytest.fixture
def scene(s3_settings: Settings, kafka_settings: Settings, tmp_path: Path) -> Iterator[Stage]:
    """A stream of transactions of the test's own, and the manifest that delivery wants."""
    settings = replace(s3_settings, kafka_servers=kafka_settings.kafka_servers, home=tmp_path)
    with stage(settings) as made:
        manifest = Manifest("", "test", {}, 2, T0.date(), T0, T0 + timedelta(days=1), 0, 0)
        made.store.put(made.data_set.manifest, manifest.to_json())
        yield made


class Processes:
    """Delivery processes of a stage, and what they wrote."""

    def __init__(self, scene: Stage) -> None:
        self._scene = scene
        self.log = scene.settings.home / "delivery.log"
        self.all: list[subprocess.Popen[bytes]] = []

    def start(self) -> subprocess.Popen[bytes]:
        """Start one."""
        command = [sys.executable, "-m", "tests.delivery_process", self._scene.data_set.id]
        with self.log.open("ab") as output:
            environment = self._scene.settings.environment()
            self.all.append(
                subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
            )
        return self.all[-1]

    def wait_for_objects(self, count: int) -> None:
        """Wait until there are so many objects."""
        deadline = time.monotonic() + WITHIN_S
        while len(self._scene.objects()) < count:
            assert time.monotonic() < deadline, self.log.read_text()[-3000:]
            time.sleep(0.05)

    def end(self) -> None:
        """End what still runs."""
        for process in self.all:
            if process.poll() is None:
                process.kill()
            process.wait()


class Play(threading.Thread):
    """Puts transactions, a hundred a second or so, until it is ended; `count` were put."""

    def __init__(self, scene: Stage) -> None:
        super().__init__(daemon=True)
        self._scene, self._ended = scene, threading.Event()
        self.count = 0

    def run(self) -> None:
        """See Thread."""
        while not self._ended.wait(0.1):
            self._scene.put([transaction(number) for number in range(self.count, self.count + 10)])
            self.count += 10

    def end(self) -> None:
        """No more; all that were put can be read."""
        self._ended.set()
        self.join()


@pytest.mark.slow
def test_kills_and_stops_lose_and_double_nothing(scene: Stage) -> None:
    """SIGKILL three times, SIGSTOP beyond the session while another takes over, then an orderly end."""
    play, processes = Play(scene), Processes(scene)
    play.start()
    try:
        for round_number in range(3):
            process = processes.start()
            processes.wait_for_objects(len(scene.objects()) + 3 + round_number)
            process.kill()
            process.wait()
        stopped = processes.start()
        processes.wait_for_objects(len(scene.objects()) + 2)
        stopped.send_signal(signal.SIGSTOP)
        processes.start()
        processes.wait_for_objects(len(scene.objects()) + 4)
        stopped.send_signal(signal.SIGCONT)
        processes.wait_for_objects(len(scene.objects()) + 2)
        play.end()
        for process in processes.all[3:]:
            process.send_signal(signal.SIGTERM)
            assert process.wait(WITHIN_S) == 0, processes.log.read_text()[-3000:]
    finally:
        play.end()
        processes.end()
    scene.deliver()
    assert ids(scene.archived()) == Counter(range(play.count))
    assert set(scene.objects()) == scene.intended()
