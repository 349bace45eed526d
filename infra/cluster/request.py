"""Parses a RunJobFlow request, AWS's own JSON, into what a cluster here is made from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infra.cluster.groups import InstanceGroup, parse_groups
from infra.cluster.policy import POLICIES
from infra.cluster.spark_arguments import argument_notes, left_out_property, spark_arguments
from infra.contracts import resources
from infra.contracts.errors import UserError

__all__ = [
    "SPARK_VERSION",
    "BootstrapAction",
    "ClusterRequest",
    "InstanceGroup",
    "StepRequest",
    "check_parameters",
    "parse",
    "parse_steps",
    "spark_arguments",
]

SPARK_VERSION = "4.1.1"
RELEASE_LABEL = f"spark-{SPARK_VERSION}"
MOST_BOOTSTRAP_ACTIONS, MOST_STEPS = 16, 256  # EMR's limits
IDLE_TIMEOUT_S = (60, 604_800)


@dataclass(frozen=True)
class BootstrapAction:
    """A script (a path or s3://) that runs on every node before Spark starts."""

    name: str
    path: str
    args: tuple[str, ...]


@dataclass(frozen=True)
class StepRequest:
    """One step. `args` is what follows `spark-submit`, as requested; the action is TERMINATE_CLUSTER,
    CANCEL_AND_WAIT or CONTINUE."""

    name: str
    args: tuple[str, ...]
    action_on_failure: str


@dataclass(frozen=True)
class ClusterRequest:
    """A checked request. `recorded`: paths kept without effect; `notes`: lines to print once."""

    name: str
    release_label: str
    log_uri: str | None
    groups: tuple[InstanceGroup, ...]
    keep_alive: bool
    termination_protected: bool
    idle_timeout_s: int | None
    bootstrap_actions: tuple[BootstrapAction, ...]
    steps: tuple[StepRequest, ...]
    spark_defaults: dict[str, str]
    tags: dict[str, str]
    recorded: tuple[str, ...]
    notes: tuple[str, ...]
    raw: dict[str, Any]


def parse(request: Mapping[str, Any]) -> ClusterRequest:
    """Check a RunJobFlow request and make a cluster's description of it. Raises UserError."""
    recorded = check_parameters("RunJobFlow", request)
    _check_applications(request.get("Applications", []))
    _check_concurrency(request.get("StepConcurrencyLevel", 1))
    properties = _spark_properties(request.get("Configurations", []))
    steps, options = _steps(request.get("Steps", [])), request["Instances"]
    return ClusterRequest(
        name=request["Name"],
        release_label=_release_label(request.get("ReleaseLabel", "")),
        log_uri=_log_uri(request.get("LogUri", "")),
        groups=parse_groups(options),
        keep_alive=options.get("KeepJobFlowAliveWhenNoSteps", False),
        termination_protected=options.get("TerminationProtected", False),
        idle_timeout_s=_idle_timeout(request.get("AutoTerminationPolicy")),
        bootstrap_actions=_bootstrap_actions(request.get("BootstrapActions", [])),
        steps=steps,
        spark_defaults={
            key: text for key, text in properties.items() if left_out_property(key, text) is None
        },
        tags=_tags(request.get("Tags", [])),
        recorded=tuple(recorded),
        notes=_notes(request["ReleaseLabel"], properties, steps, recorded),
        raw=dict(request),
    )


def parse_steps(steps: Sequence[Mapping[str, Any]]) -> tuple[StepRequest, ...]:
    """Check steps in AWS's shape, as AddJobFlowSteps takes them. Raises UserError."""
    check_parameters("AddJobFlowSteps", {"JobFlowId": "", "Steps": steps})
    return _steps(steps)


def check_parameters(operation: str, parameters: Mapping[str, Any]) -> list[str]:
    """Check the parameters of any of the operations (`ListSteps`, ...); returns the recorded paths."""
    return resources.check(parameters, "emr", operation, POLICIES[operation])


def _notes(
    label: str, properties: Mapping[str, str], steps: Iterable[StepRequest], recorded: Sequence[str]
) -> tuple[str, ...]:
    notes = [] if label == RELEASE_LABEL else [f"{label} runs on Spark {SPARK_VERSION} here"]
    notes += filter(None, (left_out_property(key, text) for key, text in properties.items()))
    notes += (note for step in steps for note in argument_notes(step.args))
    if recorded:
        notes.append(f"recorded, without effect here: {', '.join(recorded)}")
    return tuple(dict.fromkeys(notes))


def _release_label(label: str) -> str:
    if label == RELEASE_LABEL or re.fullmatch(r"emr-\d+\.\d+\.\d+", label):
        return label
    problem = f"{label!r} is not supported" if label else "is missing"
    raise UserError(f"ReleaseLabel {problem}; use {RELEASE_LABEL}, or an emr-x.y.z label, which runs on it")


def _log_uri(uri: str) -> str | None:
    if not uri:
        return None
    match = re.fullmatch(r"s3[an]?://(?P<rest>[^/]+(/.*)?)", uri)
    if match is None:
        raise UserError(f"LogUri {uri!r} is not supported; give an S3 address such as s3://lake/logs/")
    return f"s3://{match['rest']}"


def _check_applications(applications: Sequence[Mapping[str, Any]]) -> None:
    for position, application in enumerate(applications):
        name = application.get("Name", "")
        if name.lower() != "spark":
            raise UserError(f"Applications[{position}].Name: {name!r} is not supported; only Spark runs here")


def _check_concurrency(level: int) -> None:
    if level != 1:
        raise UserError(f"StepConcurrencyLevel {level} is not supported; steps run one at a time: use 1")


def _idle_timeout(policy: Mapping[str, Any] | None) -> int | None:
    if policy is None:
        return None
    least, most = IDLE_TIMEOUT_S
    seconds: int = policy.get("IdleTimeout", 0)
    if not least <= seconds <= most:
        raise UserError(
            f"AutoTerminationPolicy.IdleTimeout must be {least} to {most:,} seconds, not {seconds:,}"
        )
    return seconds


def _bootstrap_actions(actions: Sequence[Mapping[str, Any]]) -> tuple[BootstrapAction, ...]:
    if len(actions) > MOST_BOOTSTRAP_ACTIONS:
        raise UserError(f"BootstrapActions: {len(actions)} are too many, at most {MOST_BOOTSTRAP_ACTIONS}")
    return tuple(_bootstrap_action(item, position) for position, item in enumerate(actions))


def _bootstrap_action(item: Mapping[str, Any], position: int) -> BootstrapAction:
    script = item["ScriptBootstrapAction"]
    path = script["Path"]
    scheme, separator, _ = path.partition("://")
    if not path or (separator and scheme not in ("s3", "s3a")):
        where = f"BootstrapActions[{position}].ScriptBootstrapAction.Path"
        raise UserError(f"{where}: {path!r} is not supported; give a path or an s3:// address")
    return BootstrapAction(item["Name"], path, tuple(script.get("Args", ())))


def _steps(steps: Sequence[Mapping[str, Any]]) -> tuple[StepRequest, ...]:
    if len(steps) > MOST_STEPS:
        raise UserError(f"Steps: {len(steps)} are too many, at most {MOST_STEPS}")
    return tuple(_step(item, f"Steps[{position}]") for position, item in enumerate(steps))


def _step(item: Mapping[str, Any], where: str) -> StepRequest:
    jar, args = item["HadoopJarStep"]["Jar"], item["HadoopJarStep"].get("Args", [])
    if jar != "command-runner.jar":
        raise UserError(f"{where}.HadoopJarStep.Jar: {jar!r} is not supported; use command-runner.jar")
    if not args or args[0] != "spark-submit":
        found = repr(args[0]) if args else "nothing"
        raise UserError(
            f"{where}.HadoopJarStep.Args: {found} is not supported; the first must be spark-submit"
        )
    try:
        spark_arguments(args[1:])
    except UserError as error:
        raise UserError(f"{where}.HadoopJarStep.Args: {error}") from error
    action = item.get("ActionOnFailure", "CONTINUE").replace("TERMINATE_JOB_FLOW", "TERMINATE_CLUSTER")
    return StepRequest(item["Name"], tuple(args[1:]), action)


def _spark_properties(configurations: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The properties of all spark-defaults entries, later ones over earlier ones."""
    found: dict[str, str] = {}
    for position, item in enumerate(configurations):
        where, kind = f"Configurations[{position}]", item.get("Classification", "")
        if kind != "spark-defaults":
            raise UserError(f"{where}.Classification: {kind!r} is not supported; only spark-defaults is")
        for key, value in item.get("Properties", {}).items():
            if not re.fullmatch(r"spark\.\S+", key) or "\n" in value:
                raise UserError(f"{where}.Properties: {key!r} is no Spark property of one line")
            found[key] = value
    return found


def _tags(tags: Sequence[Mapping[str, str]]) -> dict[str, str]:
    for position, tag in enumerate(tags):
        if not tag.get("Key"):
            raise UserError(f"Tags[{position}].Key is missing")
    return {tag["Key"]: tag.get("Value", "") for tag in tags}
