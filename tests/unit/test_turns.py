"""Two transactions in turn, with producers that only remember: what waits for what, what a failure stops."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, cast

import pytest

from infra.streams.errors import TransactionFailedError
from infra.streams.records import Shard
from infra.streams.transactions import TransactionalProducer
from stream_consumers.turns import Turns

SHARD = Shard("transactions", 0)
WITHIN_S = 5.0


class Remembering:
    """A producer that writes nothing. Its flush waits for `let`, and fails if it is `spoilt`."""

    def __init__(self, number: int, calls: list[str]) -> None:
        self._number, self._calls = number, calls
        self.let, self.spoilt = threading.Event(), False

    def begin(self) -> None:
        """See TransactionalProducer, here and below."""
        self._note("begin")

    def send(self, *_: object, **__: object) -> None:
        self._note("send")

    def flush(self) -> None:
        assert self.let.wait(WITHIN_S)
        self._note("flush")
        if self.spoilt:
            raise TransactionFailedError("no broker")

    def send_offsets(self, offsets: Mapping[Shard, int], place: Any) -> None:
        self._note("offsets")

    def commit(self) -> None:
        self._note("commit")

    def close(self) -> None:
        self._note("close")

    def _note(self, call: str) -> None:
        self._calls.append(f"{call} {self._number}")


class Scene:
    """Turns on two such producers."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.producers = [Remembering(number, self.calls) for number in range(2)]
        self.counted: Counter[tuple[str, str]] = Counter()
        self.turns = Turns(
            lambda number: cast(TransactionalProducer, self.producers[number]), self.counted.update
        )

    def fill(self) -> None:
        """Answer a record."""
        self.turns.begin(None)
        self.turns.send("decisions", b"C1", b"{}")
        self.turns.answered({SHARD: 1}, 1, Counter({("decisions_total", "approve"): 1}))


@pytest.fixture
def scene() -> Iterator[Scene]:
    """Turns that are ended after the test."""
    made = Scene()
    yield made
    for producer in made.producers:
        producer.let.set()
    made.turns.close()


def test_a_transaction_gets_no_record_before_all_of_the_other_are_written(scene: Scene) -> None:
    """They may be of one card. Its commit goes on meanwhile, offsets last."""
    scene.fill()
    scene.turns.tick()
    filling = threading.Thread(target=scene.fill)
    filling.start()
    filling.join(0.2)
    assert scene.calls == ["begin 0", "send 0"]
    scene.producers[0].let.set()
    filling.join(WITHIN_S)
    scene.producers[1].let.set()
    scene.turns.finish()
    of = {number: [call for call in scene.calls if call.endswith(number)] for number in "01"}
    assert of["0"] == ["begin 0", "send 0", "flush 0", "offsets 0", "commit 0"]
    assert of["1"] == [call.replace("0", "1") for call in of["0"]]
    assert scene.calls.index("flush 0") < scene.calls.index("begin 1")
    assert scene.calls.index("commit 0") < scene.calls.index("flush 1")
    assert scene.counted == {("decisions_total", "approve"): 2}


def test_records_that_can_not_be_written_are_not_committed(scene: Scene) -> None:
    """Whoever comes next is told: the next transaction, and then the one that waits for the commit."""
    scene.producers[0].spoilt = True
    scene.producers[0].let.set()
    scene.fill()
    scene.turns.tick()
    with pytest.raises(TransactionFailedError):
        scene.fill()
    with pytest.raises(TransactionFailedError):
        scene.turns.finish()
    assert scene.calls == ["begin 0", "send 0", "flush 0"]
    assert not scene.counted
