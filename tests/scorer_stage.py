"""A small data set on real servers, scorers as processes, and what they answered."""

from __future__ import annotations

import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import urllib3

from infra import metrics
from infra.contracts.datasets import DataSet
from infra.contracts.events import Alert, Decision, Transaction, decoder, encode
from infra.objects import ObjectStore
from infra.provision import provision
from infra.settings import Settings
from infra.streams.consumer import StreamConsumer
from infra.streams.errors import ProvisionedThroughputExceededException
from infra.streams.producer import StreamProducer
from infra.streams.records import Record, Shard, shard_number
from stream_consumers.history import load_history
from stream_consumers.models import Models
from stream_consumers.scoring import answers
from stream_consumers.shard_state import ShardState
from stream_consumers.taking import Taker
from stream_consumers.terminal_tables import TerminalTables
from tests import scorer_cases as cases

SHARDS = 4
DAYS = 6
PER_DAY = 400
WITHIN_S = 180.0
TIMEOUT_S = 6
SNAPSHOT_EVERY = 150


class Stage:
    """A data set of its own with history, a model and tables, and the processes that work on it."""

    def __init__(self, settings: Settings, home: Path) -> None:
        self.settings = replace(settings, home=home)
        self.store = ObjectStore(settings)
        self.data_set = DataSet(settings.bucket, secrets.token_hex(4))
        self.processes: list[subprocess.Popen[bytes]] = []
        provision(self.settings, self.data_set, SHARDS)
        self.history = cases.transactions(1, cases.LIVE_FROM - 20 * cases.DAY, 20, PER_DAY)
        first_id = len(self.history)
        self.live = cases.transactions(2, cases.LIVE_FROM, DAYS, PER_DAY, first_id=first_id)
        cases.publish_history(self.store, self.data_set, self.history)
        cases.publish_manifest(self.store, self.data_set, SHARDS)
        self.producer = StreamProducer(settings.kafka_servers, "test")

    def publish(self) -> None:
        """A model from the first live day on, and the tables of all days."""
        cases.publish_tables(self.store, self.data_set, cases.LIVE_FROM, DAYS)
        cases.publish_model(self.store, self.data_set, "m1", cases.LIVE_FROM)

    def put(self, values: Iterable[Transaction | tuple[str, bytes]]) -> None:
        """Put transactions, or keys and values that are none."""
        stream = self.data_set.stream("transactions")
        for value in values:
            plain = (value.key, encode(value)) if isinstance(value, Transaction) else value
            while not self._took(stream, *plain):
                time.sleep(0.002)
        self.producer.flush()

    def _took(self, stream: str, key: str, value: bytes) -> bool:
        try:
            self.producer.put(stream, key, value)
        except ProvisionedThroughputExceededException:
            return False
        return True

    @contextmanager
    def playing(self, rows: Sequence[Transaction], per_s: int = 120) -> Iterator[Callable[[], int]]:
        """Put transactions evenly beside the block, which gets how many were put; all are at its end."""
        done = 0

        def play() -> None:
            nonlocal done
            for first in range(0, len(rows), 10):
                self.put(rows[first : first + 10])
                done = min(first + 10, len(rows))
                time.sleep(10 / per_s)

        thread = threading.Thread(target=play)
        thread.start()
        try:
            yield lambda: done
        finally:
            thread.join()
        assert done == len(rows)

    def start(self, slot: int = 0) -> subprocess.Popen[bytes]:
        """Start a scorer."""
        command = [sys.executable, "-m", "stream_consumers.fraud_scorer", "--data-set", self.data_set.id]
        command += ["--slot", str(slot), "--timeout", str(TIMEOUT_S), "--snapshot-every", str(SNAPSHOT_EVERY)]
        log = self.settings.home / f"scorer-{slot}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            process = subprocess.Popen(
                command, env=self.settings.environment(), stdout=output, stderr=subprocess.STDOUT
            )
        self.processes.append(process)
        return process

    def serves(self, slot: int = 0) -> bool:
        """Whether a scorer has shards."""
        return f"scorer-{slot}" in metrics.noted(self.settings.home)

    def metric(self, name: str, slot: int = 0) -> float:
        """A metric without labels, as a scorer serves it now."""
        address = metrics.noted(self.settings.home)[f"scorer-{slot}"]
        text = urllib3.request("GET", f"{address}/metrics").data.decode()
        (line,) = (line for line in text.splitlines() if line.startswith(f"millstream_{name} "))
        return float(line.split()[1])

    def log(self, slot: int = 0) -> str:
        """What a scorer wrote."""
        return (self.settings.home / f"scorer-{slot}.log").read_text()

    def read(self, name: str) -> list[Record]:
        """All committed records of a stream now, each shard's in order."""
        consumer = StreamConsumer(
            self.settings.kafka_servers, streams=[self.data_set.stream(name)], group=None, client_id="reader"
        )
        try:
            shards = consumer.shards(self.data_set.stream(name))
            consumer.assign(shards)
            ends, found = consumer.end_offsets(shards), list[Record]()
            for shard in shards:
                consumer.seek(shard, 0)
            deadline = time.monotonic() + WITHIN_S
            while any(consumer.position(shard) < ends[shard] for shard in shards):
                assert time.monotonic() < deadline, "the stream could not be read"
                for records in consumer.poll(0.2, 5000).values():
                    found += records
            return found
        finally:
            consumer.close()

    def decisions(self) -> list[Decision]:
        """All decisions, each shard's in order."""
        return [decoder(Decision).decode(record.value or b"") for record in self.read("decisions")]

    def alerts(self) -> list[Alert]:
        """All alerts."""
        return [decoder(Alert).decode(record.value or b"") for record in self.read("alerts")]

    def wait(self, condition: Callable[[], bool]) -> None:
        """Wait for a state; fail when it does not come, or a scorer died by itself."""
        deadline = time.monotonic() + WITHIN_S
        while not condition():
            crashed = any((process.poll() or 0) > 0 for process in self.processes)
            if crashed or time.monotonic() > deadline:
                raise AssertionError("the state did not come:\n" + self.log()[-4000:])
            time.sleep(0.2)

    def wait_for_decisions(self, count: int) -> list[Decision]:
        """Wait until so many decisions can be read, and a moment longer: one too many would show."""
        found: list[Decision] = []

        def enough() -> bool:
            nonlocal found
            found = self.decisions()
            return len(found) >= count

        self.wait(enough)
        return found

    def expected(self, rows: Iterable[Transaction]) -> dict[int, Decision]:
        """What an undisturbed scorer answers to these live transactions, by the code without servers."""
        models, tables = (
            Models(self.store, self.data_set),
            TerminalTables(self.store, self.data_set, lambda: None),
        )
        models.refresh()
        for day in range(DAYS):
            start = cases.LIVE_FROM + day * cases.DAY
            tables.get(int(start.timestamp()) * 1_000_000, cases.STEP_S * 1_000_000)
            tables.refresh()
        taker = Taker(models.in_force, tables.get, cases.LIVE_FROM)
        states = self._states()
        found = {}
        for offset, row in enumerate(rows):
            shard = Shard("transactions", shard_number(row.key.encode(), SHARDS))
            record = Record(shard, offset, row.key.encode(), encode(row), 0, ())
            (answer,) = answers(taker.take(states[shard.number], [record]).rows, cases.LIVE_FROM)
            found[row.transaction_id] = decoder(Decision).decode(answer.decision)
        return found

    def end(self) -> None:
        """End what was started."""
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
        self.producer.close()

    def _states(self) -> Mapping[int, ShardState]:
        cards = load_history(
            self.store,
            self.data_set,
            cases.LIVE_FROM,
            lambda card: shard_number(card.encode(), SHARDS),
            range(SHARDS),
        )
        return {shard: ShardState(0, cards=each) for shard, each in cards.items()}


def check(found: Iterable[Decision], expected: Mapping[int, Decision]) -> None:
    """Fail unless each transaction has one decision, which is the undisturbed run's."""
    by_id: dict[int, Decision] = {}
    doubled = [
        each.transaction_id for each in found if by_id.setdefault(each.transaction_id, each) is not each
    ]
    assert doubled == []
    assert set(by_id) == set(expected)
    for identity, decision in by_id.items():
        other = expected[identity]
        assert decision.features == other.features, identity
        assert decision.score == pytest.approx(other.score, abs=1e-6), identity
        assert (decision.model_version, decision.terminal_as_of) == (
            other.model_version,
            other.terminal_as_of,
        )


@contextmanager
def stage(settings: Settings, home: Path) -> Iterator[Stage]:
    """A stage that leaves no process behind."""
    made = Stage(settings, home)
    try:
        yield made
    finally:
        made.end()
