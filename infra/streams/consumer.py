"""Reads streams: committed records only, offsets committed by hand, within the shards' limits."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import kafka.errors
from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.subscription_state import AsyncConsumerRebalanceListener
from kafka.future import Future
from kafka.structs import OffsetAndMetadata

from infra.streams.errors import FencedError, OffsetOutOfRangeError
from infra.streams.limits import RECORD_BYTES, ReadLimit
from infra.streams.records import Record, Shard

LOST_PLACE = (
    kafka.errors.CommitFailedError,
    kafka.errors.IllegalGenerationError,
    kafka.errors.UnknownMemberIdError,
    kafka.errors.RebalanceInProgressError,
)
CALL_S = 30.0


class Listener(Protocol):
    """Told about a member's shards while it is in `poll` or `close`.

    It is called in another thread, which may call Kafka.
    """

    def assigned(self, shards: Collection[Shard]) -> None:
        """These came in addition; seek each to where it shall be read from."""

    def revoked(self, shards: Collection[Shard]) -> None:
        """These go to another member when this returns: finish or abort what is open."""

    def lost(self, shards: Collection[Shard]) -> None:
        """These are another member's already: abort what is open, commit nothing."""


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
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`servers` is "host:port,...". With a group, `streams` are subscribed to; without, `assign`."""
        self.streams, self.group = list(streams), group
        self._clock = clock
        self._limits: dict[Shard, ReadLimit] = {}
        self._paused: set[Shard] = set()  # by the caller
        self._held: set[Shard] = set()  # by the limit
        self._known: dict[TopicPartition, Shard] = {}
        self._consumer = KafkaConsumer(
            bootstrap_servers=servers.split(","),
            client_id=client_id,
            group_id=group,
            isolation_level="read_committed",
            auto_offset_reset="none",
            enable_auto_commit=False,
            session_timeout_ms=round(session_timeout_s * 1000),
            heartbeat_interval_ms=round(session_timeout_s * 1000 / 3),
            max_partition_fetch_bytes=2 * RECORD_BYTES,
            fetch_max_wait_ms=100,
            allow_auto_create_topics=False,
            metrics_enabled=False,
        )
        self._adapter = _Adapter(listener, self._forget)
        self._adapter.net = self._consumer._net
        self._adapter.turn.acquire()
        if group is not None:
            self._consumer.subscribe(self.streams, listener=self._adapter)

    def poll(self, timeout_s: float, max_records: int = 500) -> dict[Shard, list[Record]]:
        """Records that come within `timeout_s` seconds, by shard, each shard's in order.

        Raises OffsetOutOfRangeError when a shard's position is not in its log, FencedError when this
        member lost its place and was not told otherwise.
        """
        self._release()
        try:
            with self._rebalancing():
                polled = self._consumer.poll(timeout_ms=round(timeout_s * 1000), max_records=max_records)
        except (kafka.errors.OffsetOutOfRangeError, kafka.errors.NoOffsetForPartitionError) as error:
            raise OffsetOutOfRangeError(self._where(error)) from error
        return {self._shard(where): self._taken(where, records) for where, records in polled.items()}

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
        """Records behind the end of each assigned shard, as the last fetch knew it."""
        found = {}
        for where in self._consumer.assignment():
            end = self._consumer.highwater(where)
            if end is not None:
                with contextlib.suppress(kafka.errors.KafkaError):
                    found[self._shard(where)] = max(0, end - int(self._consumer.position(where)))
        return found

    def group_metadata(self) -> Any:
        """This member's place in its group at this moment, for TransactionalProducer.send_offsets."""
        return self._consumer.group_metadata()

    def close(self) -> None:
        """Leave the group; the listener's `revoked` is called first."""
        with self._rebalancing():
            self._consumer.close(autocommit=False)

    @contextlib.contextmanager
    def _rebalancing(self) -> Iterator[None]:
        """Let the listener be called within the block; what it raised is raised at its end."""
        adapter = self._adapter
        adapter.turn.release()
        try:
            yield
        except kafka.errors.KafkaError:
            if adapter.failure is None:
                raise
        finally:
            adapter.turn.acquire()
        if adapter.failure is not None:
            failure, adapter.failure = adapter.failure, None
            raise failure

    def _committed(self, shard: Shard) -> int | None:
        found = self._consumer.committed(TopicPartition(*shard), timeout_ms=CALL_S * 1000)
        return None if found is None or found < 0 else int(found)

    def _shard(self, where: TopicPartition) -> Shard:
        shard = self._known.get(where)
        if shard is None:
            shard = self._known[where] = Shard(where.topic, where.partition)
        return shard

    def _taken(self, where: TopicPartition, records: list[Any]) -> list[Record]:
        """The records in our form; holds the shard if its second is used up."""
        shard = self._shard(where)
        taken = [
            Record(shard, item.offset, item.key, item.value, item.timestamp, tuple(item.headers))
            for item in records
        ]
        size = sum(len(record.value or b"") + len(record.key or b"") for record in taken)
        limit = self._limits.get(shard)
        if limit is None:
            limit = self._limits[shard] = ReadLimit(self._clock)
        if not limit.took(size):
            self._held.add(shard)
            self._apply()
        return taken

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

    def _where(self, error: Exception) -> str:
        shards = sorted(self.assignment())
        begins = self.beginning_offsets(shards)
        texts = [f"{shard.stream}/{shard.number} begins at {begins[shard]}" for shard in shards]
        return f"{error}; {', '.join(texts)}"


def check_range(shard: Shard, offset: int, begins: int, ends: int) -> None:
    """Raise OffsetOutOfRangeError unless a shard's log can be read from an offset on."""
    if not begins <= offset <= ends:
        raise OffsetOutOfRangeError(
            f"shard {shard.number} of {shard.stream} was read up to offset {offset:,}, but its log goes "
            f"from {begins:,} to {ends:,}: records are gone that were never read"
        )


class _Adapter(AsyncConsumerRebalanceListener):  # type: ignore[misc]  # kafka ships no types
    """Kafka's listener interface for ours.

    Kafka calls it on its own I/O thread, where no call that waits for Kafka is possible. So ours is called
    in a thread beside it, and only while the owner is in `poll` or `close`, which hold no turn.
    """

    def __init__(self, listener: Listener | None, forget: Callable[[Collection[Shard]], None]) -> None:
        self._listener, self._forget = listener, forget
        self.turn = threading.Lock()
        self.failure: BaseException | None = None
        self.net: Any = None

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        await self._tell("revoked", revoked)

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        await self._tell("assigned", assigned)

    async def on_partitions_lost(self, lost: Collection[TopicPartition]) -> None:
        await self._tell("lost", lost)

    async def _tell(self, what: str, where: Collection[TopicPartition]) -> None:
        shards = [Shard(*each) for each in sorted(where)]
        done = Future()
        threading.Thread(target=self._call, args=(what, shards, done), name=what, daemon=True).start()
        await done

    def _call(self, what: str, shards: list[Shard], done: Any) -> None:
        try:
            with self.turn:
                if shards and self._listener is not None:
                    getattr(self._listener, what)(shards)
                if what != "assigned":
                    self._forget(shards)
        except BaseException as error:  # raised again in the owner's thread, by `poll`
            self.failure = error
        finally:
            self.net.call_soon_threadsafe(lambda: done.success(None))
