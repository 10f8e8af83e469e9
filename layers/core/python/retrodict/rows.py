"""Rows of a table as CloudEvents: what a file needs to enter by the one door.

A cell that does not fit its field travels as it is, so that the validator can
quarantine it with its bytes: nothing is dropped here.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from retrodict.contracts import Event, FieldRef
from retrodict.errors import PermanentError
from retrodict.stamps import from_datetime, to_text

MAX_PARTITION_KEY: Final = 256
NO_KEY: Final = "?"
"""Partition key of a row that names no entity; it will be quarantined."""

SURPLUS: Final = "surplus_cells"
"""Field that cells beyond the last column travel in, for the validator to refuse."""

_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,20}")
_NUMBER: Final = re.compile(
    r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
)
_NAIVE: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"(?:[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?)?"
)
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
        Column of each field, of ``time`` and of ``id``, by default of the same name;
        perhaps of ``observedat``. Columns that nobody names are left out.
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
        if None in row:
            # What csv.DictReader calls cells for which there is no column.
            data[SURPLUS] = row[None]  # type: ignore[index]
        named = self._cell(row, "id")
        event = {
            "specversion": "1.0",
            "id": str(number) if named is None or named == "" else str(named),
            "source": self.source,
            "type": contract.type,
            "subject": key,
            "time": _time(self._cell(row, "time"), self._zone()),
            "dataschema": contract.schema_name(),
            "importid": self.source,
            "data": data,
        }
        if "observedat" in self.columns:
            observed = self._cell(row, "observedat")
            event["observedat"] = _time(observed, self._zone())
        text = json.dumps(event, separators=(",", ":"), default=_as_text)
        return partition_key_of(key), text.encode()

    def _has(self, row: Mapping[str, object], name: str) -> bool:
        return self.columns.get(name, name) in row

    def _cell(self, row: Mapping[str, object], name: str) -> object:
        if name in self.constants:
            return self.constants[name]
        return row.get(self.columns.get(name, name))


def partition_key_of(key: object) -> str:
    """Return the partition key for an entity key: one that a stream takes.

    Examples
    --------
    >>> partition_key_of("s-1"), partition_key_of("s" * 257), partition_key_of(7)
    ('s-1', '?', '?')
    """
    if not isinstance(key, str):
        return NO_KEY
    is_taken = 0 < len(key) <= MAX_PARTITION_KEY and key.isprintable()
    return key if is_taken else NO_KEY


def _as_text(cell: object) -> object:
    """Return a cell that JSON has no form for; never as what a field would take."""
    if isinstance(cell, date):
        return cell.isoformat()
    return {type(cell).__name__: repr(cell)}


def _typed(cell: object, spec: FieldRef) -> object:
    """Return a cell as the type of its field where that is clear, else as it is."""
    if isinstance(cell, Decimal):
        cell = str(cell)
    if spec.type is str:
        return str(cell) if type(cell) is int else cell
    if not isinstance(cell, str):
        return cell
    text = cell.strip()
    if spec.type is bool:
        return _BOOLEANS.get(text.lower(), cell)
    if spec.type is int:
        return int(text) if _INTEGER.fullmatch(text) else cell
    if not _NUMBER.fullmatch(text):
        return cell
    number = float(text)
    return number if math.isfinite(number) else cell


def _time(cell: object, zone: ZoneInfo) -> object:
    """Return a time without a zone as RFC 3339 in UTC, anything else as it is.

    A local time that a change of clocks skips or repeats stays as it is: it names no
    instant, or two.
    """
    moment = cell
    if isinstance(cell, str):
        if not _NAIVE.fullmatch(cell.strip()):
            return cell
        try:
            moment = datetime.fromisoformat(cell.strip())
        except ValueError:
            return cell
    elif isinstance(cell, date) and not isinstance(cell, datetime):
        moment = datetime(cell.year, cell.month, cell.day)  # noqa: DTZ001 - zone below
    if not isinstance(moment, datetime):
        return cell
    if moment.tzinfo is None:
        first, second = (moment.replace(tzinfo=zone, fold=fold) for fold in (0, 1))
        if first.utcoffset() != second.utcoffset():
            return cell
        moment = first
    return to_text(from_datetime(moment.astimezone(UTC)))
