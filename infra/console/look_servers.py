"""Looks at the servers: S3, Kafka and the warehouse. Starts none of them."""

from __future__ import annotations

import socket
from contextlib import suppress
from dataclasses import replace
from urllib.parse import urlsplit

from infra.console.state import Light, Servers
from infra.contracts.errors import UserError
from infra.local import kafka, s3, servers
from infra.local.places import Places
from infra.objects import ObjectStore, StoreUnavailableError
from infra.report.formats import memory
from infra.settings import Settings
from infra.streams.brokers import reachable

TRY_S = 2.0
POSTGRES_PORT = 5432
NOT_RUNNING = "not running"


class ServersLook:
    """Where the servers are now, and whether they answer."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._store: ObjectStore | None = None

    def __call__(self) -> Servers:
        """Ask each once."""
        rows = {row.service: row for row in servers.status(self._settings)}
        live = replace(self._settings, s3_endpoint="", kafka_servers="")
        s3_light, live = self._s3(rows[s3.NAME], live)
        kafka_light, live = _kafka(rows[kafka.NAME], live)
        return Servers(live, (s3_light, kafka_light, _warehouse(self._settings)))

    def _s3(self, row: servers.Row, live: Settings) -> tuple[Light, Settings]:
        if not row.endpoint:
            return _absent("S3", row), live
        given = live.with_s3(row.endpoint, live.access_key, live.secret_key)
        found = given if row.state == "given" else s3.endpoint_settings(live, row.endpoint)
        if self._store is None or self._store.endpoint != row.endpoint:
            self._store = ObjectStore(found)
        try:
            there = self._store.check(found.bucket, timeout_s=5)
        except (StoreUnavailableError, UserError) as error:
            return Light("S3", "down", "down", str(error)), live
        words = "up" if there else f"up, no bucket {found.bucket} yet"
        return Light("S3", "up", words, row.endpoint), found


def _kafka(row: servers.Row, live: Settings) -> tuple[Light, Settings]:
    if not row.endpoint:
        return _absent("Kafka", row), live
    if not reachable(row.endpoint):
        return Light("Kafka", "down", "down", f"no broker answers at {row.endpoint}"), live
    words = row.state if " of " in row.state else "up"
    return Light("Kafka", "up", words, row.endpoint), live.with_kafka(row.endpoint)


def _absent(name: str, row: servers.Row) -> Light:
    if row.state == "down":
        return Light(name, "down", "down", "its process has ended")
    return Light(name, "off", NOT_RUNNING, "`make up` starts it, and so does every job that needs it")


def _warehouse(settings: Settings) -> Light:
    """A PostgreSQL server is asked for a connection; the DuckDB file is looked at, never opened."""
    if settings.warehouse:
        where = urlsplit(settings.warehouse)
        address = (where.hostname or "", where.port or POSTGRES_PORT)
        with suppress(OSError), socket.create_connection(address, timeout=TRY_S):
            return Light("Warehouse", "up", "up", f"PostgreSQL at {address[0]}:{address[1]}")
        return Light("Warehouse", "down", "down", f"PostgreSQL at {address[0]}:{address[1]} does not answer")
    file = Places(settings.home).data("warehouse.duckdb")
    try:
        return Light("Warehouse", "up", "ready", f"{file}, {memory(file.stat().st_size / 2**20)}")
    except FileNotFoundError:
        return Light("Warehouse", "off", "empty", "`make batch-job` fills it")
