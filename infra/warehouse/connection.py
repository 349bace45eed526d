"""Connections to the warehouse's PostgreSQL server, and its errors in one line.

The only importer of ADBC, which takes and gives Arrow tables by PostgreSQL's binary COPY.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from adbc_driver_manager import dbapi
from adbc_driver_postgresql.dbapi import connect  # type: ignore[import-untyped]  # it ships no types

from infra.contracts.errors import UserError
from infra.settings import Settings
from infra.warehouse.contract import WarehouseUnavailableError

CONNECT_WITHIN_S = 10
LATER = (
    "starting up",
    "shutting down",
    "recovery",
    "too many",
    "remaining connection slots",
    "not yet accepting",
)
"""What a server that answers says when it takes no connection now, but will."""
LOST = ("server closed the connection", "no connection to the server", "could not receive", "could not send")
PASSING_STATES = ("08", "40", "53", "55P03", "57P")
"""How SQLSTATEs begin that pass: connection, deadlock, no space or too many, lock not had, shutdown."""

Connection = dbapi.Connection
Cursor = dbapi.Cursor
DatabaseFailure = dbapi.Error


class PostgresServer:
    """Where the warehouse's tables are. `address` is without the password, which no error tells."""

    def __init__(self, settings: Settings) -> None:
        """Raises UserError unless settings.warehouse is postgresql://user@host:port/database."""
        self.address = _checked(settings.warehouse)
        parts = urlsplit(settings.warehouse)
        options = {"connect_timeout": str(CONNECT_WITHIN_S), "application_name": "millstream"}
        options |= dict(parse_qsl(parts.query))
        if settings.warehouse_password:
            options["password"] = settings.warehouse_password
        self._url = urlunsplit(parts._replace(query=urlencode(options)))

    @contextmanager
    def connected(self) -> Iterator[tuple[Connection, Cursor]]:
        """A connection in a transaction, which is undone at the end unless it was committed.

        Raises WarehouseUnavailableError when the server does not answer, UserError when it lets nobody in;
        a DatabaseFailure of the block is the block's, which can make a UserError of it by `failure`.
        """
        try:
            connection = connect(self._url)
        except DatabaseFailure as error:
            raise self._refused(error) from error
        with connection, connection.cursor() as cursor:
            yield connection, cursor

    def failure(self, error: DatabaseFailure, what: str, kind: type[UserError] = UserError) -> UserError:
        """What to raise for a failure of a block, in one line that begins with `what`.

        A WarehouseUnavailableError when the server went away or can't now, otherwise of a kind.
        """
        if is_passing(error):
            kind = WarehouseUnavailableError
        return kind(f"{what}: {in_words(error)}")

    def _refused(self, error: DatabaseFailure) -> UserError:
        text = in_words(error)
        answered = "FATAL:" in text or "password" in text
        if not answered or any(words in text for words in LATER):
            return WarehouseUnavailableError(f"the warehouse {self.address} can't be reached: {text}")
        if "password" in text:
            text = "the password is wrong or missing: set MILLSTREAM_WAREHOUSE_PASSWORD"
        return UserError(
            f"the warehouse {self.address} lets nobody in: {text.rpartition('FATAL: ')[2].strip()}"
        )


def in_words(error: DatabaseFailure) -> str:
    """What the server says is wrong, in one line."""
    said = _diagnosis(error)
    if "MESSAGE_PRIMARY" not in said:
        return " ".join(str(error).partition("[libpq] ")[2].split() or str(error).split())
    text = "; ".join(said[name] for name in ("MESSAGE_PRIMARY", "MESSAGE_DETAIL") if name in said)
    return " ".join(text.split())


def _diagnosis(error: DatabaseFailure) -> dict[str, str]:
    found = {}
    for key, value in error.details or []:
        name = key.decode() if isinstance(key, bytes) else key
        found[name.removeprefix("PG_DIAG_")] = value.decode(errors="replace")
    return found


def is_passing(error: DatabaseFailure) -> bool:
    """Whether the same may work a moment later."""
    if error.sqlstate:
        return error.sqlstate.startswith(PASSING_STATES)
    return any(words in str(error) for words in LOST)


def _checked(url: str) -> str:
    """The address to show. The value itself is in no error: a password may be in it by mistake."""
    try:
        parts = urlsplit(url)
        whole = parts.hostname and parts.username and len(parts.path) > 1 and (parts.port or True)
    except ValueError:
        whole = False
    if not whole or parts.scheme not in ("postgresql", "postgres"):
        raise UserError("MILLSTREAM_WAREHOUSE must be postgresql://user@host:port/database")
    if parts.password is not None or "password" in dict(parse_qsl(parts.query)):
        raise UserError(
            "MILLSTREAM_WAREHOUSE holds a password: give it as MILLSTREAM_WAREHOUSE_PASSWORD instead"
        )
    return urlunsplit(parts._replace(query=""))
