"""Learning in one environment: retraining, rollout, scoring, watching."""

from collections.abc import Mapping

from aws_cdk import CfnOutput, Duration, Environment, RemovalPolicy, Stack
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sagemaker as sagemaker
from aws_cdk import aws_sns as sns
from constructs import Construct
from retrodict.pipeline import Pipeline, load_pipelines, scored_types
from retrodict.retraining import ASKS
from retrodict.rollout import asynchronous_name, dashed, endpoint_name

from infra.constructs.alarms import AlarmTopic
from infra.constructs.artifact_bucket import (
    ARTIFACTS,
    ASYNCHRONOUS,
    TRAINING_JOBS,
    TRAINING_SETS,
)
from infra.constructs.dashboard import Dashboard
from infra.constructs.drift_watch import DriftWatch
from infra.constructs.encryption import EncryptionKey
from infra.constructs.endpoint_watch import EndpointWatch
from infra.constructs.grants import accept_finding, allow, allow_key
from infra.constructs.layers import CodeLayer, DependencyLayer
from infra.constructs.model_image import ModelImage
from infra.constructs.model_roles import ServingRole, TrainingRole
from infra.constructs.pipeline_function import (
    PipelineFunction,
    Workplace,
    let_logs_use,
)
from infra.constructs.state_machine import StateMachine
from infra.constructs.stream_consumer import StreamConsumer
from infra.constructs.table_consumer import TableConsumer
from infra.settings import Settings, SettingsError
from infra.stacks.state import StateStack

# What is left of SageMaker's 63 letters beside the id of a run: with more, names would
# be cut, and a role's prefix would not be theirs any more.
LONGEST_NAMES = 41


