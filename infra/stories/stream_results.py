"""What a play came to: evidence read back from streams and archive, the proof, the figures, the report."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from rich.console import Console

from infra.archive.intents import Intents
from infra.archive.reading import delivered_rows
from infra.contracts.datasets import LABEL_DELAY, DataSet, Manifest
from infra.objects import ObjectStore
from infra.progress import progress
from infra.report.stream import write_stream_report
from infra.report.stream_figures import ModelFigures, StreamFigures
from infra.report.stream_series import latency_figures
from infra.report.stream_terminal import summary
from infra.settings import Settings
from infra.stories.fraud_model import newest_model
from infra.stories.stream_evidence import SentTransactions, bad_offsets, sent_transactions
from infra.stories.stream_play import Plan, Played
from infra.stories.stream_proof import Ids, Proof, precision_recall, prove
from infra.streams.admin import StreamAdmin

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Circumstances:
    """What only the story knows: its run, when it began, how long its parts took, what it used."""

    run: str
    began: float
    seconds: Mapping[str, float]
    input: str | None
    peak_memory: int


@dataclass(frozen=True)
class Due:
    """The run's transactions whose labels were due by its last event time: flagged ones, and frauds."""

    transactions: int
    flagged: Ids
    frauds: Ids


def report(
    settings: Settings,
    data_set: DataSet,
    manifest: Manifest,
    plan: Plan,
    played: Played,
    circumstances: Circumstances,
    console: Console,
) -> tuple[Proof, Path]:
    """Read back, prove, write the report, sum up on the terminal; the proof and the page's path."""
    store = ObjectStore(settings)
    with progress(console, "proof") as update:
        bad = bad_offsets(settings.kafka_servers, played.dead_letters)
        sent = sent_transactions(settings.kafka_servers, played.transactions, bad, update)
        archived = archived_ids(settings, store, data_set, played)
        decided = np.array(played.readers.ids, dtype=np.int64)
        proof = prove(sent.ids, decided, archived, rejected=len(bad))
        update(1.0, f"{proof.sent:,} sent, {proof.missing} missing, {proof.duplicates} duplicates")
    figures = figures_of(settings, data_set, manifest, plan, played, circumstances, proof, sent)
    series = played.samples.series([shard["id"] for shard in figures["shards"]])
    page = write_stream_report(settings.home, figures, series)
    console.print(summary(figures))
    return proof, page


def archived_ids(settings: Settings, store: ObjectStore, data_set: DataSet, played: Played) -> Ids:
    """The ids of the play's transactions that the archive holds, as often as it holds them."""
    stream = data_set.stream("transactions")
    with StreamAdmin(settings.kafka_servers) as admin:
        found = admin.describe(stream)
    assert found is not None
    intents = Intents(store, data_set.bucket, stream, found.topic_id)
    tables = delivered_rows(store, intents, played.transactions, ["transaction_id"])
    columns = [table["transaction_id"].to_numpy() for table in tables]
    return np.concatenate(columns) if columns else np.empty(0, dtype=np.int64)


