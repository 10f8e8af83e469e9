"""A contract is said once, and an impossible one is refused in a sentence."""

from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any, Literal, Optional

import pytest
from retrodict.contracts import (
    Event,
    FieldRef,
    Key,
    PlainPayload,
    example,
    field,
    published,
)
from retrodict.errors import ContractDefinitionError
from retrodict.expressions import Expression
from retrodict.reasons import Violation


class Colour(StrEnum):
    """A closed set of words."""

    RED = "red"
    BLUE = "blue"


class Everything(
    Event, type="test.everything", version=3, upcasts_from={1: dict, 2: dict}
):
    """One field of each kind."""

    key: Key[str] = field(pattern=r"[a-z]+-\d+", example="ab-12")
    plain: str
    short: str = field(max_length=3)
    whole: int = field(gt=0, lt=10)
    real: float = field(ge=-1.5, description="Half open.", lt=1.5)
    flag: bool
    colour: Colour
    side: Literal["left", "right"]
    level: int = field(enum=(1, 2, 3))
    nothing: int | None
    old_style: Optional[float] = None  # noqa: UP045 - both spellings are read
    defaulted: int = 7


GOOD: dict[str, Any] = {
    "key": "a-1",
    "plain": "x",
    "short": "abc",
    "whole": 9,
    "real": 1,
    "flag": True,
    "colour": "red",
    "side": "left",
    "level": 3,
}


def codes(**changes: Any) -> list[tuple[str, str]]:
    found: list[Violation] = []
    Everything.contract().check({**GOOD, **changes}, found)
    return [(violation.field, violation.reason.value) for violation in found]


def test_a_good_payload_is_returned_canonically_with_its_defaults() -> None:
    found: list[Violation] = []

    checked, has_extra = Everything.contract().check(GOOD, found)

    assert found == []
    assert not has_extra
    assert checked == {
        **GOOD, "real": 1.0, "nothing": None, "old_style": None, "defaulted": 7,
    }  # fmt: skip
    assert type(checked["real"]) is float
    assert type(checked["colour"]) is str


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("key", "A-1", "pattern_mismatch"),
        ("key", "a-1\n", "pattern_mismatch"),
        ("key", "a" * 300 + "-1", "too_long"),
        ("plain", 1, "wrong_type"),
        ("plain", "x" * 1_025, "too_long"),
        ("short", "abcd", "too_long"),
        ("whole", 0, "out_of_range"),
        ("whole", 10, "out_of_range"),
        ("whole", True, "wrong_type"),
        ("whole", 1.0, "wrong_type"),
        ("real", 1.5, "out_of_range"),
        ("real", -1.6, "out_of_range"),
        ("real", "1", "wrong_type"),
        ("real", False, "wrong_type"),
        ("real", 2**53 + 1, "integer_out_of_range"),
        ("flag", 1, "wrong_type"),
        ("flag", "true", "wrong_type"),
        ("colour", "green", "not_allowed"),
        ("colour", 1, "wrong_type"),
        ("side", "LEFT", "not_allowed"),
        ("level", 4, "not_allowed"),
        ("level", True, "wrong_type"),
        ("defaulted", None, "missing"),
        ("other", 1, "extra_field"),
    ],
)
def test_a_broken_field_is_named_with_its_code(
    name: str, value: Any, code: str
) -> None:
    assert codes(**{name: value}) == [(f"data.{name}", code)]


@pytest.mark.parametrize(
    ("name", "value"), [("real", -1.5), ("whole", 1), ("nothing", None)]
)
def test_what_is_just_inside_a_bound_is_good(name: str, value: Any) -> None:
    assert codes(**{name: value}) == []


def test_a_field_is_an_operand_that_knows_its_event() -> None:
    ref: Any = Everything.real

    assert isinstance(ref, Expression)
    assert isinstance(ref, FieldRef)
    assert (ref.event, ref.name, ref.type, ref.unit) == (
        Everything,
        "real",
        float,
        None,
    )
    assert ref.describe() == "test.everything.real"


def test_a_contract_says_what_it_reads() -> None:
    contract = Everything.contract()

    assert (contract.type, contract.version, contract.versions()) == (
        "test.everything", 3, (1, 2, 3),
    )  # fmt: skip
    assert contract.key.name == "key"
    assert [ref.name for ref in contract.fields if not ref.required] == [
        "nothing", "old_style", "defaulted",
    ]  # fmt: skip


