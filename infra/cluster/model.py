"""What is known of a cluster: its steps, its nodes and how their states may change.

State names are EMR's (botocore lists them). Times are seconds since 1970, UTC.
"""

from __future__ import annotations

import secrets
import string
from dataclasses import dataclass, field, replace

FINAL_CLUSTER_STATES = ("TERMINATED", "TERMINATED_WITH_ERRORS")
FINAL_STEP_STATES = ("COMPLETED", "CANCELLED", "FAILED", "INTERRUPTED")
CLUSTER_TRANSITIONS = {
    "STARTING": ("BOOTSTRAPPING", "TERMINATING", "TERMINATED_WITH_ERRORS"),
    "BOOTSTRAPPING": ("RUNNING", "TERMINATING", "TERMINATED_WITH_ERRORS"),
    "RUNNING": ("WAITING", "TERMINATING", "TERMINATED_WITH_ERRORS"),
    "WAITING": ("RUNNING", "TERMINATING", "TERMINATED_WITH_ERRORS"),
    "TERMINATING": FINAL_CLUSTER_STATES,
    "TERMINATED": (),
    "TERMINATED_WITH_ERRORS": (),
}


def new_id(prefix: str) -> str:
    """An identifier as EMR forms them: `j-`, `s-`, `ci-` or `ig-` and 13 capitals and digits."""
    alphabet = string.ascii_uppercase + string.digits
    return prefix + "".join(secrets.choice(alphabet) for _ in range(13))


@dataclass
class Step:
    """One step: a spark-submit command, its state and how it ended."""

    id: str
    name: str
    args: list[str]  # after `spark-submit`, as requested
    action_on_failure: str
    created_at: float
    state: str = "PENDING"
    started_at: float | None = None
    ended_at: float | None = None
    exit_code: int | None = None
    failure: str = ""
    ui_port: int = 0  # of the driver's web page, while it runs

    @property
    def is_over(self) -> bool:
        return self.state in FINAL_STEP_STATES

    def end(self, state: str, at: float, failure: str = "") -> None:
        """Move to a final state, once."""
        assert not self.is_over, f"{self.id} has already ended"
        self.state, self.ended_at, self.failure, self.ui_port = state, at, failure, 0


@dataclass
class Instance:
    """One node: what it stands for, what it has here, and when it was up."""

    id: str
    group_id: str
    role: str  # MASTER, CORE or TASK
    instance_type: str
    market: str  # ON_DEMAND or SPOT
    cores: int
    memory_mb: int
    created_at: float
    state: str = "PROVISIONING"
    ready_at: float | None = None
    ended_at: float | None = None
    reason: str = ""
    host: str = "127.0.0.1"
    replaces: str = ""  # the id of the lost node in whose place this one came

    @property
    def is_up(self) -> bool:
        return self.state != "TERMINATED"

    def end(self, at: float, reason: str) -> None:
        """The node is gone."""
        self.state, self.ended_at, self.reason = "TERMINATED", at, reason

    def replacement(self, at: float) -> Instance:
        """A new node in the place of this one, which was lost."""
        return replace(
            self,
            id=new_id("ci-"),
            state="PROVISIONING",
            created_at=at,
            ready_at=None,
            ended_at=None,
            reason="",
            replaces=self.id,
        )


@dataclass
class Cluster:
    """A cluster, from the request on; the journal is this as JSON."""

    id: str
    name: str
    release_label: str
    log_uri: str | None
    created_at: float
    keep_alive: bool
    protected: bool
    idle_timeout_s: int | None
    spark_version: str
    executor_memory_mb: int
    driver_memory_mb: int
    tags: dict[str, str]
    notes: list[str]
    steps: list[Step]
    instances: list[Instance]
    state: str = "STARTING"
    code: str = ""
    message: str = ""
    states: list[tuple[str, float]] = field(default_factory=list)
    manager_pid: int = 0
    manager_started: float = 0.0

    @property
    def is_over(self) -> bool:
        return self.state in FINAL_CLUSTER_STATES

    @property
    def log_folder(self) -> str | None:
        """Where its logs go in S3, with a slash at the end; None without LogUri."""
        return f"{self.log_uri.rstrip('/')}/{self.id}/" if self.log_uri else None

    @property
    def master(self) -> Instance:
        return next(instance for instance in self.instances if instance.role == "MASTER")

    @property
    def ready_at(self) -> float | None:
        """When it could run its first step."""
        return next((at for state, at in self.states if state in ("RUNNING", "WAITING")), None)

    @property
    def ended_at(self) -> float | None:
        return self.states[-1][1] if self.is_over else None

    def move(self, state: str, at: float, code: str = "", message: str = "") -> None:
        """Change the state; asserts that EMR knows the transition."""
        if state == self.state:
            return
        assert state in CLUSTER_TRANSITIONS[self.state], f"{self.state} -> {state}"
        self.state = state
        self.states.append((state, at))
        if code:
            self.code, self.message = code, message

    def step(self, step_id: str) -> Step | None:
        return next((step for step in self.steps if step.id == step_id), None)

    def running_step(self) -> Step | None:
        return next((step for step in self.steps if step.state == "RUNNING"), None)

    def pending_steps(self) -> list[Step]:
        return [step for step in self.steps if step.state == "PENDING"]

    def instance(self, instance_id: str) -> Instance | None:
        return next((instance for instance in self.instances if instance.id == instance_id), None)

    @property
    def replaced(self) -> set[str]:
        """Ids of lost nodes in whose place others came: the cluster was never larger by them."""
        return {node.replaces for node in self.instances if node.replaces}

    def up(self, *roles: str) -> list[Instance]:
        """The nodes of these roles that are up."""
        return [node for node in self.instances if node.role in roles and node.is_up]
