"""What is supported of each EMR operation: honoured, recorded without effect, or refused by name."""

from __future__ import annotations

from infra.contracts.resources import Policy

_NODE_COUNTS = "the number of nodes is fixed; set InstanceCount in Instances.InstanceGroups"
_NO_IAM = "there are no IAM roles here, and a step's rights can't be narrowed"
_ONE_PAGE = "all are listed at once"

_STEPS = {
    "Steps.Name",
    "Steps.ActionOnFailure",
    "Steps.HadoopJarStep.Jar",
    "Steps.HadoopJarStep.Args",
}
_STEPS_REFUSED = {
    "Steps.HadoopJarStep.MainClass": "a step is command-runner.jar with spark-submit in Args",
    "Steps.HadoopJarStep.Properties": "give Spark's properties as --conf in Args",
    "Steps.StepMonitoringConfiguration": "step logs go below LogUri",
}

RUN_JOB_FLOW = Policy(
    honoured=frozenset(
        {
            "Name",
            "LogUri",
            "ReleaseLabel",
            "Instances.MasterInstanceType",
            "Instances.SlaveInstanceType",
            "Instances.InstanceCount",
            "Instances.InstanceGroups.Name",
            "Instances.InstanceGroups.Market",
            "Instances.InstanceGroups.InstanceRole",
            "Instances.InstanceGroups.InstanceType",
            "Instances.InstanceGroups.InstanceCount",
            "Instances.KeepJobFlowAliveWhenNoSteps",
            "Instances.TerminationProtected",
            *_STEPS,
            "StepConcurrencyLevel",
            "BootstrapActions",
            "Configurations.Classification",
            "Configurations.Properties",
            "AutoTerminationPolicy",
            "Tags",
        }
    ),
    recorded=frozenset(
        {
            "Applications",  # request.py refuses any but Spark
            "Instances.InstanceGroups.BidPrice",
            "Instances.InstanceGroups.EbsConfiguration",
            "Instances.Ec2KeyName",
            "Instances.Placement",
            "Instances.UnhealthyNodeReplacement",
            "Instances.Ec2SubnetId",
            "Instances.Ec2SubnetIds",
            "Instances.EmrManagedMasterSecurityGroup",
            "Instances.EmrManagedSlaveSecurityGroup",
            "Instances.ServiceAccessSecurityGroup",
            "Instances.AdditionalMasterSecurityGroups",
            "Instances.AdditionalSlaveSecurityGroups",
            "VisibleToAllUsers",
            "JobFlowRole",
            "ServiceRole",
            "AutoScalingRole",
            "ScaleDownBehavior",
            "EbsRootVolumeSize",
            "EbsRootVolumeIops",
            "EbsRootVolumeThroughput",
            "RepoUpgradeOnBoot",
            "PlacementGroupConfigs",
            "OSReleaseLabel",
            "ExtendedSupport",
        }
    ),
    refused={
        "LogEncryptionKmsKeyId": "logs are stored as the S3 server stores every object",
        "AdditionalInfo": "it selects features of AWS only",
        "AmiVersion": "use ReleaseLabel",
        "Instances.InstanceFleets": "use Instances.InstanceGroups",
        "Instances.HadoopVersion": "use ReleaseLabel",
        "Instances.InstanceGroups.Configurations": "use Configurations, for the whole cluster",
        "Instances.InstanceGroups.AutoScalingPolicy": _NODE_COUNTS,
        "Instances.InstanceGroups.CustomAmiId": "use BootstrapActions to prepare a node",
        **_STEPS_REFUSED,
        "StepExecutionRoleArn": _NO_IAM,
        "SupportedProducts": "only Spark runs here",
        "NewSupportedProducts": "only Spark runs here",
        "Configurations.Configurations": "give a flat entry with Classification spark-defaults",
        "SecurityConfiguration": "there is no encryption or authentication to configure here",
        "KerberosAttributes": "there is no Kerberos here",
        "CustomAmiId": "use BootstrapActions to prepare a node",
        "ManagedScalingPolicy": _NODE_COUNTS,
        "MonitoringConfiguration": "logs go below LogUri",
        "SessionEnabled": "submit Steps instead of Spark Connect sessions",
    },
)

ADD_JOB_FLOW_STEPS = Policy(
    honoured=frozenset({"JobFlowId", *_STEPS}),
    refused={**_STEPS_REFUSED, "ExecutionRoleArn": _NO_IAM},
)

POLICIES = {
    "RunJobFlow": RUN_JOB_FLOW,
    "AddJobFlowSteps": ADD_JOB_FLOW_STEPS,
    "CancelSteps": Policy(frozenset({"ClusterId", "StepIds"}), frozenset({"StepCancellationOption"})),
    "DescribeCluster": Policy(frozenset({"ClusterId"})),
    "ListClusters": Policy(
        frozenset({"ClusterStates"}),
        refused={
            "CreatedAfter": "choose by ClusterStates",
            "CreatedBefore": "choose by ClusterStates",
            "Marker": _ONE_PAGE,
        },
    ),
    "ListSteps": Policy(
        frozenset({"ClusterId", "StepIds"}),
        refused={"StepStates": "choose by StepIds", "Marker": _ONE_PAGE},
    ),
    "ListInstances": Policy(
        frozenset({"ClusterId", "InstanceGroupTypes"}),
        refused={
            "InstanceGroupId": "choose by InstanceGroupTypes",
            "InstanceFleetId": "choose by InstanceGroupTypes",
            "InstanceFleetType": "choose by InstanceGroupTypes",
            "InstanceStates": "choose by InstanceGroupTypes",
            "Marker": _ONE_PAGE,
        },
    ),
    "SetTerminationProtection": Policy(frozenset({"JobFlowIds", "TerminationProtected"})),
    "TerminateJobFlows": Policy(frozenset({"JobFlowIds"})),
}
