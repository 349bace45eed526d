"""What a cluster would have cost on AWS, node by node, against the same cluster left on for a month.

Source: aws.amazon.com/emr/pricing: EMR's price is added to EC2's, both are billed per second with one
minute at least, per instance; on spot only EC2's part is cheaper.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any

from infra.cluster.instances import InstanceType, PriceTable, load
from infra.cluster.model import Cluster

MINIMUM_S = 60
HOURS_A_MONTH = 730  # 365 days in 12 months, as AWS's own calculator counts


@dataclass(frozen=True)
class NodeUse:
    """One node and how long it was up, from its creation to its end. The market is ON_DEMAND or SPOT."""

    id: str
    group: str
    type: str
    market: str
    seconds: float


@dataclass(frozen=True)
class NodeCost:
    """What one node cost, in USD."""

    id: str
    group: str
    type: str
    market: str
    seconds: float
    billed_seconds: int
    ec2_usd: Decimal
    emr_usd: Decimal
    usd: Decimal


@dataclass(frozen=True)
class ClusterCost:
    """What a cluster cost, in USD.

    `on_demand_usd`: the same without spot; `always_on_month_usd`: all its nodes left on for a month,
    on demand, without those that others replaced; `saving_usd`: that less `usd`, what one run a month saves.
    """

    nodes: tuple[NodeCost, ...]
    usd: Decimal
    on_demand_usd: Decimal
    always_on_month_usd: Decimal
    saving_usd: Decimal
    price_table_as_of: str
    currency: str

    def as_json(self) -> dict[str, Any]:
        """The same for a report: amounts as numbers rounded to 6 places."""
        return {**_rounded(asdict(self)), "nodes": [_rounded(asdict(node)) for node in self.nodes]}


def cost_of(cluster: Cluster, until: float | None = None) -> ClusterCost:
    """What a cluster cost: each of its nodes until its end.

    One that is up is counted until a moment (seconds since 1970), or left out without one. Raises KeyError
    for a type that has no price.
    """
    ends = {node.id: until if node.ended_at is None else node.ended_at for node in cluster.instances}
    uses = [
        NodeUse(node.id, node.role, node.instance_type, node.market, max(0.0, end - node.created_at))
        for node in cluster.instances
        if (end := ends[node.id]) is not None
    ]
    return cluster_cost(uses, replaced=cluster.replaced)


def cluster_cost(
    uses: Iterable[NodeUse], table: PriceTable | None = None, replaced: Container[str] = ()
) -> ClusterCost:
    """The cost of nodes by their use. Raises KeyError for a type that is not in the table.

    Nodes whose ids are in `replaced` were lost and others came: paid for, but not left on.
    """
    prices = table or load()
    nodes = tuple(_node_cost(use, prices.types[use.type]) for use in uses)
    usd = sum((node.usd for node in nodes), Decimal())
    left_on = [prices.types[node.type] for node in nodes if node.id not in replaced]
    always_on = sum((_on_demand(kind) * HOURS_A_MONTH for kind in left_on), Decimal())
    return ClusterCost(
        nodes=nodes,
        usd=usd,
        on_demand_usd=sum(
            (_for(_on_demand(prices.types[node.type]), node.billed_seconds) for node in nodes), Decimal()
        ),
        always_on_month_usd=always_on,
        saving_usd=always_on - usd,
        price_table_as_of=prices.as_of,
        currency=prices.currency,
    )


def billed_seconds(seconds: float) -> int:
    """Whole seconds, rounded up, one minute at least."""
    return max(MINIMUM_S, math.ceil(seconds))


def _node_cost(use: NodeUse, kind: InstanceType) -> NodeCost:
    billed = billed_seconds(use.seconds)
    ec2, emr = _for(kind.ec2_usd(use.market), billed), _for(kind.emr_usd_per_hour, billed)
    return NodeCost(**asdict(use), billed_seconds=billed, ec2_usd=ec2, emr_usd=emr, usd=ec2 + emr)


def _on_demand(kind: InstanceType) -> Decimal:
    return kind.ec2_usd_per_hour + kind.emr_usd_per_hour


def _for(usd_per_hour: Decimal, seconds: int) -> Decimal:
    return usd_per_hour * seconds / 3600


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: round(float(value), 6) if isinstance(value, Decimal) else value
        for name, value in values.items()
    }
