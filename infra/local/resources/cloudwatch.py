"""CloudWatch alarms and dashboards."""

import json
from typing import Any

from infra.local.alarms import refusal
from infra.local.resources.registry import APPLIED, TAGS, Site, creates
from infra.local.template import Created

_NAME_LIMIT = 255


@creates(
    "AWS::CloudWatch::Alarm",
    {
        "ActionsEnabled": APPLIED,
        "AlarmActions": APPLIED,
        "AlarmDescription": APPLIED,
        "AlarmName": APPLIED,
        "ComparisonOperator": APPLIED,
        "DatapointsToAlarm": APPLIED,
        "Dimensions": APPLIED,
        "EvaluationPeriods": APPLIED,
        "ExtendedStatistic": APPLIED,
        "InsufficientDataActions": APPLIED,
        "MetricName": APPLIED,
        "Namespace": APPLIED,
        "OKActions": APPLIED,
        "Period": APPLIED,
        "Statistic": APPLIED,
        "Tags": TAGS,
        "Threshold": APPLIED,
        "TreatMissingData": APPLIED,
        "Unit": APPLIED,
    },
)
def alarm(site: Site, properties: dict[str, Any]) -> Created:
    """Create an alarm on one metric."""
    refused = refusal(properties)
    if refused is not None:
        raise site.refuse("AWS::CloudWatch::Alarm", refused)
    name = properties.get("AlarmName") or site.name(limit=_NAME_LIMIT)
    request = {
        key: value
        for key, value in properties.items()
        if key not in {"AlarmName", "Tags"}
    }
    site.client("cloudwatch").put_metric_alarm(AlarmName=name, **request)
    return Created(name, {"Arn": site.arn("cloudwatch", f"alarm:{name}")})


@creates(
    "AWS::CloudWatch::Dashboard", {"DashboardBody": APPLIED, "DashboardName": APPLIED}
)
def dashboard(site: Site, properties: dict[str, Any]) -> Created:
    """Create a dashboard; its body must be a JSON object with widgets."""
    name = properties.get("DashboardName") or site.name(limit=_NAME_LIMIT)
    try:
        has_widgets = "widgets" in json.loads(properties["DashboardBody"])
    except ValueError:
        has_widgets = False
    if not has_widgets:
        raise site.refuse("AWS::CloudWatch::Dashboard", "a body that is no dashboard")
    site.client("cloudwatch").put_dashboard(
        DashboardName=name, DashboardBody=properties["DashboardBody"]
    )
    return Created(name)
