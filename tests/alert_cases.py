"""What the tests of alerts share: alerts, a webhook's receiver on a free port, the process that sends."""

from __future__ import annotations

import json
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

from infra.contracts.datasets import DataSet
from infra.contracts.events import Alert, encode
from infra.settings import Settings
from infra.streams.admin import StreamAdmin
from infra.streams.consumer import StreamConsumer
from infra.streams.producer import StreamProducer
from infra.streams.rebalance import Listener
from stream_consumers.webhook import SIGNATURE_HEADER, is_genuine

SECRET = "known to both"
TIMEOUT_S = 6
SENT = datetime(2026, 1, 1, tzinfo=UTC)


def alert(number: int, cards: int = 10, **fields: Any) -> Alert:
    """An alert; the cards take turns."""
    begin = datetime(2018, 8, 8, tzinfo=UTC)
    values: dict[str, Any] = {
        "alert_id": f"transactions-{number}",
        "transaction_id": number,
        "event_time": begin + timedelta(seconds=number),
        "card_id": f"C{number % cards:05}",
        "terminal_id": "T00123",
        "amount_cents": 123405,
        "score": 0.9731,
        "action": "block",
        "reasons": ["amount 1,234.05", "at night"],
        "model_version": "m1",
        "sent_at": SENT,
        "scored_at": SENT,
    }
    return Alert(**{**values, **fields})


class Post(NamedTuple):
    """What a receiver got."""

    key: str
    alert: dict[str, Any]
    is_genuine: bool


@contextmanager
def held_port() -> Iterator[int]:
    """A port for the block's receivers: it refuses connections while there is none, and nobody takes it."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


class Server(ThreadingHTTPServer):
    """Can listen at a held port."""

    allow_reuse_port = True


class Receiver:
    """A webhook's receiver: answers from `answers` (status, headers) while there are any, then 200."""

    def __init__(
        self, port: int = 0, answers: Sequence[tuple[int, dict[str, str]]] = (), delay_s: float = 0
    ) -> None:
        self.posts: list[Post] = []
        self.delay_s = delay_s
        self.answers = list(answers)
        self._server = Server(("127.0.0.1", port), _receiving(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/alerts"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def taken(self) -> list[Post]:
        """The posts that were answered by 200, each key once, in order."""
        return list({post.key: post for post in reversed(self.posts)}.values())[::-1]

    def close(self) -> None:
        """Refuse connections from now on."""
        self._server.shutdown()
        self._server.server_close()


def _receiving(receiver: Receiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """Takes posts."""

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, headers = receiver.answers.pop(0) if receiver.answers else (200, {})
            if status == 200:
                header = self.headers[SIGNATURE_HEADER]
                genuine = is_genuine(SECRET.encode(), header, body, time.time())
                receiver.posts.append(Post(self.headers["Idempotency-Key"], json.loads(body), genuine))
            time.sleep(receiver.delay_s)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the base class's name)
            """Say nothing."""

    return Handler


@contextmanager
def receiving(
    port: int = 0, answers: Sequence[tuple[int, dict[str, str]]] = (), delay_s: float = 0
) -> Iterator[Receiver]:
    """A receiver for the block."""
    receiver = Receiver(port, answers, delay_s)
    try:
        yield receiver
    finally:
        receiver.close()


class AlertStage:
    """A data set of a test's own with a stream of alerts, and the processes that take them."""

    def __init__(self, settings: Settings, home: Path, shards: int = 2) -> None:
        self.settings = replace(settings, home=home, webhook_secret=SECRET)
        self.data_set = DataSet(settings.bucket, secrets.token_hex(4))
        self.stream = self.data_set.stream("alerts")
        self.file = home / "alerts.jsonl"
        self.processes: list[subprocess.Popen[str]] = []
        with StreamAdmin(settings.kafka_servers) as admin:
            admin.create(self.stream, shards, 24)
        with closing(self.consumer()) as consumer:
            consumer.committed(consumer.shards(self.stream))  # a new Kafka is ready for groups then

    def consumer(self, listener: Listener | None = None) -> StreamConsumer:
        """A member of a group that no process of the stage is in."""
        return StreamConsumer(
            self.settings.kafka_servers,
            streams=[self.stream],
            group=self.stream,
            client_id="test",
            session_timeout_s=TIMEOUT_S,
            listener=listener,
        )

    def put(self, values: Iterable[Alert | bytes]) -> None:
        """Put alerts, or values that are none."""
        producer = StreamProducer(self.settings.kafka_servers, "test")
        try:
            for value in values:
                if isinstance(value, Alert):
                    producer.put(self.stream, value.key, encode(value))
                else:
                    producer.put(self.stream, "C00001", value)
            producer.flush()
        finally:
            producer.close()

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a process; its output is one pipe."""
        command = [sys.executable, "-m", "stream_consumers.alerts", "--data-set", self.data_set.id]
        return self.spawn([*command, "--timeout", str(TIMEOUT_S), *arguments])

    def spawn(self, command: Sequence[str]) -> subprocess.Popen[str]:
        """Start a command with the stage's settings."""
        process = subprocess.Popen(
            command,
            env=self.settings.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.processes.append(process)
        return process

    def lines(self) -> list[dict[str, Any]]:
        """The file's lines; fails if one is torn."""
        text = self.file.read_text() if self.file.exists() else ""
        assert not text or text.endswith("\n")
        return [json.loads(line) for line in text.splitlines()]

    def committed(self, sink: str) -> int:
        """How many records a sink's group has behind it."""
        with StreamAdmin(self.settings.kafka_servers) as admin:
            return sum(admin.group_offsets(self.data_set.group(f"alerts-{sink}")).values())


@contextmanager
def alert_stage(settings: Settings, home: Path, shards: int = 2) -> Iterator[AlertStage]:
    """A stage for the block; its processes end with it."""
    made = AlertStage(settings, home, shards)
    try:
        yield made
    finally:
        for process in made.processes:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


def in_order(numbers: Sequence[int], cards: int = 10) -> bool:
    """Whether each card's alerts are in order."""
    return all(
        (own := [number for number in numbers if number % cards == card]) == sorted(own)
        for card in range(cards)
    )
