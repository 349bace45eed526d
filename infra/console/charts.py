"""The charts of the pages, as options of ECharts. Colours are the page's CSS variables, light or dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from infra.console.state import Points

MOST_S, LEAST_S = 600.0, 120.0


def line_chart(lines: Mapping[str, Points], now: float, unit: str, colours: Sequence[str]) -> dict[str, Any]:
    """Lines over the last ten minutes, or since the first point, two minutes at least.

    `unit` stands behind a value that is pointed at; `colours` are names of the palette.
    """
    muted = {"color": "var(--muted)", "fontSize": 11}
    return {
        "animation": False,
        "grid": {"left": 8, "right": 12, "top": 30, "bottom": 4, "containLabel": True},
        "legend": {
            "left": 0, "top": 0, "itemWidth": 14, "itemHeight": 3, "icon": "rect",
            "textStyle": {"color": "var(--ink)", "fontSize": 12},
        },
        "tooltip": {
            "trigger": "axis", "backgroundColor": "var(--surface)", "borderColor": "var(--line)",
            "textStyle": {"color": "var(--ink)", "fontSize": 12}, "confine": True,
            ":valueFormatter": f"v => v == null ? '' : Math.round(v).toLocaleString('en') + ' {unit}'",
            "axisPointer": {"lineStyle": {"color": "var(--muted)"}},
        },
        "useUTC": True,
        "xAxis": {
            "type": "time", "min": round(_begin(lines, now) * 1000), "max": round(now * 1000),
            "axisLabel": {**muted, "formatter": "{HH}:{mm}", "hideOverlap": True},
            "minInterval": 60_000, "axisLine": {"lineStyle": {"color": "var(--line)"}},
            "axisTick": {"show": False}, "splitLine": {"show": False},
        },
        "yAxis": {
            "type": "value", "min": 0, "minInterval": 1,
            "axisLabel": {**muted, ":formatter": "v => v.toLocaleString('en')"},
            "splitLine": {"lineStyle": {"color": "var(--line)"}},
        },
        "series": [
            {
                "name": name, "type": "line", "showSymbol": False, "data": _points(points, now),
                "lineStyle": {"width": 2, "color": f"var(--{colour})"},
                "itemStyle": {"color": f"var(--{colour})"},
                "areaStyle": {"color": f"var(--{colour})", "opacity": 0.08},
                "emphasis": {"disabled": True},
            }
            for (name, points), colour in zip(lines.items(), colours, strict=False)
        ],
    }  # fmt: skip


def _begin(lines: Mapping[str, Points], now: float) -> float:
    first = min((points[0][0] for points in lines.values() if points), default=now)
    return max(now - MOST_S, min(first, now - LEAST_S))


def _points(points: Points, now: float) -> list[list[float]]:
    return [[round(at * 1000), round(value, 1)] for at, value in points if at >= now - MOST_S]
