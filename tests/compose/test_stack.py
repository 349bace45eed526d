"""The stack in containers, as a user has it: both stories, a kill of every service, keys nowhere."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import urllib3

from infra.compose.keys import KEYS
from infra.compose.stack import HOME, KEEPER
from infra.settings import ROOT
from tests.compose.conftest import IMAGE, RunningStack

pytestmark = [pytest.mark.compose, pytest.mark.timeout(3000)]
ONE_SHOTS = {"keys", "postgres-key", "provision", "data-set"}
SERVERS = ("kafka-1", "minio", "postgres")
COUNTS = """
import json
from infra.settings import Settings
from infra.stories.stream_evidence import sent_transactions
from infra.streams.admin import StreamAdmin
servers, found = Settings.load().kafka_servers, {}
with StreamAdmin(servers) as admin:
    for stream in ("transactions", "decisions"):
        last = admin.last_records(admin.shards(stream))
        ranges = {shard: (0, record.offset + 1) for shard, record in last.items()}
        ids = sent_transactions(servers, ranges, set(), lambda share, detail: None).ids.tolist()
        found[stream] = [len(ids), len(set(ids)), max(ids)]
print(json.dumps(found))
"""
OWN = """\
when,what,where,paid
2026-01-05T10:00:00Z,garden,north,10.00
2026-02-05T10:00:00Z,garden,north,5.00
"""


def report(stack: RunningStack, job: str) -> dict[str, object]:
    """The newest report of a job, where the same command without a stack would leave it."""
    folder = stack.home / "reports" / job / "latest"
    assert (folder / "report.html").read_text().startswith("<!doctype html>")
    read: dict[str, object] = json.loads((folder / "report.json").read_text())
    return read


def test_all_is_up(stack: RunningStack) -> None:
    """Every service is well, every one-shot is through, and the console answers only with its key."""
    states = stack.running()
    assert {name for name, state in states.items() if state.startswith("exited")} == ONE_SHOTS
    assert {state for name, state in states.items() if name not in ONE_SHOTS} == {"running healthy"}
    address = f"http://127.0.0.1:{stack.environment['CONSOLE_PORT']}/"
    assert urllib3.request("GET", address, retries=False).status == 401
    token = stack.inside(KEEPER, "cat", "/run/keys/console_token")
    opened = urllib3.request("GET", f"{address}?token={token}", redirect=False, retries=False)
    assert opened.status in (302, 303, 307)
    cookie = opened.headers["Set-Cookie"].split(";")[0]
    page = urllib3.request("GET", address, headers={"Cookie": cookie}, retries=False)
    assert page.status == 200
    assert "Millstream" in page.data.decode()
    assert address in stack.make("console")


def test_a_batch_job_uses_the_stack(stack: RunningStack, tmp_path: Path) -> None:
    """`make batch-job` says where it runs; its result is in S3 and in PostgreSQL, its report here."""
    output = stack.make("batch-job", "ROWS=50000")
    assert "stack: millstream-test (Compose)" in output
    figures = report(stack, "batch-job")
    assert (
        output.strip().splitlines()[-1]
        == f"report: {stack.home}/reports/batch-job/{figures['run']}/report.html"
    )
    assert figures["rows_read"] == 50_000
    assert (
        stack.sql("SELECT count(*), sum(units) FROM sales_rollup")
        == f"{figures['groups']}|{figures['units']}"
    )


def test_a_transient_cluster_rolls_up_sales_of_this_machine(stack: RunningStack, tmp_path: Path) -> None:
    """`CLUSTER=transient`: nodes are made for the job and gone after it; the cluster terminates itself.

    INPUT= names a file here; the job reads its copy in S3.
    """
    own = tmp_path / "own.csv"
    own.write_text(OWN)
    columns = "COLUMNS=sold_at=when,category=what,region=where,amount=paid"
    output = stack.make("batch-job", f"INPUT={own}", columns, "CLUSTER=transient", "CORE=1", "TASK=0")
    figures = report(stack, "batch-job")
    assert figures["rows_used"] == 2
    assert str(figures["input"]).startswith("s3://lake/uploads/")
    assert figures["state"] == "TERMINATED", output
    assert len(figures["instances"]) == 2  # type: ignore[arg-type]
    left = stack.compose("ps", "-a", "--format", "{{.Service}}").split()
    assert "node" not in left


def test_a_transient_cluster_that_does_not_fit_starts_no_node(stack: RunningStack) -> None:
    """It is refused by the number that would fit, before any container of a node is made."""
    output = stack.make("batch-job", "CLUSTER=transient", "CORE=5000", check=False)
    assert "error: 5002 nodes need" in output
    assert "CORE + TASK nodes fit" in output
    assert "node containers" not in output


def test_a_stream_demo_plays_on(stack: RunningStack) -> None:
    """`make stream-demo` stops the standing producer, loses nothing, and starts the producer again."""
    output = stack.make("stream-demo", "RATE=300", "SECONDS=20")
    figures = report(stack, "stream-demo")
    assert figures["missing"] == figures["duplicates"] == 0, output
    assert figures["sent"] == figures["decided"] == figures["archived"]
    assert int(str(figures["sent"])) > 3000
    assert output.strip().splitlines()[-1].startswith("report: ")
    assert stack.running()["producer"].startswith("running")


def test_a_mistake_is_one_line(stack: RunningStack) -> None:
    """Exit code 2 and what to do, from inside the stack as from outside."""
    for words in (("stream-demo", "FRESH=1"), ("batch-job", "CLUSTER=other"), ("batch-job", "CORE=3")):
        output = stack.make(*words, check=False)
        assert "error: " in output, output
        assert "Error 2" in output, output
        assert "Traceback" not in output, output


def test_every_service_may_be_killed(stack: RunningStack) -> None:
    """kill -9 of each in turn: what restarts by itself does, the rest after a start; nothing is lost."""
    services = [name for name in stack.running() if name not in (*ONE_SHOTS, *SERVERS)]
    for service in services:
        stack.compose("exec", "--no-TTY", service, "bash", "-c", "kill -9 -1", check=False)
    for service in SERVERS:
        stack.compose("kill", "--signal", "SIGKILL", service)
        stack.compose("start", service)
    stack.up()
    counts = settled_counts(stack)
    sent, decided = counts["transactions"], counts["decisions"]
    assert decided[0] == decided[1], "a decision is doubled"
    assert sent[0] == sent[1], "a transaction is doubled"
    assert decided == sent


def settled_counts(stack: RunningStack) -> dict[str, list[int]]:
    """How many transactions and decisions there are, and how many ids, once the producer rests."""
    stack.compose("stop", "producer")
    try:
        for _ in range(30):
            counts: dict[str, list[int]] = json.loads(
                stack.compose("run", "--rm", "--no-TTY", "job", "python", "-c", COUNTS).splitlines()[-1]
            )
            if counts["transactions"] == counts["decisions"]:
                break
            time.sleep(2)
        return counts
    finally:
        stack.compose("start", "producer")


def test_all_decisions_can_be_recomputed(stack: RunningStack) -> None:
    """`make reconcile` over all that was decided, before and after every kill."""
    output = stack.make("reconcile")
    assert "all agree" in output, output


def test_keys_are_nowhere(stack: RunningStack) -> None:
    """Not in the file, the image, what `docker inspect` shows, or a log."""
    keys = [stack.inside("cluster-manager", "cat", f"/run/keys/{name}") for name in KEYS]
    assert all(len(key) >= 16 for key in keys)
    containers = stack.compose("ps", "-a", "-q").split()
    inspected = subprocess.run(["docker", "inspect", *containers], capture_output=True, text=True, check=True)
    places = {
        "file": (ROOT / "docker-compose.yml").read_text() + stack.compose("config"),
        "inspect": inspected.stdout,
        "logs": stack.compose("logs", "--no-color"),
    }
    for place, text in places.items():
        assert not any(key in text for key in keys), f"a key is in {place}"
    patterns = [f"--regexp={key}" for key in keys]
    search = ["grep", "--recursive", "--quiet", "--fixed-strings", *patterns, HOME]
    command = ["docker", "compose", "exec", "--no-TTY", KEEPER, *search]
    there = subprocess.run(command, env=stack.environment, cwd=ROOT)
    assert there.returncode == 1, "a key is in the home"
    with subprocess.Popen(["docker", "image", "save", IMAGE], stdout=subprocess.PIPE) as layers:
        search = ["grep", "--quiet", "--binary", "--fixed-strings", *patterns]
        there = subprocess.run(search, stdin=layers.stdout)
    assert there.returncode == 1, "a key is in the image"
    assert layers.returncode == 0


def test_prometheus_fires(stack: RunningStack) -> None:
    """With the profile `metrics`: rules are sound, every target answers, a stopped scorer is an alert."""
    stack.compose("--profile", "metrics", "up", "-d", "--wait", "prometheus")
    stack.inside("prometheus", "promtool", "check", "config", "/etc/prometheus/prometheus.yml")
    base = f"http://127.0.0.1:{stack.environment['PROMETHEUS_PORT']}/api/v1"

    def ask(path: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = urllib3.request("GET", f"{base}/{path}").json()["data"][path]
        return found

    def targets_up() -> bool:
        found = urllib3.request("GET", f"{base}/targets").json()["data"]["activeTargets"]
        return bool(found) and all(target["health"] == "up" for target in found)

    def fires() -> bool:
        names = {alert["labels"]["alertname"] for alert in ask("alerts") if alert["state"] == "firing"}
        return "ScorerDown" in names

    wait_until(targets_up, "every target answers")
    stack.compose("stop", "scorer")
    try:
        wait_until(fires, "the alert fires")
    finally:
        stack.compose("start", "scorer")


def wait_until(look: Callable[[], bool], what: str) -> None:
    """Wait for up to four minutes."""
    for _ in range(120):
        if look():
            return
        time.sleep(2)
    pytest.fail(f"not in time: {what}")


def test_it_ends_in_order(stack: RunningStack) -> None:
    """`docker compose stop` ends every service by SIGTERM within its grace, and `up` goes on from there."""
    stack.compose("stop", within_s=300)
    lines = stack.compose("ps", "-a", "--format", "{{.Service}} {{.ExitCode}}").splitlines()
    killed = [line for line in lines if line.endswith(" 137")]
    assert killed == []
    stack.up()
