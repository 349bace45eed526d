"""The files that the console shows: logs of steps, and reports. Nothing else can be reached."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

from fastapi import APIRouter
from starlette.responses import FileResponse, PlainTextResponse, Response

from infra import objects
from infra.cluster.journal import Journal
from infra.console.board import Board
from infra.objects import ObjectStore

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
LOGS = ("controller", "stdout", "stderr")
REPORTS = {"report.html": "text/html", "report.json": "application/json"}
MOST_BYTES = 1 << 20
# A report holds its own scripts and reaches nothing; sandboxed, it can't reach the console either.
REPORT_POLICY = (
    "sandbox allow-scripts allow-downloads; default-src 'none'; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; img-src data: blob:; frame-ancestors 'none'"
)


def routes(board: Board) -> APIRouter:
    """/logs/CLUSTER/STEP/NAME and /reports/JOB/RUN/NAME. Handlers run in threads: they may wait for S3."""
    router = APIRouter()

    @router.get("/logs/{cluster}/{step}/{name}", include_in_schema=False)
    def log(cluster: str, step: str, name: str) -> Response:
        text = step_log(board, cluster, step, name)
        if text is None:
            return PlainTextResponse("there is no such log (yet)\n", 404)
        return PlainTextResponse(text or "(empty)\n", headers={"cache-control": "no-store"})

    @router.get("/reports/{job}/{run}/{name}", include_in_schema=False)
    def report(job: str, run: str, name: str) -> Response:
        path = report_path(board.settings.home, job, run, name)
        if path is None:
            return PlainTextResponse("there is no such report\n", 404)
        headers = {"cache-control": "no-store", "content-security-policy": REPORT_POLICY}
        return FileResponse(path, media_type=REPORTS[name], headers=headers)

    return router


def report_path(home: Path, job: str, run: str, name: str) -> Path | None:
    """A report's file; `run` may be `latest`. None for what is not there or lies elsewhere."""
    if name not in REPORTS or not all(NAME.fullmatch(part) for part in (job, run)):
        return None
    root = (home / "reports").resolve()
    path = (root / job / run / name).resolve()
    return path if path.is_relative_to(root) and path.name == name and path.is_file() else None


def step_log(board: Board, cluster_id: str, step_id: str, name: str) -> str | None:
    """The end of a step's log, from the cluster's folder or from S3; None when it is in neither."""
    if name not in LOGS or not all(NAME.fullmatch(part) for part in (cluster_id, step_id)):
        return None
    journal = Journal(board.settings.home / "clusters" / cluster_id)
    try:
        cluster = journal.read()
    except FileNotFoundError:
        return None
    if cluster.step(step_id) is None:
        return None
    path = journal.step_folder(step_id) / name
    if path.is_file():
        return _end(path.read_bytes())
    if cluster.log_folder is None or not board.live().s3_endpoint:
        return None
    try:
        body = ObjectStore(board.live()).get(f"{cluster.log_folder}steps/{step_id}/{name}.gz")
    except objects.FAILURES:
        return None
    return _end(gzip.decompress(body))


def _end(body: bytes) -> str:
    left_out = len(body) - MOST_BYTES
    note = f"({left_out:,} bytes before this are left out)\n" if left_out > 0 else ""
    return note + body[-MOST_BYTES:].decode(errors="replace")
