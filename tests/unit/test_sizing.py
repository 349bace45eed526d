"""Clusters scaled down to a machine: what fits, what doesn't, and in which words."""

from __future__ import annotations

import random
from decimal import Decimal

import pytest

from infra.cluster import instances, sizing
from infra.cluster.request import ClusterRequest, parse
from infra.cluster.sizing import MINIMUM_HEAP_MB, plan
from infra.contracts.errors import UserError


def cluster(core: int, task: int = 0, kind: str = "m5.xlarge") -> ClusterRequest:
    """A request with one MASTER, these CORE and these TASK nodes."""
    counts = {"MASTER": 1, "CORE": core, "TASK": task}
    groups = [
        {"InstanceRole": role, "InstanceType": kind, "InstanceCount": count} for role, count in counts.items()
    ]
    return parse({"Name": "t", "ReleaseLabel": "spark-4.1.1", "Instances": {"InstanceGroups": groups}})


def test_the_default_cluster_fits_the_batch_jobs_memory() -> None:
    """1 MASTER + 2 CORE + 1 TASK start within 3.5 GB, which leaves a 4 GB job its S3 server."""
    size = plan(cluster(2, 1), 2, 3_584)
    assert size.total_mb <= 3_584
    assert size.executor_memory_mb >= 512
    assert [(group.role, group.count, group.cores) for group in size.groups] == [
        ("MASTER", 1, 2),
        ("CORE", 2, 1),
        ("TASK", 1, 1),
    ]


def test_with_room_the_heaps_are_as_preferred_and_the_scaling_is_told() -> None:
    """On a machine with memory to spare each group says what it is and what it has here."""
    size = plan(cluster(2, 1), 2, 22_000)
    assert (size.executor_memory_mb, size.driver_memory_mb) == (640, 768)
    assert size.lines == (
        "1 MASTER m5.xlarge (4 vCPU, 16,384 MB) runs here with 2 cores and 768 MB",
        "2 CORE m5.xlarge (4 vCPU, 16,384 MB) run here with 1 core and 640 MB each",
        "1 TASK m5.xlarge (4 vCPU, 16,384 MB) runs here with 1 core and 640 MB",
        "3 CORE + TASK nodes share 2 cores of this machine",
        "4 nodes use at most 4,198 MB of 22,000 MB",
    )


def test_a_group_of_no_nodes_keeps_its_place_but_is_not_told() -> None:
    """The groups stay those of the request, so that they can be walked side by side."""
    size = plan(cluster(1, 0), 2, 22_000)
    assert [group.count for group in size.groups] == [1, 1, 0]
    assert not any("TASK m5" in line for line in size.lines)


def test_a_request_that_can_not_fit_names_the_count_that_can() -> None:
    """The seed example on a laptop: 21 nodes are refused, and the count that it names does fit."""
    with pytest.raises(UserError) as caught:
        plan(cluster(20), 2, 6_100)
    assert str(caught.value) == (
        "21 nodes need 18,127 MB and 6,100 MB are free: at most 5 CORE + TASK nodes fit; "
        "lower InstanceCount (make: CORE=, TASK=), "
        "or free memory (MILLSTREAM_MEMORY_MB sets how much nodes may use)"
    )
    assert plan(cluster(5), 2, 6_100).total_mb <= 6_100
    with pytest.raises(UserError, match="at most 5"):
        plan(cluster(6), 2, 6_100)


def test_a_machine_without_room_for_one_node_says_so() -> None:
    """No count is offered where none fits, and a negative rest counts as nothing."""
    with pytest.raises(UserError, match="2 nodes need 1,844 MB and 0 MB are free: not one CORE node fits"):
        plan(cluster(1), 2, -200)


def test_a_node_never_has_more_than_its_type(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a large machine a node has the vCPUs of its type and at most three quarters of its memory."""
    tiny = instances.InstanceType("tiny", 2, 800, Decimal(1), Decimal(1), Decimal(1))
    table = instances.load()
    types = {**table.types, "tiny": tiny}
    small = instances.PriceTable(table.as_of, table.region, table.currency, table.source, types)
    monkeypatch.setattr(instances, "load", lambda: small)
    size = plan(cluster(1, kind="tiny"), 64, 100_000)
    assert [(group.cores, group.memory_mb) for group in size.groups if group.count] == [(2, 600), (2, 600)]
    large = plan(cluster(1), 64, 100_000)
    assert (large.groups[1].cores, large.executor_memory_mb) == (4, 640 + 3 * 320)


def test_the_sum_always_fits_and_more_memory_never_gives_less() -> None:
    """Over random clusters and machines: within the memory, no heap too small, monotone in the memory."""
    draw = random.Random(7)
    fitted = 0
    for _ in range(400):
        request = cluster(draw.randint(1, 25), draw.randint(0, 10), draw.choice([*instances.load().types]))
        cores, memory = draw.randint(1, 32), draw.randint(0, 40_000)
        try:
            size = plan(request, cores, memory)
        except UserError:
            continue
        fitted += 1
        workers = [group for group in size.groups if group.role != "MASTER"]
        count = sum(group.count for group in workers)
        more = plan(request, cores, memory + draw.randint(1, 5_000))
        assert (
            sizing.total_mb(count, size.executor_memory_mb, size.driver_memory_mb) == size.total_mb <= memory
        )
        assert {group.memory_mb for group in workers} == {size.executor_memory_mb}
        assert MINIMUM_HEAP_MB <= size.executor_memory_mb <= more.executor_memory_mb
        assert MINIMUM_HEAP_MB <= size.driver_memory_mb <= more.driver_memory_mb
        assert all(group.cores == 1 for group in workers) or sum(g.cores * g.count for g in workers) <= cores
    assert fitted > 100
