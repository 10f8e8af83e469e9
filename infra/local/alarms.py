"""Alarms that ring: evaluated at every period's end at which they could change.

moto keeps alarms and never looks at them. Here an alarm is looked at when the period of
a value ends, or at the next minute if that is over; and from there on at the next
period's end at which it would change if nothing more came. So an idle month costs
nothing, and what is late counts as long as its period is in range. At one instant
alarms come last: what was due there, and the values it put, is done by then.

A change of state goes into the alarm's history, to the default event bus, and to the
alarm's SNS topics, in AWS's shapes.

How this differs from AWS:

- Periods are aligned to the clock, like a wall clock window. AWS's default window
  slides on every minute, so an alarm on long periods may ring up to a period earlier.
- Of the range that an alarm looks at AWS documents no length; here it is two periods
  more than the alarm needs, as in the examples of its user guide.
- Refused by name: metric math and composite alarms, anomaly bands, contributor
  insights, and other actions than SNS topics.
"""

import json
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from botocore.exceptions import ClientError
from moto.cloudwatch.exceptions import InvalidParameterValue, ValidationError
from moto.cloudwatch.models import Alarm, CloudWatchBackend, cloudwatch_backends
from moto.cloudwatch.responses import CloudWatchResponse

from infra.local import alarm_shapes as shapes
from infra.local.alarm_shapes import Point
from infra.local.alarm_state import ALARM, INSUFFICIENT, OK, state_of
from infra.local.clock import ALARMS, Clock
from infra.local.mending import mend, original
from infra.local.metrics import Metrics, Name, percent_of, statistic_of
from infra.local.metrics_api import (
    STATISTICS,
    answer_with,
    floor,
    instant_of,
    periods,
)
from infra.local.template import ACCOUNT

_MORE_PERIODS: Final = 2
_MINUTE: Final = 60
_SHORT_PERIODS: Final = (10, 20, 30)
_MOST_HISTORY: Final = 10_000
_PAGE: Final = 100
_COMPARE: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "GreaterThanThreshold": lambda value, threshold: value > threshold,
    "GreaterThanOrEqualToThreshold": lambda value, threshold: value >= threshold,
    "LessThanThreshold": lambda value, threshold: value < threshold,
    "LessThanOrEqualToThreshold": lambda value, threshold: value <= threshold,
}


