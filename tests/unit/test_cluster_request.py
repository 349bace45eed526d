"""RunJobFlow requests: what a cluster is made from, and what is refused by name."""

from __future__ import annotations

import copy
import importlib.metadata
from collections.abc import Callable
from typing import Any

import pytest

from infra.cluster import instances
from infra.cluster.request import (
    SPARK_VERSION,
    BootstrapAction,
    InstanceGroup,
    StepRequest,
    check_parameters,
    parse,
    parse_steps,
    spark_arguments,
)
from infra.cluster.spark_arguments import argument_notes
from infra.contracts.errors import UserError
from infra.contracts.resources import read_request
from infra.settings import ROOT

DEFAULT = read_request(ROOT / "infra" / "resources" / "clusters" / "sales-rollup.json")


def changed(**keys: Any) -> dict[str, Any]:
    """The default request with some top-level keys replaced."""
    return {**copy.deepcopy(DEFAULT), **keys}


def groups(*sizes: tuple[str, int], **more: Any) -> dict[str, Any]:
    """The default request with these groups of m5.xlarge."""
    listed = [{"InstanceRole": role, "InstanceType": "m5.xlarge", "InstanceCount": n} for role, n in sizes]
    return changed(Instances={"InstanceGroups": listed, **more})


def step(*args: str, **keys: Any) -> dict[str, Any]:
    """A step in AWS's shape that runs spark-submit with these arguments."""
    return {
        "Name": "s",
        "HadoopJarStep": {"Jar": "command-runner.jar", "Args": ["spark-submit", *args]},
        **keys,
    }


