"""Copies of delivered objects in PostgreSQL: each once, whatever ends, is missing or does not fit."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from infra.contracts.copies import DeclaredCopy, declared_copies
from infra.contracts.datasets import DataSet
from infra.contracts.delivery import DeclaredDelivery
from infra.contracts.errors import UserError
from infra.settings import Settings
from infra.warehouse.contract import TableMismatchError
from stream_consumers.warehouse_copy import Worker, copies_of
from tests.copy_stage import Copying
from tests.delivery_cases import sale, transaction
from tests.delivery_stage import WITHIN_S, Crash, Steps, partitioned, stage
from tests.postgres import Postgres, postgres


@pytest.fixture
def settings(s3_settings: Settings, kafka_settings: Settings, postgres_server: Postgres) -> Settings:
    """Settings that give all three servers, and a database of the test's own."""
    return replace(
        s3_settings,
        kafka_servers=kafka_settings.kafka_servers,
        warehouse=postgres_server.new_database(),
        warehouse_password=postgres_server.password,
    )


@pytest.fixture
def copying(settings: Settings) -> Iterator[Copying]:
    """A stream of transactions and its copy."""
    with stage(settings) as scene:
        yield Copying(scene, settings)


def until(is_so: object, what: str) -> None:
    """Wait until `is_so()`."""
    assert callable(is_so)
    deadline = time.monotonic() + WITHIN_S
    while not is_so():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def test_what_is_delivered_is_copied_once(copying: Copying) -> None:
    """With bad records between the good ones; again and after more was delivered."""
    scene = copying.scene
    scene.put([transaction(number) for number in range(60)] + [(b"C1", b"no event")])
    scene.deliver()
    for _ in range(2):
        copying.catch_up()
        copying.check()
    one = copying.copier()
    for first in (60, 80):
        scene.put([transaction(number) for number in range(first, first + 20)])
        scene.deliver()
        one.catch_up(threading.Event().is_set)
        copying.check()
    (sums,) = copying.query("SELECT count(*) n, sum(amount_cents) cents FROM t")
    assert sums == {"n": 100, "cents": sum(100 + number for number in range(100))}
    (noted,) = copying.query("SELECT sum(rows) n FROM millstream_copied")
    assert noted == {"n": 100}
    assert copying.lag() == 0


def test_a_copy_that_ends_anywhere_goes_on(copying: Copying) -> None:
    """Ended between any two objects, by a new copier each time."""
    copying.scene.put([transaction(number) for number in range(100)])
    copying.scene.deliver(max_records=10)
    objects = len(copying.scene.objects())
    for copied in range(1, objects + 1):
        copying.copier().catch_up(lambda most=copied: len(copying.copied()) >= most)  # type: ignore[misc]
        assert len(copying.copied()) == copied
    copying.check()


def test_copiers_at_once_copy_once(copying: Copying) -> None:
    """Two processes that do the same work, which nobody should start, double nothing."""
    copying.scene.put([transaction(number) for number in range(100)])
    copying.scene.deliver(max_records=10)
    copiers = [copying.copier() for _ in range(3)]
    threads = [threading.Thread(target=each.catch_up, args=(threading.Event().is_set,)) for each in copiers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WITHIN_S)
    copying.check()


def test_a_cut_that_is_being_written_is_waited_for(copying: Copying) -> None:
    """An intent without its objects is no lag; they are copied when they are there."""
    scene = copying.scene
    scene.put([transaction(number) for number in range(20)])
    with pytest.raises(Crash):
        scene.deliver(steps=Steps(crash_after=1), max_records=1000)
    copying.catch_up()
    assert (copying.copied(), copying.lag()) == ([], 0)
    scene.deliver(max_records=1000)
    copying.catch_up()
    copying.check()


def test_a_deleted_object_is_passed_by(copying: Copying, caplog: pytest.LogCaptureFixture) -> None:
    """With a warning that names it, once a later cut shows that it was there."""
    scene = copying.scene
    scene.put([transaction(number) for number in range(100)])
    scene.deliver(max_records=20)
    intents = scene.intents
    first = intents.get(0, intents.firsts(0)[0])
    assert first is not None
    scene.store.delete([first.parts[0].url])
    with caplog.at_level(logging.WARNING):
        copying.catch_up()
    assert f"{first.parts[0].url} was deleted before it was copied" in caplog.text
    copying.check()