class LearningStack(Stack):
    """Everything that makes, rolls out, asks and watches models.

    The endpoints themselves belong to the rollout: no template names them.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        settings: Settings,
        state: StateStack,
        stage_dependencies: bool,
    ) -> None:
        super().__init__(
            scope,
            construct_id,
            description=f"Retrodict {settings.name}: training, rollout, scoring",
            env=Environment(account=settings.account, region=settings.region),
        )
        self._settings = settings
        self._state = state
        self._pipelines = [p for p in load_pipelines().values() if p.model is not None]
        for pipeline in self._pipelines:
            check_names(settings.name, pipeline.name)
        key = EncryptionKey(self, "OperationsKey", purpose="log groups and alarms")
        let_logs_use(key)
        self._alarms = AlarmTopic(self, "Alarms", key=key)
        self._workplace = Workplace(
            environment=settings.name,
            key=key,
            alarms=self._alarms,
            log_retention_days=settings.log_retention_days,
            layers=[
                CodeLayer(self, "CoreLayer", name="core"),
                CodeLayer(self, "AdaptersLayer", name="adapters"),
                CodeLayer(self, "PipelinesLayer", name="pipelines"),
            ],
        )
        self._hot = DependencyLayer(
            self, "HotLayer", name="hot", staged=stage_dependencies
        )
        self._arrow = DependencyLayer(
            self, "ArrowLayer", name="arrow", staged=stage_dependencies
        )
        self._image = ModelImage(self, "Image", uri=settings.image_uri)
        self._groups()
        roll_out = self._roll_out()
        retrain = self._retrain(roll_out)
        self._decide(retrain)
        self._publish()
        self._score()
        self._watch()
        self._show({"retrain": retrain, "roll_out": roll_out})
        for name, value in {
            "RetrainStateMachineArn": retrain.arn,
            "RollOutStateMachineArn": roll_out.arn,
            "ImageUri": self._image.uri,
            **{
                f"{_title(pipeline)}EndpointName": endpoint_name(
                    settings.name, pipeline.name
                )
                for pipeline in self._pipelines
            },
        }.items():
            CfnOutput(self, name, value=value)

    def _function(  # noqa: PLR0913 - every argument is named
        self,
        construct_id: str,
        name: str,
        *,
        variables: Mapping[str, str],
        arrow: bool = False,
        memory_mib: int = 512,
        timeout: Duration | None = None,
    ) -> PipelineFunction:
        function = PipelineFunction(
            self,
            construct_id,
            name=name,
            workplace=self._workplace,
            dependencies=self._arrow if arrow else self._hot,
            memory_mib=memory_mib,
            timeout=timeout or Duration.minutes(1),
            variables=variables,
        )
        self._state.event_log.forbid_erasure(function.role)
        return function

    def _groups(self) -> None:
        """Keep a registry of each pipeline's models, which outlives the stack.

        CloudFormation could not delete a group that holds a model anyway.
        """
        for pipeline in self._pipelines:
            group = sagemaker.CfnModelPackageGroup(
                self,
                f"Models{_title(pipeline)}",
                model_package_group_name=endpoint_name(
                    self._settings.name, pipeline.name
                ),
                model_package_group_description=f"Retrodict: {pipeline.name}",
            )
            group.apply_removal_policy(RemovalPolicy.RETAIN)

    def _sagemaker_arns(self, kind: str) -> list[str]:
        """Return what a kind of SageMaker resource of our pipelines may be called."""
        environment = self._settings.name
        found = []
        for pipeline in self._pipelines:
            endpoint = endpoint_name(environment, pipeline.name)
            name = {
                "endpoint": endpoint,
                "model-package-group": endpoint,
                "model-package": f"{endpoint}/*",
            }.get(kind, f"{environment}-{dashed(pipeline.name)}-*")
            found.append(
                self.format_arn(service="sagemaker", resource=kind, resource_name=name)
            )
        return found

    def _asynchronous_endpoints(self) -> list[str]:
        return [
            self.format_arn(
                service="sagemaker",
                resource="endpoint",
                resource_name=asynchronous_name(
                    endpoint_name(self._settings.name, pipeline.name)
                ),
            )
            for pipeline in self._pipelines
        ]

    def _variables(self, *names: str) -> dict[str, str]:
        state = self._state
        known = {
            "ARTIFACT_BUCKET_NAME": state.artifacts.bucket_name,
            "ENVIRONMENT_NAME": self._settings.name,
            "EVENT_LOG_BUCKET_NAME": state.event_log.bucket_name,
            "INGEST_STREAM_NAME": state.ingest.stream_name,
            "LIFECYCLE_TABLE_NAME": state.lifecycle_store.table_name,
            "ONLINE_STORE_TABLE_NAME": state.online_store.table_name,
            "PREDICTIONS_STREAM_NAME": state.predictions.stream_name,
            "SERVING_IMAGE_URI": self._image.uri,
        }
        return {name: known[name] for name in names}

    def _record_failure(self) -> PipelineFunction:
        function = self._function(
            "RecordFailure",
            "record_failure",
            variables=self._variables("LIFECYCLE_TABLE_NAME"),
        )
        self._state.lifecycle_store.grant_append(function.role)
        return function

    def _roll_out(self) -> StateMachine:
        state = self._state
        start = self._function(
            "StartRollout",
            "start_rollout",
            variables=self._variables(
                "ARTIFACT_BUCKET_NAME", "ENVIRONMENT_NAME", "INGEST_STREAM_NAME",
                "LIFECYCLE_TABLE_NAME", "ONLINE_STORE_TABLE_NAME",
            ),
        )  # fmt: skip
        verify = self._function(
            "VerifyRollout",
            "verify_rollout",
            variables=self._variables("ARTIFACT_BUCKET_NAME", "LIFECYCLE_TABLE_NAME"),
            timeout=Duration.minutes(2),
        )
        self._failures = self._record_failure()
        for function in (start, verify):
            state.lifecycle_store.grant_append(function.role)
            state.artifacts.grant_read(function.role, ARTIFACTS)
        endpoints = [
            *self._sagemaker_arns("endpoint"),
            *self._asynchronous_endpoints(),
        ]
        allow(
            start.role,
            ["sagemaker:DeleteEndpoint", "sagemaker:DescribeEndpoint"],
            endpoints,
        )
        allow(verify.role, ["sagemaker:DescribeEndpoint"], endpoints)
        allow(
            verify.role,
            ["sagemaker:InvokeEndpoint"],
            self._sagemaker_arns("endpoint"),
        )
        allow(
            verify.role,
            ["sagemaker:DeleteEndpointConfig", "sagemaker:DescribeEndpointConfig"],
            self._sagemaker_arns("endpoint-config"),
        )
        allow(
            verify.role,
            ["sagemaker:DeleteModel", "sagemaker:DescribeModel"],
            self._sagemaker_arns("model"),
        )
        self._names_of_runs(verify.role)
        serving = ServingRole(
            self,
            "Serving",
            environment=self._settings.name,
            image=self._image,
            data_key=state.key,
            artifacts=state.artifacts,
            online_store=state.online_store,
            ingest=state.ingest,
        )
        success, error = (
            sns.Topic(
                self, f"Asynchronous{name}", master_key=self._workplace.key,
                enforce_ssl=True,
            )
            for name in ("Success", "Error")
        )  # fmt: skip
        for topic in (success, error):
            allow(serving.role, ["sns:Publish"], [topic.topic_arn])
        allow_key(
            serving.role,
            self._workplace.key,
            "sns",
            ["kms:Decrypt", "kms:GenerateDataKey"],
        )
        machine = StateMachine(
            self,
            "RollOut",
            name="roll_out",
            workplace=self._workplace,
            functions={
                "StartRolloutArn": start,
                "VerifyRolloutArn": verify,
                "RecordFailureArn": self._failures,
            },
            substitutions={
                "AsyncErrorTopicArn": error.topic_arn,
                "AsyncFailureUri": state.artifacts.uri(f"{ASYNCHRONOUS}failures"),
                "AsyncOutputUri": state.artifacts.uri(f"{ASYNCHRONOUS}answers"),
                "AsyncSuccessTopicArn": success.topic_arn,
                "DataKeyArn": state.key.key_arn,
                "ImageUri": self._image.uri,
                "InstanceCount": str(self._settings.instance_count),
                "InstanceType": self._settings.instance_type,
                "ServingRoleArn": serving.role.role_arn,
            },
        )
        configs = self._sagemaker_arns("endpoint-config")
        for actions, resources in (
            (["CreateEndpoint", "UpdateEndpoint"], [*endpoints, *configs]),
            (["DescribeEndpoint"], endpoints),
            (["CreateEndpointConfig", "DescribeEndpointConfig"], configs),
            (["CreateModel", "DescribeModel"], self._sagemaker_arns("model")),
        ):
            allow(machine.role, [f"sagemaker:{name}" for name in actions], resources)
        # The disks of an endpoint are encrypted by a grant of whoever creates it.
        allow_key(
            machine.role,
            state.key,
            "sagemaker",
            ["kms:CreateGrant", "kms:DescribeKey"],
        )
        self._pass_role(machine, serving.role)
        self._names_of_runs(machine.role)
        return machine

    def _retrain(self, roll_out: StateMachine) -> StateMachine:
        state = self._state
        build = self._function(
            "BuildTrainingSet",
            "build_training_set",
            variables=self._variables(
                "ARTIFACT_BUCKET_NAME", "ENVIRONMENT_NAME", "EVENT_LOG_BUCKET_NAME",
                "LIFECYCLE_TABLE_NAME",
            ),
            arrow=True,
            memory_mib=3_008,
            timeout=Duration.minutes(15),
        )  # fmt: skip
        judge = self._function(
            "JudgeCandidate",
            "judge_candidate",
            variables=self._variables("ARTIFACT_BUCKET_NAME", "LIFECYCLE_TABLE_NAME"),
            arrow=True,
            memory_mib=3_008,
            timeout=Duration.minutes(15),
        )
        register = self._function(
            "RegisterCandidate",
            "register_candidate",
            variables=self._variables(
                "ARTIFACT_BUCKET_NAME", "ENVIRONMENT_NAME", "LIFECYCLE_TABLE_NAME",
                "SERVING_IMAGE_URI",
            ),
        )  # fmt: skip
        for function in (build, judge, register):
            state.lifecycle_store.grant_append(function.role)
        state.event_log.grant_read(build.role)
        state.artifacts.grant_write(build.role, TRAINING_SETS)
        state.artifacts.grant_read(judge.role, TRAINING_SETS, TRAINING_JOBS, ARTIFACTS)
        state.artifacts.grant_write(judge.role, ARTIFACTS)
        state.artifacts.grant_read(register.role, ARTIFACTS)
        state.artifacts.grant_write(register.role, ARTIFACTS)  # the card
        allow(
            register.role,
            ["sagemaker:CreateModelPackage", "sagemaker:ListModelPackages"],
            [
                *self._sagemaker_arns("model-package-group"),
                *self._sagemaker_arns("model-package"),
            ],
        )
        self._names_of_runs(register.role, kinds=("model-package",))
        training = TrainingRole(
            self,
            "Training",
            image=self._image,
            data_key=state.key,
            artifacts=state.artifacts,
        )
        machine = StateMachine(
            self,
            "Retrain",
            name="retrain",
            workplace=self._workplace,
            functions={
                "BuildTrainingSetArn": build,
                "JudgeCandidateArn": judge,
                "RegisterCandidateArn": register,
                "RecordFailureArn": self._failures,
            },
            substitutions={
                "DataKeyArn": state.key.key_arn,
                "ImageUri": self._image.uri,
                "RollOutStateMachineArn": roll_out.arn,
                "TrainingInstanceType": self._settings.training_instance_type,
                "TrainingRoleArn": training.role.role_arn,
            },
        )
        jobs = self._sagemaker_arns("training-job")
        allow(
            machine.role,
            [
                "sagemaker:AddTags",
                "sagemaker:CreateTrainingJob",
                "sagemaker:DescribeTrainingJob",
                "sagemaker:StopTrainingJob",
            ],
            jobs,
        )
        # `.sync` hears of a job's end by a rule of this name, which AWS manages.
        allow(
            machine.role,
            ["events:DescribeRule", "events:PutRule", "events:PutTargets"],
            [
                self.format_arn(
                    service="events",
                    resource="rule",
                    resource_name="StepFunctionsGetEventsForSageMakerTrainingJobsRule",
                )
            ],
        )
        roll_out.grant_start(machine.role)
        self._pass_role(machine, training.role)
        self._names_of_runs(machine.role, kinds=("training-job",))
        return machine

    def _pass_role(self, machine: StateMachine, role: iam.IRole) -> None:
        allow(
            machine.role,
            ["iam:PassRole"],
            [role.role_arn],
            {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}},
        )

    def _names_of_runs(
        self, role: iam.IRole, kinds: tuple[str, ...] = ("endpoint-config", "model")
    ) -> None:
        """Say why a role holds a wildcard: what a run creates is named after it."""
        for kind in kinds:
            for arn in self._sagemaker_arns(kind):
                shown = self.resolve(arn)["Fn::Join"][1]
                text = "".join(
                    p if isinstance(p, str) else f"<{p['Ref']}>" for p in shown
                )
                accept_finding(
                    role,
                    f"AwsSolutions-IAM5[Resource::{text}]",
                    "what a run creates is named after environment, pipeline and run; "
                    "the prefix keeps every other name out",
                )

    def _decide(self, retrain: StateMachine) -> None:
        function = self._function(
            "DecideRetraining",
            "decide_retraining",
            variables={
                **self._variables("LIFECYCLE_TABLE_NAME"),
                "RETRAIN_STATE_MACHINE_ARN": retrain.arn,
            },
        )
        self._state.lifecycle_store.grant_append(function.role)
        retrain.grant_start(function.role)
        StreamConsumer(
            self,
            "EventsToDecideRetraining",
            function=function,
            stream=self._state.events,
            batch_size=1_000,
            window=Duration.seconds(self._settings.score_window_seconds),
            quarantine=self._state.quarantine,
            alarms=self._alarms,
            types=ASKS,
        )

    def _publish(self) -> None:
        function = self._function(
            "PublishDecisions",
            "publish_decisions",
            variables=self._variables("INGEST_STREAM_NAME"),
        )
        self._state.ingest.grant_put(function.role)
        TableConsumer(
            self,
            "DecisionsToPublishDecisions",
            function=function,
            table=self._state.lifecycle_store,
            quarantine=self._state.quarantine,
            alarms=self._alarms,
        )

    def _score(self) -> None:
        state = self._state
        function = self._function(
            "ScoreEvents",
            "score_events",
            variables=self._variables(
                "ARTIFACT_BUCKET_NAME", "INGEST_STREAM_NAME", "LIFECYCLE_TABLE_NAME",
                "ONLINE_STORE_TABLE_NAME", "PREDICTIONS_STREAM_NAME",
            ),
            memory_mib=1_769,
            timeout=Duration.minutes(2),
        )  # fmt: skip
        state.online_store.grant_fold(function.role)
        state.lifecycle_store.grant_read(function.role)
        state.artifacts.grant_read(function.role, ARTIFACTS)
        state.ingest.grant_put(function.role)
        state.predictions.grant_put(function.role)
        StreamConsumer(
            self,
            "EventsToScoreEvents",
            function=function,
            stream=state.events,
            batch_size=100,
            window=Duration.seconds(self._settings.score_window_seconds),
            quarantine=state.quarantine,
            alarms=self._alarms,
            types=scored_types(self._pipelines),
        )

    def _watch(self) -> None:
        state = self._state
        measure = self._function(
            "MeasureDrift",
            "measure_drift",
            variables=self._variables(
                "ARTIFACT_BUCKET_NAME", "ENVIRONMENT_NAME", "EVENT_LOG_BUCKET_NAME",
                "LIFECYCLE_TABLE_NAME",
            ),
            arrow=True,
            memory_mib=3_008,
            timeout=Duration.minutes(15),
        )  # fmt: skip
        state.event_log.grant_read(measure.role)
        state.lifecycle_store.grant_read(measure.role)
        state.artifacts.grant_read(measure.role, ARTIFACTS)
        publish = self._function(
            "PublishAlarm",
            "publish_alarm",
            variables=self._variables(
                "ENVIRONMENT_NAME", "INGEST_STREAM_NAME", "LIFECYCLE_TABLE_NAME"
            ),
        )
        state.ingest.grant_put(publish.role)
        state.lifecycle_store.grant_read(publish.role)
        allow(
            publish.role,
            ["cloudwatch:DescribeAlarms", "cloudwatch:GetMetricStatistics"],
            ["*"],
        )
        self._drift = DriftWatch(
            self,
            "Drift",
            environment=self._settings.name,
            every=Duration.minutes(self._settings.drift_every_minutes),
            pipelines=self._pipelines,
            measure=measure,
            publish=publish,
            alarms=self._alarms,
        )
        self._endpoints = [
            EndpointWatch(
                self,
                f"Endpoint{_title(pipeline)}",
                environment=self._settings.name,
                pipeline=pipeline,
                model=pipeline.model,
                alarms=self._alarms,
            )
            for pipeline in self._pipelines
            if pipeline.model is not None
        ]

    def _show(self, machines: Mapping[str, StateMachine]) -> None:
        Dashboard(
            self,
            "Dashboard",
            environment=self._settings.name,
            every=Duration.minutes(self._settings.drift_every_minutes),
            pipelines=self._pipelines,
            streams={"ingest": self._state.ingest, "events": self._state.events},
            machines=machines,
            alarms=[
                *self._drift.alarms,
                *(alarm for watch in self._endpoints for alarm in watch.alarms),
            ],
        )


def check_names(environment: str, pipeline: str) -> None:
    """Refuse names that SageMaker could not hold in full beside the id of a run.

    Raises
    ------
    SettingsError
        Environment and pipeline together are too long.

    Examples
    --------
    >>> check_names("dev", "sensor_anomaly")
    >>> check_names("staging", "an_anomaly_of_a_sensor_of_any_kind")
    Traceback (most recent call last):
    ...
    infra.settings.SettingsError: names 'staging' and ...
    """
    length = len(f"{environment}-{pipeline}")
    if length > LONGEST_NAMES:
        raise SettingsError(
            f"names {environment!r} and {pipeline!r} have {length} letters together, "
            f"at most {LONGEST_NAMES} fit into the names of jobs and models: shorten "
            "the pipeline's"
        )


def _title(pipeline: Pipeline) -> str:
    """Return a pipeline's name as CloudFormation allows it in an id."""
    return dashed(pipeline.name).title().replace("-", "")
