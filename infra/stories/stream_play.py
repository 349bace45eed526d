"""The live part of the streaming story: the processes, the play with its live view, the drain."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console

from infra import metrics
from infra.contracts.datasets import DataSet
from infra.progress import Update, progress
from infra.report.live import SHOWN_ALERTS, LiveState, LiveView
from infra.settings import Settings
from infra.stories.stream_evidence import Ranges
from infra.stories.stream_offsets import Streams
from infra.stories.stream_processes import Processes
from infra.stories.stream_readers import Readers
from infra.stories.stream_samples import RATE_OVER_S, Samples
from infra.stories.stream_servers import OwnServers
from infra.streams.admin import StreamAdmin
from infra.supervisor import Supervisor

TICK_S = 0.5
SINK = "file"
STANDING = ("scorer-0", "delivery", f"alerts-{SINK}")
"""The consumers that a stack has of the default data set, by the names of their metrics."""
PRODUCER, DELIVERY, ALERTS = "producer", "delivery", f"alerts-{SINK}"
TRANSACTIONS, DEAD_LETTERS = "transactions", "transactions.dead-letter"


def has_standing_consumers(settings: Settings, data_set: DataSet) -> bool:
    """Whether scorer, delivery and alerts of a data set stand already; of others they are started."""
    return bool(settings.standing) and not data_set.id


def alerts_file(settings: Settings, data_set: DataSet) -> Path:
    """The file that takes a data set's alerts."""
    return settings.home / "alerts" / f"{data_set.stream('alerts')}.jsonl"


@dataclass(frozen=True)
class Plan:
    """What shall be played: `rate` transactions a second for `seconds`, scored by so many scorers."""

    rate: float
    seconds: float
    scorers: int


@dataclass(frozen=True)
class Played:
    """What came of it. `summary` is the producer's (see producers.transactions.Summary)."""

    began: float
    early: bool
    summary: dict[str, Any]
    transactions: Ranges
    dead_letters: Ranges
    readers: Readers
    samples: Samples
    cpu_seconds: dict[str, float]
    restarts: int
    alerts_file: Path

    @property
    def sent(self) -> int:
        """How many records the stream took."""
        return sum(end - begin for begin, end in self.transactions.values())


