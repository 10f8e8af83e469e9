"""Judge the ordinary record in one pass in C; everything else is for a closer look.

What is accepted here `retrodict.validation` would accept by its own reading, with the
same event; what is refused, it would refuse, with the same document. Of all else the
lane says that it does not know, so that each of its rules may be narrower than the
contract, and none wider:

- Texts are printable ASCII without backslashes: there are no escapes, no surrogates, no
  control or suspicious characters, and a key is spelled in one way.
- Each attribute and each field is declared, occurs once, and has its declared type.
- A number has no exponent, and at most 17 digits, which are those of its double.
- Times are ``YYYY-MM-DDTHH:MM:SS[.ffffff]Z`` of existing days.

``layers/core/kernel/validate.c`` reads a whole batch and writes the events of each key
as the validated stream carries them, and the documents of rejects as the quarantine
keeps them. A contract or a pattern that it cannot express is left to the closer look,
and so is everything where there is no library.
"""

import ctypes
import json
import re
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from ctypes import POINTER, c_double, c_int32, c_int64, c_void_p
from dataclasses import dataclass
from functools import cache, partial
from itertools import islice
from typing import Any, Final, Protocol

import msgspec

from retrodict.contracts import (
    EXACT_INTEGER,
    Contract,
    Event,
    FieldRef,
)
from retrodict.envelope import (
    ahead_of_arrival,
    ahead_of_itself,
    missing_attribute,
    other_key,
    other_partition,
    without_zone,
)
from retrodict.kernel import has_sha256, library
from retrodict.ports import KeyedBatch
from retrodict.reasons import Reason, Violation
from retrodict.strict_json import truncated
from retrodict.wire import WireEvents

LONGEST: Final = 16_384
"""Bytes of a record that is read here; longer ones are rare."""

FIELDS: Final = 64
"""Fields of a contract that is read here."""

_DEFAULTS: Final = 16_384
_FIXED: Final = 640
"""Bytes of an event beside what its record and its contract say."""

_KINDS: Final = {str: 0, int: 1, float: 2, bool: 3}
_HAS_LOW, _HAS_HIGH, _OPEN_LOW, _OPEN_HIGH = 1, 2, 4, 8
_INT64_LEAST: Final = -(1 << 63)
_INT64_MOST: Final = (1 << 63) - 1
_ASCII: Final = 128
_PRINTABLE: Final = range(0x20, 0x7F)
_BROKEN_LINES: Final = 2
_GROUP: Final = 8
_MIXED: Final = -2

_LINE: Final = 1_024
_LONG_LINE: Final = 32_768
"""Bytes of a quarantine document beside twice what was delivered, and of a long one;
where many are long, some are left to the closer look."""

_REASONS: Final = (
    Reason.MISSING, Reason.WRONG_TYPE, Reason.OUT_OF_RANGE, Reason.TOO_LONG,
    Reason.PATTERN_MISMATCH, Reason.NOT_ALLOWED,
)  # fmt: skip


def _before_key(found: Violation) -> Violation:
    """Return a violation that expects a key, without the key, which the lane shows."""
    return found._replace(expected=found.expected.removesuffix("''"))


_REFUSALS: Final = (
    *map(
        missing_attribute,
        ("specversion", "id", "source", "type", "subject", "time"),
    ),
    truncated(""),
    without_zone("time", ""),
    ahead_of_itself(0),
    ahead_of_arrival("time", 0),
    _before_key(other_key("", "", "")),
    _before_key(other_partition("", "")),
)
"""A violation of each kind that the lane is certain of, beside those of fields."""

_ITEM: Final = re.compile(
    r"(?:\[(?P<set>(?:[^\[\]\\^&|~-]|\\[-\]\[\\^dw.]|-(?!-))+)\]|(?P<escaped>\\[dw.\-/+*?])"
    r"|(?P<one>[A-Za-z0-9 _:/@,;=-]))(?P<times>[*+?]|\{[0-9]+(?:,[0-9]*)?\})?"
)
_RANGE: Final = re.compile(r"(\\.|[^\\])-(\\.|[^\\])|(\\.|[^\\])")
_CLASSES: Final = {
    r"\d": frozenset("0123456789"),
    r"\w": frozenset("0123456789_ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"),
}
_TIMES: Final = {"": (1, 1), "?": (0, 1), "*": (0, LONGEST), "+": (1, LONGEST)}


