"""Commands to a running manager: one JSON line each way over a Unix socket in the cluster's folder."""

from __future__ import annotations

import json
import os
import selectors
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from infra.contracts.errors import UserError

SOCKET = "manager.sock"
ANSWER_WITHIN_S = 60.0  # ending a step's processes may take its grace period
Handler = Callable[[str, dict[str, Any]], dict[str, Any]]


class ControlServer:
    """The manager's side; `serve` is called again and again from its only thread."""

    def __init__(self, folder: Path, handler: Handler) -> None:
        """`handler(operation, parameters)` gives the answer; a UserError it raises reaches the caller."""
        self._handler = handler
        self._listener = socket.socket(socket.AF_UNIX)
        (folder / SOCKET).unlink(missing_ok=True)
        self._listener.bind(socket_address(folder))
        self._listener.listen()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)

    def serve(self, timeout_s: float) -> None:
        """Wait up to `timeout_s` for a command and answer it."""
        if not self._selector.select(timeout_s):
            return
        connection, _ = self._listener.accept()
        with connection, connection.makefile("rw") as stream:
            connection.settimeout(5.0)
            try:
                line = stream.readline()
                if line:
                    stream.write(json.dumps(self._answer(json.loads(line))) + "\n")
            except OSError:
                return  # the caller went away; it can ask again

    def _answer(self, message: dict[str, Any]) -> dict[str, Any]:
        try:
            return {"result": self._handler(message["operation"], message["parameters"])}
        except UserError as error:
            return {"error": str(error)}


def call(folder: Path, operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """Send a command to the manager of a cluster's folder. Raises ConnectionError when none is there."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(ANSWER_WITHIN_S)
        try:
            connection.connect(socket_address(folder))
        except FileNotFoundError as error:
            raise ConnectionRefusedError(str(folder)) from error
        with connection.makefile("rw") as stream:
            stream.write(json.dumps({"operation": operation, "parameters": parameters}) + "\n")
            stream.flush()
            line = stream.readline()
    if not line:
        raise ConnectionResetError(str(folder))
    answer: dict[str, Any] = json.loads(line)
    if "error" in answer:
        raise UserError(answer["error"])
    result: dict[str, Any] = answer["result"]
    return result


def socket_address(folder: Path) -> str:
    """A path to the folder's socket that is short enough to bind (a socket's path has 107 bytes).

    On Linux a long one goes by way of an open descriptor of the folder, kept for the process's life.
    """
    path = str(folder / SOCKET)
    if len(path.encode()) < 100 or sys.platform != "linux":
        return path
    return f"/proc/self/fd/{os.open(folder, os.O_PATH | os.O_DIRECTORY)}/{SOCKET}"
