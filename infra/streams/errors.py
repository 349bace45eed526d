"""What can go wrong with streams, by Kinesis' names where it has one."""


class KafkaUnavailableError(Exception):
    """No broker of the cluster answered in time."""


class InvalidArgumentException(Exception):  # noqa: N818  (Kinesis' own name)
    """A record that no shard takes: larger than 1 MiB, or its key has not 1 to 256 characters."""


class ProvisionedThroughputExceededException(Exception):  # noqa: N818  (Kinesis' own name)
    """The shard has taken all that its limits allow now; put the record again after `wait_s` seconds."""

    def __init__(self, message: str, wait_s: float) -> None:
        super().__init__(message)
        self.wait_s = wait_s


class PutFailedError(Exception):
    """A record that was put could not be written; nothing after it in its shard should be put."""


class StreamInUseError(Exception):
    """A consumer reads the stream, so its shards can't change; the text names the groups."""


class FencedError(Exception):
    """Another process has taken over: a transactional id, or this consumer's place in its group."""


class IdTakenError(FencedError):
    """Another process has a producer of the same transactional id."""


class TransactionFailedError(Exception):
    """A transaction can't be completed; close its producer and begin anew from the committed offsets."""


class OffsetOutOfRangeError(Exception):
    """A committed offset is no longer in the shard; the text has both numbers. Never reset in silence."""
