"""Files that hold a secret: only their owner reads them, and they appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def make_once(path: Path, text: Callable[[], str]) -> bool:
    """Create a file, mode 0600, unless it is there; whether this call made it. Of two at once one does."""
    if path.exists():
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=".draft-")  # O_EXCL, mode 0600
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text())
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
            return True
    finally:
        Path(draft).unlink()
    return False
