"""Tells a listener about the shards that come and go, from within a consumer's calls."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Collection, Iterator
from typing import Any, Protocol

from kafka import TopicPartition
from kafka.consumer.subscription_state import AsyncConsumerRebalanceListener
from kafka.errors import KafkaError
from kafka.future import Future

from infra.streams.records import Shard


class Listener(Protocol):
    """Told about a member's shards while its owner is in `poll`.

    It is called in a thread beside the owner's, which waits for it; so it may use what the owner does,
    the consumer included.
    """

    def assigned(self, shards: Collection[Shard]) -> None:
        """These came in addition; seek each to where it shall be read from."""

    def revoked(self, shards: Collection[Shard]) -> None:
        """These go to another member when this returns: finish or abort what is open."""

    def lost(self, shards: Collection[Shard]) -> None:
        """These are another member's already: abort what is open, commit nothing."""


class Rebalances(AsyncConsumerRebalanceListener):  # type: ignore[misc]  # kafka ships no types
    """Kafka's listener interface for ours.

    Kafka calls it on its own I/O thread, where no call that waits for Kafka is possible and a slow one
    stops the heartbeat. So ours is called in a thread beside it, and only within `allowed`.
    """

    def __init__(self, listener: Listener | None, forget: Callable[[Collection[Shard]], None]) -> None:
        """`forget` is told about shards that are gone, after the listener."""
        self._listener, self._forget = listener, forget
        self._turn = threading.Lock()
        self._turn.acquire()
        self._failure: BaseException | None = None
        self.net: Any = None
        """The loop of Kafka's client, known once the client is made."""

    def silence(self) -> None:
        """Tell the listener nothing from now on."""
        self._listener = None

    @contextlib.contextmanager
    def allowed(self) -> Iterator[None]:
        """Let the listener be called within the block; what it raised is raised at its end."""
        self._turn.release()
        try:
            yield
        except KafkaError:
            if self._failure is None:
                raise
        finally:
            self._turn.acquire()
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """See Listener.revoked."""
        await self._tell("revoked", revoked)

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """See Listener.assigned."""
        await self._tell("assigned", assigned)

    async def on_partitions_lost(self, lost: Collection[TopicPartition]) -> None:
        """See Listener.lost."""
        await self._tell("lost", lost)

    async def _tell(self, what: str, where: Collection[TopicPartition]) -> None:
        shards = [Shard(*each) for each in sorted(where)]
        if shards and self._listener is not None:
            done = Future()
            threading.Thread(target=self._call, args=(what, shards, done), name=what, daemon=True).start()
            await done
        if what != "assigned":
            self._forget(shards)

    def _call(self, what: str, shards: list[Shard], done: Any) -> None:
        try:
            with self._turn:
                if self._failure is None:  # after a failure the owner has to act first
                    getattr(self._listener, what)(shards)
        except BaseException as error:  # raised again in the owner's thread, by `allowed`
            self._failure = error
        finally:
            self.net.call_soon_threadsafe(lambda: done.success(None))
