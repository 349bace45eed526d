"""Requests against botocore's model and a policy: what is refused, what is recorded, in which words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from infra.cluster.policy import POLICIES, RUN_JOB_FLOW
from infra.contracts.errors import UserError
from infra.contracts.resources import Policy, check, input_shape, read_request, undecided


def request(**instances: Any) -> dict[str, Any]:
    """The smallest RunJobFlow request that AWS takes, with these keys in Instances."""
    return {"Name": "test", "Instances": instances}


def refusal(body: dict[str, Any], policy: Policy = RUN_JOB_FLOW) -> str:
    """The message with which a RunJobFlow request is refused."""
    with pytest.raises(UserError) as caught:
        check(body, "emr", "RunJobFlow", policy)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("operation", sorted(POLICIES))
def test_every_key_of_the_model_is_in_exactly_one_list(operation: str) -> None:
    """Every key that AWS's model has, at every level looked into, is decided once."""
    assert undecided("emr", operation, POLICIES[operation]) == []


def test_all_top_level_and_instances_keys_are_decided() -> None:
    """Walks RunJobFlow's model itself, so that a new botocore can't add a key unseen."""
    shape = input_shape("emr", "RunJobFlow")
    inside = [f"Instances.{name}" for name in shape.members["Instances"].members]
    verdicts = {path: RUN_JOB_FLOW.decide(path)[0] for path in [*shape.members, *inside]}
    assert len(verdicts) > 50
    assert [path for path, verdict in verdicts.items() if verdict == "undecided"] == []


def test_a_policy_with_holes_is_found() -> None:
    """Keys that nobody lists, two lists name or AWS doesn't have are reported."""
    policy = Policy(frozenset({"JobFlowIds", "Nonsense"}), frozenset({"JobFlowIds"}))
    found = undecided("emr", "SetTerminationProtection", policy)
    assert found == ["JobFlowIds", "Nonsense", "TerminationProtected"]


def test_recorded_paths_are_returned_once_in_the_order_of_the_request() -> None:
    """A recorded key of two groups counts once, its path without positions."""
    group = {"InstanceRole": "CORE", "InstanceType": "m5.xlarge", "InstanceCount": 1, "BidPrice": "0.1"}
    body = {"ServiceRole": "r", **request(Ec2SubnetId="s", InstanceGroups=[group, group])}
    recorded = check(body, "emr", "RunJobFlow", RUN_JOB_FLOW)
    assert recorded == ["ServiceRole", "Instances.Ec2SubnetId", "Instances.InstanceGroups.BidPrice"]


def test_what_lies_below_a_recorded_key_is_still_checked() -> None:
    """A typing error inside a recorded structure is found."""
    assert "Instances.Placement.Zone is not known" in refusal(request(Placement={"Zone": "a"}))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            request(InstanceFleets=[]),
            "Instances.InstanceFleets is not supported; use Instances.InstanceGroups",
        ),
        (
            {**request(), "Steps": [{"Name": "a", "HadoopJarStep": {"Jar": "j", "MainClass": "M"}}]},
            (
                "Steps[0].HadoopJarStep.MainClass is not supported; "
                "a step is command-runner.jar with spark-submit in Args"
            ),
        ),
        (request(InstanceCont=1), "Instances.InstanceCont is not known to AWS; did you mean InstanceCount?"),
        ({"name": "a", **request()}, "name is not known to AWS; did you mean Name?"),
        ({**request(), "zz\nzz": 1}, "zz zz is not known to AWS"),
        (request(InstanceCount="4"), 'Instances.InstanceCount must be a whole number, not "4"'),
        (request(InstanceCount=True), "Instances.InstanceCount must be a whole number, not true"),
        (request(TerminationProtected=1), "Instances.TerminationProtected must be true or false, not 1"),
        (request(InstanceGroups={}), "Instances.InstanceGroups must be a list, not {}"),
        ({"Name": "a", "Instances": []}, "Instances must be an object, not []"),
        ({"Instances": {}}, "Name is missing: RunJobFlow needs it"),
        (
            request(InstanceGroups=[{"InstanceRole": "CORE", "InstanceType": "m5.xlarge"}]),
            "Instances.InstanceGroups[0].InstanceCount is missing: RunJobFlow needs it",
        ),
        (
            {**request(), "ScaleDownBehavior": "NOW"},
            (
                "ScaleDownBehavior must be one of TERMINATE_AT_INSTANCE_HOUR, TERMINATE_AT_TASK_COMPLETION, "
                'not "NOW"'
            ),
        ),
        (
            request(MasterInstanceType=""),
            "Instances.MasterInstanceType must have a length of at least 1, not 0",
        ),
        ({"Name": "x" * 257, "Instances": {}}, "Name is too long: 257, at most 256"),
    ],
)
def test_a_bad_request_is_refused_in_one_line(body: dict[str, Any], message: str) -> None:
    """Each kind of mistake is told with its path and what to do."""
    assert refusal(body) == message


def test_a_key_that_no_list_names_is_refused_with_its_supported_neighbours() -> None:
    """What a policy forgets is refused, never accepted in silence."""
    policy = Policy(frozenset({"Name", "Instances.InstanceCount"}))
    message = refusal(request(Ec2KeyName="k"), policy)
    assert message == "Instances.Ec2KeyName is not supported; supported here: InstanceCount"


def test_another_service_is_checked_in_the_same_way() -> None:
    """Streams go through the same check, with the bounds of their own model."""
    policy = Policy(frozenset({"StreamName", "ShardCount"}), refused={"WarmThroughputMiBps": "no"})
    assert check({"StreamName": "cards", "ShardCount": 6}, "kinesis", "CreateStream", policy) == []
    with pytest.raises(UserError, match=r"^ShardCount must be at least 1, not 0$"):
        check({"StreamName": "cards", "ShardCount": 0}, "kinesis", "CreateStream", policy)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"Name": "a",}', "is not valid JSON, line 1, column 1"),
        ("{\n 'Name': 1}", "is not valid JSON, line 2, column 2"),
        ("[1]", "must hold one JSON object"),
    ],
)
def test_a_file_that_is_no_request_is_refused(tmp_path: Path, text: str, message: str) -> None:
    """Bad JSON is told with its place, another kind of JSON with what is wanted."""
    path = tmp_path / "request.json"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_request(path)


def test_a_request_file_is_read_or_missed_by_name(tmp_path: Path) -> None:
    """A good file gives its object; a missing one is a user's mistake with the path."""
    path = tmp_path / "request.json"
    path.write_text('{"Name": "ä"}', encoding="utf-8")
    assert read_request(path) == {"Name": "ä"}
    with pytest.raises(UserError, match=r"nowhere\.json can't be read: No such file"):
        read_request(tmp_path / "nowhere.json")
    path.write_bytes(b"\xff{}")
    with pytest.raises(UserError, match="UTF-8"):
        read_request(path)
