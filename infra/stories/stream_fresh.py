"""Starts a data set anew: what was played, decided, archived and alerted on goes; what was prepared stays."""

from __future__ import annotations

from infra.contracts.datasets import DELIVERED, GROUPS, DataSet
from infra.contracts.errors import UserError
from infra.objects import ObjectStore
from infra.provision import streams_of
from infra.settings import Settings
from infra.stories.stream_play import alerts_file
from infra.streams.admin import StreamAdmin


def start_anew(settings: Settings, data_set: DataSet) -> None:
    """Delete the data set's streams with their consumer groups, and what came of them.

    A mark says that it has begun until all of it is done: see `is_half_done`.
    """
    store = ObjectStore(settings)
    names = [stream.name for stream in streams_of(data_set) if data_set.id or stream.name != "sales"]
    with StreamAdmin(settings.kafka_servers) as admin:
        readers = sorted({group for name in names for group in admin.groups_reading(name)})
        if readers:
            raise UserError(f"FRESH=1: consumers still read these streams ({', '.join(readers)}); end them")
        store.put(data_set.emptying, b"")
        admin.delete(names)
        admin.delete_groups(data_set.group(name) for name in GROUPS)
    for name in DELIVERED:
        store.delete_prefix(f"{data_set.archive(name)}live/")
        store.delete_prefix(f"s3://{data_set.bucket}/errors/{data_set.stream(name)}/")
    store.delete_prefix(data_set.snapshots)
    alerts_file(settings, data_set).unlink(missing_ok=True)
    store.delete([data_set.emptying])


def is_half_done(settings: Settings, data_set: DataSet) -> bool:
    """Whether it was begun and did not come to its end: what is left belongs to streams that are gone."""
    return ObjectStore(settings).exists(data_set.emptying)
