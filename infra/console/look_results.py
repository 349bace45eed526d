"""Looks at results: the sales rollup that was published last, and the newest report of each job."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from infra import objects
from infra.console.state import Report, Results, Rollup
from infra.contracts.errors import UserError
from infra.contracts.rollups import SALES_ROLLUP
from infra.objects import ObjectStore
from infra.parquet import read_parquet
from infra.report.patterns import find_patterns, nothing_found
from infra.report.seasonal import complete_years
from infra.report.tables import heat_maps, shown
from infra.settings import Settings

REPORTS_SHOWN = 6


class ResultsLook:
    """The rollup is read again when another run was published."""

    def __init__(self, settings: Callable[[], Settings], home: Path) -> None:
        """`settings` has S3's address while it is up."""
        self._settings, self._home = settings, home
        self._rollup: Rollup | None = None

    def __call__(self) -> Results:
        """Look once; the reports are there without S3 too."""
        trouble = self._read()
        return Results(self._rollup, trouble, newest_reports(self._home))

    def _read(self) -> str:
        """Read the rollup if it is another one; why that could not be done."""
        settings = self._settings()
        if not settings.s3_endpoint:
            return "S3 is not running"
        store = ObjectStore(settings)
        try:
            pointer = json.loads(store.get(f"s3://{settings.bucket}/{SALES_ROLLUP}latest.json"))
        except FileNotFoundError:
            return ""
        except objects.FAILURES as error:
            return str(error)
        if self._rollup is None or self._rollup.run != pointer["run"]:
            try:
                table = read_parquet(store, pointer["table"])
            except UserError as error:
                return str(error)
            categories, regions = shown(table, "category").names, shown(table, "region").names
            self._rollup = Rollup(
                run=pointer["run"],
                figures=pointer,
                years=tuple(complete_years(table)),
                heat_maps=tuple(heat_maps(table, categories, regions)),
                patterns=tuple(find_patterns(table)),
                nothing_found=nothing_found(table),
            )
        return ""


def newest_reports(home: Path) -> tuple[Report, ...]:
    """The newest reports of each job below a home, newest first."""
    found = []
    for job in sorted((home / "reports").glob("*")):
        pages = (page for page in job.glob("*/report.html") if not page.parent.is_symlink())
        runs = [Report(job.name, page.parent.name, page.stat().st_mtime) for page in pages]
        found += sorted(runs, key=lambda report: report.at, reverse=True)[:REPORTS_SHOWN]
    return tuple(found)
