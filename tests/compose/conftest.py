"""A stack of this checkout under a name of its own, with free ports; removed with its volumes afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.local.ports import free_ports
from infra.settings import ROOT

PROJECT, IMAGE = "millstream-test", "millstream:test"
ALL = ("--profile", "metrics", "--profile", "replicated", "--profile", "webhook", "--profile", "job")
UP_WITHIN_S, RUN_WITHIN_S = 1200, 1500


@dataclass(frozen=True)
class RunningStack:
    """The stack that tests use, and the home of whoever uses it from outside."""

    environment: Mapping[str, str]
    home: Path

    def compose(self, *words: str, within_s: float = 300, check: bool = True) -> str:
        """Run `docker compose ...` for this stack; its output."""
        return self._run(["docker", "compose", *words], within_s, check)

    def make(self, *words: str, within_s: float = RUN_WITHIN_S, check: bool = True) -> str:
        """Run `make ...` as a user would; its output."""
        return self._run(["make", *words], within_s, check)

    def inside(self, service: str, *words: str) -> str:
        """Run a command in a service's container; its output."""
        return self.compose("exec", "--no-TTY", service, *words)

    def sql(self, query: str) -> str:
        """Ask PostgreSQL itself; rows as lines, columns divided by |."""
        return self.inside(
            "postgres", "psql", "-At", "-U", "millstream", "-d", "millstream", "-c", query
        ).strip()

    def running(self) -> dict[str, str]:
        """The state of each service's container, by service."""
        lines = self.compose("ps", "-a", "--format", "{{.Service}} {{.State}} {{.Health}}").splitlines()
        return {line.split()[0]: " ".join(line.split()[1:]) for line in lines}

    def up(self) -> None:
        """Start what does not run and wait until all is well."""
        self.compose("up", "-d", "--wait", within_s=UP_WITHIN_S)

    def _run(self, command: list[str], within_s: float, check: bool) -> str:
        done = subprocess.run(
            command, cwd=ROOT, env=self.environment, text=True, timeout=within_s,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"{' '.join(command)}:\n{done.stdout[-6000:]}"
        return done.stdout


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[RunningStack]:
    """Build the image, start the stack and wait until it is well. Logs are shown if a test fails."""
    home = tmp_path_factory.mktemp("outside") / "home"
    names = ("S3_PORT", "WAREHOUSE_PORT", "CONSOLE_PORT", "PROMETHEUS_PORT")
    ports = {name: str(port) for name, port in zip(names, free_ports(len(names)), strict=True)}
    own = {
        "COMPOSE_PROJECT_NAME": PROJECT,
        "MILLSTREAM_IMAGE": IMAGE,
        "MILLSTREAM_HOME": str(home),
        "RATE": "50",
        **ports,
    }
    outer = {
        name: text for name, text in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    }
    running = RunningStack({**outer, **own}, home)
    engine = subprocess.run(["docker", "info"], capture_output=True, text=True)
    if engine.returncode:
        pytest.fail(f"no container engine: {engine.stderr.strip() or 'see `make doctor`'}")
    failed_before = request.session.testsfailed
    running.compose(*ALL, "down", "-v", "--remove-orphans")
    try:
        running.compose("build", within_s=UP_WITHIN_S)
        running.up()
        yield running
    finally:
        if request.session.testsfailed > failed_before or sys.exc_info()[0]:
            print(running.compose("logs", "--no-color", "--tail", "60", check=False)[-30_000:])
        running.compose(*ALL, "down", "-v", "--remove-orphans", check=False)
