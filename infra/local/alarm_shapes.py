"""What CloudWatch says about an alarm: reasons, events, messages and history.

The shapes are those of AWS's user guide ("Alarm events and EventBridge", "Notifying
users on alarm changes"), word for word where a reader might look for words.
"""

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from moto.cloudwatch.models import Alarm

from infra.local.alarm_state import ALARM, INSUFFICIENT
from infra.local.template import ACCOUNT

_PLACES: Final = {"eu-west-1": "EU (Ireland)"}
_WAS: Final = {
    "GreaterThanThreshold": "greater than",
    "GreaterThanOrEqualToThreshold": "greater than or equal to",
    "LessThanThreshold": "less than",
    "LessThanOrEqualToThreshold": "less than or equal to",
}
_TREATED: Final = {"breaching": "Breaching", "notBreaching": "NonBreaching"}


@dataclass(frozen=True, slots=True)
class Point:
    """The data point of one period, if there is one.

    Attributes
    ----------
    start
        When the period begins.
    value
        The statistic, None where nothing was measured.
    samples
        How many values it was made of.
    """

    start: datetime
    value: float | None
    samples: float = 0.0
    is_breaching: bool | None = None


def text(time: datetime) -> str:
    """Return an instant as CloudWatch writes it.

    Examples
    --------
    >>> text(datetime(2030, 1, 1, 12, 0, 0, 5000, UTC))
    '2030-01-01T12:00:00.005+0000'
    """
    return f"{time:%Y-%m-%dT%H:%M:%S}.{time.microsecond // 1000:03d}+0000"


def needed(alarm: Alarm) -> tuple[int, int]:
    """Return N and M: the periods an alarm needs, and how many must breach."""
    periods = int(alarm.evaluation_periods)
    return periods, int(alarm.datapoints_to_alarm or periods)


def treatment(alarm: Alarm) -> str:
    """Return how missing data is treated: AWS/DynamoDB's is always ignored."""
    if alarm.namespace == "AWS/DynamoDB":
        return "ignore"
    return alarm.treat_missing_data or "missing"


def statistic(alarm: Alarm) -> str:
    """Return the statistic or percentile of an alarm."""
    return alarm.statistic or str(alarm.extended_statistic)


def reason(alarm: Alarm, points: Sequence[Point], state: str) -> str:
    """Return why an alarm changes to `state`, in a sentence.

    Parameters
    ----------
    points
        All that were looked at, oldest first.
    """
    periods, datapoints = needed(alarm)
    real = [point for point in points if point.value is not None][-periods:]
    missing = periods - len(real)
    if state == INSUFFICIENT:
        return f"Insufficient Data: {_were(missing, 'datapoint')} unknown."
    filled = ""
    if missing and treatment(alarm) in _TREATED:
        filled = (
            f" and {_were(missing, 'missing datapoint')} treated as "
            f"[{_TREATED[treatment(alarm)]}]"
        )
    if not real:
        return (
            "Threshold Crossed: no datapoints were received for "
            f"{_counted(missing, 'period')}{filled}."
        )
    wanted = state == ALARM
    least = datapoints if wanted else periods - datapoints + 1
    told = [point for point in real if point.is_breaching is wanted]
    if not told:
        return f"Threshold Crossed:{filled.removeprefix(' and')}."
    shown = ", ".join(
        f"{point.value} ({point.start:%d/%m/%y %H:%M:%S})" for point in reversed(told)
    )
    return (
        f"Threshold Crossed: {len(told)} out of the last {len(real)} datapoints "
        f"[{shown}] {'was' if len(told) == 1 else 'were'} {'' if wanted else 'not '}"
        f"{_WAS[alarm.comparison_operator]} the threshold ({alarm.threshold})"
        f"{filled} (minimum {_counted(least, 'datapoint')} for "
        f"{'OK -> ALARM' if wanted else 'ALARM -> OK'} transition)."
    )


def reason_data(alarm: Alarm, points: Sequence[Point], now: datetime) -> str:
    """Return why an alarm changes, as JSON; `points` oldest first."""
    real = [point for point in points if point.value is not None]
    recent = real[-needed(alarm)[0] :]
    told: dict[str, Any] = {"version": "1.0", "queryDate": text(now)}
    if recent:
        told["startDate"] = text(recent[0].start)
    if alarm.unit:
        told["unit"] = alarm.unit
    return json.dumps(
        {
            **told,
            "statistic": statistic(alarm),
            "period": int(alarm.period),
            "recentDatapoints": [point.value for point in recent],
            "threshold": float(alarm.threshold),
            "evaluatedDatapoints": [
                {
                    "timestamp": text(point.start),
                    "sampleCount": point.samples,
                    "value": point.value,
                }
                for point in reversed(recent)
            ],
        }
    )


