"""The Compose stack of this checkout, seen from outside: is it up, what runs in it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from python_on_whales import DockerClient
from python_on_whales.exceptions import DockerException

from infra.contracts.errors import UserError
from infra.settings import ROOT, Settings

FILE = ROOT / "docker-compose.yml"
PROJECT = "millstream"
JOB = "job"
KEEPER = "cluster-manager"
"""A service that always runs and has the home's volume: files are read through it."""
HOME = "/var/lib/millstream"


@dataclass(frozen=True)
class Stack:
    """A stack that is up."""

    project: str

    @property
    def docker(self) -> DockerClient:
        """The Docker client, set to this stack and to the services that only jobs use."""
        return DockerClient(compose_files=[FILE], compose_project_name=self.project, compose_profiles=[JOB])

    def command(self, *words: str) -> list[str]:
        """A `docker compose` command line for this stack."""
        return [*map(str, self.docker.compose.docker_compose_cmd), *words]

    def job(self, words: Sequence[str], environment: Sequence[str] = (), *, terminal: bool) -> list[str]:
        """The command line that runs Python with `words` in a job's container.

        `environment` are settings of its own, NAME=value.
        """
        settings = [word for setting in environment for word in ("--env", setting)]
        return self.command(
            "run", "--rm", *([] if terminal else ["--no-TTY"]), *settings, JOB, "python", *words
        )

    def run(self, service: str, *words: str) -> bytes:
        """Run a command in a service's container; its output. Raises UserError when it fails."""
        return self._output("exec", "--no-TTY", service, *words)

    def run_compose(self, *words: str) -> str:
        """Run a `docker compose` command; its output in one line. Raises UserError when it fails."""
        return self._output(*words).decode().strip()

    def _output(self, *words: str) -> bytes:
        done = subprocess.run(self.command(*words), stdin=subprocess.DEVNULL, capture_output=True)
        if done.returncode:
            why = done.stderr.decode(errors="replace").strip().splitlines() or ["it said nothing"]
            raise UserError(f"the stack {self.project} does not answer: {why[-1]}; see `docker compose ps`")
        return done.stdout


def find_stack(settings: Settings) -> Stack | None:
    """The stack of this checkout's docker-compose.yml that runs now, or None.

    Raises UserError when there are several, none has the file's own name, and the settings choose none.
    """
    if shutil.which("docker") is None:
        return None
    try:
        projects = DockerClient().compose.ls()
    except DockerException:
        return None  # no engine runs, or it may not be used: so nothing of ours does either
    names = sorted(
        project.name or ""
        for project in projects
        if project.running and FILE in [path.resolve() for path in project.config_files or ()]
    )
    if settings.compose_project:
        names = [name for name in names if name == settings.compose_project]
    if PROJECT in names:
        return Stack(PROJECT)
    if len(names) > 1:
        raise UserError(
            f"several stacks run: {', '.join(names)}; choose one by COMPOSE_PROJECT_NAME={names[0]}"
        )
    return Stack(names[0]) if names else None
