"""Publishes a run: proof that its table is whole, its figures, then the pointer `latest.json`.

Below an output address each run has `<run>/table/`, perhaps `<run>/rejected/`, and
`<run>/figures.json`; `latest.json` names the run to read and is written last, with one put.
"""

from __future__ import annotations

import json
import re
from typing import Any

from infra.contracts.errors import UserError
from infra.files import Store, below

RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
RUNS_KEPT = 5
PARTS = ("table", "rejected", "figures.json")


def check_run(store: Store, output: str, run: str) -> None:
    """Raise UserError for a run id that is no plain name, or that readers are reading already."""
    if not RUN_ID.fullmatch(run):
        raise UserError(f"{run!r} is no run id: use letters, digits, '.', '_' and '-'")
    latest = read_pointer(store, output)
    if latest is not None and latest["run"] == run:
        raise UserError(f"run {run} is published already at {output}; give another run id")


def read_pointer(store: Store, output: str) -> dict[str, Any] | None:
    """What `latest.json` says, None when nothing was published yet."""
    try:
        return dict(json.loads(store.get(below(output, "latest.json"))))
    except FileNotFoundError:
        return None


def check_committed(store: Store, folder: str) -> None:
    """Raise RuntimeError unless `folder` was written by the magic committer.

    Spark's own committer renames, which is neither atomic nor quick on S3; it leaves an empty
    `_SUCCESS`. Local folders are not checked: a rename is sound there.
    """
    if folder.startswith("file://"):
        return
    mark = store.get(below(folder, "_SUCCESS"))
    committer = json.loads(mark).get("committer") if mark else None
    if committer != "magic":
        raise RuntimeError(
            f"{folder} was written by {committer or 'the rename'} committer, not the magic one: nothing "
            "is published; is spark-hadoop-cloud on the classpath and the scheme bound to it?"
        )


def publish(store: Store, output: str, figures: dict[str, Any]) -> None:
    """Make a run the one that readers read. Its table must be complete."""
    body = (json.dumps(figures, indent=2, ensure_ascii=False) + "\n").encode()
    store.put(below(output, figures["run"], "figures.json"), body)
    store.put(below(output, "latest.json"), body)


def delete_old_runs(store: Store, output: str) -> list[str]:
    """Delete all but the newest RUNS_KEPT runs by id, never the published one; returns their ids."""
    latest = read_pointer(store, output)
    root = below(output, "")
    paths = (item.url.removeprefix(root).split("/") for item in store.list(root))
    runs = sorted({path[0] for path in paths if len(path) > 1 and path[1] in PARTS})
    old = [run for run in runs[:-RUNS_KEPT] if latest is None or run != latest["run"]]
    for run in old:
        store.delete_prefix(below(output, run, ""))
    return old