class TextStruct(ctypes.Structure):
    """`Text` of ``validate.c``."""

    _fields_ = (("at", ctypes.c_char_p), ("size", c_int64))


class StepStruct(ctypes.Structure):
    """`Step` of ``validate.c``."""

    _fields_ = (
        ("low", ctypes.c_uint64), ("high", ctypes.c_uint64),
        ("least", c_int64), ("most", c_int64),
    )  # fmt: skip


class PromiseStruct(ctypes.Structure):
    """`Promise` of ``validate.c``."""

    _fields_ = (("code", TextStruct), ("expected", TextStruct))


class FieldStruct(ctypes.Structure):
    """`Field` of ``validate.c``."""

    _fields_ = (
        ("name", TextStruct), ("wire", TextStruct), ("canonical", TextStruct),
        ("step", POINTER(StepStruct)), ("choice", POINTER(TextStruct)),
        ("low", c_double), ("high", c_double),
        ("low_whole", c_int64), ("high_whole", c_int64), ("most", c_int64),
        ("kind", c_int32), ("is_required", c_int32), ("is_nullable", c_int32),
        ("bounds", c_int32), ("steps", c_int32), ("choices", c_int32),
        ("broken", PromiseStruct * len(_REASONS)),
    )  # fmt: skip


class ContractStruct(ctypes.Structure):
    """`Contract` of ``validate.c``."""

    _fields_ = (
        ("type", TextStruct), ("schema", TextStruct), ("lead", TextStruct),
        ("field", POINTER(FieldStruct)), ("sorted", POINTER(c_int32)),
        ("lateness_us", c_int64), ("room", c_int64),
        ("fields", c_int32), ("key", c_int32), ("extra", PromiseStruct),
    )  # fmt: skip


class BatchStruct(ctypes.Structure):
    """`Batch` of ``validate.c``."""

    _fields_ = (
        ("contracts", c_int64), ("contract", POINTER(ContractStruct)),
        ("n", c_int64), ("columns", TextStruct), ("arrived_s", c_void_p),
        ("wire", c_void_p), ("room", c_int64),
        ("group", c_void_p), ("order", c_void_p), ("span", c_void_p),
        ("kind", c_void_p),
        ("unsure", c_void_p), ("groups", c_int64), ("unsures", c_int64),
        ("has_sha256", c_int64), ("promise", POINTER(PromiseStruct)),
        ("lines", c_void_p), ("lines_room", c_int64),
        ("refused", c_void_p), ("refusals", c_int64),
    )  # fmt: skip


class Columns(Protocol):
    """Records of the ingest stream as they were delivered, columns of shape (n,)."""

    @property
    def event_ids(self) -> Sequence[str]:
        """Texts that begin with the shard id and a colon."""

    @property
    def sequence_numbers(self) -> Sequence[str]:
        """Places within the shard, decimal."""

    @property
    def partition_keys(self) -> Sequence[str]:
        """What the producers put the records under."""

    @property
    def texts(self) -> Sequence[str]:
        """The bytes in base64."""

    @property
    def arrived_s(self) -> "array[float]":
        """Approximate arrival, seconds since the epoch, as doubles."""


class Unsure(msgspec.Struct, frozen=True):
    """The records of one partition key, of which some need a closer look.

    Attributes
    ----------
    ordinary
        The events of those that were accepted, in order.
    unknown
        Numbers in the batch of those that need one, in order.
    wires
        The events of those that were accepted by their numbers, each with its type.
    """

    key: str
    ordinary: WireEvents
    unknown: list[int]
    wires: Callable[[], dict[int, tuple[str, bytes]]]


class Refused(msgspec.Struct, frozen=True):
    """The records of which it is certain what is wrong.

    Attributes
    ----------
    lines
        Number in the batch and quarantine document of each, in any order.
    """

    lines: list[tuple[int, bytes]]


