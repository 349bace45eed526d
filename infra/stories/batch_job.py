"""The batch story: sales into S3, a transient cluster that rolls them up, the warehouse, a report."""

from __future__ import annotations

import functools
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from infra import process
from infra.cluster.client import Clusters
from infra.cluster.model import Cluster
from infra.contracts import resources
from infra.contracts.columns import parse_columns
from infra.contracts.errors import UserError
from infra.contracts.rollups import SALES_ROLLUP
from infra.local.servers import servers
from infra.memory import PeakMemory, peak_memory
from infra.objects import ObjectStore
from infra.report.batch import write_batch_report
from infra.report.terminal import summary
from infra.settings import ROOT, Settings
from infra.stories.batch_figures import batch_figures
from infra.stories.cluster_run import failure, run_cluster
from infra.stories.run import Stopwatch, Variable, only_one, run_child, run_name
from infra.supervisor import Supervisor
from infra.terminal import terminal

REQUEST = ROOT / "infra" / "resources" / "clusters" / "sales-rollup.json"
DEFAULT_ROWS, DEFAULT_SEED = 2_000_000, 7
JOB = "batch-job"


@dataclass(frozen=True)
class Options:
    """What the user asked for; None where the default holds."""

    rows: int | None
    seed: int | None
    core: int | None
    task: int | None
    month: str | None
    input: str | None
    columns: str | None
    date_format: str | None

    def check(self) -> None:
        """Refuse what can't be meant, before anything is started."""
        if self.columns:
            parse_columns(self.columns)
        if self.month and not re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])", self.month):
            raise UserError(f"MONTH={self.month} is not a month; write it as 2026-10")
        if self.input and "://" not in self.input and not Path(self.input).expanduser().exists():
            raise UserError(f"INPUT={self.input} does not exist; give a path or an s3:// prefix")
        if self.input and (self.rows or self.seed is not None):
            raise UserError("INPUT is data of your own; leave out ROWS and SEED, which make data")
        if self.month and (self.rows or self.seed is not None):
            raise UserError("MONTH rolls up one month of the data that is there; leave out ROWS and SEED")
        if not self.input and (self.columns or self.date_format):
            raise UserError("COLUMNS and DATE_FORMAT describe data of your own; give INPUT too")
        for name, value, least in (("ROWS", self.rows, 1), ("CORE", self.core, 1), ("TASK", self.task, 0)):
            if value is not None and value < least:
                raise UserError(f"{name} must be at least {least}, not {value}")


variable = functools.partial(click.option, cls=Variable)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@variable("--rows", type=int, help=f"Sales to generate (default {DEFAULT_ROWS:,}).")
@variable("--seed", type=int, help=f"Seed of the generator (default {DEFAULT_SEED}).")
@variable("--core", type=int, help="Core nodes (default as in the request: 2).")
@variable("--task", type=int, help="Task nodes, on spot (default as in the request: 1).")
@variable("--month", help="Roll up the season of this month only, e.g. 2026-10.")
@variable("--input", "input_", help="Sales of your own: a path or s3:// prefix, Parquet or CSV.")
@variable("--columns", help="What the columns are: 'sold_at=Order Date,amount=Sales,...'.")
@variable("--date-format", help="How dates are written, as a Spark pattern, epoch_s or epoch_ms.")
@click.option("--started", type=float, help="When the command began (seconds since 1970).", hidden=True)
@click.option("--check-only", is_flag=True, help="Only see whether it could be done.", hidden=True)
def main(input_: str | None, started: float | None, check_only: bool, **options: Any) -> int:
    """Generate or take sales, aggregate them on a transient Spark cluster, load the warehouse, report."""
    chosen = Options(input=input_, **options)
    chosen.check()
    began = started or time.time()
    console = terminal()
    settings = Settings.load()
    with only_one(settings, JOB, "batch job"), peak_memory(settings.home) as memory:
        story = Story(settings, chosen, console, memory, began)
        return story.check() if check_only else story.tell()