def test_partitions_and_lines_of_json_are_copied_too(settings: Settings) -> None:
    """Several objects a cut; a format without columns of its own."""
    forms = {"parquet": ".parquet", "json": ".gz"}
    for form, extension in forms.items():
        with stage(settings, "sales") as scene:
            scene.declared = as_form(partitioned(scene), form, extension)
            scene.put([sale(number, f"2024-0{1 + number % 3}") for number in range(60)])
            scene.deliver(max_records=1000)
            copying = Copying(scene, settings, f"sales_{form}")
            copying.catch_up()
            copying.check("sale_id")
            assert Counter(row["month"] for row in copying.rows()) == dict.fromkeys(
                ("2024-01", "2024-02", "2024-03"), 20
            )


def as_form(delivery: DeclaredDelivery, form: str, extension: str) -> DeclaredDelivery:
    """The same delivery stream in another format."""
    return replace(delivery, format="json" if form == "json" else "parquet", extension=extension)


def test_a_zero_byte_becomes_a_mark(copying: Copying) -> None:
    """PostgreSQL has none in its texts; one record can't hold the rest up."""
    copying.scene.put([transaction(1, terminal_id="T\0")])
    copying.scene.deliver()
    copying.catch_up()
    assert [row["terminal_id"] for row in copying.rows()] == ["T\ufffd"]


@pytest.mark.parametrize(
    ("made", "says"),
    [
        ("CREATE TABLE t (transaction_id bigint)", "column event_time is missing in the table"),
        # As many bytes: a COPY would take one for the other.
        (
            "CREATE TABLE t (transaction_id timestamptz)",
            r"column transaction_id is timestamp\[us, tz=UTC\] in the table and int64 in the object",
        ),
    ],
)
def test_a_table_that_does_not_fit_takes_nothing(
    copying: Copying, postgres_server: Postgres, made: str, says: str
) -> None:
    """One line names the table, the object and the column; nothing is noted as copied."""
    database = copying.settings.warehouse.rsplit("/", 1)[1]
    postgres_server.sql(made, database)
    copying.scene.put([transaction(1)])
    copying.scene.deliver()
    with pytest.raises(
        TableMismatchError, match=rf"table t of .* can't take s3://.*\.parquet: {says}"
    ) as error:
        copying.catch_up()
    assert "\n" not in str(error.value)
    assert (copying.rows(), copying.copied(), copying.lag()) == ([], [], 1)
    postgres_server.sql("DROP TABLE t", database)
    copying.catch_up()
    copying.check()


def test_a_table_may_have_columns_of_its_own(copying: Copying, postgres_server: Postgres) -> None:
    """They have their defaults; one that must be given is told."""
    database = copying.settings.warehouse.rsplit("/", 1)[1]
    copying.scene.put([transaction(1)])
    copying.scene.deliver()
    copying.catch_up()
    postgres_server.sql("ALTER TABLE t ADD COLUMN copied_on date DEFAULT current_date", database)
    copying.scene.put([transaction(2)])
    copying.scene.deliver()
    copying.catch_up()
    assert all(row["copied_on"] for row in copying.rows())
    postgres_server.sql("ALTER TABLE t ALTER copied_on DROP DEFAULT", database)
    postgres_server.sql("ALTER TABLE t ALTER copied_on SET NOT NULL", database)
    copying.scene.put([transaction(3)])
    copying.scene.deliver()
    with pytest.raises(TableMismatchError, match='null value in column "copied_on"'):
        copying.catch_up()
    assert len(copying.rows()) == len(copying.copied()) == 2


