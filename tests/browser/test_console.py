"""The console in a real browser, over real servers: what it shows is what they hold."""

from __future__ import annotations

import os
import pty
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
import urllib3
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from infra.cluster.journal import Journal
from infra.cluster.model import Cluster, Instance, Step
from infra.console.token_file import token_path
from infra.contracts.datasets import LABEL_DELAY, DataSet
from infra.contracts.events import Alert, Decision, Event, Label, Transaction, encode
from infra.local import kafka, servers
from infra.objects import ObjectStore
from infra.provision import provision
from infra.report.folder import write_report
from infra.settings import ROOT, Settings
from infra.streams.admin import StreamAdmin
from infra.streams.producer import StreamProducer
from infra.streams.records import shard_number
from tests import scorer_cases as cases
from tests.stream_cases import wait

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

WITHIN_MS = 60_000
expect.set_options(timeout=WITHIN_MS)
TRANSACTIONS, ALERTS = 400, 8
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SECTIONS = ("/", "/fraud", "/archive", "/clusters", "/results")


@dataclass
class Served:
    """A console that runs, and how to reach it."""

    process: subprocess.Popen[str]
    base: str
    token: str

    @property
    def address(self) -> str:
        """The address with the token, as somebody at a terminal gets it."""
        return f"{self.base}/?token={self.token}"


@dataclass
class Seen:
    """A browser's page with all that it asked for and complained of."""

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


@contextmanager
def serving(settings: Settings) -> Iterator[Served]:
    """The console as a process of its own, on a free port."""
    environment = replace(settings, console_port=0).environment()
    environment.pop("PYTEST_CURRENT_TEST", None)  # NiceGUI behaves otherwise under it
    with subprocess.Popen(
        [sys.executable, "-m", "infra.console"],
        env=environment, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("console: "), (line, process.stderr and process.stderr.read())
            token = settings.console_token or token_path(settings.home).read_text()
            assert token not in line  # what is no terminal may be a log
            yield Served(process, line.split()[1].rstrip("/"), token)
        finally:
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=30)
            print(errors)


def alert_of(transaction: Transaction) -> Alert:
    """An alert on a transaction, with a text that is no markup."""
    return Alert(
        alert_id=f"a{transaction.transaction_id}",
        transaction_id=transaction.transaction_id,
        event_time=transaction.event_time,
        card_id=transaction.card_id,
        terminal_id=transaction.terminal_id,
        amount_cents=transaction.amount_cents,
        score=0.9,
        action="block",
        reasons=["<b>amount</b> is high"],
        model_version="m1",
        sent_at=transaction.event_time,
        scored_at=transaction.event_time,
    )


def decision_of(transaction: Transaction) -> Decision:
    """What the model m1 said of a transaction."""
    fields = {name: getattr(transaction, name) for name in transaction.__struct_fields__}
    return Decision(
        **fields, score=0.1, action="approve", reasons=[], model_version="m1", terminal_as_of=None,
        features=[], sent_at=transaction.event_time, scored_at=transaction.event_time,
    )  # fmt: skip


def label_of(transaction: Transaction) -> Label:
    """A label that comes when it is due."""
    return Label(
        transaction_id=transaction.transaction_id,
        event_time=transaction.event_time,
        card_id=transaction.card_id,
        terminal_id=transaction.terminal_id,
        known_at=transaction.event_time + LABEL_DELAY,
    )


