"""The commands that change a running cluster, on the manager's side. Answers have AWS's shapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from infra.cluster.model import Step, new_id
from infra.cluster.request import parse_steps
from infra.contracts.errors import UserError

if TYPE_CHECKING:
    from infra.cluster.manager import Manager

MOST_PENDING_STEPS = 256  # EMR: "A maximum of 256 steps are allowed in each job flow" at a time


def add_job_flow_steps(manager: Manager, parameters: dict[str, Any]) -> dict[str, Any]:
    """Append steps; a waiting cluster goes back to RUNNING with the next tick."""
    cluster = manager.cluster
    if cluster.state == "TERMINATING":
        raise UserError(f"{cluster.id} is terminating; steps can't be added to it")
    new = make_steps(parameters["Steps"], manager.clock())
    if len(cluster.pending_steps()) + len(new) > MOST_PENDING_STEPS:
        raise UserError(f"{cluster.id} can have {MOST_PENDING_STEPS} pending steps; wait for some to end")
    cluster.steps.extend(new)
    return {"StepIds": [step.id for step in new]}


def make_steps(steps: list[dict[str, Any]], now: float) -> list[Step]:
    """Pending steps from the AWS shape, with new ids."""
    return [
        Step(new_id("s-"), step.name, list(step.args), step.action_on_failure, now)
        for step in parse_steps(steps)
    ]


def cancel_steps(manager: Manager, parameters: dict[str, Any]) -> dict[str, Any]:
    """Cancel pending steps, and the running one by ending its processes."""
    return {"CancelStepsInfoList": [_cancel(manager, step_id) for step_id in parameters["StepIds"]]}


def _cancel(manager: Manager, step_id: str) -> dict[str, str]:
    step = manager.cluster.step(step_id)
    if step is None:
        return {"StepId": step_id, "Status": "FAILED", "Reason": "there is no such step"}
    if step.is_over:
        return {"StepId": step_id, "Status": "FAILED", "Reason": f"the step is already {step.state}"}
    if step.state == "RUNNING":
        manager.runner.stop(step, manager.clock(), "CANCELLED", "cancelled by request")
    else:
        step.end("CANCELLED", manager.clock(), "cancelled by request")
    return {"StepId": step_id, "Status": "SUBMITTED"}


def set_termination_protection(manager: Manager, parameters: dict[str, Any]) -> dict[str, Any]:
    """Switch the protection on or off."""
    manager.cluster.protected = parameters["TerminationProtected"]
    return {}


def terminate_job_flows(manager: Manager, _parameters: dict[str, Any]) -> dict[str, Any]:
    """Begin the end of the cluster; a protected one refuses."""
    cluster = manager.cluster
    if cluster.protected:
        raise UserError(
            f"{cluster.id} is protected from termination; first run: "
            f"python -m infra.cluster set-termination-protection {cluster.id} --off"
        )
    if cluster.state != "TERMINATING":
        manager.terminate("USER_REQUEST", "Terminated by user request")
    return {}


HANDLERS: dict[str, Callable[[Manager, dict[str, Any]], dict[str, Any]]] = {
    "AddJobFlowSteps": add_job_flow_steps,
    "CancelSteps": cancel_steps,
    "SetTerminationProtection": set_termination_protection,
    "TerminateJobFlows": terminate_job_flows,
}
