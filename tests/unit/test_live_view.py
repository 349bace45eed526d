"""The live view of a stream: its panel at several widths, its lines in a pipe."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace

import pytest
from rich.console import Console

from infra.contracts.events import Alert
from infra.report.live import LiveState, LiveView
from infra.report.live_bars import bars
from tests.stream_report_cases import alert


def state(elapsed_s: float = 20.0, shards: int = 8, latest: Sequence[Alert] = ()) -> LiveState:
    """A stream in full flow."""
    return LiveState(
        phase="playing",
        elapsed_s=elapsed_s,
        left_s=60 - elapsed_s,
        rate_asked=5000,
        rate_in=4998,
        rate_scored=4990,
        sent=100_000,
        decided=99_900,
        archived=96_000,
        p50_ms=31.2,
        p99_ms=74.4,
        throttled=17,
        lag=[37 * number for number in range(shards)],
        archive_lag_s=6.2,
        alerts=123,
        latest=latest,
    )


def drawn(width: int, shown: LiveState) -> list[str]:
    """The lines of the panel on a terminal."""
    console = Console(width=width, record=True, file=io.StringIO(), force_terminal=True)
    view = LiveView(console)
    console.print(view.render(shown))
    return console.export_text().splitlines()


@pytest.mark.parametrize("width", [60, 80, 140])
@pytest.mark.parametrize("shards", [1, 8, 64])
def test_panel_fills_the_width_and_keeps_its_height(width: int, shards: int) -> None:
    """Whatever the width, the shards and the alerts: whole lines, and always as many."""
    many = [alert(n, card="C" * 200) for n in range(9)]
    for shown in (state(shards=shards), state(shards=shards, latest=many)):
        lines = drawn(width, shown)
        assert len(lines) == 14
        assert {len(line) for line in lines} == {width}


def test_panel_says_all_at_80_columns() -> None:
    """Rates, latency, throttles, lag, archive, time left, how to end it: nothing of them is cut off."""
    text = "\n".join(drawn(80, state()))
    for words in (
        "playing 20.0 s, 40.0 s left",
        "4,998/s of 5,000/s, 100,000 sent",
        "4,990/s, 99,900 decided",
        "p50 31 ms, p99 74 ms",
        "throttled 17",
        "96,000 in S3",
        "behind 6.2 s",
        "at most 259 over 8 shards",
        "alerts   123",
        "Ctrl-C ends it cleanly",
    ):
        assert words in text


def test_the_last_five_alerts_are_shown() -> None:
    """The newest is last; an escape sequence in a card's id does not reach the terminal."""
    latest = [alert(n, card=f"C{n}") for n in range(6)] + [alert(7, card="C7\x1b[2J\n")]
    lines = [line for line in drawn(140, state(latest=latest)) if " at T" in line]
    assert [line.split()[3] for line in lines] == ["C2", "C3", "C4", "C5", "C7?[2J?"]
    assert "terminal's fraud share over 7 days: 40%" in lines[-1]
    raw = io.StringIO()
    console = Console(width=80, file=raw, force_terminal=True)
    console.print(LiveView(console).render(state(latest=latest)))
    assert "\x1b[2J" not in raw.getvalue()


def test_nothing_known_yet_is_drawn() -> None:
    """Before the first record there is no rate, no latency, no shard, no end."""
    first = replace(state(), rate_asked=0, rate_in=0, rate_scored=0, lag=[], left_s=None)
    text = "\n".join(drawn(80, replace(first, p50_ms=None, p99_ms=None, archive_lag_s=None)))
    assert "p50 \u2013, p99 \u2013" in text
    assert "left" not in text


def test_a_pipe_gets_a_line_every_five_seconds_and_the_last_state() -> None:
    """Two updates a second for twelve seconds: three lines, and one more for the end."""
    out = io.StringIO()
    with LiveView(Console(file=out, width=80)) as view:
        for half in range(25):
            view.update(state(half / 2))
    lines = out.getvalue().splitlines()
    assert [line.split(" s:")[0] for line in lines] == [
        "playing 0.0",
        "playing 5.0",
        "playing 10.0",
        "playing 12.0",
    ]
    assert "123 alerts, 17 throttled, lag 259, archive 6.2 s behind, 55.0 s left" in lines[1]
    assert "\x1b" not in out.getvalue()


def test_a_terminal_keeps_the_last_panel_below_what_was_printed() -> None:
    """What is printed meanwhile is above the panel, which stays when the view ends."""
    out = io.StringIO()
    console = Console(file=out, width=80, force_terminal=True)
    with LiveView(console) as view:
        view.update(state(1.0))
        console.print("scorer-0 was started again")
        view.update(state(2.0))
    text = out.getvalue()
    assert text.index("started again") < text.rindex("playing 2.0 s")
    assert text.endswith("\x1b[?25h")  # the cursor is back


def test_no_color_takes_the_colours_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """With NO_COLOR set there is no colour in the panel, and all of its words are."""
    monkeypatch.setenv("NO_COLOR", "1")
    out = io.StringIO()
    console = Console(file=out, width=80, force_terminal=True, color_system="standard")
    console.print(LiveView(console).render(state(latest=[alert(1)])))
    assert not any(f"\x1b[{code}m" in out.getvalue() for code in ("32", "34", "36", "1;31"))
    assert "Ctrl-C ends it cleanly" in out.getvalue()


@pytest.mark.parametrize(
    ("values", "full", "width", "text"),
    [
        ([0, 4, 8, 20], 8, 10, "▁▅██"),
        ([1, 8, 2, 3, 5], 8, 3, "█▄▆"),
        ([0, 0], 0, 10, "▁▁"),
        ([], 8, 10, ""),
        ([1], 8, 0, ""),
    ],
)
def test_bars(values: list[float], full: float, width: int, text: str) -> None:
    """A character a value, the largest of neighbours when there is less room."""
    assert bars(values, full, width) == text
