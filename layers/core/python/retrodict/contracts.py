"""What a producer promises, written once.

A subclass of `Event` is the contract, the published schema, the quarantine rule and
the name of every field for features. Its checks are compiled when the class is made;
a class that says something impossible is refused then, in a sentence.
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    ClassVar,
    Final,
    Literal,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from retrodict.errors import ContractDefinitionError, UpcastError
from retrodict.expressions import Expression
from retrodict.reasons import Reason, Violation, violation

T = TypeVar("T")

Payload = Mapping[str, Any]
Upcast = Callable[[Payload], Payload]
Check = Callable[[Any, list[Violation]], Any]
Bound = int | float

DEFAULT_MAX_LENGTH: Final = 1_024
"""Characters of a text whose field names no `max_length`."""

PATTERN_MAX_LENGTH: Final = 256
"""Characters of a text that a pattern is tried on, where no `max_length` is named."""

EXACT_INTEGER: Final = 1 << 53
"""Beyond this a double cannot hold every integer."""

_KEY: Final = "retrodict.key"
ABSENT: Final[Any] = object()
"""The value of a field that was not sent."""

_TYPE: Final = re.compile(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)*")
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_TYPE_LENGTH: Final = 128
_SCALARS: Final = (str, int, float, bool)
_JSON_TYPES: Final = {str: "string", int: "integer", float: "number", bool: "boolean"}
_NOUNS: Final = {str: "text", int: "an integer", float: "a number", bool: "a boolean"}
_EXAMPLES: Final = (
    "example-1", "example", "a-1", "a1", "A1", "A", "1", "0001",
    "2026-01-05", "10:00", "a@example.org", "urn:example:1",
    "00000000-0000-4000-8000-000000000000",
)  # fmt: skip

Key = Annotated[T, _KEY]
"""The field that names the entity; a contract has exactly one."""


@dataclass(frozen=True, slots=True)
class PlainPayload:
    """How to read a producer that cannot send CloudEvents.

    Attributes
    ----------
    id, key, time
        Which members of the payload hold the event's id, entity key and time
        (RFC 3339 with a zone).
    source
        The `source` that such events get.
    """

    id: str
    key: str
    time: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What `field` was told."""

    default: Any = ABSENT
    example: Any = None
    ge: Bound | None = None
    gt: Bound | None = None
    le: Bound | None = None
    lt: Bound | None = None
    pattern: str | None = None
    max_length: int | None = None
    enum: tuple[Any, ...] | None = None
    unit: str | None = None
    description: str | None = None


def field(  # noqa: PLR0913 - one argument a rule
    *,
    default: Any = ABSENT,
    example: Any = None,
    ge: Bound | None = None,
    gt: Bound | None = None,
    le: Bound | None = None,
    lt: Bound | None = None,
    pattern: str | None = None,
    max_length: int | None = None,
    enum: Iterable[Any] | None = None,
    unit: str | None = None,
    description: str | None = None,
) -> Any:
    """Say more about a field of an event.

    Parameters
    ----------
    default
        Value of a field that was not sent; without one the field is required.
    example
        Value in the published example, where none can be derived.
    ge, gt, le, lt
        Bounds of a number.
    pattern
        Regular expression that the whole text must match.
    max_length
        Characters that a text may have.
    enum
        The only values allowed.
    unit
        Unit as UCUM writes it, such as ``Cel``.

    Examples
    --------
    >>> class Order(Event, type="shop.order", version=1):
    ...     store: Key[str] = field(pattern=r"[a-z0-9-]{1,64}")
    ...     amount: float = field(ge=0, le=100_000, unit="EUR")
    >>> Order.amount.describe(), Order.amount.unit
    ('shop.order.amount', 'EUR')
    """
    return Options(
        default=default,
        example=example,
        ge=ge,
        gt=gt,
        le=le,
        lt=lt,
        pattern=pattern,
        max_length=max_length,
        enum=None if enum is None else tuple(enum),
        unit=unit,
        description=description,
    )


