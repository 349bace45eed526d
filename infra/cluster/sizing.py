"""Scales the nodes of a cluster down to this machine: their cores and memory, never their number.

What a process takes is its heap, as if all of it were touched, plus what was measured beside the heap
(PSS, pages shared with other processes counted in part): Spark 4.1.1, serial collector, 12 million
rows written as Parquet, read back, grouped and written, on two workers with heaps of 512 MB. There
the heaps themselves were never more than about half resident, so a cluster stays below its plan.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from infra.cluster import instances
from infra.cluster.groups import InstanceGroup
from infra.cluster.request import ClusterRequest
from infra.contracts.errors import UserError

DAEMON_MB = 145  # a master or worker daemon, whole, with a heap of 128 MB: 143 measured
EXECUTOR_BESIDE_MB = 200  # an executor beside its heap: 193 measured
DRIVER_BESIDE_MB = 330  # a driver beside its heap: 257 measured, and its Python with 70
# Spark refuses a JVM that offers less than 450 MB, and a serial collector offers 3 % less than its heap.
MINIMUM_HEAP_MB = 512
# One MASTER, two CORE and one TASK node: 3,558 MB with the minimum, so that the whole job with its S3
# server stays below 4 GB, and 4,198 MB with these.
PREFERRED_EXECUTOR_MB = 640
PREFERRED_DRIVER_MB = 768
MORE_PER_CORE_MB = 320  # of an executor with more than one core: each core runs a task of its own
SHARE_OF_TYPE = 0.75  # as on EMR, the rest of a node is for its system


@dataclass(frozen=True)
class GroupSize:
    """What each node of a group has here. `memory_mb` is for Spark's JVM that works on the node."""

    role: str
    instance_type: str
    count: int
    cores: int
    memory_mb: int


@dataclass(frozen=True)
class Sizing:
    """The groups in the request's order, the two heaps, all that the nodes may use, lines to print."""

    groups: tuple[GroupSize, ...]
    executor_memory_mb: int
    driver_memory_mb: int
    total_mb: int
    lines: tuple[str, ...]


def plan(request: ClusterRequest, machine_cores: int, available_mb: int) -> Sizing:
    """Fit a cluster into this machine. Raises UserError if its nodes can't fit into `available_mb`.

    Every executor of a cluster has the same heap, the smallest that one of its groups should have.
    """
    groups = request.groups
    workers = sum(group.count for group in groups if group.role != "MASTER")
    if total_mb(workers, MINIMUM_HEAP_MB, MINIMUM_HEAP_MB) > available_mb:
        raise UserError(_too_large(workers, available_mb))
    cores = {group: _cores(group, workers, machine_cores) for group in groups}
    executor, driver = _heaps(groups, cores, workers, available_mb)
    sizes = tuple(
        GroupSize(
            group.role,
            group.instance_type,
            group.count,
            cores[group],
            driver if group.role == "MASTER" else executor,
        )
        for group in groups
    )
    total = total_mb(workers, executor, driver)
    return Sizing(sizes, executor, driver, total, _lines(sizes, total, machine_cores, available_mb))


def total_mb(workers: int, executor_mb: int, driver_mb: int) -> int:
    """What a MASTER node with its driver and `workers` CORE and TASK nodes take at most, by their heaps."""
    master = DAEMON_MB + driver_mb + DRIVER_BESIDE_MB
    return master + workers * (DAEMON_MB + executor_mb + EXECUTOR_BESIDE_MB)


def _cores(group: InstanceGroup, workers: int, machine_cores: int) -> int:
    vcpu = instances.lookup(group.instance_type).vcpu
    share = machine_cores if group.role == "MASTER" else machine_cores // workers
    return max(1, min(vcpu, share))


def _heaps(
    groups: Sequence[InstanceGroup], cores: dict[InstanceGroup, int], workers: int, available_mb: int
) -> tuple[int, int]:
    """The heaps of executors and driver: between minimum and preferred, as far as the memory goes."""
    wanted_executor = min(
        _preferred(group, PREFERRED_EXECUTOR_MB + MORE_PER_CORE_MB * (cores[group] - 1))
        for group in groups
        if group.role != "MASTER" and group.count
    )
    wanted_driver = min(_preferred(group, PREFERRED_DRIVER_MB) for group in groups if group.role == "MASTER")
    least = total_mb(workers, MINIMUM_HEAP_MB, MINIMUM_HEAP_MB)
    wanted = total_mb(workers, wanted_executor, wanted_driver)
    room = min(available_mb, wanted) - least

    def heap(preferred: int) -> int:
        return MINIMUM_HEAP_MB + (preferred - MINIMUM_HEAP_MB) * room // max(1, wanted - least)

    return heap(wanted_executor), heap(wanted_driver)


def _preferred(group: InstanceGroup, heap_mb: int) -> int:
    """A heap of this size, but no more than the instance type has for it."""
    memory_mb = instances.lookup(group.instance_type).memory_mb
    return max(MINIMUM_HEAP_MB, min(heap_mb, int(memory_mb * SHARE_OF_TYPE)))


def _too_large(workers: int, available_mb: int) -> str:
    needed = total_mb(workers, MINIMUM_HEAP_MB, MINIMUM_HEAP_MB)
    each = total_mb(1, MINIMUM_HEAP_MB, 0) - total_mb(0, 0, 0)
    most = (available_mb - total_mb(0, 0, MINIMUM_HEAP_MB)) // each
    fits = (
        f"at most {most} CORE + TASK nodes fit; lower InstanceCount (make: CORE=, TASK=)"
        if most > 0
        else "not one CORE node fits"
    )
    return (
        f"{workers + 1} nodes need {needed:,} MB and {max(0, available_mb):,} MB are free: {fits}, "
        "or free memory (MILLSTREAM_MEMORY_MB sets how much nodes may use)"
    )


def _lines(sizes: Sequence[GroupSize], total: int, machine_cores: int, available_mb: int) -> tuple[str, ...]:
    workers = sum(size.count for size in sizes if size.role != "MASTER")
    shared = f"{workers} CORE + TASK nodes share {_count(machine_cores, 'core')} of this machine"
    return (
        *(_line(size) for size in sizes if size.count),
        *([shared] if workers > machine_cores else ()),
        f"{workers + 1} nodes use at most {total:,} MB of {available_mb:,} MB",
    )


def _line(size: GroupSize) -> str:
    kind = instances.lookup(size.instance_type)
    what = f"{size.count} {size.role} {kind.name} ({kind.vcpu} vCPU, {kind.memory_mb:,} MB)"
    verb, each = ("runs", "") if size.count == 1 else ("run", " each")
    return f"{what} {verb} here with {_count(size.cores, 'core')} and {size.memory_mb:,} MB{each}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
