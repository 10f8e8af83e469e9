"""Training sets: the rows a model was fitted on and judged by, frozen and named.

Every row holds features as served: what was known at the position of its event, never
later. A set is cut at one arrival time; its windows end at the newest in-time event
before the cut. Built twice, it has the same rows, the same bytes and the same digest.
"""

import hashlib
import struct
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from retrodict.envelope import StampedEvent
from retrodict.errors import PipelineDefinitionError
from retrodict.expressions import Number
from retrodict.model import Model
from retrodict.pipeline import Pipeline
from retrodict.stamps import duration_us, to_text
from retrodict.state import Folded, KeyState, Outcome, order_of_knowing

INJECTED: Final = "injected"
LABEL: Final = "label"
ASSUMED: Final = "assumed_normal"

_DOUBLE: Final = struct.Struct("<d")


@dataclass(frozen=True, slots=True)
class Row:
    """Features of one key as served with one event.

    Attributes
    ----------
    values
        In the order of the model's features, shape (n_features,); null where a
        feature has no value.
    """

    key: str
    time_us: int
    position: str
    values: tuple[float | None, ...]

    @property
    def is_complete(self) -> bool:
        """Whether no feature is null, so that a model can read the row."""
        return None not in self.values


@dataclass(frozen=True, slots=True)
class JudgedRow:
    """A row whose truth is known, and from what: `basis`."""

    row: Row
    is_anomaly: bool
    basis: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why no model can be made of these rows."""

    gate: str
    reason: str


@dataclass(frozen=True)
class TrainingSet:
    """Rows to fit on, rows held out after them, and rows to judge by.

    Attributes
    ----------
    from_us, split_us, until_us
        Fit rows lie in ``(from_us, split_us]``, held-out and judging rows in
        ``(split_us, until_us]``, microseconds of event time.
    last_position
        Greatest position that any row could have seen.
    """

    pipeline: str
    definition: str
    features: tuple[str, ...]
    from_us: int
    split_us: int
    until_us: int
    last_position: str
    fit: tuple[Row, ...]
    held_out: tuple[Row, ...]
    judging: tuple[JudgedRow, ...]

    @property
    def digest(self) -> str:
        """``sha256:`` over the definition, the cut, and every bit of every row."""
        digest = hashlib.sha256()

        def add(*texts: str) -> None:
            for text in texts:
                raw = text.encode()
                digest.update(len(raw).to_bytes(4, "big") + raw)

        add(self.pipeline, self.definition, *self.features, self.last_position)
        add(str(self.from_us), str(self.split_us), str(self.until_us))
        for name, rows in (("fit", self.fit), ("held_out", self.held_out)):
            add(name, str(len(rows)))
            for row in rows:
                digest.update(_row_bytes(row))
        add("judging", str(len(self.judging)))
        for judged in self.judging:
            add(judged.basis, str(judged.is_anomaly))
            digest.update(_row_bytes(judged.row))
        return f"sha256:{digest.hexdigest()}"

    def manifest(self) -> dict[str, Any]:
        """Return what the set says of itself, as JSON can say it."""
        return {
            "training_set": self.digest,
            "pipeline": self.pipeline,
            "definition": self.definition,
            "features": list(self.features),
            "from_us": self.from_us,
            "split_us": self.split_us,
            "until_us": self.until_us,
            "last_position": self.last_position,
            "fit_rows": len(self.fit),
            "held_out_rows": len(self.held_out),
            "judging_rows": len(self.judging),
            "basis": dict(sorted(Counter(j.basis for j in self.judging).items())),
        }


def _row_bytes(row: Row) -> bytes:
    head = f"{row.key}\n{row.time_us}\n{row.position}\n".encode()
    return head + b"".join(
        b"\0" if value is None else b"\1" + _DOUBLE.pack(value) for value in row.values
    )


def build(
    pipeline: Pipeline,
    readings: Iterable[StampedEvent],
    labels: Mapping[tuple[str, int], bool],
    *,
    until_us: int,
    seed: int,
) -> TrainingSet | Refusal:
    """Build the training set of a pipeline's model.

    Parameters
    ----------
    readings
        All events in the log that the model's features read, in any order.
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
    """
    model = pipeline.model
    if model is None:
        raise PipelineDefinitionError(f"pipeline {pipeline.name!r} has no model")
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
        self._by_key: dict[str, list[StampedEvent]] = {}
        for event in known:
            self._by_key.setdefault(event.key, []).append(event)
        self._before: dict[str, tuple[KeyState, int]] = {}
        rows: list[Row] = []
        for key, events in sorted(self._by_key.items()):
            first = _first_at(events, start_us)
            cut = max(first, _first_at(events, split_us))
            state, _ = KeyState(self._definition).fold(events[:first])
            state, fitted = state.fold(events[first:cut], emit=True)
            self._before[key] = state, cut
            _, held = state.fold(events[cut:], emit=True)
            rows += self._rows([*fitted, *held], start_us)
        self.rows = _sorted(rows)

    def _rows(self, folded: Iterable[Folded], after_us: int) -> list[Row]:
        return [
            Row(
                f.event.key, f.event.time_us, f.event.position, self._values(f.features)
            )
            for f in folded
            if f.outcome is Outcome.APPLIED
            and f.features is not None
            and f.event.time_us > after_us
        ]

    def _values(
        self, features: Mapping[str, Number | None]
    ) -> tuple[float | None, ...]:
        found = (features[name] for name in self._model.names)
        return tuple(None if value is None else float(value) for value in found)

    def judge(
        self, seed: int, labels: Mapping[tuple[str, int], bool]
    ) -> tuple[JudgedRow, ...]:
        """Fold the held-out events with known anomalies put into them."""
        held = [
            e
            for k, events in self._by_key.items()
            for e in events[self._before[k][1] :]
        ]
        held = [e for e in order_of_knowing(held) if not e.late]
        changed, anomalous = self._model.inject(held, seed)
        by_key: dict[str, list[StampedEvent]] = {}
        for event in changed:
            by_key.setdefault(event.key, []).append(event)
        places = {(e.key, e.position) for e in changed if identity(e) in anomalous}
        judged: list[JudgedRow] = []
        for key, events in sorted(by_key.items()):
            _, folded = self._before[key][0].fold(events, emit=True)
            for row in self._rows(folded, self._split_us):
                truth = labels.get((row.key, row.time_us))
                if (row.key, row.position) in places:
                    judged.append(JudgedRow(row, is_anomaly=True, basis=INJECTED))
                elif truth is not None:
                    judged.append(JudgedRow(row, truth, LABEL))
                else:
                    judged.append(JudgedRow(row, is_anomaly=False, basis=ASSUMED))
        judged.sort(key=lambda j: (j.row.key, j.row.time_us, j.row.position))
        return tuple(judged)


def identity(event: StampedEvent) -> str:
    """Return what `Inject` calls an event: its source, a newline, and its id."""
    return f"{event.source}\n{event.id}"


def _first_at(events: Sequence[StampedEvent], after_us: int) -> int:
    """Return the first place in the order of knowing with a time after `after_us`."""
    return next(
        (place for place, e in enumerate(events) if e.time_us > after_us), len(events)
    )


def _sorted(rows: Iterable[Row]) -> tuple[Row, ...]:
    return tuple(sorted(rows, key=lambda row: (row.key, row.time_us, row.position)))


def gate(found: TrainingSet, model: Model) -> Refusal | None:
    """Return why these rows cannot carry a model, or None if they can."""
    gates = model.gates
    rows = [row for row in found.fit if row.is_complete]
    if len(rows) < gates.min_rows:
        return Refusal(
            "min_rows",
            f"{len(rows)} complete rows to fit, at least {gates.min_rows} are needed",
        )
    nulls = 1 - len(rows) / len(found.fit)
    if nulls > gates.max_null_share:
        return Refusal(
            "max_null_share",
            f"{nulls:.0%} of the rows lack a feature, at most "
            f"{gates.max_null_share:.0%} may",
        )
    for place, name in enumerate(found.features):
        if len({row.values[place] for row in rows}) == 1:
            return Refusal("constant", f"feature {name!r} has one value in every row")
    missing = {r.key for r in found.fit} - {r.key for r in found.held_out}
    if missing == {r.key for r in found.fit}:
        return Refusal("missing_groups", "no key of the fit rows is in the held-out")
    classes = {j.is_anomaly for j in found.judging if j.row.is_complete}
    if classes != {True, False}:
        return Refusal(
            "single_class", "the judging rows hold no anomaly, or nothing but anomalies"
        )
    return None


def join_labels(
    labels: Collection[StampedEvent], predictions: Iterable[StampedEvent]
) -> tuple[dict[tuple[str, int], bool], int]:
    """Join labels to events by key and time, or through the prediction they name.

    Parameters
    ----------
    labels
        LabelGiven events in the order of knowing; a later one replaces an earlier.
    predictions
        PredictionMade events.

    Returns
    -------
    tuple
        Truth by (key, event time in microseconds), and how many labels name a
        prediction that is not known.
    """
    wanted = {label.data["prediction_id"] for label in labels} - {None}
    times = {
        p.data["prediction_id"]: p.data["as_of_us"]
        for p in predictions
        if p.data["prediction_id"] in wanted
    }
    found: dict[tuple[str, int], bool] = {}
    unmatched = 0
    for label in labels:
        at_us = label.data["at_us"]
        if label.data["prediction_id"] is not None:
            at_us = times.get(label.data["prediction_id"])
        if at_us is None:
            unmatched += 1
            continue
        found[label.key, at_us] = label.data["is_anomaly"]
    return found, unmatched
