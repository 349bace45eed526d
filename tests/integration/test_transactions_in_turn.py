"""Two transactions in turn on a real Kafka: the order in which their records enter a shard."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from typing import Any

from infra.settings import Settings
from infra.streams.admin import StreamAdmin
from infra.streams.records import Shard
from infra.streams.transactions import TransactionalProducer
from stream_consumers.turns import Turns
from tests.stream_cases import WITHIN_S, joined, new_stream, read_to_end, reader, shards_of, wait

MANY, VALUE_BYTES = 200, 1_000
"""More than the client holds back: it sends them before it is told to."""


class Waiting(TransactionalProducer):
    """Commits offsets only when it is let."""

    let = threading.Event()

    def send_offsets(self, offsets: Mapping[Shard, int], group_metadata: Any) -> None:
        """See TransactionalProducer."""
        assert self.let.wait(WITHIN_S)
        super().send_offsets(offsets, group_metadata)


def test_the_records_of_two_transactions_are_in_order(kafka_settings: Settings) -> None:
    """The first one's commit takes long; the second one's records come after it all the same."""
    servers = kafka_settings.kafka_servers
    source, target = new_stream(servers, 1), new_stream(servers, 1)
    (shard,), shards = shards_of(source, 1), shards_of(target, 1)
    turns = Turns(lambda number: Waiting(servers, f"{source}-{number}", timeout_s=30), lambda tally: None)
    values = [b"%d" % number + b" " * VALUE_BYTES for number in range(MANY)]
    with joined(servers, source, f"{source}-group") as member, StreamAdmin(servers) as admin:
        for part in (values[:1], values[1:]):
            turns.begin(member.group_metadata())
            for value in part:
                turns.send(target, b"C1", value)
            turns.answered({shard: 1}, len(part), Counter())
            turns.tick()
        wait(lambda: admin.ends(shards)[shards[0]] > 1)
        Waiting.let.set()
        turns.finish()
    turns.close()
    consumer = reader(servers, shards)
    assert [record.value for record in read_to_end(consumer, shards)] == values
    consumer.close()
