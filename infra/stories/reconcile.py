"""`make reconcile`: recomputes every archived decision of a data set by the batch code, and compares."""

from __future__ import annotations

import functools
import json
import time
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from infra import process
from infra.contracts import resources
from infra.contracts.datasets import DataSet
from infra.contracts.errors import FailedError, UserError
from infra.local.servers import servers
from infra.objects import ObjectStore
from infra.progress import progress
from infra.report.formats import count
from infra.settings import ROOT, Settings
from infra.stories import stream_demo
from infra.stories.cluster_run import failure, run_cluster
from infra.stories.run import Variable, only_one
from infra.stories.stream_data import named_data_set
from infra.stories.stream_offsets import Streams
from infra.stories.stream_play import has_standing_consumers
from infra.streams.admin import StreamAdmin
from infra.supervisor import Supervisor
from infra.terminal import terminal

JOB = "reconcile"
REQUEST = ROOT / "infra" / "resources" / "clusters" / "reconcile.json"

variable = functools.partial(click.option, cls=Variable)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@variable("--input", "input_", help="The transactions of your own whose decisions are meant.")
@variable("--columns", help="What their columns are, as for stream-demo.")
@variable("--history", type=float, help="The share of them that is history, as for stream-demo.")
@variable("--shards", type=int, help="Shards of the stream, as for stream-demo.")
@click.option("--started", type=float, hidden=True)
def main(
    input_: str | None, columns: str | None, history: float | None, shards: int | None, started: float | None
) -> int:
    """Compare the decisions of the last stream-demo, or of a data set, with the batch code's."""
    chosen = stream_demo.Options(input=input_, columns=columns, history=history, shards=shards)
    chosen.check()
    began = started or time.time()
    settings, console = Settings.load(), terminal()
    last = None if input_ or shards else last_data_set(settings)
    with only_one(settings, stream_demo.JOB, stream_demo.RUNNING):
        data_set = last or _asked(settings, chosen)
        with servers(settings, ("s3", "kafka")) as live:
            if has_standing_consumers(live, data_set):
                _wait_for_archive(live, data_set, console)
            else:
                _check_archive(live, data_set)
            summary = reconcile(live, data_set, console)
            _say(console, data_set, summary, time.time() - began)
    return process.EXIT_FAILED if summary["decisions_that_differ"] else 0


def _asked(settings: Settings, chosen: stream_demo.Options) -> DataSet:
    """The data set that the options mean."""
    supervisor = Supervisor(f"{JOB}-{time.time_ns()}")
    return named_data_set(supervisor, settings, chosen.data_set_arguments())


def _wait_for_archive(settings: Settings, data_set: DataSet, console: Console) -> None:
    """Until all that is in the streams is archived: a table that was used may rest on each label.

    The door has stopped the producer, so there is an end.
    """
    with progress(console, "archive") as update, StreamAdmin(settings.kafka_servers) as admin:
        Streams(admin, data_set, settings.home).reach_ends(update)
        update(1.0, "all archived")


def _check_archive(settings: Settings, data_set: DataSet) -> None:
    """Raises UserError when a run left something that is not archived: it was ended before its drain."""
    with StreamAdmin(settings.kafka_servers) as admin:
        left = Streams(admin, data_set, settings.home).unarchived()
    if left:
        raise UserError(
            f"{count(left)} records of a run that did not end are not archived yet; "
            f"run {_demo(data_set)} first, which does that"
        )


def last_data_set(settings: Settings) -> DataSet:
    """The data set that stream-demo played last. Raises UserError if it never ran."""
    path = settings.home / "reports" / stream_demo.JOB / "latest" / "report.json"
    try:
        name: str = json.loads(path.read_text())["data_set"]
    except FileNotFoundError as error:
        raise UserError("there are no decisions to reconcile yet; run `make stream-demo` first") from error
    return DataSet(settings.bucket, "" if name == "default" else name)


def reconcile(settings: Settings, data_set: DataSet, console: Console) -> dict[str, Any]:
    """Run the job on a cluster; its summary (see spark_jobs/reconcile.py).

    Raises UserError when there are no decisions, FailedError when the job fails.
    """
    store, decisions = ObjectStore(settings), data_set.archive("decisions")
    if next(iter(store.list(decisions)), None) is None:
        raise UserError(f"there are no decisions below {decisions}; run {_demo(data_set)} first")
    output = f"s3://{data_set.bucket}/reconciliations/{data_set.id or 'default'}/"
    store.delete_prefix(output)
    cluster = run_cluster(settings, reconcile_request(data_set, output), console)
    failed = failure(cluster)
    try:
        summary: dict[str, Any] = json.loads(store.get(f"{output}summary.json"))
    except FileNotFoundError as error:
        raise FailedError(failed or "the job left no summary") from error
    return {**summary, "output": output}


def _demo(data_set: DataSet) -> str:
    """The command that plays a data set, in words."""
    return "`make stream-demo`" + (" with the same INPUT or SHARDS" if data_set.id else "")


def reconcile_request(data_set: DataSet, output: str) -> dict[str, Any]:
    """The declared RunJobFlow request with this data set's prefixes in it."""
    request = resources.read_request(REQUEST)
    request["LogUri"] = f"s3://{data_set.bucket}/logs/"
    request["Steps"][0]["HadoopJarStep"]["Args"] = [
        *("spark-submit", "spark_jobs/reconcile.py"),
        *("--transactions", data_set.archive("transactions"), "--labels", data_set.archive("labels")),
        *("--decisions", data_set.archive("decisions"), "--models", data_set.models),
        *("--output", output),
    ]
    return request


def _say(console: Console, data_set: DataSet, summary: dict[str, Any], seconds: float) -> None:
    """The summary, differences by feature, and the first of them."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    differ = summary["decisions_that_differ"]
    verdict = "[bold green]all agree[/]" if not differ else f"[bold red]{count(differ)} differ[/]"
    table.add_row("decisions", f"{count(summary['decisions'])} recomputed from the archive: {verdict}")
    if summary["without_model"]:
        table.add_row("no model", f"{count(summary['without_model'])} from before the first model: no score")
    table.add_row("features", f"{count(summary['features_that_differ'])} values differ")
    for name, number in summary["by_feature"].items():
        table.add_row("", f"{name}: {count(number)}")
    apart = summary["scores_apart_at_most"]
    table.add_row(
        "scores",
        f"{count(summary['scores_that_differ'])} differ by more than 1e-6"
        + ("" if apart is None else f"; at most {apart:.1e} apart"),
    )
    if summary["tables_that_differ"]:
        table.add_row(
            "tables", f"{count(summary['tables_that_differ'])} used another as-of time than they should"
        )
    if summary["not_archived"]:
        table.add_row("archive", f"{count(summary['not_archived'])} decided, but not in the archive")
    table.add_row("models", ", ".join(summary["models"]) or "none")
    table.add_row("data set", data_set.id or "default")
    table.add_row("output", summary["output"])
    table.add_row("time", f"{seconds:.0f} s")
    console.print(table)
    for line in summary["first"]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    process.run_command(main)
