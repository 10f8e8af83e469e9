"""Training sets for a notebook: rows of keys and times joined with what was known.

A row (key, t, p) has the features of the events of its key that were applied at or
before position p and happened at or before t. Nothing after t or after p can change
it. Built twice from the same log, a set has the same bytes and the same digest.
"""

import hashlib
import json
import warnings
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from retrodict import bulk
from retrodict.arrow_events import Cut, KnownEvents, arrived_by, known_in, rows_of
from retrodict.buckets import passes
from retrodict.envelope import StampedEvent
from retrodict.errors import TrainingRowsError
from retrodict.features import FeatureSet
from retrodict.ports import ColumnLog, EventLog, Reading
from retrodict.stamps import duration_us
from retrodict.state import order_of_knowing
from retrodict.system_events import LabelGiven

METADATA: Final = b"retrodict.training_set"
"""Key of a set's manifest in the metadata of its Arrow schema."""

_MICROSECONDS: Final = pa.timestamp("us", "UTC")
_MOMENTS: Final = ("time", "known_at")
_FORMS: Final = ("arrow", "pandas", "polars")
TRAIN, VALIDATION, TEST = "train", "validation", "test"


@dataclass(frozen=True, slots=True)
class Split:
    """A split by time, with a gap between the parts.

    Rows up to `train_until_us` train; those after it and up to `validation_until_us`
    validate; later ones test. A row within the embargo after a boundary belongs to no
    part: its windows or its label reach over the boundary.

    Attributes
    ----------
    embargo
        Duration, such as ``1d``.

    Examples
    --------
    >>> split = Split(100, 200_000_000, embargo="1m")
    >>> [split.part(t) for t in (100, 60_000_100, 60_000_101, 300_000_000)]
    ['train', None, 'validation', 'test']
    """

    train_until_us: int
    validation_until_us: int
    embargo: str = "0s"

    def __post_init__(self) -> None:
        if self.validation_until_us < self.train_until_us:
            raise TrainingRowsError(
                f"validation ends at {self.validation_until_us}, before training does "
                f"at {self.train_until_us}"
            )

    @property
    def embargo_us(self) -> int:
        """Length of the gap, microseconds."""
        return 0 if self.embargo == "0s" else duration_us(self.embargo)

    def part(self, time_us: int) -> str | None:
        """Return the part that a row at `time_us` belongs to; None within a gap."""
        parts = (
            (VALIDATION, self.train_until_us), (TEST, self.validation_until_us)
        )  # fmt: skip
        found: str | None = TRAIN
        for name, begin_us in parts:
            if time_us > begin_us:
                found = name if time_us > begin_us + self.embargo_us else None
        return found


def training_set(  # noqa: PLR0913 - one argument a choice
    events: ColumnLog | EventLog | Iterable[StampedEvent],
    rows: Any,
    *,
    features: FeatureSet | Sequence[FeatureSet],
    corrected: bool = False,
    until_us: int | None = None,
    split: Split | None = None,
    to: str = "arrow",
) -> Any:
    """Join rows with features as they were known; see `retrodict.training_set`.

    What a row knows is, by its columns: with ``position``, the events at or before it;
    with ``known_at``, the events of its key that had arrived by then; else what had
    arrived by ``time``. With `corrected`, every event of the log range.

    The features of several sets are called ``<set>.<feature>``. Arrow tables carry
    their manifest, see `manifest_of`.

    Raises
    ------
    TrainingRowsError
        The rows cannot be read, or a name is used twice.
    """
    sets = [features] if isinstance(features, FeatureSet) else list(features)
    if to not in _FORMS:
        raise TrainingRowsError(f"to={to!r}: expected one of {', '.join(_FORMS)}")
    table = _arrow(rows)
    asked = _Rows(_checked(table), corrected=corrected)
    if isinstance(events, ColumnLog):
        joined, cut = _join_columns(events, asked, sets, until_us)
    else:
        known = _known(events, sets, until_us)
        joined = [asked.join(definition, known) for definition in sets]
        cut = _cut_of(known)
    columns: dict[str, pa.Array] = {}
    for definition, features_of in zip(sets, joined, strict=True):
        prefix = f"{definition.name}." if len(sets) > 1 else ""
        for name, values in features_of.items():
            columns[prefix + name] = pa.array(values, from_pandas=True)
    if split is not None:
        columns["split"] = pa.array([split.part(t) for t in asked.time_us], pa.string())
    for name, column in columns.items():
        if name in table.column_names:
            raise TrainingRowsError(
                f"the rows have a column {name!r}, which the set would add: rename it"
            )
        table = table.append_column(name, column)
    manifest = {
        "definitions": {d.name: d.digest for d in sets},
        "as": "corrected" if corrected else "served",
        "until_us": until_us,
        "events": cut.events,
        "first_position": cut.first_position,
        "last_position": cut.last_position,
        "rows": table.num_rows,
        "content": content_digest(table),
    }
    text = json.dumps(manifest, sort_keys=True)
    manifest["training_set"] = f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
    table = table.replace_schema_metadata(
        {METADATA: json.dumps(manifest, sort_keys=True)}
    )
    return _as(table, to)