class FastLane:
    """The ordinary records of a catalogue.

    Examples
    --------
    >>> FastLane({}, {}).types
    ()
    """

    def __init__(
        self, contracts: Mapping[str, type[Event]], lateness_us: Mapping[str, int]
    ) -> None:
        known = [
            _contract(event.contract(), lateness_us.get(name, 0))
            for name, event in sorted(contracts.items())
            if name == event.contract().type
        ]
        self._contracts = [one for one in known if one is not None]
        self.types = tuple(one.type.at.decode() for one in self._contracts)
        self._types = [(name,) for name in self.types]
        self._table = (ContractStruct * len(self._contracts))(*self._contracts)
        self._room = max((one.room for one in self._contracts), default=0)
        self._promises = (PromiseStruct * len(_REFUSALS))(*map(_promise, _REFUSALS))
        self._rooms: list[_Room] = []
        """Rooms that nobody is in at the moment."""

    def read(self, columns: Columns) -> Iterator[KeyedBatch | Unsure | Refused]:
        """Yield what is known of a batch: rejects, and all else key by key."""
        keys = columns.partition_keys
        found = library()
        if found is None or not self._contracts:
            yield from _unknown(keys)
            return
        said = _lines(columns, keys)
        room = self._rooms.pop() if self._rooms else _Room()
        size, lines = len(keys) * self._room, len(keys) * _LINE + _LONG_LINE
        room.make_for(len(keys), size + 2 * len(said), lines + 2 * len(said))
        batch = room.batch
        batch.contracts, batch.contract = len(self._contracts), self._table
        batch.promise = self._promises
        batch.n, batch.columns = len(keys), TextStruct(said, len(said))
        batch.arrived_s = columns.arrived_s.buffer_info()[0]
        failed = found.retrodict_validate(ctypes.byref(batch))
        if failed == _BROKEN_LINES:  # such a key is no subject, and "" is none either
            said = _lines(columns, ["" if "\n" in key else key for key in keys])
            batch.columns = TextStruct(said, len(said))
            failed = found.retrodict_validate(ctypes.byref(batch))
        if failed:
            yield from _unknown(keys)
            return
        wire, kinds = room.wire, room.kinds
        told = iter(room.groups[: _GROUP * batch.groups])
        left = iter(room.unsure[: batch.unsures])
        if batch.refusals:
            yield Refused(room.refusals())
        for first, start, end, count, kind, unsure, place, size in zip(
            *[told] * _GROUP, strict=True
        ):
            if not count and not unsure:
                continue
            types: tuple[str, ...] = ()
            if kind >= 0:
                types = self._types[kind]
            elif kind == _MIXED:
                records = room.order[place : place + size]
                mixed = {self.types[kinds[i]] for i in records if kinds[i] >= 0}
                types = tuple(sorted(mixed))
            events = WireEvents(wire[start:end], count, types)
            if not unsure:
                yield KeyedBatch(keys[first], events)
                continue
            wires = partial(self._wires, room, place, size)
            yield Unsure(keys[first], events, list(islice(left, unsure)), wires)
        self._rooms.append(room)

    def _wires(
        self, room: "_Room", first: int, count: int
    ) -> dict[int, tuple[str, bytes]]:
        found = {}
        for place in room.order[first : first + count]:
            if room.kinds[place] >= 0:
                start, end = room.spans[2 * place], room.spans[2 * place + 1]
                found[place] = self.types[room.kinds[place]], room.wire[start:end]
        return found


