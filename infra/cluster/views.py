"""A cluster as EMR describes it: the answers of DescribeCluster, ListSteps and ListInstances."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from infra.cluster.model import Cluster, Instance, Step


def moment(at: float | None) -> datetime | None:
    """Seconds since 1970 as a time in UTC."""
    return None if at is None else datetime.fromtimestamp(at, UTC)


def _timeline(**times: float | None) -> dict[str, datetime]:
    return {name: value for name, at in times.items() if (value := moment(at)) is not None}


def summary(cluster: Cluster) -> dict[str, Any]:
    """ClusterSummary: an entry of ListClusters."""
    reason = {"Code": cluster.code, "Message": cluster.message} if cluster.code else {}
    return {
        "Id": cluster.id,
        "Name": cluster.name,
        "Status": {
            "State": cluster.state,
            "StateChangeReason": reason,
            "Timeline": _timeline(
                CreationDateTime=cluster.created_at,
                ReadyDateTime=cluster.ready_at,
                EndDateTime=cluster.ended_at,
            ),
        },
    }


def description(cluster: Cluster) -> dict[str, Any]:
    """Cluster: the answer of DescribeCluster."""
    return {
        **summary(cluster),
        "LogUri": cluster.log_uri,
        "ReleaseLabel": cluster.release_label,
        "AutoTerminate": not cluster.keep_alive,
        "TerminationProtected": cluster.protected,
        "InstanceCollectionType": "INSTANCE_GROUP",
        "InstanceGroups": [_group(cluster, group) for group in _group_ids(cluster)],
        "Applications": [{"Name": "Spark", "Version": cluster.spark_version}],
        "Tags": [{"Key": key, "Value": value} for key, value in cluster.tags.items()],
        "StepConcurrencyLevel": 1,
    }


def _group_ids(cluster: Cluster) -> list[str]:
    return list(dict.fromkeys(instance.group_id for instance in cluster.instances))


def _group(cluster: Cluster, group_id: str) -> dict[str, Any]:
    members = [instance for instance in cluster.instances if instance.group_id == group_id]
    first, up = members[0], [instance for instance in members if instance.is_up]
    states = {instance.state for instance in up}
    return {
        "Id": group_id,
        "InstanceGroupType": first.role,
        "InstanceType": first.instance_type,
        "Market": first.market,
        "RequestedInstanceCount": sum(instance.id not in cluster.replaced for instance in members),
        "RunningInstanceCount": sum(instance.state == "RUNNING" for instance in members),
        "Status": {"State": "TERMINATED" if not up else "RUNNING" if "RUNNING" in states else max(states)},
    }


def step(item: Step) -> dict[str, Any]:
    """StepSummary: an entry of ListSteps. A failed step has FailureDetails, with its message."""
    status: dict[str, Any] = {
        "State": item.state,
        "StateChangeReason": {"Message": item.failure} if item.state == "CANCELLED" else {},
        "Timeline": _timeline(
            CreationDateTime=item.created_at, StartDateTime=item.started_at, EndDateTime=item.ended_at
        ),
    }
    if item.state in ("FAILED", "INTERRUPTED"):
        status["FailureDetails"] = {"Reason": "Step failed", "Message": item.failure}
    return {
        "Id": item.id,
        "Name": item.name,
        "ActionOnFailure": item.action_on_failure,
        "Config": {"Jar": "command-runner.jar", "Args": ["spark-submit", *item.args]},
        "Status": status,
    }


def instance(item: Instance) -> dict[str, Any]:
    """Instance: an entry of ListInstances."""
    return {
        "Id": item.id,
        "InstanceGroupId": item.group_id,
        "InstanceType": item.instance_type,
        "Market": item.market,
        "PrivateIpAddress": item.host,
        "Status": {
            "State": item.state,
            "StateChangeReason": {"Message": item.reason} if item.reason else {},
            "Timeline": _timeline(
                CreationDateTime=item.created_at, ReadyDateTime=item.ready_at, EndDateTime=item.ended_at
            ),
        },
    }
