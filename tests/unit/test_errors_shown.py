"""What a user reads of a mistake: a line that says what to do, and nothing that steers the terminal."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from infra.contracts.errors import FailedError, UserError
from infra.process import EXIT_FAILED, EXIT_USER_ERROR, run_command
from infra.stories.run import Variable, only_one
from tests.conftest import settings_of


@pytest.mark.parametrize(
    ("kind", "word", "example"), [(float, "5,000", "such as 5000 or 0.5"), (int, "8.5", "such as 8")]
)
def test_a_number_is_shown_how_it_is_written(kind: type, word: str, example: str) -> None:
    """The message names the variable as make has it, and gives an example."""
    command = click.Command("demo", params=[Variable(["--rate"], type=kind)])
    with pytest.raises(click.BadParameter) as caught:
        command.main(["--rate", word], standalone_mode=False)
    message = caught.value.format_message()
    assert "RATE" in message
    assert repr(word) in message
    assert example in message


@pytest.mark.parametrize(("kind", "code"), [(UserError, EXIT_USER_ERROR), (FailedError, EXIT_FAILED)])
def test_a_message_may_quote_any_bytes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, kind: type[Exception], code: int
) -> None:
    """Escape sequences of a broken file don't reach the terminal; lines and tabs do. No traceback does."""
    monkeypatch.setattr("infra.process.signal.signal", lambda *_: None)  # it is pytest's process
    monkeypatch.setattr("sys.argv", ["command"])

    @click.command()
    def command() -> None:
        raise kind("line 1\x1b[2J\x00\n\tline 2 é")

    with pytest.raises(SystemExit) as ended:
        run_command(command)
    assert ended.value.code == code
    assert capsys.readouterr().err == "error: line 1\ufffd[2J\ufffd\n\tline 2 é\n"


def test_who_comes_second_is_told_what_may_be_running(tmp_path: Path) -> None:
    """One lock serves the stream demo and what reads its results."""
    settings = settings_of(tmp_path / "home")
    with (
        only_one(settings, "stream-demo", "stream demo or reconcile"),
        pytest.raises(UserError, match="another stream demo or reconcile is running here"),
        only_one(settings, "stream-demo", "stream demo or reconcile"),
    ):
        pytest.fail("there are two")
