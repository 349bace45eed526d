"""Running one step: its spark-submit command, its controller log, and what its end means."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra import objects
from infra.cluster import logs, spark_conf
from infra.cluster.code import upload
from infra.cluster.journal import Journal
from infra.cluster.model import Cluster, Instance, Step
from infra.cluster.nodes import DRIVER, Nodes
from infra.cluster.request import spark_arguments
from infra.contracts.errors import FailedError, UserError
from infra.local.ports import free_ports
from infra.objects import ObjectStore
from infra.settings import Settings


class StepRunner:
    """Runs steps of a cluster, one at a time, with the driver on the master node."""

    def __init__(self, cluster: Cluster, settings: Settings, journal: Journal, nodes: Nodes) -> None:
        self._cluster, self._settings, self._journal, self._nodes = cluster, settings, journal, nodes
        self._store = ObjectStore(settings)
        self._code = ""

    def start(self, step: Step, at: float) -> None:
        """Start a pending step. A script that isn't there or an S3 that is away fails it at once."""
        step.state, step.started_at = "RUNNING", at
        folder = self._journal.step_folder(step.id)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            (step.ui_port,) = free_ports(1)
            command = self._command(step)
        except (UserError, FailedError) as error:
            self.finish(step, at, "FAILED", str(error))
            return
        self._controller(step, at, f"INFO startExec '{shlex.join(command)}'")
        self._nodes.run(self._cluster.master, DRIVER, command, folder / "stdout", folder / "stderr")

    def _command(self, step: Step) -> list[str]:
        options, script, arguments = spark_arguments(step.args)
        self._check(script)
        with _told("the project's code could not be put into S3"):
            self._code = self._code or upload(self._store, self._settings)
        return [
            str(spark_conf.spark_home() / "bin" / "spark-submit"),
            *("--name", step.name),
            *("--conf", f"spark.ui.port={step.ui_port}"),
            *_with_code(options, self._code),
            script,
            *arguments,
        ]

    def _check(self, script: str) -> None:
        with _told(f"the script {script} could not be looked for"):
            in_s3 = script.startswith(("s3://", "s3a://"))
            there = self._store.exists(script) if in_s3 else Path(script).is_file()
        if not there:
            raise UserError(f"the script {script} does not exist")

    def exited(self, step: Step, exit_code: int, at: float) -> None:
        """The driver has ended: COMPLETED on 0, otherwise FAILED with the reason from its stderr."""
        step.exit_code = exit_code
        if exit_code == 0:
            self.finish(step, at, "COMPLETED")
        else:
            why = logs.failure_message(self._journal.step_folder(step.id), exit_code)
            self.finish(step, at, "FAILED", why)

    def stop(self, step: Step, at: float, state: str, reason: str) -> None:
        """End a running step's processes and record the state that this leaves it in."""
        self._nodes.stop_task(self._cluster.master, DRIVER)
        self.finish(step, at, state, reason)

    def finish(self, step: Step, at: float, state: str, failure: str = "") -> None:
        """Record a step's end and put its logs."""
        took = at - (step.started_at or at)
        code = "" if step.exit_code is None else f" with exitCode {step.exit_code}"
        word = {"COMPLETED": "INFO Step succeeded", "FAILED": "ERROR Step failed"}.get(state, f"WARN {state}")
        self._controller(step, at, f"{word}{code} and took {took:.0f} seconds {failure}".rstrip())
        step.end(state, at, failure)
        logs.upload_step(self._store, self._cluster, self._journal, step)

    def _controller(self, step: Step, at: float, text: str) -> None:
        folder = self._journal.step_folder(step.id)
        folder.mkdir(parents=True, exist_ok=True)
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
        with (folder / "controller").open("a") as file:
            file.write(f"{stamp} {text}\n")

    def bootstrap_folder(self, node: Instance, number: int) -> Path:
        """Where a node's bootstrap action number 1, 2, ... writes its output."""
        folder = self._journal.node_folder(node.id) / "bootstrap-actions" / str(number)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def upload_node_logs(self) -> None:
        """Put the logs of the nodes; the last thing that a cluster does."""
        logs.upload_nodes(self._store, self._cluster, self._journal)

    def fetch(self, path: str, node: Instance) -> Path:
        """A bootstrap action's script as a local file.

        Raises UserError when there is none, FailedError when S3 does not give it.
        """
        self._check(path)
        if not path.startswith(("s3://", "s3a://")):
            return Path(path)
        local = self._journal.node_folder(node.id) / "bootstrap-actions" / Path(path).name
        local.parent.mkdir(parents=True, exist_ok=True)
        with _told(f"the script {path} could not be read"):
            local.write_bytes(self._store.get(path))
        return local


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Within the block, S3 or a disk that fails is a FailedError of one line that begins with `what`."""
    try:
        yield
    except UserError:
        raise  # it says what is wrong in its own words
    except objects.FAILURES as error:
        raise FailedError(f"{what}: {' '.join(str(error).split())}") from error


def _with_code(options: list[str], code: str) -> list[str]:
    """The options with the project's code among the `--py-files`."""
    if "--py-files" not in options:
        return [*options, "--py-files", code]
    at = options.index("--py-files") + 1
    return [*options[:at], f"{options[at]},{code}", *options[at + 1 :]]
