"""The report of a stream demo: its figures and series -> report.json and report.html."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.report import stream_words as words
from infra.report.folder import report_folder, write_report
from infra.report.page import render
from infra.report.plots import as_json
from infra.report.stream_figures import ShardFigures, StreamFigures
from infra.report.stream_plots import (
    MAX_ALERTS,
    MAX_POINTS,
    alerts_by_event_time,
    alerts_by_wall_time,
    distribution_plot,
    lag_plot,
    latency_plot,
    throughput_plot,
)
from infra.report.stream_series import AlertSeen, StreamSeries, thinned
from infra.streams.limits import BYTES_PER_S, RECORDS_PER_S

HIGHEST, LATEST = 8, 20  # alerts in the two tables


@dataclass(frozen=True)
class AlertRow:
    """An alert as a row of a table."""

    event_time: str
    card: str
    terminal: str
    amount: str
    score: str
    action: str
    reasons: list[str]


@dataclass(frozen=True)
class ShardRow:
    """A shard's use against its limits; shares of them are 0 to 1 and more."""

    id: int
    records: int
    bytes: int
    mean: float
    mean_share: float
    peak: int
    peak_share: float
    bytes_share: float


def write_stream_report(home: Path, figures: StreamFigures, series: StreamSeries) -> Path:
    """Write both files under `<home>/reports/<job>/<run>/` and move `latest`; returns the page's path.

    `report` and `replay` of the figures are filled in here.
    """
    job, run = figures["job"], figures["run"]
    page = report_folder(home, job, run) / "report.html"
    whole: StreamFigures = {**figures, "report": str(page), "replay": words.replay_words(figures)}
    return write_report(home, job, run, whole, stream_html(whole, series))


def stream_html(figures: StreamFigures, series: StreamSeries) -> str:
    """The page as text."""
    drawn = thinned(series, MAX_POINTS)
    alerts = series.alerts
    return render(
        "stream.html.j2",
        figures=figures,
        words=words,
        plots={
            "latency": as_json(latency_plot(drawn)),
            "distribution": as_json(distribution_plot(series, figures["latency_ms"])),
            "throughput": as_json(throughput_plot(drawn, figures["rate_asked"])),
            "lag": as_json(lag_plot(drawn, [shard["id"] for shard in figures["shards"]])),
            "alerts-wall": as_json(alerts_by_wall_time(alerts, figures["model"])),
            "alerts-event": as_json(alerts_by_event_time(alerts)),
        },
        measured=len(series.t_s) > 0,
        drawn_s=len(series.t_s) / len(drawn.t_s) if len(drawn.t_s) else 1,
        most_alerts=MAX_ALERTS,
        highest=[_row(seen) for seen in sorted(alerts, key=_by_score)[:HIGHEST]],
        latest=[_row(seen) for seen in sorted(alerts, key=lambda seen: -seen.at_s)[:LATEST]],
        shard_rows=[_shard(shard, figures["seconds"]["play"]) for shard in figures["shards"]],
        limits={"records": RECORDS_PER_S, "bytes": BYTES_PER_S},
        phases=_phases(figures),
        cpu=sorted(figures["cpu_seconds"].items(), key=lambda item: -item[1]),
        cpu_total=sum(figures["cpu_seconds"].values()),
    )


def _by_score(seen: AlertSeen) -> tuple[float, int]:
    return -seen.alert.score, -seen.alert.amount_cents


def _row(seen: AlertSeen) -> AlertRow:
    alert = seen.alert
    return AlertRow(
        event_time=words.clock(alert.event_time),
        card=alert.card_id,
        terminal=alert.terminal_id,
        amount=words.plain_amount(alert.amount_cents),
        score=f"{alert.score:.3f}",
        action=alert.action,
        reasons=alert.reasons,
    )


def _shard(shard: ShardFigures, seconds: float) -> ShardRow:
    """A shard that took all of its records within less than a second is measured over one."""
    mean = shard["records"] / max(seconds, 1)
    return ShardRow(
        id=shard["id"],
        records=shard["records"],
        bytes=shard["bytes"],
        mean=mean,
        mean_share=mean / RECORDS_PER_S,
        peak=shard["peak_records_per_s"],
        peak_share=shard["peak_records_per_s"] / RECORDS_PER_S,
        bytes_share=shard["bytes"] / max(seconds, 1) / BYTES_PER_S,
    )


def _phases(figures: StreamFigures) -> Sequence[tuple[str, float]]:
    seconds = figures["seconds"]
    named = [
        ("set-up", seconds["setup"]),
        ("history, model and tables", seconds["data"]),
        ("play", seconds["play"]),
        ("drain: until all was decided and archived", seconds["drain"]),
    ]
    rest = seconds["total"] - sum(value for _, value in named)
    return [*named, ("the rest: processes, proof, shutdown, report", max(0.0, rest))]
