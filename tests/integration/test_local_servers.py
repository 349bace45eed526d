"""The embedded servers as their users see them: started when needed, kept while needed, gone after."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from infra.contracts.errors import UserError
from infra.local.daemon import mark_of
from infra.local.keys import read_keys
from infra.local.places import Places
from infra.local.ports import HOST, free_ports
from infra.local.s3 import GRPC_OFFSET
from infra.local.servers import down, lifeline, servers, status, up
from infra.memory import in_use
from infra.objects import ObjectStore
from infra.settings import ROOT, Settings
from infra.streams.brokers import ready_brokers
from infra.streams.errors import KafkaUnavailableError
from infra.supervisor import is_running, marked

# Prints its endpoint once it is inside the block, and leaves it when its standard input ends.
CLIENT = """
import sys
from infra.local.servers import servers
from infra.settings import Settings
with servers(Settings.load()) as ready:
    print(ready.s3_endpoint, flush=True)
    sys.stdin.read()
"""

# Starts S3 under a supervisor; the first ports that it chooses are the one given and its neighbours.
COLLIDING = """
import sys
from infra.local import s3
from infra.local.running import RunningService
from infra.settings import Settings
from infra.supervisor import Supervisor
settings, taken, supervisor = Settings.load(), int(sys.argv[1]), Supervisor(sys.argv[2])
choices = [(taken, *s3.choose_ports()[1:])] * int(sys.argv[3]) + [s3.choose_ports()]
service = RunningService(supervisor, lambda: s3.service(settings, choices.pop(0)), {})
try:
    print(service.ensure())
finally:
    supervisor.stop_all()
"""


def wait_until(condition: Callable[[], bool], within_s: float = 30) -> None:
    """Wait for a state; fail when it does not come."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "the state did not come"
        time.sleep(0.05)


def running(settings: Settings) -> list[psutil.Process]:
    """The server processes of a home."""
    return list(marked(mark_of(settings.home)))


def daemon_of(settings: Settings) -> psutil.Process:
    """The daemon of a home."""
    return psutil.Process(json.loads(Places(settings.home).record.read_text())["pid"])


