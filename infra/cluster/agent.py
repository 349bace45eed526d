"""The agent of one node in a container: runs there what a cluster's manager orders.

`python -m infra.cluster.agent`, one in each node's container. Manager and agent share the home's
volume and nothing else: no port takes commands, and nobody needs the container engine.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import socket
from pathlib import Path
from typing import TypeVar

import click
import msgspec
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from infra.cluster import spark_conf
from infra.cluster.journal import is_held
from infra.contracts.errors import UserError
from infra.metrics import Metrics
from infra.process import run_command, stop_on_signals
from infra.settings import Settings
from infra.supervisor import Supervisor

Kind = TypeVar("Kind", bound=msgspec.Struct)
TICK_S = 0.2
GRACE_S = 8.0


class Task(msgspec.Struct, frozen=True):
    """One command to be run on the node. `id` is new for every start; paths are the same on all nodes."""

    id: str
    command: list[str]
    output: str
    errors: str | None = None


class Order(msgspec.Struct, frozen=True):
    """All that shall run on a node now, with the cluster's Spark configuration.

    It is for one life of the agent: what a container did before it was started again is not done twice.
    """

    life: str
    conf: str
    tasks: list[Task] = []


class State(msgspec.Struct):
    """What an agent says of itself: which of its life's tasks run, and how others ended."""

    life: str
    running: list[str] = []
    ended: dict[str, int] = {}


class Link:
    """A node's folder, where an order and the agent's state are: `<home>/run/nodes/<host>/`."""

    def __init__(self, home: Path, host: str) -> None:
        self.folder = home / "run" / "nodes" / host
        self._order, self._state, self._lock = (
            self.folder / name for name in ("order.json", "agent.json", "agent.lock")
        )

    def state(self) -> State | None:
        """What the agent says; None while none lives: it holds a lock for as long as it does."""
        return _read(self._state, State) if is_held(self._lock) else None

    def order(self) -> Order | None:
        """What was ordered last."""
        return _read(self._order, Order)

    def give(self, order: Order) -> None:
        """Order; a reader sees the old order or the new one. An agent that has just left gets none."""
        with contextlib.suppress(FileNotFoundError):
            _write(self._order, order)

    def tell(self, state: State) -> None:
        """Say how things are; the agent's alone."""
        _write(self._state, state)

    def hold(self) -> int:
        """Take the agent's lock until the process ends. Raises BlockingIOError if another agent lives."""
        self.folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT, 0o600)
        # Whoever looks whether an agent lives holds the lock for an instant.
        trying = Retrying(
            retry=retry_if_exception_type(BlockingIOError),
            wait=wait_fixed(0.1),
            stop=stop_after_delay(2),
            reraise=True,
        )
        trying(fcntl.flock, descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._state.unlink(missing_ok=True)  # what an agent before this one said
        return descriptor

    def leave(self) -> None:
        """Remove the folder: nobody serves here any more."""
        shutil.rmtree(self.folder, ignore_errors=True)


class Agent:
    """Makes what runs here what the order says."""

    def __init__(self, settings: Settings, link: Link, host: str) -> None:
        self._settings, self._link, self._host = settings, link, host
        self._supervisor = Supervisor(f"agent-{host}")
        self.state = State(secrets.token_hex(8))
        self._started: set[str] = set()

    def step(self) -> None:
        """See what has ended, end what is not ordered any more, start what is new."""
        before = msgspec.json.encode(self.state)
        for child in self._supervisor.ended():
            self.state.ended[child.name] = child.process.returncode
        order = self._link.order()
        tasks = order.tasks if order is not None and order.life == self.state.life else ()
        wanted = {task.id for task in tasks}
        for name in [name for name in self._supervisor.children if name not in wanted]:
            self._supervisor.stop(self._supervisor.children[name], GRACE_S)
        for task in tasks:
            if order is not None and task.id not in self._started:
                self._start(task, Path(order.conf))
        self.state.running = sorted(self._supervisor.children)
        if msgspec.json.encode(self.state) != before:
            self._link.tell(self.state)

    def close(self) -> None:
        """End everything."""
        self._supervisor.stop_all(GRACE_S)

    def _start(self, task: Task, conf: Path) -> None:
        self._started.add(task.id)
        output = Path(task.output)
        self._supervisor.start(
            task.id,
            task.command,
            log=output,
            errors=Path(task.errors) if task.errors else None,
            environment=spark_conf.environment(self._settings, conf, self._host),
            cwd=output.parent,
        )


@click.command()
@click.option(
    "--host", default=socket.gethostname, help="The node's address  [default: the container's name]"
)
def main(host: str) -> None:
    """Run on this node what managers order, until SIGTERM."""
    settings = Settings.load()
    link = Link(settings.home, host)
    try:
        link.hold()
    except BlockingIOError as error:
        raise UserError(
            f"another agent serves as {host} in {settings.home}; end it, or give --host"
        ) from error
    agent = Agent(settings, link, host)
    link.tell(agent.state)
    with stop_on_signals() as stop, Metrics(f"node-{host}").serve(settings, lambda: None):
        try:
            while not stop.wait(TICK_S):
                agent.step()
        finally:
            agent.close()
            link.leave()


def _read(path: Path, kind: type[Kind]) -> Kind | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        return None


def _write(path: Path, value: msgspec.Struct) -> None:
    draft = path.with_suffix(".new")
    draft.write_bytes(msgspec.json.encode(value))
    draft.replace(path)


if __name__ == "__main__":
    run_command(main)
