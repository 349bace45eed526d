"""Starts a data set anew: what was played, decided and archived goes; what was prepared for it stays."""

from __future__ import annotations

from infra.contracts.datasets import GROUPS, DataSet
from infra.contracts.errors import UserError
from infra.objects import ObjectStore
from infra.provision import streams_of
from infra.settings import Settings
from infra.streams.admin import StreamAdmin

DELIVERED = ("transactions", "labels", "decisions")


def start_anew(settings: Settings, data_set: DataSet) -> None:
    """Delete the data set's streams with their consumer groups, and what was delivered from them."""
    names = [stream.name for stream in streams_of(data_set) if data_set.id or stream.name != "sales"]
    with StreamAdmin(settings.kafka_servers) as admin:
        readers = sorted({group for name in names for group in admin.groups_reading(name)})
        if readers:
            raise UserError(f"FRESH=1: consumers still read these streams ({', '.join(readers)}); end them")
        admin.delete(names)
        admin.delete_groups(data_set.group(name) for name in GROUPS)
    store = ObjectStore(settings)
    for name in DELIVERED:
        store.delete_prefix(f"{data_set.archive(name)}live/")
        store.delete_prefix(f"s3://{data_set.bucket}/errors/{data_set.stream(name)}/")
    store.delete_prefix(data_set.snapshots)
