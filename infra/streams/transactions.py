"""A transactional producer: records and the offsets they answer become visible together or not at all."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kafka import KafkaProducer, TopicPartition
from kafka.errors import (
    CommitFailedError,
    FencedInstanceIdError,
    IllegalGenerationError,
    InvalidProducerEpochError,
    KafkaError,
    KafkaTimeoutError,
    ProducerFencedError,
    UnknownMemberIdError,
)
from kafka.structs import OffsetAndMetadata

from infra.streams.appending import Appender, failure
from infra.streams.brokers import CONNECTING, connecting
from infra.streams.errors import FencedError, IdTakenError, TransactionFailedError
from infra.streams.producer import DELIVER_WITHIN_MS, DURABLE, close_producer, shard_count
from infra.streams.records import Shard, shard_number

LINGER_MS = 1_000
"""Until the commit, in effect, which sends what is left: each early batch would wake the client's thread."""
FENCED = (
    CommitFailedError,
    FencedInstanceIdError,
    IllegalGenerationError,
    InvalidProducerEpochError,
    ProducerFencedError,
    UnknownMemberIdError,
)
BY_ID = (InvalidProducerEpochError, ProducerFencedError)
"""What a later owner of the id causes, and also a broker that has ended a transaction for its time-out."""
RETRY_MS = 10
"""Kafka's client sleeps so long before it asks again, as it must while the last commit is being completed."""


class TransactionalProducer:
    """One transactional id; making it ends an older owner's open transaction and fences that owner.

    Every method may raise FencedError or TransactionFailedError, none waits longer than the time-out;
    after either, close it and make another one. Shard limits are not applied: what a consumer answers was
    let in by the limits of the stream that it read.
    """

    def __init__(self, servers: str, transactional_id: str, timeout_s: float = 10.0) -> None:
        """`timeout_s` is how long an abandoned transaction may hold readers up."""
        self._timeout_ms = round(timeout_s * 1000)
        self._shards: dict[str, int] = {}
        self._written: set[Any] = set()  # the future of each batch that was not flushed yet
        self._began = time.monotonic()
        with connecting(servers) as kafka_client:
            self._producer = KafkaProducer(
                bootstrap_servers=servers.split(","),
                **CONNECTING,
                kafka_client=kafka_client,
                client_id=transactional_id,
                transactional_id=transactional_id,
                transaction_timeout_ms=self._timeout_ms,
                delivery_timeout_ms=DELIVER_WITHIN_MS,
                request_timeout_ms=self._timeout_ms // 2,
                max_block_ms=self._timeout_ms,
                retry_backoff_ms=RETRY_MS,
                linger_ms=LINGER_MS,
                batch_size=1 << 16,
                **DURABLE,
            )
        self._manager = self._producer._transaction_manager
        self._appender = Appender(self._producer)
        try:
            with self._told():
                self._producer.init_transactions()
        except BaseException:
            self.close()
            raise

    def begin(self) -> None:
        """Begin a transaction."""
        self._written.clear()
        self._began = time.monotonic()
        self._appender.begin()
        with self._told():
            self._producer.begin_transaction()

    def send(
        self,
        stream: str,
        key: bytes | str | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]] = (),
        shard: int | None = None,
    ) -> None:
        """Add a record, to the shard of its key unless one is given. Raises UserError for no such stream."""
        encoded = key.encode() if isinstance(key, str) else key
        shards = self._shards.get(stream) or self.shards(stream)
        if shard is None:
            shard = shard_number(encoded or b"", shards)
        try:
            future = self._appender.append(Shard(stream, shard), encoded, value, headers)
        except KafkaError as error:
            raise self._known(error) from error
        self._written.add(future)

    def shards(self, stream: str) -> int:
        """The number of a stream's shards."""
        if stream not in self._shards:
            self._shards[stream] = shard_count(self._producer, stream)
        return self._shards[stream]

    def flush(self) -> None:
        """Have all records written that were sent so far; they are seen after the commit."""
        with self._told():
            self._producer.flush(timeout=self._timeout_ms / 1000)
            for future in self._written:
                if (wrong := failure(future)) is not None:
                    raise self._known(wrong)
        self._written.clear()

    def send_offsets(self, offsets: Mapping[Shard, int], group_metadata: Any) -> None:
        """Commit, with the transaction, how far the shards were read: the next offset of each.

        `group_metadata` is the consumer's of the poll that gave the records.
        """
        positions = {
            TopicPartition(*shard): OffsetAndMetadata(offset, "", -1) for shard, offset in offsets.items()
        }
        with self._told():
            self._wait(self._manager.send_offsets_to_transaction(positions, group_metadata))

    def commit(self) -> None:
        """Commit: all records and offsets of the transaction stand when it returns, seen moments later."""
        if self._written:
            self.flush()  # the client would commit without a record that it gave up
        with self._told():
            self._wait(self._manager.begin_commit())

    def abort(self) -> None:
        """Abort the transaction that is open."""
        with self._told():
            self._wait(self._manager.begin_abort())

    def close(self) -> None:
        """Close; an open transaction is left to its time-out, or to the next owner of the id."""
        close_producer(self._producer)

    def _wait(self, result: Any) -> None:
        """What the client's own methods do, but not for ever."""
        self._producer._sender.wakeup()
        if not result.wait(timeout_ms=self._timeout_ms):
            raise KafkaTimeoutError(f"no answer within {self._timeout_ms} ms")

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except KafkaError as error:
            raise self._known(error) from error

    def _known(self, error: KafkaError) -> FencedError | TransactionFailedError:
        """Kafka's many errors as those that a caller tells apart."""
        cause = self._manager.last_error or error  # a later call only says that there was an error
        text = f"{type(cause).__name__}: {cause}"
        if isinstance(cause, BY_ID) and time.monotonic() - self._began < self._timeout_ms / 1000:
            return IdTakenError(text)
        return FencedError(text) if isinstance(cause, FENCED) else TransactionFailedError(text)
