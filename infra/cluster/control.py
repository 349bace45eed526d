"""Commands to a running manager: one request and one answer over a Unix socket in the cluster's folder."""

from __future__ import annotations

import contextlib
import json
import select
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from infra import wire
from infra.contracts.errors import UserError

ANSWER_WITHIN_S = 60.0  # ending a step's processes may take its grace period
REQUEST_WITHIN_S = 5.0
Handler = Callable[[str, dict[str, Any]], dict[str, Any]]


class ControlServer:
    """The manager's side; `serve` is called again and again from its only thread."""

    def __init__(self, path: Path, handler: Handler) -> None:
        """`handler(operation, parameters)` gives the answer; a UserError it raises reaches the caller."""
        self._handler, self._path = handler, path
        self._listener = wire.listen(path)

    def serve(self, timeout_s: float) -> None:
        """Wait up to `timeout_s` for a command and answer it.

        One whose caller has left meanwhile is not carried out: the caller may have asked again.
        """
        if not select.select([self._listener], [], [], timeout_s)[0]:
            return
        connection, _ = self._listener.accept()
        with connection, connection.makefile("rb") as reader, contextlib.suppress(OSError):
            connection.settimeout(REQUEST_WITHIN_S)
            line = reader.readline()
            if line.endswith(b"\n") and not _has_left(connection):
                connection.sendall(wire.encode(self._answer(json.loads(line))))

    def _answer(self, message: wire.Message) -> wire.Message:
        try:
            return {"result": self._handler(message["operation"], message["parameters"])}
        except UserError as error:
            return {"error": str(error)}

    def close(self) -> None:
        """Nobody is answered any more."""
        self._path.unlink(missing_ok=True)
        self._listener.close()


def _has_left(connection: socket.socket) -> bool:
    """Whether the caller has closed its side: one that waits sends nothing more."""
    # Looked at by select first: a socket with a time-out would wait in recv, whatever its flags.
    return bool(select.select([connection], [], [], 0)[0]) and not connection.recv(1, socket.MSG_PEEK)


def call(path: Path, operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """Send a command to the manager that listens at `path`.

    Raises OSError when none is there or it goes away, TimeoutError (one too) when it does not answer
    within ANSWER_WITHIN_S, UserError for what it refuses.
    """
    with contextlib.closing(wire.Channel(path)) as channel:
        answer = channel.ask({"operation": operation, "parameters": parameters}, ANSWER_WITHIN_S)
    if "error" in answer:
        raise UserError(answer["error"])
    result: dict[str, Any] = answer["result"]
    return result
