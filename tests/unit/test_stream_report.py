"""The stream demo's report: its proof in words, its edges, escaping, self-containment, the summary."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from infra.report.formats import rate
from infra.report.stream import write_stream_report
from infra.report.stream_figures import StreamFigures
from infra.report.stream_plots import MAX_ALERTS, alerts_by_event_time, alerts_by_wall_time, lag_plot
from infra.report.stream_series import (
    AlertSeen,
    StreamSeries,
    latency_by_second,
    latency_figures,
    latency_histogram,
    thinned,
)
from infra.report.stream_terminal import summary
from infra.report.stream_words import millis
from tests.stream_report_cases import EVIL, alert, figures, nothing_measured, series
from tests.unit.test_report import Page


def page_of(home: Path, given: StreamFigures, measured: StreamSeries) -> Page:
    """The page, written and read back."""
    return Page(write_stream_report(home, given, measured).read_text())


def said(page: Page) -> str:
    """All words of a page, spaces made one."""
    return " ".join(" ".join(page.words).split())


def classed(page: Page, name: str) -> int:
    """How many tags are of a class."""
    return sum(name in (attrs.get("class") or "").split() for _, attrs in page.tags)


def ids(page: Page) -> set[str | None]:
    """The ids of all tags."""
    return {attrs.get("id") for _, attrs in page.tags}


def printed(given: StreamFigures) -> str:
    """The terminal's summary."""
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(summary(given))
    return console.export_text()


def test_figures_come_back_from_report_json(tmp_path: Path) -> None:
    """report.json is the figures in their order, with the report's path and the replay in words added."""
    given = figures()
    path = write_stream_report(tmp_path, given, series())
    read = json.loads((path.parent / "report.json").read_text())
    assert path == tmp_path / "reports/stream-demo/run-1/report.html"
    assert list(read) == [*given, "replay"]
    assert {key: value for key, value in read.items() if key != "replay"} == {**given, "report": str(path)}
    assert "31.2 days of transactions were played in 1 min 0 s, 44,892 times as fast" in read["replay"]


def test_a_good_run_is_said_first(tmp_path: Path) -> None:
    """The page's heading is the proof in words, in green, and nothing on the page is red."""
    page = page_of(tmp_path, figures(), series())
    words = said(page)
    assert words.index("300,000 sent, 300,000 decided, 300,000 archived: none lost, none doubled") < 200
    assert classed(page, "good") == 2
    assert classed(page, "bad") + classed(page, "banner") == 0


@pytest.mark.parametrize(
    ("wrong", "verdict"),
    [
        ({"missing": 12}, "12 lost"),
        ({"duplicates": 3}, "3 doubled"),
        ({"strangers": 1}, "1 never sent"),
        ({"missing": 1200, "duplicates": 3}, "1,200 lost, 3 doubled"),
    ],
)
def test_what_is_wrong_is_red(tmp_path: Path, wrong: dict[str, int], verdict: str) -> None:
    """A loss, a double and a stranger each turn the proof red, with the ids, also on the terminal."""
    given = figures()
    given.update(wrong)  # type: ignore[typeddict-item]  # the cases name keys of StreamFigures
    given["examples"] = ["not decided: 17, 18"]
    page = page_of(tmp_path, given, series())
    assert f"archived: {verdict}" in said(page)
    assert "not decided: 17, 18" in said(page)
    assert "none lost" not in said(page)
    assert classed(page, "bad") == 2
    assert classed(page, "good") == 0
    assert f"archived: {verdict}" in printed(given)


def test_rejected_records_are_part_of_the_proof(tmp_path: Path) -> None:
    """Broken records are named beside what was decided, and lose nothing."""
    given = figures()
    given.update({"sent": 301_000, "rejected": 1000})
    words = said(page_of(tmp_path, given, series()))
    assert "300,000 archived, 1,000 rejected as broken: none lost, none doubled" in words


