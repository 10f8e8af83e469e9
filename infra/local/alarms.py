"""Alarms that ring: evaluated at every period boundary at which they could change.

moto keeps alarms and never looks at them. Here an alarm is looked at when a period ends
in which its metric got a value, when a value arrives late, and from then on at each
period's end until nothing it looks at could change any more: an idle month costs
nothing. A change of state is kept in the alarm's history, sent to the default event
bus in AWS's shape, and published on the alarm's SNS topics.

Of an alarm's range AWS documents no length; here it is two periods more than the alarm
needs. Refused by name: metric math, percentiles, anomaly bands and other actions than
SNS topics.
"""

import json
import math
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from moto.cloudwatch.models import Alarm, CloudWatchBackend, cloudwatch_backends

from infra.local.alarm_state import ALARM, INSUFFICIENT, OK, state_of
from infra.local.clock import Clock
from infra.local.errors import UnsupportedByTwinError
from infra.local.mending import mend, original
from infra.local.metrics import Metrics, Name, Value
from infra.local.template import ACCOUNT

_KIND: Final = "AWS::CloudWatch::Alarm"
_MORE_PERIODS: Final = 2
_STATISTICS: Final[Mapping[str, Callable[[Sequence[Value]], float]]] = {
    "Sum": lambda values: math.fsum(v.total for v in values),
    "SampleCount": lambda values: math.fsum(v.count for v in values),
    "Average": lambda values: (
        math.fsum(v.total for v in values) / math.fsum(v.count for v in values)
    ),
    "Minimum": lambda values: min(v.least for v in values),
    "Maximum": lambda values: max(v.greatest for v in values),
}
_COMPARE: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "GreaterThanThreshold": lambda value, threshold: value > threshold,
    "GreaterThanOrEqualToThreshold": lambda value, threshold: value >= threshold,
    "LessThanThreshold": lambda value, threshold: value < threshold,
    "LessThanOrEqualToThreshold": lambda value, threshold: value <= threshold,
}


