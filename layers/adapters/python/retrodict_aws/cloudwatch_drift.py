"""Drift on CloudWatch: metrics out, and what an alarm is about back in."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from retrodict.errors import StoreUnavailableError
from retrodict.stamps import from_datetime

from retrodict_aws.clients import AWS_ERRORS, error_code

NAMESPACE: Final = "Retrodict"
RATIO: Final = "DriftRatio"
SHARE: Final = "DriftShare"
_ABOUT: Final = {
    "value": "DriftValue",
    "threshold": "DriftThreshold",
    "sample_size": "DriftSampleSize",
}
_BACK: Final = timedelta(days=2)


class NoMeasurementError(StoreUnavailableError):
    """An alarm's metric has no data point near enough; one may still come."""


@dataclass(frozen=True, slots=True)
class DriftAlarm:
    """An alarm on a drift metric.

    Attributes
    ----------
    dimensions
        Of its metric: ``environment``, ``pipeline``, and where it is about one column
        ``feature`` and ``statistic``.
    """

    name: str
    metric: str
    dimensions: Mapping[str, str]
    changed_us: int


class CloudWatchDrift:
    """The drift metrics and alarms of one environment."""

    def __init__(self, client: Any, environment: str) -> None:
        self._client = client
        self._environment = environment

    def ringing(self) -> Iterator[DriftAlarm]:
        """Yield the drift alarms of this environment that are in ALARM.

        Raises
        ------
        StoreUnavailableError
            CloudWatch refused.
        """
        try:
            pages = self._client.get_paginator("describe_alarms").paginate(
                AlarmNamePrefix=f"retrodict-{self._environment}-",
                AlarmTypes=["MetricAlarm"],
                StateValue="ALARM",
            )
            for page in pages:
                for found in page["MetricAlarms"]:
                    if found["StateValue"] != "ALARM":
                        continue  # not every endpoint filters by state
                    alarm = DriftAlarm(
                        name=found["AlarmName"],
                        metric=found.get("MetricName", ""),
                        dimensions={
                            d["Name"]: d["Value"] for d in found.get("Dimensions", [])
                        },
                        changed_us=from_datetime(
                            found["StateUpdatedTimestamp"].astimezone(UTC)
                        ),
                    )
                    if alarm.metric in {RATIO, SHARE}:
                        yield alarm
        except AWS_ERRORS as error:
            raise StoreUnavailableError(
                f"alarms cannot be read: {error_code(error)}"
            ) from error

    def about(self, alarm: DriftAlarm, until_us: int) -> dict[str, Any]:
        """Return what an alarm is about: its newest measurement before `until_us`.

        Raises
        ------
        NoMeasurementError
            CloudWatch holds none of the two days before.
        StoreUnavailableError
            CloudWatch refused.
        """
        if alarm.metric == SHARE:
            time_us, share = self._newest(alarm, SHARE, until_us)
            return {
                "feature": "all features", "statistic": "drifted_share",
                "value": share, "threshold": 0.5, "sample_size": 0,
                "window_until_us": time_us,
            }  # fmt: skip
        found: dict[str, Any] = {
            "feature": alarm.dimensions["feature"],
            "statistic": alarm.dimensions["statistic"],
        }
        for name, metric in _ABOUT.items():
            found["window_until_us"], value = self._newest(alarm, metric, until_us)
            found[name] = int(value) if name == "sample_size" else value
        return found

    def _newest(
        self, alarm: DriftAlarm, metric: str, until_us: int
    ) -> tuple[int, float]:
        until = datetime.fromtimestamp(until_us / 1e6, UTC) + timedelta(minutes=1)
        try:
            points = self._client.get_metric_statistics(
                Namespace=NAMESPACE,
                MetricName=metric,
                Dimensions=[
                    {"Name": n, "Value": v} for n, v in alarm.dimensions.items()
                ],
                StartTime=until - _BACK,
                EndTime=until,
                Period=300,
                Statistics=["Maximum"],
            )["Datapoints"]
        except AWS_ERRORS as error:
            raise StoreUnavailableError(
                f"metric {metric!r} cannot be read: {error_code(error)}"
            ) from error
        if not points:
            raise NoMeasurementError(
                f"metric {metric!r} of alarm {alarm.name!r} has no data point yet"
            )
        newest = max(points, key=lambda point: point["Timestamp"])
        time_us = from_datetime(newest["Timestamp"].astimezone(UTC))
        return time_us, float(newest["Maximum"])


def alarm_of(event: Mapping[str, Any]) -> tuple[DriftAlarm, bool] | None:
    """Return the drift alarm of a state change, and whether it rings now.

    None where the alarm is on anything but a drift metric.
    """
    detail = event["detail"]
    for query in detail.get("configuration", {}).get("metrics", []):
        metric = query.get("metricStat", {}).get("metric", {})
        if metric.get("name") in {RATIO, SHARE}:
            changed = datetime.fromisoformat(detail["state"]["timestamp"])
            alarm = DriftAlarm(
                name=detail["alarmName"],
                metric=metric["name"],
                dimensions=dict(metric.get("dimensions", {})),
                changed_us=from_datetime(changed.astimezone(UTC)),
            )
            return alarm, detail["state"]["value"] == "ALARM"
    return None
