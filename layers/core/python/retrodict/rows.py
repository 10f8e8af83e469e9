"""Rows of a table as CloudEvents: what a file needs to enter by the one door.

A cell that does not fit its field travels as it is, so that the validator can
quarantine it with its bytes: nothing is dropped here.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from retrodict.contracts import Event, FieldRef
from retrodict.errors import PermanentError
from retrodict.stamps import from_datetime, to_text

MAX_PARTITION_KEY: Final = 256
NO_KEY: Final = "?"
"""Partition key of a row that names no entity; it will be quarantined."""

_INTEGER: Final = re.compile(r"[+-]?\d{1,20}")
_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_BOOLEANS: Final = {"true": True, "false": False}


def parse_pairs(text: str) -> dict[str, str]:
    """Read ``"field=column,other=column"``.

    Raises
    ------
    PermanentError
        A part is no pair.

    Examples
    --------
    >>> parse_pairs("time=timestamp, value=celsius")
    {'time': 'timestamp', 'value': 'celsius'}
    """
    found: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = part.partition("=")
        if not (name and equals and value):
            raise PermanentError(f"expected NAME=VALUE, got {part!r}")
        found[name.strip()] = value.strip()
    return found


@dataclass(frozen=True)
class RowMapping:
    """How the columns of a table become the events of one type.

    Attributes
    ----------
    columns
        Column of each field, of ``time`` and of ``id``; by default of the same name.
    constants
        Fields that are the same in every row.
    source
        Source of the events; with the row's number their identity, where no column
        holds an id.
    time_zone
        Zone of times that name none, such as ``Europe/Berlin``.

    Raises
    ------
    PermanentError
        There is no such time zone.

    Examples
    --------
    >>> from pipelines.sensor_anomaly.contract import Reading
    >>> mapping = RowMapping(Reading, {"time": "at"}, {"sensor_id": "s-1"}, "urn:file")
    >>> key, raw = mapping.to_cloudevent({"at": "2026-01-05 10:00", "value": "1.5"}, 1)
    >>> key, json.loads(raw)["time"], json.loads(raw)["data"]
    ('s-1', '2026-01-05T10:00:00.000000Z', {'sensor_id': 's-1', 'value': 1.5})
    """

    event: type[Event]
    columns: Mapping[str, str]
    constants: Mapping[str, str]
    source: str
    time_zone: str = "UTC"

    def __post_init__(self) -> None:
        self._zone()

    def _zone(self) -> ZoneInfo:
        try:
            return ZoneInfo(self.time_zone)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise PermanentError(
                f"no time zone is called {self.time_zone!r}"
            ) from error

    def to_cloudevent(
        self, row: Mapping[str, object], number: int
    ) -> tuple[str, bytes]:
        """Return partition key and bytes of row `number`, 1 for the first."""
        contract = self.event.contract()
        data: dict[str, Any] = {}
        for spec in contract.fields:
            cell = self._cell(row, spec.name)
            if cell is None or (cell == "" and not spec.required):
                if cell is None and spec.required and self._has(row, spec.name):
                    data[spec.name] = None
                continue
            data[spec.name] = _typed(cell, spec)
        key = data.get(contract.key.name)
        event = {
            "specversion": "1.0",
            "id": str(self._cell(row, "id") or number),
            "source": self.source,
            "type": contract.type,
            "subject": key,
            "time": _time(self._cell(row, "time"), self._zone()),
            "dataschema": contract.schema_name(),
            "importid": self.source,
            "data": data,
        }
        text = json.dumps(event, separators=(",", ":"), default=str)
        if isinstance(key, str) and 0 < len(key) <= MAX_PARTITION_KEY:
            return key, text.encode()
        return NO_KEY, text.encode()

    def _has(self, row: Mapping[str, object], name: str) -> bool:
        return self.columns.get(name, name) in row

    def _cell(self, row: Mapping[str, object], name: str) -> object:
        if name in self.constants:
            return self.constants[name]
        return row.get(self.columns.get(name, name))


def _typed(cell: object, spec: FieldRef) -> object:
    """Return text as the number or boolean it clearly is, all else as it is."""
    if spec.type is str:
        is_number = isinstance(cell, int | float) and not isinstance(cell, bool)
        return str(cell) if is_number else cell
    if not isinstance(cell, str):
        return cell
    text = cell.strip()
    if spec.type is bool:
        return _BOOLEANS.get(text.lower(), cell)
    if spec.type is int:
        return int(text) if _INTEGER.fullmatch(text) else cell
    return float(text) if _NUMBER.fullmatch(text) else cell


def _time(cell: object, zone: ZoneInfo) -> object:
    """Return a time as RFC 3339; what is no time as it is."""
    moment = cell
    if isinstance(cell, str):
        try:
            moment = datetime.fromisoformat(cell.strip())
        except ValueError:
            return cell
    elif isinstance(cell, date) and not isinstance(cell, datetime):
        moment = datetime(cell.year, cell.month, cell.day)  # noqa: DTZ001 - zone below
    if not isinstance(moment, datetime):
        return cell
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=zone)
    return to_text(from_datetime(moment))
