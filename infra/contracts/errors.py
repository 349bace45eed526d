"""The one error that is a user's mistake."""


class UserError(Exception):
    """A mistake that its user can mend: one line that says what is wrong and what to do.

    Every entry point prints it without a traceback and exits with 2; anything else is a bug.
    """