class FieldRef(Expression):
    """A field of an event class: its rule, and an operand for features.

    Attributes
    ----------
    event
        The class that declares it.
    type
        ``str``, ``int``, ``float`` or ``bool``; enumerations are text.
    is_key, required, nullable
        Whether it names the entity, must be sent, may be null.
    choices
        The only values allowed, or None.
    most
        Characters that a text may have.
    expected
        What a reject says of the field, by the reason.
    """

    def __init__(
        self, event: "type[Event]", name: str, hint: Any, options: Options
    ) -> None:
        self.event = event
        self.name = name
        self.options = options
        self.unit = options.unit
        self.is_key, self.nullable, base = _read_hint(f"{event.__name__}.{name}", hint)
        self.type, self.choices = _read_base(f"{event.__name__}.{name}", base)
        if options.enum is not None:
            self.choices = options.enum
        if options.default is ABSENT and self.nullable:
            self.default: Any = None
        else:
            self.default = options.default
        self.required = self.default is ABSENT
        _check_options(self)
        self.most = options.max_length or (
            DEFAULT_MAX_LENGTH if options.pattern is None else PATTERN_MAX_LENGTH
        )
        self.expected = _expected(self)
        self.check: Check = _compile(self)
        if not self.required and self.default is not None:
            wrong: list[Violation] = []
            self.default = self.check(self.default, wrong)
            if wrong:
                raise _wrong(self, f"its default breaks its own rule: {wrong[0]}")

    def judge(self, value: Any, found: list[Violation]) -> Any:
        """Return the canonical value of one that was sent, or `ABSENT`."""
        if value is ABSENT:
            if self.required:
                found.append(_missing(self, "nothing"))
            return self.default
        if value is not None:
            return self.check(value, found)
        if not self.nullable:
            found.append(_missing(self, "null"))
            return ABSENT
        return None

    def describe(self) -> str:
        """Return type and name, such as ``sensor.reading.value``."""
        return f"{self.event.contract().type}.{self.name}"

    def __repr__(self) -> str:
        return f"<field {self.event.__name__}.{self.name}: {self.type.__name__}>"


def _wrong(ref: FieldRef, why: str) -> ContractDefinitionError:
    return ContractDefinitionError(f"{ref.event.__name__}.{ref.name}: {why}")


def _read_hint(where: str, hint: Any) -> tuple[bool, bool, Any]:
    """Return whether `hint` is a key, whether it may be null, and what is left."""
    is_key = False
    if get_origin(hint) is Annotated:
        is_key = _KEY in hint.__metadata__
        hint = hint.__origin__
    nullable = False
    if get_origin(hint) in (Union, UnionType):
        members = [member for member in get_args(hint) if member is not NoneType]
        nullable = len(members) < len(get_args(hint))
        if len(members) != 1:
            raise ContractDefinitionError(
                f"{where}: expected one type, or one type and None, got {hint}: give "
                "each meaning a field of its own"
            )
        hint = members[0]
    return is_key, nullable, hint


def _read_base(where: str, base: Any) -> tuple[type, tuple[Any, ...] | None]:
    if base in _SCALARS:
        return base, None
    if isinstance(base, type) and issubclass(base, StrEnum):
        return str, tuple(member.value for member in base)
    if get_origin(base) is Literal:
        kinds = {type(value) for value in get_args(base)}
        if len(kinds) == 1 and kinds <= {str, int, bool}:
            return kinds.pop(), get_args(base)
    raise ContractDefinitionError(
        f"{where}: expected str, int, float, bool, a StrEnum or a Literal of one type, "
        f"each perhaps with None, got {base!r}"
    )


def _check_options(ref: FieldRef) -> None:
    options = ref.options
    bounds = {
        name: getattr(options, name)
        for name in ("ge", "gt", "le", "lt")
        if getattr(options, name) is not None
    }
    if bounds and ref.type not in (int, float):
        raise _wrong(
            ref, f"{next(iter(bounds))}= is for numbers, not for {ref.type.__name__}"
        )
    for name, bound in bounds.items():
        if isinstance(bound, bool) or not math.isfinite(bound):
            raise _wrong(ref, f"expected a finite number for {name}=, got {bound!r}")
    for both in (("ge", "gt"), ("le", "lt")):
        if bounds.keys() >= set(both):
            raise _wrong(ref, f"say {both[0]}= or {both[1]}=, not both")
    low, high = bounds.get("ge", bounds.get("gt")), bounds.get("le", bounds.get("lt"))
    if (
        low is not None
        and high is not None
        and (low > high or (low == high and bounds.keys() & {"gt", "lt"}))
    ):
        raise _wrong(ref, f"no number is between {low} and {high}")
    if ref.type is not str and (
        options.pattern is not None or options.max_length is not None
    ):
        raise _wrong(
            ref, f"pattern= and max_length= are for text, not for {ref.type.__name__}"
        )
    if options.max_length is not None and options.max_length < 1:
        raise _wrong(ref, f"expected max_length >= 1, got {options.max_length}")
    _check_pattern(ref)
    wrong = [c for c in ref.choices or () if type(c) is not ref.type]
    if wrong or ref.choices == ():
        raise _wrong(
            ref, f"expected enum values of {ref.type.__name__}, got {ref.choices!r}"
        )
    if ref.is_key and (ref.type is not str or not ref.required):
        raise _wrong(ref, "a Key is a required text: write Key[str], with no default")


