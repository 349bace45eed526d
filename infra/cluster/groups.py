"""Parses the instance groups of a RunJobFlow request: which nodes a cluster has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infra.cluster import instances
from infra.contracts.errors import UserError


@dataclass(frozen=True)
class InstanceGroup:
    """Nodes of one role: MASTER, CORE or TASK. The market is ON_DEMAND or SPOT."""

    role: str
    name: str
    instance_type: str
    count: int
    market: str


def parse_groups(options: Mapping[str, Any]) -> tuple[InstanceGroup, ...]:
    """The groups of a checked `Instances`, in either of its two forms. Raises UserError."""
    short = [key for key in ("MasterInstanceType", "SlaveInstanceType", "InstanceCount") if key in options]
    if short and "InstanceGroups" in options:
        raise UserError(f"Instances has both InstanceGroups and {short[0]}; give one of them")
    if "InstanceGroups" in options:
        listed = options["InstanceGroups"]
        groups = tuple(_group(item, f"InstanceGroups[{position}].") for position, item in enumerate(listed))
    else:
        groups = _short_form(options)
    _check_groups(groups)
    return groups


def _group(item: Mapping[str, Any], where: str) -> InstanceGroup:
    role, count = item["InstanceRole"], item["InstanceCount"]
    if count < 0:
        raise UserError(f"Instances.{where}InstanceCount must be at least 0, not {count}")
    _check_type(item["InstanceType"], f"{where}InstanceType")
    market = item.get("Market", "ON_DEMAND")
    return InstanceGroup(role, item.get("Name") or role, item["InstanceType"], count, market)


def _short_form(options: Mapping[str, Any]) -> tuple[InstanceGroup, ...]:
    """One MASTER and InstanceCount - 1 CORE nodes, as EMR understands the three short keys."""
    for key in ("MasterInstanceType", "InstanceCount"):
        if key not in options:
            raise UserError(f"Instances.{key} is missing; or give Instances.InstanceGroups")
    master, core = options["MasterInstanceType"], options.get("SlaveInstanceType", "")
    workers = options["InstanceCount"] - 1
    _check_type(master, "MasterInstanceType")
    if workers > 0 or core:
        _check_type(core, "SlaveInstanceType")
    nodes = [("MASTER", master, 1), ("CORE", core, workers)]
    return tuple(InstanceGroup(role, role, kind, n, "ON_DEMAND") for role, kind, n in nodes if n > 0)


def _check_type(name: str, where: str) -> None:
    try:
        instances.lookup(name)
    except UserError as error:
        raise UserError(f"Instances.{where}: {error}") from error


def _check_groups(groups: Sequence[InstanceGroup]) -> None:
    masters, cores, tasks = (
        [group for group in groups if group.role == r] for r in ("MASTER", "CORE", "TASK")
    )
    if len(masters) != 1 or masters[0].count != 1:
        found = sum(group.count for group in masters)
        raise UserError(
            f"Instances: a cluster here has one MASTER group of one node, not {found} MASTER nodes"
        )
    if len(cores) > 1:
        raise UserError(
            "Instances: a cluster has at most one CORE group; put more nodes into it or add a TASK group"
        )
    if sum(group.count for group in cores) == 0:
        if sum(group.count for group in tasks):
            raise UserError("Instances: TASK nodes need a CORE group with at least one node, as on EMR")
        raise UserError("Instances: no node would run a step; add a CORE group with at least one node")
