"""The streaming story: a data set played at a rate, scored, alerted on, archived; then a proof, a report."""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from infra import process
from infra.contracts.columns import TRANSACTIONS
from infra.contracts.datasets import DataSet, Manifest, read_manifest
from infra.contracts.errors import UserError
from infra.local.servers import servers
from infra.memory import PeakMemory, peak_memory
from infra.objects import ObjectStore
from infra.provision import provision
from infra.settings import Settings
from infra.stories.fraud_model import making, prepare_model
from infra.stories.run import Stopwatch, Variable, only_one, run_name
from infra.stories.stream_data import named_data_set, run_dataset
from infra.stories.stream_fresh import is_half_done, start_anew
from infra.stories.stream_play import Plan, Play, Played, has_standing_consumers
from infra.stories.stream_results import Circumstances, report
from infra.supervisor import Supervisor
from infra.terminal import terminal

JOB, RUNNING = "stream-demo", "stream demo or reconcile"
DEFAULT_RATE, DEFAULT_SECONDS, DEFAULT_SHARDS, DEFAULT_HISTORY = 5_000.0, 60.0, 8, 0.7
MOST_SCORERS = 8
variable = functools.partial(click.option, cls=Variable)


@dataclass(frozen=True)
class Options:
    """What the user asked for; None where the default holds."""

    rate: float | None = None
    seconds: float | None = None
    shards: int | None = None
    scorers: int | None = None
    fresh: bool = False
    input: str | None = None
    columns: str | None = None
    history: float | None = None

    def check(self) -> None:
        """Refuse what can't be meant, before anything is started."""
        limits = (
            ("RATE", self.rate, 0.1, 1_000_000), ("SECONDS", self.seconds, 1, 86_400),
            ("SHARDS", self.shards, 1, 200), ("SCORERS", self.scorers, 1, MOST_SCORERS),
            ("HISTORY", self.history, 0.05, 0.95),
        )  # fmt: skip
        for name, value, least, most in limits:
            if value is not None and not least <= value <= most:
                raise UserError(f"{name} is {least:,} to {most:,}, not {value:,}")
        if self.transactions < 1:
            raise UserError("RATE times SECONDS is less than one transaction; give more of either")
        if not self.input and (self.columns or self.history is not None):
            raise UserError("COLUMNS and HISTORY describe transactions of your own; give INPUT too")
        if self.columns:
            TRANSACTIONS.parse(self.columns)
        if self.input and not Path(self.input).expanduser().is_file():
            raise UserError(f"INPUT={self.input} is not a file; give one CSV or Parquet file of transactions")

    @property
    def transactions(self) -> int:
        """How many are to be played."""
        return int((self.rate or DEFAULT_RATE) * (self.seconds or DEFAULT_SECONDS))

    def data_set_arguments(self) -> list[str]:
        """The data set, as producers.dataset takes it."""
        given = {
            "--shards": self.shards,
            "--input": str(Path(self.input).expanduser().absolute()) if self.input else None,
            "--columns": self.columns,
            "--history": self.history,
        }
        return [word for name, value in given.items() if value is not None for word in (name, str(value))]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@variable("--rate", type=float, help=f"Transactions a second (default {DEFAULT_RATE:,.0f}).")
@variable("--seconds", type=float, help=f"How long to play (default {DEFAULT_SECONDS:.0f}).")
@variable(
    "--shards", type=int, help=f"Shards of the stream (default {DEFAULT_SHARDS}); a data set of its own."
)
@variable("--scorers", type=int, help="Scorers that share the shards (default 1).")
@variable("--fresh", type=bool, default=False, help="1: play the data set from its beginning again.")
@variable("--input", "input_", help="Transactions of your own: a CSV or Parquet file.")
@variable("--columns", help="What its columns are: 'card_id=card1,amount=TransactionAmt,...'.")
@variable("--history", type=float, help=f"The share of them that is history (default {DEFAULT_HISTORY}).")
@click.option("--started", type=float, help="When the command began (seconds since 1970).", hidden=True)
def main(input_: str | None, started: float | None, **options: Any) -> int:
    """Play card transactions through stream, scorer, alerts and archive; prove that none was lost."""
    chosen = Options(input=input_, **options)
    chosen.check()
    settings = Settings.load()
    console = terminal()
    with only_one(settings, JOB, RUNNING), peak_memory(settings.home) as memory:
        return Story(settings, chosen, console, memory, started or time.time()).tell()