class Home:
    """A home with records, labels, alerts, a delivered archive, a cluster's journal and a report."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.data_set = DataSet(settings.bucket)
        self.live = servers.up(settings)
        store = ObjectStore(self.live)
        provision(self.live, self.data_set)
        cases.publish_manifest(store, self.data_set, 8)
        cases.publish_model(store, self.data_set, "m1", cases.LIVE_FROM)
        self.rows = cases.transactions(3, cases.LIVE_FROM, 20, TRANSACTIONS // 20)
        flagged = self.rows[:: TRANSACTIONS // ALERTS]
        self.alerts = [alert_of(row) for row in flagged]
        # Half of the alerts were right, and one fraud was missed; the last label says how far labels go.
        frauds = [*flagged[::2], self.rows[1], self.rows[-1]]
        self.labels = [label_of(row) for row in sorted(frauds, key=lambda row: row.event_time)]
        self.put("transactions", self.rows)
        self.put("decisions", [decision_of(row) for row in self.rows])
        self.put("alerts", self.alerts)
        self.put("labels", self.labels)
        self.cluster = self._cluster()
        self.report = write_report(settings.home, "batch-job", "r1", {"rows": 7}, "<p>the report of a run")

    def put(self, stream: str, events: Sequence[Event]) -> None:
        """Put events, slowly enough for the shards' limits."""
        producer = StreamProducer(self.live.kafka_servers, "test")
        try:
            for each in events:
                producer.put(stream, each.key, encode(each))
            producer.flush()
        finally:
            producer.close()

    def deliver(self) -> None:
        """Run delivery until all transactions are committed."""
        command = [sys.executable, "-m", "stream_consumers.delivery", "--only", "transactions"]
        with subprocess.Popen(command, env=self.live.environment(), cwd=ROOT) as process:
            try:
                wait(lambda: self.lag() == 0, within_s=120)
            finally:
                process.terminate()

    def lag(self) -> int:
        """Transactions that delivery has not committed."""
        with StreamAdmin(self.live.kafka_servers) as admin:
            committed = admin.group_offsets("delivery-transactions")
            ends = admin.ends(admin.shards("transactions"))
        return sum(end - committed.get(shard, 0) for shard, end in ends.items())

    def _cluster(self) -> Cluster:
        node = Instance(
            "ci-1", "ig-1", "MASTER", "m5.xlarge", "ON_DEMAND", 1, 512, 1e9, "TERMINATED", 1e9, 1e9 + 90
        )
        step = Step("s-1", "Roll up", [], "CONTINUE", 1e9, "COMPLETED", 1e9 + 20, 1e9 + 80, 0)
        cluster = Cluster(
            id="j-1", name="rollup", release_label="spark-4.1.1", log_uri=None, created_at=1e9,
            keep_alive=False, protected=False, idle_timeout_s=None, spark_version="4.1.1",
            executor_memory_mb=1, driver_memory_mb=1, tags={}, notes=[], steps=[step], instances=[node],
            state="TERMINATED", states=[("STARTING", 1e9), ("RUNNING", 1e9 + 20), ("TERMINATED", 1e9 + 90)],
        )  # fmt: skip
        journal = Journal(self.settings.home / "clusters" / cluster.id)
        journal.step_folder("s-1").mkdir(parents=True)
        journal.write(cluster)
        (journal.step_folder("s-1") / "stdout").write_text("rolled up 7 rows\n")
        return cluster


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A real browser. Without one this fails and says what to install; it is never skipped."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.fail("no Chromium is installed: apt-get install -y chromium")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield found
        found.close()


def page_of(browser: Browser, context: BrowserContext | None = None) -> Seen:
    """A new page that notes what it asks for and what it complains of."""
    page = (context or browser.new_context(viewport={"width": 1440, "height": 1000})).new_page()
    page.set_default_timeout(WITHIN_MS)
    seen = Seen(page)
    page.on("request", lambda request: seen.requests.append(request.url))
    page.on("websocket", lambda socket: seen.requests.append(socket.url))
    page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    page.on(
        "console",
        lambda message: (
            seen.complaints.append(message.text) if message.type in ("error", "warning") else None
        ),
    )
    return seen


def screenshot(page: Page, name: str, folder: Path) -> None:
    """Keep what was seen, in $MILLSTREAM_SCREENSHOTS if that is set."""
    target = Path(os.environ.get("MILLSTREAM_SCREENSHOTS") or folder)
    page.screenshot(path=target / f"console-{name}.png", full_page=True)


def text_of(page: Page, selector: str, text: str) -> None:
    """Wait until an element has exactly this text."""
    expect(page.locator(selector).first).to_have_text(text)


