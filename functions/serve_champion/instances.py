"""What a request may say, read strictly; what it may not is refused with a remedy.

A row names an entity, whose online features are read, or gives its features inline.
Rows come as JSON, ``{"instances": [{"entity": "s-1"}, {"features": {…}}]}`` or one bare
row, or as CSV, one row a line: one column, the entity, or one column a feature.
"""

import csv
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, NoReturn

from retrodict.envelope import unsafe_key
from retrodict.features import FeatureSet
from retrodict.reasons import Violation

MAX_BYTES: Final = 6 * 1024 * 1024
MAX_ROWS: Final = 1_000
MAX_ENTITY: Final = 256
"""Characters of an entity's key, as the contract of predictions has it."""

JSON: Final = "application/json"
CSV: Final = "text/csv"
_MEMBERS: Final = frozenset({"entity", "features"})
_NUMBER: Final = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_NOT_FINITE: Final = re.compile(r"[+-]?(?:nan|inf|infinity)", re.ASCII | re.IGNORECASE)


class RefusedError(Exception):
    """The request cannot be answered; `status` is a 4xx, or 503 if it may work later.

    Attributes
    ----------
    code
        For programs; never reused for anything else.
    message, remedy
        For people: what is wrong, and how to mend it.
    instance
        Number of the row that is to blame, from 0, or None.
    """

    def __init__(
        self,
        status: HTTPStatus,
        code: str,
        message: str,
        remedy: str,
        instance: int | None = None,
    ) -> None:
        super().__init__(status, code, message, remedy)
        self.status = status
        self.code = code
        self.message = message
        self.remedy = remedy
        self.instance = instance

    def __str__(self) -> str:
        return f"{self.code}: {self.message}; {self.remedy}"

    def body(self) -> bytes:
        """Return the answer as JSON."""
        told: dict[str, Any] = {
            "code": self.code,
            "message": self.message,
            "remedy": self.remedy,
        }
        if self.instance is not None:
            told["instance"] = self.instance
        return json.dumps({"error": told}).encode()


@dataclass(frozen=True, slots=True)
class Instance:
    """One row: an entity to look up, or features, by name, of the model alone."""

    entity: str | None
    features: Mapping[str, float] | None