class _Room:
    """What a batch is written to, which is made once and grows."""

    def __init__(self) -> None:
        self.batch = BatchStruct(has_sha256=has_sha256())
        self.wire: Any = ()
        self.lines: Any = ()
        self.order: Any = ()

    def make_for(self, records: int, size: int, lines: int) -> None:
        """Have room for so many records, and bytes of events and of documents."""
        batch = self.batch
        if len(self.wire) < size:
            self.wire = ctypes.create_string_buffer(size)
            batch.wire, batch.room = ctypes.addressof(self.wire), size
        if len(self.lines) < lines:
            self.lines = ctypes.create_string_buffer(lines)
            batch.lines, batch.lines_room = ctypes.addressof(self.lines), lines
        if len(self.order) < records:
            self.order, self.kinds = (c_int32 * records)(), (c_int32 * records)()
            self.spans = (c_int64 * (2 * records))()
            self.groups = (c_int64 * (_GROUP * records))()
            batch.order = ctypes.addressof(self.order)
            self.refused = (c_int64 * (3 * records))()
            self.unsure = (c_int32 * records)()
            batch.kind = ctypes.addressof(self.kinds)
            batch.refused = ctypes.addressof(self.refused)
            batch.unsure = ctypes.addressof(self.unsure)
            batch.span = ctypes.addressof(self.spans)
            batch.group = ctypes.addressof(self.groups)

    def refusals(self) -> list[tuple[int, bytes]]:
        """Return number and document of each record that was refused."""
        lines = self.lines
        told = iter(self.refused[: 3 * self.batch.refusals])
        return [
            (n, lines[start:end]) for n, start, end in zip(*[told] * 3, strict=True)
        ]


def _unknown(keys: Sequence[str]) -> Iterator[Unsure]:
    """Yield a batch of which nothing is known."""
    places: dict[str, list[int]] = {}
    for place, key in enumerate(keys):
        places.setdefault(key, []).append(place)
    for key, unknown in places.items():
        yield Unsure(key, WireEvents(b"", 0, ()), unknown, dict)


def _lines(columns: Columns, keys: Sequence[str]) -> bytes:
    return "\n".join(
        (*columns.event_ids, *columns.sequence_numbers, *keys, *columns.texts)
    ).encode("utf-8", "surrogatepass")


class _CannotExpressError(Exception):
    """A contract that needs closer looks; never leaves this module."""


def _text(value: str) -> TextStruct:
    try:
        raw = value.encode()
    except UnicodeEncodeError as error:
        raise _CannotExpressError from error
    return TextStruct(raw, len(raw))


@cache
def _promise(found: Violation) -> PromiseStruct:
    """Return reason and expectation of a violation."""
    said = found.reason, found.expected
    return PromiseStruct(*(_text(json.dumps(one)[1:-1]) for one in said))


def _contract(contract: Contract, lateness_us: int) -> ContractStruct | None:
    """Return a contract as the lane reads it; None where it cannot."""
    refs = contract.fields
    names = [ref.name for ref in refs]
    if len({name.casefold() for name in names}) < len(names) or len(refs) > FIELDS:
        return None
    try:
        fields = (FieldStruct * len(refs))(*map(_field, refs))
    except _CannotExpressError:
        return None
    said = sum(one.name.size + one.wire.size + one.canonical.size + 8 for one in fields)
    if said > _DEFAULTS:
        return None
    order = sorted(range(len(refs)), key=names.__getitem__)
    schema = contract.schema_name()
    lead = json.dumps([contract.type, contract.version], separators=(",", ":"))
    return ContractStruct(
        _text(contract.type), _text(schema), _text(f"{lead[:-1]},"), fields,
        (c_int32 * len(refs))(*order), lateness_us,
        said + 3 * len(schema) + _FIXED, len(refs), refs.index(contract.key),
        PromiseStruct() if contract.keeps_extra else _promise(
            Violation("", Reason.EXTRA_FIELD, contract.only(), "")
        ),
    )  # fmt: skip


def _field(ref: FieldRef) -> FieldStruct:
    """Return a field's rule, no wider than it is.

    Raises
    ------
    _CannotExpressError
        The rule cannot be said so.
    """
    made = FieldStruct(name=_text(ref.name), kind=_KINDS[ref.type], steps=-1)
    made.is_required, made.is_nullable = ref.required, ref.nullable
    for place, reason in enumerate(_REASONS):
        if reason in ref.expected:
            expected = ref.expected[reason]
            made.broken[place] = _promise(Violation("", reason, expected, ""))
    if not ref.required:
        wire = json.dumps(ref.default, separators=(",", ":"), ensure_ascii=False)
        made.wire = _text(wire)
        made.canonical = _text(json.dumps(ref.default, separators=(",", ":")))
    if ref.type is str:
        _limit_text(made, ref)
    elif ref.choices is not None:
        raise _CannotExpressError
    else:
        _limit_number(made, ref)
    return made


