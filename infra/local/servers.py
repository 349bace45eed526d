"""The servers that work needs, whether started here or given by the settings.

A process inside `servers(...)` hands the endpoints to its children in the settings; for them the
servers are given, so they hold no lifeline.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import psutil

from infra.contracts.errors import UserError
from infra.local import kafka, launch, s3
from infra.local.places import Places
from infra.local.service import ServiceState
from infra.objects import ObjectStore, StoreUnavailableError
from infra.settings import Settings
from infra.streams.brokers import ready_brokers
from infra.streams.errors import KafkaUnavailableError
from infra.wire import Message

EVERYTHING = (s3.NAME, kafka.NAME)


@dataclass(frozen=True)
class Row:
    """One service as `status` shows it: memory in MB, resident, of all its processes."""

    service: str
    state: str
    endpoint: str
    pids: list[int]
    memory_mb: int
    data: str


@contextlib.contextmanager
def servers(settings: Settings, need: Sequence[str] = (s3.NAME,)) -> Iterator[Settings]:
    """The settings with the endpoints of the services that are needed: "s3", "kafka".

    A service that the settings give is only asked whether it answers. The others are started unless
    they run, and live until the last process inside such a block leaves it (or until `down`, after
    `up`). Raises UserError when a given one does not answer or one of ours does not start.
    """
    for name in need:
        if _given(settings, name):
            _check_given(settings, name)
    own = [name for name in need if not _given(settings, name)]
    if not own:
        yield settings
        return
    channel, answer = launch.connect(settings, _need(settings, own))
    try:
        yield _with_endpoints(settings, answer)
    finally:
        channel.close(launch.STOP_WITHIN_S)


def up(settings: Settings) -> Settings:
    """Start everything that the settings do not give and keep it until `down`; once more is no error."""
    own = [name for name in EVERYTHING if not _given(settings, name)]
    with servers(settings, EVERYTHING) as ready:
        if own:
            found = launch.connect_running(settings, {"keep": True})
            if found is None:
                raise UserError("the servers ended while they were started; run the command again")
            found[0].close()
    return ready


def down(settings: Settings) -> bool:
    """End the home's servers and wait until they are gone; whether any were running."""
    return launch.stop(settings)


@contextlib.contextmanager
def lifeline(settings: Settings) -> Iterator[bool]:
    """Keep a home's servers alive for the block, if they run; yields whether they do. Starts nothing."""
    found = launch.connect_running(settings, {"status": True})
    try:
        yield found is not None
    finally:
        if found is not None:
            found[0].close(launch.STOP_WITHIN_S)


def status(settings: Settings) -> list[Row]:
    """How each service stands: `running`, `n of m running`, `down`, `stopped`, or `given` by settings."""
    found = launch.connect_running(settings, {"status": True})
    states: dict[str, ServiceState] = {}
    if found is not None:
        channel, answer = found
        channel.close(launch.STOP_WITHIN_S)
        states = {state["name"]: ServiceState(**state) for state in answer["services"]}
    return [_row(settings, name, states.get(name)) for name in EVERYTHING]


def _given(settings: Settings, name: str) -> str:
    return settings.s3_endpoint if name == s3.NAME else settings.kafka_servers


def _check_given(settings: Settings, name: str) -> None:
    endpoint = settings.s3_endpoint
    if name == s3.NAME and not endpoint.startswith(("http://", "https://")):
        raise UserError(f"AWS_ENDPOINT_URL_S3 must be written as http://host:port, not {endpoint!r}")
    try:
        if name == s3.NAME:
            ObjectStore(settings).check(settings.bucket)
        else:
            ready_brokers(settings.kafka_servers)
    except StoreUnavailableError as error:
        raise UserError(f"{error}; start that S3 server or unset AWS_ENDPOINT_URL_S3") from error
    except KafkaUnavailableError as error:
        raise UserError(f"{error}; start it or unset KAFKA_BOOTSTRAP_SERVERS") from error


def _need(settings: Settings, names: list[str]) -> Message:
    if kafka.NAME in names and settings.kafka_brokers not in (1, 3):
        raise UserError(f"KAFKA_BROKERS must be 1 or 3, not {settings.kafka_brokers}")
    return {"need": names, "brokers": settings.kafka_brokers}


def _with_endpoints(settings: Settings, answer: Message) -> Settings:
    if "error" in answer:
        launch.show_lines(answer["lines"])
        raise UserError(answer["error"])
    endpoints: dict[str, str] = answer["endpoints"]
    if kafka.NAME in endpoints:
        settings = settings.with_kafka(endpoints[kafka.NAME])
    if s3.NAME in endpoints:
        settings = s3.endpoint_settings(settings, endpoints[s3.NAME])
        ObjectStore(settings).ensure_bucket(settings.bucket)
    return settings


def _row(settings: Settings, name: str, state: ServiceState | None) -> Row:
    if _given(settings, name):
        return Row(name, "given", _given(settings, name), [], 0, "")
    if state is None:
        folder = kafka.name(settings.kafka_brokers) if name == kafka.NAME else name
        return Row(name, "stopped", "", [], 0, str(Places(settings.home).data(folder)))
    memory = sum(_resident_mb(pid) for pid in state.pids)
    return Row(name, state.state, state.endpoint, state.pids, memory, state.data)


def _resident_mb(pid: int) -> int:
    try:
        return int(psutil.Process(pid).memory_info().rss) // 2**20
    except psutil.NoSuchProcess:
        return 0
