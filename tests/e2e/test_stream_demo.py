"""The streaming story as `make stream-demo` tells it: real servers, a trained model, a proof that holds."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from infra.local.servers import down, status
from infra.metrics import read_all
from infra.settings import ROOT, Settings
from infra.supervisor import MARK
from producers import simulator
from producers.simulator import World
from tests.conftest import settings_of

WITHIN_S = 800.0
ENOUGH = 300
DAYS = 70
WORLD = World(customers=250, terminals=400, radius=12.0)
HEADER = ("card1", "addr1", "TransactionAmt", "TransactionDT", "isFraud")
COLUMNS = "card_id=card1,terminal_id=addr1,amount=TransactionAmt,event_time=TransactionDT,fraud=isFraud"

pytestmark = pytest.mark.timeout(2400)  # a model is trained on the way


@pytest.fixture(scope="module")
def transactions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seventy days of a small world as a user's CSV file: times in seconds, amounts with a point."""
    data = simulator.simulate(DAYS, WORLD)
    path = tmp_path_factory.mktemp("own") / "transactions.csv"
    begin = int(simulator.BEGIN.timestamp())
    with path.open("w", newline="") as file:
        rows = zip(data.customer, data.terminal, data.amount_cents, data.time_s, data.fraud, strict=True)
        writer = csv.writer(file)
        writer.writerow(HEADER)
        writer.writerows(
            (f"C{card}", f"T{terminal}", f"{cents / 100:.2f}", begin + time_s, int(fraud))
            for card, terminal, cents, time_s, fraud in rows
        )
    return path


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A home that the tests of this module share, as a user's is: the model is made by the first run."""
    settings = settings_of(tmp_path_factory.mktemp("stream") / "home")
    yield settings
    down(settings)


def command(story: str, *arguments: str) -> list[str]:
    """A story as the Makefile runs it."""
    return [sys.executable, "-m", f"infra.stories.{story}", *arguments]


def own(path: Path) -> tuple[str, ...]:
    """The options of the user's file."""
    return "--input", str(path), "--columns", COLUMNS, "--shards", "2"


