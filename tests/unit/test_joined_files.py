"""Files that are joined give the rows of each, and nothing else."""

import random
from collections.abc import Callable
from io import BytesIO

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from retrodict import kernel
from retrodict_aws import joined_files
from retrodict_aws.joined_files import joined


def file_of(rows: list[int], **options: object) -> bytes:
    """Return a file of numbers, their texts, and a list and a struct of them."""
    table = pa.table(
        {
            "number": pa.array(rows, pa.int64()),
            "text": pa.array([str(n) * (n % 40) for n in rows], pa.string()),
            "list": pa.array([[n] * (n % 3) for n in rows], pa.list_(pa.int64())),
            "pair": pa.array(
                [{"one": n / 2, "is_odd": bool(n % 2)} for n in rows],
                pa.struct([("one", pa.float64()), ("is_odd", pa.bool_())]),
            ),
        }
    )
    body = BytesIO()
    pq.write_table(table, body, **options)
    return body.getvalue()


def table_of(file: bytes) -> pa.Table:
    return pq.ParquetFile(BytesIO(file)).read()


def sorted_rows(files: list[bytes]) -> list[dict[str, object]]:
    rows = [row for file in files for row in table_of(file).to_pylist()]
    return sorted(rows, key=str)


@given(
    contents=st.lists(st.lists(st.integers(0, 10**6), max_size=50), max_size=40),
    compression=st.sampled_from(["snappy", "zstd", "none"]),
    group_rows=st.integers(1, 20),
    is_indexed=st.booleans(),
)
def test_joined_files_hold_the_rows_of_each_in_their_order(
    contents: list[list[int]],
    compression: str,
    group_rows: int,
    is_indexed: bool,  # noqa: FBT001 - Hypothesis gives it
) -> None:
    files = [
        file_of(
            rows,
            compression=compression,
            row_group_size=group_rows,
            write_page_index=is_indexed,
        )
        for rows in contents
    ]

    whole = [*joined(files)]

    assert len(whole) == min(1, len(files))
    assert [table_of(file) for file in whole] == (
        [pa.concat_tables(map(table_of, files))] if files else []
    )
    numbers = [n for rows in contents for n in rows]
    assert all(table_of(file)["number"].to_pylist() == numbers for file in whole)


def test_files_that_are_not_alike_are_not_joined() -> None:
    files = [
        file_of([1]),
        file_of([2], store_schema=False),
        file_of([3], use_dictionary=False),
    ]

    assert len([*joined(files)]) == 2
    assert sorted_rows([*joined(files)]) == sorted_rows(files)


def test_large_files_are_given_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    files = [file_of([1]), file_of([*range(1000)]), file_of([2])]
    monkeypatch.setattr(joined_files, "SMALL_BYTES", len(files[1]) - 1)

    whole = [*joined(files)]

    assert whole[0] == files[1]
    assert [table_of(file)["number"].to_pylist() for file in whole[1:]] == [[1, 2]]


def test_what_is_joined_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    files = [file_of([n]) for n in range(10)]
    monkeypatch.setattr(joined_files, "JOINED_BYTES", 1)

    assert sorted_rows([*joined(files)]) == sorted_rows(files)
    assert len([*joined(files)]) == 10


def test_without_the_library_every_file_is_given_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files = [file_of([1]), file_of([2])]
    monkeypatch.setattr(kernel, "library", lambda: None)

    assert [*joined(files)] == files


def _cut(raw: bytearray, dice: random.Random) -> None:
    del raw[dice.randrange(len(raw)) :]


def _flip(raw: bytearray, dice: random.Random) -> None:
    for _ in range(dice.randint(1, 4)):
        raw[dice.randrange(len(raw))] = dice.randrange(256)


def _grow(raw: bytearray, dice: random.Random) -> None:
    at = dice.randrange(len(raw))
    raw[at:at] = bytes([0xFF]) * dice.randint(1, 12)


