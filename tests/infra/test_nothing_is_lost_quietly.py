"""Whatever cannot be delivered ends in a known place, and an alarm tells."""

import json
from typing import Any

import pytest

from tests.infra.conftest import ENVIRONMENTS, Assembly, Resource

MAPPING = "AWS::Lambda::EventSourceMapping"


def alarms_on(
    assembly: Assembly, environment: str, metric: str, *dimensions: Any
) -> list[Resource]:
    return [
        alarm
        for alarm in assembly.resources(
            "AWS::CloudWatch::Alarm", environment=environment
        )
        if alarm.properties["MetricName"] == metric
        and [d["Value"] for d in alarm.properties["Dimensions"]] == list(dimensions)
    ]


def test_a_mapping_stops_at_a_failure_halves_the_batch_and_goes_on_trying(
    assembly: Assembly,
) -> None:
    mappings = assembly.resources(MAPPING)

    assert len(mappings) == 3 * len(ENVIRONMENTS)
    for mapping in mappings:
        properties = mapping.properties
        assert properties["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
        assert properties["BisectBatchOnFunctionError"] is True
        assert properties["MaximumRetryAttempts"] == 10_000
        assert properties["StartingPosition"] == "TRIM_HORIZON"


def test_records_of_one_key_are_never_handled_side_by_side(assembly: Assembly) -> None:
    for mapping in assembly.resources(MAPPING):
        assert mapping.properties["ParallelizationFactor"] == 1, mapping


def test_a_mapping_gives_up_an_hour_before_its_stream_forgets(
    assembly: Assembly,
) -> None:
    for environment in ENVIRONMENTS:
        [retention_hours] = {
            stream.properties["RetentionPeriodHours"]
            for stream in assembly.resources(
                "AWS::Kinesis::Stream", environment=environment
            )
        }
        for mapping in assembly.resources(MAPPING, environment=environment):
            oldest_seconds = mapping.properties["MaximumRecordAgeInSeconds"]

            assert oldest_seconds == (retention_hours - 1) * 3_600, mapping
            assert oldest_seconds <= 604_800, mapping


def test_what_a_mapping_gives_up_goes_to_the_quarantine_with_its_bytes(
    assembly: Assembly,
) -> None:
    for mapping in assembly.resources(MAPPING):
        destination = mapping.properties["DestinationConfig"]["OnFailure"]

        assert "QuarantineBucket" in json.dumps(destination), mapping


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_a_mapping_that_lags_gives_up_or_drops_raises_an_alarm(
    assembly: Assembly, environment: str
) -> None:
    for mapping in assembly.resources(MAPPING, environment=environment):
        [age] = alarms_on(
            assembly, environment, "IteratorAge", mapping.properties["FunctionName"]
        )
        assert age.properties["Statistic"] == "Maximum"
        assert age.properties["Threshold"] == 60_000
        assert age.properties["DatapointsToAlarm"] < age.properties["EvaluationPeriods"]
        assert mapping.properties["MetricsConfig"] == {"Metrics": ["EventCount"]}
        for metric in ("DroppedEventCount", "OnFailureDestinationDeliveredEventCount"):
            assert alarms_on(
                assembly, environment, metric, {"Ref": mapping.logical_id}
            ), (mapping, metric)


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_a_mapping_that_does_not_read_raises_an_alarm_hours_before_a_loss(
    assembly: Assembly, environment: str
) -> None:
    for mapping in assembly.resources(MAPPING, environment=environment):
        uuid = {"Ref": mapping.logical_id}
        [silence] = alarms_on(assembly, environment, "PolledEventCount", uuid)
        properties = silence.properties

        assert properties["TreatMissingData"] == "breaching"
        assert properties["ComparisonOperator"] == "LessThanThreshold"
        assert (properties["Statistic"], properties["Threshold"]) == ("Sum", 0)
        assert properties["DatapointsToAlarm"] == properties["EvaluationPeriods"]
        seconds = properties["Period"] * (properties["EvaluationPeriods"] + 2)
        assert mapping.properties["MaximumBatchingWindowInSeconds"] < seconds < 3_600


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_an_error_of_any_function_raises_an_alarm(
    assembly: Assembly, environment: str
) -> None:
    for function in assembly.resources(
        "AWS::Lambda::Function", environment=environment
    ):
        assert alarms_on(
            assembly, environment, "Errors", {"Ref": function.logical_id}
        ), function


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_every_queue_carries_its_alarm(assembly: Assembly, environment: str) -> None:
    for queue in assembly.resources("AWS::SQS::Queue", environment=environment):
        assert alarms_on(
            assembly,
            environment,
            "ApproximateNumberOfMessagesVisible",
            {"Fn::GetAtt": [queue.logical_id, "QueueName"]},
        ), queue


@pytest.mark.parametrize(
    ("name", "metric"),
    [("WriteFeatures", "ConflictingEvents"), ("CompactLog", "ReusedIdentities")],
)
@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_an_identity_with_two_payloads_raises_an_alarm(
    assembly: Assembly, environment: str, name: str, metric: str
) -> None:
    [function] = [
        function
        for function in assembly.resources(
            "AWS::Lambda::Function", environment=environment
        )
        if function.logical_id.startswith(name)
    ]
    variables = function.properties["Environment"]["Variables"]

    [alarm] = alarms_on(
        assembly,
        environment,
        metric,
        variables["POWERTOOLS_SERVICE_NAME"],
    )

    assert alarm.properties["Namespace"] == variables["POWERTOOLS_METRICS_NAMESPACE"]
    assert alarm.properties["Dimensions"][0]["Name"] == "service"


def test_every_alarm_is_published(assembly: Assembly) -> None:
    for alarm in assembly.resources("AWS::CloudWatch::Alarm"):
        [action] = alarm.properties["AlarmActions"]

        assert action["Ref"].startswith("AlarmsTopic"), alarm
        silence = alarm.properties["MetricName"] == "PolledEventCount"
        expected = "breaching" if silence else "notBreaching"
        assert alarm.properties["TreatMissingData"] == expected, alarm


def test_alarms_may_publish_on_the_encrypted_topic(assembly: Assembly) -> None:
    for key in assembly.resources("AWS::KMS::Key"):
        if key.stack != "Compute":
            continue
        services = {
            json.dumps(statement["Principal"])
            for statement in key.properties["KeyPolicy"]["Statement"]
        }
        assert json.dumps({"Service": "cloudwatch.amazonaws.com"}) in services, key


def test_every_dropped_file_is_imported_or_its_name_is_kept(assembly: Assembly) -> None:
    for bucket in assembly.resources("AWS::S3::Bucket"):
        tells = bucket.properties.get("NotificationConfiguration")
        assert (tells is not None) is bucket.logical_id.startswith("Imports"), bucket
        if tells:
            assert tells == {
                "EventBridgeConfiguration": {"EventBridgeEnabled": True}
            }, bucket

    patterns = [
        rule.properties["EventPattern"]
        for rule in assembly.resources("AWS::Events::Rule")
        if "EventPattern" in rule.properties
    ]
    assert len(patterns) == len(ENVIRONMENTS)
    for pattern in patterns:
        assert pattern["source"] == ["aws.s3"]
        assert pattern["detail-type"] == ["Object Created"]
        assert "ImportsBucket" in json.dumps(pattern["detail"]["bucket"]["name"])


def test_what_a_rule_or_its_function_cannot_do_ends_in_one_queue(
    assembly: Assembly,
) -> None:
    for environment in ENVIRONMENTS:
        failed = {
            json.dumps(invocations.properties["FunctionName"]): invocations.properties
            for invocations in assembly.resources(
                "AWS::Lambda::EventInvokeConfig", environment=environment
            )
        }
        rules = assembly.resources("AWS::Events::Rule", environment=environment)

        assert len(rules) == len(failed) == 2
        for rule in rules:
            [target] = rule.properties["Targets"]
            function = {"Ref": target["Arn"]["Fn::GetAtt"][0]}
            invocations = failed[json.dumps(function)]
            lost = invocations["DestinationConfig"]["OnFailure"]["Destination"]

            assert lost == target["DeadLetterConfig"]["Arn"], rule
            assert "Fn::GetAtt" in lost, rule
            assert invocations["MaximumRetryAttempts"] == 2
            assert target["RetryPolicy"]["MaximumRetryAttempts"] == 185


def test_the_log_is_compacted_every_day(assembly: Assembly) -> None:
    for environment in ENVIRONMENTS:
        [schedule] = [
            rule.properties
            for rule in assembly.resources("AWS::Events::Rule", environment=environment)
            if "ScheduleExpression" in rule.properties
        ]
        [target] = schedule["Targets"]

        assert schedule["ScheduleExpression"] == "cron(0 2 * * ? *)"
        assert target["Arn"]["Fn::GetAtt"][0].startswith("CompactLog")


def test_functions_are_traced_and_their_logs_end(assembly: Assembly) -> None:
    for function in assembly.resources("AWS::Lambda::Function"):
        assert function.properties["TracingConfig"] == {"Mode": "Active"}, function
        assert "Ref" in function.properties["LoggingConfig"]["LogGroup"], function
    for logs in assembly.resources("AWS::Logs::LogGroup"):
        assert logs.properties["RetentionInDays"] >= 1, logs
        assert "KmsKeyId" in logs.properties, logs