def run(settings: Settings, story: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a story to its end."""
    return subprocess.run(
        command(story, *arguments),
        env=settings.environment(), cwd=ROOT, text=True, capture_output=True, timeout=2 * WITHIN_S,
    )  # fmt: skip


def playing(settings: Settings, request: pytest.FixtureRequest, *arguments: str) -> subprocess.Popen[str]:
    """A stream demo that has played some hundred transactions; it ends with the test at the latest."""
    child = subprocess.Popen(
        command("stream_demo", *arguments),
        env=settings.environment(), cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip

    def end() -> None:
        with child:
            child.kill()

    request.addfinalizer(end)
    wait_for_producer(settings, child)
    return child


def figures(settings: Settings, done: subprocess.CompletedProcess[str]) -> Mapping[str, Any]:
    """The report.json of a run that went well; the last line that it printed names the page beside it."""
    assert done.returncode == 0, done.stdout + done.stderr
    page = Path(done.stdout.splitlines()[-1].removeprefix("report: "))
    assert page.is_file()
    latest = settings.home / "reports" / "stream-demo" / "latest"
    assert latest.resolve() == page.parent.resolve()
    found: dict[str, Any] = json.loads((page.parent / "report.json").read_text())
    return found


def check_proof(report: Mapping[str, Any]) -> None:
    """Everything that was sent was decided and archived, once."""
    assert report["sent"] > 0
    assert report["sent"] == report["decided"] + report["rejected"] == report["archived"] + report["rejected"]
    assert (report["missing"], report["duplicates"], report["strangers"]) == (0, 0, 0)
    assert sum(shard["records"] for shard in report["shards"]) == report["sent"]


def test_a_stream_from_end_to_end(home: Settings, transactions: Path) -> None:
    """A file of one's own: history, model, play, decisions, alerts, archive; then proof and report."""
    report = figures(home, run(home, "stream_demo", *own(transactions), "--rate", "400", "--seconds", "8"))
    check_proof(report)
    assert 1_600 < report["sent"] <= 3_520
    assert report["throttled"] == report["rejected"] == report["restarts"] == 0
    assert report["ended"] == "complete"
    assert sum(report["actions"].values()) == report["decided"]
    assert report["alerts"] == report["actions"]["review"] + report["actions"]["block"] > 0
    assert 0 < report["latency_ms"]["p50"] <= report["latency_ms"]["p99"] <= report["latency_ms"]["max"]
    assert report["time_to_alert_ms"]["p50"] > 0
    assert len(report["shards"]) == 2
    assert {"producer", "scorer-0", "delivery", "alerts-file", "kafka", "s3"} <= set(report["cpu_seconds"])
    assert report["model"]["version"]
    lines = Path(report["places"]["alerts"]).read_text().splitlines()
    assert len(lines) == report["alerts"]


def test_a_second_run_goes_on(home: Settings, transactions: Path, request: pytest.FixtureRequest) -> None:
    """Nothing is trained again, the play goes on where it ended, and Ctrl-C ends it with a proof."""
    before = json.loads((home.home / "reports" / "stream-demo" / "latest" / "report.json").read_text())
    child = playing(home, request, *own(transactions), "--rate", "300", "--seconds", "600")
    child.send_signal(signal.SIGINT)
    output, errors = child.communicate(timeout=WITHIN_S)
    report = figures(home, subprocess.CompletedProcess(child.args, child.returncode, output, errors))
    check_proof(report)
    assert report["ended"] == "early"
    assert "step: Train" not in output
    assert report["first_event_time"] >= before["last_event_time"]
    assert report["model"]["version"] == before["model"]["version"]


@pytest.mark.slow
def test_killed_processes_lose_nothing(
    home: Settings, transactions: Path, request: pytest.FixtureRequest
) -> None:
    """kill -9 of scorer, delivery, alerts and producer in mid-stream: started again, and the proof holds.

    So is a consumer that somebody asked to end, and that ended in order.
    """
    child = playing(home, request, *own(transactions), "--fresh", "1", "--rate", "150", "--seconds", "40")
    for module in ("fraud_scorer", "delivery", "alerts", "transactions"):
        time.sleep(4)
        kill(home, child, module)
    time.sleep(4)
    kill(home, child, "fraud_scorer", signal.SIGTERM)
    output, errors = child.communicate(timeout=WITHIN_S)
    report = figures(home, subprocess.CompletedProcess(child.args, child.returncode, output, errors))
    check_proof(report)
    assert report["restarts"] == 5
    assert len(Path(report["places"]["alerts"]).read_text().splitlines()) == report["alerts"]


@pytest.mark.slow
@pytest.mark.parametrize("service", ["s3", "kafka"])
def test_a_killed_server_loses_nothing(
    home: Settings, transactions: Path, request: pytest.FixtureRequest, service: str
) -> None:
    """kill -9 of a server in mid-stream: it is started again with what it had stored, and the proof holds."""
    child = playing(home, request, *own(transactions), "--fresh", "1", "--rate", "150", "--seconds", "30")
    for pid in next(row.pids for row in status(home) if row.service == service):
        os.kill(pid, signal.SIGKILL)
    output, errors = child.communicate(timeout=WITHIN_S)
    assert f"{service} ended: started again" in output
    report = figures(home, subprocess.CompletedProcess(child.args, child.returncode, output, errors))
    check_proof(report)
    assert report["ended"] == "complete"


@pytest.mark.slow
def test_a_run_that_was_killed_is_finished_by_the_next(
    home: Settings, transactions: Path, request: pytest.FixtureRequest
) -> None:
    """Before that, what it left can't be reconciled, and why is said."""
    child = playing(home, request, *own(transactions), "--rate", "100", "--seconds", "600")
    child.send_signal(signal.SIGSTOP)
    kill(home, child, "delivery")
    child.kill()
    child.communicate(timeout=WITHIN_S)
    refused = run(home, "reconcile", *own(transactions))
    assert refused.returncode == 2
    assert "not archived yet; run `make stream-demo` with the same INPUT or SHARDS first" in refused.stderr
    report = figures(home, run(home, "stream_demo", *own(transactions), "--rate", "100", "--seconds", "2"))
    check_proof(report)


@pytest.mark.slow
def test_what_was_decided_can_be_reconciled(home: Settings, transactions: Path) -> None:
    """After all of that, the batch code comes to the same features and scores."""
    done = run(home, "reconcile", *own(transactions))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all agree" in done.stdout
    assert "0 values differ" in done.stdout


@pytest.mark.parametrize(
    ("story", "arguments", "word"),
    [
        ("stream_demo", ("--rate", "0"), "RATE"),
        ("stream_demo", ("--seconds", "x"), "SECONDS"),
        ("stream_demo", ("--shards", "500"), "SHARDS"),
        ("stream_demo", ("--rate", "0.1", "--seconds", "5"), "less than one transaction"),
        ("stream_demo", ("--input", "/nowhere/at.csv"), "/nowhere/at.csv"),
        ("stream_demo", ("--columns", "card_id=a"), "INPUT"),
        ("stream_demo", ("--input", __file__, "--columns", "card=a"), "'card'"),
        ("reconcile", (), "make stream-demo"),
    ],
)
def test_wrong_options_start_nothing(
    tmp_path: Path, story: str, arguments: tuple[str, ...], word: str
) -> None:
    """What can't be meant is refused before any server starts."""
    settings = settings_of(tmp_path / "home")
    done = run(settings, story, *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert word in done.stderr
    assert not settings.home.exists()


def test_more_than_memory_holds_starts_nothing(tmp_path: Path) -> None:
    """What is simulated is in memory: what can't be there is refused before any server is started."""
    settings = settings_of(tmp_path / "home")
    done = run(settings, "stream_demo", "--rate", "1000000", "--seconds", "86400")
    assert done.returncode == 2
    assert "to simulate 86,400,000,000 transactions takes" in done.stderr
    assert not (settings.home / "logs").exists()


def test_a_file_that_lacks_a_column_starts_nothing(tmp_path: Path, transactions: Path) -> None:
    """The file is looked at before any server is started."""
    settings = settings_of(tmp_path / "home")
    done = run(settings, "stream_demo", "--input", str(transactions))
    assert done.returncode == 2
    assert "no column 'card_id' for card_id; its columns are 'card1'" in done.stderr
    assert not (settings.home / "logs").exists()


def processes(settings: Settings, child: subprocess.Popen[str], module: str) -> list[psutil.Process]:
    """The processes below the story that run a module, by the story's own mark."""
    found = []
    for process in psutil.Process(child.pid).children(recursive=True):
        try:
            ours = process.environ().get(MARK, "").startswith("stream-demo-")
            if ours and any(word.endswith(f".{module}") for word in process.cmdline()):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    assert str(settings.home) == settings.environment()["MILLSTREAM_HOME"]
    return found


def wait_for_producer(settings: Settings, child: subprocess.Popen[str]) -> None:
    """Wait until the story has played some hundred transactions."""
    deadline = time.monotonic() + WITHIN_S
    while not (
        processes(settings, child, "transactions")
        and read_all(settings.home).total("records_put_total") > ENOUGH
    ):
        assert child.poll() is None, child.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.2)


def kill(
    settings: Settings,
    child: subprocess.Popen[str],
    module: str,
    number: signal.Signals = signal.SIGKILL,
) -> None:
    """End the story's process of a module."""
    (process,) = processes(settings, child, module)
    os.kill(process.pid, number)
