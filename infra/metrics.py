"""Every metric: name, kind, labels and meaning; served as /metrics with an honest /healthz.

`python -m infra.metrics` prints them as a table.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

import urllib3
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.parser import text_string_to_metric_families

from infra.contracts.errors import UserError
from infra.settings import Settings

LOOPBACK = "127.0.0.1"
ASK_S = 0.5
Health = Callable[[], str | None]
"""What is wrong with the process now, in one line; None when all is well."""


@dataclass(frozen=True)
class Metric:
    """One metric. Histograms count into `buckets` (upper bounds, in the metric's unit)."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    meaning: str
    buckets: tuple[float, ...] = ()


LATENCY_S = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2, 5, 15, 60)
# fmt: off
METRICS = {metric.name: metric for metric in (
    Metric("records_put_total", "counter", ("stream", "shard"), "records that were acknowledged"),
    Metric("bytes_put_total", "counter", ("stream", "shard"), "their keys and values, in bytes"),
    Metric("throttled_total", "counter", ("stream", "shard"), "puts that a shard's limit held back"),
    Metric("refused_total", "counter", ("stream",), "records that no shard takes: too large, or no key"),
    Metric("records_consumed_total", "counter", ("stream", "shard"), "records that were read"),
    Metric("consumer_lag", "gauge", ("stream", "shard"), "records behind the shard's end"),
    Metric("dead_letters_total", "counter", ("stream",), "bad records that were set aside"),
    Metric("decisions_total", "counter", ("action",), "decisions that were committed"),
    Metric("alerts_total", "counter", ("action",), "alerts that were committed"),
    Metric("decision_latency_seconds", "histogram", (), "from a transaction's put to its score", LATENCY_S),
    Metric("score_batch_seconds", "histogram", (), "one batch: features and model", LATENCY_S),
    Metric("transactions_aborted_total", "counter", (), "Kafka transactions of the scorer that were aborted"),
    Metric("shards_paused", "gauge", (), "shards that wait for a terminals' table"),
    Metric("replayed_records_total", "counter", (), "records read again to rebuild card windows"),
    Metric("snapshots_total", "counter", (), "snapshots of card windows that were written"),
    Metric("delivered_objects_total", "counter", ("delivery",), "objects written to S3"),
    Metric("delivered_records_total", "counter", ("delivery",), "records in them"),
    Metric("delivered_bytes_total", "counter", ("delivery",), "their size in bytes"),
    Metric("archive_lag_seconds", "gauge", ("delivery",), "age of the oldest record that is not in S3 yet"),
    Metric("open_intents", "gauge", ("delivery",), "cuts that are declared and not committed yet"),
    Metric("active_partitions", "gauge", ("delivery",), "partitions that the next cut would write"),
    Metric("copied_objects_total", "counter", ("delivery",), "delivered objects copied into the warehouse"),
    Metric("copied_rows_total", "counter", ("delivery",), "rows in them"),
    Metric("copy_lag_objects", "gauge", ("delivery",), "cuts that are in S3 and not in the warehouse yet"),
    Metric("alerts_sent_total", "counter", ("sink",), "alerts that a sink took"),
    Metric("alert_delay_seconds", "histogram", ("sink",), "from a transaction's put to its alert", LATENCY_S),
    Metric("webhook_retries_total", "counter", (), "posts that were tried again"),
)}
# fmt: on
_KINDS = {"counter": Counter, "gauge": Gauge, "histogram": Histogram}


