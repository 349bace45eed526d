"""The stream demo's closing summary for the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from infra.report import stream_words as words
from infra.report.formats import count, counted, duration, memory, percent, rate
from infra.report.stream_figures import StreamFigures


def summary(figures: StreamFigures) -> RenderableType:
    """The figures as a table of two columns, the proof first; users' names are printed as they are."""
    table = Table.grid(padding=(0, 2), expand=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in (*_proof(figures), *_speed(figures), *_found(figures), *_run(figures)):
        table.add_row(name, value if isinstance(value, Text) else Text(words.printable(value)))
    return table


def _proof(figures: StreamFigures) -> Iterator[tuple[str, str | Text]]:
    style = "bold green" if words.proof_holds(figures) else "bold red"
    verdict = (words.proof_verdict(figures), style if figures["sent"] else "bold")
    yield "proof", Text.assemble(f"{words.proof_counts(figures)}: ", verdict)
    for example in figures["examples"]:
        yield "", Text(words.printable(example), style="red")


def _speed(figures: StreamFigures) -> Iterator[tuple[str, str | Text]]:
    played = f"{rate(figures['rate_per_s'])} for {duration(figures['seconds']['play'])}"
    held = f"{counted(figures['throttled'], 'put')} throttled"
    refused = f", {counted(figures['refused'], 'record')} refused" if figures["refused"] else ""
    yield "rate", f"{played} ({rate(figures['rate_asked'])} asked), {held}{refused}"
    use = f", the fullest at {percent(words.fullest(figures))} of its limit" if figures["shards"] else ""
    short = (figures["shards_needed"] or 0) > len(figures["shards"])
    yield "shards", Text(f"{words.shard_line(figures)}{use}", style="bold yellow" if short else "")
    latency = figures["latency_ms"]
    half, most = words.millis(latency["p50"]), words.millis(latency["p99"])
    rare = f"99.9 % {words.millis(latency['p999'])}, at most {words.millis(latency['max'])}"
    yield "decided", f"half within {half}, 99 % {most}, {rare}, from put to a read-committed reader"
    lag = figures["archive_lag_s"]
    yield "archive", "nothing archived" if lag is None else f"never more than {duration(lag)} behind"


def _found(figures: StreamFigures) -> Iterator[tuple[str, str | Text]]:
    actions, delay = figures["actions"], figures["time_to_alert_ms"]
    times = f"half within {words.millis(delay['p50'])}, 99 % {words.millis(delay['p99'])}"
    each = f"{count(actions['block'])} block, {count(actions['review'])} review"
    yield "alerts", f"{count(figures['alerts'])} ({each})" + (f", {times}" if figures["alerts"] else "")
    right = f"precision {words.share(figures['precision'])}, recall {words.share(figures['recall'])}, "
    yield "right", (right if figures["labels_due"] else "") + words.labels_line(figures)
    yield "model", words.model_line(figures["model"])


def _run(figures: StreamFigures) -> Iterator[tuple[str, str | Text]]:
    yield "time", f"{duration(figures['seconds']['total'])}{', ended early' * (figures['ended'] == 'early')}"
    used = sorted(figures["cpu_seconds"].items(), key=lambda item: -item[1])
    yield "cpu", ", ".join(f"{name} {duration(seconds)}" for name, seconds in used)
    if figures["restarts"]:
        times = counted(figures["restarts"], "time")
        yield "restarts", Text(f"a process died and was started again {times}", style="yellow")
    yield "peak memory", memory(figures["peak_memory_mb"])
    if figures["all_played"]:
        yield "next", Text(words.ALL_PLAYED, style="yellow")
    yield from figures["places"].items()
