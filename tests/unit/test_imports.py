"""The directions in which imports may point, and who alone may import what."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from infra.settings import ROOT

# Later layers may import earlier ones and their own, never the other way round.
LAYERS = (
    ("contracts",),
    ("settings", "metrics"),
    (
        "streams",
        "objects",
        "archive",
        "files",
        "parquet",
        "warehouse",
        "process",
        "progress",
        "terminal",
        "supervisor",
        "memory",
        "wire",
        "secret_file",
    ),
    ("local", "provision"),
    ("cluster",),
    ("report",),
    ("stories", "console"),
    ("compose",),
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
WORKLOADS = ("producers", "stream_consumers", "spark_jobs")
# package -> the only places that may import it
OWNERS = {
    "minio": ("infra/objects.py",),
    "kafka": ("infra/streams/", "tests/unit/test_batches.py", "tests/unit/test_sockets.py"),
    "duckdb": ("infra/warehouse/", "tests"),
    "adbc_driver_manager": ("infra/warehouse/",),
    "adbc_driver_postgresql": ("infra/warehouse/", "tests"),
    "pyspark": ("spark_jobs", "tests"),
    "xgboost": ("spark_jobs", "tests"),
    "onnxmltools": ("spark_jobs", "tests"),
    "sklearn": ("spark_jobs", "tests"),
    "onnxruntime": ("stream_consumers", "spark_jobs", "tests"),
    "python_on_whales": ("infra/compose/",),
    "prometheus_client": ("infra/metrics.py", "tests"),
    "nicegui": ("infra/console/",),
    "fastapi": ("infra/console/",),
    "starlette": ("infra/console/",),
    "uvicorn": ("infra/console/",),
    "playwright": ("tests/browser/",),
}


def sources() -> list[Path]:
    """Every Python file of the project."""
    return [path for name in ("infra", *WORKLOADS, "tests") for path in sorted((ROOT / name).rglob("*.py"))]


def imported(path: Path) -> Iterator[str]:
    """The dotted names of the modules that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)


def where(path: Path) -> tuple[str, str]:
    """Top-level folder and, below infra, the part that a file belongs to."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[0], parts[1] if len(parts) > 1 else ""


def broken(path: Path, modules: Iterable[str]) -> list[str]:
    """The rules that a file breaks when it imports these modules, one line each."""
    top, part = where(path)
    name = path.relative_to(ROOT).as_posix()
    found = []
    for module in modules:
        target = module.split(".")
        if target[0] in OWNERS and not any(name.startswith(owner) for owner in OWNERS[target[0]]):
            found.append(f"{name} imports {module}; only {OWNERS[target[0]]} may")
        if top == "infra" and target[0] in WORKLOADS:
            found.append(f"{name} imports {module}; infra starts workloads, it never imports them")
        if top in WORKLOADS and target[0] in WORKLOADS and target[0] != top:
            found.append(f"{name} imports {module}; workloads never import each other")
        both = top == target[0] == "infra" and part in LEVEL and len(target) > 1
        if both and LEVEL.get(target[1], 0) > LEVEL[part]:
            found.append(f"{name} imports {module}, which is above it")
    return found


@pytest.mark.parametrize("path", sources(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_point_one_way(path: Path) -> None:
    """No file imports what it may not."""
    assert broken(path, imported(path)) == []


def test_every_part_of_infra_has_its_layer() -> None:
    """A new module or package below infra has to be put into a layer."""
    parts = {where(path)[1] for path in sources() if where(path)[0] == "infra"}
    assert parts - {"__init__"} <= set(LEVEL)


def test_only_settings_reads_the_environment() -> None:
    """os.environ stands in settings.py alone (and in the set-up, which runs before it can)."""
    readers = {
        path.relative_to(ROOT).as_posix()
        for path in sources()
        if "os.environ" in path.read_text() and not path.is_relative_to(ROOT / "tests")
    }
    assert readers == {"infra/settings.py", "infra/local/bootstrap.py"}


@pytest.mark.parametrize(
    ("file", "module"),
    [
        ("infra/contracts/errors.py", "infra.stories.batch_job"),
        ("infra/cluster/client.py", "minio"),
        ("stream_consumers/worker.py", "kafka"),
        ("stream_consumers/worker.py", "xgboost"),
        ("stream_consumers/worker.py", "adbc_driver_postgresql.dbapi"),
        ("spark_jobs/load_warehouse.py", "duckdb"),
        ("producers/sales.py", "onnxruntime"),
        ("infra/streams/admin.py", "infra.provision"),
        ("stream_consumers/worker.py", "producers.sales"),
        ("infra/stories/batch_job.py", "producers.sales"),
        ("spark_jobs/session.py", "producers.sales"),
    ],
)
def test_a_wrong_import_is_found(file: str, module: str) -> None:
    """Each rule can fail."""
    assert len(broken(ROOT / file, [module])) == 1