def refusal(call: Callable[[], object]) -> str:
    """The one line with which a call is refused."""
    with pytest.raises(UserError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_default_request_is_what_the_batch_job_needs() -> None:
    """One master, two core nodes and a task node on spot, two steps that end the cluster on failure."""
    request = parse(DEFAULT)
    assert [(group.role, group.count, group.market) for group in request.groups] == [
        ("MASTER", 1, "ON_DEMAND"),
        ("CORE", 2, "ON_DEMAND"),
        ("TASK", 1, "SPOT"),
    ]
    assert (request.name, request.release_label, request.log_uri) == (
        "sales-rollup",
        f"spark-{SPARK_VERSION}",
        "s3://lake/logs/",
    )
    assert (request.keep_alive, request.termination_protected, request.idle_timeout_s) == (False, False, None)
    assert [item.name for item in request.steps] == ["Sales rollup", "Load warehouse"]
    assert {item.action_on_failure for item in request.steps} == {"TERMINATE_CLUSTER"}
    assert request.steps[0].args[:3] == ("spark_jobs/sales_rollup.py", "--input", "s3://lake/sales/")
    assert request.tags == {"project": "millstream", "job": "batch-job"}
    assert request.raw == DEFAULT


def test_the_spark_version_is_the_installed_one() -> None:
    """The release label names the Spark that is really there."""
    assert importlib.metadata.version("pyspark") == SPARK_VERSION


def test_everything_honoured_is_parsed() -> None:
    """Bootstrap actions, idle time-out, spark-defaults and flags reach the cluster."""
    request = parse(
        groups(("MASTER", 1), ("CORE", 1), KeepJobFlowAliveWhenNoSteps=True, TerminationProtected=True)
        | {
            "LogUri": "s3n://lake/logs",
            "AutoTerminationPolicy": {"IdleTimeout": 60},
            "StepConcurrencyLevel": 1,
            "BootstrapActions": [
                {"Name": "b", "ScriptBootstrapAction": {"Path": "s3://lake/b.sh", "Args": ["x"]}}
            ],
            "Configurations": [
                {"Classification": "spark-defaults", "Properties": {"spark.a": "1", "spark.b": "2"}},
                {"Classification": "spark-defaults", "Properties": {"spark.a": "3"}},
            ],
            "Steps": [step("a.py", ActionOnFailure="TERMINATE_JOB_FLOW"), step("b.py")],
        }
    )
    assert (request.keep_alive, request.termination_protected, request.idle_timeout_s) == (True, True, 60)
    assert request.log_uri == "s3://lake/logs"
    assert request.bootstrap_actions == (BootstrapAction("b", "s3://lake/b.sh", ("x",)),)
    assert request.spark_defaults == {"spark.a": "3", "spark.b": "2"}
    assert request.steps == (
        StepRequest("s", ("a.py",), "TERMINATE_CLUSTER"),
        StepRequest("s", ("b.py",), "CONTINUE"),
    )


def test_the_short_form_is_one_master_and_the_rest_core() -> None:
    """MasterInstanceType, SlaveInstanceType and InstanceCount mean what they mean on EMR."""
    short = {"MasterInstanceType": "m5.xlarge", "SlaveInstanceType": "r5.xlarge", "InstanceCount": 4}
    assert parse(changed(Instances=short)).groups == (
        InstanceGroup("MASTER", "MASTER", "m5.xlarge", 1, "ON_DEMAND"),
        InstanceGroup("CORE", "CORE", "r5.xlarge", 3, "ON_DEMAND"),
    )


def test_an_emr_request_runs_with_notes_once() -> None:
    """An emr label, YARN options, executor sizes and roles are noted, one line each, and nothing else."""
    yarn = step("--deploy-mode", "cluster", "--master=yarn", "a.py")
    body = changed(
        ReleaseLabel="emr-7.5.0",
        ServiceRole="EMR_DefaultRole",
        Steps=[yarn, yarn],
        Configurations=[
            {
                "Classification": "spark-defaults",
                "Properties": {"spark.executor.memory": "8g", "spark.x": "1"},
            }
        ],
    )
    request = parse(body)
    assert request.notes == (
        "emr-7.5.0 runs on Spark 4.1.1 here",
        "spark.executor.memory=8g: left out, executors are sized by the instance types",
        "--deploy-mode cluster: the driver runs on the MASTER node, as in client mode",
        "--master yarn: left out, Spark's own master takes YARN's place",
        "recorded, without effect here: Applications, ServiceRole",
    )
    assert request.recorded == ("Applications", "ServiceRole")
    assert request.spark_defaults == {"spark.x": "1"}
    assert request.steps[0].args == ("--deploy-mode", "cluster", "--master=yarn", "a.py")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            groups(("MASTER", 3), ("CORE", 1)),
            "one MASTER group of one node, not 3 MASTER nodes",
        ),
        (groups(("CORE", 1)), "one MASTER group of one node, not 0 MASTER nodes"),
        (groups(("MASTER", 1), ("MASTER", 1), ("CORE", 1)), "not 2 MASTER nodes"),
        (groups(("MASTER", 1), ("CORE", 1), ("CORE", 1)), "at most one CORE group"),
        (groups(("MASTER", 1)), "add a CORE group with at least one node"),
        (groups(("MASTER", 1), ("CORE", 0)), "add a CORE group with at least one node"),
        (groups(("MASTER", 1), ("TASK", 2)), "TASK nodes need a CORE group"),
        (groups(("MASTER", 1), ("CORE", -1)), "InstanceGroups[1].InstanceCount must be at least 0, not -1"),
        (groups(("MASTER", 1), ("CORE", 1), InstanceCount=2), "both InstanceGroups and InstanceCount"),
        (changed(Instances={}), "Instances.MasterInstanceType is missing"),
        (
            changed(Instances={"MasterInstanceType": "m5.xlarge", "InstanceCount": 1}),
            "add a CORE group with at least one node",
        ),
        (
            changed(Instances={"MasterInstanceType": "m5.xlarge", "InstanceCount": 2}),
            "Instances.SlaveInstanceType: the instance type '' is not known",
        ),
        (changed(ReleaseLabel="emr-7"), "ReleaseLabel 'emr-7' is not supported; use spark-4.1.1"),
        ({key: DEFAULT[key] for key in ("Name", "Instances")}, "ReleaseLabel is missing; use spark-4.1.1"),
        (changed(LogUri="lake/logs/"), "give an S3 address such as s3://lake/logs/"),
        (changed(LogUri="s3:///logs"), "give an S3 address"),
        (
            changed(Applications=[{"Name": "spark"}, {"Name": "Hive"}]),
            "Applications[1].Name: 'Hive' is not supported; only Spark runs here",
        ),
        (changed(StepConcurrencyLevel=2), "StepConcurrencyLevel 2 is not supported"),
        (changed(AutoTerminationPolicy={"IdleTimeout": 59}), "must be 60 to 604,800 seconds, not 59"),
        (changed(AutoTerminationPolicy={"IdleTimeout": 604801}), "not 604,801"),
        (changed(AutoTerminationPolicy={}), "AutoTerminationPolicy.IdleTimeout must be"),
        (changed(SecurityConfiguration="c"), "SecurityConfiguration is not supported"),
        (
            changed(Configurations=[{"Classification": "hive-site"}]),
            "Classification: 'hive-site' is not supp",
        ),
        (
            changed(Configurations=[{"Classification": "spark-defaults", "Configurations": []}]),
            "Configurations[0].Configurations is not supported",
        ),
        (
            changed(Configurations=[{"Classification": "spark-defaults", "Properties": {"hive.x": "1"}}]),
            "'hive.x' is no Spark property",
        ),
        (
            changed(
                Configurations=[
                    {"Classification": "spark-defaults", "Properties": {"spark.x": "1\nspark.y 2"}}
                ]
            ),
            "'spark.x' is no Spark property of one line",
        ),
        (
            changed(
                Configurations=[
                    {"Classification": "spark-defaults", "Properties": {"spark.master": "local[*]"}}
                ]
            ),
            "spark.master=local[*] is not supported; a step runs on its own cluster",
        ),
        (
            changed(BootstrapActions=[{"Name": "b", "ScriptBootstrapAction": {"Path": "http://x/b.sh"}}]),
            "BootstrapActions[0].ScriptBootstrapAction.Path: 'http://x/b.sh' is not supported",
        ),
        (
            changed(BootstrapActions=[{"Name": "b", "ScriptBootstrapAction": {"Path": "b.sh"}}] * 17),
            "BootstrapActions: 17 are too many, at most 16",
        ),
        (changed(Steps=[step("a.py")] * 257), "Steps: 257 are too many, at most 256"),
        (changed(Tags=[{"Value": "x"}]), "Tags[0].Key is missing"),
    ],
)
def test_what_can_not_be_honoured_is_refused(body: dict[str, Any], message: str) -> None:
    """Each refusal says where and what is supported."""
    assert message in refusal(lambda: parse(body))