class Alarms:
    """The alarms of the twin, on its time.

    Parameters
    ----------
    clock
        When periods end.
    metrics
        What is looked at.
    region
        Region of the alarms.
    client
        Returns the boto3 client of a service.
    send
        Sends an event to the default bus.
    """

    def __init__(
        self,
        clock: Clock,
        metrics: Metrics,
        region: str,
        client: Callable[[str], Any],
        send: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self._clock = clock
        self._metrics = metrics
        self._region = region
        self._client = client
        self._send = send
        self._lock = threading.RLock()
        self._by_metric: dict[Name, set[str]] = {}
        self._due: set[tuple[str, datetime]] = set()

    def start(self) -> None:
        """Watch the alarms that are put from now on."""
        put = original(CloudWatchBackend, "put_metric_alarm")
        update = original(Alarm, "update_state")

        def put_metric_alarm(backend: CloudWatchBackend, **request: Any) -> Alarm:
            _check(request)
            is_new = request["name"] not in backend.alarms
            alarm: Alarm = put(backend, **request)
            if is_new:
                alarm.state_value = INSUFFICIENT
            self._watch(alarm)
            return alarm

        def update_state(
            alarm: Alarm, reason: str, reason_data: str, state_value: str
        ) -> None:
            before = _shown(alarm)
            changed = alarm.state_value != state_value
            update(alarm, reason, reason_data, state_value)
            if changed:
                self._tell(alarm, before)

        mend(CloudWatchBackend, "put_metric_alarm", put_metric_alarm)
        mend(Alarm, "update_state", update_state)
        self._metrics.listen(self._arrived)

    def states(self) -> dict[str, str]:
        """Return the state of every alarm by name."""
        return {name: alarm.state_value for name, alarm in self._alarms().items()}

    def _alarms(self) -> dict[str, Alarm]:
        return dict(cloudwatch_backends[ACCOUNT][self._region].alarms)

    def _watch(self, alarm: Alarm) -> None:
        with self._lock:
            self._by_metric.setdefault(_name(alarm), set()).add(alarm.name)
        self._look_at(alarm, self._clock.now())

    def _arrived(self, name: Name, time: datetime) -> None:
        """Look at the alarms of a metric once the period of a value has ended."""
        with self._lock:
            names = list(self._by_metric.get(name, ()))
        alarms = self._alarms()
        for alarm_name in names:
            if alarm_name in alarms:
                self._look_at(alarms[alarm_name], time)

    def _look_at(self, alarm: Alarm, time: datetime) -> None:
        """Evaluate at the end of the period of `time`, or now if that is over."""
        end = _floor(time, alarm.period) + timedelta(seconds=alarm.period)
        due = max(end, self._clock.now())
        with self._lock:
            if (alarm.name, due) in self._due:
                return
            self._due.add((alarm.name, due))

        def settled() -> None:
            # Whatever else is due at this instant comes first.
            self._clock.call_at(self._clock.now(), evaluate, is_periodic=True)

        def evaluate() -> None:
            with self._lock:
                self._due.discard((alarm.name, due))
            current = self._alarms().get(alarm.name)
            if current is not None:
                self._evaluate(current, due)

        self._clock.call_at(due, settled, is_periodic=True)

    def _evaluate(self, alarm: Alarm, now: datetime) -> None:
        periods = _periods(alarm)
        length = timedelta(seconds=alarm.period)
        end = _floor(now, alarm.period)
        points: list[tuple[datetime, Value | None, float | None]] = []
        for place in range(periods + _MORE_PERIODS, 0, -1):
            start = end - place * length
            values = self._metrics.between(_name(alarm), start, start + length)
            value = _STATISTICS[alarm.statistic](values) if values else None
            points.append((start, values[-1] if values else None, value))
        compare = _COMPARE[alarm.comparison_operator]
        state = state_of(
            [None if v is None else compare(v, alarm.threshold) for _, _, v in points],
            evaluation_periods=periods,
            datapoints_to_alarm=alarm.datapoints_to_alarm or periods,
            treat_missing=_treatment(alarm),
        )
        if state is not None and state != alarm.state_value:
            recent = [(start, v) for start, _, v in points if v is not None]
            alarm.update_state(
                _reason(alarm, recent, state),
                json.dumps(_reason_data(alarm, recent, now)),
                state,
            )
        if any(value is not None for _, value, _ in points):
            self._look_at(alarm, now)

    def _tell(self, alarm: Alarm, before: Mapping[str, Any]) -> None:
        now = self._clock.now()
        self._send(_event(alarm, before, now, self._region))
        actions = {
            ALARM: alarm.alarm_actions,
            OK: alarm.ok_actions,
            INSUFFICIENT: alarm.insufficient_data_actions,
        }[alarm.state_value]
        if not alarm.actions_enabled:
            return
        for topic in actions or ():
            self._client("sns").publish(
                TopicArn=topic,
                Subject=f'{alarm.state_value}: "{alarm.name}" in {self._region}'[:100],
                Message=json.dumps(_message(alarm, before, now, self._region)),
            )


def _check(request: Mapping[str, Any]) -> None:
    """Refuse an alarm that would be kept and never evaluated."""
    place = str(request.get("name"))
    if request.get("metric_data_queries") or not request.get("metric_name"):
        raise UnsupportedByTwinError(place, _KIND, "metric math")
    if request.get("extended_statistic"):
        raise UnsupportedByTwinError(place, _KIND, "a percentile")
    if request.get("comparison_operator") not in _COMPARE:
        operator = request.get("comparison_operator")
        raise UnsupportedByTwinError(place, _KIND, f"the comparison {operator}")
    for action in request.get("alarm_actions") or ():
        if action.split(":")[2] != "sns":
            raise UnsupportedByTwinError(place, _KIND, f"the action {action}")


def _name(alarm: Alarm) -> Name:
    dimensions = frozenset((str(d.name), str(d.value)) for d in alarm.dimensions)
    return alarm.namespace, alarm.metric_name, dimensions


def _periods(alarm: Alarm) -> int:
    return int(alarm.evaluation_periods)


def _treatment(alarm: Alarm) -> str:
    """Return how missing data is treated: AWS/DynamoDB's is always ignored."""
    if alarm.namespace == "AWS/DynamoDB":
        return "ignore"
    return alarm.treat_missing_data or "missing"


def _floor(time: datetime, period: int) -> datetime:
    seconds = int(time.timestamp()) // period * period
    return datetime.fromtimestamp(seconds, UTC)


def _text(time: datetime) -> str:
    return f"{time:%Y-%m-%dT%H:%M:%S}.{time.microsecond // 1000:03d}+0000"


def _shown(alarm: Alarm) -> dict[str, Any]:
    updated = alarm.state_updated_timestamp.replace(tzinfo=UTC)
    return {
        "value": alarm.state_value,
        "reason": alarm.state_reason,
        "reasonData": alarm.state_reason_data,
        "timestamp": _text(updated),
    }


def _reason(alarm: Alarm, recent: Sequence[tuple[datetime, float]], state: str) -> str:
    told = ", ".join(f"{value} ({start:%d/%m/%y %H:%M:%S})" for start, value in recent)
    if state == INSUFFICIENT:
        return "Insufficient Data: no data points were received"
    return (
        f"Threshold Crossed: {len(recent)} datapoints [{told}] against the threshold "
        f"({alarm.threshold})"
    )


def _reason_data(
    alarm: Alarm, recent: Sequence[tuple[datetime, float]], now: datetime
) -> dict[str, Any]:
    return {
        "version": "1.0",
        "queryDate": _text(now),
        "startDate": _text(recent[0][0]) if recent else None,
        "statistic": alarm.statistic,
        "period": alarm.period,
        "recentDatapoints": [value for _, value in recent],
        "threshold": alarm.threshold,
        "evaluatedDatapoints": [
            {"timestamp": _text(start), "value": value} for start, value in recent
        ],
    }


def _event(
    alarm: Alarm, before: Mapping[str, Any], now: datetime, region: str
) -> dict[str, Any]:
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
            "state": _shown(alarm),
            "previousState": dict(before),
            "configuration": {
                "description": alarm.description,
                "metrics": [
                    {
                        "id": "m1",
                        "metricStat": {
                            "metric": {
                                "namespace": alarm.namespace,
                                "name": alarm.metric_name,
                                "dimensions": {
                                    d.name: d.value for d in alarm.dimensions
                                },
                            },
                            "period": alarm.period,
                            "stat": alarm.statistic,
                        },
                        "returnData": True,
                    }
                ],
            },
        },
    }


def _message(
    alarm: Alarm, before: Mapping[str, Any], now: datetime, region: str
) -> dict[str, Any]:
    """Return what an SNS topic is told, in AWS's shape."""
    return {
        "AlarmName": alarm.name,
        "AlarmDescription": alarm.description,
        "AWSAccountId": ACCOUNT,
        "NewStateValue": alarm.state_value,
        "NewStateReason": alarm.state_reason,
        "StateChangeTime": _text(now),
        "Region": region,
        "AlarmArn": alarm.alarm_arn,
        "OldStateValue": before["value"],
        "Trigger": {
            "MetricName": alarm.metric_name,
            "Namespace": alarm.namespace,
            "Statistic": alarm.statistic,
            "Dimensions": [
                {"name": d.name, "value": d.value} for d in alarm.dimensions
            ],
            "Period": alarm.period,
            "EvaluationPeriods": _periods(alarm),
            "ComparisonOperator": alarm.comparison_operator,
            "Threshold": alarm.threshold,
            "TreatMissingData": _treatment(alarm),
        },
    }
