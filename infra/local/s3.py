"""SeaweedFS as the embedded S3 server: its command line, and whether it is ready."""

from __future__ import annotations

import shutil
import signal
import sys
from functools import partial
from pathlib import Path

from infra.contracts.errors import UserError
from infra.local.keys import ensure_keys, read_keys
from infra.local.places import Places
from infra.local.ports import HOST, free_ports, is_open
from infra.local.service import Node, Service
from infra.objects import ObjectStore, StoreUnavailableError
from infra.settings import Settings

NAME = "s3"
ROLES = ("s3", "master", "filer", "volume", "admin")
# Each role's gRPC port; its own admin worker looks there whatever -admin.port.grpc says.
GRPC_OFFSET = 10_000
START_WITHIN_S = 60.0
# On SIGTERM it stores all and ends within a second or two, or then hangs on its own connections for ever.
STOP_WITHIN_S = 3.0
FLAGS = (
    f"-ip={HOST}",
    f"-ip.bind={HOST}",
    "-master.telemetry=false",
    "-webdav=false",
    "-admin.ui=false",
    "-s3.port.iceberg=0",
    "-s3.port.lance=0",
    # As S3 itself: a bucket is made on purpose, and deleted only when empty.
    "-s3.autoCreateBucket=false",
    "-s3.allowDeleteBucketNotEmpty=false",
    "-volume.preStopSeconds=0",
    # In the run folder, which is the process's own: by default they stay in /tmp.
    "-s3.localSocket=s3.sock",
    "-filer.localSocket=filer.sock",
    "-s3.localFilerSocket=filer.sock",
)


def choose_ports() -> tuple[int, ...]:
    """One free port for each role, its gRPC port free too."""
    return free_ports(len(ROLES), GRPC_OFFSET)


def service(settings: Settings, ports: tuple[int, ...]) -> Service:
    """The S3 server of one home, on these ports (one for each of ROLES)."""
    places = Places(settings.home)
    data = places.data(NAME)
    return Service(
        name=NAME,
        endpoint=f"http://{HOST}:{ports[0]}",
        ports=(*ports, *(port + GRPC_OFFSET for port in ports)),
        data=data,
        nodes=(Node(NAME, command(data, places.keys, ports), places.run, places.log(NAME), signal.SIGKILL),),
        prepare=partial(prepare, data, places.keys),
        check=partial(check, settings, ports[0]),
        start_within_s=START_WITHIN_S,
        leaves=tuple(
            Path("/tmp") / f"seaweedfs-{role}-grpc-{port + GRPC_OFFSET}.sock"  # noqa: S108 (its own choice)
            for role, port in zip(ROLES, ports, strict=True)
        ),
    )


def command(data: Path, keys: Path, ports: tuple[int, ...]) -> tuple[str, ...]:
    """The command line that serves a data folder."""
    listen = [
        flag
        for role, port in zip(ROLES, ports, strict=True)
        for flag in (f"-{role}.port={port}", f"-{role}.port.grpc={port + GRPC_OFFSET}")
    ]
    weed = str(Path(sys.executable).parent / "weed")
    return (weed, "-logtostderr=true", "mini", f"-dir={data}", f"-s3.config={keys}", *FLAGS, *listen)


def prepare(data: Path, keys: Path) -> None:
    """Make the data folder and the keys.

    What earlier runs left of their ports goes: a single master learns all from its volumes.
    """
    ensure_keys(keys)
    data.mkdir(parents=True, exist_ok=True)
    for stale in data.glob("m[0-9]*"):
        shutil.rmtree(stale)
    (data / "mini.options").unlink(missing_ok=True)


def check(settings: Settings, port: int) -> str:
    """Empty when the server answers signed requests, otherwise what it lacks."""
    if not is_open(port):
        return f"port {port} is not open"
    try:
        store = ObjectStore(endpoint_settings(settings, f"http://{HOST}:{port}"))
        store.check(settings.bucket, timeout_s=5)
    except (StoreUnavailableError, UserError) as error:  # it refuses keys until it has read them
        return str(error)
    return ""


def endpoint_settings(settings: Settings, endpoint: str) -> Settings:
    """The settings with the embedded server's endpoint and its keys."""
    return settings.with_s3(endpoint, *read_keys(Places(settings.home).keys))
