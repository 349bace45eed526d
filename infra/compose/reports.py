"""Brings a story's report out of the stack, to where the same story leaves it without one."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from infra.compose.stack import HOME, KEEPER, Stack


def fetch_report(stack: Stack, job: str, home: Path) -> None:
    """Copy the newest run's report and the link `latest` to it; none is no error."""
    script = 'cd "$0" 2>/dev/null && tar -cf - latest "$(readlink latest)" || true'
    body = stack.run(KEEPER, "sh", "-c", script, f"{HOME}/reports/{job}")
    if not body:
        return
    target = home / "reports" / job
    target.mkdir(parents=True, exist_ok=True)
    (target / "latest").unlink(missing_ok=True)
    with tarfile.open(fileobj=io.BytesIO(body)) as archive:
        archive.extractall(target, filter="data")
