"""Training sets: the rows a model was fitted on and judged by, frozen and named.

Every row holds features as served: what was known at the position of its event, never
later. A set is cut at one arrival time; its windows end at the newest in-time event
before the cut. Built twice, it has the same rows, the same bytes and the same digest.
"""

import hashlib
import struct
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, Final

from retrodict.envelope import StampedEvent
from retrodict.model import Model

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


def identity(event: StampedEvent) -> str:
    """Return what `Inject` calls an event: its source, a newline, and its id."""
    return f"{event.source}\n{event.id}"


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
