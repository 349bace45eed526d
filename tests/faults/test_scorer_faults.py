"""Scorers that are killed, stopped, joined and left in mid-stream: nothing is lost, doubled or changed."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from infra.settings import Settings
from tests.scorer_stage import TIMEOUT_S, WITHIN_S, Stage, check, stage

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture
def scene(s3_settings: Settings, kafka_settings: Settings, tmp_path: Path) -> Iterator[Stage]:
    """A published data set of the test's own on servers that all tests share."""
    both = replace(s3_settings, kafka_servers=kafka_settings.kafka_servers)
    with stage(both, tmp_path / "home") as made:
        made.publish()
        yield made


def check_all(scene: Stage) -> None:
    """Each transaction has the one decision, and each flagged one the one alert, of an undisturbed run."""
    found = scene.wait_for_decisions(len(scene.live))
    check(found, scene.expected(scene.live))
    flagged = sorted(each.transaction_id for each in found if each.action != "approve")
    assert sorted(each.transaction_id for each in scene.alerts()) == flagged


def reach(scene: Stage, put: Callable[[], int], share: float) -> None:
    """Wait until this share of the live transactions was put, and some of them are answered."""
    scene.wait(lambda: put() >= share * len(scene.live))
    scene.wait_for_decisions(1)


def test_killed_scorers_leave_no_trace(scene: Stage) -> None:
    """kill -9 in mid-stream, twice, each time at another distance from the last commit and snapshot."""
    process = scene.start()
    with scene.playing(scene.live) as put:
        for share in (0.3, 0.6):
            reach(scene, put, share)
            process.kill()
            process.wait()
            process = scene.start()
    check_all(scene)
    assert "replayed" in scene.log()


def test_scorers_join_and_leave(scene: Stage) -> None:
    """A second scorer takes half of the shards over and gives them back; no score changes."""
    scene.start(0)
    with scene.playing(scene.live) as put:
        reach(scene, put, 0.2)
        second = scene.start(1)
        scene.wait(lambda: scene.serves(1))
        reach(scene, put, 0.6)
        second.send_signal(signal.SIGTERM)
        assert second.wait(WITHIN_S) == 0, scene.log(1)
    scene.wait(lambda: scene.log(0).count("assigned") >= 3)
    check_all(scene)


def test_a_scorer_that_was_stopped_beyond_its_session_harms_nobody(scene: Stage) -> None:
    """Its shards are taken over meanwhile; when it wakes, what it held open is aborted."""
    first = scene.start(0)
    with scene.playing(scene.live) as put:
        reach(scene, put, 0.2)
        first.send_signal(signal.SIGSTOP)
        scene.start(1)
        scene.wait(lambda: scene.serves(1))  # after the first one's session has ended
        reach(scene, put, 0.7)
        first.send_signal(signal.SIGCONT)
        scene.wait(lambda: "lost" in scene.log(0))
    check_all(scene)
    assert TIMEOUT_S <= 10
