"""The batch report: files, link, escaping, self-containment and size."""

from __future__ import annotations

import io
import json
import os
import threading
from collections.abc import Callable
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path

import pyarrow as pa
import pytest
from rich.console import Console

from infra.report import palette
from infra.report.batch import write_batch_report
from infra.report.figures import BatchFigures, InstanceFigures
from infra.report.folder import to_json, write_report
from infra.report.formats import cents, dollars, duration, memory, moment, percent
from infra.report.terminal import summary
from infra.report.timeline import MAX_NODES, timeline_bars, timeline_plot

EVIL = '<script>alert("x")</script>'
SEASONS = ("winter", "spring", "summer", "autumn")
START = "2026-12-01T08:00:00Z"


def rollup(categories: list[str], regions: list[str], complete: bool = True) -> pa.Table:
    """Two season-years of sales, winters of twice the mean."""
    names = [
        (year, season, c, r)
        for year in (2025, 2026)
        for season in SEASONS
        for c in categories
        for r in regions
    ]
    return pa.table(
        {
            "season_year": pa.array([name[0] for name in names], pa.int32()),
            "season": pa.array([name[1] for name in names], pa.string()),
            "category": pa.array([name[2] for name in names], pa.string()),
            "region": pa.array([name[3] for name in names], pa.string()),
            "sales": [1] * len(names),
            "units": [2] * len(names),
            "revenue_cents": pa.array(
                [60_000 if name[1] == "winter" else 20_000 for name in names], pa.int64()
            ),
            "seasonal_index": pa.array(
                [(2.0 if name[1] == "winter" else 2 / 3) if complete else None for name in names],
                pa.float64(),
            ),
            "growth": pa.array([None] * len(names), pa.float64()),
            "complete": pa.array([complete] * len(names), pa.bool_()),
        }
    )


def node(number: int, group: str = "CORE", ended_at: str | None = "2026-12-01T08:00:50Z") -> InstanceFigures:
    """One node that was up for 40 seconds after 10 of starting."""
    return {
        "id": f"i-{number:03}",
        "group": group,  # type: ignore[typeddict-item]  # a plain str keeps the callers short
        "type": "m5.xlarge",
        "market": "ON_DEMAND",
        "state": "TERMINATED",
        "created_at": START,
        "ready_at": "2026-12-01T08:00:10Z",
        "ended_at": ended_at,
        "cores": 1,
        "memory_mb": 1024,
    }


def figures(run: str = "run-1", groups: int = 8, nodes: int = 2) -> BatchFigures:
    """The figures of a small job that went well."""
    return {
        "job": "batch-job",
        "run": run,
        "started_at": START,
        "cluster_id": "j-ABC",
        "cluster_name": f"mine {EVIL}",
        "release_label": "spark-4.1.1",
        "state": "TERMINATED",
        "state_change_reason": {"code": "ALL_STEPS_COMPLETED", "message": "Steps completed"},
        "steps": [
            {
                "id": "s-1",
                "name": f"rollup {EVIL}",
                "state": "COMPLETED",
                "seconds": 20.0,
                "started_at": "2026-12-01T08:00:15Z",
                "ended_at": "2026-12-01T08:00:35Z",
                "logs": "s3://lake/logs/s-1/",
            }
        ],
        "instances": [node(0, "MASTER"), *(node(n) for n in range(1, nodes))],
        "states": [{"state": "STARTING", "at": START}, {"state": "TERMINATED", "at": "2026-12-01T08:00:50Z"}],
        "rows_read": 2_000_000,
        "rows_used": 1_999_000,
        "rows_rejected": 1_000,
        "rejected_reasons": {f"bad {EVIL}": 1_000},
        "rows_rounded": 3,
        "groups": groups,
        "units": 16,
        "revenue_cents": 123_456_789,
        "mode": "full",
        "month": None,
        "months": {"2026-09": 1_000_000, "2026-10": 999_000},
        "months_read": ["2026-09", "2026-10"],
        "seconds": {"setup": 0.5, "data": 7.0, "cluster_start": 6.0, "steps": 20.0, "total": 50.0},
        "cost": {
            "currency": "USD",
            "price_table_as_of": "2026-11-01",
            "usd": 0.01395,
            "on_demand_usd": 0.016,
            "always_on_month_usd": 700.8,
            "saving_usd": 700.78605,
            "nodes": [],
        },
        "peak_memory_mb": 2874.0,
        "input": "s3://lake/sales/",
        "output": "s3://lake/rollup/",
        "rejected": "s3://lake/rejected/run-1/",
        "warehouse": {"path": "/w.duckdb", "table": "sales_rollup", "rows": groups},
        "logs": "s3://lake/logs/",
        "report": "",
    }


