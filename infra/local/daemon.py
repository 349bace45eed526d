"""The process that owns the embedded servers of one home, for as long as somebody needs them.

`python -m infra.local.daemon`, started by infra.local.servers. Each open connection to its socket is a
lifeline: the servers live while there is one, or after `keep` until SIGTERM. It holds a lock for its
life, so a home has one; whoever finds the lock taken exits with EXIT_TAKEN.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import logging
import os
import selectors
import socket
import time
from pathlib import Path

import psutil

from infra import wire
from infra.contracts.errors import UserError
from infra.local import kafka, s3
from infra.local.places import Places
from infra.local.running import RunningService, StartFailedError
from infra.local.service import Service, ServiceState
from infra.memory import HOME
from infra.process import run
from infra.settings import Settings
from infra.supervisor import Supervisor, end_marked

EXIT_TAKEN = 75
FIRST_CLIENT_S = 15.0  # whoever started the daemon may have died before it connected
TICK_S = 0.5
# Nothing else, or the servers read somebody's AWS_* and WEED_*; by the last they are known as the home's.
PASSED_ON = ("PATH", "HOME", "TMPDIR", "TZ", HOME)
log = logging.getLogger("servers")


def main() -> int:
    """Own the servers of the home that the settings name, until nobody needs them."""
    settings = Settings.load()
    places = Places(settings.home)
    places.run.mkdir(parents=True, exist_ok=True, mode=0o700)
    with places.lock.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return EXIT_TAKEN
        # Connections of leaving clients close last: they wait for that.
        with contextlib.ExitStack() as leaving:
            _own(settings, places, leaving)
            fcntl.flock(lock, fcntl.LOCK_UN)
    return 0


def _own(settings: Settings, places: Places, leaving: contextlib.ExitStack) -> None:
    mark = mark_of(settings.home)
    supervisor = Supervisor(mark)
    write_record(places.record, [])
    end_marked(mark, s3.STOP_WITHIN_S)  # what a killed daemon may have left
    with wire.listen(places.socket) as listener:
        daemon = Daemon(settings, supervisor, listener, leaving)
        try:
            daemon.serve()
        finally:
            places.socket.unlink(missing_ok=True)
            listener.close()
            daemon.stop()
            places.record.unlink(missing_ok=True)
            log.info("stopped")


def mark_of(home: Path) -> str:
    """What marks the processes of this home's servers (a digest, because no mark may begin another)."""
    return f"servers-{hashlib.sha256(os.fsencode(home)).hexdigest()[:16]}"


def write_record(path: Path, states: list[ServiceState]) -> None:
    """Say in a file who the daemon is (pid and start time) and what runs; replaced as a whole."""
    own = psutil.Process()
    record = {
        "pid": own.pid,
        "started": own.create_time(),
        "services": [dataclasses.asdict(state) for state in states],
    }
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps(record, indent=1))
    draft.replace(path)


class Daemon:
    """The loop: clients come, ask and leave; children that die are noticed."""

    def __init__(
        self,
        settings: Settings,
        supervisor: Supervisor,
        listener: socket.socket,
        leaving: contextlib.ExitStack,
    ) -> None:
        self._settings = settings
        self._supervisor = supervisor
        self._listener = listener
        self._leaving = leaving
        self._record = Places(settings.home).record
        self._clients: dict[socket.socket, bytes] = {}
        self._keep = False
        self._brokers = 0
        self._states: list[ServiceState] = []
        everything = settings.environment()
        environment = {key: everything[key] for key in PASSED_ON if key in everything}
        self._services = {
            s3.NAME: RunningService(supervisor, self._define_s3, environment),
            kafka.NAME: RunningService(supervisor, self._define_kafka, environment),
        }

    def serve(self) -> None:
        """Answer clients until the last one leaves (or none ever comes)."""
        alone_until = time.monotonic() + FIRST_CLIENT_S
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            while self._wanted() or time.monotonic() < alone_until:
                for key, _ in selector.select(TICK_S):
                    if key.fileobj is self._listener:
                        self._welcome(selector)
                        alone_until = 0
                    elif isinstance(key.fileobj, socket.socket):
                        self._hear(key.fileobj, selector)
                self._note_states()

    def stop(self) -> None:
        """End all servers, and remove what they left outside the home."""
        self._services[s3.NAME].stop(s3.STOP_WITHIN_S)
        self._supervisor.stop_all()
        for service in self._services.values():
            service.clear()

    def _wanted(self) -> bool:
        return self._keep or bool(self._clients)

    def _welcome(self, selector: selectors.BaseSelector) -> None:
        connection, _ = self._listener.accept()
        self._clients[connection] = b""
        selector.register(connection, selectors.EVENT_READ)

    def _hear(self, connection: socket.socket, selector: selectors.BaseSelector) -> None:
        """Answer the requests that have arrived; no more bytes, or a broken connection: it left."""
        try:
            received = connection.recv(65536)
            *lines, self._clients[connection] = (self._clients[connection] + received).split(b"\n")
            for line in lines:
                connection.sendall(wire.encode(self._answer(json.loads(line))))
        except ConnectionError:
            received = b""
        if not received:
            del self._clients[connection]
            selector.unregister(connection)
            if self._wanted():
                connection.close()
            else:
                self._leaving.enter_context(connection)

    def _answer(self, request: wire.Message) -> wire.Message:
        """The answer to {"need": [...], "brokers": n}, {"keep": true} or {"status": true}."""
        try:
            if "need" in request:
                self._check_brokers(request)
                return {"endpoints": {name: self._services[name].ensure() for name in request["need"]}}
        except StartFailedError as error:
            log.warning("%s", error)
            return {"error": str(error), "lines": error.lines}
        except (UserError, OSError) as error:
            log.warning("%s", error)
            return {"error": str(error), "lines": []}
        self._keep = self._keep or "keep" in request
        return {"services": [dataclasses.asdict(state) for state in self._current()]}

    def _check_brokers(self, request: wire.Message) -> None:
        if kafka.NAME in request["need"]:
            wanted: int = request["brokers"]
            if self._services[kafka.NAME].service is not None and wanted != self._brokers:
                raise UserError(
                    f"Kafka runs with {self._brokers} broker(s), not {wanted}; run `make down` first"
                )
            self._brokers = wanted

    def _define_s3(self) -> Service:
        return s3.service(self._settings, s3.choose_ports())

    def _define_kafka(self) -> Service:
        return kafka.service(self._settings, kafka.choose_ports(self._brokers))

    def _current(self) -> list[ServiceState]:
        return [state for service in self._services.values() if (state := service.state())]

    def _note_states(self) -> None:
        states = self._current()
        if states != self._states:
            log.info("%s", ", ".join(f"{state.name} {state.state} at {state.endpoint}" for state in states))
            write_record(self._record, states)
            self._states = states


if __name__ == "__main__":
    run(main)
