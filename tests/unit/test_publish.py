"""Publishing on local files: the pointer, run ids, old runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.contracts.errors import UserError
from infra.files import LocalFiles, address, below
from spark_jobs.publish import RUNS_KEPT, check_run, delete_old_runs, publish, read_pointer

STORE = LocalFiles()


@pytest.fixture
def output(tmp_path: Path) -> str:
    """An output address that holds nothing."""
    return address(str(tmp_path / "out")) + "/"


def _run(output: str, run: str) -> None:
    STORE.put(below(output, run, "table", "part-0.parquet"), b"x")


def _runs(output: str) -> list[str]:
    return sorted({item.url.removeprefix(output).split("/")[0] for item in STORE.list(output)})


def test_the_pointer_is_the_run_s_figures(output: str) -> None:
    """latest.json and the run's figures.json say the same; before, there is nothing to read."""
    assert read_pointer(STORE, output) is None
    figures = {"run": "r1", "groups": 3, "input": "s3://lake/Käufe/"}
    publish(STORE, output, figures)
    assert read_pointer(STORE, output) == figures
    assert STORE.get(below(output, "r1", "figures.json")) == STORE.get(below(output, "latest.json"))


def test_old_runs_go_but_never_the_published_one(output: str) -> None:
    """The newest runs stay, and an older one that latest.json names; nothing that is no run is touched."""
    runs = [f"2026-01-{day:02}" for day in range(1, RUNS_KEPT + 4)]
    for run in runs:
        _run(output, run)
    publish(STORE, output, {"run": runs[1]})
    STORE.put(below(output, "notes", "mine.txt"), b"x")
    assert delete_old_runs(STORE, output) == [runs[0], runs[2]]
    assert _runs(output) == sorted([runs[1], *runs[3:], "latest.json", "notes"])
    assert delete_old_runs(STORE, output) == []


@pytest.mark.parametrize("run", ["", "a/b", "..", "-x", "a b"])
def test_a_run_id_is_a_plain_name(output: str, run: str) -> None:
    """What would lead to another folder is refused."""
    with pytest.raises(UserError, match="is no run id"):
        check_run(STORE, output, run)


def test_a_published_run_is_not_written_again(output: str) -> None:
    """Its readers would see half a table; a run that failed before may be written again."""
    _run(output, "r1")
    check_run(STORE, output, "r1")
    publish(STORE, output, {"run": "r1"})
    with pytest.raises(UserError, match="r1 is published already"):
        check_run(STORE, output, "r1")