def state_of_event(alarm: Alarm) -> dict[str, Any]:
    """Return the state an alarm is in, as events tell it."""
    told = {
        "value": alarm.state_value,
        "reason": alarm.state_reason,
        "timestamp": text(alarm.state_updated_timestamp.replace(tzinfo=UTC)),
    }
    if alarm.state_reason_data and alarm.state_reason_data != "{}":
        told["reasonData"] = alarm.state_reason_data
    return told


def event(
    alarm: Alarm, before: Mapping[str, Any], now: datetime, region: str
) -> dict[str, Any]:
    """Return the EventBridge event of a state change."""
    metric = {
        "metric": {
            "namespace": alarm.namespace,
            "name": alarm.metric_name,
            "dimensions": {d.name: d.value for d in alarm.dimensions},
        },
        "period": int(alarm.period),
        "stat": statistic(alarm),
    }
    if alarm.unit:
        metric["unit"] = alarm.unit
    query = str(uuid.uuid5(uuid.NAMESPACE_URL, alarm.alarm_arn))
    configuration: dict[str, Any] = {
        "metrics": [{"id": query, "metricStat": metric, "returnData": True}]
    }
    if alarm.description:
        configuration["description"] = alarm.description
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": "CloudWatch Alarm State Change",
        "source": "aws.cloudwatch",
        "account": ACCOUNT,
        "time": f"{now:%Y-%m-%dT%H:%M:%SZ}",
        "region": region,
        "resources": [alarm.alarm_arn],
        "detail": {
            "alarmName": alarm.name,
            "state": state_of_event(alarm),
            "previousState": dict(before),
            "configuration": configuration,
        },
    }


def subject(alarm: Alarm, region: str) -> str:
    """Return the subject of a message, at most SNS's 100 characters."""
    place = _PLACES.get(region, region)
    return f'{alarm.state_value}: "{alarm.name}" in {place}'[:100]


def message(
    alarm: Alarm, before: Mapping[str, Any], now: datetime, region: str
) -> dict[str, Any]:
    """Return what an SNS topic is told of a state change."""
    periods, datapoints = needed(alarm)
    kind = "Statistic" if alarm.statistic else "ExtendedStatistic"
    updated = alarm.configuration_updated_timestamp.replace(tzinfo=UTC)
    return {
        "AlarmName": alarm.name,
        "AlarmDescription": alarm.description,
        "AWSAccountId": ACCOUNT,
        "AlarmConfigurationUpdatedTimestamp": text(updated),
        "NewStateValue": alarm.state_value,
        "NewStateReason": alarm.state_reason,
        "StateChangeTime": text(now),
        "Region": _PLACES.get(region, region),
        "AlarmArn": alarm.alarm_arn,
        "OldStateValue": before["value"],
        "OKActions": list(alarm.ok_actions),
        "AlarmActions": list(alarm.alarm_actions),
        "InsufficientDataActions": list(alarm.insufficient_data_actions),
        "Trigger": {
            "MetricName": alarm.metric_name,
            "Namespace": alarm.namespace,
            "StatisticType": kind,
            kind: (alarm.statistic or "").upper() or alarm.extended_statistic,
            "Unit": alarm.unit,
            "Dimensions": [
                {"value": d.value, "name": d.name} for d in alarm.dimensions
            ],
            "Period": int(alarm.period),
            "EvaluationPeriods": periods,
            "DatapointsToAlarm": datapoints,
            "ComparisonOperator": alarm.comparison_operator,
            "Threshold": float(alarm.threshold),
            "TreatMissingData": treatment(alarm),
            "EvaluateLowSampleCountPercentile": "",
        },
    }


def history_of_state(alarm: Alarm, before: Mapping[str, Any]) -> tuple[str, str]:
    """Return summary and data of a state change for the alarm's history."""
    old = {"stateValue": before["value"], "stateReason": before["reason"]}
    new = {"stateValue": alarm.state_value, "stateReason": alarm.state_reason}
    data = {
        "version": "1.0",
        "oldState": _with_data(old, before.get("reasonData")),
        "newState": _with_data(new, state_of_event(alarm).get("reasonData")),
    }
    summary = f"Alarm updated from {before['value']} to {alarm.state_value}"
    return summary, json.dumps(data)


def _with_data(state: Mapping[str, Any], data: str | None) -> dict[str, Any]:
    return {**state, "stateReasonData": json.loads(data)} if data else dict(state)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _were(number: int, what: str) -> str:
    return f"{_counted(number, what)} {'was' if number == 1 else 'were'}"