class Play:
    """Runs the processes for one play; ends them all when the block ends, whatever happened."""

    def __init__(
        self,
        settings: Settings,
        own: Settings,
        data_set: DataSet,
        plan: Plan,
        supervisor: Supervisor,
        console: Console,
    ) -> None:
        """`settings` give the servers; `own` are as the user has them: they tell servers of ours apart."""
        self._settings, self._data_set = settings, data_set
        self._plan, self._console = plan, console
        self._processes = Processes(supervisor, settings, self._say)
        self._admin = StreamAdmin(settings.kafka_servers)
        self._streams = Streams(self._admin, data_set, settings.home, self._watch)
        self._summary = settings.home / "run" / f"producer-{data_set.id or 'default'}.json"
        self._alerts_file = alerts_file(settings, data_set)
        self._reading = ExitStack()
        self._early = False
        self._next_sample = math.inf
        self._standing = has_standing_consumers(settings, data_set)
        self._servers = OwnServers(own, self._say)
        self._standing_cpu = self._cpu_of_standing()

    def __enter__(self) -> Play:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._reading.close()
        self._processes.stop_all()
        self._admin.__exit__(None, None, None)

    def start(self) -> None:
        """Start the consumers and wait until they have caught up with what the streams hold."""
        with progress(self._console, "consumers") as update:
            if self._standing:
                self._reach_ends(update)
                update(1.0, "those of the stack")
                return
            data_set = ["--data-set", self._data_set.id]
            scorers = [f"scorer-{slot}" for slot in range(self._plan.scorers)]
            for slot, name in enumerate(scorers):
                arguments = [*data_set, "--slot", str(slot)]
                self._processes.start(name, "stream_consumers.fraud_scorer", fixed(arguments))
            self._processes.start(DELIVERY, "stream_consumers.delivery", fixed(data_set))
            self._processes.start(ALERTS, "stream_consumers.alerts", fixed([*data_set, *self._sinks()]))
            self._processes.wait_until_up([*scorers, DELIVERY, ALERTS], update)
            update(0.9, "catching up with what the streams hold")
            self._reach_ends(lambda share, detail: update(0.9 + share / 10, detail))
            update(1.0, f"{len(scorers)} scorer{'s' * (len(scorers) > 1)}, delivery, alerts")

    def run(self) -> None:
        """Play, with the live view. Ctrl-C ends the play early; what was sent is drained all the same."""
        self._begin = {name: self._streams.ends(name) for name in (TRANSACTIONS, DEAD_LETTERS)}
        self.readers = Readers(self._settings.kafka_servers, self._data_set)
        self._reading.enter_context(self.readers.reading())
        self.samples = Samples(self._settings.home, self._data_set, self.readers)
        self.samples.begin()
        self._next_sample = 0.0
        self._summary.unlink(missing_ok=True)
        self._processes.start(PRODUCER, "producers.transactions", self._producer_arguments, may_end=True)
        try:
            with LiveView(self._console) as view:
                while self._processes.is_running(PRODUCER):
                    self._watch()
                    if not self._ends():
                        view.update(self._state())
                    time.sleep(TICK_S)
        except KeyboardInterrupt:
            self._early = True
            self._say("Ctrl-C: the producer ends; what was sent is decided and archived first")
        self._processes.stop(PRODUCER)

    def drain(self) -> None:
        """Wait until all that was sent is decided, archived and alerted on; then end the processes."""
        with progress(self._console, "drain") as update:
            self._reach_ends(update)
            self.readers.reach_ends(self._watch)
            self.samples.take()
            self._next_sample = math.inf
            update(1.0, "all decided and archived")
        self._reading.close()
        now = self._cpu_of_standing()
        self._others_cpu = self._servers.cpu_seconds() | {
            name: round(now.get(name, was) - was, 2) for name, was in self._standing_cpu.items()
        }
        self._processes.stop_all()

    def result(self) -> Played:
        """What was played."""
        summary: dict[str, Any] = json.loads(self._summary.read_text()) if self._summary.exists() else {}
        return Played(
            began=self.readers.began,
            early=self._early,
            summary=summary,
            transactions=self._span(TRANSACTIONS),
            dead_letters=self._span(DEAD_LETTERS),
            readers=self.readers,
            samples=self.samples,
            cpu_seconds={**self._processes.cpu_seconds(), **self._others_cpu},
            restarts=self._processes.restarts() + self._servers.restarts,
            alerts_file=self._alerts_file,
        )

    def _sinks(self) -> list[str]:
        """A file always; the webhook too if there is one in the settings."""
        webhook = ["--sink", "webhook"] if self._settings.webhook_url else []
        return ["--sink", SINK, "--file", str(self._alerts_file), *webhook]

    def _state(self) -> LiveState:
        """The newest sample, with rates over the last seconds, as the live view wants it."""
        samples, alerts = self.samples, self.readers.alerts
        rates, last = samples.rates(), samples.samples[-1]
        p50, p99 = samples.latest_latency()
        return LiveState(
            phase="stream",
            elapsed_s=samples.played_s,
            left_s=self._plan.seconds - samples.played_s,
            rate_asked=self._plan.rate,
            rate_in=rates.put,
            rate_scored=rates.decided,
            sent=int(last.put),
            decided=last.decided,
            archived=int(last.archived),
            p50_ms=p50,
            p99_ms=p99,
            throttled=int(last.throttled),
            lag=[int(last.lag[number]) for number in sorted(last.lag)],
            archive_lag_s=last.archive_lag_s,
            alerts=len(alerts),
            latest=[seen.alert for seen in alerts[-SHOWN_ALERTS:]],
        )

    def _ends(self) -> bool:
        """Whether the producer has just ended or is about to: its rate would be shown to drop."""
        return -2 * TICK_S < self.samples.played_s - self._plan.seconds <= RATE_OVER_S

    def _say(self, line: str) -> None:
        self._console.print(line, soft_wrap=True, markup=False)

    def _producer_arguments(self) -> list[str]:
        """A producer that is started again plays for the time that is left."""
        left = self._plan.seconds - self.samples.played_s
        return [
            *("--data-set", self._data_set.id, "--rate", str(self._plan.rate)),
            *("--seconds", str(max(0.1, round(left, 3))), "--summary", str(self._summary)),
        ]

    def _reach_ends(self, update: Update) -> None:
        """Wait until every consumer has committed all that the streams hold; what dies is started again."""
        self._streams.reach_ends(update, sinks=[self._data_set.group(f"alerts-{SINK}")])

    def _span(self, name: str) -> Ranges:
        """What a stream got since the play began."""
        now = self._streams.ends(name)
        return {shard: (begin, now[shard]) for shard, begin in self._begin[name].items()}

    def _watch(self) -> None:
        """Start again what died: servers first, without which no process can go on. Sample what goes on."""
        self._servers.watch()
        self._processes.watch()
        if time.monotonic() >= self._next_sample:
            self._next_sample = time.monotonic() + TICK_S
            self.samples.take()

    def _cpu_of_standing(self) -> dict[str, float]:
        """CPU seconds of the consumers that stood before the play, by process."""
        return metrics.cpu_seconds(self._settings.home, STANDING) if self._standing else {}


def fixed(arguments: Sequence[str]) -> Callable[[], Sequence[str]]:
    """Arguments that are the same at each start."""
    return lambda: arguments