class Reader:
    """Reads the requests of one model.

    Parameters
    ----------
    features
        Names that the model reads, in its order.
    definition
        The feature set that the names are of.
    """

    def __init__(self, features: Sequence[str], definition: FeatureSet) -> None:
        self._features = tuple(features)
        self._known = frozenset(definition.features) | set(features)
        self._key = definition.event.contract().key

    def read(self, kind: str, encoding: str, body: bytes) -> list[Instance]:
        """Return the rows of a request, 1 to `MAX_ROWS`.

        Parameters
        ----------
        kind, encoding
            The headers ``content-type`` and ``content-encoding``.

        Raises
        ------
        RefusedError
            The request is too large, of another type, or malformed.
        """
        if len(body) > MAX_BYTES:
            raise RefusedError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                "too_large",
                f"the body has more than {MAX_BYTES} bytes",
                "send fewer rows a request",
            )
        if encoding.strip().lower() not in {"", "identity"}:
            raise RefusedError(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                "content_encoding",
                f"the body is encoded as {encoding[:64]!r}",
                "send it as it is",
            )
        match kind.split(";", maxsplit=1)[0].strip().lower():
            case "application/json":
                rows = self._json(body)
            case "text/csv":
                rows = self._csv(body)
            case other:
                raise RefusedError(
                    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                    "content_type",
                    f"the content type is {other[:64]!r}",
                    f"send {JSON} or {CSV}",
                )
        if not rows:
            raise _malformed("the request has no rows")
        return rows

    def _json(self, body: bytes) -> list[Instance]:
        try:
            document = json.loads(
                body.decode(),
                parse_constant=_refuse_constant,
                object_pairs_hook=_unique_members,
            )
        except (ValueError, RecursionError) as error:
            raise _malformed(f"the body is no JSON: {str(error)[:200]}") from error
        if isinstance(document, dict) and "instances" in document:
            _check_members(document, frozenset({"instances"}), "the body", None)
            document = document["instances"]
            if not isinstance(document, list):
                raise _malformed("instances is no list")
        elif not isinstance(document, dict):
            raise _malformed("the body is no object")
        else:
            document = [document]
        _check_count(len(document))
        return [self._instance(row, number) for number, row in enumerate(document)]

    def _instance(self, row: Any, number: int) -> Instance:
        place = f"instances[{number}]"
        if not isinstance(row, dict):
            raise _malformed(f"{place} is no object", number)
        _check_members(row, _MEMBERS, place, number)
        entity, given = row.get("entity"), row.get("features")
        if entity is None and given is None:
            raise _malformed(f"{place} names no entity and gives no features", number)
        if entity is not None:
            self._check_entity(entity, number)
        if given is None:
            return Instance(entity, None)
        if not isinstance(given, dict):
            raise _malformed(f"{place}.features is no object", number)
        _check_members(given, self._known, f"{place}.features", number)
        values = {name: given.get(name) for name in self._features}
        return Instance(entity, self._numbers(values, number))

    def _check_entity(self, entity: object, number: int) -> None:
        """Refuse what could never be the key of an event, nor of a prediction."""
        problem = "it is no text" if not isinstance(entity, str) else ""
        if isinstance(entity, str):
            found: list[Violation] = []
            self._key.check(entity, found)
            unsafe = unsafe_key(entity)
            found += [unsafe] if unsafe is not None else []
            if found:
                problem = f"expected {found[0].expected}"
            elif not entity.isprintable() or not 0 < len(entity) <= MAX_ENTITY:
                problem = f"expected 1 to {MAX_ENTITY} printable characters"
        if problem:
            raise RefusedError(
                HTTPStatus.BAD_REQUEST,
                "entity",
                f"instances[{number}].entity is {str(entity)[:64]!r}: {problem}",
                "name an entity as its events do",
                number,
            )

    def _numbers(self, values: Mapping[str, Any], number: int) -> dict[str, float]:
        """Return every feature as a finite double."""
        found = {}
        for name, value in values.items():
            place = f"instances[{number}].features.{name}"
            if value is None:
                raise RefusedError(
                    HTTPStatus.UNPROCESSABLE_ENTITY,
                    "missing_feature",
                    f"{place} is missing",
                    f"give every feature of the model: {', '.join(self._features)}",
                    number,
                )
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise _malformed(f"{place} is no number", number)
            try:
                double = float(value)
            except OverflowError:
                double = math.inf
            if not math.isfinite(double):
                raise _not_finite(place, number)
            found[name] = double
        return found

    def _csv(self, body: bytes) -> list[Instance]:
        try:
            text = body.decode("utf-8-sig")
            lines = csv.reader(io.StringIO(text, newline=""), strict=True)
            rows = [[cell.strip() for cell in row] for row in lines if row]
        except (UnicodeDecodeError, csv.Error) as error:
            raise _malformed(f"the body is no CSV: {error}") from error
        if not rows:
            return []
        header = list(self._features)
        if rows[0] == ["entity"] or sorted(rows[0]) == sorted(header):
            header = rows.pop(0)
        elif len(rows[0]) == 1 != len(header):
            header = ["entity"]
        _check_count(len(rows))
        return [self._line(header, row, number) for number, row in enumerate(rows)]

    def _line(self, header: list[str], row: list[str], number: int) -> Instance:
        if len(row) != len(header):
            raise RefusedError(
                HTTPStatus.BAD_REQUEST,
                "malformed",
                f"instances[{number}] has {len(row)} columns, expected {len(header)}",
                "send one column, the entity, or one a feature: "
                f"{', '.join(self._features)}",
                number,
            )
        if header == ["entity"]:
            self._check_entity(row[0], number)
            return Instance(row[0], None)
        cells = dict(zip(header, row, strict=True))
        values = {name: _cell(cells[name], name, number) for name in self._features}
        return Instance(None, self._numbers(values, number))


def _cell(text: str, name: str, number: int) -> float | None:
    place = f"instances[{number}].features.{name}"
    if not text:
        return None
    if _NOT_FINITE.fullmatch(text):
        raise _not_finite(place, number)
    if not _NUMBER.fullmatch(text):
        raise _malformed(f"{place} is {text[:64]!r}, which is no number", number)
    return float(text)


def _malformed(message: str, instance: int | None = None) -> RefusedError:
    return RefusedError(
        HTTPStatus.BAD_REQUEST,
        "malformed",
        message,
        'send {"instances": [{"entity": "…"}]}, or {"features": {…}} as a row',
        instance,
    )


def _not_finite(place: str, instance: int) -> RefusedError:
    return RefusedError(
        HTTPStatus.BAD_REQUEST,
        "not_finite",
        f"{place} is not finite",
        "give a finite number; leave out the row where there is none",
        instance,
    )


def _check_count(rows: int) -> None:
    if rows > MAX_ROWS:
        raise RefusedError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            "too_many_rows",
            f"the request has {rows} rows, at most {MAX_ROWS} are answered",
            "cut it into several requests",
        )


def _check_members(
    found: Mapping[str, Any],
    allowed: frozenset[str],
    place: str,
    instance: int | None,
) -> None:
    unknown = sorted(found.keys() - allowed)
    if unknown:
        raise RefusedError(
            HTTPStatus.BAD_REQUEST,
            "unknown_field",
            f"{place} has an unknown member {unknown[0][:64]!r}",
            f"leave it out; known are {', '.join(sorted(allowed))}",
            instance,
        )


def _unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _malformed("an object of the body has a member twice")
    return found


def _refuse_constant(text: str) -> NoReturn:
    raise RefusedError(
        HTTPStatus.BAD_REQUEST,
        "not_finite",
        f"the body holds {text}, which JSON does not know",
        "give a finite number; leave out the row where there is none",
    )