def test_one_copy_that_waits_holds_no_other_up(copying: Copying, postgres_server: Postgres) -> None:
    """Its thread says what is wrong, and goes on once somebody has put it right."""
    database = copying.settings.warehouse.rsplit("/", 1)[1]
    postgres_server.sql("CREATE TABLE t (wrong text)", database)
    copying.scene.put([transaction(1)])
    copying.scene.deliver()
    other, stop = Copying(copying.scene, copying.settings, "other"), threading.Event()
    wrong = Worker(DeclaredCopy("a", "t"), copying.copier(), stop)
    wrong.start()
    try:
        until(lambda: wrong.trouble is not None, "no trouble")
        assert "column transaction_id is missing in the table" in str(wrong.trouble)
        other.catch_up()  # beside it
        assert len(other.rows()) == 1
    finally:
        stop.set()
        wrong.join(WITHIN_S)
    assert wrong.failure is None


def is_copied(copying: Copying) -> bool:
    """Whether all that was delivered is copied."""
    return len(copying.copied()) == len(copying.scene.objects())


def test_a_server_that_is_down_is_waited_for(s3_settings: Settings, kafka_settings: Settings) -> None:
    """Health says so; when it is back, after a crash too, the copy goes on."""
    with postgres() as server:
        settings = replace(
            s3_settings,
            kafka_servers=kafka_settings.kafka_servers,
            warehouse=server.url(),
            warehouse_password=server.password,
        )
        with stage(settings) as scene:
            copying, stop = Copying(scene, settings), threading.Event()
            scene.put([transaction(number) for number in range(20)])
            scene.deliver()
            server.stop()
            worker = Worker(DeclaredCopy("a", "t"), copying.copier(), stop)
            worker.start()
            try:
                until(lambda: worker.trouble is not None, "no trouble")
                assert "can't be reached" in str(worker.trouble)
                server.start()
                until(lambda: worker.trouble is None and is_copied(copying), "not copied")
                server.stop(signal.SIGQUIT)
                scene.put([transaction(number) for number in range(20, 40)])
                scene.deliver()
                until(lambda: worker.trouble is not None, "no trouble")
                server.start()
                until(lambda: worker.trouble is None and is_copied(copying), "not copied")
            finally:
                stop.set()
                worker.join(WITHIN_S)
            assert worker.failure is None
            copying.check()


def test_the_process_copies_a_data_set(settings: Settings, tmp_path: Path) -> None:
    """Under the data set's table; it is healthy, and ends at SIGTERM in order."""
    with stage(replace(settings, home=tmp_path), "transactions") as scene:
        command = [sys.executable, "-m", "stream_consumers.warehouse_copy", "--data-set", scene.data_set.id]
        with subprocess.Popen(command, env=scene.settings.environment(), stderr=subprocess.PIPE) as process:
            try:
                until(lambda: list((tmp_path / "run" / "metrics").glob("*.json")), "no metrics")
                process.terminate()
                assert process.stderr is not None
                assert process.wait(WITHIN_S) == 0, process.stderr.read()
            finally:
                process.kill()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"warehouse": ""},
            "error: copies go into PostgreSQL: set MILLSTREAM_WAREHOUSE; a DuckDB file takes none\n",
        ),
        ({"s3_endpoint": ""}, "error: no S3 server is given: set AWS_ENDPOINT_URL_S3\n"),
    ],
)
def test_without_its_servers_it_refuses(settings: Settings, changes: dict[str, str], says: str) -> None:
    """One line, exit code 2."""
    environment = replace(settings, **changes).environment()  # type: ignore[arg-type]  # texts, all of them
    command = [sys.executable, "-m", "stream_consumers.warehouse_copy"]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stdout, answer.stderr) == (2, "", says)


def test_the_declared_copies() -> None:
    """Decisions and sales; a data set has decisions of its own."""
    assert copies_of(DataSet("b")) == [
        (DeclaredCopy("decisions", "decisions"), "b"),
        (DeclaredCopy("sales", "sales"), "b"),
    ]
    assert copies_of(DataSet("b", "0123abcd")) == [
        (DeclaredCopy("decisions-0123abcd", "decisions_0123abcd"), "b")
    ]
    with pytest.raises(UserError, match="'labels' is not copied to the warehouse; decisions, sales are"):
        copies_of(DataSet("b"), ["labels"])
    with pytest.raises(UserError, match="there is no delivery stream 'x'; there are a, b"):
        declared_copies({"x": "t"}, ["a", "b"])
    with pytest.raises(UserError, match="two delivery streams go into table t"):
        declared_copies({"a": "t", "b": "t"}, ["a", "b"])