def test_the_page_shows_what_the_servers_hold(
    home_settings: Settings, browser: Browser, tmp_path: Path
) -> None:
    """Offsets, alerts, states, archive; a stopped Kafka is said, its return seen; nothing leaves here."""
    home = Home(home_settings)
    home.deliver()
    with serving(home_settings) as console:
        seen = page_of(browser)
        page = seen.page
        page.goto(console.address)
        assert "token" not in page.url

        with StreamAdmin(home.live.kafka_servers) as admin:
            ends = admin.ends(admin.shards("transactions"))
        for shard, end in ends.items():
            text_of(page, f'[data-shard="transactions/{shard.number}"] [data-figure=end]', f"{end:,}")
        text_of(page, '[data-stream=transactions] [data-figure="end"]', f"{TRANSACTIONS:,}")
        text_of(page, '[data-stream=transactions] [data-group="delivery-transactions"] b', "0")
        text_of(page, "[data-light=s3] b", "up")
        text_of(page, "[data-light=kafka] b", "up")
        text_of(page, "[data-light=scorer] b", "not running")
        screenshot(page, "streams", tmp_path)

        page.goto(f"{console.base}/fraud")
        expect(page.locator("[data-alert]")).to_have_count(ALERTS)
        shown = [row.get_attribute("data-alert") for row in page.locator("[data-alert]").all()]
        assert shown == [str(alert.transaction_id) for alert in reversed(home.alerts)]
        expect(page.locator("[data-alert] .why").first).to_have_text("<b>amount</b> is high")
        precision, recall = judged(home)
        text_of(page, "[data-figure=precision]", precision)
        text_of(page, "[data-figure=recall]", recall)
        text_of(page, "[data-figure=model]", "m1")
        late = replace_id(home.alerts[-1], 10_000)
        home.put("alerts", [late])
        expect(page.locator('[data-alert="10000"]')).to_be_visible()
        screenshot(page, "fraud", tmp_path)

        page.goto(f"{console.base}/archive")
        store = ObjectStore(home.live)
        landed = [
            item for item in store.list(home.data_set.archive("transactions")) if "/history/" not in item.url
        ]
        assert landed
        text_of(page, "[data-delivery=transactions] [data-figure=open]", "0")
        text_of(page, "[data-delivery=transactions] [data-figure=lag]", "0")
        for item in landed[:3]:
            expect(page.locator(f'[data-object="{item.url}"]')).to_be_visible()

        page.goto(f"{console.base}/clusters")
        text_of(page, "[data-cluster=j-1] [data-figure=state]", "terminated")
        text_of(page, "[data-step=s-1] [data-figure=state]", "completed")
        screenshot(page, "clusters", tmp_path)
        logs = page.request.get(f"{console.base}/logs/j-1/s-1/stdout")
        assert logs.text() == "rolled up 7 rows\n"

        page.goto(f"{console.base}/results")
        link = page.locator('[data-report="batch-job/r1"] a').first
        report = page.request.get(console.base + str(link.get_attribute("href")))
        assert "the report of a run" in report.text()

        page.goto(f"{console.base}/")
        kafka_goes_and_comes_back(home, page, tmp_path)

        phone = page_of(
            browser, browser.new_context(viewport={"width": 390, "height": 844}, color_scheme="dark")
        )
        phone.page.goto(console.address)
        for path in SECTIONS:
            phone.page.goto(console.base + path)
            expect(phone.page.locator("[data-light=s3]")).to_be_visible()
            assert phone.page.evaluate("document.documentElement.scrollWidth") <= 390
        screenshot(phone.page, "phone", tmp_path)

        for each in (seen, phone):
            hosts = {
                urlsplit(url).hostname for url in each.requests if not url.startswith(("data:", "blob:"))
            }
            assert hosts == {"127.0.0.1"}
            assert each.complaints == []
        for context in browser.contexts:
            context.close()


def judged(home: Home) -> tuple[str, str]:
    """Precision and recall by hand: of what is older than the newest label's own transaction, and decided."""
    last: dict[int, datetime] = {}
    for row in home.rows:
        last[shard_number(row.key, 8)] = row.event_time
    assert len(last) == 8
    until = min(max(label.known_at for label in home.labels) - timedelta(days=7), *last.values())
    frauds = {label.transaction_id for label in home.labels if label.event_time < until}
    alerts = {alert.transaction_id for alert in home.alerts if alert.event_time < until}
    hits = len(frauds & alerts)
    return f"{hits / len(alerts) * 100:.1f} %", f"{hits / len(frauds) * 100:.1f} %"


def replace_id(alert: Alert, number: int) -> Alert:
    """Another alert like it."""
    fields = {name: getattr(alert, name) for name in alert.__struct_fields__}
    return Alert(**{**fields, "transaction_id": number, "alert_id": f"a{number}"})


