"""JSON that two readers could read differently is refused, with every reason."""

import json

import pytest
from retrodict.reasons import Reason, Tag, Violation
from retrodict.strict_json import (
    MAX_ITEMS,
    MAX_KEYS,
    MAX_NAME,
    MAX_VALUES,
    MAX_VIOLATIONS,
    Parsed,
    parse,
)


def codes(raw: bytes) -> list[str]:
    found = parse(raw)
    assert isinstance(found, tuple), found
    return [violation.reason.value for violation in found]


def value(raw: bytes) -> object:
    parsed = parse(raw)
    assert isinstance(parsed, Parsed), parsed
    return parsed.value


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        '{"a": [1, 2.5, true, false, null, "x"], "b": {"c": -1e-3}}',
        ' \t\r\n{"a": "\\u00e9\\n\\"\\\\"}\n',
        '{"": ""}',
        '{"a": 9007199254740993, "b": 123456789012345678}',
        '{"emoji": "\\ud83d\\ude00"}',
        '{"A": 1, "b": {"a": 2}}',
        '{"\\n__": 1, "a\\n$": {"\\npy/": 2}}',
    ],
)
def test_good_json_is_what_the_standard_library_says(text: str) -> None:
    assert value(text.encode()) == json.loads(text)


def test_numbers_keep_their_kind() -> None:
    parsed = value(b'{"int": 1, "float": 1.0, "bool": true}')

    assert isinstance(parsed, dict)
    assert [type(item) for item in parsed.values()] == [int, float, bool]


@pytest.mark.parametrize(
    "text",
    [
        "{'a': 1}",
        '{"a": 1,}',
        '{"a": [1,]}',
        '{"a": 01}',
        '{"a": .5}',
        '{"a": 1.}',
        '{"a": +1}',
        '{"a": 0x1}',
        '{"a": True}',
        '{"a" 1}',
        "{a: 1}",
        '{"a": "tab\there"}',
        '{"a": "\\x41"}',
        '{"a": 1 // no comments\n}',
        "hello",
        "\u00a0{}",
    ],
)
def test_what_only_looks_like_json_is_refused(text: str) -> None:
    assert codes(text.encode()) == ["invalid_json"]


def test_every_trouble_of_a_document_is_named() -> None:
    raw = b'{"a": NaN, "b": 1e999, "c": 1, "c": 2, "D": 1, "d": 99999999999999999999} x'

    assert codes(raw) == [
        "not_a_number",
        "number_overflow",
        "integer_out_of_range",
        "duplicate_key",
        "ambiguous_key",
        "trailing_data",
    ]


def test_a_document_that_is_wrong_everywhere_has_a_bounded_list_of_reasons() -> None:
    raw = json.dumps({"a": [float("nan")] * 1_000}).encode()

    assert len(codes(raw)) == MAX_VIOLATIONS


def test_the_violation_names_the_key() -> None:
    (found,) = parse(b'{"data": {"value": 1, "value": 2}}')  # type: ignore[misc]

    assert found == Violation("value", Reason.DUPLICATE_KEY, "each key once", "'value'")


def test_limits_are_inclusive() -> None:
    keys = {f"k{n}": 0 for n in range(MAX_KEYS)}
    items = [0] * MAX_ITEMS

    assert value(json.dumps({"keys": keys, "items": items}).encode())
    assert codes(json.dumps({**keys, "one": 1}).encode()) == ["too_many_items"]
    assert codes(json.dumps({"items": [*items, 1]}).encode()) == ["too_many_items"]
    assert value(b'{"a":' + b"[" * 31 + b"]" * 31 + b"}")
    assert codes(b'{"a":' + b"[" * 32 + b"]" * 32 + b"}") == ["nesting_too_deep"]


def test_no_array_is_too_long_wherever_it_stands() -> None:
    long = [0] * (MAX_ITEMS + 1)

    assert codes(json.dumps({"a": [[long[1:]], [long]]}).encode()) == ["too_many_items"]


@pytest.mark.parametrize("one", ["[]", "{}", "0", '"x"', "[[],0]"])
def test_a_document_of_too_many_values_is_not_read(one: str) -> None:
    raw = f'{{"a": [{",".join([one] * 50_000)}]}}'.encode()

    assert codes(raw) == ["too_many_items"]


def test_commas_and_brackets_in_texts_are_no_values() -> None:
    text = '[{,"\\' * MAX_VALUES

    assert value(json.dumps({"a": text}).encode()) == {"a": text}


def test_deep_nesting_is_named_so_among_many_values() -> None:
    assert codes(b'{"a":' + b"[" * 100_000 + b"]" * 100_000) == ["nesting_too_deep"]


@pytest.mark.parametrize("letter", ["k", "K", "\u00e9"])
def test_a_key_may_have_so_many_characters(letter: str) -> None:
    name = letter * MAX_NAME

    assert value(json.dumps({name: 1}).encode()) == {name: 1}
    assert codes(json.dumps({name + letter: 1}).encode()) == ["too_long"]


def test_brackets_inside_text_are_no_depth() -> None:
    assert value(json.dumps({"a": "[{" * 100}).encode()) == {"a": "[{" * 100}


@pytest.mark.parametrize("number", [2**63 - 1, -(2**63)])
def test_integers_of_64_bits_are_kept_exactly(number: int) -> None:
    assert value(json.dumps({"a": number}).encode()) == {"a": number}


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 10**19, 10**400])
def test_larger_integers_are_refused(number: int) -> None:
    assert codes(f'{{"a": {number}}}'.encode()) == ["integer_out_of_range"]


def test_an_underflow_is_zero_and_tagged() -> None:
    parsed = parse(b'{"a": -1e-999, "b": 5e-324}')

    assert parsed == Parsed({"a": 0.0, "b": 5e-324}, frozenset({Tag.NUMBER_UNDERFLOW}))


@pytest.mark.parametrize("text", ['{"a":1}', "[1]", '"x"'])
def test_json_in_a_json_text_is_named_so(text: str) -> None:
    expected = "not_an_object" if text == '"x"' else "double_encoded"

    assert codes(json.dumps(text).encode()) == [expected]
