"""The folder of one run's report under `<home>/reports/<job>/`, with a link to the newest.

A reader of `latest` never meets half a report: the files are complete before the link moves.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

DOLLAR_PLACES = 6


def report_folder(home: Path, job: str, run: str) -> Path:
    """Where this run's report lies; nothing is made yet."""
    return home / "reports" / job / run


def write_report(home: Path, job: str, run: str, figures: Mapping[str, Any], html: str) -> Path:
    """Write report.json and report.html, then point `latest` at them. Returns the path of the HTML.

    Keys stay in the order of `figures`; a Decimal becomes a number with six places.
    """
    folder = report_folder(home, job, run)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(to_json(figures), encoding="utf-8")
    page = folder / "report.html"
    page.write_text(html, encoding="utf-8")
    _point_latest(folder)
    return page


def to_json(figures: Mapping[str, Any]) -> str:
    """The text of report.json. Raises ValueError for NaN, which JSON has no word for."""
    return json.dumps(figures, indent=2, ensure_ascii=False, allow_nan=False, default=_plain) + "\n"


def _plain(value: object) -> object:
    if isinstance(value, Decimal):
        return round(float(value), DOLLAR_PLACES)
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"report.json can't hold a {type(value).__name__}")


def _point_latest(folder: Path) -> None:
    link = folder.parent / f".latest-{folder.name}"
    link.unlink(missing_ok=True)  # left behind by a run that was killed right here
    link.symlink_to(folder.name, target_is_directory=True)
    link.replace(folder.parent / "latest")
