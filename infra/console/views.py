"""What each page shows of the board: named fragments of HTML and charts, rendered once for all browsers."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from infra.console.board import Board
from infra.console.charts import line_chart
from infra.console.render import render
from infra.console.state import Light, StreamState
from infra.console.stream_rows import stream_rows
from infra.console.timeline import MOST_NODES, timeline
from infra.console.words import clock, millis, percent_of, rate
from infra.contracts.datasets import DataSet
from infra.report.formats import DASH, count, counted
from infra.report.seasonal import SEASONS

OFFSETS = (
    "Records a second are differences of Kafka's offsets over five seconds. In decisions and alerts, which "
    "are written in transactions, each commit takes an offset of its own: they count a few too many, and who "
    "has read all may stand one offset behind in each shard."
)
SHOWN_LANDED = 60


@dataclass(frozen=True)
class Look:
    """Which data set a page shows (empty: the default one), and which cluster, if one was asked for."""

    data_set: str = ""
    cluster: str = ""

    @property
    def query(self) -> str:
        """As the query of an address."""
        return f"?set={self.data_set}" if self.data_set else ""


@dataclass(frozen=True)
class Tile:
    """A figure with its name."""

    name: str
    value: str
    note: str = ""
    title: str = ""
    test: str = ""


Fragments = dict[str, str]
Charts = dict[str, dict[str, Any]]
View = Callable[[Board, Look, float], tuple[Fragments, Charts]]


def health(board: Board) -> str:
    """The health strip, and a line for each server that is missing."""
    servers, processes = board.servers.watch(), board.processes.watch()
    lights = (*servers.lights, *processes.lights)
    return render("health", lights=lights, banners=[_banner(board, x) for x in servers.lights if _missing(x)])


def _missing(light: Light) -> bool:
    return light.level == "down" or (light.level == "off" and light.name in ("S3", "Kafka"))


def _banner(board: Board, light: Light) -> str:
    at = {"S3": board.archives.reading.at, "Kafka": board.streams.reading.at}.get(light.name)
    seen = f" What it holds is shown as of {clock(at)} UTC." if at else ""
    detail = f": {light.detail}" if light.detail else ""
    return f"{light.name} is {light.words}{detail}.{seen} This page goes on by itself when it is back."


def sets(board: Board, look: Look, here: str) -> str:
    """The data sets to choose from, and the time."""
    playing = board.processes.reading.value.playing
    return render(
        "sets", sets=board.data_sets(), data_set=look.data_set, playing=playing, here=here, at=time.time()
    )


def streams(board: Board, look: Look, now: float) -> tuple[Fragments, Charts]:
    """Streams with their shards; their throughput."""
    found = board.streams.watch().sets.get(look.data_set, ())
    processes = board.processes.watch()
    rows = stream_rows(found, processes.put_bytes_per_s)
    named = {row.name: row for row in rows}
    put = named.get(DataSet("", look.data_set).stream("transactions"))
    tiles = [
        Tile("transactions", f"{rate(put.records_per_s)}/s" if put else DASH, _of_limit(put), test="rate"),
        Tile("put so far", count(put.end) if put else DASH, "transactions, by offsets", test="put"),
        Tile(
            "behind", count(max(put.lag.values(), default=0)) if put else DASH, "the slowest reader of them"
        ),
        Tile("throttled", count(processes.throttled), "puts that a limit held back"),
    ]
    lines = {row.name: _rates(found, row.name) for row in rows if row.name != "sales"}
    shown = dict(list(lines.items())[:4])
    colours = ("series-1", "series-3", "series-2", "series-5")
    return (
        {
            "tiles": render("tiles", tiles=tiles),
            "streams": render("streams", reading=board.streams.reading, rows=rows),
            "shards": render("shards", rows=rows),
        },
        {"throughput": line_chart(shown, now, "records/s", colours)},
    )


def _of_limit(row: Any) -> str:
    return f"the fullest shard at {percent_of(row.share)} of its limit" if row else ""


def _rates(found: tuple[StreamState, ...], name: str) -> Any:
    return next((stream.rates for stream in found if stream.name == name), ())


def fraud(board: Board, look: Look, now: float) -> tuple[Fragments, Charts]:
    """Decisions, alerts, how right they were, and by which model."""
    processes, models = board.processes.watch(), board.models.watch()
    flags = board.streams.watch().flags.get(look.data_set)
    here = processes.playing == look.data_set
    tiles = [
        Tile("decisions", f"{rate(processes.decisions_per_s)}/s" if here else DASH, _whose(board, look)),
        Tile("latency p50", millis(processes.p50_s) if here else DASH, "put to score, last minute"),
        Tile("latency p99", millis(processes.p99_s) if here else DASH, "put to score, last minute"),
        Tile("alerts", f"{rate(flags.per_s)}/s" if flags else DASH, _actions(board, look), test="alerts"),
        *_right(board, look),
    ]
    mine = models.models.get(look.data_set, ())
    names = ("roc_auc", "average_precision", "card_precision_100")
    nothing: tuple[tuple[float, float], ...] = ()
    return (
        {
            "tiles": render("tiles", tiles=tiles),
            "alerts": render(
                "alerts", reading=board.streams.reading, flags=flags, alerts=flags.newest if flags else ()
            ),
            "model": render(
                "model",
                reading=board.models.reading,
                models=mine,
                in_use=flags.models if flags else (),
                scoring=here,
                names=[name for name in names if any(name in model.metrics for model in mine)],
            ),
        },
        {
            "decisions": line_chart(
                {"decisions": processes.decided if here else nothing}, now, "per second", ("series-1",)
            ),
            "latency": line_chart(
                {
                    "p50": _in_ms(processes.p50) if here else nothing,
                    "p99": _in_ms(processes.p99) if here else nothing,
                },
                now,
                "ms",
                ("series-3", "series-2"),
            ),
        },
    )


def _whose(board: Board, look: Look) -> str:
    playing = board.processes.reading.value.playing
    if playing is None:
        return "no scorer runs"
    if playing != look.data_set:
        return f"the scorer works on data set {playing or 'default'}"
    paused = board.processes.reading.value.paused_shards
    return f"{counted(paused, 'shard')} wait for a terminals' table" if paused else "committed"


def _actions(board: Board, look: Look) -> str:
    flags = board.streams.reading.value.flags.get(look.data_set)
    if flags is None:
        return ""
    if flags.reading:
        return "the newest are being read back"
    return (
        f"{count(flags.actions.get('block', 0))} block, {count(flags.actions.get('review', 0))} review read"
    )


def _right(board: Board, look: Look) -> list[Tile]:
    flags = board.streams.reading.value.flags.get(look.data_set)
    verdict = flags.verdict if flags else None
    if verdict is None:
        why = "no transaction could be labelled yet"
        return [Tile("precision", DASH, why, test="precision"), Tile("recall", DASH, why, test="recall")]
    last = verdict.until - timedelta(seconds=1)
    days = f"{verdict.since:%Y-%m-%d} to {last:%Y-%m-%d}"
    return [
        Tile(
            "precision",
            percent_of(verdict.precision),
            f"{count(verdict.hits)} frauds of {counted(verdict.alerts, 'alert')}, {days}",
            test="precision",
        ),
        Tile(
            "recall",
            percent_of(verdict.recall),
            f"{count(verdict.hits)} of {counted(verdict.frauds, 'labelled fraud')} had an alert",
            test="recall",
        ),
    ]


def _in_ms(points: Any) -> list[tuple[float, float]]:
    return [(at, value * 1000) for at, value in points]


def archive(board: Board, look: Look, now: float) -> tuple[Fragments, Charts]:
    """Delivery streams, and the objects that they wrote last."""
    processes, known = board.processes.watch(), board.streams.watch().sets.get(look.data_set, ())
    archived = board.archives.watch().sets.get(look.data_set, ())
    lag = {stream.name: stream.lag for stream in known}
    rows = [
        {
            "name": each.delivery,
            "stream": each.stream,
            "behind": _behind(lag, each.stream, each.delivery),
            "open": each.open_intents,
            "cuts": each.cuts,
            "now": processes.deliveries.get(each.delivery),
        }
        for each in archived
    ]
    landed = [item for each in archived for item in each.newest]
    landed.sort(key=lambda item: (item.at is None, item.at.timestamp() if item.at else now), reverse=True)
    return (
        {
            "deliveries": render("deliveries", reading=board.archives.reading, rows=rows),
            "objects": render("objects", landed=landed[:SHOWN_LANDED]),
        },
        {},
    )


def _behind(lag: Any, stream: str, delivery: str) -> int | None:
    found = lag.get(stream, {}).get(f"delivery-{delivery}")
    return None if found is None else sum(found.values())


def clusters(board: Board, look: Look, now: float) -> tuple[Fragments, Charts]:
    """All clusters, and one of them in full: the one that was asked for, or else the newest."""
    states = board.clusters.watch()
    if look.cluster:
        chosen = next((state for state in states if state.cluster.id == look.cluster), None)
    else:
        chosen = states[0] if states else None
    return (
        {
            "clusters": render(
                "clusters",
                reading=board.clusters.reading,
                states=states,
                chosen=chosen,
                now=now,
                and_set=f"&set={look.data_set}" if look.data_set else "",
            ),
            "cluster": render(
                "cluster",
                state=chosen,
                line=timeline(chosen.cluster, now) if chosen else None,
                asked=look.cluster,
            ),
            "steps": render("steps", state=chosen, now=now),
            "cost": render("cost", state=chosen, most_nodes=MOST_NODES),
        },
        {},
    )


def results(board: Board, _look: Look, _now: float) -> tuple[Fragments, Charts]:
    """The sales rollup as heat maps, its strongest patterns, the reports."""
    found = board.results.watch()
    return (
        {
            "reports": render("reports", reports=found.reports),
            "patterns": render("patterns", rollup=found.rollup),
            "rollup": render(
                "rollup",
                reading=board.results.reading,
                results=found,
                rollup=found.rollup,
                seasons=SEASONS,
            ),
        },
        {},
    )
