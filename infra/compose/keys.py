"""Makes the keys of a stack at its first start: `python -m infra.compose.keys`.

Each is a file of its own, mode 0600, on a volume that services read through NAME_FILE variables. A key
that is there is never changed.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from pathlib import Path

import click

from infra.process import run_command
from infra.secret_file import make_once

FOLDER = Path("/run/keys")
KEYS: Mapping[str, Callable[[], str]] = {
    "s3_access_key": lambda: f"MS{secrets.token_hex(9).upper()}",
    "s3_secret_key": lambda: secrets.token_urlsafe(30),
    "warehouse_password": lambda: secrets.token_urlsafe(30),
    "console_token": lambda: secrets.token_urlsafe(24),
    "webhook_secret": lambda: secrets.token_urlsafe(30),
}


def ensure_keys(folder: Path) -> list[str]:
    """Make the keys that are not there, each whole or not at all; the names of those made."""
    return [name for name, make in KEYS.items() if make_once(folder / name, make)]


@click.command()
@click.option("--folder", type=click.Path(path_type=Path), default=FOLDER, show_default=True)
def main(folder: Path) -> None:
    """Make the keys that are not there yet."""
    click.echo(f"keys made: {', '.join(ensure_keys(folder)) or 'none, all are there'}")


if __name__ == "__main__":
    run_command(main)