def manifest_of(table: Any) -> dict[str, Any]:
    """Return what a set says of itself: its digest, definitions, cut and content.

    Parameters
    ----------
    table
        What `training_set` returned as Arrow or pandas.

    Raises
    ------
    TrainingRowsError
        It is no such table; a Polars frame carries no manifest.
    """
    found: Any = None
    if isinstance(table, pa.Table):
        found = (table.schema.metadata or {}).get(METADATA)
    else:
        found = getattr(table, "attrs", {}).get(METADATA.decode())
    if found is None:
        raise TrainingRowsError(
            "no manifest: take the Arrow table or the pandas frame that "
            "training_set() returned"
        )
    manifest: dict[str, Any] = json.loads(found)
    return manifest


def labels(
    events: EventLog | Iterable[StampedEvent], *, until_us: int | None = None
) -> pa.Table:
    """Return the labels of the log that say their time, as rows for `training_set`.

    A label that arrives late is a label of its time all the same: the row has the
    features of then. Of several labels for one key and time the one known last counts.

    Parameters
    ----------
    until_us
        Only labels observed by then, microseconds.

    Returns
    -------
    pyarrow.Table
        Columns key, time, label, and labelled_at, by key and time, shape (n,).
    """
    wanted = LabelGiven.contract().type
    if not isinstance(events, Iterable):
        events = events.read([wanted])
    known = order_of_knowing([e for e in events if e.type == wanted])
    latest: dict[tuple[str, int], StampedEvent] = {}
    for event in known:
        at_us = event.data["at_us"]
        if at_us is not None and (until_us is None or event.observed_at_us <= until_us):
            latest[event.key, at_us] = event
    found = sorted(latest.items())
    return pa.table(
        {
            "key": pa.array([key for (key, _), _ in found], pa.string()),
            "time": pa.array([at for (_, at), _ in found], _MICROSECONDS),
            "label": pa.array([e.data["is_anomaly"] for _, e in found], pa.bool_()),
            "labelled_at": pa.array(
                [e.observed_at_us for _, e in found], _MICROSECONDS
            ),
        }
    )


def content_digest(table: pa.Table) -> str:
    """Return a digest over every name, type and value of a table.

    Examples
    --------
    >>> one, other = pa.table({"a": [1.5, None]}), pa.table({"a": [1.5, 0.0]})
    >>> content_digest(one) == content_digest(other)
    False
    """
    digest = hashlib.sha256()
    for name, column in zip(table.column_names, table.columns, strict=True):
        head = f"{len(name)} {name} {column.type} {len(column)}\n"
        digest.update(head.encode())
        for part in _raw(column):
            digest.update(part)
    return f"sha256:{digest.hexdigest()}"


def _raw(column: pa.ChunkedArray) -> Iterator[Any]:
    """Yield bytes that tell a column from any other of its type and length."""
    kind = column.type
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    is_time = pa.types.is_timestamp(kind)
    is_number = pa.types.is_floating(kind) or pa.types.is_integer(kind)
    if not (is_text or is_time or is_number or pa.types.is_boolean(kind)):
        yield json.dumps(column.to_pylist(), default=str).encode()
        return
    yield np.packbits(column.is_valid().to_numpy()).tobytes()
    if is_text:
        texts = pc.fill_null(column, "")
        yield pc.binary_length(texts).to_numpy().astype(np.int64).tobytes()
        for text in pc.cast(texts, pa.large_string()).chunks:
            _, at, raw = text.buffers()
            ends = np.frombuffer(at, np.int64)[text.offset :][: len(text) + 1]
            yield memoryview(raw or b"")[ends[0] : ends[-1]]
        return
    if is_time:
        column = pc.cast(column, pa.int64())
    elif pa.types.is_boolean(kind):
        column = pc.cast(column, pa.uint8())
    yield pc.fill_null(column, 0).to_numpy().tobytes()