@contextlib.contextmanager
def client(settings: Settings) -> Iterator[subprocess.Popen[str]]:
    """Another process that needs S3; it leaves when its standard input is closed."""
    process = subprocess.Popen(
        [sys.executable, "-c", CLIENT],
        cwd=ROOT,
        env=settings.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        yield process


def endpoint_of(process: subprocess.Popen[str]) -> str:
    """The endpoint that a client got, once it has it."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def leave(process: subprocess.Popen[str]) -> None:
    """Let a client end its block."""
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(timeout=90) == 0


def local(settings: Settings, verb: str) -> subprocess.CompletedProcess[str]:
    """Run `make up`, `make down` or `make status` as the Makefile does."""
    command = [sys.executable, "-m", "infra.stories.platform", verb]
    return subprocess.run(
        command, cwd=ROOT, env=settings.environment(), capture_output=True, text=True, timeout=120
    )


def collide(settings: Settings, port: int, mark: str, times: int) -> subprocess.CompletedProcess[str]:
    """Start S3 where its first choices of ports, so many, contain one that is taken."""
    return subprocess.run(
        [sys.executable, "-c", COLLIDING, str(port), mark, str(times)],
        cwd=ROOT,
        env=settings.environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )


def write(settings: Settings, name: str) -> None:
    """Store an object in a running server."""
    ObjectStore(settings).put(f"s3://{settings.bucket}/{name}", name.encode())


def read(settings: Settings, name: str) -> bytes:
    """Read it back."""
    return ObjectStore(settings).get(f"s3://{settings.bucket}/{name}")


def test_servers_live_until_the_last_client_leaves(home_settings: Settings) -> None:
    """The first of two clients leaves and the server stays; with the second all is gone at once."""
    with client(home_settings) as first, client(home_settings) as second:
        assert endpoint_of(first) == endpoint_of(second) != ""
        daemon = daemon_of(home_settings)
        started = daemon.create_time()
        leave(first)
        assert len(running(home_settings)) == 1
        with servers(home_settings) as ready:
            write(ready, "a")
        grpc = (urlsplit(ready.s3_endpoint).port or 0) + GRPC_OFFSET
        leave(second)
    assert running(home_settings) == []
    assert not Path(f"/tmp/seaweedfs-s3-grpc-{grpc}.sock").exists()  # noqa: S108  (weed's own choice)
    wait_until(lambda: not is_running(daemon.pid, started))


def test_racing_clients_share_one_daemon(home_settings: Settings) -> None:
    """However many start at once, there is one server, and all get it."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(client(home_settings)) for _ in range(3)]
        assert len({endpoint_of(process) for process in clients}) == 1
        assert len(running(home_settings)) == 1
        for process in clients:
            leave(process)
    assert running(home_settings) == []


def test_a_client_that_comes_while_servers_stop_gets_new_ones(home_settings: Settings) -> None:
    """It waits for the old daemon's end and finds the data."""
    with servers(home_settings) as ready:
        write(ready, "kept")
        old = daemon_of(home_settings)
        old.terminate()
        with servers(home_settings) as again:
            assert read(again, "kept") == b"kept"
            assert daemon_of(home_settings) != old


def test_up_keeps_servers_until_down(home_settings: Settings) -> None:
    """`up` twice is one set of servers; `status` shows them; `down` ends them, twice without an error."""
    first, second = local(home_settings, "up"), local(home_settings, "up")
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    daemon = daemon_of(home_settings)
    started = daemon.create_time()
    with servers(home_settings, ("s3", "kafka")) as ready:
        assert ready.s3_endpoint in first.stdout
        assert ready.s3_endpoint in second.stdout
        write(ready, "b")
        assert ready_brokers(ready.kafka_servers) == 1
    shown = local(home_settings, "status")
    assert shown.returncode == 0
    assert [line.split()[:2] for line in shown.stdout.splitlines()[1:]] == [
        ["s3", "running"],
        ["kafka", "running"],
        ["no", "cluster"],
    ]
    assert local(home_settings, "down").stdout == "stopped\n"
    assert not is_running(daemon.pid, started)
    assert running(home_settings) == []
    assert local(home_settings, "down").stdout == "nothing was running\n"
    assert [row.state for row in status(home_settings)] == ["stopped", "stopped"]


def test_status_of_an_empty_home_starts_nothing(home_settings: Settings) -> None:
    """Asking is free: it makes no folder and no process."""
    assert [row.state for row in status(home_settings)] == ["stopped", "stopped"]
    assert not down(home_settings)
    with lifeline(home_settings) as alive:
        assert not alive
    assert not home_settings.home.exists()


def test_a_killed_daemon_leaves_nothing_but_the_data(home_settings: Settings) -> None:
    """After kill -9 the servers end too, and the next ones have all that was stored."""
    with servers(home_settings) as ready:
        write(ready, "kept")
        daemon_of(home_settings).kill()
        wait_until(lambda: not running(home_settings), within_s=60)
    with servers(home_settings) as again:
        assert read(again, "kept") == b"kept"
        keys = (again.access_key, again.secret_key)
    assert keys == (ready.access_key, ready.secret_key)


def test_a_killed_client_takes_its_servers_along(home_settings: Settings) -> None:
    """A lifeline ends with its process, however that ended."""
    with client(home_settings) as process:
        assert endpoint_of(process)
        daemon = daemon_of(home_settings)
        started = daemon.create_time()
        process.send_signal(signal.SIGKILL)
    wait_until(lambda: not is_running(daemon.pid, started))
    assert running(home_settings) == []


def test_a_lifeline_keeps_servers_alive(home_settings: Settings) -> None:
    """Servers outlive the process that started them while somebody holds a lifeline."""
    with client(home_settings) as process:
        assert endpoint_of(process)
        with lifeline(home_settings) as alive:
            assert alive
            leave(process)
            assert len(running(home_settings)) == 1
    assert running(home_settings) == []


def test_a_dead_server_is_noticed_and_comes_back_on_its_port(home_settings: Settings) -> None:
    """`status` says that it is down; the next one who needs it restarts it where it was."""
    with servers(home_settings) as ready:
        write(ready, "kept")
        running(home_settings)[0].kill()
        wait_until(lambda: status(home_settings)[0].state == "down")
        with servers(home_settings) as again:
            assert again.s3_endpoint == ready.s3_endpoint
            assert read(again, "kept") == b"kept"


@pytest.mark.parametrize("listening", [True, False])
def test_a_lost_port_is_replaced(home_settings: Settings, tmp_path: Path, listening: bool) -> None:
    """A port that somebody took before the start costs another try; three such tries are the end."""
    [taken] = free_ports(1, GRPC_OFFSET)
    with socket.socket() as other:
        other.bind((HOST, taken))
        if listening:
            other.listen()
        done = [collide(home_settings, taken, f"test-{tmp_path}", times) for times in (2, 3)]
    assert done[0].stdout.startswith("http://127.0.0.1:"), done[0].stderr
    assert f":{taken}" not in done[0].stdout
    assert "PortTakenError" in done[1].stderr
    assert list(marked(f"test-{tmp_path}")) == []


def test_keys_are_readable_by_their_owner_only(home_settings: Settings) -> None:
    """Generated keys are in one 0600 file: in no log, no command line, no environment of a server."""
    users_own = replace(home_settings, access_key="AKIA-of-the-user", secret_key="secret-of-the-user")
    with servers(users_own) as ready:
        write(ready, "a")
        places = Places(home_settings.home)
        keys = read_keys(places.keys)
        assert keys == (ready.access_key, ready.secret_key)
        assert min(map(len, keys)) >= 20
        assert stat.S_IMODE(places.keys.stat().st_mode) == 0o600
        seen = [path.read_text() for path in (places.home / "logs").iterdir()]
        for process in (*running(home_settings), daemon_of(home_settings)):
            seen += [*process.cmdline(), *process.environ().values()]
        seen.append(places.record.read_text())
        assert len(seen) > 10
        assert not any(key in text for key in keys for text in seen)
        assert not any("of-the-user" in text for text in running(home_settings)[0].environ().values())


def test_memory_in_use_counts_the_servers(home_settings: Settings) -> None:
    """They are processes of the home as all others are."""
    before = in_use(home_settings.home)
    with servers(home_settings):
        (server,) = running(home_settings)
        assert in_use(home_settings.home) - before > server.memory_full_info().uss


def test_servers_listen_on_loopback_only(home_settings: Settings) -> None:
    """Every port of S3 and Kafka is on 127.0.0.1."""
    with servers(home_settings, ("s3", "kafka")):
        listening = [
            connection.laddr.ip
            for process in running(home_settings)
            for connection in process.net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        ]
    assert len(listening) >= 12
    assert set(listening) == {"127.0.0.1"}


def test_a_failed_start_shows_the_log(home_settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    """A server that ends by itself: its last lines, and one line with the log's place. Nothing stays."""
    data = Places(home_settings.home).data("s3")
    data.mkdir(parents=True)
    (data / "filerldb2").write_text("in the way")
    with (
        pytest.raises(UserError, match=r"s3 did not start: .*logs/s3\.log") as caught,
        servers(home_settings),
    ):
        pass
    assert "\n" not in str(caught.value)
    assert "filerldb2" in capsys.readouterr().err
    assert running(home_settings) == []


def test_a_file_in_place_of_a_folder_is_named(home_settings: Settings) -> None:
    """Data that can't be stored is one line with the path; so is a home that can't be made."""
    home_settings.home.mkdir()
    (home_settings.home / "s3").write_text("")
    with pytest.raises(UserError, match="home/s3"), servers(home_settings):
        pass
    nowhere = replace(home_settings, home=home_settings.home / "s3" / "home")
    with pytest.raises(UserError, match="set MILLSTREAM_HOME"), servers(nowhere):
        pass


def test_kafka_without_its_jars_says_how_to_get_them(home_settings: Settings, tmp_path: Path) -> None:
    """Missing jars are one line with the command that fetches them."""
    settings = replace(home_settings, jars=tmp_path / "none")
    with pytest.raises(UserError, match="run `make setup`"), servers(settings, ("kafka",)):
        pass


def test_given_servers_that_do_not_answer_are_named(home_settings: Settings) -> None:
    """For servers that the settings give nothing is started; one line says which does not answer."""
    given = replace(home_settings, s3_endpoint="http://127.0.0.1:1", access_key="k" * 8, secret_key="s" * 8)
    with pytest.raises(UserError, match=r"127\.0\.0\.1:1 does not answer; .*AWS_ENDPOINT_URL_S3") as caught:
        up(given)
    assert "\n" not in str(caught.value)
    given = replace(home_settings, kafka_servers="127.0.0.1:1")
    with pytest.raises(UserError, match=r"answers at 127\.0\.0\.1:1; .*KAFKA_BOOTSTRAP_SERVERS"):
        up(given)
    assert not home_settings.home.exists()


def test_given_servers_are_used_as_they_are(s3_settings: Settings, home_settings: Settings) -> None:
    """A process that is given a server starts none and gets the same settings."""
    given = replace(s3_settings, home=home_settings.home)
    with servers(given) as ready:
        assert ready == given
        assert status(given)[0].state == "given"
    assert not home_settings.home.exists()


def test_a_home_deep_in_the_tree_works(home_settings: Settings) -> None:
    """Longer paths than a socket's address can hold are no obstacle."""
    with servers(replace(home_settings, home=home_settings.home / ("deep" * 30))) as ready:
        write(ready, "a")


def test_one_broker_serves(kafka_settings: Settings) -> None:
    """Kafka answers with the one broker; asked for three while it runs it refuses, and says what to do."""
    assert ready_brokers(kafka_settings.kafka_servers) == 1
    three = replace(kafka_settings, kafka_servers="", kafka_brokers=3)
    with pytest.raises(UserError, match="run `make down` first"), servers(three, ("kafka",)):
        pass
    with pytest.raises(UserError, match="1 or 3"), servers(replace(three, kafka_brokers=2), ("kafka",)):
        pass


def test_no_broker_is_an_error_of_its_own() -> None:
    """Asking where nobody listens is KafkaUnavailableError."""
    with pytest.raises(KafkaUnavailableError, match=r"127\.0\.0\.1:1"):
        ready_brokers("127.0.0.1:1", timeout_s=0.5)


@pytest.mark.slow
def test_of_three_brokers_one_may_die(home_settings: Settings) -> None:
    """The cluster goes on with two, `status` shows it, and the next one who needs it gets three again."""
    three = replace(home_settings, kafka_brokers=3)
    with servers(three, ("kafka",)) as ready:
        assert ready_brokers(ready.kafka_servers) == 3
        running(three)[0].kill()
        wait_until(lambda: ready_brokers(ready.kafka_servers) == 2)
        assert status(three)[1].state == "2 of 3 running"
        with servers(three, ("kafka",)) as again:
            assert again.kafka_servers == ready.kafka_servers
            assert ready_brokers(again.kafka_servers) == 3
    assert running(three) == []