def test_an_unknown_instance_type_lists_its_neighbours() -> None:
    """A slip in an instance type is answered with the nearest known ones."""
    body = groups(("MASTER", 1), ("CORE", 1))
    body["Instances"]["InstanceGroups"][1]["InstanceType"] = "m5.xlrage"
    message = refusal(lambda: parse(body))
    assert message.startswith(
        "Instances.InstanceGroups[1].InstanceType: the instance type 'm5.xlrage' is not known"
    )
    assert "m5.xlarge" in message


def test_the_price_table_is_complete() -> None:
    """Every type has cores, memory for Spark's smallest heaps and three prices, spot below on demand."""
    table = instances.load()
    assert len(table.types) >= 20
    for kind in table.types.values():
        assert kind.vcpu >= 2
        assert kind.memory_mb >= 4096
        assert 0 < kind.emr_usd_per_hour < kind.ec2_usd_per_hour
        assert 0 < kind.ec2_usd("SPOT") < kind.ec2_usd("ON_DEMAND")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            {"Name": "s", "HadoopJarStep": {"Jar": "s3://b/wordcount.jar"}},
            "Steps[0].HadoopJarStep.Jar: 's3://b/wordcount.jar' is not supported; use command-runner.jar",
        ),
        (
            {"Name": "s", "HadoopJarStep": {"Jar": "command-runner.jar", "Args": ["hive-script"]}},
            "Steps[0].HadoopJarStep.Args: 'hive-script' is not supported; the first must be spark-submit",
        ),
        (
            {"Name": "s", "HadoopJarStep": {"Jar": "command-runner.jar"}},
            "Steps[0].HadoopJarStep.Args: nothing is not supported; the first must be spark-submit",
        ),
        (
            step("job.jar"),
            (
                "Steps[0].HadoopJarStep.Args: 'job.jar' is not supported; "
                "a step runs a PySpark script (.py), from a path or s3://"
            ),
        ),
    ],
)
def test_a_step_that_can_not_run_is_refused(body: dict[str, Any], message: str) -> None:
    """Only PySpark scripts through spark-submit, in RunJobFlow as in AddJobFlowSteps."""
    assert refusal(lambda: parse_steps([body])) == message
    assert refusal(lambda: parse(changed(Steps=[body]))) == message


