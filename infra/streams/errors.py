"""What can go wrong with streams, by Kinesis' names where it has one."""


class KafkaUnavailableError(Exception):
    """No broker of the cluster answered in time."""


class InvalidArgumentException(Exception):  # noqa: N818  (Kinesis' own name)
    """A record that no shard takes: larger than 1 MiB, or its key has not 1 to 256 characters."""


class ProvisionedThroughputExceededException(Exception):  # noqa: N818  (Kinesis' own name)
    """The shard has taken all that its limits allow in this second; put the record again later."""


class PutFailedError(Exception):
    """A record that was put could not be written; nothing after it in its shard should be put."""


class FencedError(Exception):
    """Another process has taken over: a transactional id, or this consumer's place in its group."""


class TransactionFailedError(Exception):
    """A transaction can't be completed; close its producer and begin anew from the committed offsets."""


class OffsetOutOfRangeError(Exception):
    """A committed offset is no longer in the shard; the text has both numbers. Never reset in silence."""
