"""What the fast lane accepts is, by bytes, what the plain validator accepts."""

import json
import re
from datetime import date
from fractions import Fraction
from random import Random
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from retrodict import validation
from retrodict.contracts import Event, Key, field
from retrodict.fast_lane import CUT_OFF, FLAWED, UNSURE, Step, Unsure, steps_of
from retrodict.stamps import to_text
from retrodict.validation import Accepted, Arrival, Catalog
from retrodict_aws.kinesis_batch import DeliveredBatch

from tests import lane
from tests.events import NOON_US, place

PRINTABLE = st.characters(min_codepoint=0x20, max_codepoint=0x7E)


class Free(Event, type="laws.free", version=7):
    """Numbers without bounds, and every other kind with some."""

    name: Key[str]
    value: float | None = None
    count: int | None = field(default=None, ge=-5, lt=1_000)
    share: float | None = field(default=None, gt=0, lt=1)
    code: str | None = field(default=None, pattern=r"[a-z]+-\d{2,4}")
    mode: str = field(default="on", enum=("on", "off", "\u00e9"))
    note: str | None = field(default="\u00e9", max_length=5)
    hot: bool = True


class Other(Event, type="laws.other", version=1):
    """Another type of the same keys."""

    name: Key[str]


class Strict(Event, type="laws.strict", version=1):
    """A field that must be sent."""

    name: Key[str]
    value: float


CATALOG = Catalog(
    {"laws.free": Free, "laws.other": Other, "laws.strict": Strict},
    {"laws.free": 1_000_000},
)
STRICT = {"type": "laws.strict", "dataschema": "laws.strict/v1"}


def said(data: str, **attributes: Any) -> bytes:
    envelope = {
        "specversion": "1.0", "id": "1", "source": "urn:l", "type": "laws.free",
        "subject": "s-1", "time": "2026-01-05T12:00:00Z", "dataschema": "laws.free/v7",
        **attributes,
    }  # fmt: skip
    return f'{json.dumps(envelope)[:-1]},"data":{{"name":"s-1"{data}}}}}'.encode()


def check(*raws: bytes, key: str = "s-1") -> None:
    """Judge records of one key in one batch and one by one."""
    given = [(raw, Arrival(place(n), key, NOON_US)) for n, raw in enumerate(raws)]
    verdicts = [validation.validate(raw, arrival, CATALOG) for raw, arrival in given]
    assert lane.disagreement(given, verdicts, CATALOG) is None


def is_fast(raw: bytes) -> bool:
    return lane.is_fast(raw, Arrival(place(1), "s-1", NOON_US), CATALOG)


finite = st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(finite, min_size=1, max_size=20))
def test_any_double_is_written_as_it_was_read(values: list[float]) -> None:
    check(*[said(f',"value":{value!r}') for value in values])


@given(st.floats(1e-4, 1e15, exclude_max=True), st.booleans())
@example(0.30000000000000004, False)  # noqa: FBT003 - an example
@example(2.0**49, False)  # noqa: FBT003 - an example
@example(70368744177664.38, False)  # noqa: FBT003 - an example
@example(9007199254740.993, True)  # noqa: FBT003 - an example
@settings(max_examples=200)
def test_the_shortest_spelling_of_an_everyday_double_is_read_fast(
    value: float,
    negative: bool,  # noqa: FBT001 - drawn
) -> None:
    spelled = repr(-value if negative else value)
    raw = said(f',"value":{spelled}')

    unit = Fraction(1, 10 ** len(spelled.partition(".")[2]))
    is_tie = 2 * abs(abs(Fraction(spelled)) - Fraction(value)) == unit
    assert is_fast(raw) or is_tie
    check(raw)


def test_many_spellings_of_many_doubles_are_read_alike() -> None:
    random = Random(4)
    for _ in range(40):
        raws = []
        for _ in range(100):
            value = random.uniform(-1, 1) * 10 ** random.uniform(-6, 17)
            digits = random.randrange(22)
            spelled = random.choice((f"{value:.{digits}f}", repr(value)))
            if random.random() < 0.5:
                spelled = f"{value:.{random.randrange(12, 20)}g}"
            raws.append(said(f',"value":{spelled}'))
        check(*raws)