class Metrics:
    """The metrics of one process, named as in METRICS; a name that is not there is a KeyError."""

    def __init__(self, process: str) -> None:
        """`process` is its role, such as "scorer-0"; no two of a home that run at once have the same."""
        self.process = process
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)  # process_cpu_seconds_total and its like
        self._collectors: dict[str, Any] = {}
        self._children: dict[tuple[str, tuple[str, ...]], Any] = {}

    def count(self, name: str, n: float = 1, **labels: object) -> None:
        """Add to a counter."""
        self._child(name, labels).inc(n)

    def set(self, name: str, value: float, **labels: object) -> None:
        """Set a gauge."""
        self._child(name, labels).set(value)

    def observe(self, name: str, value: float, **labels: object) -> None:
        """Count a value into a histogram, in the metric's unit."""
        self._child(name, labels).observe(value)

    def render(self) -> bytes:
        """All of them in Prometheus' text format."""
        return generate_latest(self._registry)

    @contextmanager
    def serve(self, settings: Settings, health: Health) -> Iterator[str]:
        """Serve /metrics and /healthz where the settings say for the block; yields the address.

        /healthz is 200 `ok`, or 503 with what `health` says. The address is noted in a file of
        `noted(settings.home)`'s folder, which is removed at the end. Raises UserError for a taken port.
        """
        try:
            server = ThreadingHTTPServer((settings.listen, settings.metrics_port), _handler(self, health))
        except OSError as error:
            where, why = f"{settings.listen}:{settings.metrics_port}", error.strerror
            advice = "set MILLSTREAM_METRICS_PORT to another, or 0"
            raise UserError(f"metrics can't be served on {where}: {why}; {advice}") from error
        server.daemon_threads = True
        host = LOOPBACK if settings.listen == LOOPBACK else socket.gethostname()
        address = f"http://{host}:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
        thread.start()
        note = _note(settings.home, self.process, address)
        try:
            yield address
        finally:
            note.unlink(missing_ok=True)
            server.shutdown()
            server.server_close()
            thread.join()

    def forget(self, name: str, **labels: object) -> None:
        """Have a labelled metric's value no longer: what it was of is not this process's any more."""
        if self._children.pop((name, tuple(map(str, labels.values()))), None) is not None:
            self._collectors[name].remove(*labels.values())

    def _child(self, name: str, labels: Mapping[str, object]) -> Any:
        # A cache of our own: the collector's `labels()` checks its arguments anew each time.
        key = name, tuple(map(str, labels.values()))
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = self._new_child(name, labels)
        return child

    def _new_child(self, name: str, labels: Mapping[str, object]) -> Any:
        metric = METRICS[name]
        collector = self._collectors.get(name)
        if collector is None:
            options: dict[str, Any] = {"buckets": metric.buckets} if metric.buckets else {}
            collector = self._collectors[name] = _KINDS[metric.kind](
                f"millstream_{name}", metric.meaning, metric.labels, registry=self._registry, **options
            )
        return collector.labels(**labels) if metric.labels else collector


Value = tuple[Mapping[str, str], float]
"""A metric's value with its labels, of which `process` is the name of whoever measured it."""


class Samples:
    """What processes measured, at one moment."""

    def __init__(self, values: Mapping[str, list[Value]]) -> None:
        self._values = values

    def labelled(self, name: str, **labels: str) -> list[Value]:
        """The values of a metric with these labels, each with all its labels."""
        found = self._values.get(f"millstream_{name}", ())
        return [item for item in found if all(item[0].get(label) == text for label, text in labels.items())]

    def total(self, name: str, **labels: str) -> float:
        """Their sum."""
        return sum(value for _, value in self.labelled(name, **labels))

    def most(self, name: str, **labels: str) -> float:
        """The largest, or 0."""
        return max((value for _, value in self.labelled(name, **labels)), default=0.0)


@dataclass
class _Count:
    grown: float = 0.0
    last: float = 0.0


class Totals:
    """Counters of all processes as totals that never fall.

    A process that began anew counts on from what it had; one that did not answer stays where it was.
    """

    def __init__(self) -> None:
        self._counts: dict[Hashable, dict[str, _Count]] = {}

    def total(self, key: Hashable, values: Iterable[Value]) -> float:
        """The total that is kept by `key`, now that processes have these values of it."""
        now: dict[str, float] = {}
        for labels, value in values:
            now[labels["process"]] = now.get(labels["process"], 0.0) + value
        counts = self._counts.setdefault(key, {})
        for process, value in now.items():
            count = counts.setdefault(process, _Count())
            count.grown += value - count.last if value >= count.last else value
            count.last = value
        return sum(count.grown for count in counts.values())