def figures_of(
    settings: Settings,
    data_set: DataSet,
    manifest: Manifest,
    plan: Plan,
    played: Played,
    circumstances: Circumstances,
    proof: Proof,
    sent: SentTransactions,
) -> StreamFigures:
    """All of report.json but for what is filled in when it is written."""
    store, readers, sent_by = ObjectStore(settings), played.readers, played.summary
    due = labels_due(store, data_set, sent, readers.flagged)
    precision, recall = precision_recall(due.flagged, due.frauds)
    alert_ms = latency_figures(readers.alert_ms)
    seconds = circumstances.seconds
    return {
        "job": "stream-demo",
        "run": circumstances.run,
        "started_at": _iso(datetime.fromtimestamp(circumstances.began, UTC)),
        "ended": "early" if played.early else "complete",
        "sent": proof.sent,
        "decided": proof.decided,
        "archived": proof.archived,
        "rejected": proof.rejected,
        "missing": proof.missing,
        "duplicates": proof.duplicates,
        "strangers": proof.strangers,
        "examples": list(proof.examples),
        "alerts": len(readers.alerts),
        "actions": {
            "approve": readers.actions["approve"],
            "review": readers.actions["review"],
            "block": readers.actions["block"],
        },
        "precision": precision,
        "recall": recall,
        "labels_due": due.transactions,
        "frauds_due": len(due.frauds),
        "model": _model(newest_model(store, data_set)),
        "rate_asked": plan.rate,
        "rate_per_s": round((proof.sent - 1) / sent.put_s, 1) if sent.put_s else float(proof.sent),
        "latency_ms": latency_figures(readers.latency_ms),
        "time_to_alert_ms": {"p50": alert_ms["p50"], "p99": alert_ms["p99"]},
        "archive_lag_s": _rounded(played.samples.archive_lag_s),
        "throttled": max(sent_by.get("throttled", 0), played.samples.throttled),
        "refused": sent_by.get("refused", 0),
        "shards": [
            {
                "id": number,
                "records": use.records,
                "bytes": use.bytes,
                "peak_records_per_s": use.peak_records_per_s,
            }
            for number, use in sent.use.items()
        ],
        "shards_needed": sent_by.get("shards_needed"),
        "data_set": data_set.id or "default",
        "input": circumstances.input,
        "all_played": bool(sent_by.get("exhausted")) and not sent_by.get("held_back"),
        "first_event_time": _iso(sent.first),
        "last_event_time": _iso(sent.last),
        "scorers": plan.scorers,
        "restarts": played.restarts,
        "servers": {"s3": settings.s3_endpoint, "kafka": settings.kafka_servers},
        "places": {
            "archive": f"{data_set.archive('transactions')}live/",
            "decisions": f"{data_set.archive('decisions')}live/",
            "models": data_set.models,
            "terminals' tables": data_set.terminal_risk,
            "alerts": str(played.alerts_file),
            "logs": str(settings.home / "logs"),
        },
        "seconds": {
            "setup": seconds.get("setup", 0.0),
            "data": seconds.get("data", 0.0),
            "play": sent.put_s,
            "drain": seconds.get("drain", 0.0),
            "total": round(datetime.now(UTC).timestamp() - circumstances.began, 2),
        },
        "cpu_seconds": played.cpu_seconds,
        "peak_memory_mb": round(circumstances.peak_memory / 2**20, 1),
        "report": "",
    }


def labels_due(store: ObjectStore, data_set: DataSet, sent: SentTransactions, flagged: set[int]) -> Due:
    """Which transactions can be judged by labels that had come by the run's last event time."""
    if sent.last is None or sent.first is None:
        return Due(0, np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))
    ids = sent.ids[sent.times <= int((sent.last - LABEL_DELAY).timestamp())]
    marked = np.fromiter(flagged, dtype=np.int64, count=len(flagged))
    return Due(len(ids), np.intersect1d(ids, marked), np.intersect1d(ids, _frauds(store, data_set, sent)))


def _frauds(store: ObjectStore, data_set: DataSet, sent: SentTransactions) -> Ids:
    """The ids of the labels of the days that were played."""
    assert sent.first is not None
    assert sent.last is not None
    begin, end = (f"day={moment:%Y-%m-%d}" for moment in (sent.first, sent.last))
    prefix = data_set.source("labels")
    columns = [
        pq.read_table(io.BytesIO(store.get(item.url)), columns=["transaction_id"])[
            "transaction_id"
        ].to_numpy()
        for item in store.list(prefix)
        if begin <= item.url.removeprefix(prefix).split("/")[0] <= end
    ]
    return np.concatenate(columns) if columns else np.empty(0, dtype=np.int64)


def _model(model: Mapping[str, Any] | None) -> ModelFigures | None:
    """What the report says of a model.json: its numbers, however deep they lie."""
    if model is None:
        return None
    metrics = {name: value for name, value in model["metrics"].items() if isinstance(value, int | float)}
    return {
        "version": model["version"],
        "in_force_from": model["in_force_from"],
        "thresholds": {"review": model["thresholds"]["review"], "block": model["thresholds"]["block"]},
        "metrics": metrics,
    }


def _iso(moment: datetime | None) -> Any:
    return None if moment is None else moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
