"""CloudWatch's calls about metrics, answered from `Metrics`: a moto gap.

moto searches everything at every question, compares dimensions wrongly where there is
more than one, begins periods at the first value instead of at ``StartTime``, and knows
no percentiles. Metric math and Metrics Insights are refused by name, for moto answers
nothing to them and calls it complete.
"""

import math
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from moto.cloudwatch.exceptions import (
    InvalidParameterCombination,
    InvalidParameterValue,
    ValidationError,
)
from moto.cloudwatch.responses import CloudWatchResponse
from moto.core.responses import ActionResult, EmptyResult

from infra.local.metrics import (
    NEWEST,
    OLDEST,
    Metrics,
    Name,
    Value,
    percent_of,
    statistic_of,
)

_SET: Final = {"SampleCount", "Sum", "Minimum", "Maximum"}
STATISTICS: Final = ("SampleCount", "Average", "Sum", "Minimum", "Maximum")
_MOST_POINTS: Final = 1_440  # of one GetMetricStatistics
_PAGE: Final = 500  # metrics that ListMetrics shows at once
_RECENT: Final = timedelta(hours=3)


def serve(metrics: Metrics, now: Callable[[], datetime]) -> None:
    """Answer the calls of moto's CloudWatch about metrics from `metrics`."""
    answers = _Answers(metrics, now)
    for answer in (
        answers.put_metric_data,
        answers.get_metric_statistics,
        answers.get_metric_data,
        answers.list_metrics,
    ):
        answer_with(CloudWatchResponse, answer)


def answer_with(
    owner: type[CloudWatchResponse],
    answer: Callable[[Mapping[str, Any]], dict[str, Any] | None],
) -> None:
    """Let `answer` return what the call of its name is told, from its parameters."""

    def respond(response: CloudWatchResponse) -> ActionResult:
        told = answer(response._get_params())  # noqa: SLF001 - moto's way to them
        return EmptyResult() if told is None else ActionResult(told)

    setattr(owner, answer.__name__, respond)


class _Answers:
    """What each call is told."""

    def __init__(self, metrics: Metrics, now: Callable[[], datetime]) -> None:
        self._metrics = metrics
        self._now = now
        self._pages: dict[str, list[Name]] = {}

    def put_metric_data(self, params: Mapping[str, Any]) -> None:
        now = self._now()
        data = params.get("MetricData") or []
        for place, datum in enumerate(data, 1):
            _check(datum, place, now)
        for datum in data:
            time = instant_of(datum.get("Timestamp")) or now
            self._metrics.add(_name(params["Namespace"], datum), _value(datum, time))

    def get_metric_statistics(self, params: Mapping[str, Any]) -> dict[str, Any]:
        plain = params.get("Statistics") or []
        extended = params.get("ExtendedStatistics") or []
        if not plain and not extended:
            raise InvalidParameterCombination(
                "Must specify either Statistics or ExtendedStatistics"
            )
        for statistic in (*plain, *extended):
            _check_statistic(statistic)
        period, start, end = _span(params, int(params["Period"]), self._now())
        wanted = math.ceil((end - start) / period)
        if wanted > _MOST_POINTS:
            raise InvalidParameterCombination(
                f"You have requested up to {wanted:,} datapoints, which exceeds the "
                f"limit of {_MOST_POINTS:,}. You may reduce the datapoints requested "
                "by increasing Period, or decreasing the time range."
            )
        values = self._metrics.between(_name(params["Namespace"], params), start, end)
        points = [
            _datapoint(begin, same, unit, plain, extended)
            for unit in sorted({value.unit for value in values})
            if unit == params.get("Unit", unit)
            for begin, same in periods(_in(values, unit), start, period)
        ]
        return {"Label": params["MetricName"], "Datapoints": points}

    def get_metric_data(self, params: Mapping[str, Any]) -> dict[str, Any]:
        queries = params.get("MetricDataQueries") or []
        results = [
            _series(self._metrics, query, params, self._now())
            for query in queries
            if _is_returned(query)
        ]
        return {"MetricDataResults": results, "Messages": []}

    def list_metrics(self, params: Mapping[str, Any]) -> dict[str, Any]:
        token = params.get("NextToken")
        if not token:
            since = self._now() - _RECENT if params.get("RecentlyActive") else None
            found = _listed(self._metrics, params, since)
        elif token in self._pages:
            found = self._pages.pop(token)
        else:
            raise InvalidParameterValue("Request parameter NextToken is invalid")
        answer: dict[str, Any] = {"Metrics": [_shown(name) for name in found[:_PAGE]]}
        if len(found) > _PAGE:
            answer["NextToken"] = str(uuid.uuid4())
            self._pages[answer["NextToken"]] = found[_PAGE:]
        return answer


