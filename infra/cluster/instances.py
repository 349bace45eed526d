"""The instance types: what a node of each has and costs, from a dated and replaceable table."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache

from infra.contracts.errors import UserError
from infra.settings import ROOT

TABLE = ROOT / "infra" / "resources" / "instance_types.json"


@dataclass(frozen=True)
class InstanceType:
    """One instance type; prices in USD per hour."""

    name: str
    vcpu: int
    memory_mb: int
    ec2_usd_per_hour: Decimal
    ec2_spot_usd_per_hour: Decimal
    emr_usd_per_hour: Decimal

    def ec2_usd(self, market: str) -> Decimal:
        """EC2's price of an hour in a market, ON_DEMAND or SPOT; EMR's own price is the same in both."""
        return self.ec2_spot_usd_per_hour if market == "SPOT" else self.ec2_usd_per_hour


@dataclass(frozen=True)
class PriceTable:
    """All instance types. `as_of` is a date, YYYY-MM-DD."""

    as_of: str
    region: str
    currency: str
    source: str
    types: Mapping[str, InstanceType]


@cache
def load() -> PriceTable:
    """The table, read once."""
    table = json.loads(TABLE.read_text(encoding="utf-8"), parse_float=Decimal)
    types = {name: _instance_type(name, row) for name, row in table.pop("types").items()}
    return PriceTable(types=types, **table)


def _instance_type(name: str, row: dict[str, int | Decimal]) -> InstanceType:
    prices = {key: Decimal(value) for key, value in row.items() if key.endswith("_usd_per_hour")}
    return InstanceType(name, int(row["vcpu"]), int(row["memory_mb"]), **prices)


def lookup(name: str) -> InstanceType:
    """An instance type by name. Raises UserError that lists the known ones near to it."""
    types = load().types
    if name in types:
        return types[name]
    known = difflib.get_close_matches(name, types, n=4, cutoff=0.5) or [*types]
    table = TABLE.relative_to(ROOT)
    raise UserError(f"the instance type {name!r} is not known; use {', '.join(known)}, or add it to {table}")
