"""The kinds of failure: a user's mistake, failed work, a bad record, a passing trouble. All else is a bug."""


class UserError(Exception):
    """A mistake that its user can mend: one line that says what is wrong and what to do.

    Every entry point prints it without a traceback and exits with 2; anything else is a bug.
    """


class FailedError(Exception):
    """Work that can't go on although nobody made a mistake, such as a job that failed: what, and why.

    Every entry point prints it without a traceback and exits with 1.
    """


class PoisonRecordError(Exception):
    """A record that can never be used, however often it is tried; its owner sets it aside.

    The text is the reason, in one line.
    """


class TransientError(Exception):
    """Something that may work a moment later: tried again with backoff, up to a limit."""


class TooManyBadRecordsError(FailedError):
    """So many bad records in a row that the stream itself is wrong; the consumer stops before draining it."""