@pytest.mark.parametrize("damage", [_cut, _flip, _grow])
def test_a_damaged_footer_is_given_to_the_reader_or_copied_within_bounds(
    damage: Callable[[bytearray, random.Random], None],
) -> None:
    dice = random.Random(7)
    sound = file_of([*range(20)])
    size = int.from_bytes(sound[-8:-4], "little")
    body, footer = sound[: -8 - size], sound[-8 - size : -8]
    for _ in range(2_000):
        raw = bytearray(footer)
        damage(raw, dice)
        file = body + bytes(raw) + len(raw).to_bytes(4, "little") + b"PAR1"

        found = [*joined([file])]

        assert len(found) == 1


def parts_of(file: bytes) -> tuple[bytes, bytes]:
    """Return the bytes before the footer, and the footer."""
    size = int.from_bytes(file[-8:-4], "little")
    return file[: -8 - size], file[-8 - size : -8]


def with_footer(body: bytes, footer: bytes) -> bytes:
    return body + footer + len(footer).to_bytes(4, "little") + b"PAR1"


def pages_of(file: bytes, place: int) -> tuple[int, int]:
    """Return where the pages of a column begin, and how many bytes they are."""
    column = pq.ParquetFile(BytesIO(file)).metadata.row_group(0).column(place)
    return column.data_page_offset, column.total_compressed_size


def changed(file: bytes, number: int, to: int) -> bytes:
    """Return a file whose footer has another number in place of one."""
    body, footer = parts_of(file)
    raw = varint(2 * number)
    assert len(raw) > 1, "it would be found elsewhere as well"
    return with_footer(body, footer.replace(raw, varint(2 * to)))


PLAIN: dict[str, object] = {"use_dictionary": False, "compression": "none"}


@pytest.mark.parametrize("place", [1, 2, 3])
def test_an_offset_into_the_file_beside_does_not_give_its_rows(place: int) -> None:
    sound, other = (file_of([*range(n, n + 40)], **PLAIN) for n in (500, 900))
    begin, size = pages_of(sound, place)
    away = len(parts_of(sound)[0])
    stray = changed(sound, begin, begin + away)
    assert pages_of(stray, place) == (begin + away, size)

    found = [*joined([stray, other])]

    assert found == [stray, other]
    with pytest.raises((OSError, pa.ArrowException)):
        table_of(stray)


@pytest.mark.parametrize("past", [0, 1, 2**20])
@pytest.mark.parametrize("place", [1, 2, 3])
def test_pages_end_in_their_own_file(place: int, past: int) -> None:
    sound, other = (file_of([*range(n, n + 40)], **PLAIN) for n in (500, 900))
    begin, size = pages_of(sound, place)
    most = len(parts_of(sound)[0]) - begin
    longer = changed(sound, size, most + past)
    assert pages_of(longer, place) == (begin, most + past)

    assert len([*joined([other, longer, other])]) == (2 if past else 1)


def varint(value: int) -> bytes:
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


@pytest.mark.parametrize("number", [2**15, -(2**15) - 1, 2**63 - 1, -(2**63)])
@pytest.mark.parametrize("is_nested", [False, True])
def test_a_field_of_a_number_that_thrift_has_not_is_not_understood(
    number: int,
    is_nested: bool,  # noqa: FBT001 - a case of two
) -> None:
    sound = file_of([1, 2, 3])
    size = int.from_bytes(sound[-8:-4], "little")
    body, footer = sound[: -8 - size], sound[-8 - size : -8]
    # A byte, then another one whose number is one more.
    strange = b"\x03" + varint(2 * number if number >= 0 else -2 * number - 1) + b"\0"
    strange += b"\x13\0"
    own = b"\x1c" + strange + b"\0" if is_nested else strange
    raw = footer[:-1] + own + b"\0"
    file = body + raw + len(raw).to_bytes(4, "little") + b"PAR1"

    assert [*joined([sound, file])] == [file, sound]