class Page(HTMLParser):
    """What a browser would make of a page: its tags, and the text outside of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.styles: list[str] = []
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep the tag."""
        self.tags.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        """Leave it."""
        self._inside = ""

    def handle_data(self, data: str) -> None:
        """Keep the text where it belongs."""
        if self._inside == "style":
            self.styles.append(data)
        elif self._inside != "script":
            self.words.append(data)


def test_figures_come_back_from_report_json(tmp_path: Path) -> None:
    """report.json is the figures in their order, with the report's path and the patterns added."""
    given = figures()
    page = write_batch_report(tmp_path, given, rollup(["Toys"], ["North"]))
    read = json.loads((page.parent / "report.json").read_text())
    assert page == tmp_path / "reports/batch-job/run-1/report.html"
    assert list(read) == [*given, "patterns"]
    assert {key: value for key, value in read.items() if key != "patterns"} == {**given, "report": str(page)}
    assert read["patterns"][0]["sentence"].startswith(
        "Toys in North: winter brings 2.0 times the yearly mean"
    )


def test_decimals_become_numbers_and_nan_is_refused() -> None:
    """Dollars keep six places; what JSON can't say is an error, not a broken file."""
    assert json.loads(to_json({"usd": Decimal("0.0139500001")})) == {"usd": 0.01395}
    with pytest.raises(ValueError, match="JSON compliant"):
        to_json({"usd": float("nan")})


def test_latest_is_a_relative_link_to_the_newest_run(tmp_path: Path) -> None:
    """The link names the folder only, so that the reports can be moved or mounted elsewhere."""
    for run in ("run-1", "run-2"):
        write_report(tmp_path, "batch-job", run, {"run": run}, "<p>")
    latest = tmp_path / "reports/batch-job/latest"
    assert os.readlink(latest) == "run-2"  # noqa: PTH115 - the text of the link, not where it leads
    assert sorted(path.name for path in latest.parent.iterdir()) == ["latest", "run-1", "run-2"]


def test_latest_survives_a_leftover_of_a_killed_run(tmp_path: Path) -> None:
    """A run that died between making its link and moving it does not stop the next."""
    (tmp_path / "reports/batch-job").mkdir(parents=True)
    (tmp_path / "reports/batch-job/.latest-run-1").symlink_to("run-0")
    write_report(tmp_path, "batch-job", "run-1", {}, "<p>")
    assert (tmp_path / "reports/batch-job/latest/report.html").read_text() == "<p>"


def test_latest_is_there_and_whole_at_every_moment(tmp_path: Path) -> None:
    """Someone who reads `latest` while runs finish always finds both files complete."""
    page = "<p>" * 10_000
    write_report(tmp_path, "batch-job", "run-0", {"run": "0"}, page)
    latest, problems, done = tmp_path / "reports/batch-job/latest", list[str](), threading.Event()

    def read() -> None:
        while not done.is_set():
            try:
                folder = latest.resolve(strict=True)
                json.loads((folder / "report.json").read_text())
                assert (folder / "report.html").read_text() == page
            except (OSError, ValueError, AssertionError) as error:
                problems.append(repr(error))

    reader = threading.Thread(target=read)
    reader.start()
    for run in range(1, 300):
        write_report(tmp_path, "batch-job", f"run-{run}", {"run": str(run)}, page)
    done.set()
    reader.join()
    assert problems == []


def test_users_text_is_never_markup(tmp_path: Path) -> None:
    """A category, region, step, cluster or reason that looks like a script stays text."""
    page = write_batch_report(tmp_path, figures(), rollup([EVIL, "Toys"], [EVIL]))
    text = page.read_text()
    assert "<script>alert" not in text
    parsed = Page(text)
    assert any(EVIL in words for words in parsed.words)
    kinds = [tags.get("type") for tag, tags in parsed.tags if tag == "script"]
    assert len(kinds) == 6
    assert kinds.count(None) == 2  # plotly and the page's own


def test_page_asks_for_nothing_from_elsewhere(tmp_path: Path) -> None:
    """No tag and no style names another file, and the policy forbids scripts to load one."""
    parsed = Page(write_batch_report(tmp_path, figures(), rollup(["Toys"], ["North"])).read_text())
    linking = ("src", "href", "srcset", "data", "action", "poster", "background")
    assert [(tag, attrs) for tag, attrs in parsed.tags if any(name in attrs for name in linking)] == []
    assert [tag for tag, _ in parsed.tags if tag in ("link", "iframe", "object", "embed", "base")] == []
    styles = "".join([*parsed.styles, *(attrs.get("style") or "" for _, attrs in parsed.tags)])
    assert "@import" not in styles
    assert "url(" not in styles
    policy = next(attrs for _, attrs in parsed.tags if attrs.get("http-equiv") == "Content-Security-Policy")
    assert str(policy["content"]).startswith("default-src 'none'")