def test_upcasters_lift_one_version_at_a_time() -> None:
    def to_2(data: Any) -> dict[str, Any]:
        return {"k": data["name"], "path": "1"}

    def to_3(data: Any) -> dict[str, Any]:
        return {"k": data["k"], "path": data["path"] + "2"}

    class Lifted(Event, type="test.lifted", version=3, upcasts_from={1: to_2, 2: to_3}):
        k: Key[str]
        path: str

    contract = Lifted.contract()

    assert contract.upcast({"name": "a"}, 1) == {"k": "a", "path": "12"}
    assert contract.upcast({"k": "a", "path": "x"}, 2) == {"k": "a", "path": "x2"}
    assert contract.upcast({"k": "a"}, 3) == {"k": "a"}


def test_the_schema_says_what_the_checks_do() -> None:
    schema = Everything.contract().json_schema()
    properties = schema["properties"]

    assert schema["$id"] == "test.everything/v3"
    assert schema["required"] == list(GOOD)
    assert schema["additionalProperties"] is False
    assert properties["whole"] == {
        "type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 10,
    }  # fmt: skip
    assert properties["nothing"] == {"type": ["integer", "null"], "default": None}
    assert properties["colour"] == {"type": "string", "enum": ["red", "blue"]}
    assert properties["short"] == {"type": "string", "maxLength": 3}


def test_the_published_example_keeps_the_contract() -> None:
    found: list[Violation] = []
    data = example(Everything)["data"]

    checked, _ = Everything.contract().check(data, found)

    assert found == []
    assert checked == data
    assert set(published(Everything)) == {
        "test.everything/v3.json", "test.everything/v3.schema.json",
    }  # fmt: skip


def no_key() -> None:
    class Wrong(Event, type="test.wrong", version=1):
        value: float


def two_keys() -> None:
    class Wrong(Event, type="test.wrong", version=1):
        a: Key[str]
        b: Key[str]


def number_key() -> None:
    class Wrong(Event, type="test.wrong", version=1):
        a: Key[int]


def optional_key() -> None:
    class Wrong(Event, type="test.wrong", version=1):
        a: Key[str] = "x"


def list_field() -> None:
    class Wrong(Event, type="test.wrong", version=1):
        a: Key[str]
        b: list[str]


def two_types() -> None:
    class Wrong(Event, type="test.wrong", version=1):
        a: Key[str]
        b: int | str


def mixed_literal() -> None:
    class Wrong(Event, type="test.wrong", version=1):
        a: Key[str]
        b: Literal["x", 1]


def bounds_on_text() -> None:
    class Wrong(Event, type="test.wrong", version=1):
        a: Key[str] = field(ge=1)


def pattern_on_number() -> None:
    class Wrong(Event, type="test.wrong", version=1):
        a: Key[str]
        b: int = field(pattern="x")


def both_bounds() -> None:
    class Wrong(Event, type="test.wrong", version=1):
        a: Key[str]
        b: int = field(ge=1, gt=1)


def empty_range() -> None:
    class Wrong(Event, type="test.wrong", version=1):
        a: Key[str]
        b: float = field(ge=2, le=1)


def infinite_bound() -> None:
    class Wrong(Event, type="test.wrong", version=1):
        a: Key[str]
        b: float = field(le=float("inf"))


def no_regular_expression() -> None:
    class Wrong(Event, type="test.wrong", version=1):
        a: Key[str] = field(pattern="[a-")


def default_out_of_range() -> None:
    class Wrong(Event, type="test.wrong", version=1):
        a: Key[str]
        b: int = field(default=5, le=4)


def enum_of_other_type() -> None:
    class Wrong(Event, type="test.wrong", version=1):
        a: Key[str]
        b: int = field(enum=("x",))


def no_length() -> None:
    class Wrong(Event, type="test.wrong", version=1):
        a: Key[str] = field(max_length=0)


def bad_type() -> None:
    class Wrong(Event, type="Not A Type", version=1):
        a: Key[str]


def version_zero() -> None:
    class Wrong(Event, type="test.wrong", version=0):
        a: Key[str]