def refusal(  # noqa: PLR0911 - one answer a rule
    request: Mapping[str, Any],
) -> str | None:
    """Return what of a `PutMetricAlarm` the twin would keep and never evaluate.

    Examples
    --------
    >>> refusal({"Metrics": [{"Id": "m1", "Expression": "m2 / m3"}]})
    'metric math'
    """
    if request.get("AlarmRule"):
        return "a composite alarm"
    if request.get("Metrics") or not request.get("MetricName"):
        return "metric math"
    if request.get("EvaluateLowSampleCountPercentile"):
        return "EvaluateLowSampleCountPercentile"
    if request.get("ComparisonOperator") not in _COMPARE:
        return f"the comparison {request.get('ComparisonOperator')}"
    wanted = request.get("Statistic") or request.get("ExtendedStatistic") or ""
    if wanted not in STATISTICS:
        try:
            percent_of(wanted)
        except ValueError:
            return f"the statistic {wanted!r}"
    for key in ("AlarmActions", "OKActions", "InsufficientDataActions"):
        for action in request.get(key) or ():
            if action.split(":")[2:3] != ["sns"]:
                return f"the action {action}"
    return None


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
        self._lock = threading.Lock()
        self._by_metric: dict[Name, set[str]] = {}
        self._due: dict[datetime, set[str]] = {}
        self._history: deque[dict[str, Any]] = deque(maxlen=_MOST_HISTORY)
        self.evaluations = 0

    def start(self) -> None:
        """Watch the alarms that are put from now on."""
        put = original(CloudWatchBackend, "put_metric_alarm")
        delete = original(CloudWatchBackend, "delete_alarms")
        update = original(Alarm, "update_state")
        put_response = original(CloudWatchResponse, "put_metric_alarm")

        def respond(response: CloudWatchResponse) -> Any:
            _check(response._get_params())  # noqa: SLF001 - moto's way to them
            return put_response(response)

        def put_metric_alarm(backend: CloudWatchBackend, **request: Any) -> Alarm:
            old = backend.alarms.get(request["name"])
            alarm: Alarm = put(backend, **request)
            self._configured(alarm, old)
            return alarm

        def delete_alarms(backend: CloudWatchBackend, alarm_names: list[str]) -> None:
            gone = [backend.alarms[n] for n in alarm_names if n in backend.alarms]
            delete(backend, alarm_names)
            for alarm in gone:
                with self._lock:
                    self._by_metric.get(_name(alarm), set()).discard(alarm.name)
                self._remember(
                    alarm, "ConfigurationUpdate", f'Alarm "{alarm.name}" deleted', "{}"
                )

        def update_state(
            alarm: Alarm, reason: str, reason_data: str, state_value: str
        ) -> None:
            before = shapes.state_of_event(alarm)
            changed = alarm.state_value != state_value
            update(alarm, reason, reason_data, state_value)
            # Whoever set it by hand: at the next minute it is what the metric says.
            self._plan(alarm.name, self._next_tick(alarm, is_after=True))
            if changed:
                self._tell(alarm, before)

        mend(CloudWatchResponse, "put_metric_alarm", respond)
        mend(CloudWatchBackend, "put_metric_alarm", put_metric_alarm)
        mend(CloudWatchBackend, "delete_alarms", delete_alarms)
        mend(Alarm, "update_state", update_state)
        for answer in (
            self.describe_alarms,
            self.describe_alarm_history,
            self.put_composite_alarm,
        ):
            answer_with(CloudWatchResponse, answer)
        self._metrics.listen(self._arrived)

    def states(self) -> dict[str, str]:
        """Return the state of every alarm by name."""
        return {name: alarm.state_value for name, alarm in self._alarms().items()}

    def describe_alarms(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Answer with the alarms that every given condition holds for."""
        names = params.get("AlarmNames") or []
        prefix = params.get("AlarmNamePrefix") or ""
        action = params.get("ActionPrefix") or ""
        state = params.get("StateValue")
        kinds = params.get("AlarmTypes") or ["MetricAlarm"]
        found = [
            alarm
            for name, alarm in sorted(self._alarms().items())
            if "MetricAlarm" in kinds
            and (not names or name in names)
            and name.startswith(prefix)
            and state in {None, alarm.state_value}
            and (
                not action
                or any(arn.startswith(action) for arn in (alarm.alarm_actions or ()))
            )
        ]
        size = int(params.get("MaxRecords") or _PAGE)
        shown, token = _page(found, params.get("NextToken"), size)
        return {"MetricAlarms": shown, "CompositeAlarms": [], **token}

    def describe_alarm_history(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Answer with what happened to an alarm, or to all, newest first."""
        start, end = (
            instant_of(params.get("StartDate")),
            instant_of(params.get("EndDate")),
        )
        with self._lock:
            items = list(self._history)
        found = [
            item
            for item in items
            if params.get("AlarmName") in {None, item["AlarmName"]}
            and params.get("HistoryItemType") in {None, item["HistoryItemType"]}
            and (start is None or item["Timestamp"] >= start)
            and (end is None or item["Timestamp"] <= end)
        ]
        if params.get("ScanBy") != "TimestampAscending":
            found.reverse()
        size = int(params.get("MaxRecords") or _PAGE)
        shown, token = _page(found, params.get("NextToken"), size)
        return {"AlarmHistoryItems": shown, **token}

    def put_composite_alarm(self, params: Mapping[str, Any]) -> None:
        """Refuse."""
        _check(params)

    def _alarms(self) -> dict[str, Alarm]:
        return dict(cloudwatch_backends[ACCOUNT][self._region].alarms)

    def _configured(self, alarm: Alarm, old: Alarm | None) -> None:
        """Take an alarm that is new or changed; a change leaves its state alone."""
        with self._lock:
            if old is not None:
                self._by_metric.get(_name(old), set()).discard(old.name)
            self._by_metric.setdefault(_name(alarm), set()).add(alarm.name)
        if old is None:
            alarm.state_value = INSUFFICIENT
        else:
            alarm.history = old.history
            alarm.state_value = old.state_value
            alarm.state_reason = old.state_reason
            alarm.state_reason_data = old.state_reason_data
            alarm.state_updated_timestamp = old.state_updated_timestamp
        done = "created" if old is None else "updated"
        summary = f'Alarm "{alarm.name}" {done}'
        self._remember(alarm, "ConfigurationUpdate", summary, "{}")
        end = floor(self._clock.now(), alarm.period) + _length(alarm)
        self._plan(alarm.name, end)

    def _arrived(self, name: Name, time: datetime) -> None:
        """Look at the alarms of a metric once the period of a value has ended."""
        with self._lock:
            names = list(self._by_metric.get(name, ()))
        if not names:
            return
        alarms = self._alarms()
        for alarm in (alarms[found] for found in names if found in alarms):
            end = floor(time, alarm.period) + _length(alarm)
            due = max(end, self._next_tick(alarm))
            if due < end + _range(alarm) * _length(alarm):
                self._plan(alarm.name, due)

    def _next_tick(self, alarm: Alarm, *, is_after: bool = False) -> datetime:
        """Return the next instant at which alarms are looked at."""
        now, seconds = self._clock.now(), min(_MINUTE, int(alarm.period))
        tick = floor(now, seconds)
        if tick == now and not is_after:
            return now
        return tick + timedelta(seconds=seconds)

    def _plan(self, name: str, due: datetime) -> None:
        with self._lock:
            names = self._due.get(due)
            if names is not None:
                names.add(name)
                return
            self._due[due] = {name}
        self._clock.call_at(due, lambda: self._look(due), is_periodic=True, turn=ALARMS)

    def _look(self, due: datetime) -> None:
        with self._lock:
            names = self._due.pop(due)
        alarms = self._alarms()
        for name in sorted(names & alarms.keys()):
            self._evaluate(alarms[name], due)

    def _evaluate(self, alarm: Alarm, due: datetime) -> None:
        self.evaluations += 1
        points = self._points(alarm, due)
        breaches = [point.is_breaching for point in points]
        state = _next_state(alarm, breaches)
        if state is not None and state != alarm.state_value:
            reason = shapes.reason(alarm, points, state)
            alarm.update_state(reason, shapes.reason_data(alarm, points, due), state)
        self._plan_change(alarm, breaches, floor(due, alarm.period))

    def _points(self, alarm: Alarm, due: datetime) -> list[Point]:
        length, count = _length(alarm), _range(alarm)
        end = floor(due, alarm.period)
        start = end - count * length
        values = self._metrics.between(_name(alarm), start, end)
        if alarm.unit:
            values = [value for value in values if value.unit == alarm.unit]
        known = dict(periods(values, start, length))
        compare, statistic = (
            _COMPARE[alarm.comparison_operator],
            shapes.statistic(alarm),
        )
        points = []
        for begin in (start + place * length for place in range(count)):
            same = known.get(begin)
            value = statistic_of(same, statistic) if same else None
            if same is None or value is None:
                points.append(Point(begin, None))
                continue
            samples = sum(one.count for one in same)
            breaches = compare(value, alarm.threshold)
            points.append(Point(begin, value, samples, breaches))
        return points

    def _plan_change(
        self, alarm: Alarm, breaches: Sequence[bool | None], end: datetime
    ) -> None:
        """Look again when the alarm would change, if nothing more came."""
        level = self._metrics.level(_name(alarm))
        following: bool | None = None
        if level is not None:
            following = _COMPARE[alarm.comparison_operator](level, alarm.threshold)
        if following is breaches[-1] and len(set(breaches)) == 1:
            return
        for place in range(1, len(breaches) + 1):
            coming = [*breaches[place:], *[following] * place]
            if _next_state(alarm, coming) not in {None, alarm.state_value}:
                self._plan(alarm.name, end + place * _length(alarm))
                return

    def _tell(self, alarm: Alarm, before: Mapping[str, Any]) -> None:
        now = self._clock.now()
        vars(alarm)["state_transitioned_timestamp"] = now  # moto shows it then
        summary, data = shapes.history_of_state(alarm, before)
        self._remember(alarm, "StateUpdate", summary, data)
        self._send(shapes.event(alarm, before, now, self._region))
        actions = {
            ALARM: alarm.alarm_actions,
            OK: alarm.ok_actions,
            INSUFFICIENT: alarm.insufficient_data_actions,
        }[alarm.state_value]
        if not alarm.actions_enabled:
            return
        for topic in actions or ():
            try:
                self._client("sns").publish(
                    TopicArn=topic,
                    Subject=shapes.subject(alarm, self._region),
                    Message=json.dumps(
                        shapes.message(alarm, before, now, self._region)
                    ),
                )
            except ClientError as error:
                done = f"Failed to execute action {topic}. Received error: {error}"
            else:
                done = f"Successfully executed action {topic}"
            self._remember(alarm, "Action", done, "{}")

    def _remember(self, alarm: Alarm, kind: str, summary: str, data: str) -> None:
        with self._lock:
            self._history.append(
                {
                    "AlarmName": alarm.name,
                    "AlarmType": "MetricAlarm",
                    "Timestamp": self._clock.now(),
                    "HistoryItemType": kind,
                    "HistorySummary": summary,
                    "HistoryData": data,
                }
            )


def _check(request: Mapping[str, Any]) -> None:
    """Refuse an alarm that would be kept and never evaluated, or is none in AWS."""
    refused = refusal(request)
    if refused is not None:
        raise ValidationError(
            f"{request.get('AlarmName')}: the local twin does not evaluate {refused}"
        )
    period = int(request.get("Period") or 0)
    if period not in _SHORT_PERIODS and (period < 1 or period % _MINUTE):
        raise InvalidParameterValue(
            f"Period {period} is none of 10, 20, 30 and the multiples of 60 s"
        )
    count = int(request.get("EvaluationPeriods") or 0)
    if not 1 <= int(request.get("DatapointsToAlarm") or count) <= count:
        raise ValidationError("DatapointsToAlarm must be 1 to EvaluationPeriods")


def _next_state(alarm: Alarm, breaches: Sequence[bool | None]) -> str | None:
    count, datapoints = shapes.needed(alarm)
    return state_of(
        breaches,
        evaluation_periods=count,
        datapoints_to_alarm=datapoints,
        treat_missing=shapes.treatment(alarm),
    )


def _name(alarm: Alarm) -> Name:
    dimensions = frozenset((str(d.name), str(d.value)) for d in alarm.dimensions)
    return alarm.namespace, alarm.metric_name, dimensions


def _length(alarm: Alarm) -> timedelta:
    return timedelta(seconds=int(alarm.period))


def _range(alarm: Alarm) -> int:
    return shapes.needed(alarm)[0] + _MORE_PERIODS


def _page(
    items: list[Any], token: str | None, size: int
) -> tuple[list[Any], dict[str, str]]:
    begin = int(token or 0)
    end = begin + size
    return items[begin:end], {"NextToken": str(end)} if end < len(items) else {}