def test_the_script_is_found_behind_the_options() -> None:
    """Options with values, `=` forms and flags come before the script; all after it is the script's."""
    args = ["-c", "spark.a=b=c", "--py-files=x.zip", "--verbose", "job.py", "--master", "local", "x.py"]
    assert spark_arguments(args) == (
        ["--conf", "spark.a=b=c", "--py-files", "x.zip", "--verbose"],
        "job.py",
        ["--master", "local", "x.py"],
    )
    assert argument_notes(args) == []


def test_options_that_only_fit_yarn_are_left_out_with_a_note() -> None:
    """Where and how large to run is this cluster's own affair; client mode needs no note."""
    args = [
        *("--master", "yarn", "--deploy-mode", "client", "--queue", "q", "--num-executors", "4"),
        *("--conf", "spark.executor.cores=4", "--driver-memory", "1g", "s3://lake/job.py"),
    ]
    assert spark_arguments(args) == (["--driver-memory", "1g"], "s3://lake/job.py", [])
    assert [note.partition(":")[0] for note in argument_notes(args)] == [
        "--master yarn",
        "--queue q",
        "--num-executors 4",
        "spark.executor.cores=4",
    ]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "needs a script"),
        (["--verbose"], "needs a script"),
        (["--name"], "option --name needs a value"),
        (["--mastr", "yarn", "a.py"], "no option '--mastr'; did you mean --master?"),
        (["--master", "local[2]", "a.py"], "--master local[2] is not supported"),
        (["--conf", "spark.master=spark://h:1", "a.py"], "spark.master=spark://h:1 is not supported"),
        (["--conf", "spark.x", "a.py"], "--conf needs PROPERTY=VALUE, not 'spark.x'"),
        (["--conf", "spark.x=a\nb", "a.py"], "a value of more than one line"),
        (["--deploy-mode", "local", "a.py"], "--deploy-mode local is not supported; use client"),
        (["--class", "Main", "a.py"], "--class is not supported; a step runs a PySpark script"),
        (["--driver-class-path", "x", "a.py"], "it would hide the S3 client; use --jars"),
        (["--conf", "spark.executor.extraClassPath=x", "a.py"], "it would hide the S3 client"),
        (["--help"], "--help is not supported"),
        (["job.R"], "'job.R' is not supported"),
        (["hdfs://x/a.py"], "give the script as a path or an s3:// address"),
    ],
)
def test_arguments_that_can_not_work_are_refused(args: list[str], message: str) -> None:
    """A wrong or unsupported option is told before a cluster starts."""
    assert message in refusal(lambda: spark_arguments(args))


def test_the_other_operations_are_checked_by_name() -> None:
    """ListSteps takes what AWS names, a wrong or unsupported parameter is refused."""
    assert check_parameters("ListSteps", {"ClusterId": "j-1", "StepIds": ["s-1"]}) == []
    assert "did you mean ClusterId" in refusal(lambda: check_parameters("ListSteps", {"ClusterID": "j"}))
    assert refusal(lambda: check_parameters("ListClusters", {"Marker": "m"})) == (
        "Marker is not supported; all are listed at once"
    )