def read_all(home: Path) -> Samples:
    """Ask every process of a home that serves metrics; one that does not answer at once is left out."""
    values: dict[str, list[Value]] = {}
    for process, address in noted(home).items():
        for name, labels, value in _read(address):
            values.setdefault(name, []).append(({**labels, "process": process}, value))
    return Samples(values)


def trouble(address: str) -> str | None:
    """What the health check of a process says, in one line; None when all is well."""
    try:
        answer = urllib3.request("GET", f"{address}/healthz", timeout=ASK_S, retries=False)
    except urllib3.exceptions.HTTPError:
        return "does not answer"
    return None if answer.status == 200 else answer.data.decode(errors="replace").strip()[:200]


def cpu_seconds(home: Path, processes: Iterable[str]) -> dict[str, float]:
    """The CPU seconds that each of these processes has used since its start, as it says itself."""
    addresses = noted(home)
    return {
        process: value
        for process in processes
        if process in addresses
        for name, _, value in _read(addresses[process])
        if name == "process_cpu_seconds_total"
    }


def _read(address: str) -> Iterator[tuple[str, Mapping[str, str], float]]:
    try:
        answer = urllib3.request("GET", f"{address}/metrics", timeout=ASK_S, retries=False)
    except urllib3.exceptions.HTTPError:
        return
    for family in text_string_to_metric_families(answer.data.decode()):
        for sample in family.samples:
            yield sample.name, sample.labels, sample.value


def noted(home: Path) -> dict[str, str]:
    """The address of each process that serves metrics now, by process name; a dead one's is left out.

    Whether a process in another container lives can't be seen from here: its address is given. One that
    has the name of another, which comes before it or is in this container, is called `name@host`.
    """
    found: dict[str, str] = {}
    for note in sorted(_notes(home), key=lambda note: note["host"] != socket.gethostname()):
        elsewhere = note["host"] != socket.gethostname() or not Path("/proc").exists()
        if elsewhere or Path(f"/proc/{note['pid']}").exists():
            name = note["process"]
            taken = name in found and note["host"] != socket.gethostname()
            found[f"{name}@{note['host']}" if taken else name] = note["address"]
    return found


def _notes(home: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(_folder(home).glob("*.json")):
        try:
            yield json.loads(path.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            continue  # ended, or still being written


def markdown_table() -> str:
    """All metrics as a Markdown table."""
    rows = ["| metric | kind | labels | meaning |", "|---|---|---|---|"]
    for metric in METRICS.values():
        labels = ", ".join(metric.labels)
        rows.append(f"| `millstream_{metric.name}` | {metric.kind} | {labels} | {metric.meaning} |")
    return "\n".join(rows) + "\n"


def _folder(home: Path) -> Path:
    return home / "run" / "metrics"


def _note(home: Path, process: str, address: str) -> Path:
    path = _folder(home) / f"{process}-{os.getpid()}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    note = {"process": process, "host": socket.gethostname(), "pid": os.getpid(), "address": address}
    path.write_text(json.dumps(note))
    return path


def _handler(metrics: Metrics, health: Health) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """Answers GET /metrics and GET /healthz."""

        def do_GET(self) -> None:
            if self.path == "/metrics":
                self._answer(200, metrics.render(), CONTENT_TYPE_LATEST)
            elif self.path == "/healthz":
                wrong = health()
                self._answer(503 if wrong else 200, (wrong or "ok").encode(), "text/plain; charset=utf-8")
            else:
                self._answer(404, b"only /metrics and /healthz are here\n", "text/plain")

        def _answer(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the base class's name)
            """Say nothing: a scrape every second is no news."""

    return Handler


if __name__ == "__main__":
    print(markdown_table(), end="")