def kafka_goes_and_comes_back(home: Home, page: Page, folder: Path) -> None:
    """A killed broker is said in words while the page goes on; after a new start the figures move again."""
    (row,) = (row for row in servers.status(home.settings) if row.service == kafka.NAME)
    for pid in row.pids:
        psutil.Process(pid).kill()
    text_of(page, "[data-light=kafka] b", "down")
    expect(page.locator(".banner")).to_contain_text("Kafka is down")
    text_of(page, "[data-light=s3] b", "up")
    text_of(page, '[data-stream=transactions] [data-figure="end"]', f"{TRANSACTIONS:,}")
    screenshot(page, "kafka-down", folder)
    home.live = servers.up(home.settings)
    text_of(page, "[data-light=kafka] b", "up")
    home.put("transactions", [cases.transactions(5, cases.LIVE_FROM, 1, 1)[0]])
    text_of(page, '[data-stream=transactions] [data-figure="end"]', f"{TRANSACTIONS + 1:,}")
    expect(page.locator(".banner")).to_have_count(0)


def test_without_the_token_nothing_is_shown(home_settings: Settings, browser: Browser) -> None:
    """Neither page nor static file nor websocket; with a given token the address is printed without it."""
    settings = replace(home_settings, console_token="a-token-of-the-test")
    with serving(settings) as console:
        base = console.base
        seen = page_of(browser)
        answer = seen.page.goto(f"{base}/fraud")
        assert answer is not None
        assert answer.status == 401
        assert "make console" in seen.page.inner_text("body")
        for path in (
            "/",
            "/reports/batch-job/latest/report.html",
            "/_nicegui_ws/socket.io/?EIO=4&transport=polling",
        ):
            assert urllib3.request("GET", base + path, redirect=False).status == 401
        assert upgrade(base).status == 403
        assert urllib3.request("GET", f"{base}/healthz").data == b"ok"
        rebound = urllib3.request("GET", base, headers={"Host": "rebound.example"})
        assert rebound.status == 403
        opened = page_of(browser)
        opened.page.goto(f"{base}/?token={settings.console_token}")
        expect(opened.page.locator(".banner").first).to_contain_text("S3 is not running")
        cookie = "; ".join(f"{each['name']}={each['value']}" for each in opened.page.context.cookies())
        assert upgrade(base, Cookie=cookie).status == 101
        assert upgrade(base, Cookie=cookie, Origin="http://elsewhere.example").status == 403
        assert opened.complaints == []
        console.process.send_signal(signal.SIGINT)
        assert console.process.wait(timeout=30) == 130


def upgrade(base: str, **headers: str) -> urllib3.BaseHTTPResponse:
    """Ask for the websocket."""
    wanted = {
        "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", **headers,
    }  # fmt: skip
    url = f"{base}/_nicegui_ws/socket.io/?EIO=4&transport=websocket"
    return urllib3.request("GET", url, headers=wanted, preload_content=False, retries=False, timeout=10)


def test_a_taken_port_is_one_line(home_settings: Settings) -> None:
    """Exit code 2 and what to do."""
    with serving(home_settings) as console:
        port = urlsplit(console.address).port
        assert port is not None
        second = subprocess.run(
            [sys.executable, "-m", "infra.console"],
            env=replace(home_settings, console_port=port).environment(),
            cwd=ROOT,
            text=True,
            capture_output=True,
            timeout=60,
        )
    assert second.returncode == 2
    assert re.fullmatch(r"error: the console can't listen on .*MILLSTREAM_CONSOLE_PORT.*\n", second.stderr)
    assert console.process.returncode == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_somebody_at_a_terminal_gets_the_token(home_settings: Settings, number: int, code: int) -> None:
    """One line with the whole address; SIGTERM and Ctrl-C end it without a word."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "infra.console"],
        env=replace(home_settings, console_port=0).environment(),
        cwd=ROOT, text=True, stdout=theirs, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            line = b""
            while not line.endswith(b"\n"):
                line += os.read(ours, 1_000)
            process.send_signal(number)
            _, errors = process.communicate(timeout=30)
        finally:
            process.kill()
            os.close(ours)
            os.close(theirs)
    token = token_path(home_settings.home).read_text()
    assert re.fullmatch(rf"console: http://127\.0\.0\.1:\d+/\?token={token}\r\n", line.decode())
    assert (process.returncode, errors.strip()) == (code, "")
