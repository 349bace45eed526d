"""Made-up figures and series of a stream demo, for its report and its live view."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np

from infra.contracts.events import Action, Alert
from infra.report.stream_figures import StreamFigures
from infra.report.stream_series import (
    AlertSeen,
    StreamSeries,
    latency_by_second,
    latency_figures,
    latency_histogram,
)

EVIL = '<script>alert("x")</script>'
FIRST = datetime(2018, 8, 8, tzinfo=UTC)
DAYS = 31
REASONS = [
    "terminal's fraud share over 7 days: 40%",
    "amount 4.2 times the card's mean",
    "card's transactions in 1 day: 9",
]


def alert(number: int, action: Action = "block", score: float = 0.97, card: str = "C00042") -> Alert:
    """An alert; the number decides its id and, in hours, its event time."""
    event_time = FIRST + timedelta(hours=number)
    return Alert(
        alert_id=f"a-{number}",
        transaction_id=number,
        event_time=event_time,
        card_id=card,
        terminal_id=f"T{number % 10_000:05}",
        amount_cents=22_010 + 37 * number,
        score=score,
        action=action,
        reasons=REASONS,
        model_version="20180808T000000Z-1f2e3d4c",
        sent_at=event_time,
        scored_at=event_time,
    )


def series(seconds: int = 60, shards: int = 8, alerts: int = 600, rate: float = 5000) -> StreamSeries:
    """A run as it should be: latencies around 30 ms, archive cuts every ten seconds, one hiccup."""
    random = np.random.default_rng(7)
    second = np.repeat(np.arange(seconds), 100)
    latency_ms = random.lognormal(np.log(31), 0.35, len(second)) + 90 * (second == seconds // 2)
    p50, p99 = latency_by_second(latency_ms, second, seconds)
    put = random.normal(rate, rate / 80, seconds)
    scores = np.sort(random.beta(5, 2, alerts))[::-1]
    return StreamSeries(
        t_s=np.arange(1.0, seconds + 1),
        put=put,
        decided=put + random.normal(0, rate / 100, seconds),
        archived=np.where(np.arange(seconds) % 10 == 9, 10 * rate, 0.0),
        p50_ms=p50,
        p99_ms=p99,
        lag=random.gamma(2, 15, (seconds, shards)) * (1 + 9 * (np.arange(seconds) == seconds // 2))[:, None],
        latencies=latency_histogram(latency_ms),
        alerts=[
            AlertSeen(
                float(random.uniform(0, seconds)),
                alert(int(random.uniform(0, 24 * DAYS)), "block" if score > 0.8 else "review", float(score)),
            )
            for score in scores
        ],
    )


def figures(run: str = "run-1", shards: int = 8, alerts: int = 600) -> StreamFigures:
    """The figures of a run in which all went well."""
    return {
        "job": "stream-demo",
        "run": run,
        "started_at": "2026-12-01T08:00:00Z",
        "ended": "complete",
        "sent": 300_000,
        "decided": 300_000,
        "archived": 300_000,
        "rejected": 0,
        "missing": 0,
        "duplicates": 0,
        "strangers": 0,
        "examples": [],
        "alerts": alerts,
        "actions": {"approve": 300_000 - alerts, "review": alerts - alerts // 3, "block": alerts // 3},
        "precision": 0.713,
        "recall": 0.584,
        "labels_due": 231_402,
        "frauds_due": 2_011,
        "model": {
            "version": "20180808T000000Z-1f2e3d4c",
            "in_force_from": "2018-08-08T00:00:00Z",
            "thresholds": {"review": 0.312, "block": 0.845},
            "metrics": {"roc_auc": 0.876, "average_precision": 0.741, "card_precision_100": 0.304},
        },
        "rate_asked": 5000,
        "rate_per_s": 4998.2,
        "latency_ms": {"p50": 31.2, "p99": 74.1, "p999": 141.0, "max": 212.6},
        "time_to_alert_ms": {"p50": 48.0, "p99": 131.5},
        "archive_lag_s": 12.4,
        "throttled": 0,
        "refused": 0,
        "shards": [
            {
                "id": number,
                "records": 300_000 // shards + 731 * (number % 3 - 1),
                "bytes": 41_000_000 // shards + 99_000 * (number % 3 - 1),
                "peak_records_per_s": min(2_000, 5_600 // shards + 31 * (number % 3)),
            }
            for number in range(shards)
        ],
        "shards_needed": 6,
        "data_set": "default",
        "all_played": False,
        "input": None,
        "first_event_time": "2018-08-08T00:00:07Z",
        "last_event_time": "2018-09-08T04:11:52Z",
        "scorers": 1,
        "restarts": 0,
        "servers": {"kafka": "127.0.0.1:40113", "s3": "http://127.0.0.1:40114"},
        "places": {
            "archive": "s3://lake/transactions/live/",
            "models": "s3://lake/models/default/",
            "logs": "/home/me/millstream/.millstream/logs/",
        },
        "seconds": {"setup": 1.2, "data": 0.0, "play": 60.0, "drain": 3.1, "total": 96.0},
        "cpu_seconds": {
            "scorer-0": 33.1,
            "producer": 17.0,
            "kafka": 24.4,
            "delivery": 9.6,
            "alerts-log": 1.4,
        },
        "peak_memory_mb": 2011.0,
        "report": "",
    }


def nothing_measured() -> StreamFigures:
    """The figures of a run that Ctrl-C ended before anything was sent."""
    empty = figures(alerts=0)
    empty.update({"sent": 0, "decided": 0, "archived": 0, "ended": "early", "rate_per_s": 0.0})
    empty.update({"actions": {"approve": 0, "review": 0, "block": 0}, "model": None, "archive_lag_s": None})
    empty.update({"precision": None, "recall": None, "labels_due": 0, "frauds_due": 0, "shards": []})
    empty.update({"latency_ms": latency_figures([]), "time_to_alert_ms": {"p50": None, "p99": None}})
    empty.update({"first_event_time": None, "last_event_time": None, "shards_needed": None})
    empty["seconds"] = {"setup": 1.0, "data": 0.0, "play": 0.0, "drain": 0.0, "total": 2.0}
    return empty