def _known(
    events: EventLog | Iterable[StampedEvent],
    sets: Sequence[FeatureSet],
    until_us: int | None,
) -> list[StampedEvent]:
    types = {definition.event.contract().type for definition in sets}
    if not isinstance(events, Iterable):
        events = events.read(sorted(types))
    return order_of_knowing(
        [
            event
            for event in events
            if event.type in types
            and (until_us is None or event.observed_at_us <= until_us)
        ]
    )


def _join_columns(
    log: ColumnLog,
    asked: "_Rows",
    sets: Sequence[FeatureSet],
    until_us: int | None,
) -> tuple[list[dict[str, bulk.Doubles]], Cut]:
    """Return the features of every row by set, and what was looked at.

    As many parts of the keys are read at once as memory allows.
    """
    joined = [_Joined(asked, definition) for definition in sets]
    cut = Cut()
    by_type: dict[str, list[_Joined]] = {}
    for one in joined:
        by_type.setdefault(one.definition.event.contract().type, []).append(one)
    for event_type, several in by_type.items():
        for buckets in passes(log.size_bytes(event_type)):

            def read(
                reading: Reading, event_type: str = event_type, own: range = buckets
            ) -> Iterator[pa.Table]:
                return arrived_by(
                    log.tables(event_type, reading, buckets=own), until_us
                )

            known = known_in(
                [one.definition for one in several],
                read,
                keys=asked.numbers,
                positions=asked.needs_positions,
                arrivals=asked.needs_arrivals or until_us is not None,
            )
            cut += known[0].cut
            for one in several:
                one.add(known.pop(0))
    return [one.finish() for one in joined], cut


def _cut_of(known: Sequence[StampedEvent]) -> Cut:
    """Return the cut of events in the order of their positions."""
    if not known:
        return Cut()
    return Cut(len(known), known[0].position, known[-1].position)


