"""What the fast lane accepts is, by bytes, what the plain validator accepts."""

import json
import re
from datetime import date
from fractions import Fraction
from random import Random
from typing import Any, Literal

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from retrodict import validation
from retrodict.contracts import Event, Key, field
from retrodict.fast_lane import Refused, Step, Unsure, steps_of
from retrodict.ports import KeyedBatch
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


def wordy() -> Any:
    return field(default=None, enum=[f"{n}".zfill(100) for n in range(10)])


class Wordy(Event, type="laws.wordy", version=1):
    """Rejects that are far longer than what was sent."""

    name: Key[str]
    a: str | None = wordy()
    b: str | None = wordy()
    c: str | None = wordy()
    d: str | None = wordy()


class Kept(Event, type="laws.kept", version=1, extra="tag"):
    """A contract that takes fields that nobody declared, and a key of few."""

    name: Key[Literal["s-1", "s-2"]]
    big: int | None = field(default=None, ge=-(2**53), le=2**53)
    above: float | None = field(default=None, gt=0.1, unit="m/s")
    short: str | None = field(default=None, pattern="[a-z' ]*", max_length=3)
    hot: bool | None = None


CATALOG = Catalog(
    {
        "laws.free": Free,
        "laws.other": Other,
        "laws.strict": Strict,
        "laws.wordy": Wordy,
        "laws.kept": Kept,
    },
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
        (said("")[:-9], Refused),
        (said(',"x":"')[:-2], Refused),
        (b'{"id":"1', Refused),
        (said(',"share":2'), Refused),
        (said(',"share":"2","x":null'), Refused),
        (said("").replace(b'"id"', b'"Id"'), Refused),
        (said("").replace(b'"id"', b'"ID":true,"x"'), Refused),
        (said("").replace(b'"source"', b'"x"'), Refused),
        (said("").replace(b'"specversion"', b'"x"'), Refused),
        (said("").replace(b'"time"', b'"x"'), Refused),
        (said(',"share":2').replace(b'"id"', b'"x"'), Refused),
        (said(',"y":"')[:-2].replace(b'"id"', b'"x"'), Refused),
        (said("", x=1), Unsure),
        (said("", Id="1"), Unsure),
        (said(',"share":2', Id="1"), Unsure),
        (said("", **STRICT), Refused),
        (said(',"value":null,"x":1', **STRICT), Refused),
        (said(',"x":1', **STRICT).replace(b'"id"', b'"y"'), Refused),
        (said("", x=1, X=2), Unsure),
        (said(',"share":2', x="1"), Refused),
        (said(',"share":2', x=["1"]), Unsure),
        (said(',"share":2', __x="1"), Unsure),
        (said("", observedat="never").replace(b'"time"', b'"x"'), Unsure),
        (said("").replace(b'"subject"', b'"x"'), Unsure),
        (said(',"share":2').replace(b'"name":"s-1"', b'"name":"s-2"'), Refused),
        (said("").replace(b'"name":"s-1"', b'"name":null'), Refused),
        (said("").replace(b'"name":"s-1"', b'"x":1.5'), Refused),
        (said("").replace(b'"name":"s-1"', b'"name":"s-1\\u00e9"'), Unsure),
        (said("".join(f',"x{n}":{n}' for n in range(16))), Refused),
        (said("".join(f',"x{n}":{n}' for n in range(17))), Unsure),
        (said("", subject="s-1 "), Unsure),
        (said(',"value":"\'a"'), Refused),
        (said(',"value":9007199254740993'), Unsure),
        (said(',"count":1.5,"share":17'), Refused),
        (said(',"count":99999999999999999'), Refused),
        (said(',"count":1.00000000000000001'), Unsure),
        (said("", time="2026-01-05T12:00:00"), Refused),
        (said("", time="2026-01-05T12:00:00.123"), Refused),
        (said("", time="2026-01-05T12:00:00."), Unsure),
        (said("", time="2026-01-05T12:00:00.1234567890123456789"), Unsure),
        (said("", time="2026-01-05T12:00:00", observedat="never"), Unsure),
        (said("", time="2026-01-05T12:00:00+01:00"), Unsure),
        (said("", time="2026-01-05T13:00:00Z", importid="i"), Refused),
        (said(',"share":2', id="1", causationid="1"), Unsure),
        (said(',"share":2', specversion="2.0"), Unsure),
        (said(',"share":2', dataschema="laws.free/v6"), Unsure),
        (said(',"x":1,"X":2'), Unsure),
        (said(',"__x":1'), Unsure),
        (said(',"x":{}'), Unsure),
        (said(',"x":1e400'), Unsure),
        (said(',"share":-0.0'), Unsure),
        (said(',"x":"\\'), Unsure),
        (said(',"share":2', subject="s-2"), Refused),
        (said(',"share":2', time="2026-01-05T13:00:00Z"), Refused),
        (said(',"share":2', id=""), Unsure),
        (said(',"share":2')[:-1], Unsure),
    ],
)
def test_what_is_certain_of_a_record_is_said_and_true(
    raw: bytes, known: type[Refused | Unsure]
) -> None:
    columns = lane.batch_of([(raw, Arrival(place(1), "s-1", NOON_US))])
    (read,) = CATALOG.fast_lane.read(columns)

    assert isinstance(read, known)
    check(raw)


