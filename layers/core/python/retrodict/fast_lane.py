"""Accept the ordinary record in one pass in C; everything else is for a closer look.

What is accepted here `retrodict.validation` would accept by its own reading, with the
same event. The lane only ever says "accepted" or "I do not know", so that each of its
rules may be narrower than the contract, and none wider:

- Every byte is printable ASCII and none is a backslash: there are no escapes, no
  surrogates, no control or suspicious characters, and a key is spelled in one way.
- Each attribute and each field is declared, and is decoded by its declared type. Depth
  and size are bounded by that; NaN, overflow and trailing bytes are no JSON to msgspec.
- Each key occurs once. Without backslashes, two quotes stand around each key and each
  text, and no others anywhere; there are as many as the decoded values need, or some
  key was there twice and its first value is lost.
- A number is no integer beyond 2^53 read as a double and nothing that became zero.
- Times are ``YYYY-MM-DDTHH:MM:SS[.ffffff]Z`` of existing days.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import date
from functools import lru_cache
from itertools import product
from typing import Annotated, Any, Final, Literal, NamedTuple, Union

import msgspec
from msgspec.structs import asdict

from retrodict.contracts import (
    DEFAULT_MAX_LENGTH,
    EXACT_INTEGER,
    PATTERN_MAX_LENGTH,
    Contract,
    Event,
    FieldRef,
)
from retrodict.envelope import (
    EARLIEST_US,
    LATEST_US,
    MAX_ATTRIBUTE,
    StampedEvent,
    digest_of,
    unsafe_key,
)
from retrodict.reasons import Violation
from retrodict.stamps import FUTURE_TOLERANCE_US

LONGEST: Final = 16_384
"""Bytes of a record that is read here; longer ones are rare."""

KEYS: Final = 16_384
"""Entity keys that are remembered as good."""

_PLAIN: Final = bytes(set(range(0x20, 0x7F)) - {ord("\\")})
_UNSET: Final = msgspec.UNSET
_REQUIRED_QUOTES: Final = 2 * (8 + 7)
"""Of the eight attributes every event has, and of the seven that are texts."""

_OPTIONAL: Final = (
    "causationid", "correlationid", "datacontenttype", "importid", "observedat",
)  # fmt: skip
_INT64_LEAST: Final = -(1 << 63)
_INT64_MOST: Final = (1 << 63) - 1
_NO_UNDERFLOW: Final = 300
"""Characters in which no number is too small for a double without an exponent."""

_LEAST_SIMPLE: Final = 1e-3
_MOST_SIMPLE: Final = 1e15
"""Doubles between these are written without an exponent by everybody."""

_SECOND_US: Final = 1_000_000
_MINUTES_US: Final = {
    f"{hour:02}:{minute:02}:": (hour * 60 + minute) * 60 * _SECOND_US
    for hour, minute in product(range(24), range(60))
}
_SECONDS_US: Final = {f"{second:02}": second * _SECOND_US for second in range(60)}
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
_DAY_US: Final = 86_400 * _SECOND_US
_WHOLE: Final = len("2026-01-05T10:00:00Z")
_FINEST: Final = len("2026-01-05T10:00:00.000000Z")

_encode: Final = msgspec.json.Encoder(order="sorted").encode
_new: Final = object.__new__


class _Shape(NamedTuple):
    """What is to be done with the payloads whose values have the same types.

    Attributes
    ----------
    quotes
        That a record with such a payload has, without optional attributes.
    defaults
        By name, of fields that were not sent.
    floats, matches
        Names of numbers; names of texts and the pattern that they must match.
    is_simple
        Whether the numbers among the defaults are.
    """

    quotes: int
    defaults: dict[str, Any]
    floats: tuple[str, ...]
    matches: tuple[tuple[str, Callable[[str], object]], ...]
    is_simple: bool


class _Form(NamedTuple):
    """How one contract's payload becomes what `Contract.check` would return."""

    event_type: str
    version: int
    lateness_us: int
    key: str
    is_good_key: Callable[[str], bool]
    shape_of: Callable[[tuple[type, ...]], _Shape]


