"""What SageMaker tells other services: metrics, log lines, events; and asks of alarms.

One small seam, so that the rest of the twin's SageMaker knows nothing of how the twin
keeps metrics, evaluates alarms or routes events.
"""

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from infra.local.clock import Clock
from infra.local.event_bus import send
from infra.local.log_lines import LogLines
from infra.local.metrics import Metrics
from infra.local.template import ACCOUNT


class Signals:
    """The ways out of SageMaker.

    Parameters
    ----------
    clock
        Time of metrics and events.
    region
        Region they are in.
    metrics
        Takes what is measured, and what programs print.
    logs
        Shows what programs print.
    alarms
        Returns the state of every alarm by name.
    """

    def __init__(
        self,
        clock: Clock,
        region: str,
        metrics: Metrics,
        logs: LogLines,
        alarms: Callable[[], Mapping[str, str]],
    ) -> None:
        self._clock = clock
        self._region = region
        self._metrics = metrics
        self._logs = logs
        self._alarms = alarms

    def measure(
        self,
        namespace: str,
        dimensions: Mapping[str, str],
        values: Iterable[tuple[str, float, str]],
    ) -> None:
        """Put values of metrics, each with name and unit, at the clock's instant."""
        self._metrics.put_all(
            namespace, [(name, dimensions, value, unit) for name, value, unit in values]
        )

    def printer(self, group: str, stream: str) -> Callable[[Sequence[str]], None]:
        """Return what takes a program's lines: to its log stream, and as metrics."""

        def printed(lines: Sequence[str]) -> None:
            written = "\n".join(lines).encode()
            self._metrics.read_lines(written)
            self._logs.add(group, stream, written)

        return printed

    def alarms_in_alarm(self, names: Sequence[str]) -> list[str]:
        """Return which of these alarms are in the state ALARM."""
        if not names:
            return []
        states = self._alarms()
        return [name for name in names if states.get(name) == "ALARM"]

    def unknown_alarms(self, names: Sequence[str]) -> list[str]:
        """Return which of these alarms do not exist."""
        states = self._alarms()
        return [name for name in names if name not in states]

    def event(self, detail_type: str, arn: str, detail: Mapping[str, Any]) -> None:
        """Send an event of SageMaker to the rules of the default bus."""
        send(
            self._region,
            {
                "version": "0",
                "id": str(uuid.uuid4()),
                "detail-type": detail_type,
                "source": "aws.sagemaker",
                "account": ACCOUNT,
                "time": f"{self._clock.now():%Y-%m-%dT%H:%M:%SZ}",
                "region": self._region,
                "resources": [arn],
                "detail": dict(detail),
            },
        )
