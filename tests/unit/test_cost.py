"""Costs by AWS's list prices: per second, per node, against the month."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from infra.cluster.cost import NodeUse, billed_seconds, cluster_cost


def nodes(count: int, seconds: float, market: str = "ON_DEMAND") -> list[NodeUse]:
    """Core nodes of m5.xlarge."""
    return [NodeUse(f"ci-{n}", "CORE", "m5.xlarge", market, seconds) for n in range(count)]


def test_the_seed_example_of_a_monthly_run() -> None:
    """1 master + 20 core m5.xlarge for two hours a month: 10.08 USD, against 3,679.20 left on."""
    master = NodeUse("ci-m", "MASTER", "m5.xlarge", "ON_DEMAND", 7200.0)
    cost = cluster_cost([master, *nodes(20, 7200.0)])
    assert cost.usd == cost.on_demand_usd == Decimal("10.08")
    assert cost.always_on_month_usd == Decimal("3679.20")
    assert cost.saving_usd == Decimal("3669.12")


def test_spot_lowers_only_the_price_of_ec2() -> None:
    """A node on spot pays EMR in full, and what it would have cost on demand is told beside it."""
    cost = cluster_cost(nodes(1, 3600.0, "SPOT"))
    assert (cost.nodes[0].ec2_usd, cost.nodes[0].emr_usd) == (Decimal("0.0672"), Decimal("0.048"))
    assert (cost.usd, cost.on_demand_usd) == (Decimal("0.1152"), Decimal("0.24"))
    assert cost.always_on_month_usd == Decimal("175.2")


def test_a_replaced_node_is_paid_for_but_not_left_on() -> None:
    """The cluster has the other one in its place, so a month of it has one node."""
    lost, other = nodes(2, 3600.0)
    cost = cluster_cost([lost, other], replaced={lost.id})
    assert (cost.usd, cost.on_demand_usd) == (Decimal("0.48"), Decimal("0.48"))
    assert cost.always_on_month_usd == Decimal("175.2")


@pytest.mark.parametrize(
    ("seconds", "billed"), [(0.0, 60), (59.2, 60), (60.0, 60), (60.01, 61), (3600.0, 3600)]
)
def test_seconds_are_billed_whole_and_a_minute_at_least(seconds: float, billed: int) -> None:
    """EMR bills per second with one minute at least."""
    assert billed_seconds(seconds) == billed
    assert cluster_cost(nodes(1, seconds)).nodes[0].billed_seconds == billed


def test_the_report_has_plain_numbers_that_add_up() -> None:
    """as_json can be written as JSON, rounded to 6 places, with every node and the table's date."""
    figures = json.loads(json.dumps(cluster_cost([*nodes(2, 61.5), *nodes(1, 100.0, "SPOT")]).as_json()))
    assert figures["nodes"][0] == {
        "id": "ci-0",
        "group": "CORE",
        "type": "m5.xlarge",
        "market": "ON_DEMAND",
        "seconds": 61.5,
        "billed_seconds": 62,
        "ec2_usd": 0.003307,
        "emr_usd": 0.000827,
        "usd": 0.004133,
    }
    assert figures["usd"] == pytest.approx(sum(node["usd"] for node in figures["nodes"]), abs=2e-6)
    assert figures["currency"] == "USD"
    assert len(figures["price_table_as_of"]) == len("2025-01-01")


def test_no_nodes_cost_nothing() -> None:
    """A cluster that ended before its first node is free."""
    assert cluster_cost([]).usd == 0
