"""The copy into the warehouse as a process that is killed, in the middle of a transaction and anywhere."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from infra.settings import Settings
from tests.copy_stage import Copying
from tests.delivery_cases import decision
from tests.delivery_stage import WITHIN_S, Stage, stage
from tests.postgres import Postgres

pytestmark = pytest.mark.timeout(1200)
WAITING = """
    SELECT 1 FROM pg_locks
    WHERE NOT granted AND locktype = 'relation' AND relation = '{table}'::regclass
"""


@pytest.fixture
def scene(
    s3_settings: Settings, kafka_settings: Settings, postgres_server: Postgres, tmp_path: Path
) -> Iterator[Stage]:
    """A stream of decisions of the test's own, and an empty database."""
    settings = replace(
        s3_settings,
        kafka_servers=kafka_settings.kafka_servers,
        home=tmp_path,
        warehouse=postgres_server.new_database(),
        warehouse_password=postgres_server.password,
    )
    with stage(settings, "decisions") as made:
        yield made


@contextmanager
def process(scene: Stage) -> Iterator[subprocess.Popen[bytes]]:
    """The copy of the data set's decisions, which is killed at the end if it still runs."""
    command = [sys.executable, "-m", "stream_consumers.warehouse_copy", "--data-set", scene.data_set.id]
    with (scene.settings.home / "copy.log").open("ab") as log:
        running = subprocess.Popen(
            command, env=scene.settings.environment(), stdout=log, stderr=subprocess.STDOUT
        )
    try:
        yield running
    finally:
        running.kill()
        running.wait()


def until(is_so: Callable[[], bool], scene: Stage) -> None:
    """Wait until `is_so()`; the process's log tells why not."""
    deadline = time.monotonic() + WITHIN_S
    while not is_so():
        assert time.monotonic() < deadline, (scene.settings.home / "copy.log").read_text()[-3000:]
        time.sleep(0.01)


@pytest.mark.slow
def test_kills_lose_and_double_nothing(scene: Stage, postgres_server: Postgres) -> None:
    """SIGKILL while an object's key is written and its rows are not, then at moments of no choice."""
    copying = Copying(scene, scene.settings, f"decisions_{scene.data_set.id}")
    database = scene.settings.warehouse.rsplit("/", 1)[1]
    sent = 0

    def deliver(count: int) -> None:
        nonlocal sent
        scene.put([decision(number) for number in range(sent, sent + count)], per_transaction=200)
        scene.deliver(max_records=20)
        sent += count

    deliver(40)
    with process(scene) as first:
        until(lambda: _count(copying) == len(scene.objects()), scene)
        with postgres_server.locked(copying.table, database):
            deliver(40)
            waiting = WAITING.format(table=copying.table)
            until(lambda: bool(postgres_server.sql(waiting, database)), scene)
            first.kill()
            first.wait()
    for _ in range(4):
        deliver(100)
        before = _count(copying)
        with process(scene):
            until(lambda before=before: _count(copying) > before, scene)  # type: ignore[misc]  # its own
    with process(scene) as last:
        until(lambda: _count(copying) == len(scene.objects()), scene)
        last.terminate()
        assert last.wait(WITHIN_S) == 0
    copying.check()
    (found,) = copying.query(
        f"SELECT count(*) n, count(DISTINCT transaction_id) ids, sum(amount_cents) cents FROM {copying.table}"
    )
    assert found == {"n": sent, "ids": sent, "cents": sum(100 + number for number in range(sent))}
    (noted,) = copying.query("SELECT count(*) n, sum(rows) rows FROM millstream_copied")
    assert noted == {"n": len(scene.objects()), "rows": sent}


def _count(copying: Copying) -> int:
    """How many objects were copied; 0 while nothing is there."""
    (there,) = copying.query("SELECT to_regclass('millstream_copied')::text AS name")
    return len(copying.copied()) if there["name"] else 0
