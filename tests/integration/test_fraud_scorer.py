"""The scorer as a process on real Kafka and S3: answers, bad records, tables and models that come later."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import urllib3
from msgspec import structs

from infra import metrics
from infra.contracts.events import encode
from infra.settings import Settings
from infra.streams.records import shard_number
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


def test_who_waits_for_a_transaction_that_is_dated_ahead_is_told(scene: Stage) -> None:
    """The log and the health check name it; once its day's table is published all are answered."""
    scene.publish()
    ahead = structs.replace(scene.live[200], event_time=cases.LIVE_FROM + 20 * cases.DAY)
    shard = shard_number(ahead.key, SHARDS)
    offset = sum(shard_number(row.key, SHARDS) == shard for row in scene.live[:200])
    scene.put([*scene.live[:200], ahead, *scene.live[201:400]])
    scene.start()
    named = f"{scene.data_set.stream('transactions')} shard {shard} offset {offset} (event time 2018-08-28"
    scene.wait(lambda: f"no terminals' table is published for {named}" in scene.log())
    address = metrics.noted(scene.settings.home)["scorer-0"]
    answer = urllib3.request("GET", f"{address}/healthz", retries=False)
    assert answer.status == 503
    assert f"1 shards wait for their terminals' table, the first for {named}" in answer.data.decode()
    time.sleep(1)
    assert scene.log().count(named) == 1
    cases.publish_table(scene.store, scene.data_set, cases.LIVE_FROM + 20 * cases.DAY, {})
    found = scene.wait_for_decisions(400)
    assert {each.transaction_id for each in found} == {row.transaction_id for row in scene.live[:400]}
    assert scene.metric("shards_paused") == 0


def test_of_two_scorers_with_one_slot_one_ends_and_says_why(scene: Stage) -> None:
    """One line, exit code 2; the other answers everything. Both end if each took one of their two ids."""
    scene.publish()
    both = [scene.start(), scene.start()]
    with scene.playing(scene.live[:1800]):
        deadline = time.monotonic() + WITHIN_S
        while all(each.poll() is None for each in both):
            assert time.monotonic() < deadline, scene.log()
            time.sleep(0.2)
    ended = [each for each in both if each.poll() is not None]
    assert {each.returncode for each in ended} == {2}, scene.log()
    assert "error: another scorer has slot 0 too" in scene.log()
    assert "Traceback" not in scene.log()
    scene.processes = [each for each in both if each not in ended] or [scene.start()]
    check(scene.wait_for_decisions(1800), scene.expected(scene.live[:1800]))