class FastLane:
    """The ordinary records of a catalogue.

    Examples
    --------
    >>> FastLane({}, {}).read(b"{}", "position", "key", 0) is None
    True
    """

    def __init__(
        self, contracts: Mapping[str, type[Event]], lateness_us: Mapping[str, int]
    ) -> None:
        self._forms: dict[type, _Form] = {}
        for name, event in contracts.items():
            contract = event.contract()
            made = _envelope_of(contract) if name == contract.type else None
            if made is not None:
                self._forms[made] = _form_of(contract, lateness_us.get(name, 0))
        kinds = tuple(self._forms)
        self._decode: Callable[[bytes], Any] | None = None
        if kinds:
            self._decode = msgspec.json.Decoder(Union[kinds]).decode  # noqa: UP007 - of a tuple

    def read(
        self, raw: bytes, position: str, partition_key: str, arrived_at_us: int
    ) -> StampedEvent | None:
        """Return the event, or None if the record needs a closer look."""
        if self._decode is None or len(raw) > LONGEST or raw.translate(None, _PLAIN):
            return None
        try:
            said = self._decode(raw)
        except (msgspec.DecodeError, RecursionError):
            return None
        form = self._forms[type(said)]
        payload = _payload(said.data, form, raw)
        time_us = _time_us(said.time)
        if payload is None or time_us is None:
            return None
        data, quotes, is_simple = payload
        key: str = said.subject
        if key != partition_key or data[form.key] != key or not form.is_good_key(key):
            return None
        observed_at_us = arrived_at_us
        causation = correlation = None
        if raw.count(b'"') != quotes:
            more = _optional(said, quotes, raw.count(b'"'))
            if more is None:
                return None
            causation, correlation, is_import, observed = more
            if is_import:
                seen = time_us if observed is None else _time_us(observed)
                if seen is None:
                    return None
                observed_at_us = seen
        if (
            time_us - observed_at_us > FUTURE_TOLERANCE_US
            or observed_at_us - arrived_at_us > FUTURE_TOLERANCE_US
        ):
            return None
        if is_simple:
            said_as = _encode([form.event_type, form.version, key, time_us, data])
            digest = hashlib.sha256(said_as).hexdigest()
        else:
            digest = digest_of(form.event_type, form.version, key, time_us, data)
        event: StampedEvent = _new(StampedEvent)
        event.__dict__.update(
            {
                "key": key,
                "source": said.source,
                "id": said.id,
                "type": form.event_type,
                "schema_version": form.version,
                "time_us": time_us,
                "observed_at_us": observed_at_us,
                "position": position,
                "late": observed_at_us - time_us > form.lateness_us,
                "tags": (),
                "digest": digest,
                "data": data,
                "causation_id": causation,
                "correlation_id": correlation,
            }
        )
        return event


def _payload(
    said: Any, form: _Form, raw: bytes
) -> tuple[dict[str, Any], int, bool] | None:
    """Return the canonical payload, the quotes of all, and if its numbers are simple.

    Simple is what msgspec and the standard library write in the same way.
    """
    data = asdict(said)
    shape = form.shape_of(tuple(map(type, data.values())))
    if shape.defaults:
        data.update(shape.defaults)
    is_simple = shape.is_simple
    for name in shape.floats:
        size = abs(data[name])
        if _LEAST_SIMPLE <= size < _MOST_SIMPLE:
            continue
        if size >= EXACT_INTEGER:
            return None
        if size:
            is_simple = False
        elif len(raw) < _NO_UNDERFLOW and not (b"e-" in raw or b"E-" in raw):
            data[name] = 0.0
        else:
            return None
    for name, matches in shape.matches:
        if matches(data[name]) is None:
            return None
    return data, shape.quotes, is_simple


def _optional(
    said: Any, quotes: int, wanted: int
) -> tuple[str | None, str | None, bool, str | None] | None:
    """Return causation, correlation, whether it is an import, and when it was seen."""
    given = [getattr(said, name) for name in _OPTIONAL]
    for value in given:
        if value is not _UNSET:
            quotes += 2 if value is None else 4
    if quotes != wanted:
        return None
    causation, correlation, _, importid, observed = (
        None if value is _UNSET else value for value in given
    )
    if causation == said.id or (observed is not None and importid is None):
        return None
    return causation, correlation, importid is not None, observed


def _time_us(text: str) -> int | None:
    length = len(text)
    try:
        time_us = (
            _day_us(text[:11]) + _MINUTES_US[text[11:17]] + _SECONDS_US[text[17:19]]
        )
    except (KeyError, ValueError):
        return None
    if text[-1] != "Z":
        return None
    if length != _WHOLE:
        fraction = text[20:-1]
        if length > _FINEST or text[19] != "." or not fraction.isdecimal():
            return None
        time_us += int(fraction.ljust(6, "0"))
    return time_us


@lru_cache(maxsize=1_024)
def _day_us(text: str) -> int:
    """Return the first microsecond of a day ``YYYY-MM-DDT``.

    Raises
    ------
    ValueError
        It is none of the years 2000 to 2099, or is written in another way.
    """
    day = date.fromisoformat(text[:-1])
    if f"{day.isoformat()}T" != text:
        raise ValueError(f"expected a day such as 2026-01-05T, got {text!r}")
    start_us = (day.toordinal() - _EPOCH_DAY) * _DAY_US
    if not EARLIEST_US <= start_us < LATEST_US:
        raise ValueError(f"expected a day of the years 2000 to 2099, got {text!r}")
    return start_us


