"""The console's token: generated once, in a file that only its owner reads."""

from __future__ import annotations

import os
import secrets
import tempfile
from pathlib import Path


def token_path(home: Path) -> Path:
    """Where the token of a home lies."""
    return home / "console.token"


def ensure_token(path: Path) -> str:
    """The token; created, mode 0600, unless it is there. It appears whole or not at all."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=".token-")  # O_EXCL, mode 0600
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_urlsafe(32))
            if not path.exists():
                os.link(draft, path)
        except FileExistsError:
            pass  # another console was first: its token holds
        finally:
            Path(draft).unlink()
    return path.read_text().strip()