def test_no_complete_year_is_said_on_the_page(tmp_path: Path) -> None:
    """Without a whole season-year the page explains itself and still shows the curves."""
    page = write_batch_report(tmp_path, figures(), rollup(["Toys"], ["North"], complete=False))
    parsed = Page(page.read_text())
    assert any("No season-year is complete" in words for words in parsed.words)
    assert any(attrs.get("id") == "curves" for _, attrs in parsed.tags)
    assert not any(attrs.get("class") == "heat" for _, attrs in parsed.tags)


def test_job_that_ended_before_a_result_has_a_report(tmp_path: Path) -> None:
    """No rows, no steps, no nodes, no warehouse: still a page that says what happened."""
    failed = figures(groups=0)
    failed.update({"state": "TERMINATED_WITH_ERRORS", "steps": [], "instances": [], "states": []})
    failed.update(
        {"warehouse": None, "rejected": None, "peak_memory_mb": None, "months": {}, "months_read": []}
    )
    failed["state_change_reason"] = {"code": "BOOTSTRAP_FAILURE", "message": "bootstrap action 1 failed"}
    text = write_batch_report(tmp_path, failed, rollup([], [])).read_text()
    words = " ".join(Page(text).words)
    assert "bootstrap action 1 failed" in words
    assert "the rollup has no rows" in words
    assert "Ask the warehouse" not in words


def test_large_tables_are_cut_to_the_largest(tmp_path: Path) -> None:
    """60 categories in 40 regions: 12 by 12 are shown, the page says so, and it hardly grows."""
    names = [f"C{n:02}" for n in range(60)], [f"R{n:02}" for n in range(40)]
    small = write_batch_report(tmp_path, figures("small"), rollup(["C"], ["R"])).read_text()
    text = write_batch_report(tmp_path, figures("large"), rollup(*names)).read_text()
    parsed = Page(text)
    assert [attrs.get("class") for _, attrs in parsed.tags].count("heat") == 12
    assert any("the 12 largest of 60 categories and the 12 largest of 40 regions" in w for w in parsed.words)
    assert len(text) - len(small) < 500_000


def test_timeline_shows_who_was_up_when() -> None:
    """A bar for each state, step and stage of a node, as long as it lasted, the open one to the end."""
    job = figures()
    job["instances"] = [node(0, "MASTER"), node(1, "CORE", ended_at=None)]
    bars = [(bar.row, bar.kind, bar.seconds) for bar in timeline_bars(job)]
    assert bars == [
        ("cluster", "cluster state", 50),
        ("cluster", "cluster state", 0),
        ("step 1", "step", 20),
        ("MASTER", "node starting", 10),
        ("MASTER", "MASTER", 40),
        ("CORE 1", "node starting", 10),
        ("CORE 1", "CORE", 40),
    ]


def test_timeline_of_a_large_cluster_is_cut() -> None:
    """A thousand nodes don't make a page as long as a street."""
    plot = timeline_plot(figures(nodes=1_000))
    assert len(plot.layout.yaxis.categoryarray) == MAX_NODES + 2


def test_every_light_colour_has_one_dark_one() -> None:
    """The page repaints by value, so two names can't share a light colour."""
    assert len(palette.dark_of_light()) == len(palette.COLOURS)


def test_terminal_summary_says_what_matters() -> None:
    """Rows, groups, revenue, pattern, cluster, cost and places are in the table, names as they are."""
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(summary(figures(), rollup(["[bold]Toys"], ["North"])))
    text = console.export_text()
    for words in (
        "2,000,000 read, 1,999,000 used, 1,000 rejected",
        "8 groups, revenue $1,234,568",
        "[bold]Toys in North: winter brings 2.0 times the yearly mean",
        "j-ABC TERMINATED",
        "1 MASTER + 1 CORE",
        "$0.0140 this run, $700.80 a month left on",
        "s3://lake/rollup/",
    ):
        assert words in text


@pytest.mark.parametrize(
    ("write", "value", "text"),
    [
        (cents, 99_999, "$999.99"),
        (cents, 100_050, "$1,001"),
        (cents, -5, "-$0.05"),
        (dollars, 0.01395, "$0.0140"),
        (dollars, 700.8, "$700.80"),
        (duration, 59.96, "1 min 0 s"),
        (duration, 7_400, "2 h 3 min"),
        (duration, None, "\u2013"),
        (memory, 3174, "3.1 GB"),
        (moment, "2026-11-30T13:00:03+01:00", "2026-11-30 12:00:03 UTC"),
        (percent, 0.085, "8 %"),
    ],
)
def test_figures_are_written_for_people(write: Callable[[object], str], value: object, text: str) -> None:
    """Counts, money, durations and moments read as a person writes them."""
    assert write(value) == text