def test_a_double_between_two_of_17_digits_is_not_taken_for_either() -> None:
    random = Random(5)
    raws = []
    for _ in range(1_000):
        value = random.uniform(0.1, 1) * 10 ** random.randrange(-3, 15)
        whole, _, fraction = f"{value:.25f}".partition(".")
        kept = f"{whole}.{fraction[: max(1, 17 - len(whole.lstrip('0')))]}"
        last = int(kept[-1])
        raws += [
            said(f',"value":{kept[:-1]}{digit}')
            for digit in {max(0, last - 1), last, min(9, last + 1)}
        ]
    check(*raws)


decimals = st.from_regex(r"-?(0|[1-9][0-9]{0,3})(\.[0-9]{1,4})?", fullmatch=True)


@given(
    st.lists(st.tuples(st.sampled_from(["value", "count", "share"]), decimals)),
)
def test_bounds_are_those_of_the_contract(drawn: list[tuple[str, str]]) -> None:
    bounds = [("count", "-5"), ("count", "-6"), ("count", "999"), ("count", "1000"),
              ("share", "0"), ("share", "0.0001"), ("share", "1"), ("share", "1.0001"),
              ("share", "-0.5"), ("count", "-0"), ("count", "07"), ("value", "-0.0"),
              ("count", "1.0"), ("value", "1."), ("value", ".5"), ("value", "00.5"),
        ("share", "-0.0"), ("share", "0.0"), ("share", "-0"), ("count", "9" * 19),
    ]  # fmt: skip
    check(*[said(f',"{name}":{value}') for name, value in drawn + bounds])


@given(
    st.dictionaries(
        st.sampled_from(
            ["code", "mode", "note", "name", "hot", "x", "X", "__x", "$x", "py/x"]
        ),
        st.text(PRINTABLE, max_size=7)
        | st.sampled_from(["on", "off", "a-12", "ab-1234", "a-12345", "a-1", "-12"])
        | st.booleans()
        | st.none(),
    )
)
def test_texts_and_booleans_are_those_of_the_contract(data: dict[str, Any]) -> None:
    check(said("".join(f",{json.dumps(k)}:{json.dumps(v)}" for k, v in data.items())))


keys = st.text(PRINTABLE, min_size=1, max_size=30) | st.sampled_from(
    ["soap", "SoAp", "soaps", ".", "..", "a..b", "a.b", "%2e", "a/b", "a=b", " a", "a ",
     "__hive_default_partition__", "a__Hive", "a__b", "s\n1", "\u00e9", "a'b"]
)  # fmt: skip


@given(st.lists(st.tuples(keys, keys | st.none()), min_size=1, max_size=12))
def test_keys_are_as_safe_as_in_the_plain_validator(
    drawn: list[tuple[str, str | None]],
) -> None:
    given = []
    for number, (key, other) in enumerate(drawn):
        raw = said("", subject=key).replace(
            b'"name":"s-1"', f'"name":{json.dumps(key)}'.encode()
        )
        given.append((raw, Arrival(place(number), other or key, NOON_US)))
    verdicts = [validation.validate(raw, arrival, CATALOG) for raw, arrival in given]

    assert lane.disagreement(given, verdicts, CATALOG) is None


@given(st.integers(NOON_US - 3_000_000, NOON_US + 400_000_000), st.integers(0, 6))
@example(NOON_US - 1_000_000, 6)
@example(NOON_US - 1_000_001, 6)
@example(NOON_US + 300_000_000, 6)
@example(NOON_US + 300_000_001, 6)
def test_times_are_stamped_and_judged_to_the_microsecond(
    time_us: int, places: int
) -> None:
    text = to_text(time_us)
    text = f"{text[: 20 + places].rstrip('.')}Z"
    check(
        said("", time=text),
        said("", time=text, importid="i"),
        said("", time=text, importid="i", observedat="2026-01-05T12:00:00.5Z"),
        said("", time="2026-01-05T11:00:00Z", importid="i", observedat=text),
        said("", time=text, observedat=text),
        said("", time=text, importid=None, observedat=None),
    )


