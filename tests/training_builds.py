"""Training sets made of whole events: what `retrodict.training_build` must equal.

And logs to build them from.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import isnan

import numpy as np
from retrodict.bulk import EventColumns, fold
from retrodict.envelope import StampedEvent
from retrodict.model import Model
from retrodict.pipeline import Pipeline
from retrodict.stamps import duration_us, to_text
from retrodict.state import order_of_knowing
from retrodict.training_build import build
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
)
from retrodict.upcasting import all_newest

from tests.fakes import FakeEventLog


def log_of(
    events: Sequence[StampedEvent], *, segment_events: int = 500, event_bytes: int = 50
) -> FakeEventLog:
    """Return a log of events, in segments as they come.

    Parameters
    ----------
    event_bytes
        What the log says that an event takes: the more, the fewer are read at once.
    """
    log = FakeEventLog()
    log.event_bytes = event_bytes
    for start in range(0, len(events), segment_events):
        several = events[start : start + segment_events]
        name = f"type={several[0].type}/arrived=2026-01-05/{start:05}"
        log.append(name, several)
    return log


def built_of_log(
    pipeline: Pipeline,
    events: Sequence[StampedEvent],
    labels: Mapping[tuple[str, int], bool],
    *,
    until_us: int,
    seed: int,
) -> TrainingSet | Refusal:
    """Build the training set of a log of events."""
    return build(pipeline, log_of(events), labels, until_us=until_us, seed=seed)


def built_of_events(
    pipeline: Pipeline,
    readings: Iterable[StampedEvent],
    labels: Mapping[tuple[str, int], bool],
    *,
    until_us: int,
    seed: int,
) -> TrainingSet | Refusal:
    """Return what `retrodict.training_build.build` does, of events in any order."""
    model = pipeline.model
    assert model is not None
    readings = all_newest(
        readings, {e.contract().type: e for e in [pipeline.trained_on.event]}
    )
    known = [
        e for e in order_of_knowing(list(readings)) if e.observed_at_us <= until_us
    ]
    in_time = [e.time_us for e in known if not e.late]
    if not in_time:
        return Refusal("min_rows", f"no event arrived by {to_text(until_us)[:19]}")
    end = max(in_time)
    split = _split(sorted(in_time), model)
    start = split - duration_us(model.fit_window)
    folds = _Folds(pipeline, model, known, start, split)
    judging = folds.judge(seed, labels)
    found = TrainingSet(
        pipeline=pipeline.name,
        definition=pipeline.trained_on.digest,
        features=model.names,
        from_us=start,
        split_us=split,
        until_us=end,
        last_position=known[-1].position,
        fit=tuple(r for r in folds.rows if r.time_us <= split),
        held_out=tuple(r for r in folds.rows if r.time_us > split),
        judging=judging,
    )
    return gate(found, model) or found


def _split(times_us: Sequence[int], model: Model) -> int:
    """Return the time after which events are held out, of ascending times."""
    split = times_us[-1] - duration_us(model.held_out)
    held = times_us[-model.held_out_rows :] if model.held_out_rows else []
    return min([split, *(time_us - 1 for time_us in held[:1])])


class _Folds:
    """Every key folded twice: as it was, and with anomalies put into the held-out."""

    def __init__(
        self,
        pipeline: Pipeline,
        model: Model,
        known: Sequence[StampedEvent],
        start_us: int,
        split_us: int,
    ) -> None:
        self._model = model
        self._definition = pipeline.trained_on
        self._split_us = split_us
        by_key: dict[str, list[StampedEvent]] = {}
        for event in known:
            by_key.setdefault(event.key, []).append(event)
        self._by_key = dict(sorted(by_key.items()))
        self._cuts: dict[str, int] = {}
        firsts: dict[str, int] = {}
        for key, events in self._by_key.items():
            firsts[key] = _first_at(events, start_us)
            self._cuts[key] = max(firsts[key], _first_at(events, split_us))
        self.rows = self._rows(self._by_key, firsts, start_us)

    def _rows(
        self,
        by_key: Mapping[str, Sequence[StampedEvent]],
        firsts: Mapping[str, int],
        after_us: int,
    ) -> tuple[Row, ...]:
        """Return the rows of the events from the first of each key, by key and time."""
        columns = EventColumns.of(self._definition, by_key)
        places = np.arange(len(columns.time_us))
        starts = columns.key_start[:-1] + [firsts[key] for key in by_key]
        wanted = places >= np.repeat(starts, np.diff(columns.key_start))
        found = fold(self._definition, columns, wanted=wanted)
        kept = np.flatnonzero(found.served & (columns.time_us > after_us))
        features = [found.features[name][kept] for name in self._model.names]
        values = np.stack(features, axis=1).tolist() if features else []
        events = [event for known in by_key.values() for event in known]
        rows = (
            Row(
                events[place].key,
                events[place].time_us,
                events[place].position,
                tuple(None if isnan(v) else v for v in row),
            )
            for place, row in zip(kept.tolist(), values, strict=True)
        )
        return tuple(sorted(rows, key=lambda r: (r.key, r.time_us, r.position)))

    def judge(
        self, seed: int, labels: Mapping[tuple[str, int], bool]
    ) -> tuple[JudgedRow, ...]:
        """Fold the held-out events with known anomalies put into them."""
        held = [
            e for k, events in self._by_key.items() for e in events[self._cuts[k] :]
        ]
        held = [e for e in order_of_knowing(held) if not e.late]
        changed, anomalous = self._model.inject(held, seed)
        by_key: dict[str, list[StampedEvent]] = {}
        for event in changed:
            by_key.setdefault(event.key, []).append(event)
        cuts = {key: self._cuts[key] for key in sorted(by_key)}
        after = {k: self._by_key[k][:cut] + by_key[k] for k, cut in cuts.items()}
        places = {(e.key, e.position) for e in changed if identity(e) in anomalous}
        judged: list[JudgedRow] = []
        for row in self._rows(after, cuts, self._split_us):
            truth = labels.get((row.key, row.time_us))
            if (row.key, row.position) in places:
                judged.append(JudgedRow(row, is_anomaly=True, basis=INJECTED))
            elif truth is not None:
                judged.append(JudgedRow(row, truth, LABEL))
            else:
                judged.append(JudgedRow(row, is_anomaly=False, basis=ASSUMED))
        return tuple(judged)


def _first_at(events: Sequence[StampedEvent], after_us: int) -> int:
    """Return the first place in the order of knowing with a time after `after_us`."""
    return next(
        (place for place, e in enumerate(events) if e.time_us > after_us), len(events)
    )
