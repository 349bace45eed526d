"""The report of a batch job: its figures and its rollup -> report.json and report.html."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import pyarrow as pa

from infra.report.figures import BatchFigures, PatternFigures
from infra.report.folder import report_folder, write_report
from infra.report.page import render
from infra.report.patterns import Pattern, find_patterns, nothing_found
from infra.report.plots import as_json, curves_plot, dollars
from infra.report.seasonal import SEASONS, complete_years
from infra.report.tables import Curves, curves, heat_maps, shown
from infra.report.timeline import MAX_NODES, timeline_plot

# Works in DuckDB and in PostgreSQL, and needs no quoting inside the double quotes of a shell.
QUERY = (
    "SELECT category, region, season, avg(seasonal_index) AS mean_index FROM {table} "
    "WHERE complete GROUP BY 1, 2, 3 ORDER BY 4 DESC LIMIT 10"
)


def write_batch_report(home: Path, figures: Mapping[str, Any], rollup: pa.Table) -> Path:
    """Write both files under `<home>/reports/<job>/<run>/` and move `latest`; returns the page's path.

    `figures` is a BatchFigures; `report` and `patterns` are filled in here. `rollup` has the columns of the
    warehouse's table and may be empty, when the job failed before it had a result.
    """
    patterns = find_patterns(rollup)
    job, run = figures["job"], figures["run"]
    page = report_folder(home, job, run) / "report.html"
    found = [_pattern_figures(pattern) for pattern in patterns]
    whole = cast(BatchFigures, {**figures, "report": str(page), "patterns": found})
    return write_report(home, job, run, whole, batch_html(whole, rollup, patterns))


def batch_html(figures: BatchFigures, rollup: pa.Table, patterns: list[Pattern]) -> str:
    """The page as text."""
    categories, regions = shown(rollup, "category"), shown(rollup, "region")
    lines = curves(rollup, categories.names, regions.names)
    return render(
        "batch.html.j2",
        figures=figures,
        patterns=patterns,
        nothing_found=nothing_found(rollup),
        years=complete_years(rollup),
        seasons=SEASONS,
        categories=categories,
        regions=regions,
        heat_maps=heat_maps(rollup, categories.names, regions.names),
        curves=lines,
        curves_plot=as_json(curves_plot(lines)),
        curves_views=_views(lines),
        timeline_plot=as_json(timeline_plot(figures)),
        max_nodes=MAX_NODES,
        query=_query(figures),
        phases=_phases(figures),
    )


def _pattern_figures(pattern: Pattern) -> PatternFigures:
    kept = {key: value for key, value in asdict(pattern).items() if key not in ("score", "text")}
    return cast(PatternFigures, {**kept, "sentence": pattern.sentence})


def _views(lines: Curves) -> list[list[list[float | None]]]:
    return [dollars(lines, view) for view in range(len(lines.views))]


def _query(figures: BatchFigures) -> str | None:
    warehouse = figures["warehouse"]
    return f'make query SQL="{QUERY.format(table=warehouse["table"])}"' if warehouse else None


def _phases(figures: BatchFigures) -> list[tuple[str, float]]:
    seconds = figures["seconds"]
    named = [
        ("set-up", seconds["setup"]),
        ("data", seconds["data"]),
        ("cluster start", seconds["cluster_start"]),
        ("steps", seconds["steps"]),
    ]
    rest = seconds["total"] - sum(value for _, value in named)
    return [*named, ("the rest: servers, shutdown, report", max(0.0, rest))]
