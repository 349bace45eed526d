"""Times as options of jobs."""

from __future__ import annotations

from datetime import UTC, datetime

from infra.contracts.errors import UserError


def utc_time(option: str, text: str) -> datetime:
    """A time from RFC 3339 text, in UTC. Raises UserError that names the option."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise UserError(f"{option} {text!r} is no time; write it as 2018-08-08T00:00:00Z") from error
    if time.tzinfo is None:
        raise UserError(f"{option} {text!r} has no zone; write it as {text}Z")
    return time.astimezone(UTC)