def test_no_alert_and_no_label_are_said(tmp_path: Path) -> None:
    """Without alerts there is no empty table and no plot of them; without labels no made-up precision."""
    given = figures(alerts=0)
    given.update({"precision": None, "recall": None, "labels_due": 0, "frauds_due": 0})
    page = page_of(tmp_path, given, series(alerts=0))
    words = said(page)
    assert "No alert: no transaction scored as high" in words
    assert not {"alerts-wall", "alerts-event"} & ids(page)
    assert {"latency", "distribution", "throughput", "lag"} <= ids(page)
    assert "of the alerts were frauds \u2013 precision" in words
    assert "No labels were due yet" in words
    assert "no labels were due yet" in printed(given)


def test_a_run_that_sent_nothing_has_a_report(tmp_path: Path) -> None:
    """Ctrl-C before the first record: a page without plots that claims no proof."""
    page = page_of(tmp_path, nothing_measured(), series(0, 0, 0))
    words = said(page)
    assert "0 archived: nothing was sent" in words
    assert "Ended early, by Ctrl-C" in words
    assert "PROVED" not in words
    assert classed(page, "plot") == 0
    assert "nothing was sent" in printed(nothing_measured())


@pytest.mark.parametrize("shards", [1, 64])
def test_every_shard_has_its_row(tmp_path: Path, shards: int) -> None:
    """One shard or 64: a row of the table and of the lag's plot for each."""
    page = page_of(tmp_path, figures(shards=shards), series(shards=shards))
    assert classed(page, "use") == 2 * shards
    plot = lag_plot(series(shards=shards), range(shards))
    assert len(plot.data[0].z) == len(plot.data[0].y) == shards
    assert plot.layout.height <= 620


def test_too_few_shards_are_named_with_what_is_needed(tmp_path: Path) -> None:
    """A stream that can't keep up says how many shards these keys need, on the page and the terminal."""
    given = figures(shards=4)
    given["throttled"] = 41_202
    line = "4 shards can't keep up: these keys at 5,000/s need 6 (run it with SHARDS=6)"
    words = said(page_of(tmp_path, given, series(shards=4)))
    assert line in words
    assert "41,202 puts held back" in words
    assert classed(page_of(tmp_path, given, series(shards=4)), "full") == 4
    assert line in printed(given)
    assert "41,202 puts throttled" in printed(given)


def test_users_text_is_never_markup(tmp_path: Path) -> None:
    """A card id, a file's name or a process that looks like a script stays text, in plots too."""
    given = figures()
    given.update({"input": EVIL, "cpu_seconds": {EVIL: 1.0}, "examples": [EVIL], "missing": 1})
    measured = replace(series(), alerts=[AlertSeen(1.0, alert(1, card=EVIL))])
    text = write_stream_report(tmp_path, given, measured).read_text()
    assert "<script>alert" not in text
    assert any(EVIL in words for words in Page(text).words)
    dot = alerts_by_wall_time(measured.alerts, None).data[1]
    assert "&lt;script&gt;" in dot.customdata[0]


def test_page_asks_for_nothing_from_elsewhere(tmp_path: Path) -> None:
    """No tag and no style names another file, and every plot of the page has its data in it."""
    page = page_of(tmp_path, figures(), series())
    linking = ("src", "href", "srcset", "data", "action", "poster", "background")
    assert [(tag, attrs) for tag, attrs in page.tags if any(name in attrs for name in linking)] == []
    styles = "".join([*page.styles, *(attrs.get("style") or "" for _, attrs in page.tags)])
    assert "url(" not in styles
    plots = {attrs["id"] for tag, attrs in page.tags if attrs.get("class") == "plot"}
    assert {attrs.get("data-plot") for _, attrs in page.tags if attrs.get("data-plot")} == plots
    assert len(plots) == 6


def test_latencies_are_counted_where_they_lie() -> None:
    """Each latency is in one bin, whose edges hold it; the quantiles are those of the numbers."""
    values = np.array([0.2, 10.5, 11.0, 99.0, 2_000.0])
    histogram = latency_histogram(values)
    assert histogram.counts.sum() == len(values)
    assert (histogram.counts[0], histogram.counts[-1]) == (1, 1)
    assert histogram.edges_ms[-2] <= 2_000 < histogram.edges_ms[-1]
    assert latency_figures(np.arange(1, 1001)) == {"p50": 500.5, "p99": 990.0, "p999": 999.0, "max": 1000.0}
    assert latency_figures([]) == {"p50": None, "p99": None, "p999": None, "max": None}
    assert latency_histogram([]).counts.size == 0