@pytest.mark.parametrize("data", [',"angle":-1', ',"mode":"off"', ',"hot":null'])
def test_what_was_expected_is_told_to_its_last_quote(data: str) -> None:
    class Quoted(Event, type="laws.quoted", version=1):
        name: Key[str]
        angle: float | None = field(default=None, ge=0, unit="''")
        mode: str = field(default="", enum=("on", ""))
        hot: bool = False

    raw = said(data, type="laws.quoted", dataschema="laws.quoted/v1")
    given = [(raw, Arrival(place(1), "s-1", NOON_US))]
    catalog = Catalog({"laws.quoted": Quoted})
    verdicts = [validation.validate(raw, arrival, catalog) for raw, arrival in given]
    (read,) = catalog.fast_lane.read(lane.batch_of(given))

    assert isinstance(read, Refused)
    assert lane.disagreement(given, verdicts, catalog) is None


def test_rejects_too_long_for_their_room_are_judged_as_before() -> None:
    raw = said(
        ',"a":1,"b":"","c":"","d":""', type="laws.wordy", dataschema="laws.wordy/v1"
    )
    given = [(raw, Arrival(place(n), "s-1", NOON_US)) for n in range(40)]
    catalog = Catalog(CATALOG.contracts)
    refused, unsure = catalog.fast_lane.read(lane.batch_of(given))
    verdicts = [validation.validate(raw, arrival, catalog) for raw, arrival in given]

    assert isinstance(refused, Refused)
    assert isinstance(unsure, Unsure)
    assert len(refused.lines) + len(unsure.unknown) == 40
    assert lane.disagreement(given, verdicts, catalog) is None


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


@pytest.mark.parametrize("place_of", [0, 7, 8, 55, 56])
def test_a_place_that_is_no_number_is_looked_at_as_before(place_of: int) -> None:
    event = lane.lambda_event([(said(""), Arrival(place(1), "s-1", NOON_US))])
    (record,) = event["Records"]
    kinesis = record["kinesis"]
    for character in "/:;?@ap\x7f \u00e90":
        kinesis["sequenceNumber"] = f"{'1' * place_of}{character}{'1' * 55}"[:56]
        (read,) = CATALOG.fast_lane.read(DeliveredBatch(event))

        is_number = kinesis["sequenceNumber"].isdigit()
        assert isinstance(read, KeyedBatch if is_number else Unsure)


def test_what_is_no_base64_in_one_spelling_is_looked_at_as_before() -> None:
    raw = said("")
    event = lane.lambda_event([(raw, Arrival(place(1), "s-1", NOON_US))])
    (record,) = event["Records"]
    text = record["kinesis"]["data"]
    for spelled in (text, f"{text}\n", f"{text}*", f"{text[:4]}\n{text[4:]}"):
        record["kinesis"]["data"] = spelled
        judged = validation.validate_batch(DeliveredBatch(event), CATALOG)
        assert (judged.accepted, len(judged.rejected)) == (1, 0)


scalars = (
    st.integers(-(2**60), 2**60).map(str)
    | finite.map(repr)
    | st.from_regex(r"-?(0|[1-9][0-9]{0,16})(\.[0-9]{1,6})?", fullmatch=True)
    | st.text(PRINTABLE, max_size=6).map(json.dumps)
    | st.text(st.sampled_from("'a ~"), min_size=190, max_size=205).map(json.dumps)
    | st.sampled_from(["true", "false", "null", '"s-1"', '"s-2"', '"on"', "-0", "-0.0"])
)
ENVELOPE = {
    "specversion": '"1.0"', "id": '"1"', "source": '"urn:l"', "subject": '"s-1"',
    "time": '"2026-01-05T12:00:00Z"',
}  # fmt: skip
whens = st.sampled_from(
    [f"2026-01-05T{clock}{end}" for end in ("Z", "", ".5Z", ".5", "+01:00", ".", "z")
     for clock in ("12:00:00", "12:05:00", "12:06:01", "24:00:00", "13:00:00")]
).map(json.dumps)  # fmt: skip
fields = st.sampled_from(
    ["name", "value", "count", "share", "code", "mode", "note", "hot", "big", "above",
     "short", "x", "y", "a'b"]
)  # fmt: skip


