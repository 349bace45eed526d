"""Brings a data set's alerts to people: `python -m stream_consumers.alerts`."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import click
from tenacity import RetryError, retry, retry_if_result, stop_after_delay, wait_fixed

from infra.contracts.datasets import DataSet
from infra.contracts.errors import UserError
from infra.metrics import Metrics
from infra.process import run_command, stop_on_signals
from infra.settings import Settings
from infra.streams.admin import StreamAdmin
from infra.streams.consumer import StreamConsumer
from infra.streams.errors import KafkaUnavailableError
from stream_consumers.alert_file import AlertFile
from stream_consumers.alert_intake import Intake
from stream_consumers.alert_watch import Progress, Watch
from stream_consumers.sinks import FileSink, LogSink, SinkHandler
from stream_consumers.webhook import Webhook
from stream_consumers.webhook_handler import LANES, WebhookHandler
from stream_consumers.worker import Handler, Relay, consume

POLL_S, MOST_RECORDS, NOTHING_S = 0.1, 500, 0.5
"""A broker answers at once when there is an alert, and when there is none after NOTHING_S."""
SETTLE_S = 5.0


class AlertHandler(Handler, Progress, Protocol):
    """A handler of the consume loop that can be watched, and ended after a failure."""

    def abandon(self) -> None:
        """End what goes on beside the loop."""


@dataclass(frozen=True)
class Alerting:
    """What settings and command line say. `file` and `url` are for the sinks of these names."""

    settings: Settings
    data_set: DataSet
    file: Path
    url: str
    timeout_s: float

    @property
    def stream(self) -> str:
        """The alerts' stream."""
        return self.data_set.stream("alerts")


Make = Callable[[StreamConsumer, Intake, Metrics], AlertHandler]


def run(alerting: Alerting, sinks: Sequence[str]) -> None:
    """Run sinks side by side until SIGTERM or Ctrl-C; a failure of one ends them all in order."""
    check_stream(alerting)
    with stop_on_signals() as stop, ExitStack() as open_files:
        makes = {sink: maker(alerting, sink, open_files) for sink in sinks}
        with ThreadPoolExecutor(len(sinks)) as threads:
            running = [threads.submit(run_sink, alerting, sink, make, stop) for sink, make in makes.items()]
    for each in running:
        each.result()


def run_sink(alerting: Alerting, sink: str, make: Make, stop: threading.Event) -> None:
    """Run one sink until `stop` is set, which it sets itself at its end."""
    relay, metrics = Relay(), Metrics(f"alerts-{sink}")
    try:
        consumer = StreamConsumer(
            alerting.settings.kafka_servers,
            streams=[alerting.stream],
            group=group(alerting, sink),
            client_id=metrics.process,
            session_timeout_s=alerting.timeout_s,
            listener=relay,
            gather_s=NOTHING_S,
        )
        with ExitStack() as ending:
            ending.callback(consumer.close)
            handler = relay.handler = make(consumer, Intake(metrics, sink), metrics)
            ending.callback(handler.abandon)
            watch = ending.enter_context(closing(Watch(alerting.settings, metrics, consumer, handler)))
            consume(consumer, handler, poll_s=POLL_S, max_records=MOST_RECORDS, stop=stop, beat=watch.beat)
    finally:
        stop.set()


def maker(alerting: Alerting, sink: str, open_files: ExitStack) -> Make:
    """How a sink's handler is made. Raises UserError for what the sink lacks."""
    if sink == "webhook":
        Webhook(alerting.url, alerting.settings.webhook_secret)
        return functools.partial(webhook_handler, alerting)
    if sink == "file":
        file = open_files.enter_context(closing(AlertFile(alerting.file)))
        return functools.partial(file_handler, alerting, FileSink(file))
    return lambda consumer, intake, _: SinkHandler(consumer, LogSink(click.echo), intake)


def file_handler(
    alerting: Alerting, sink: FileSink, consumer: StreamConsumer, intake: Intake, _metrics: Metrics
) -> SinkHandler:
    """The handler that writes the file, once no other process does."""
    consumer.committed(consumer.shards(alerting.stream))  # waits for a new Kafka to be ready for groups
    wait_until_alone(alerting)
    return SinkHandler(consumer, sink, intake)


def webhook_handler(
    alerting: Alerting, consumer: StreamConsumer, intake: Intake, metrics: Metrics
) -> WebhookHandler:
    """The handler that posts."""
    metrics.count("webhook_retries_total", 0)  # made before the threads that count into it
    webhook = Webhook(
        alerting.url,
        alerting.settings.webhook_secret,
        on_retry=lambda _: metrics.count("webhook_retries_total"),
        connections=LANES,
    )
    return WebhookHandler(consumer, webhook, intake)


def check_stream(alerting: Alerting) -> None:
    """Raise UserError unless there is a Kafka with the alerts' stream."""
    servers = alerting.settings.kafka_servers
    if not servers:
        raise UserError("no Kafka is given: use `make stream-demo`, or set KAFKA_BOOTSTRAP_SERVERS")
    try:
        with StreamAdmin(servers) as admin:
            found = admin.describe(alerting.stream)
    except KafkaUnavailableError as error:
        raise UserError(f"{error}; is KAFKA_BOOTSTRAP_SERVERS right and the server up?") from error
    if found is None:
        raise UserError(f"there is no stream {alerting.stream}: see `python -m infra.provision --help`")


def wait_until_alone(alerting: Alerting) -> None:
    """Wait until no member is in the file's group: one that was killed is in it until its session ends.

    Raises UserError if one is there after that.
    """

    @retry(
        retry=retry_if_result(lambda members: members > 0),
        wait=wait_fixed(0.2),
        stop=stop_after_delay(alerting.timeout_s + SETTLE_S),
    )
    def look() -> int:
        return admin.group_members(group(alerting, "file"))

    with StreamAdmin(alerting.settings.kafka_servers) as admin:
        try:
            look()
        except RetryError as error:
            raise UserError(
                f"another process takes the alerts of {alerting.stream} to a file: end it first"
            ) from error


def group(alerting: Alerting, sink: str) -> str:
    """A sink's consumer group."""
    return alerting.data_set.group(f"alerts-{sink}")


@click.command()
@click.option("--data-set", "data_set_id", default="", help="8 hex digits; the default data set without")
@click.option(
    "--sink",
    "sinks",
    type=click.Choice(["log", "file", "webhook"]),
    multiple=True,
    help="where alerts go; may be given several times",
)
@click.option(
    "--file", type=click.Path(path_type=Path), help="for the file  [default: <home>/alerts/<stream>.jsonl]"
)
@click.option("--url", help="for the webhook  [default: MILLSTREAM_WEBHOOK_URL]")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(6),
    default=10,
    show_default=True,
    help="seconds after which a process that is silent loses its place in its group",
)
def main(
    data_set_id: str, sinks: tuple[str, ...], file: Path | None, url: str | None, timeout_s: float
) -> None:
    """Take a data set's alerts to a log (standard output), a file or a webhook."""
    if not sinks:
        raise UserError("where shall alerts go? give --sink log, --sink file or --sink webhook")
    settings = Settings.load()
    data_set = DataSet(settings.bucket, data_set_id)
    path = file or settings.home / "alerts" / f"{data_set.stream('alerts')}.jsonl"
    alerting = Alerting(settings, data_set, path, url or settings.webhook_url, timeout_s)
    run(alerting, list(dict.fromkeys(sinks)))


if __name__ == "__main__":
    run_command(main)