class _Rows:
    """The rows asked for, by key, and how much of the log each of them knows."""

    def __init__(self, table: pa.Table, *, corrected: bool) -> None:
        self._table = table
        self._corrected = corrected
        names = table.column_names
        self._position = table["position"].to_pylist() if "position" in names else None
        self._known = "known_at" if "known_at" in names else "time"

    @cached_property
    def time_us(self) -> list[int]:
        """Event time of each row."""
        times: list[int] = self._table["time"].to_pylist()
        return times

    @cached_property
    def _known_at(self) -> list[int]:
        known: list[int] = self._table[self._known].to_pylist()
        return known

    @cached_property
    def _places(self) -> dict[str, list[int]]:
        """The rows of each key."""
        found: dict[str, list[int]] = {}
        for place, key in enumerate(self._table["key"].to_pylist()):
            found.setdefault(key, []).append(place)
        return found

    @property
    def count(self) -> int:
        """How many rows there are."""
        return len(self._table)

    @property
    def needs_positions(self) -> bool:
        """Whether positions of the log are compared with those of the rows."""
        return self._position is not None and not self._corrected

    @property
    def needs_arrivals(self) -> bool:
        """Whether times of arrival are compared with those of the rows."""
        return self._position is None and not self._corrected

    @cached_property
    def _codes(self) -> tuple[NDArray[np.int32], list[str]]:
        """The number of each row's key, and the keys by number."""
        keys = self._table["key"].combine_chunks().dictionary_encode()
        return keys.indices.to_numpy(), keys.dictionary.to_pylist()

    @cached_property
    def numbers(self) -> dict[str, int]:
        """The number of each key."""
        return {name: n for n, name in enumerate(self._codes[1])}

    @cached_property
    def _by_number(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The rows in order of their numbers, and where those of each begin."""
        codes, names = self._codes
        is_small = len(names) <= np.iinfo(np.uint16).max  # such are sorted by counting
        kind = np.uint16 if is_small else np.int32
        order = np.argsort(codes.astype(kind), kind="stable")
        counts = np.bincount(codes, minlength=len(names))
        return order, np.append(0, np.cumsum(counts))

    def of(
        self, numbers: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the rows of some keys, and where those of each begin and end."""
        order, starts = self._by_number
        rows = order[rows_of(starts[numbers], starts[numbers + 1])]
        counts = starts[numbers + 1] - starts[numbers]
        return rows, np.append(0, np.cumsum(counts)).astype(np.int64)

    @cached_property
    def _times(self) -> NDArray[np.int64]:
        return _contiguous(self._table["time"])

    @cached_property
    def _known_times(self) -> NDArray[np.int64]:
        return _contiguous(self._table[self._known])

    def times_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the event time of some rows."""
        return self._times[rows]

    def counts_of(
        self, known: KnownEvents, rows: NDArray[np.int64], start: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Return how many of its key's events each row knows."""
        if self._corrected:
            return np.repeat(np.diff(known.columns.key_start), np.diff(start))
        counts = np.zeros(len(rows), np.int64)
        for key in range(len(start) - 1):
            span = slice(*start[key : key + 2].tolist())
            counts[span] = self._counted(known, key, rows[span])
        return counts

    def _counted(
        self, known: KnownEvents, key: int, rows: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Return how many of a key's events each of some of its rows knows."""
        first, end = known.columns.key_start[key : key + 2].tolist()
        if self._position is not None and known.position is not None:
            stamps = known.position.slice(first, end - first).to_pylist()
            found = [bisect_right(stamps, self._position[row]) for row in rows.tolist()]
            return np.array(found, np.int64)
        observed_at_us: Any = known.observed_at_us
        arrived = np.maximum.accumulate(observed_at_us[first:end])
        known_at = self._known_times[rows]
        count: NDArray[np.int64] = np.searchsorted(arrived, known_at, side="right")
        return count

    def join(
        self, definition: FeatureSet, known: Sequence[StampedEvent]
    ) -> dict[str, bulk.Doubles]:
        """Return the features of every row by name, NaN for null, shape (n,)."""
        wanted = definition.event.contract().type
        by_key: dict[str, list[StampedEvent]] = {key: [] for key in self._places}
        for event in known:
            if event.type == wanted and event.key in by_key:
                by_key[event.key].append(event)
        order: list[int] = []
        counts: list[int] = []
        for key, events in by_key.items():
            own = sorted(zip(self._counts(key, events), self._places[key], strict=True))
            counts += [count for count, _ in own]
            order += [place for _, place in own]
        lengths = [len(self._places[key]) for key in by_key]
        asked = bulk.Asked(
            start=np.cumsum([0, *lengths], dtype=np.int64),
            time_us=np.array([self.time_us[place] for place in order], np.int64),
            known=np.array(counts, np.int64),
        )
        columns = bulk.EventColumns.of(definition, by_key)
        found = bulk.fold(definition, columns, asked=asked).asked
        back = np.argsort(np.array(order, np.int64))
        return {name: values[back] for name, values in found.items()}

    def _counts(self, key: str, events: Sequence[StampedEvent]) -> list[int]:
        """Return how many of the key's events each of its rows knows."""
        places = self._places[key]
        if self._corrected:
            return [len(events)] * len(places)
        if self._position is not None:
            stamps: list[Any] = [event.position for event in events]
            return [bisect_right(stamps, self._position[place]) for place in places]
        # A row knows the longest run of positions that had all arrived.
        stamps = list(accumulate((e.observed_at_us for e in events), max))
        return [bisect_right(stamps, self._known_at[place]) for place in places]


class _Joined:
    """The features of the rows by one definition, while they are found."""

    def __init__(self, rows: _Rows, definition: FeatureSet) -> None:
        self.definition = definition
        self._rows = rows
        self._is_left = np.ones(len(rows.numbers), np.bool_)
        self._found: dict[str, bulk.Doubles] = {}

    def add(self, known: KnownEvents) -> None:
        """Find those of the rows of some keys, each key once."""
        keys = known.columns.keys
        numbers = np.array([self._rows.numbers[key] for key in keys], np.int64)
        self._is_left[numbers] = False
        rows, start = self._rows.of(numbers)
        counts = self._rows.counts_of(known, rows, start)
        own = np.repeat(np.arange(len(keys)), np.diff(start))
        if np.any((counts[1:] < counts[:-1]) & (own[1:] == own[:-1])):
            by_count = np.lexsort((counts, own))
            rows, counts = rows[by_count], counts[by_count]
        self._fold(known.columns, rows, start, counts)

    def finish(self) -> dict[str, bulk.Doubles]:
        """Return them by name, NaN for null, shape (n,); keys may have no events."""
        rows, start = self._rows.of(np.flatnonzero(self._is_left))
        columns = bulk.EventColumns.of(self.definition, {"": ()})
        no_event = np.zeros(len(rows), np.int64)
        self._fold(columns, rows, start[[0, -1]], no_event)
        return self._found

    def _fold(
        self,
        columns: bulk.EventColumns,
        rows: NDArray[np.int64],
        start: NDArray[np.int64],
        counts: NDArray[np.int64],
    ) -> None:
        asked = bulk.Asked(start, self._rows.times_of(rows), counts)
        found = bulk.fold(self.definition, columns, asked=asked).asked
        for name, values in found.items():
            if name not in self._found:
                self._found[name] = np.empty(self._rows.count)
            self._found[name][rows] = values


def _contiguous(moments: pa.ChunkedArray) -> NDArray[np.int64]:
    found: NDArray[np.int64] = moments.to_numpy()
    return found


def _checked(table: pa.Table) -> pa.Table:
    """Return rows with their moments as whole microseconds."""
    for name in ("key", "time"):
        if name not in table.column_names:
            raise TrainingRowsError(
                f"the rows have no column {name!r}; they have {table.column_names}"
            )
    if {"position", "known_at"} <= set(table.column_names):
        raise TrainingRowsError(
            "the rows have both 'position' and 'known_at': leave one of them out"
        )
    for name in {"key", "position"} & set(table.column_names):
        table = _set(table, name, _texts(table[name], name))
    for name in _MOMENTS:
        if name in table.column_names:
            table = _set(table, name, _moments(table[name], name))
    for name in {"key", "position", *_MOMENTS} & set(table.column_names):
        if table[name].null_count:
            place = table[name].is_null().to_pylist().index(True)
            raise TrainingRowsError(f"row {place} has no {name!r}")
    return table


def _arrow(rows: Any) -> pa.Table:
    if isinstance(rows, pa.Table):
        return rows
    if hasattr(rows, "to_arrow"):
        table: pa.Table = rows.to_arrow()
        return table
    try:
        if isinstance(rows, Sequence) and all(isinstance(r, Mapping) for r in rows):
            return pa.Table.from_pylist(list(rows))
        with warnings.catch_warnings():
            # Arrow reads columns of times in a way that pandas is about to change.
            warnings.filterwarnings("ignore", message="Series.values returning")
            return pa.Table.from_pandas(rows, preserve_index=False)
    except (pa.ArrowInvalid, pa.ArrowTypeError, AttributeError, TypeError) as error:
        raise TrainingRowsError(
            f"cannot read rows from {type(rows).__name__}: {error}; give an Arrow "
            "table, a pandas or Polars frame, or a list of mappings"
        ) from error


def _set(table: pa.Table, name: str, column: pa.ChunkedArray) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, column)


def _texts(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    is_text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    if not (is_text or str(column.type) == "string_view"):
        raise TrainingRowsError(f"column {name!r} holds {column.type}: expected texts")
    return column.cast(pa.string())


def _moments(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    if pa.types.is_integer(column.type):
        return column.cast(pa.int64())
    if not pa.types.is_timestamp(column.type) or column.type.tz is None:
        raise TrainingRowsError(
            f"column {name!r} holds {column.type}: expected times with a time zone, or "
            "whole microseconds since the epoch"
        )
    try:
        return column.cast(_MICROSECONDS).cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise TrainingRowsError(f"column {name!r}: {error}") from error


def _as(table: pa.Table, form: str) -> Any:
    if form == "pandas":
        frame = table.to_pandas()
        frame.attrs[METADATA.decode()] = table.schema.metadata[METADATA].decode()
        return frame
    if form == "polars":
        try:
            import polars as pl  # noqa: PLC0415 - only for who has it
        except ImportError as error:
            raise TrainingRowsError(
                "to='polars' needs the package polars: pip install polars"
            ) from error
        return pl.from_arrow(table)
    return table
