"""Metrics as Prometheus and the live view read them."""

from __future__ import annotations

import json
import socket
from dataclasses import replace
from pathlib import Path

import pytest
import urllib3

from infra.contracts.errors import UserError
from infra.metrics import METRICS, Metrics, Totals, noted, read_all
from tests.conftest import settings_of


def test_what_is_counted_is_served(tmp_path: Path) -> None:
    """A counter, a gauge and a histogram come out under their names; the address is noted while served."""
    settings = settings_of(tmp_path)
    metrics = Metrics("scorer-0")
    metrics.count("decisions_total", 3, action="review")
    metrics.set("shards_paused", 2)
    metrics.observe("decision_latency_seconds", 0.04)
    with metrics.serve(settings, lambda: None) as address:
        assert noted(tmp_path) == {"scorer-0": address}
        lines = urllib3.request("GET", f"{address}/metrics").data.decode().splitlines()
        assert 'millstream_decisions_total{action="review"} 3.0' in lines
        assert "millstream_shards_paused 2.0" in lines
        assert 'millstream_decision_latency_seconds_bucket{le="0.03"} 0.0' in lines
        assert 'millstream_decision_latency_seconds_bucket{le="0.05"} 1.0' in lines
    assert noted(tmp_path) == {}


def test_all_processes_are_read_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values of several processes, with their labels; one that is gone is left out."""
    monkeypatch.setattr("infra.metrics.ASK_S", 20.0)
    settings = settings_of(tmp_path)
    first, second = Metrics("scorer-0"), Metrics("scorer-1")
    first.set("consumer_lag", 3, stream="transactions", shard=0)
    second.set("consumer_lag", 4, stream="transactions", shard=1)
    second.set("consumer_lag", 9, stream="labels", shard=0)
    with first.serve(settings, lambda: None), second.serve(settings, lambda: None):
        samples = read_all(tmp_path)
    assert samples.total("consumer_lag", stream="transactions") == 7
    assert samples.most("consumer_lag") == 9
    assert samples.labelled("consumer_lag", shard="1")[0][1] == 4
    assert read_all(tmp_path).total("consumer_lag") == 0


def test_health_says_what_is_wrong(tmp_path: Path) -> None:
    """/healthz follows the process: 200 while all is well, 503 with the reason when not."""
    wrong: list[str] = []
    with Metrics("delivery").serve(settings_of(tmp_path), lambda: wrong[0] if wrong else None) as address:
        assert urllib3.request("GET", f"{address}/healthz").status == 200
        wrong.append("S3 has not answered for 30 s")
        answer = urllib3.request("GET", f"{address}/healthz")
        assert (answer.status, answer.data) == (503, b"S3 has not answered for 30 s")


def test_an_unknown_metric_is_a_mistake() -> None:
    """Only what the table declares can be counted, with just its labels."""
    with pytest.raises(KeyError):
        Metrics("x").count("made_up_total")
    with pytest.raises(ValueError, match="label"):
        Metrics("x").count("decisions_total", colour="red")
    assert all(metric.meaning and metric.name == name for name, metric in METRICS.items())


def test_a_note_of_a_dead_process_is_left_out(tmp_path: Path) -> None:
    """A process that was killed could not remove its note."""
    folder = tmp_path / "run" / "metrics"
    folder.mkdir(parents=True)
    note = {"process": "scorer-0", "host": socket.gethostname(), "pid": 4194999, "address": "http://x:1"}
    (folder / "scorer-0-4194999.json").write_text(json.dumps(note))
    assert noted(tmp_path) == {}


def test_totals_count_on_over_new_starts_and_missed_answers() -> None:
    """A counter that begins anew adds to what it had; one that is not there stays; a new one comes on top."""
    totals = Totals()
    answers = [{"a": 100}, {"a": 150, "b": 7}, {"b": 9}, {}, {"a": 170, "b": 9}, {"a": 5, "b": 9}, {"a": 6}]
    seen = [
        totals.total("put", [({"process": name}, value) for name, value in answer.items()])
        for answer in answers
    ]
    assert seen == [100, 157, 159, 159, 179, 184, 185]


def test_values_of_a_process_are_added_up() -> None:
    """A counter has a value for each of its other labels."""
    totals = Totals()
    for value, total in ((1, 3), (2, 5)):
        shards = [({"process": "a", "shard": "0"}, value), ({"process": "a", "shard": "1"}, value + 1)]
        assert totals.total("put", shards) == total


def test_a_value_can_be_forgotten() -> None:
    """A gauge of a shard that went to another process is not shown any more, and may come back."""
    metrics = Metrics("scorer-0")
    metrics.set("consumer_lag", 5, stream="transactions", shard=1)
    metrics.set("consumer_lag", 6, stream="transactions", shard=2)
    metrics.forget("consumer_lag", stream="transactions", shard=1)
    metrics.forget("consumer_lag", stream="transactions", shard=7)
    text = metrics.render().decode()
    assert 'shard="2"' in text
    assert 'shard="1"' not in text
    metrics.set("consumer_lag", 8, stream="transactions", shard=1)
    assert 'millstream_consumer_lag{shard="1",stream="transactions"} 8.0' in metrics.render().decode()


def test_a_taken_port_is_one_line(tmp_path: Path) -> None:
    """With what to do about it."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        settings = replace(settings_of(tmp_path), metrics_port=other.getsockname()[1])
        with (
            pytest.raises(UserError, match=r"metrics can't be served on .*MILLSTREAM_METRICS_PORT"),
            Metrics("scorer-0").serve(settings, lambda: None),
        ):
            pytest.fail("it was served")
