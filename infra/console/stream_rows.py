"""The rows of the streams page: what Kafka says of streams, with the bytes that producers say they put."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from infra.console.state import StreamState
from infra.streams.limits import BYTES_PER_S, RECORDS_PER_S
from infra.streams.records import Shard


@dataclass(frozen=True)
class ShardRow:
    """A shard; `bytes_per_s` is None where no producer that counts them runs. `share` is of its limit."""

    number: int
    end: int
    records_per_s: float
    bytes_per_s: float | None
    share: float
    lag: Mapping[str, int]


@dataclass(frozen=True)
class StreamRow:
    """A stream. `share` is its fullest shard's, `lag` by consumer group over all shards."""

    name: str
    shards: tuple[ShardRow, ...]
    lag: Mapping[str, int]

    @property
    def records_per_s(self) -> float:
        """Over all shards."""
        return sum(shard.records_per_s for shard in self.shards)

    @property
    def bytes_per_s(self) -> float | None:
        """The same of bytes, None where they are not known."""
        known = [shard.bytes_per_s for shard in self.shards if shard.bytes_per_s is not None]
        return sum(known) if known else None

    @property
    def share(self) -> float:
        """The fullest shard's share of its limit."""
        return max((shard.share for shard in self.shards), default=0.0)

    @property
    def end(self) -> int:
        """The shards' offsets, added up."""
        return sum(shard.end for shard in self.shards)


def stream_rows(streams: Iterable[StreamState], put_bytes_per_s: Mapping[Shard, float]) -> list[StreamRow]:
    """A row for each stream, in their order."""
    return [
        StreamRow(
            name=stream.name,
            shards=tuple(
                ShardRow(
                    number=shard.number,
                    end=shard.end,
                    records_per_s=shard.records_per_s,
                    bytes_per_s=(size := put_bytes_per_s.get(Shard(stream.name, shard.number))),
                    share=max(shard.records_per_s / RECORDS_PER_S, (size or 0.0) / BYTES_PER_S),
                    lag={group: lags.get(shard.number, 0) for group, lags in stream.lag.items()},
                )
                for shard in stream.shards
            ),
            lag={group: sum(lags.values()) for group, lags in stream.lag.items()},
        )
        for stream in streams
    ]