def _check_pattern(ref: FieldRef) -> None:
    pattern = ref.options.pattern
    if pattern is None:
        return
    try:
        re.compile(pattern)
    except re.error as error:
        raise _wrong(
            ref, f"pattern {pattern!r} is no regular expression: {error}"
        ) from error
    if _may_explode(pattern):
        raise _wrong(
            ref,
            f"pattern {pattern!r} repeats a group that itself repeats or chooses, or "
            "refers back, which can take exponential time: write it flat",
        )


def _may_explode(pattern: str) -> bool:
    """Tell whether a repeated group holds a repeat or a choice, or one refers back."""
    tokens = re.findall(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\(\?P=|.", pattern, re.DOTALL)
    groups = [False]
    for place, token in enumerate(tokens):
        if token == "(?P=" or re.fullmatch(r"\\[1-9]", token):
            return True
        if token == "(":
            groups.append(False)
        elif token == ")" and len(groups) > 1:
            repeats = groups.pop()
            after = tokens[place + 1 : place + 2]
            if repeats and after and after[0] in "*+{":
                return True
            groups[-1] = groups[-1] or repeats
        elif token in "*+{|" or (token == "?" and tokens[place - 1 : place] != ["("]):
            groups[-1] = True
    return False


def _compile(ref: FieldRef) -> Check:
    """Return the check of a value that is not null; it returns the canonical value."""
    if ref.choices is not None:
        return _compile_choices(ref, ref.choices)
    if ref.type is float:
        return _compile_float(ref)
    if ref.type is int:
        return _compile_int(ref)
    if ref.type is str:
        return _compile_text(ref)
    return _compile_bool(ref)


def _expected(ref: FieldRef) -> dict[Reason, str]:
    noun = _NOUNS[ref.type]
    found = {Reason.MISSING: noun, Reason.WRONG_TYPE: noun}
    if ref.choices is not None:
        found[Reason.NOT_ALLOWED] = "one of " + ", ".join(map(repr, ref.choices[:10]))
    elif ref.type is str:
        found[Reason.TOO_LONG] = f"at most {ref.most} characters"
        found[Reason.PATTERN_MISMATCH] = f"text like {ref.options.pattern}"
    elif ref.type is not bool:
        found[Reason.OUT_OF_RANGE] = _bounds(ref)[1]
        found[Reason.INTEGER_OUT_OF_RANGE] = "at most 2^53"
        found[Reason.NOT_A_NUMBER] = "a finite number"
    return found


def _note(ref: FieldRef) -> Callable[[list[Violation], Reason, Any], None]:
    """Return what notes that a value breaks a rule of the field."""
    where, expected = f"data.{ref.name}", ref.expected

    def note(found: list[Violation], reason: Reason, value: Any) -> None:
        found.append(violation(where, reason, expected[reason], value))

    return note


def _compile_choices(ref: FieldRef, choices: tuple[Any, ...]) -> Check:
    note, kind, allowed = _note(ref), ref.type, frozenset(choices)

    def check(value: Any, found: list[Violation]) -> Any:
        if type(value) is not kind:
            note(found, Reason.WRONG_TYPE, value)
        elif value not in allowed:
            note(found, Reason.NOT_ALLOWED, value)
        return value

    return check


def _bounds(ref: FieldRef) -> tuple[Callable[[Bound], bool], str]:
    options = ref.options
    unit = f" {ref.unit}" if ref.unit else ""
    rules: list[Callable[[Bound], bool]] = []
    words = []
    for bound, rule, word in (
        (options.ge, lambda x, b: x >= b, "at least"),
        (options.gt, lambda x, b: x > b, "more than"),
        (options.le, lambda x, b: x <= b, "at most"),
        (options.lt, lambda x, b: x < b, "less than"),
    ):
        if bound is not None:
            rules.append(lambda x, rule=rule, bound=bound: rule(x, bound))  # type: ignore[misc]
            words.append(f"{word} {bound}{unit}")
    if options.ge is not None and options.le is not None:
        low, high = options.ge, options.le
        return lambda x: low <= x <= high, " and ".join(words)
    return lambda x: all(rule(x) for rule in rules), " and ".join(words)


def _compile_float(ref: FieldRef) -> Check:
    note = _note(ref)
    is_inside, _ = _bounds(ref)

    def check(value: Any, found: list[Violation]) -> Any:
        if type(value) is int:
            if not -EXACT_INTEGER <= value <= EXACT_INTEGER:
                note(found, Reason.INTEGER_OUT_OF_RANGE, value)
                return value
            value = float(value)
        elif type(value) is not float:
            note(found, Reason.WRONG_TYPE, value)
            return value
        if not math.isfinite(value):
            note(found, Reason.NOT_A_NUMBER, value)
        elif not is_inside(value):
            note(found, Reason.OUT_OF_RANGE, value)
        return value + 0.0

    return check


def _compile_int(ref: FieldRef) -> Check:
    note = _note(ref)
    is_inside, _ = _bounds(ref)

    def check(value: Any, found: list[Violation]) -> Any:
        if type(value) is not int:
            note(found, Reason.WRONG_TYPE, value)
        elif not is_inside(value):
            note(found, Reason.OUT_OF_RANGE, value)
        return value

    return check


def _compile_text(ref: FieldRef) -> Check:
    note, most = _note(ref), ref.most
    pattern = ref.options.pattern
    matches = re.compile(pattern).fullmatch if pattern is not None else None

    def check(value: Any, found: list[Violation]) -> Any:
        if type(value) is not str:
            note(found, Reason.WRONG_TYPE, value)
        elif len(value) > most:
            note(found, Reason.TOO_LONG, value)
        elif matches is not None and matches(value) is None:
            note(found, Reason.PATTERN_MISMATCH, value)
        return value

    return check


def _compile_bool(ref: FieldRef) -> Check:
    note = _note(ref)

    def check(value: Any, found: list[Violation]) -> Any:
        if type(value) is not bool:
            note(found, Reason.WRONG_TYPE, value)
        return value

    return check


@dataclass(frozen=True, slots=True, eq=False)
class Contract:
    """Everything an event class promises.

    Attributes
    ----------
    type, version
        Event type, and the version of its schema that `event` declares.
    fields
        In the order of their declaration.
    upcasts
        By version, the function that lifts a payload to the next one.
    keeps_extra
        Whether unknown fields are kept with a tag; else they reject the event.
    """

    event: "type[Event]"
    type: str
    version: int
    fields: tuple[FieldRef, ...]
    key: FieldRef
    upcasts: Mapping[int, Upcast]
    keeps_extra: bool
    plain: PlainPayload | None
    description: str

    @property
    def names(self) -> frozenset[str]:
        """The names of all fields."""
        return frozenset(ref.name for ref in self.fields)

    def schema_name(self, version: int | None = None) -> str:
        """Return what `dataschema` says, such as ``sensor.reading/v1``."""
        return f"{self.type}/v{version or self.version}"

    def versions(self) -> tuple[int, ...]:
        """Return every schema version that can be read, oldest first."""
        return (*sorted(self.upcasts), self.version)

    def upcast(self, data: Payload, version: int) -> Payload:
        """Lift `data` from schema `version` to the current one, step by step.

        Raises
        ------
        UpcastError
            A step is missing, or `version` is newer than this code.
        """
        if version not in self.versions():
            raise UpcastError(
                f"{self.type}/v{version} cannot be lifted to v{self.version}: name "
                "every step in upcasts_from, or deploy the newer code"
            )
        while version < self.version:
            data = self.upcasts[version](data)
            version += 1
        return data

    def check(
        self, data: Payload, found: list[Violation]
    ) -> tuple[dict[str, Any], bool]:
        """Judge a payload of the current version.

        Parameters
        ----------
        found
            Grows by every violation.

        Returns
        -------
        tuple
            The canonical payload, and whether it holds fields nobody declared.

        Examples
        --------
        >>> class Order(Event, type="shop.order", version=1):
        ...     store: Key[str]
        ...     amount: float = field(ge=0, unit="EUR")
        ...     note: str | None = None
        >>> found = []
        >>> Order.contract().check({"store": "a", "amount": 7}, found)
        ({'store': 'a', 'amount': 7.0, 'note': None}, False)
        >>> Order.contract().check({"store": "a", "amount": -7}, found)[1]
        False
        >>> [str(violation) for violation in found]
        ['data.amount: expected at least 0 EUR, got -7.0']
        """
        checked: dict[str, Any] = {}
        known = 0
        for ref in self.fields:
            name = ref.name
            value = data.get(name, ABSENT)
            known += value is not ABSENT
            value = ref.judge(value, found)
            if value is not ABSENT:
                checked[name] = value
        if known == len(data):
            return checked, False
        names = self.names
        extra = {name: value for name, value in data.items() if name not in names}
        if not self.keeps_extra:
            for name, value in list(extra.items())[:20]:
                found.append(
                    violation(f"data.{name}", Reason.EXTRA_FIELD, self.only(), value)
                )
        return checked | extra, True

    def only(self) -> str:
        """Return what a reject says of a field that nobody declared."""
        return "only " + ", ".join(ref.name for ref in self.fields)

    def json_schema(self) -> dict[str, Any]:
        """Return the contract as JSON Schema 2020-12.

        Examples
        --------
        >>> class Order(Event, type="shop.order", version=1):
        ...     store: Key[str] = field(pattern="[a-z]+")
        >>> Order.contract().json_schema()["properties"]["store"]["pattern"]
        '^(?:[a-z]+)$'
        """
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$id": self.schema_name(),
            "title": self.event.__name__,
            "description": self.description,
            "type": "object",
            "properties": {ref.name: _property(ref) for ref in self.fields},
            "required": [ref.name for ref in self.fields if ref.required],
            "additionalProperties": self.keeps_extra,
            "x-key": self.key.name,
        }


def _missing(ref: FieldRef, got: str) -> Violation:
    expected = ref.expected[Reason.MISSING]
    return Violation(f"data.{ref.name}", Reason.MISSING, expected, got)


def _property(ref: FieldRef) -> dict[str, Any]:
    options = ref.options
    kind = _JSON_TYPES[ref.type]
    found: dict[str, Any] = {"type": [kind, "null"] if ref.nullable else kind}
    if options.description:
        found["description"] = options.description
    if ref.choices is not None:
        found["enum"] = [*ref.choices, None] if ref.nullable else [*ref.choices]
    for name, word in (
        ("ge", "minimum"),
        ("gt", "exclusiveMinimum"),
        ("le", "maximum"),
        ("lt", "exclusiveMaximum"),
    ):
        if getattr(options, name) is not None:
            found[word] = getattr(options, name)
    if options.pattern is not None:
        found["pattern"] = f"^(?:{options.pattern})$"
    if ref.type is str and ref.choices is None:
        found["maxLength"] = ref.most
    if not ref.required:
        found["default"] = ref.default
    if ref.unit is not None:
        found["x-unit"] = ref.unit
    return found


class Event:
    """A fact with a contract; subclass it once for each event type.

    Class arguments
    ---------------
    type, version
        Event type in dotted lower case, and schema version, 1 or more.
    upcasts_from
        By older version, the pure function that lifts its payload to the next.
    extra
        ``"reject"`` turns unknown fields away, ``"tag"`` keeps them with a tag.
    plain
        How to read a producer that cannot send CloudEvents.

    Examples
    --------
    >>> class Order(Event, type="shop.order", version=2,
    ...             upcasts_from={1: lambda old: {**old, "amount": old["cents"] / 100}},
    ...             extra="tag"):
    ...     store: Key[str]
    ...     amount: float
    >>> Order.contract().versions()
    (1, 2)
    """

    __contract: ClassVar[Contract | None] = None

    def __init_subclass__(
        cls,
        *,
        type: str,  # noqa: A002 - the attribute's name in CloudEvents
        version: int,
        upcasts_from: Mapping[int, Upcast] | None = None,
        extra: Literal["reject", "tag"] = "reject",
        plain: PlainPayload | None = None,
    ) -> None:
        super().__init_subclass__()
        name = cls.__name__
        if cls.__bases__ != (Event,):
            raise ContractDefinitionError(
                f"{name}: subclass Event itself, and nothing else"
            )
        if not _TYPE.fullmatch(type) or len(type) > _TYPE_LENGTH:
            raise ContractDefinitionError(
                f"{name}: expected a type like 'sensor.reading', got {type!r}"
            )
        if isinstance(version, bool) or not isinstance(version, int) or version < 1:
            raise ContractDefinitionError(
                f"{name}: expected version >= 1, got {version!r}"
            )
        upcasts = dict(upcasts_from or {})
        if sorted(upcasts) != list(range(version - len(upcasts), version)) or (
            min(upcasts, default=1) < 1
        ):
            raise ContractDefinitionError(
                f"{name}: upcasts_from must lift each version to the next, up to "
                f"{version} without a gap; it has {sorted(upcasts)}"
            )
        if extra not in ("reject", "tag"):
            raise ContractDefinitionError(
                f"{name}: expected extra='reject' or 'tag', got {extra!r}"
            )
        fields = _read_fields(cls)
        keys = [ref for ref in fields if ref.is_key]
        if len(keys) != 1:
            raise ContractDefinitionError(
                f"{name}: expected exactly one Key field, got "
                f"{[ref.name for ref in keys]}: annotate the field that names the "
                "entity as Key[str]"
            )
        for ref in fields:
            setattr(cls, ref.name, ref)
        cls.__contract = Contract(
            event=cls,
            type=type,
            version=version,
            fields=fields,
            key=keys[0],
            upcasts=upcasts,
            keeps_extra=extra == "tag",
            plain=plain,
            description=(cls.__doc__ or "").strip().split("\n\n")[0].replace("\n", " "),
        )

    @classmethod
    def contract(cls) -> Contract:
        """Return what the class promises."""
        if cls.__contract is None:
            raise ContractDefinitionError("Event itself promises nothing: subclass it")
        return cls.__contract


def _read_fields(cls: type[Event]) -> tuple[FieldRef, ...]:
    try:
        hints = get_type_hints(cls, include_extras=True)
    except NameError as error:
        raise ContractDefinitionError(
            f"{cls.__name__}: an annotation cannot be read ({error}): define its type "
            "at the top of the module"
        ) from error
    fields = []
    for name, hint in hints.items():
        if get_origin(hint) is ClassVar:
            continue
        if not _NAME.fullmatch(name) or hasattr(Event, name):
            raise ContractDefinitionError(
                f"{cls.__name__}.{name}: a field needs another name, of letters, "
                "digits and underscores, that Event does not use itself"
            )
        given = cls.__dict__.get(name, ABSENT)
        options = given if isinstance(given, Options) else Options(default=given)
        fields.append(FieldRef(cls, name, hint, options))
    undeclared = [
        name for name, value in vars(cls).items()
        if isinstance(value, Options) and name not in hints
    ]  # fmt: skip
    if undeclared:
        raise ContractDefinitionError(
            f"{cls.__name__}.{undeclared[0]}: a field needs a type: write "
            f"{undeclared[0]}: float = field(...)"
        )
    return tuple(fields)


def example(event: type[Event]) -> dict[str, Any]:
    """Return a CloudEvent that keeps the contract of `event`.

    Raises
    ------
    ContractDefinitionError
        No value can be derived for a field: name one with ``example=``.
    """
    contract = event.contract()
    data = {ref.name: _example_value(ref) for ref in contract.fields}
    return {
        "specversion": "1.0",
        "id": "example-1",
        "source": "urn:retrodict:example",
        "type": contract.type,
        "subject": data[contract.key.name],
        "time": "2026-01-05T10:00:00.000000Z",
        "dataschema": contract.schema_name(),
        "data": data,
    }


def _example_value(ref: FieldRef) -> Any:
    options = ref.options
    candidates: list[Any] = [options.example] if options.example is not None else []
    if not candidates:
        low = next((b for b in (options.ge, options.gt) if b is not None), None)
        high = next((b for b in (options.le, options.lt) if b is not None), None)
        middle = {
            (False, False): 1,
            (True, False): (low or 0) + 1,
            (False, True): (high or 0) - 1,
            (True, True): ((low or 0) + (high or 0)) / 2,
        }[low is not None, high is not None]
        candidates = [
            *(ref.choices or ()),
            *((middle,) if ref.type is float else (int(middle), int(middle) + 1)),
            True,
            *_EXAMPLES,
        ]
    for candidate in candidates:
        wrong: list[Violation] = []
        value = ref.check(candidate, wrong)
        if not wrong:
            return value
    if ref.nullable:
        return None
    raise _wrong(
        ref, "no example value can be derived: name one with field(example=...)"
    )


def published(event: type[Event]) -> dict[str, str]:
    """Return the files of ``events/`` for `event`: its schema and an example.

    Returns
    -------
    dict
        Text by path below ``events/``.

    Examples
    --------
    >>> class Order(Event, type="shop.order", version=1):
    ...     store: Key[str]
    >>> sorted(published(Order))
    ['shop.order/v1.json', 'shop.order/v1.schema.json']
    """
    contract = event.contract()
    return {
        f"{contract.schema_name()}.schema.json": _document(contract.json_schema()),
        f"{contract.schema_name()}.json": _document(example(event)),
    }


def _document(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
