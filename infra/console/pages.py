"""The pages: a header, the health strip, and panels whose fragments and charts follow the board.

Every browser asks once a second, and gets what has changed. What is rendered is the same for all that show
the same thing, so it is rendered once a second whatever their number.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nicegui import ui

from infra.console import views
from infra.console.board import Board
from infra.console.render import render
from infra.console.verdicts import DEFINITION
from infra.console.views import Charts, Fragments, Look, View
from infra.report import palette

REFRESH_S = 1.0
STYLE = Path(__file__).parent / "templates" / "console.css"
HEAT = Path(palette.__file__).parent / "templates" / "heat.css"
"""The steps of colour of heat maps, which the reports have too."""


@dataclass(frozen=True)
class Panel:
    """A panel: `fragment` and `chart` are names of what its view gives; `kind` is its width or look.

    What is wide or `tall` scrolls in a place of its own, which stays when the fragment in it is replaced.
    """

    fragment: str = ""
    title: str = ""
    chart: str = ""
    kind: str = ""
    note: str = ""
    define: str = ""
    tall: bool = False


@dataclass(frozen=True)
class Page:
    """A page: its path, its name, what it shows and where."""

    path: str
    name: str
    view: View
    panels: tuple[Panel, ...]


PAGES = (
    Page(
        "/",
        "Streams",
        views.streams,
        (
            Panel("tiles", kind="bare"),
            Panel("", "Throughput", "throughput", note="records a second"),
            Panel("streams", "Streams", define=views.OFFSETS),
            Panel("shards", "Shards", note="limits: 1,000 records/s and 1 MB/s each"),
        ),
    ),
    Page(
        "/fraud",
        "Fraud",
        views.fraud,
        (
            Panel("tiles", kind="bare"),
            Panel("", "Decisions", "decisions", "half", "a second"),
            Panel("", "Latency", "latency", "half", "from put to score, over ten seconds each"),
            Panel("alerts", "Latest alerts", note="newest first", tall=True),
            Panel("model", "Model", define=f"How right the alerts were: {DEFINITION}"),
        ),
    ),
    Page(
        "/archive",
        "Archive",
        views.archive,
        (
            Panel("deliveries", "Delivery streams"),
            Panel("objects", "Newest objects", note="of the newest cuts of each", tall=True),
        ),
    ),
    Page(
        "/clusters",
        "Clusters",
        views.clusters,
        (
            Panel("clusters", "Clusters", note="choose one by its id", tall=True),
            Panel("cluster", "Cluster"),
            Panel("steps", "Steps"),
            Panel("cost", "Cost", note="on AWS, node by node"),
        ),
    ),
    Page(
        "/results",
        "Results",
        views.results,
        (
            Panel("rollup", "Sales by season", kind="wide", note="mean index over complete years"),
            Panel("patterns", "Strongest patterns", kind="third"),
            Panel("reports", "Reports"),
        ),
    ),
)


def add_pages(board: Board) -> None:
    """Register all pages with NiceGUI."""
    ui.add_css(_style(), shared=True)
    for page in PAGES:
        _add(board, page, _Rendered(board, page))


class _Rendered:
    """A page's fragments and charts, rendered at most once in REFRESH_S for each data set and cluster."""

    def __init__(self, board: Board, page: Page) -> None:
        self._board, self._page = board, page
        self._known: dict[Look, tuple[float, Fragments, Charts]] = {}

    def now(self, look: Look) -> tuple[Fragments, Charts]:
        at = time.time()
        known = self._known.get(look)
        if known is None or at - known[0] >= REFRESH_S * 0.9:
            fragments, charts = self._page.view(self._board, look, at)
            fragments["health"] = views.health(self._board)
            fragments["sets"] = views.sets(self._board, look, self._page.path)
            self._known = {each: old for each, old in self._known.items() if at - old[0] < 60}
            known = self._known[look] = at, fragments, charts
        return known[1], known[2]


def _add(board: Board, page: Page, rendered: _Rendered) -> None:
    @ui.page(page.path, title=f"{page.name} · Millstream", dark=None)
    def show(set: str | None = None, id: str = "") -> None:  # noqa: A002  (names of the address)
        look = Look(_data_set(board, set), id)
        board.want(look.data_set)
        places: dict[str, ui.html] = {}
        charts: dict[str, ui.echart] = {}
        fragments, options = rendered.now(look)
        with ui.element("header").classes("head"):
            pages = [(each.path, each.name) for each in PAGES]
            _html(render("head", pages=pages, here=page.path, set_query=look.query)).classes("contents")
            places["sets"] = _html(fragments["sets"]).classes("sets")
        places["health"] = _html(fragments["health"])
        with ui.element("main").classes("panels"):
            for panel in page.panels:
                with _panel(panel):
                    if panel.chart:
                        chart = ui.echart(options[panel.chart], renderer="svg").classes("chart")
                        charts[panel.chart] = chart
                    if panel.fragment:
                        place = _html(fragments[panel.fragment])
                        places[panel.fragment] = place.classes("scroll tall" if panel.tall else "scroll")

        def refresh() -> None:
            fragments, options = rendered.now(look)
            for name, place in places.items():
                if place.content != fragments[name]:
                    place.content = fragments[name]
            for name, chart in charts.items():
                chart.options.update(options[name])
                chart.update()

        ui.timer(REFRESH_S, refresh)


@contextmanager
def _panel(panel: Panel) -> Iterator[None]:
    with ui.element("section").classes(f"panel {panel.kind}".strip()):
        if panel.title:
            with ui.element("div").classes("title"):
                _html(panel.title, "h2")
                if panel.note:
                    _html(panel.note, "p")
        yield
        if panel.define:
            _html(panel.define, "p").classes("define")


def _html(content: str, tag: str = "div") -> ui.html:
    """HTML of our own templates, in which every value is escaped already."""
    return ui.html(content, sanitize=False, tag=tag)


def _data_set(board: Board, asked: str | None) -> str:
    """The data set of an address: `default`, an id; without one that which plays now, or the default one."""
    if asked is None:
        return board.processes.reading.value.playing or ""
    return asked if asked in board.data_sets() else ""


def _style() -> str:
    return (
        f":root {{ color-scheme: light dark; {palette.css(dark=False)} }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root {{ {palette.css(dark=True)} }} }}\n"
        f"{STYLE.read_text()}\n{HEAT.read_text()}\n.contents {{ display: contents; }}\n"
    )