def test_latencies_by_second_take_any_order() -> None:
    """A second's quantiles are those of its own decisions; a second without any is NaN."""
    p50, p99 = latency_by_second([7.0, 1.0, 9.0, 3.0], [2, 0, 2, 0], 4)
    assert p50.tolist()[0::2] == [2.0, 8.0]
    assert np.isnan(p50[[1, 3]]).all()
    assert p99[2] == pytest.approx(8.98)


def test_a_long_run_is_thinned_without_hiding_its_worst() -> None:
    """A thousand seconds in a hundred points: no record less, and the worst second is still there."""
    long = series(1003)
    long.p50_ms[10], long.p99_ms[10] = np.nan, np.nan
    thin = thinned(long, 100)
    assert len(thin.t_s) == len(thin.p50_ms) == len(thin.lag) == 92
    assert np.nanmax(thin.p99_ms) == np.nanmax(long.p99_ms)
    assert thin.lag.max() == long.lag.max()
    assert thin.put[:-1].sum() * 11 + thin.put[-1] * 2 == pytest.approx(long.put.sum())
    assert thin.t_s[-1] == 1003
    assert not np.isnan(thin.p50_ms).any()
    assert thinned(long, 2000) is long


def test_many_alerts_are_thinned_evenly() -> None:
    """Dots are as low and as high as all of them are; the days' bars count all."""
    alerts = [AlertSeen(1.0, alert(n, score=n / 4000)) for n in range(2000)]
    dots = alerts_by_wall_time(alerts, None).data[1]
    assert len(dots.y) == MAX_ALERTS
    assert min(dots.y) == 0
    assert float(np.mean(dots.y)) == pytest.approx(0.25, abs=0.001)
    assert sum(sum(bars.y) for bars in alerts_by_event_time(alerts).data) == 2000


def test_summary_says_what_matters() -> None:
    """Proof, rate, shards, latency, alerts, precision, model, processes and places are on the terminal."""
    text = printed(figures())
    for words in (
        "300,000 sent, 300,000 decided, 300,000 archived: none lost, none doubled",
        "4,998/s for 1 min 0 s (5,000/s asked), 0 puts throttled",
        "8 shards; these keys at 5,000/s need 6",
        "half within 31 ms, 99 % 74 ms, 99.9 % 141 ms, at most 213 ms",
        "600 (200 block, 400 review), half within 48 ms, 99 % 132 ms",
        "precision 71.3 %, recall 58.4 %",
        "20180808T000000Z-1f2e3d4c, in force from 2018-08-08: review from 0.312, block from 0.845",
        "scorer-0 33.1 s, kafka 24.4 s",
        "s3://lake/transactions/live/",
    ):
        assert words in text


def test_a_data_set_that_is_played_out_is_said(tmp_path: Path) -> None:
    """With what plays it again; the next run would send nothing."""
    played: StreamFigures = {**figures(), "all_played": True}
    assert "FRESH=1 plays them again" in printed(played)
    assert "FRESH=1 plays them again" in said(page_of(tmp_path, played, series()))
    assert "FRESH=1" not in printed(figures())


@pytest.mark.parametrize(
    ("per_second", "text"), [(5000, "5,000/s"), (10, "10/s"), (2.5, "2.5/s"), (0.5, "0.5/s"), (0, "0/s")]
)
def test_rates_are_written_for_people(per_second: float, text: str) -> None:
    """Slow ones with a tenth."""
    assert rate(per_second) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3.42, "3.4 ms"),
        (9.96, "10 ms"),
        (999.4, "999 ms"),
        (999.6, "1.00 s"),
        (75_000, "1 min 15 s"),
        (None, "\u2013"),
    ],
)
def test_milliseconds_are_written_for_people(value: float | None, text: str) -> None:
    """From tenths of a millisecond to minutes."""
    assert millis(value) == text
