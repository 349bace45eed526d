"""The plots of a stream demo: latency, throughput, lag by shard, alerts by both clocks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from infra.report.palette import light
from infra.report.plots import figure, label
from infra.report.stream_figures import LatencyFigures, ModelFigures
from infra.report.stream_series import AlertSeen, StreamSeries
from infra.report.stream_words import clock, millis, plain_amount
from infra.streams.limits import RECORDS_PER_S

MAX_POINTS = 600  # of a line; more seconds than these are drawn together
MAX_ALERTS = 1500  # dots; more would make the page slow
LAG_ROW_PX, MOST_LAG_PX = 26, 620
ACTION_LOOKS = {"review": ("series-1", "circle"), "block": ("series-2", "diamond")}
LEGEND_ABOVE = {"y": 1.02, "yanchor": "bottom", "traceorder": "normal"}
TICKS_MS = (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)


def latency_plot(series: StreamSeries) -> go.Figure:
    """Median and 99th percentile of each second, in milliseconds."""
    plot = figure(340, hovermode="x unified", legend=LEGEND_ABOVE)
    for name, values, colour in (("p99", series.p99_ms, "series-2"), ("p50", series.p50_ms, "series-1")):
        plot.add_scatter(
            x=_plain(series.t_s),
            y=_plain(values),
            name=name,
            mode="lines+markers" if len(values) < 3 else "lines",
            line={"color": light(colour), "width": 2},
            hovertemplate="%{y:,.0f} ms",
        )
    plot.update_yaxes(rangemode="tozero", ticksuffix=" ms")
    return _over_seconds(plot)


def distribution_plot(series: StreamSeries, latency: LatencyFigures) -> go.Figure:
    """The share of decisions by latency on a log scale, with the quantiles marked."""
    edges, counts = np.log10(series.latencies.edges_ms), series.latencies.counts
    plot = figure(340, bargap=0, showlegend=False)
    plot.add_bar(
        x=_plain((edges[1:] + edges[:-1]) / 2),
        y=_plain(counts / max(1, int(counts.sum()))),
        width=_plain(np.diff(edges) * 0.94),
        marker={"color": light("series-6"), "line": {"width": 0}},
        customdata=_bin_words(series),
        hovertemplate="%{customdata}: <b>%{y:.2%}</b><extra></extra>",
    )
    for name, value in (("p50", latency["p50"]), ("p99", latency["p99"]), ("p99.9", latency["p999"])):
        if value is not None:
            _mark(plot, name, value)
    ticks = [f"{ms} ms" if ms < 1000 else f"{ms // 1000} s" for ms in TICKS_MS]
    plot.update_xaxes(tickvals=np.log10(TICKS_MS).tolist(), ticktext=ticks)
    plot.update_yaxes(tickformat=".0%", nticks=6)
    return plot


def throughput_plot(series: StreamSeries, rate_asked: float) -> go.Figure:
    """Put and decided records a second above, archived ones, which come in cuts, below."""
    plot = figure(380, hovermode="x unified", legend=LEGEND_ABOVE, bargap=0.1)
    # Decided first and wider: where all is well the two lines lie on each other, and both are to be seen.
    for name, values, colour, width in (
        ("decided", series.decided, "series-3", 5),
        ("put", series.put, "series-1", 1.75),
    ):
        plot.add_scatter(
            x=_plain(series.t_s),
            y=_plain(values),
            name=name,
            mode="lines",
            line={"color": light(colour), "width": width},
            hovertemplate="%{y:,.0f}/s",
        )
    plot.add_bar(
        x=_plain(series.t_s),
        y=_plain(series.archived),
        name="archived",
        yaxis="y2",
        marker={"color": light("series-7"), "line": {"width": 0}},
        hovertemplate="%{y:,.0f}/s",
    )
    plot.add_hline(rate_asked, line={"color": light("muted"), "width": 1, "dash": "dot"}, yref="y")
    below = plot.layout.yaxis.to_plotly_json() | {"domain": [0, 0.26], "anchor": "x", "nticks": 3}
    plot.update_layout(yaxis={"domain": [0.36, 1], "nticks": 6}, yaxis2=below)
    plot.update_yaxes(rangemode="tozero", tickformat=",~s", ticksuffix="/s")
    return _over_seconds(plot).update_xaxes(anchor="y2")


def lag_plot(series: StreamSeries, shards: Sequence[int]) -> go.Figure:
    """Records behind, a row for each shard over time."""
    height = min(MOST_LAG_PX, LAG_ROW_PX * len(shards) + 90)
    plot = figure(height)
    most = float(np.nan_to_num(series.lag).max(initial=0))
    plot.add_heatmap(
        x=_plain(series.t_s),
        y=[f"shard {number}" for number in shards],
        z=[_plain(row) for row in series.lag.T],
        zmin=0,
        zmax=max(float(RECORDS_PER_S), most),  # less than a second's is pale
        ygap=1,
        colorscale=[[0, light("heat-mid")], [1, light("heat-high")]],
        colorbar={
            "thickness": 10,
            "outlinewidth": 0,
            "nticks": 4,
            "tickformat": ",~s",
            "tickfont": {"color": light("muted")},
        },
        hovertemplate="%{y}, second %{x}: <b>%{z:,.0f}</b> behind<extra></extra>",
    )
    plot.update_yaxes(autorange="reversed", showgrid=False, nticks=min(len(shards), 20))
    return _over_seconds(plot).update_xaxes(showgrid=False)


def alerts_by_wall_time(alerts: Sequence[AlertSeen], model: ModelFigures | None) -> go.Figure:
    """A dot for each alert (MAX_ALERTS at most, picked evenly) at the second when it was read."""
    plot = figure(340, hovermode="closest", legend=LEGEND_ABOVE)
    dots = min(len(alerts), MAX_ALERTS)
    kept = [alerts[index * len(alerts) // dots] for index in range(dots)]
    for action, (colour, symbol) in ACTION_LOOKS.items():
        same = [seen for seen in kept if seen.alert.action == action]
        plot.add_scatter(
            x=[round(seen.at_s, 1) for seen in same],
            y=[round(seen.alert.score, 4) for seen in same],
            name=action,
            mode="markers",
            marker={"color": light(colour), "size": 6, "symbol": symbol, "opacity": 0.6},
            customdata=[_alert_words(seen) for seen in same],
            hovertemplate="%{customdata}<extra></extra>",
        )
    thresholds = (model["thresholds"]["review"], model["thresholds"]["block"]) if model else ()
    for threshold in (score for score in thresholds if score <= 1):
        plot.add_hline(threshold, line={"color": light("muted"), "width": 1, "dash": "dot"})
    plot.update_yaxes(range=[0, 1.03], tickformat=".1f", title={"text": "score", "standoff": 6})
    return _over_seconds(plot)


def alerts_by_event_time(alerts: Sequence[AlertSeen]) -> go.Figure:
    """How many alerts there were in each day of the data (each hour when there are few days)."""
    plot = figure(340, barmode="stack", bargap=0.12, legend=LEGEND_ABOVE, hovermode="x unified")
    times = [seen.alert.event_time for seen in alerts]
    daily = bool(times) and max(times) - min(times) > timedelta(days=3)
    for action, (colour, _) in ACTION_LOOKS.items():
        counts = Counter(
            _bucket(seen.alert.event_time, daily) for seen in alerts if seen.alert.action == action
        )
        plot.add_bar(
            x=sorted(counts),
            y=[counts[each] for each in sorted(counts)],
            name=action,
            marker={"color": light(colour), "line": {"width": 0}},
            hovertemplate="%{y:,}",
        )
    plot.update_xaxes(type="date", tickformat="%d %b" if daily else "%H:%M\n%d %b", nticks=8, showgrid=False)
    plot.update_yaxes(tickformat=",d", nticks=6, **({"dtick": 1} if len(alerts) < 6 else {}))
    return plot


def _over_seconds(plot: go.Figure) -> go.Figure:
    return plot.update_xaxes(ticksuffix=" s", rangemode="tozero", nticks=8, showgrid=False)


def _mark(plot: go.Figure, name: str, value_ms: float) -> None:
    at = float(np.log10(max(value_ms, 1.0)))
    plot.add_vline(at, line={"color": light("muted"), "width": 1, "dash": "dot"})
    plot.add_annotation(
        x=at,
        y=1,
        yref="paper",
        text=f"{name}<br><b>{millis(value_ms)}</b>",
        showarrow=False,
        xanchor="left",
        xshift=4,
        yanchor="top",
        align="left",
        font={"size": 11, "color": light("ink")},
    )


def _bin_words(series: StreamSeries) -> list[str]:
    edges = [millis(edge) for edge in series.latencies.edges_ms.tolist()]
    return [f"{low} to {high}" for low, high in pairwise(edges)]


def _alert_words(seen: AlertSeen) -> str:
    alert = seen.alert
    lines = [
        f"<b>{alert.action}, score {alert.score:.3f}</b>",
        f"{alert.card_id} at {alert.terminal_id}, {plain_amount(alert.amount_cents)}",
        f"{clock(alert.event_time)} UTC",
        *alert.reasons,
    ]
    return "<br>".join([lines[0], *map(label, lines[1:])])


def _bucket(moment: datetime, daily: bool) -> str:
    return f"{moment.astimezone(UTC):{'%Y-%m-%d' if daily else '%Y-%m-%d %H:00'}}"


def _plain(values: npt.NDArray[Any]) -> list[float | None]:
    """Numbers for the page's JSON, None for NaN; six digits are more than a plot shows."""
    return [None if np.isnan(value) else float(f"{value:.6g}") for value in values.tolist()]
