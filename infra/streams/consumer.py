"""Reads streams: committed records only, offsets committed by hand, within the shards' limits."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import kafka.errors
from kafka import KafkaConsumer, TopicPartition
from kafka.structs import OffsetAndMetadata

from infra.streams.brokers import CONNECTING, connecting
from infra.streams.errors import FencedError, OffsetOutOfRangeError
from infra.streams.limits import RECORD_BYTES, ReadLimit
from infra.streams.rebalance import Listener, Rebalances
from infra.streams.records import Record, Shard
from infra.streams.unpacking import Unpacked

LOST_PLACE = (
    kafka.errors.CommitFailedError,
    kafka.errors.IllegalGenerationError,
    kafka.errors.UnknownMemberIdError,
    kafka.errors.RebalanceInProgressError,
)
CALL_S = 30.0
LEAVE_MS = 5_000


class StreamConsumer:
    """A member of a consumer group, or (without one) a reader of shards that it is given.

    Records of transactions that are open or were aborted are not seen. There is no automatic commit
    and no automatic reset: a shard without a committed offset is sought by `start`.
    """

    def __init__(
        self,
        servers: str,
        *,
        streams: Sequence[str],
        group: str | None,
        client_id: str,
        session_timeout_s: float = 10.0,
        listener: Listener | None = None,
        gather_bytes: int = 1,
        gather_s: float = 0.1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`servers` is "host:port,...". With a group, `streams` are subscribed to; without, `assign`.

        The brokers hold an answer back until there are `gather_bytes` of records, for up to `gather_s`
        seconds: who is in no hurry asks for many, and costs all a fraction of the CPU.
        """
        self.streams, self.group = list(streams), group
        self._clock = clock
        self._limits: dict[Shard, ReadLimit] = {}
        self._paused: set[Shard] = set()  # by the caller
        self._held: set[Shard] = set()  # by the limit
        self._known: dict[TopicPartition, Shard] = {}
        with connecting(servers) as kafka_client:
            self._consumer = KafkaConsumer(
                bootstrap_servers=servers.split(","),
                **CONNECTING,
                kafka_client=kafka_client,
                client_id=client_id,
                group_id=group,
                isolation_level="read_committed",
                auto_offset_reset="none",
                enable_auto_commit=False,
                session_timeout_ms=round(session_timeout_s * 1000),
                heartbeat_interval_ms=round(session_timeout_s * 1000 / 3),
                max_partition_fetch_bytes=2 * RECORD_BYTES,
                fetch_min_bytes=gather_bytes,
                fetch_max_wait_ms=round(gather_s * 1000),
                # All shards move on with every fetch: sessions would only compare them with the last one.
                enable_incremental_fetch_sessions=False,
                allow_auto_create_topics=False,
                metrics_enabled=False,
            )
        self._consumer._fetcher.PartitionRecords = Unpacked
        self._rebalances = Rebalances(listener, self._forget)
        self._rebalances.net = self._consumer._net
        if group is not None:
            self._consumer.subscribe(self.streams, listener=self._rebalances)

    def poll(self, timeout_s: float, max_records: int = 500) -> dict[Shard, list[Record]]:
        """Records that come within `timeout_s` seconds, by shard, each shard's in order.

        Raises OffsetOutOfRangeError when a shard's position is not in its log, and whatever the
        listener raised.
        """
        self._release()
        self._unpark()
        try:
            with self._rebalances.allowed():
                polled = self._consumer.poll(timeout_ms=round(timeout_s * 1000), max_records=max_records)
        except kafka.errors.OffsetOutOfRangeError as error:
            self._explain(error.args[0])
            raise
        found = {self._shard(where): records for where, records in polled.items()}
        for shard, records in found.items():
            self._count(shard, records)
        return found

    def assign(self, shards: Iterable[Shard]) -> None:
        """Read these shards, for a consumer without a group; then seek each."""
        self._consumer.assign([TopicPartition(*shard) for shard in shards])

    def assignment(self) -> set[Shard]:
        """The shards that are this consumer's now."""
        return {self._shard(where) for where in self._consumer.assignment()}

    def shards(self, stream: str) -> list[Shard]:
        """All shards of a stream."""
        numbers = self._consumer.partitions_for_topic(stream) or set()
        return [Shard(stream, number) for number in sorted(numbers)]

    def topic_id(self, stream: str) -> str:
        """The topic's UUID: another one after a stream was deleted and made anew."""
        found = self._consumer._cluster.topic_id(stream)  # in the client's metadata, and nowhere else
        if found is None:
            self._consumer.partitions_for_topic(stream)
            found = self._consumer._cluster.topic_id(stream)
        assert found is not None, stream
        return str(found)

    def start(self, shards: Iterable[Shard]) -> dict[Shard, int]:
        """Seek each shard to its committed offset, or where none is to its beginning; the positions.

        Raises OffsetOutOfRangeError for a committed offset that is not in the log any more.
        """
        wanted = list(shards)
        begins, ends = self.beginning_offsets(wanted), self.end_offsets(wanted)
        committed = self.committed(wanted)
        positions = {}
        for shard in wanted:
            offset = committed[shard]
            if offset is not None:
                check_range(shard, offset, begins[shard], ends[shard])
            positions[shard] = begins[shard] if offset is None else offset
            self.seek(shard, positions[shard])
        return positions

    def committed(self, shards: Iterable[Shard]) -> dict[Shard, int | None]:
        """The group's committed offset of each shard; offsets of open transactions are waited for."""
        return {shard: self._committed(shard) for shard in shards}

    def commit(self, offsets: Mapping[Shard, int], metadata: Mapping[Shard, str] | None = None) -> None:
        """Commit the next offset of each shard, with a text for each if given. Raises FencedError."""
        texts = metadata or {}
        positions = {
            TopicPartition(*shard): OffsetAndMetadata(offset, texts.get(shard, ""), -1)
            for shard, offset in offsets.items()
        }
        try:
            self._consumer.commit(positions)
        except LOST_PLACE as error:
            raise FencedError(f"the group {self.group} has moved on: {type(error).__name__}") from error

    def committed_metadata(self, shard: Shard) -> str:
        """The text that was committed with a shard's offset; empty if there is none."""
        found = self._consumer.committed(TopicPartition(*shard), metadata=True, timeout_ms=CALL_S * 1000)
        return found.metadata if found is not None else ""

    def seek(self, shard: Shard, offset: int) -> None:
        """Read a shard from an offset on."""
        self._consumer.seek(TopicPartition(*shard), offset)

    def position(self, shard: Shard) -> int:
        """The offset that is read next."""
        return int(self._consumer.position(TopicPartition(*shard), timeout_ms=CALL_S * 1000))

    def pause(self, shards: Iterable[Shard]) -> None:
        """Read nothing of these shards until `resume`; the place in the group is kept."""
        self._paused.update(shards)
        self._apply()

    def resume(self, shards: Iterable[Shard]) -> None:
        """Read on."""
        self._paused.difference_update(shards)
        self._apply()

    def beginning_offsets(self, shards: Iterable[Shard]) -> dict[Shard, int]:
        """The first offset that each shard still has."""
        wanted = [TopicPartition(*shard) for shard in shards]
        found = self._consumer.beginning_offsets(wanted, timeout_ms=CALL_S * 1000) if wanted else {}
        return {self._shard(where): offset for where, offset in found.items()}

    def end_offsets(self, shards: Iterable[Shard]) -> dict[Shard, int]:
        """The offset after the last committed record of each shard."""
        wanted = [TopicPartition(*shard) for shard in shards]
        found = self._consumer.end_offsets(wanted, timeout_ms=CALL_S * 1000) if wanted else {}
        return {self._shard(where): offset for where, offset in found.items()}

    def lag(self) -> dict[Shard, int]:
        """Records between the position of each assigned shard and its end; asks the brokers."""
        ends = self.end_offsets(self.assignment())
        return {shard: max(0, end - self.position(shard)) for shard, end in ends.items()}

    def group_metadata(self) -> Any:
        """This member's place in its group at this moment, for TransactionalProducer.send_offsets.

        To be called right after the poll whose records are answered. Raises FencedError when the place
        is lost: Kafka would take offsets from nobody's place without a check.
        """
        place = self._consumer.group_metadata()
        if self.group is not None and place.generation_id < 0:
            raise FencedError(f"{self.group}: the place in the group is lost")
        return place

    def close(self) -> None:
        """Leave the group at once. The listener is not told: finish what is open before."""
        self._rebalances.silence()
        try:
            self._consumer.close(autocommit=False, timeout_ms=LEAVE_MS)
        finally:
            self._consumer._client.close()  # `close` leaves its thread and sockets when leaving fails

    def _committed(self, shard: Shard) -> int | None:
        found = self._consumer.committed(TopicPartition(*shard), timeout_ms=CALL_S * 1000)
        return None if found is None or found < 0 else int(found)

    def _shard(self, where: TopicPartition) -> Shard:
        shard = self._known.get(where)
        if shard is None:
            shard = self._known[where] = Shard(where.topic, where.partition)
        return shard

    def _count(self, shard: Shard, records: list[Record]) -> None:
        """Hold the shard if its second is used up."""
        size = sum(len(record.value or b"") + len(record.key or b"") for record in records)
        limit = self._limits.get(shard)
        if limit is None:
            limit = self._limits[shard] = ReadLimit(self._clock)
        if not limit.took(size):
            self._held.add(shard)
            self._apply()

    def _unpark(self) -> None:
        """Make Kafka's client forget records of a shard that are used up.

        It takes records of a resumed shard up again only while it holds no others, and it holds used-up
        ones too: without this a resumed shard may never be read again.
        """
        fetcher = self._consumer._fetcher
        if fetcher._next_partition_records is not None and not fetcher._next_partition_records:
            fetcher._next_partition_records = None

    def _release(self) -> None:
        if self._held:
            free = {shard for shard in self._held if self._limits[shard].free()}
            if free:
                self._held -= free
                self._apply()

    def _apply(self) -> None:
        """Pause in Kafka's client just what is paused here, of what is assigned."""
        assigned = {where: self._shard(where) for where in self._consumer.assignment()}
        now = self._consumer.paused()
        stopped = self._paused | self._held
        stop = [where for where, shard in assigned.items() if shard in stopped and where not in now]
        go = [where for where, shard in assigned.items() if shard not in stopped and where in now]
        if stop:
            self._consumer.pause(*stop)
        if go:
            self._consumer.resume(*go)

    def _forget(self, shards: Collection[Shard]) -> None:
        self._paused.difference_update(shards)
        self._held.difference_update(shards)

    def _explain(self, positions: Mapping[TopicPartition, int]) -> None:
        """Raise OffsetOutOfRangeError for the first position that is not in its log."""
        for where, offset in positions.items():
            shard = self._shard(where)
            begins, ends = self.beginning_offsets([shard]), self.end_offsets([shard])
            check_range(shard, offset, begins[shard], ends[shard])


def check_range(shard: Shard, offset: int, begins: int, ends: int) -> None:
    """Raise OffsetOutOfRangeError unless a shard's log can be read from an offset on."""
    if not begins <= offset <= ends:
        raise OffsetOutOfRangeError(
            f"shard {shard.number} of {shard.stream} was read up to offset {offset:,}, but its log goes "
            f"from {begins:,} to {ends:,}: records are gone that were never read"
        )
