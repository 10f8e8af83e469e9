"""CloudWatch's embedded metric format: what a line of a log declares as metrics.

A line counts if it is one JSON object with a directive under ``_aws``; any other line
is just a line. Of a directive that does not hold, CloudWatch makes nothing, and so
does this: a dimension set that names a member that is no text, a metric whose member
is no number or array of numbers.

References
----------
.. [1] AWS, "Specification: Embedded metric format", Amazon CloudWatch User Guide.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

_MARK: Final = b'"_aws"'
_MOST_VALUES: Final = 100  # of one metric in one line
_MOST_DIMENSIONS: Final = 30


@dataclass(frozen=True, slots=True)
class Declared:
    """Values of one metric at one instant.

    Attributes
    ----------
    time
        What the line says, UTC.
    values
        One or more, in the metric's unit.
    """

    namespace: str
    name: str
    dimensions: Mapping[str, str]
    values: tuple[float, ...]
    unit: str
    time: datetime


def declared_metrics(written: bytes) -> Iterator[Declared]:
    """Yield the metrics that lines of a log declare.

    Examples
    --------
    >>> line = b'{"_aws":{"Timestamp":0,"CloudWatchMetrics":[{"Namespace":"n",'
    >>> line += b'"Dimensions":[["d"]],"Metrics":[{"Name":"m"}]}]},"d":"x","m":[1,2]}'
    >>> [(m.name, m.dimensions, m.values) for m in declared_metrics(line)]
    [('m', {'d': 'x'}, (1.0, 2.0))]
    """
    if _MARK not in written:
        return
    for line in written.splitlines():
        if _MARK in line:
            yield from _of_line(line)


def _of_line(line: bytes) -> list[Declared]:
    try:
        document = json.loads(line, parse_constant=_refuse)
        told = document["_aws"]
        time = datetime.fromtimestamp(told["Timestamp"] / 1000, UTC)
        return [
            declared
            for directive in told["CloudWatchMetrics"]
            for declared in _of_directive(directive, document, time)
        ]
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return []


def _of_directive(
    directive: Mapping[str, Any], document: Mapping[str, Any], time: datetime
) -> Iterator[Declared]:
    for names in directive.get("Dimensions") or [[]]:
        dimensions = {name: document.get(name) for name in names}
        told = {n: v for n, v in dimensions.items() if isinstance(v, str)}
        if len(told) < len(dimensions) or len(dimensions) > _MOST_DIMENSIONS:
            continue
        for metric in directive["Metrics"]:
            values = _numbers(document.get(metric["Name"]))
            if values:
                unit = metric.get("Unit", "None")
                namespace = directive["Namespace"]
                yield Declared(namespace, metric["Name"], told, values, unit, time)


def _numbers(member: Any) -> tuple[float, ...]:
    found = member if isinstance(member, list) else [member]
    if len(found) > _MOST_VALUES:
        return ()
    if any(isinstance(n, bool) or not isinstance(n, int | float) for n in found):
        return ()
    return tuple(float(number) for number in found)


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no JSON")
