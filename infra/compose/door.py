"""Where a story runs: in the Compose stack when that is up, otherwise here with embedded servers.

`python -m infra.compose.door batch-job [--stack embedded|compose] [--cluster transient] ...`, as the
Makefile calls it: all other options are the story's own.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn

import click

from infra.compose.nodes import transient_nodes
from infra.compose.reports import fetch_report
from infra.compose.stack import KEEPER, Stack, find_stack
from infra.compose.upload import upload
from infra.contracts.errors import UserError
from infra.process import EXIT_INTERRUPTED, run_command
from infra.settings import ROOT, Settings

MODULES = {
    "batch-job": ("infra.stories.batch_job",),
    "stream-demo": ("infra.stories.stream_demo",),
    "reconcile": ("infra.stories.reconcile",),
    "console": ("infra.console",),
    "query": ("infra.warehouse", "query", "--"),
}
WITH_REPORT = ("batch-job", "stream-demo")
WITHOUT_PRODUCER = ("stream-demo", "reconcile")
"""Stories that play themselves, or need an archive that is at its end."""
PRODUCER, TOKEN = "producer", "/run/keys/console_token"
STACKS = ("embedded", "compose")
DEFAULT_SHARDS = "8"


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": ["-h", "--help"]})
@click.argument("target", type=click.Choice(list(MODULES)))
@click.option("--stack", "where", help="embedded or compose; without it the Compose stack if that is up")
@click.option("--cluster", help="transient: containers of its own for the job (Compose only)")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def main(target: str, where: str | None, cluster: str | None, arguments: tuple[str, ...]) -> int:
    """Run a story where it belongs; its exit code."""
    signal.signal(signal.SIGHUP, signal.getsignal(signal.SIGTERM))  # a closed terminal ends it in order too
    stack = choose(where)
    if cluster not in (None, "transient"):
        raise UserError(f"CLUSTER is transient or not given, not {cluster!r}")
    if cluster and (stack is None or target != "batch-job"):
        raise UserError(
            "CLUSTER=transient is for batch-job in a Compose stack (`docker compose up`); "
            "with embedded servers every cluster is transient"
        )
    if stack is None:
        run_here(target, arguments)
    return run_there(stack, target, list(arguments), transient=bool(cluster))


def choose(where: str | None) -> Stack | None:
    """The stack to be used; None: embedded servers. Raises UserError for one that does not run."""
    if where and where not in STACKS:
        raise UserError(f"STACK is embedded or compose, not {where!r}")
    stack = None if where == "embedded" else find_stack(Settings.load())
    if where == "compose" and stack is None:
        raise UserError("STACK=compose: no stack of this checkout runs; start it by `docker compose up -d`")
    return stack


def run_here(target: str, arguments: Sequence[str]) -> NoReturn:
    """Become the story, with embedded servers; their jars are fetched first if they lack."""
    ready, lock = ROOT / ".millstream/jars/ready", ROOT / "infra/resources/jars.lock"
    if not ready.exists() or ready.stat().st_mtime < lock.stat().st_mtime:
        made = subprocess.run([sys.executable, str(ROOT / "infra/local/bootstrap.py"), "jars"])
        if made.returncode:
            sys.exit(made.returncode)
    command = [sys.executable, "-m", *MODULES[target], *arguments]
    os.execv(sys.executable, command)  # noqa: S606  # the story takes this process's place, signals and all


def run_there(stack: Stack, target: str, arguments: list[str], *, transient: bool) -> int:
    """Run the story in a container of the stack; its exit code."""
    if target == "console":
        say_console(stack)
        return 0
    click.echo(f"stack: {stack.project} (Compose); STACK=embedded would run this without it")
    arguments = with_input(stack, target, arguments)
    own = Settings.load()
    home = own.home
    settings = [f"MILLSTREAM_SHOWN_HOME={home}", f"MILLSTREAM_MEMORY_MB={own.memory_mb}"]
    words = ["-m", *MODULES[target], *arguments]
    if transient and (refused := wait(stack.job([*words, "--check-only"], settings, terminal=False))):
        return refused
    with contextlib.ExitStack() as around:
        if target in WITHOUT_PRODUCER and plays_default(arguments):
            around.enter_context(stopped(stack, PRODUCER))
        if transient:
            hosts = around.enter_context(transient_nodes(stack, arguments))
            settings.append(f"MILLSTREAM_NODES={','.join(hosts)}")
        command = stack.job(words, settings, terminal=sys.stdin.isatty())
        code = wait(command)
        if target in WITH_REPORT and code in (0, 1):
            try:
                fetch_report(stack, target, home)
            except UserError as error:
                click.echo(f"the report stays in the stack: {error}", err=True)
    return code


def say_console(stack: Stack) -> None:
    """Where the stack's console is; its token is for terminals only, since elsewhere the line may be kept."""
    address = f"http://{stack.run_compose('port', 'console', '8600')}/"
    if sys.stdout.isatty():
        click.echo(f"console: {address}?token={stack.run(KEEPER, 'cat', TOKEN).decode().strip()}")
    else:
        click.echo(f"console: {address} (its token: docker compose exec {KEEPER} cat {TOKEN})")


def with_input(stack: Stack, target: str, arguments: list[str]) -> list[str]:
    """The arguments with a local input replaced by its copy in the stack."""
    if "--input" not in arguments:
        return arguments
    at = arguments.index("--input") + 1
    if "://" in arguments[at]:
        return arguments
    return [*arguments[:at], upload(stack, arguments[at], to_s3=target == "batch-job"), *arguments[at + 1 :]]


def plays_default(arguments: Sequence[str]) -> bool:
    """Whether a story is of the data set that the stack's own producer plays."""
    shards = arguments[arguments.index("--shards") + 1] if "--shards" in arguments else DEFAULT_SHARDS
    return "--input" not in arguments and shards == DEFAULT_SHARDS


@contextlib.contextmanager
def stopped(stack: Stack, service: str) -> Iterator[None]:
    """Stop a service for the block, if it runs."""
    runs = any(container.state.running for container in stack.docker.compose.ps([service]))
    try:
        if runs:
            click.echo(f"{service}: stopped meanwhile, started again afterwards")
            stack.docker.compose.stop([service])
        yield
    finally:
        if runs:
            stack.docker.compose.start([service])


def wait(command: Sequence[str]) -> int:
    """Run a command on this terminal; its exit code. Ctrl-C is the command's business, and is waited for."""
    with ignored(signal.SIGINT):
        child = subprocess.Popen(command, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
        try:
            code = child.wait()
        except BaseException:
            child.terminate()  # `docker compose run` hands it on to the job, which ends in order
            child.wait()
            raise
    return EXIT_INTERRUPTED if code in (-signal.SIGINT, 128 + signal.SIGINT) else code


@contextlib.contextmanager
def ignored(number: signal.Signals) -> Iterator[None]:
    """Ignore a signal within the block."""
    before: Callable[..., object] | int | None = signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(number, before)


if __name__ == "__main__":
    run_command(main)