def periods(
    values: Iterable[Value], start: datetime, period: timedelta
) -> list[tuple[datetime, list[Value]]]:
    """Return the values of each period that has any, with the period's begin."""
    found: dict[int, list[Value]] = {}
    for value in values:
        found.setdefault((value.time - start) // period, []).append(value)
    return [(start + place * period, found[place]) for place in sorted(found)]


def _in(values: Iterable[Value], unit: str) -> list[Value]:
    return [value for value in values if value.unit == unit]


def instant_of(given: Any) -> datetime | None:
    """Return the instant of a parameter, None if there is none.

    Examples
    --------
    >>> instant_of("2030-01-01T00:00:00Z") == instant_of(1893456000)
    True
    """
    if given is None or given == "":
        return None
    if isinstance(given, int | float):
        return datetime.fromtimestamp(given, UTC)
    moment = (
        given if isinstance(given, datetime) else datetime.fromisoformat(str(given))
    )
    return (
        moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    )


def _check(datum: Mapping[str, Any], place: int, now: datetime) -> None:
    """Refuse what CloudWatch refuses."""
    where = f"MetricData.member.{place}"
    given = [key for key in ("Value", "Values", "StatisticValues") if key in datum]
    if len(given) != 1:
        raise InvalidParameterCombination(
            f"The parameter {where} must have exactly one of Value, Values and "
            f"StatisticValues, but has {given}."
        )
    statistics = datum.get("StatisticValues") or {}
    if statistics and set(statistics) != _SET:
        raise InvalidParameterValue(
            f"The parameter {where}.StatisticValues must have {sorted(_SET)}."
        )
    counts, values = datum.get("Counts"), datum.get("Values") or []
    if counts and len(counts) != len(values):
        raise InvalidParameterValue(
            f"The parameters {where}.Values and {where}.Counts must be of the same "
            "size."
        )
    numbers = [datum.get("Value", 0), *values, *(counts or []), *statistics.values()]
    if not all(math.isfinite(float(number)) for number in numbers):
        raise InvalidParameterValue(f"The parameter {where} has a value NaN or Inf.")
    time = instant_of(datum.get("Timestamp")) or now
    if not now - OLDEST <= time <= now + NEWEST:
        raise InvalidParameterValue(
            f"The parameter MetricData.member.{place}.Timestamp must specify a time "
            "no more than two weeks in the past and no more than two hours in the "
            "future."
        )


def _name(namespace: str, given: Mapping[str, Any]) -> Name:
    dimensions = given.get("Dimensions") or ()
    return (
        namespace,
        given["MetricName"],
        frozenset((d["Name"], d["Value"]) for d in dimensions),
    )


def _value(datum: Mapping[str, Any], time: datetime) -> Value:
    unit = datum.get("Unit") or "None"
    statistics = datum.get("StatisticValues")
    if statistics:
        return Value(
            time,
            float(statistics["Sum"]),
            float(statistics["SampleCount"]),
            float(statistics["Minimum"]),
            float(statistics["Maximum"]),
            unit,
        )
    values = [float(value) for value in datum.get("Values") or ()]
    counts = [float(count) for count in datum.get("Counts") or [1.0] * len(values)]
    if not values:
        values, counts = [float(datum.get("Value", 0))], [1.0]
    return Value.of(time, tuple(zip(values, counts, strict=True)), unit)


def _check_statistic(statistic: str) -> None:
    if statistic not in STATISTICS:
        try:
            percent_of(statistic)
        except ValueError as error:
            raise ValidationError(str(error)) from error


def _span(
    params: Mapping[str, Any], seconds: int, now: datetime
) -> tuple[timedelta, datetime, datetime]:
    """Return period, start and end of a question, the start rounded down.

    To the minute, for the past of more than 15 days to five minutes, of more than 63
    days to the hour; as CloudWatch does.
    """
    start, end = instant_of(params["StartTime"]), instant_of(params["EndTime"])
    if start is None or end is None or start >= end:
        raise InvalidParameterValue(
            "The parameter StartTime must be less than the parameter EndTime."
        )
    whole = min(60, seconds)
    if now - start > timedelta(days=15):
        whole = 300
    if now - start > timedelta(days=63):
        whole = 3_600
    return timedelta(seconds=seconds), floor(start, whole), end


def floor(time: datetime, seconds: int) -> datetime:
    """Return the last multiple of so many seconds since 1970 up to `time`."""
    return datetime.fromtimestamp(int(time.timestamp()) // seconds * seconds, UTC)


def _datapoint(
    begin: datetime,
    values: Sequence[Value],
    unit: str,
    plain: Sequence[str],
    extended: Sequence[str],
) -> dict[str, Any]:
    point: dict[str, Any] = {"Timestamp": begin, "Unit": unit}
    for statistic in plain:
        point[statistic] = statistic_of(values, statistic)
    found = {statistic: statistic_of(values, statistic) for statistic in extended}
    known = {name: value for name, value in found.items() if value is not None}
    return {**point, "ExtendedStatistics": known} if extended else point


def _is_returned(query: Mapping[str, Any]) -> bool:
    """Refuse a query that is no metric; return whether its data is wanted."""
    if "MetricStat" not in query:
        asked = query.get("Expression", query.get("Id"))
        raise ValidationError(
            f"the local twin evaluates neither metric math nor Metrics Insights: "
            f"{asked!r}"
        )
    _check_statistic(query["MetricStat"]["Stat"])
    return bool(query.get("ReturnData", True))


def _series(
    metrics: Metrics, query: Mapping[str, Any], params: Mapping[str, Any], now: datetime
) -> dict[str, Any]:
    wanted = query["MetricStat"]
    metric, statistic = wanted["Metric"], wanted["Stat"]
    period, start, end = _span(params, int(wanted["Period"]), now)
    values = metrics.between(_name(metric["Namespace"], metric), start, end)
    unit = wanted.get("Unit")
    points = [
        (begin, found)
        for begin, same in periods(
            values if unit is None else _in(values, unit), start, period
        )
        if (found := statistic_of(same, statistic)) is not None
    ]
    if params.get("ScanBy", "TimestampDescending") != "TimestampAscending":
        points.reverse()
    return {
        "Id": query["Id"],
        "Label": query.get("Label") or f"{metric['MetricName']} {statistic}",
        "Timestamps": [begin for begin, _ in points],
        "Values": [value for _, value in points],
        "StatusCode": "Complete",
    }


def _listed(
    metrics: Metrics, params: Mapping[str, Any], since: datetime | None
) -> list[Name]:
    wanted = [(d["Name"], d.get("Value")) for d in params.get("Dimensions") or ()]
    found = []
    for name in metrics.names():
        namespace, metric, dimensions = name
        if params.get("Namespace") not in {None, namespace}:
            continue
        if params.get("MetricName") not in {None, metric}:
            continue
        about = dict(dimensions)
        if not all(k in about and v in {None, about[k]} for k, v in wanted):
            continue
        last = metrics.last_time(name)
        if since is None or (last is not None and last >= since):
            found.append(name)
    return sorted(found, key=lambda name: (name[0], name[1], sorted(name[2])))


def _shown(name: Name) -> dict[str, Any]:
    namespace, metric, dimensions = name
    return {
        "Namespace": namespace,
        "MetricName": metric,
        "Dimensions": [{"Name": n, "Value": v} for n, v in sorted(dimensions)],
    }