@given(st.dates(date(1995, 1, 1), date(2105, 1, 1)))
@example(date(2024, 2, 28))
@example(date(2025, 2, 28))
def test_every_day_is_the_day_of_the_calendar(day: date) -> None:
    check(
        said("", time=f"{day.isoformat()}T23:59:59.999999Z", importid="i"),
        said(
            "",
            time=f"{day.year}-{day.month:02}-{day.day + 1:02}T00:00:00Z",
            importid="i",
        ),
    )


@given(
    st.permutations(
        ['"specversion":"1.0"', '"id":"1"', '"source":"urn:l"', '"type":"laws.free"',
         '"subject":"s-1"', '"time":"2026-01-05T12:00:00Z"',
         '"dataschema":"laws.free/v7"', '"data":{"name":"s-1","value":2.50}']
    ),
    st.lists(st.sampled_from([" ", "\n", "\t", "\r"]), max_size=3).map("".join),
    st.integers(0, 200),
)  # fmt: skip
def test_attributes_come_in_any_order_and_are_cut_anywhere(
    members: list[str], gap: str, cut: int
) -> None:
    text = f"{gap}{{{gap}{f'{gap},{gap}'.join(members)}{gap}}}{gap}"
    text = text.replace('":', f'"{gap}:{gap}')

    assert is_fast(text.encode())
    check(text.encode(), text[:-cut].encode(), text[cut:].encode())


@pytest.mark.parametrize(
    ("raw", "known"),
    [
        (said("")[:-9], CUT_OFF),
        (said(',"x":"')[:-2], CUT_OFF),
        (b'{"id":"1', CUT_OFF),
        (said(',"share":2'), FLAWED),
        (said(',"share":"2","x":null'), FLAWED),
        (said("").replace(b'"id"', b'"Id"'), FLAWED),
        (said("").replace(b'"id"', b'"ID":true,"x"'), FLAWED),
        (said("").replace(b'"source"', b'"x"'), FLAWED),
        (said("").replace(b'"specversion"', b'"x"'), FLAWED),
        (said("").replace(b'"time"', b'"x"'), FLAWED),
        (said(',"share":2').replace(b'"id"', b'"x"'), FLAWED),
        (said(',"y":"')[:-2].replace(b'"id"', b'"x"'), CUT_OFF),
        (said("", x=1), UNSURE),
        (said("", Id="1"), UNSURE),
        (said(',"share":2', Id="1"), UNSURE),
        (said("", **STRICT), FLAWED),
        (said(',"value":null,"x":1', **STRICT), FLAWED),
        (said(',"x":1', **STRICT).replace(b'"id"', b'"y"'), FLAWED),
        (said("", x=1, X=2), UNSURE),
        (said(',"share":2', x="1"), FLAWED),
        (said(',"share":2', x=["1"]), UNSURE),
        (said(',"share":2', __x="1"), UNSURE),
        (said("", observedat="never").replace(b'"time"', b'"x"'), UNSURE),
        (said("").replace(b'"subject"', b'"x"'), UNSURE),
        (said(',"share":2').replace(b'"name":"s-1"', b'"name":"s-2"'), UNSURE),
        (said("".join(f',"x{n}":{n}' for n in range(8))), FLAWED),
        (said("".join(f',"x{n}":{n}' for n in range(9))), UNSURE),
        (said(',"x":1,"X":2'), UNSURE),
        (said(',"__x":1'), UNSURE),
        (said(',"x":{}'), UNSURE),
        (said(',"x":1e400'), UNSURE),
        (said(',"share":-0.0'), UNSURE),
        (said(',"x":"\\'), UNSURE),
        (said(',"share":2', subject="s-2"), UNSURE),
        (said(',"share":2', time="2026-01-05T13:00:00Z"), UNSURE),
        (said(',"share":2', id=""), UNSURE),
        (said(',"share":2')[:-1], UNSURE),
    ],
)
def test_what_is_known_of_a_record_is_said_and_true(raw: bytes, known: int) -> None:
    columns = lane.batch_of([(raw, Arrival(place(1), "s-1", NOON_US))])
    (read,) = CATALOG.fast_lane.read(columns)

    assert isinstance(read, Unsure)
    assert read.unknown == [(0, known)]
    check(raw)


