"""The scorer as a process on real Kafka and S3: answers, bad records, tables and models that come later."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs

from infra.contracts.events import encode
from infra.settings import Settings
from tests import scorer_cases as cases
from tests.scorer_stage import DAYS, SHARDS, WITHIN_S, Stage, check, stage


@pytest.fixture
def scene(s3_settings: Settings, kafka_settings: Settings, tmp_path: Path) -> Iterator[Stage]:
    """A data set of the test's own on servers that all tests share."""
    both = replace(s3_settings, kafka_servers=kafka_settings.kafka_servers)
    with stage(both, tmp_path / "home") as made:
        yield made


def test_every_transaction_is_answered_once_and_bad_ones_are_set_aside(scene: Stage) -> None:
    """Decisions as computed without servers, alerts of the flagged, bad records in the dead letters only."""
    scene.publish()
    bad = [("C00001", b"{"), ("C00002", b"[]"), ("C00003", b'{"transaction_id": -1}')]
    future = structs.replace(scene.live[200], event_time=scene.live[200].event_time + 40 * cases.DAY)
    scene.put([*scene.live[:300], *bad, future, *scene.live[300:900]])
    process = scene.start()
    expected = scene.expected(scene.live[:900])
    found = scene.wait_for_decisions(900)
    check(found, expected)
    flagged = {each.transaction_id for each in found if each.action != "approve"}
    assert 0 < len(flagged) < 900
    assert sorted(each.transaction_id for each in scene.alerts()) == sorted(flagged)
    letters = scene.read("transactions.dead-letter")
    values = [*(value for _, value in bad), encode(future)]
    assert sorted(each.value or b"" for each in letters) == sorted(values)
    for letter in letters:
        headers = dict(letter.headers)
        assert headers["reason"]
        assert headers["stream"].decode() == scene.data_set.stream("transactions")
        assert 0 <= int(headers["shard"]) < SHARDS
        assert int(headers["offset"]) >= 0
    process.send_signal(signal.SIGTERM)
    assert process.wait(WITHIN_S) == 0, scene.log()


def test_it_goes_on_where_it_ended(scene: Stage) -> None:
    """After an orderly end the next start restores its snapshots: nothing to replay, the same features."""
    scene.publish()
    scene.put(scene.live[:700])
    process = scene.start()
    scene.wait_for_decisions(700)
    process.send_signal(signal.SIGTERM)
    assert process.wait(WITHIN_S) == 0, scene.log()
    scene.put(scene.live[700:1400])
    scene.start()
    found = scene.wait_for_decisions(1400)
    check(found, scene.expected(scene.live[:1400]))
    assert "replayed" not in scene.log()
    by_shard: dict[str, int] = {}
    for item in scene.store.list(scene.data_set.snapshots):
        by_shard[item.url.rsplit("/", 1)[0]] = by_shard.get(item.url.rsplit("/", 1)[0], 0) + 1
    assert len(by_shard) == SHARDS
    assert max(by_shard.values()) <= 3


def test_a_missing_table_pauses_and_a_new_model_is_taken_up(scene: Stage) -> None:
    """Transactions wait for their table; a model published meanwhile scores from its event time on."""
    cases.publish_model(scene.store, scene.data_set, "m1", cases.LIVE_FROM)
    cases.publish_tables(scene.store, scene.data_set, cases.LIVE_FROM, 2)
    scene.put(scene.live)
    scene.start()
    first = [row for row in scene.live if row.event_time < cases.LIVE_FROM + 2 * cases.DAY]
    found = scene.wait_for_decisions(len(first))
    assert {each.transaction_id for each in found} == {row.transaction_id for row in first}
    scene.wait(lambda: scene.metric("shards_paused") == SHARDS)
    cases.publish_model(
        scene.store, scene.data_set, "m2", cases.LIVE_FROM + 4 * cases.DAY, cases.linear_model({}, 0.0)
    )
    scene.wait(lambda: "model m2 is in force" in scene.log())
    cases.publish_tables(scene.store, scene.data_set, cases.LIVE_FROM, DAYS)
    found = scene.wait_for_decisions(len(scene.live))
    check(found, scene.expected(scene.live))
    assert {each.model_version for each in found} == {"m1", "m2"}
    assert scene.metric("shards_paused") == 0
