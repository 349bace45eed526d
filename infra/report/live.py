"""The live view of a stream: a panel on a terminal, plain lines every few seconds elsewhere."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.text import Text

from infra.contracts.events import Alert
from infra.report.formats import DASH, count, counted, duration, rate
from infra.report.live_bars import ASCII, BLOCKS, bars
from infra.report.stream_words import millis, plain_amount, printable
from infra.streams.limits import RECORDS_PER_S

PLAIN_EVERY_S = 5.0
SHOWN_ALERTS = 5
KEPT_RATES = 240
HEADROOM = 1.2  # of a sparkline over its highest value, so that two of them don't run into each other
LABEL = 9  # columns of a line's name
FIGURES = 40  # columns of its figures, before a sparkline
EDGES = 4  # the panel's borders and their spaces
STYLES = {"block": "bold red", "review": "yellow"}
HINT = "Ctrl-C ends it cleanly"


@dataclass(frozen=True)
class LiveState:
    """What is known now. Rates are records a second, times since the play began; None: nothing yet.

    `lag` is the records that the scorers are behind, of each shard that one has; `latest` the newest
    alerts, newest last; `left_s` None when the end is not known (the drain); `archived` counts records
    that are in S3.
    """

    phase: str
    elapsed_s: float
    left_s: float | None
    rate_asked: float
    rate_in: float
    rate_scored: float
    sent: int
    decided: int
    archived: int
    p50_ms: float | None
    p99_ms: float | None
    throttled: int
    lag: Sequence[int]
    archive_lag_s: float | None
    alerts: int
    latest: Sequence[Alert]


class LiveView:
    """Shows one state after the other while it is entered; the last one stays on the screen.

    On a terminal what else is printed on `console` appears above the panel.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._panel = console.is_terminal and not console.is_dumb_terminal
        self._live = Live(console=console, auto_refresh=False)
        self._rates: deque[float] = deque(maxlen=KEPT_RATES)
        self._scored: deque[float] = deque(maxlen=KEPT_RATES)
        self._next_line_s = 0.0
        self._last: LiveState | None = None
        self._said: LiveState | None = None

    def __enter__(self) -> LiveView:
        if self._panel:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._panel:
            self._live.stop()
        elif self._last is not None and self._last is not self._said:
            self._say(self._last)

    def update(self, state: LiveState) -> None:
        """Show a state. Elsewhere than on a terminal a line every PLAIN_EVERY_S of `elapsed_s`, and
        the last state at the end."""
        self._rates.append(state.rate_in)
        self._scored.append(state.rate_scored)
        self._last = state
        if self._panel:
            self._live.update(self.render(state), refresh=True)
        elif state.elapsed_s >= self._next_line_s:
            self._next_line_s = (state.elapsed_s // PLAIN_EVERY_S + 1) * PLAIN_EVERY_S
            self._say(state)

    def render(self, state: LiveState) -> Panel:
        """The panel, as wide as the console."""
        width = self._console.width - EDGES
        lines = [*self._lines(state, width), Text(), *_alerts(state, width)]
        for line in lines:
            line.no_wrap, line.overflow = True, "ellipsis"
        left = "" if state.left_s is None else f", {duration(max(0.0, state.left_s))} left"
        return Panel(
            Group(*lines),
            title=f"[bold]Millstream[/] {state.phase} {duration(state.elapsed_s)}{left}",
            title_align="left",
            subtitle=HINT,
            subtitle_align="right",
            border_style="cyan",
            box=box.ROUNDED,
        )

    def _lines(self, state: LiveState, width: int) -> Iterator[Text]:
        full = HEADROOM * max((state.rate_asked, *self._rates, *self._scored))
        inward = f"{rate(state.rate_in)} of {rate(state.rate_asked)}, {count(state.sent)} sent"
        yield _line("in", inward).append(self._spark(self._rates, full, width), "green")
        scored = f"{count(state.rate_scored)}/s, {count(state.decided)} decided"
        yield _line("scored", scored).append(self._spark(self._scored, full, width), "blue")
        line = _line("latency", f"p50 {millis(state.p50_ms)}, p99 {millis(state.p99_ms)}")
        yield line.append("throttled ", "dim").append(count(state.throttled), _warn(state.throttled, 1))
        line = _line("archive", f"{count(state.archived)} in S3")
        yield line.append("behind ", "dim").append(duration(state.archive_lag_s))
        yield self._lag(state, width)

    def _lag(self, state: LiveState, width: int) -> Text:
        """A bar for each shard; a full one is a second's worth of a shard's limit, or the most."""
        if not state.lag:
            return _line("lag", "not known: no scorer runs")
        most = max(state.lag)
        line = _line("lag", f"at most {count(most)} over {counted(len(state.lag), 'shard')}")
        return line.append(
            bars(state.lag, max(RECORDS_PER_S, most), width - len(line), self._blocks()),
            _warn(most, RECORDS_PER_S) or "cyan",
        )

    def _spark(self, values: Sequence[float], full: float, width: int) -> str:
        room = max(0, width - LABEL - FIGURES)
        return bars(list(values)[-room:] if room else [], full, room, self._blocks())

    def _blocks(self) -> str:
        return ASCII if self._console.options.ascii_only else BLOCKS

    def _say(self, state: LiveState) -> None:
        self._said = state
        self._console.print(plain_line(state), markup=False, highlight=False, soft_wrap=True)


def plain_line(state: LiveState) -> str:
    """A state as one line of text."""
    parts = [
        f"{duration(state.elapsed_s)}: {count(state.rate_in)}/s in",
        f"{count(state.rate_scored)}/s scored",
        f"p50 {millis(state.p50_ms)}",
        f"p99 {millis(state.p99_ms)}",
        counted(state.alerts, "alert"),
        f"{count(state.throttled)} throttled",
        f"lag {count(max(state.lag)) if state.lag else DASH}",
        f"archive {duration(state.archive_lag_s)} behind",
    ]
    if state.left_s is not None:
        parts.append(f"{duration(max(0.0, state.left_s))} left")
    return f"{state.phase} {', '.join(parts)}"


def _line(name: str, figures: str) -> Text:
    return Text.assemble((f"{name:<{LABEL}}", "dim"), f"{figures:<{FIGURES}}")


def _warn(value: float, limit: float) -> str:
    return "bold yellow" if value >= limit else ""


def _alerts(state: LiveState, width: int) -> Iterator[Text]:
    """The alerts' number and SHOWN_ALERTS lines, empty at first, so that the panel keeps its height."""
    yield _line("alerts", count(state.alerts))
    latest = state.latest[-SHOWN_ALERTS:]
    for alert in latest:
        yield _alert(alert, width)
    for _ in range(SHOWN_ALERTS - len(latest)):
        yield Text()


def _alert(alert: Alert, width: int) -> Text:
    where = f"{printable(alert.card_id)} at {printable(alert.terminal_id)}"
    line = Text.assemble(
        (f"{alert.action:<{LABEL}}", STYLES.get(alert.action, "")),
        f"{alert.score:.3f}  {where}  {plain_amount(alert.amount_cents):>9}  ",
    )
    line.append(printable("; ".join(alert.reasons)), "dim")
    line.truncate(width, overflow="ellipsis")
    return line
