"""Makes, describes, grows and deletes streams; where their shards and consumer groups stand."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import kafka.errors
from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, OffsetSpec
from kafka.errors import (
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    GroupIdNotFoundError,
    NoError,
    NotCoordinatorError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
)
from tenacity import (
    Retrying,
    retry,
    retry_if_exception_type,
    retry_if_not_result,
    stop_after_delay,
    wait_fixed,
)

from infra.streams.brokers import CONNECTING, answering, connecting
from infra.streams.consumer import StreamConsumer
from infra.streams.errors import StreamInUseError
from infra.streams.producer import REQUEST_BYTES
from infra.streams.reading import read_to
from infra.streams.records import Record, Shard

HOUR_MS = 3_600_000
SETTLE_S = 20
LOOK_BACK, SILENT_S = 200, 30.0
# On a new cluster the topic that groups are kept in is made by the first who asks for one; a broker that was
# started again reads it first.
COORDINATED = Retrying(
    retry=retry_if_exception_type(
        (CoordinatorLoadInProgressError, CoordinatorNotAvailableError, NotCoordinatorError)
    ),
    wait=wait_fixed(0.2),
    stop=stop_after_delay(SETTLE_S),
    reraise=True,
)


@dataclass(frozen=True)
class StreamDescription:
    """A stream as it is: `topic_id` is another one after it was deleted and made anew."""

    name: str
    topic_id: str
    shards: int
    retention_hours: int


class StreamAdmin:
    """Administers the streams of one Kafka cluster. Use as a context manager."""

    def __init__(self, servers: str, answer_s: float = 30.0) -> None:
        """`servers` is "host:port,...", each request waits up to `answer_s` seconds for its answer.

        Raises KafkaUnavailableError when none answers.
        """
        self._servers = servers
        with connecting(servers) as kafka_client:
            self._admin = KafkaAdminClient(
                bootstrap_servers=servers.split(","),
                **CONNECTING,
                kafka_client=kafka_client,
                client_id="millstream-admin",
                request_timeout_ms=round(answer_s * 1000),
            )

    def __enter__(self) -> StreamAdmin:
        return self

    def __exit__(self, *_: object) -> None:
        self._admin.close()

    @contextlib.contextmanager
    def answering(self) -> Iterator[None]:
        """Ask in this block: whatever is not answered is a KafkaUnavailableError, in one line."""
        with answering(self._servers):
            yield

    def describe(self, stream: str) -> StreamDescription | None:
        """The stream, or None if there is none."""
        (topic,) = self._admin.describe_topics([stream])
        if topic["error_code"] == UnknownTopicOrPartitionError.errno:
            return None
        settings = self.settings(stream)
        if not settings:
            return None  # deleted between the two answers
        retention = int(settings["retention.ms"])
        topic_id = UUID(str(topic["topic_id"]))
        return StreamDescription(stream, str(topic_id), len(topic["partitions"]), retention // HOUR_MS)

    def shards_by_topic(self) -> dict[str, tuple[str, int]]:
        """Topic id and number of shards of every stream, by name, from one request; none of Kafka's own."""
        return {
            topic["name"]: (str(UUID(str(topic["topic_id"]))), len(topic["partitions"]))
            for topic in self._admin.describe_topics()
            if not topic["is_internal"]
        }

    def settings(self, stream: str) -> dict[str, str]:
        """Kafka's settings of a stream, by Kafka's names."""
        resource = ConfigResource(ConfigResourceType.TOPIC, stream)
        found = self._admin.describe_configs([resource], config_filter="all")["topic"][stream]
        return {name: each["value"] for name, each in found.items()}

    def create(self, stream: str, shards: int, retention_hours: int) -> None:
        """Make a stream and wait until it can be used; one that exists is left as it is.

        With three brokers or more each record is on three of them and acknowledged by two.
        """
        copies = 3 if len(self._admin.describe_cluster()["brokers"]) >= 3 else 1
        configs = {
            "retention.ms": str(retention_hours * HOUR_MS),
            "max.message.bytes": str(REQUEST_BYTES),
            "message.timestamp.type": "CreateTime",
            "min.insync.replicas": str(min(2, copies)),
        }
        topic = {"num_partitions": shards, "replication_factor": copies, "configs": configs}
        with contextlib.suppress(TopicAlreadyExistsError):
            self._admin.create_topics({stream: topic})
        self._admin.wait_for_topics([stream], timeout_ms=SETTLE_S * 1000)

    def grow(self, stream: str, shards: int) -> None:
        """Raise the number of shards, which spreads the keys anew.

        Raises StreamInUseError while a consumer is in a group that reads the stream.
        """
        readers = self.groups_reading(stream)
        if readers:
            raise StreamInUseError(f"stream {stream} is read by {', '.join(readers)}")
        self._admin.create_partitions({stream: shards})
        self._admin.wait_for_topics([stream], timeout_ms=SETTLE_S * 1000)

    def set_retention(self, stream: str, hours: int) -> None:
        """Change how long records are kept."""
        configs = {"retention.ms": str(hours * HOUR_MS)}
        self._admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, stream, configs)])

    def delete(self, streams: Iterable[str]) -> None:
        """Delete streams with all that is in them, and wait until they are gone; absent ones are no error."""
        for stream in streams:
            with contextlib.suppress(UnknownTopicOrPartitionError):
                self._admin.delete_topics([stream])
            self._wait_until_gone(stream)

    def trim(self, offsets: Mapping[Shard, int]) -> None:
        """Delete the records below an offset of each shard, as retention does when their time has come."""
        self._admin.delete_records({TopicPartition(*shard): offset for shard, offset in offsets.items()})

    def shards(self, stream: str) -> list[Shard]:
        """The shards of a stream; empty if there is none."""
        found = self.describe(stream)
        return [Shard(stream, number) for number in range(found.shards)] if found else []

    def offsets(self, stream: str) -> dict[Shard, tuple[int, int]]:
        """For each shard its log's first offset and the one after its last record."""
        shards = self.shards(stream)
        first, end = (self._offsets(shards, spec) for spec in (OffsetSpec.EARLIEST, OffsetSpec.LATEST))
        return {shard: (first[shard], end[shard]) for shard in shards}

    def ends(self, shards: Sequence[Shard]) -> dict[Shard, int]:
        """The offset after the last record (or mark) of each shard, of any streams, from one request."""
        return self._offsets(shards, OffsetSpec.LATEST)

    def begins(self, shards: Sequence[Shard]) -> dict[Shard, int]:
        """The first offset that each shard still has, of any streams, from one request."""
        return self._offsets(shards, OffsetSpec.EARLIEST)

    def last_record(self, shard: Shard) -> Record | None:
        """The last committed record of a shard, or None if it holds none."""
        return self.last_records([shard]).get(shard)

    def last_records(
        self, shards: Sequence[Shard], is_meant: Callable[[Record], bool] = lambda record: True
    ) -> dict[Shard, Record]:
        """The last committed record of each shard that has one, of those that are meant."""
        with _reading(self._servers, shards) as consumer:
            begins, ends = consumer.beginning_offsets(shards), consumer.end_offsets(shards)
            waiting = [shard for shard in shards if begins[shard] < ends[shard]]
            found: dict[Shard, Record] = {}
            back = 1
            while waiting:
                starts = {shard: max(begins[shard], ends[shard] - back) for shard in waiting}
                found |= _last_of(consumer, starts, ends, is_meant)
                # The last offsets may be those of marks, of aborted records or others: look further back.
                waiting = [s for s in waiting if s not in found and starts[s] > begins[s]]
                back *= LOOK_BACK
            return found

    def group_members(self, group: str) -> int:
        """How many consumers are in a group now."""
        try:
            described = COORDINATED(self._admin.describe_groups, [group])
        except GroupIdNotFoundError:
            return 0
        return len(described[group]["members"])

    def groups_reading(self, stream: str) -> list[str]:
        """The groups with a member that reads this stream now."""
        return sorted(name for name in self._groups() if stream in self._read_by(name))

    def group_offsets(self, group: str) -> dict[Shard, int]:
        """The committed offset of each shard that a group has read.

        One of a transaction may come moments after its commit; StreamConsumer.committed waits for it.
        """
        try:
            found: Mapping[TopicPartition, Any] = COORDINATED(self._admin.list_group_offsets, [group])[group]
        except GroupIdNotFoundError:
            return {}
        return {Shard(*where): item.offset for where, item in found.items() if item.offset >= 0}

    def offsets_by_group(self, groups: Iterable[str]) -> dict[str, dict[Shard, int]]:
        """The same for those of the groups that there are, from two requests."""
        asked = sorted(self._groups().intersection(groups))
        found: Mapping[str, Any] = COORDINATED(self._admin.list_group_offsets, asked) if asked else {}
        return {
            group: {Shard(*where): item.offset for where, item in offsets.items() if item.offset >= 0}
            for group, offsets in found.items()
        }

    def delete_groups(self, groups: Iterable[str]) -> None:
        """Forget groups and their committed offsets; absent ones are no error."""
        for group in groups:
            COORDINATED(self._delete_group, group)

    def _groups(self) -> set[str]:
        """The groups that there are."""
        return {group["group_id"] for group in COORDINATED(self._admin.list_groups)}

    def _delete_group(self, group: str) -> None:
        """Delete one; Kafka's client gives errors by name here instead of raising them."""
        result = self._admin.delete_groups([group])[group]
        kind = getattr(kafka.errors, str(result), None)
        if kind is not None and kind not in (NoError, GroupIdNotFoundError):
            raise kind(f"group {group} can't be deleted")

    def _offsets(self, shards: Sequence[Shard], spec: Any) -> dict[Shard, int]:
        wanted = {TopicPartition(*shard): spec for shard in shards}
        found = self._admin.list_partition_offsets(wanted) if wanted else {}
        return {Shard(*where): item.offset for where, item in found.items()}

    def _read_by(self, group: str) -> set[str]:
        """The streams that members of a group are assigned shards of, or have subscribed to."""
        members = COORDINATED(self._admin.describe_groups, [group])[group]["members"]
        streams: set[str] = set()
        for member in members:
            metadata = member.get("member_metadata") or {}
            if isinstance(metadata, Mapping):
                streams.update(metadata.get("topics") or [])
        return streams

    def _wait_until_gone(self, stream: str) -> None:
        @retry(
            retry=retry_if_not_result(lambda found: found is None),
            wait=wait_fixed(0.1),
            stop=stop_after_delay(SETTLE_S),
        )
        def look() -> StreamDescription | None:
            return self.describe(stream)

        look()


@contextlib.contextmanager
def _reading(servers: str, shards: Sequence[Shard]) -> Iterator[StreamConsumer]:
    consumer = StreamConsumer(servers, streams=[], group=None, client_id="millstream-admin-reader")
    try:
        consumer.assign(shards)
        yield consumer
    finally:
        consumer.close()


def _last_of(
    consumer: StreamConsumer,
    starts: Mapping[Shard, int],
    ends: Mapping[Shard, int],
    is_meant: Callable[[Record], bool],
) -> dict[Shard, Record]:
    """The last meant record of each shard at or after its start."""
    found: dict[Shard, Record] = {}
    consumer.assign(starts)
    for shard, offset in starts.items():
        consumer.seek(shard, offset)
    for _, batch in read_to(consumer, {shard: ends[shard] for shard in starts}, SILENT_S):
        for shard, records in batch.items():
            last = next(filter(is_meant, reversed(records)), None)
            if last is not None:
                found[shard] = last
    return found