@lru_cache(maxsize=256)
def _envelope_of(contract: Contract) -> type | None:
    """Return what msgspec decodes, None if the contract needs closer looks."""
    names = [ref.name for ref in contract.fields]
    if len({name.casefold() for name in names}) < len(names):
        return None
    if sum(map(len, names)) > LONGEST:
        return None
    try:
        fields = [_field(ref) for ref in contract.fields]
        data = msgspec.defstruct(
            "Data", fields, kw_only=True, forbid_unknown_fields=True, gc=False
        )
        text = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ATTRIBUTE)]
        optional = Union[text, None, msgspec.UnsetType]  # noqa: UP007 - of an alias
        made = msgspec.defstruct(
            "Envelope",
            [
                ("specversion", Literal["1.0"]),
                ("id", text),
                ("source", text),
                ("subject", text),
                ("time", Annotated[str, msgspec.Meta(min_length=_WHOLE)]),
                ("dataschema", Literal[contract.schema_name()]),
                ("data", data),
                *((name, optional, _UNSET) for name in _OPTIONAL),
            ],
            tag_field="type",
            tag=contract.type,
            forbid_unknown_fields=True,
            gc=False,
        )
        msgspec.json.Decoder(made)
    except (TypeError, ValueError, OverflowError):
        return None
    return made


def _field(ref: FieldRef) -> Any:
    """Return the type of a field, no wider than its rule.

    Raises
    ------
    TypeError, ValueError, OverflowError
        The rule cannot be said so.
    """
    kind: Any = _kind(ref)
    if ref.nullable:
        kind = Union[kind, None]  # noqa: UP007 - of a value
    if ref.required:
        return ref.name, kind
    return ref.name, Union[kind, msgspec.UnsetType], _UNSET  # noqa: UP007 - of a value


def _kind(ref: FieldRef) -> Any:
    options = ref.options
    if ref.choices is not None:
        if ref.type is not str:
            raise TypeError(f"{ref!r} has choices that are no texts")
        return Literal[ref.choices]
    if ref.type is bool:
        return bool
    if ref.type is str:
        most = PATTERN_MAX_LENGTH if options.pattern is not None else DEFAULT_MAX_LENGTH
        return Annotated[str, msgspec.Meta(max_length=options.max_length or most)]
    bounds = {
        name: bound
        for name in ("ge", "gt", "le", "lt")
        if (bound := getattr(options, name)) is not None
    }
    if any(abs(bound) > EXACT_INTEGER for bound in bounds.values()):
        raise ValueError(f"{ref!r} has bounds that a double may not hold")
    if ref.type is float:
        return Annotated[float, msgspec.Meta(**bounds)]
    if not all(type(bound) is int for bound in bounds.values()):
        raise TypeError(f"{ref!r} has bounds that are no integers")
    if not bounds.keys() & {"ge", "gt"}:
        bounds["ge"] = _INT64_LEAST
    if not bounds.keys() & {"le", "lt"}:
        bounds["le"] = _INT64_MOST
    return Annotated[int, msgspec.Meta(**bounds)]


def _form_of(contract: Contract, lateness_us: int) -> _Form:
    @lru_cache(maxsize=KEYS)
    def is_good_key(key: str) -> bool:
        broken: list[Violation] = []
        contract.key.check(key, broken)
        return not broken and unsafe_key(key) is None

    @lru_cache(maxsize=256)
    def shape_of(types: tuple[type, ...]) -> _Shape:
        return _shape(contract.fields, types)

    return _Form(
        contract.type,
        contract.version,
        lateness_us,
        contract.key.name,
        is_good_key,
        shape_of,
    )


def _shape(fields: Iterable[FieldRef], types: Iterable[type]) -> _Shape:
    pairs = 0
    defaults: dict[str, Any] = {}
    floats: list[str] = []
    matches: list[tuple[str, Callable[[str], object]]] = []
    for ref, kind in zip(fields, types, strict=True):
        if kind is msgspec.UnsetType:
            defaults[ref.name] = ref.default
            continue
        pairs += 2 if kind is str else 1
        pattern = ref.options.pattern
        if kind is float:
            floats.append(ref.name)
        elif pattern is not None and kind is str and not ref.is_key:
            matches.append((ref.name, re.compile(pattern).fullmatch))
    quotes = _REQUIRED_QUOTES + 2 * pairs
    is_simple = all(
        type(value) is not float or _LEAST_SIMPLE <= abs(value) < _MOST_SIMPLE
        for value in defaults.values()
    )
    return _Shape(quotes, defaults, tuple(floats), tuple(matches), is_simple)
