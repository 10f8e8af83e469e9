"""The making of training sets: the log folded in bulk, row by row as served.

What a set is, and what makes it the same set, is in `retrodict.training_sets`. The log
is read as columns, as many parts of the keys at once as memory allows. Events become
objects only where somebody reads them whole: labels, predictions, and the held-out
readings that anomalies are put into.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from retrodict.arrow_events import (
    Cut,
    KnownEvents,
    arrived_by,
    known_events,
    reading_of,
    rows_of,
)
from retrodict.buckets import passes
from retrodict.bulk import Doubles, EventColumns, fold
from retrodict.contracts import Event
from retrodict.envelope import StampedEvent
from retrodict.errors import PipelineDefinitionError, StoreUnavailableError
from retrodict.features import FeatureSet
from retrodict.model import Model
from retrodict.payloads import events_of
from retrodict.pipeline import Pipeline
from retrodict.ports import ColumnLog
from retrodict.stamps import duration_us, to_text
from retrodict.state import order_of_knowing
from retrodict.system_events import LabelGiven, PredictionMade
from retrodict.training_run import SEED
from retrodict.training_sets import (
    ASSUMED,
    INJECTED,
    LABEL,
    JudgedRow,
    Refusal,
    Row,
    TrainingSet,
    gate,
    identity,
    join_labels,
)
from retrodict.upcasting import all_newest

_Places = NDArray[np.int64]


def build_set(
    pipeline: Pipeline, log: ColumnLog, until_us: int
) -> TrainingSet | Refusal:
    """Read the log and build the training set of a run.

    Raises
    ------
    StoreUnavailableError
        The log grew while it was read.
    """

    def read(event: type[Event]) -> Iterator[StampedEvent]:
        name = event.contract().type
        for table in log.tables(name):
            yield from all_newest(events_of(name, table), {name: event})

    labels = [e for e in read(LabelGiven) if e.observed_at_us <= until_us]
    by_prediction = any(e.data["prediction_id"] is not None for e in labels)
    truth, _ = join_labels(
        order_of_knowing(labels), read(PredictionMade) if by_prediction else ()
    )
    return build(pipeline, log, truth, until_us=until_us, seed=SEED)


def build(
    pipeline: Pipeline,
    log: ColumnLog,
    labels: Mapping[tuple[str, int], bool],
    *,
    until_us: int,
    seed: int,
) -> TrainingSet | Refusal:
    """Build the training set of a pipeline's model.

    Parameters
    ----------
    log
        Holds the events that the model's features read, in any order, copies included.
    labels
        Truth by (key, event time in microseconds), see `join_labels`.
    until_us
        Only events observed by then are looked at, microseconds.
    seed
        Of what is injected.

    Raises
    ------
    PipelineDefinitionError
        The pipeline has no model.
    StoreUnavailableError
        The log grew while it was read.
    """
    model = pipeline.model
    if model is None:
        raise PipelineDefinitionError(f"pipeline {pipeline.name!r} has no model")
    readings = _Readings(pipeline.trained_on, log, until_us)
    newest, cut = _newest(readings, max(1, model.held_out_rows))
    if not newest:
        return Refusal("min_rows", f"no event arrived by {to_text(until_us)[:19]}")
    split = _split(newest, model)
    start = split - duration_us(model.fit_window)
    rows, held = _served(readings, model, start, split)
    changed, anomalous = model.inject(order_of_knowing(held.events), seed)
    injected = {(e.key, e.position) for e in changed if identity(e) in anomalous}
    again = _served_again(readings, model, held.cuts, changed, split)
    found = TrainingSet(
        pipeline=pipeline.name,
        definition=pipeline.trained_on.digest,
        features=model.names,
        from_us=start,
        split_us=split,
        until_us=newest[-1],
        last_position=cut.last_position,
        fit=tuple(r for r in rows if r.time_us <= split),
        held_out=tuple(r for r in rows if r.time_us > split),
        judging=tuple(_judged(row, injected, labels) for row in again),
    )
    return gate(found, model) or found


class _Readings:
    """What is known at a time of the events that a definition reads.

    Of a log that is read in one pass the columns are kept; else it is read once more
    whenever it is asked for.
    """

    def __init__(self, definition: FeatureSet, log: ColumnLog, until_us: int) -> None:
        self.definition = definition
        self._log = log
        self._until_us = until_us
        self._type = definition.event.contract().type
        self._passes = passes(log.size_bytes(self._type))
        self._counts: dict[range, int] = {}
        self._kept: KnownEvents | None = None

    def parts(self) -> Iterator[tuple[range, KnownEvents]]:
        """Yield some parts of the keys, and what is known of them.

        Raises
        ------
        StoreUnavailableError
            It is more than when it was read before.
        """
        for buckets in self._passes:
            yield buckets, self._kept or self._known(buckets)

    def _known(self, buckets: range) -> KnownEvents:
        reading = reading_of([self.definition])
        tables = self._log.tables(self._type, reading, buckets=buckets)
        known = known_events(self.definition, arrived_by(tables, self._until_us))
        count = self._counts.setdefault(buckets, known.cut.events)
        _check_count(known.cut.events, count)
        if len(self._passes) == 1:
            self._kept = known
        return known

    def held(
        self, buckets: range, known: KnownEvents, cuts: _Places
    ) -> list[StampedEvent]:
        """Return the events in time from a place of each key on, as the newest version.

        Raises
        ------
        StoreUnavailableError
            There are more than those that are known.
        """
        columns = known.columns
        keys = np.flatnonzero(cuts < columns.key_start[1:])
        if not len(keys):
            return []
        begins = _positions(known, cuts[keys]).cast(pa.string())
        names = pa.array([columns.keys[n] for n in keys.tolist()], pa.string())
        found: list[StampedEvent] = []
        tables = self._log.tables(self._type, buckets=buckets)
        for table in arrived_by(tables, self._until_us):
            key = table["key"].cast(pa.string())
            begin = begins.take(pc.index_in(key, value_set=names).combine_chunks())
            is_after = pc.greater_equal(table["position"], begin)
            wanted = pc.and_(is_after, pc.invert(table["late"]))
            found += events_of(self._type, table.filter(wanted))
        found = order_of_knowing(found)
        _check_count(len(found), int((_is_from(columns, cuts) & ~columns.late).sum()))
        return [*all_newest(found, {self._type: self.definition.event})]


def _check_count(found: int, expected: int) -> None:
    if found != expected:
        raise StoreUnavailableError(
            f"the log grew while it was read, from {expected} events to {found}: build "
            "the set again"
        )


def _newest(readings: _Readings, count: int) -> tuple[list[int], Cut]:
    """Return the newest times of events in time, ascending, and what was looked at."""
    newest, cut = np.empty(0, np.int64), Cut()
    for _, known in readings.parts():
        cut += known.cut
        own = known.columns
        newest = np.concatenate([newest, own.time_us[~own.late]])
        if len(newest) > count:
            newest = np.partition(newest, -count)[-count:]
    return np.sort(newest).tolist(), cut


def _split(newest_us: Sequence[int], model: Model) -> int:
    """Return the time after which events are held out.

    Parameters
    ----------
    newest_us
        As many as are held out at least, or all there are, ascending.
    """
    split = newest_us[-1] - duration_us(model.held_out)
    return min(split, newest_us[0] - 1) if model.held_out_rows else split


@dataclass(frozen=True)
class _Held:
    """What anomalies are put into.

    Attributes
    ----------
    events
        Those in time from the first held-out event of their key on.
    cuts
        How many events of each key were known before that.
    """

    events: list[StampedEvent]
    cuts: dict[str, int]


def _served(
    readings: _Readings, model: Model, start_us: int, split_us: int
) -> tuple[tuple[Row, ...], _Held]:
    """Return the rows of the windows, by key and time, and what is held out."""
    rows: list[Row] = []
    held = _Held([], {})
    for buckets, known in readings.parts():
        columns = known.columns
        firsts, cuts = (_first_at(columns, at) for at in (start_us, split_us))
        rows += _rows(readings.definition, model, known, firsts, start_us)
        held.events.extend(readings.held(buckets, known, cuts))
        counts = (cuts - columns.key_start[:-1]).tolist()
        held.cuts.update(zip(columns.keys, counts, strict=True))
    return _ordered(rows), held


def _served_again(
    readings: _Readings,
    model: Model,
    cuts: Mapping[str, int],
    changed: Sequence[StampedEvent],
    split_us: int,
) -> tuple[Row, ...]:
    """Return the rows of the held-out events as they were changed."""
    by_key: dict[str, list[StampedEvent]] = {key: [] for key in cuts}
    for event in changed:
        by_key[event.key].append(event)
    rows: list[Row] = []
    for _, known in readings.parts():
        own = {key: by_key[key] for key in known.columns.keys}
        before = np.array([cuts[key] for key in own], np.int64)
        after = _spliced(readings.definition, known, before, own)
        firsts = after.columns.key_start[:-1] + before
        rows += _rows(readings.definition, model, after, firsts, split_us)
    return _ordered(rows)


def _judged(
    row: Row,
    injected: Collection[tuple[str, str]],
    labels: Mapping[tuple[str, int], bool],
) -> JudgedRow:
    """Return a row with its truth, which is told by key and position, or by time."""
    if (row.key, row.position) in injected:
        return JudgedRow(row, is_anomaly=True, basis=INJECTED)
    truth = labels.get((row.key, row.time_us))
    if truth is not None:
        return JudgedRow(row, truth, LABEL)
    return JudgedRow(row, is_anomaly=False, basis=ASSUMED)


def _spliced(
    definition: FeatureSet,
    known: KnownEvents,
    before: _Places,
    others: Mapping[str, Sequence[StampedEvent]],
) -> KnownEvents:
    """Return the first events of each key, and behind them others of the same keys.

    Parameters
    ----------
    before
        How many events of each key stay, shape (n_keys,).
    """
    own, behind = known.columns, EventColumns.of(definition, others)
    count = len(own.time_us)
    starts = np.stack([own.key_start[:-1], count + behind.key_start[:-1]], axis=1)
    ends = np.stack([starts[:, 0] + before, count + behind.key_start[1:]], axis=1)
    rows = rows_of(starts.ravel(), ends.ravel())

    def both(one: NDArray[Any], other: NDArray[Any]) -> NDArray[Any]:
        joined: NDArray[Any] = np.concatenate([one, other])[rows]
        return joined

    values = zip(own.values, behind.values, strict=True)
    columns = EventColumns(
        own.keys,
        np.append(0, np.cumsum((ends - starts).sum(axis=1))).astype(np.int64),
        both(own.time_us, behind.time_us),
        both(own.identity, behind.identity),
        both(own.check, behind.check),
        both(own.late, behind.late),
        tuple(both(one, other) for one, other in values),
    )
    stamps = [event.position for events in others.values() for event in events]
    held = _positions(known, np.arange(count))
    position = pa.concat_arrays([held, pa.array(stamps, pa.large_string())])
    return KnownEvents(columns, position.take(pa.array(rows)), None)


def _rows(
    definition: FeatureSet,
    model: Model,
    known: KnownEvents,
    firsts: _Places,
    after_us: int,
) -> Iterator[Row]:
    """Yield the rows after a time of events from a place of each key on."""
    columns = known.columns
    found = fold(definition, columns, wanted=_is_from(columns, firsts))
    kept = np.flatnonzero(found.served & (columns.time_us > after_us))
    keys = np.repeat(np.arange(len(columns.keys)), np.diff(columns.key_start))[kept]
    values = [_nullable(found.features[name][kept]) for name in model.names]
    return map(
        Row,
        [columns.keys[key] for key in keys.tolist()],
        columns.time_us[kept].tolist(),
        _positions(known, kept).to_pylist(),
        zip(*values, strict=True),
    )


def _nullable(values: Doubles) -> list[float | None]:
    found: list[float | None] = values.tolist()
    for place in np.flatnonzero(np.isnan(values)).tolist():
        found[place] = None
    return found


def _ordered(rows: list[Row]) -> tuple[Row, ...]:
    return tuple(sorted(rows, key=lambda r: (r.key, r.time_us, r.position)))


def _positions(known: KnownEvents, places: _Places) -> pa.LargeStringArray:
    if known.position is None:
        raise ValueError("a row tells a position: read the events with theirs")
    return known.position.take(pa.array(places))


def _first_at(columns: EventColumns, after_us: int) -> _Places:
    """Return the first place of each key with a time after `after_us`, or its end."""
    at = np.flatnonzero(columns.time_us > after_us)
    at = np.append(at, len(columns.time_us))
    found: _Places = at[np.searchsorted(at, columns.key_start[:-1])]
    return np.minimum(found, columns.key_start[1:])


def _is_from(columns: EventColumns, firsts: _Places) -> NDArray[np.bool_]:
    """Return which events stand at a place of their key, or behind it."""
    places = np.arange(len(columns.time_us))
    return places >= np.repeat(firsts, np.diff(columns.key_start))
