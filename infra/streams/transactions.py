"""A transactional producer: records and the offsets they answer become visible together or not at all."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kafka import KafkaProducer, TopicPartition
from kafka.errors import (
    CommitFailedError,
    FencedInstanceIdError,
    IllegalGenerationError,
    InvalidProducerEpochError,
    KafkaError,
    ProducerFencedError,
    UnknownMemberIdError,
)
from kafka.structs import OffsetAndMetadata

from infra.streams.errors import FencedError, TransactionFailedError
from infra.streams.producer import DURABLE
from infra.streams.records import Shard, shard_number

FENCED = (
    CommitFailedError,
    FencedInstanceIdError,
    IllegalGenerationError,
    InvalidProducerEpochError,
    ProducerFencedError,
    UnknownMemberIdError,
)


class TransactionalProducer:
    """One transactional id; making it ends an older owner's open transaction and fences that owner.

    After any failure, close it and make another one. Shard limits are not applied: what a consumer
    answers was let in by the limits of the stream that it read.
    """

    def __init__(self, servers: str, transactional_id: str, timeout_s: float = 10.0) -> None:
        """`timeout_s` is how long an abandoned transaction may hold readers up."""
        self._shards: dict[str, int] = {}
        self._failures: list[BaseException] = []
        self._producer = KafkaProducer(
            bootstrap_servers=servers.split(","),
            client_id=transactional_id,
            transactional_id=transactional_id,
            transaction_timeout_ms=round(timeout_s * 1000),
            delivery_timeout_ms=round(timeout_s * 1000),
            request_timeout_ms=round(timeout_s * 500),
            max_block_ms=round(timeout_s * 1000),
            linger_ms=5,
            batch_size=1 << 16,
            **DURABLE,
        )
        with _told():
            self._producer.init_transactions()

    def begin(self) -> None:
        """Begin a transaction."""
        with _told():
            self._producer.begin_transaction()

    def send(
        self,
        stream: str,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]] = (),
        shard: int | None = None,
    ) -> None:
        """Add a record, to the shard of its key unless one is given."""
        with _told():
            if shard is None:
                shard = shard_number((key or b"").decode(), self.shards(stream))
            future = self._producer.send(stream, value, key, list(headers), shard)
            if future.is_done and future.failed():
                raise future.exception

    def shards(self, stream: str) -> int:
        """The number of a stream's shards."""
        if stream not in self._shards:
            self._shards[stream] = len(self._producer.partitions_for(stream))
        return self._shards[stream]

    def send_offsets(self, offsets: Mapping[Shard, int], group_metadata: Any) -> None:
        """Commit, with the transaction, how far the shards were read: the next offset of each.

        `group_metadata` is the consumer's of the poll that gave the records.
        """
        positions = {
            TopicPartition(*shard): OffsetAndMetadata(offset, "", -1) for shard, offset in offsets.items()
        }
        with _told():
            self._producer.send_offsets_to_transaction(positions, group_metadata)

    def commit(self) -> None:
        """Commit: all records and offsets of the transaction are visible afterwards."""
        with _told():
            self._producer.commit_transaction()

    def abort(self) -> None:
        """Abort the transaction that is open."""
        with _told():
            self._producer.abort_transaction()

    def close(self) -> None:
        """Close; an open transaction is left to its time-out, or to the next owner of the id."""
        with contextlib.suppress(KafkaError):
            self._producer.close(timeout=2)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Kafka's many errors as the two that a caller tells apart."""
    try:
        yield
    except FENCED as error:
        raise FencedError(f"{type(error).__name__}: {error}") from error
    except (KafkaError, AssertionError) as error:
        raise TransactionFailedError(f"{type(error).__name__}: {error}") from error