@st.composite
def flawed(draw: st.DrawFn) -> bytes:
    """Return a record that is in order but for a little."""
    kind = draw(st.sampled_from(["free/v7", "free/v7", "strict/v1", "kept/v1"]))
    data = {"name": '"s-1"'} | draw(st.dictionaries(fields, scalars, max_size=4))
    if draw(st.integers(0, 9)) == 0:
        del data["name"]
    envelope = ENVELOPE | draw(
        st.dictionaries(
            st.sampled_from(["x", "Id", "id", "source"]), scalars, max_size=1
        )
        | st.fixed_dictionaries({"time": whens})
        | st.fixed_dictionaries({"time": whens, "importid": st.just('"i"')})
        | st.fixed_dictionaries(
            {"time": whens, "importid": st.just('"i"'), "observedat": whens}
        )
        | st.fixed_dictionaries(
            {"subject": st.sampled_from(['"s-2"', '"s\'2"', '"a b"'])}
        )
    )
    for name in draw(st.sets(st.sampled_from(list(ENVELOPE)), max_size=1)):
        if draw(st.booleans()):
            del envelope[name]
    envelope |= {
        "type": json.dumps(f"laws.{kind.partition('/')[0]}"),
        "dataschema": json.dumps(f"laws.{kind}"),
        "data": _object(data),
    }
    text = _object(envelope)
    cut = draw(st.sampled_from([0, 0, 0, 0, 0, 0, 0, 1])) * draw(st.integers(0, 99))
    return f"{draw(st.sampled_from(['', ' ']))}{text[: len(text) - cut]}".encode()


def _object(members: dict[str, str]) -> str:
    inner = ",".join(f"{json.dumps(name)}:{value}" for name, value in members.items())
    return f"{{{inner}}}"


@given(
    st.lists(flawed(), min_size=1, max_size=20),
    st.sampled_from(
        ["s-1", "s-1", "s-1", "s-2", "s'1", 's"1', "s\\1", "s\n1", "é", "~" * 70]
    ),
)
@settings(max_examples=300)
def test_a_reject_is_the_same_document_by_bytes(raws: list[bytes], key: str) -> None:
    check(*raws, key=key)


@pytest.mark.parametrize("key", ["s'1", "'", "a" * 63 + "'", "a" * 64 + "'", "x" * 256])
def test_two_keys_are_told_apart_as_python_shows_them(key: str) -> None:
    inner = said("").replace(b'"name":"s-1"', f'"name":{json.dumps(key)}'.encode())
    subject = said("", subject=key)
    for record, partition in ((inner, "s-1"), (subject, "s-1"), (subject, "s-2")):
        columns = lane.batch_of([(record, Arrival(place(1), partition, NOON_US))])
        (read,) = CATALOG.fast_lane.read(columns)

        assert isinstance(read, Refused)
        check(record, key=partition)


@given(st.text(st.sampled_from("a'\" {}:,\n\t\r"), max_size=100), st.integers(0, 3))
def test_the_end_of_a_cut_record_is_shown_as_python_shows_it(
    text: str, gaps: int
) -> None:
    whole = said(f',"x":{json.dumps(text)}')
    white = " \n\t\r" * gaps
    quoteless = text.replace('"', "'").replace("\n", "").replace("\t", "")
    ends = [f'{white}{{"id":{white}"{quoteless}'.encode().replace(b"\r", b"")]
    for raw in (*ends, whole[:-3], whole[: len(whole) // 2]):
        check(raw)
        check(raw, key="s\n1")


@pytest.mark.parametrize("us", [300_500_000, 301_500_000, 301_499_999, 302_500_001])
def test_half_seconds_of_the_future_are_told_as_python_rounds_them(us: int) -> None:
    raw = said("", time=to_text(NOON_US + us))
    (read,) = CATALOG.fast_lane.read(
        lane.batch_of([(raw, Arrival(place(1), "s-1", NOON_US))])
    )

    assert isinstance(read, Refused)
    check(raw)


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
