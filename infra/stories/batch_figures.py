"""The figures of one batch job, gathered from where each is known: journal, pointer, prices, warehouse."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, cast

import pyarrow as pa

from infra.cluster.cost import cost_of
from infra.cluster.model import Cluster
from infra.objects import ObjectStore
from infra.parquet import read_parquet
from infra.report.figures import BatchFigures
from infra.settings import Settings
from infra.warehouse import open_warehouse

TABLE = "sales_rollup"


def batch_figures(
    settings: Settings,
    cluster: Cluster,
    *,
    run: str,
    began: float,
    seconds: dict[str, float],
    peak_memory: int,
    source: str,
    pointer: str,
) -> tuple[BatchFigures, pa.Table]:
    """report.json of a finished run (without the report's own path), and the rollup that it is about."""
    store, warehouse = ObjectStore(settings), open_warehouse(settings)
    rollup_figures = json.loads(store.get(pointer))
    rollup = read_parquet(store, rollup_figures["table"])
    steps_s = sum((step.ended_at or 0) - (step.started_at or 0) for step in cluster.steps)
    assert cluster.ready_at is not None
    figures = {
        "job": "batch-job",
        "run": run,
        "started_at": _iso(began),
        **_cluster_figures(cluster),
        **_taken(rollup_figures),
        "seconds": {
            "setup": seconds["setup"],
            "data": seconds["data"],
            "cluster_start": round(cluster.ready_at - cluster.created_at, 2),
            "steps": round(steps_s, 2),
            "total": round(datetime.now(UTC).timestamp() - began, 2),
        },
        "cost": cost_of(cluster).as_json(),
        "peak_memory_mb": round(peak_memory / 1024**2, 1),
        "input": source,
        "output": rollup_figures["table"],
        "rejected": rollup_figures["rejected"],
        "warehouse": {
            "path": warehouse.address,
            "table": TABLE,
            "rows": warehouse.query(f"SELECT count(*) AS n FROM {TABLE}")["n"][0].as_py(),
        },
        "logs": cluster.log_folder or "",
        "report": "",
    }
    return cast(BatchFigures, figures), rollup


def _taken(rollup: dict[str, Any]) -> dict[str, Any]:
    names = (
        "rows_read", "rows_used", "rows_rejected", "rejected_reasons", "rows_rounded",
        "groups", "units", "revenue_cents", "mode", "month", "months", "months_read",
    )  # fmt: skip
    return {name: rollup[name] for name in names}


def _cluster_figures(cluster: Cluster) -> dict[str, Any]:
    return {
        "cluster_id": cluster.id,
        "cluster_name": cluster.name,
        "release_label": cluster.release_label,
        "state": cluster.state,
        "state_change_reason": {"code": cluster.code, "message": cluster.message},
        "states": [{"state": state, "at": _iso(at)} for state, at in cluster.states],
        "steps": [
            {
                "id": step.id,
                "name": step.name,
                "state": step.state,
                "seconds": round((step.ended_at or 0) - (step.started_at or 0), 2),
                "started_at": _iso(step.started_at),
                "ended_at": _iso(step.ended_at),
                "logs": f"{cluster.log_folder}steps/{step.id}/",
            }
            for step in cluster.steps
        ],
        "instances": [
            {
                "id": node.id,
                "group": node.role,
                "type": node.instance_type,
                "market": node.market,
                "state": node.state,
                "created_at": _iso(node.created_at),
                "ready_at": _iso(node.ready_at),
                "ended_at": _iso(node.ended_at),
                "cores": node.cores,
                "memory_mb": node.memory_mb,
            }
            for node in cluster.instances
        ],
    }


def _iso(at: float | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