def _limit_text(made: FieldStruct, ref: FieldRef) -> None:
    pattern = ref.options.pattern
    made.most = ref.most
    if ref.choices is not None:
        choices = [_text(choice) for choice in ref.choices]
        made.choice = (TextStruct * len(choices))(*choices)
        made.choices = len(choices)
    elif pattern is not None:
        steps = steps_of(pattern)
        if steps is None:
            raise _CannotExpressError
        made.step = (StepStruct * len(steps))(*(_step(step) for step in steps))
        made.steps = len(steps)


def _limit_number(made: FieldStruct, ref: FieldRef) -> None:
    options = ref.options
    low = options.ge if options.gt is None else options.gt
    high = options.le if options.lt is None else options.lt
    bounds = [bound for bound in (low, high) if bound is not None]
    if any(abs(bound) > EXACT_INTEGER for bound in bounds):
        raise _CannotExpressError
    if ref.type is int and not all(type(bound) is int for bound in bounds):
        raise _CannotExpressError
    if low is not None:
        made.bounds |= _HAS_LOW | (_OPEN_LOW if options.gt is not None else 0)
        made.low = low
    if high is not None:
        made.bounds |= _HAS_HIGH | (_OPEN_HIGH if options.lt is not None else 0)
        made.high = high
    if ref.type is int:
        made.low_whole = 0 if low is None else int(low) + (options.gt is not None)
        made.high_whole = 0 if high is None else int(high) - (options.lt is not None)


@dataclass(frozen=True, slots=True)
class Step:
    """So many characters of a set, as many as there are."""

    characters: frozenset[str]
    least: int
    most: int


def _step(step: Step) -> StepStruct:
    bits = sum(1 << ord(character) for character in step.characters)
    return StepStruct(bits & (1 << 64) - 1, bits >> 64, step.least, step.most)


def steps_of(pattern: str) -> tuple[Step, ...] | None:
    r"""Return a pattern as steps of which each takes all it can; None where it is none.

    Of a text in printable ASCII, they match what the pattern matches as a whole: no
    character that may come after a step is one that the step could still have taken.

    Examples
    --------
    >>> [(len(step.characters), step.least, step.most)
    ...  for step in steps_of(r"[a-z]+-\d{2,4}")]
    [(26, 1, 16384), (1, 1, 1), (10, 2, 4)]
    >>> steps_of(r"[a-z]*abc") is None, steps_of(r"a|b") is None
    (True, True)
    """
    steps: list[Step] = []
    at = 0
    while at < len(pattern):
        item = _ITEM.match(pattern, at)
        if item is None:
            return None
        characters = _characters(item)
        if characters is None:
            return None
        steps.append(Step(characters, *_times(item["times"] or "")))
        at = item.end()
    for place, step in enumerate(steps):
        if step.least == step.most:
            continue
        for after in steps[place + 1 :]:
            if step.characters & after.characters:
                return None
            if after.least:
                break
    return tuple(steps)


def _characters(item: re.Match[str]) -> frozenset[str] | None:
    if item["one"] is not None:
        return frozenset(item["one"])
    if item["escaped"] is not None:
        escaped: str = item["escaped"]
        return _CLASSES.get(escaped, frozenset(escaped[1]))
    found: set[str] = set()
    for first, last, one in _RANGE.findall(item["set"]):
        if one:
            found |= _CLASSES.get(one, {one[-1]})
        elif first in _CLASSES or last in _CLASSES:
            return None
        else:
            found |= set(map(chr, range(ord(first[-1]), ord(last[-1]) + 1)))
    return frozenset(c for c in found if ord(c) in _PRINTABLE)


def _times(said: str) -> tuple[int, int]:
    if said in _TIMES:
        return _TIMES[said]
    least, comma, most = said[1:-1].partition(",")
    if not comma:
        return int(least), int(least)
    return int(least), int(most) if most else LONGEST
