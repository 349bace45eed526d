"""make as the only door: it names what it does not know."""

from __future__ import annotations

import subprocess

from infra.settings import ROOT


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run make, without running a recipe."""
    return subprocess.run(["make", "-n", *arguments], cwd=ROOT, text=True, capture_output=True)


def test_an_unknown_variable_is_refused() -> None:
    """A mistyped variable, or one of another target, is refused with those there are."""
    done = make("batch-job", "ROW=5")
    assert done.returncode == 2
    assert "make batch-job has no variable ROW; it has PYTHON STACK CLUSTER ROWS SEED" in done.stderr
    assert "make reconcile has no variable RATE;" in make("reconcile", "RATE=5").stderr
    assert make("reconcile", "stream-demo", "RATE=5").returncode == 0


def test_known_variables_and_settings_are_taken() -> None:
    """Variables of targets reach their command; settings may be given to make too."""
    done = make("stream-demo", "RATE=5", "MILLSTREAM_HOME=/nowhere", "KAFKA_BROKERS=3")
    assert done.returncode == 0, done.stderr
    assert "--rate '5'" in done.stdout
    assert "--seconds" not in done.stdout