class Story:
    """One run of the batch story."""

    def __init__(
        self, settings: Settings, options: Options, console: Console, memory: PeakMemory, began: float
    ) -> None:
        self.options, self.console, self.memory, self.began = options, console, memory, began
        self.settings = settings
        self.watch = Stopwatch()
        self.watch.seconds["setup"] = round(time.time() - began, 2)
        self.run = run_name(began)
        self.supervisor = Supervisor(f"{JOB}-{self.run}")

    def check(self) -> int:
        """See whether a cluster of its own would fit on this machine now. Raises UserError."""
        Clusters(self.settings).check_request(self._request(self._source()))
        return 0

    def tell(self) -> int:
        """The whole story; its exit code."""
        source = self._source()
        request = self._request(source)
        if not self.settings.standing or self.settings.nodes:
            Clusters(self.settings).check_request(request)
        elif self.options.core is not None or self.options.task is not None:
            raise UserError(
                "the stack's standing cluster has the nodes that it has; give CLUSTER=transient too"
            )
        given = bool(self.settings.s3_endpoint)
        with servers(self.settings) as live:
            where = "as the settings say" if given else "embedded"
            self.console.print(f"S3: {live.s3_endpoint} ({where})")
            with self.watch.part("data"):
                self._data(live, source)
            with self.watch.part("cluster"):
                cluster = run_cluster(live, request, self.console)
            return self._report(live, cluster, source)

    def _source(self) -> str:
        """Where the sales lie: as given, a local path made absolute, or the lake."""
        given = self.options.input
        if given is None:
            return f"s3://{self.settings.bucket}/sales/"
        if "://" in given:
            return given  # the job knows which schemes it reads, and says so
        return str(Path(given).expanduser().absolute())

    def _request(self, source: str) -> dict[str, Any]:
        """The declared RunJobFlow request with this run's counts and arguments in it."""
        request = resources.read_request(REQUEST)
        bucket = f"s3://{self.settings.bucket}"
        request["LogUri"] = f"{bucket}/logs/"
        counts = {"CORE": self.options.core, "TASK": self.options.task}
        groups = request["Instances"]["InstanceGroups"]
        for group in groups:
            count = counts.get(group["InstanceRole"])
            group["InstanceCount"] = group["InstanceCount"] if count is None else count
        request["Instances"]["InstanceGroups"] = [group for group in groups if group["InstanceCount"]]
        rollup, load = request["Steps"]
        rollup["HadoopJarStep"]["Args"] = [
            "spark-submit",
            "spark_jobs/sales_rollup.py",
            *self._arguments(source),
        ]
        load["HadoopJarStep"]["Args"] = [
            *("spark-submit", "spark_jobs/load_warehouse.py"),
            *("--pointer", f"{self._output()}latest.json", "--table", "sales_rollup"),
        ]
        return request

    def _output(self) -> str:
        return f"s3://{self.settings.bucket}/{SALES_ROLLUP}"

    def _arguments(self, source: str) -> list[str]:
        options = self.options
        optional = {
            "--month": options.month,
            "--columns": options.columns,
            "--date-format": options.date_format,
        }
        fixed = ["--input", source, "--output", self._output(), "--run", self.run]
        return fixed + [word for name, value in optional.items() if value for word in (name, value)]

    def _data(self, live: Settings, source: str) -> None:
        """Generate the sales, unless they are given or one month of those in the lake is asked for."""
        if self.options.input:
            self.console.print(f"sales: {source}")
            return
        if self.options.month and ObjectStore(live).exists(f"{source}_generated.json"):
            self.console.print(f"sales: those in {source}")
            return
        rows = self.options.rows or DEFAULT_ROWS
        seed = DEFAULT_SEED if self.options.seed is None else self.options.seed
        command = [sys.executable, "-m", "producers.sales", "--rows", str(rows), "--seed", str(seed)]
        run_child(self.supervisor, live, "sales", command, "the sales could not be generated")

    def _report(self, live: Settings, cluster: Cluster, source: str) -> int:
        """Say what came of it: the report, or which step failed and where its logs are."""
        failed = failure(cluster)
        if failed:
            click.echo(f"error: {failed}", err=True)
            return process.EXIT_FAILED
        figures, rollup = batch_figures(
            live, cluster, run=self.run, began=self.began, seconds=self.watch.seconds,
            peak_memory=self.memory.peak, source=source, pointer=f"{self._output()}latest.json",
        )  # fmt: skip
        path = write_batch_report(live.home, figures, rollup)
        self.console.print(summary(figures, rollup))
        self.console.print(f"report: {live.shown(path)}", soft_wrap=True)
        return 0


if __name__ == "__main__":
    process.run_command(main)
