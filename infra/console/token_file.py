"""The console's token: generated once, in a file that only its owner reads."""

from __future__ import annotations

import secrets
from pathlib import Path

from infra.secret_file import make_once


def token_path(home: Path) -> Path:
    """Where the token of a home lies."""
    return home / "console.token"


def ensure_token(path: Path) -> str:
    """The token; created, mode 0600, unless it is there. It appears whole or not at all."""
    make_once(path, lambda: secrets.token_urlsafe(32))
    return path.read_text().strip()