def gap_in_upcasts() -> None:
    class Wrong(Event, type="test.wrong", version=3, upcasts_from={1: dict}):
        a: Key[str]


def unknown_mode() -> None:
    class Wrong(Event, type="test.wrong", version=1, extra="drop"):  # type: ignore[arg-type]
        a: Key[str]


def taken_name() -> None:
    class Wrong(Event, type="test.wrong", version=1):
        a: Key[str]
        contract: str  # type: ignore[assignment]


def no_annotation() -> None:
    class Wrong(Event, type="test.wrong", version=1):
        a: Key[str]
        b = field(ge=1)


def grandchild() -> None:
    class Parent(Event, type="test.parent", version=1):
        a: Key[str]

    class Wrong(Parent, type="test.wrong", version=1):
        b: int


@pytest.mark.parametrize(
    ("define", "sentence"),
    [
        (no_key, "exactly one Key field"),
        (two_keys, "exactly one Key field"),
        (number_key, "a Key is a required text"),
        (optional_key, "a Key is a required text"),
        (list_field, r"Wrong\.b: expected str, int, float, bool"),
        (two_types, "give each meaning a field of its own"),
        (mixed_literal, "a Literal of one type"),
        (bounds_on_text, "ge= is for numbers"),
        (pattern_on_number, "are for text"),
        (both_bounds, "not both"),
        (empty_range, "no number is between 2 and 1"),
        (infinite_bound, "a finite number for le="),
        (no_regular_expression, "no regular expression"),
        (default_out_of_range, "its default breaks its own rule"),
        (enum_of_other_type, "expected enum values of int"),
        (no_length, "max_length >= 1"),
        (bad_type, "a type like 'sensor.reading'"),
        (version_zero, "version >= 1"),
        (gap_in_upcasts, "without a gap"),
        (unknown_mode, "extra='reject' or 'tag'"),
        (taken_name, r"Wrong\.contract: a field needs another name"),
        (no_annotation, "a field needs a type"),
        (grandchild, "subclass Event itself"),
    ],
)
def test_an_impossible_contract_is_refused_in_a_sentence(
    define: Callable[[], None], sentence: str
) -> None:
    with pytest.raises(ContractDefinitionError, match=sentence):
        define()


@pytest.mark.parametrize(
    "pattern",
    [
        r"(a+)+",
        r"(a|aa)+",
        r"(?:a*)*",
        r"([a-z]+\d*)*x",
        r"(a)\1",
        r"(a?){9}",
        r"((ab)+c)*",
    ],
)
def test_a_pattern_that_may_take_exponential_time_is_refused(pattern: str) -> None:
    with pytest.raises(ContractDefinitionError, match="exponential"):

        class Wrong(Event, type="test.wrong", version=1):
            a: Key[str] = field(pattern=pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        r"[a-z0-9-]{1,64}",
        r"(?:ab)+",
        r"a+b*",
        r"(?:x|y)z",
        r"[(+]+",
        r"\(\+\)*",
        r"(?P<n>a)b",
    ],
)
def test_a_flat_pattern_is_taken(pattern: str) -> None:
    class Right(Event, type="test.right", version=1):
        a: Key[str] = field(pattern=pattern)

    assert Right.contract().key.options.pattern == pattern


def test_event_itself_promises_nothing() -> None:
    with pytest.raises(ContractDefinitionError, match="subclass it"):
        Event.contract()


def test_an_example_that_cannot_be_derived_is_asked_for() -> None:
    class Odd(Event, type="test.odd", version=1):
        a: Key[str] = field(pattern="[xyz]{9}")

    with pytest.raises(ContractDefinitionError, match=r"field\(example=\.\.\.\)"):
        example(Odd)


def test_other_annotations_do_not_make_a_key() -> None:
    class Noted(Event, type="test.noted", version=1):
        a: Key[str]
        b: Annotated[int, "a remark"]

    assert [ref.is_key for ref in Noted.contract().fields] == [True, False]


def test_a_plain_payload_is_part_of_the_contract() -> None:
    plain = PlainPayload(id="no", key="a", time="at", source="urn:old")

    class Old(Event, type="test.old", version=1, plain=plain):
        a: Key[str]

    assert Old.contract().plain == plain
