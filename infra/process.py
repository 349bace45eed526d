"""What every entry point needs: logging, signals and exit codes."""

from __future__ import annotations

import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

import click

from infra.contracts.errors import FailedError, UserError

EXIT_FAILED, EXIT_USER_ERROR, EXIT_INTERRUPTED = 1, 2, 130


class Terminated(SystemExit):
    """SIGTERM arrived: unwinds like an exit, so that `finally` and `with` clean up."""

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGTERM)


def run(main: Callable[[], int | None]) -> NoReturn:
    """Run an entry point and exit with its code.

    A UserError is one line and exit code 2, a FailedError its text and 1, Ctrl-C is 130, SIGTERM 143
    after clean-up; any other exception is a bug and keeps its traceback (exit code 1).
    """
    signal.signal(signal.SIGTERM, _terminate)
    configure_logging()
    try:
        code = main()
    except (UserError, FailedError) as error:
        click.echo(f"error: {_printable(str(error))}", err=True)
        code = EXIT_USER_ERROR if isinstance(error, UserError) else EXIT_FAILED
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    sys.exit(code or 0)


def _printable(text: str) -> str:
    """Without what would steer the terminal: a message may quote a file of any bytes."""
    return "".join(each if each.isprintable() or each in "\n\t" else "\ufffd" for each in text)


def run_command(command: click.Command) -> NoReturn:
    """Run a click command line as `run` does; a wrong option is a user's mistake too.

    The command's function returns its exit code, or None for 0.
    """

    def main() -> int | None:
        try:
            code = command.main(standalone_mode=False)
        except click.exceptions.Exit as stop:
            return stop.exit_code
        except click.Abort as abort:
            raise KeyboardInterrupt from abort
        except click.ClickException as error:
            raise UserError(error.format_message()) from error
        return code if isinstance(code, int) else None

    run(main)


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """Within the block the first SIGTERM or Ctrl-C only sets the event, so that nothing is torn.

    A second one ends the process as ever: by Terminated or KeyboardInterrupt. Main thread only.
    """
    stop = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def request(_number: int, _frame: FrameType | None) -> None:
        # Beside the main thread, which may be inside the event's own lock at this moment.
        threading.Thread(target=stop.set).start()
        for each, handler in before.items():
            signal.signal(each, handler)

    for number in before:
        signal.signal(number, request)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def configure_logging(level: int = logging.INFO) -> None:
    """Log to standard error, one line a record, times in UTC."""
    formatter = logging.Formatter("%(asctime)sZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # its retries end in an error or are no news
    logging.getLogger("kafka").setLevel(logging.WARNING)  # it tells of every connection and metadata answer
    logging.getLogger("kafka.net.selector").setLevel(logging.ERROR)  # and of every pause on a busy machine


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # clean up once, undisturbed
    raise Terminated