class Story:
    """One run of the streaming story."""

    def __init__(
        self, settings: Settings, options: Options, console: Console, memory: PeakMemory, began: float
    ) -> None:
        self.settings, self.options, self.console, self.memory = settings, options, console, memory
        self.began, self.run = began, run_name(began)
        self.watch = Stopwatch()
        self._interrupted = "the play; nothing was sent"
        self.supervisor = Supervisor(f"{JOB}-{self.run}")
        self.plan = Plan(
            rate=options.rate or DEFAULT_RATE,
            seconds=options.seconds or DEFAULT_SECONDS,
            scorers=options.scorers or 1,
        )

    def tell(self) -> int:
        """The whole story; its exit code: 1 if anything was lost, doubled or made up."""
        try:
            return self._tell()
        except KeyboardInterrupt:
            if self._interrupted:
                self.console.print(f"Ctrl-C: ended before {self._interrupted}")
            raise

    def _tell(self) -> int:
        data_set = self._name()
        with servers(self.settings, ("s3", "kafka")) as live:
            self.watch.seconds["setup"] = round(time.time() - self.began, 2)
            self._say_servers(live)
            with self.watch.part("data"), making(live, data_set):
                manifest = self._make(live, data_set)
                for line in provision(live, data_set, manifest.shards):
                    self.console.print(line, style="dim")
                prepare_model(live, data_set, manifest, self.console)
            played = self._play(live, data_set)
            if played.early and not played.sent:
                self.console.print("nothing was sent, so there is nothing to prove")
                return 0
            return self._report(live, data_set, manifest, played)

    def _say_servers(self, live: Settings) -> None:
        for name, address, given in (
            ("S3", live.s3_endpoint, self.settings.s3_endpoint),
            ("Kafka", live.kafka_servers, self.settings.kafka_servers),
        ):
            self.console.print(f"{name}: {address} ({'as the settings say' if given else 'embedded'})")

    def _name(self) -> DataSet:
        """Which data set is meant; needs no server, so that a bad INPUT is refused before any is started.

        Raises UserError for what the data set's standing consumers don't allow.
        """
        data_set = named_data_set(self.supervisor, self.settings, self._data_set_arguments())
        if has_standing_consumers(self.settings, data_set) and (self.options.fresh or self.options.scorers):
            asked = "FRESH" if self.options.fresh else "SCORERS"
            raise UserError(
                f"{asked} can't be had here: the stack's own consumers serve this data set; leave it out, "
                "give SHARDS or INPUT for another data set, or use STACK=embedded"
            )
        return data_set

    def _data_set_arguments(self) -> list[str]:
        """The data set and how much of it is to be played, as producers.dataset takes it."""
        return [*self.options.data_set_arguments(), "--live", str(self.options.transactions + 1)]

    def _make(self, live: Settings, data_set: DataSet) -> Manifest:
        """Make the data set hold what is to be played."""
        if self.options.fresh or is_half_done(live, data_set):
            start_anew(live, data_set)
        run_dataset(self.supervisor, live, self._data_set_arguments())
        manifest = read_manifest(ObjectStore(live).get, data_set)
        assert manifest is not None
        return manifest

    def _play(self, live: Settings, data_set: DataSet) -> Played:
        with Play(live, self.settings, data_set, self.plan, self.supervisor, self.console) as play:
            with self.watch.part("start"):
                play.start()
            self._interrupted = "the proof; the next run goes on from here"
            with self.watch.part("play"):
                play.run()
            with self.watch.part("drain"):
                play.drain()
            return play.result()

    def _report(self, live: Settings, data_set: DataSet, manifest: Manifest, played: Played) -> int:
        circumstances = Circumstances(
            run=self.run, began=self.began, seconds=self.watch.seconds, input=self.options.input,
            peak_memory=self.memory.peak,
        )  # fmt: skip
        proof, path = report(live, data_set, manifest, self.plan, played, circumstances, self.console)
        self._interrupted = ""
        self.console.print(f"report: {live.shown(path)}", soft_wrap=True)
        return 0 if proof.holds else process.EXIT_FAILED


if __name__ == "__main__":
    process.run_command(main)