def test_types_of_one_key_go_on_in_their_order() -> None:
    other = said("", type="laws.other", dataschema="laws.other/v1")
    given = [said("", id="a"), other, b"broken", said(',"note":"\\u00e8"', id="b")]
    check(*given)
    check(given[0], other)
    check(given[0], given[2])


@pytest.mark.parametrize("digests", [0, 1])
def test_digests_are_the_same_however_they_are_made(digests: int) -> None:
    def read(has_sha256: int) -> list[str]:
        records = [
            (said(f',"value":{n}.5,"note":"{"x" * (n % 5)}"', id="i" * n),
             Arrival(place(n), "s-1", NOON_US))
            for n in range(1, 60)
        ]  # fmt: skip
        catalog = Catalog(CATALOG.contracts)
        columns = lane.batch_of(records)
        list(catalog.fast_lane.read(columns))
        (room,) = catalog.fast_lane._rooms  # noqa: SLF001 - what the processor has
        room.batch.has_sha256 &= has_sha256
        (batch,) = catalog.fast_lane.read(columns)
        wired: Any = batch
        return [event.digest for event in wired.events]

    expected = [
        verdict.event.digest
        for n in range(1, 60)
        if isinstance(
            verdict := validation.validate(
                said(f',"value":{n}.5,"note":"{"x" * (n % 5)}"', id="i" * n),
                Arrival(place(n), "s-1", NOON_US),
                CATALOG,
            ),
            Accepted,
        )
    ]
    assert len(expected) == 59
    assert read(digests) == expected


def test_what_is_no_base64_in_one_spelling_is_looked_at_as_before() -> None:
    raw = said("")
    event = lane.lambda_event([(raw, Arrival(place(1), "s-1", NOON_US))])
    (record,) = event["Records"]
    text = record["kinesis"]["data"]
    for spelled in (text, f"{text}\n", f"{text}*", f"{text[:4]}\n{text[4:]}"):
        record["kinesis"]["data"] = spelled
        judged = validation.validate_batch(DeliveredBatch(event), CATALOG)
        assert (judged.accepted, judged.rejected) == (1, [])


PIECES = st.sampled_from(
    ["a", "b", "-", "_", "[ab]", "[a-c]", "[0-9]", r"\d", r"\w", r"\.", "[a-z0-9-]",
     "[-a]", "[b-]", "[.]", " ", "x1", "sha256:"]
)  # fmt: skip
TIMES = st.sampled_from(["", "", "?", "*", "+", "{2}", "{1,2}", "{0,1}", "{1,}"])


@given(st.lists(st.tuples(PIECES, TIMES), max_size=5), st.data())
@settings(max_examples=300)
def test_a_pattern_as_steps_matches_what_it_matches(
    parts: list[tuple[str, str]], data: st.DataObject
) -> None:
    pattern = "".join(map("".join, parts))
    steps = steps_of(pattern)
    assume(steps is not None)
    assert steps is not None
    text = data.draw(
        st.from_regex(pattern, fullmatch=True, alphabet=PRINTABLE)
        | st.text(st.sampled_from("abc019-_.x :+,"), max_size=8)
    )

    assert _taken(steps, text) == bool(re.fullmatch(pattern, text))


def _taken(steps: tuple[Step, ...], text: str) -> bool:
    """Match as ``validate.c`` does: every step takes all it can."""
    at = 0
    for step in steps:
        count = 0
        while at < len(text) and count < step.most and text[at] in step.characters:
            at, count = at + 1, count + 1
        if count < step.least:
            return False
    return at == len(text)


@pytest.mark.parametrize(
    "pattern",
    ["a|b", "(ab)", "^a", "a$", "a.b", "a*?", "a++", "[^a]", r"\s", r"\bx", "[a-z]*z",
     "a?a", "[ab]+[bc]", "[a-z]{1,3}x?b", "[]a]", "{2}", "[+--]", "a{,2}", "(?i)a",
     "\u00e9"],
)  # fmt: skip
def test_any_other_pattern_is_no_sequence_of_steps(pattern: str) -> None:
    assert steps_of(pattern) is None
