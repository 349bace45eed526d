"""Plotly figures in the report's dress; colours are the light ones, the page repaints them when dark."""

from __future__ import annotations

import html
import json
from typing import Any

import plotly.graph_objects as go

from infra.report.palette import light, series
from infra.report.tables import Curves

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
LEGEND_CHARS = 20
DASHES = ("solid", "dash", "dot")


def label(text: str) -> str:
    """A user's text for plotly, which reads markup in names."""
    return html.escape(text, quote=False)


def shorten(text: str, limit: int = LEGEND_CHARS) -> str:
    """A name for a legend, cut where a phone's legend would fall apart."""
    return text if len(text) <= limit else f"{text[: limit - 1].rstrip()}…"


def figure(height: int, **layout: Any) -> go.Figure:
    """An empty figure in the report's dress, `height` pixels high and as wide as its place."""
    axis = {
        "gridcolor": light("line"),
        "linecolor": light("line"),
        "zerolinecolor": light("line"),
        "tickfont": {"color": light("muted")},
        "automargin": True,
        "fixedrange": True,
    }
    base = go.Layout(
        height=height,
        font={"family": FONT, "size": 13, "color": light("ink")},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
        hoverlabel={"bgcolor": light("surface"), "font": {"color": light("ink"), "family": FONT}},
        legend={"orientation": "h", "x": 0, "y": -0.12, "yanchor": "top", "font": {"color": light("ink")}},
        xaxis=axis,
        yaxis=axis,
        uirevision="keep",  # what the reader hid stays hidden when the page repaints
    )
    return go.Figure(layout=base).update_layout(**layout)


def as_json(plot: go.Figure) -> dict[str, Any]:
    """The figure as plain data for the page, without plotly's own template (the dress is complete)."""
    data: dict[str, Any] = json.loads(plot.update_layout(template="none").to_json())
    return data


def curves_plot(curves: Curves) -> go.Figure:
    """Revenue in dollars per season over time, a line per category, of the first view.

    Hollow marks are seasons of season-years that are not whole.
    """
    plot = figure(440, hovermode="closest")
    symbols = ["circle" if whole else "circle-open" for whole in curves.complete]
    for number, (name, values) in enumerate(zip(curves.categories, dollars(curves, 0), strict=True)):
        plot.add_scatter(
            x=curves.days,
            y=values,
            name=label(shorten(name)),
            meta=label(name),
            mode="lines+markers",
            line={"color": series(number), "width": 2, "dash": DASHES[number // 8 % len(DASHES)]},
            marker={"color": series(number), "size": 7, "symbol": symbols},
            customdata=curves.labels,
            hovertemplate="%{customdata}: <b>%{y:$,.0f}</b><extra>%{meta}</extra>",
        )
    plot.update_yaxes(tickformat="$~s", rangemode="tozero")
    plot.update_xaxes(tickformat="%Y", dtick="M12", tick0="2000-01-15", showgrid=True)
    return plot


def dollars(curves: Curves, view: int) -> list[list[float | None]]:
    """The values of one view of the curves in dollars, a list per category."""
    return [[None if c is None else c / 100 for c in values] for values in curves.cents[view]]
