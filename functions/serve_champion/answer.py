"""What `/invocations` answers: pure but for its ports.

A request is answered whole or refused whole, and every answered row is an event on the
ingest stream before the answer goes out.
"""

import csv
import io
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from instances import CSV, JSON, Instance, Reader, RefusedError
from retrodict.artifact import Artifact
from retrodict.errors import (
    IncompatibleArtifactError,
    MissingFeatureError,
    TransientError,
)
from retrodict.expressions import Number
from retrodict.pipeline import Pipeline
from retrodict.ports import IngestStream, OnlineItem, OnlineStore
from retrodict.scoring import Prediction, score
from retrodict.stamps import duration_us, to_text

INLINE: Final = "inline"
"""Key of a prediction whose request named no entity."""

ATTRIBUTE: Final = "retrodict-mode"
"""What a request may say of itself in its custom attributes."""

REALTIME: Final = "realtime"
PROBE: Final = "probe"
MODES: Final = (REALTIME, "async", "batch", PROBE)
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back, and what was decided.

    Attributes
    ----------
    mode
        How the request was made, see `MODES`.
    """

    body: bytes
    content_type: str
    mode: str
    predictions: Sequence[Prediction]


class Champion:
    """An artifact, ready to answer.

    Parameters
    ----------
    now_us
        Returns the time, microseconds since the epoch.
    elapsed_us
        Returns the reading of a clock that never goes back, microseconds.

    Raises
    ------
    IncompatibleArtifactError
        The artifact is of other features than the pipeline has.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - an artifact and its world, port by port
        self,
        artifact: Artifact,
        pipeline: Pipeline,
        store: OnlineStore,
        stream: IngestStream,
        now_us: Callable[[], int],
        elapsed_us: Callable[[], int],
    ) -> None:
        if pipeline.model is None:
            raise IncompatibleArtifactError(f"pipeline {pipeline.name!r} has no model")
        self.artifact = artifact
        self._definition = artifact.definition_in(pipeline)
        self._pipeline = pipeline
        self._store = store
        self._stream = stream
        self._now_us = now_us
        self._elapsed_us = elapsed_us
        self._max_age = pipeline.model.max_age
        self._reader = Reader(artifact.features, self._definition)

    def answer(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Answer one request.

        Parameters
        ----------
        headers
            By lower-case name: ``content-type``, ``content-encoding``, ``accept`` and
            ``x-amzn-sagemaker-custom-attributes`` are read.

        Raises
        ------
        RefusedError
            Nothing was answered.
        """
        began_us, started_us = self._now_us(), self._elapsed_us()
        mode = _mode(headers.get("x-amzn-sagemaker-custom-attributes", ""))
        instances = self._reader.read(
            headers.get("content-type", JSON),
            headers.get("content-encoding", ""),
            body,
        )
        try:
            items = self._items(instances)
            made = [
                self._predict(instance, number, items, mode, began_us, started_us)
                for number, instance in enumerate(instances)
            ]
            self._stream.put([prediction.to_record() for prediction in made])
        except TransientError as error:
            raise RefusedError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "unavailable",
                str(error),
                "ask again in a moment",
            ) from error
        return _write(headers.get("accept", JSON), mode, made)

    def _predict(  # noqa: PLR0913, PLR0917 - one row and its request
        self,
        instance: Instance,
        number: int,
        items: Mapping[str, OnlineItem],
        mode: str,
        began_us: int,
        started_us: int,
    ) -> Prediction:
        found: Mapping[str, Number | None]
        if instance.features is None:
            item = self._fresh(items, str(instance.entity), number, began_us)
            found, as_of_us, position = (
                json.loads(item.features), item.time_us, item.position,
            )  # fmt: skip
        else:
            found, as_of_us, position = instance.features, began_us, None
        try:
            scored = score(self.artifact, found)
        except MissingFeatureError as error:
            raise RefusedError(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                "missing_feature",
                f"instances[{number}]: {error} for {instance.entity!r} yet",
                "send more of its events first: too few lie in the feature's window",
                number,
            ) from error
        return Prediction(
            entity=instance.entity or INLINE,
            prediction_id=secrets.token_hex(16),
            mode=mode,
            scored=scored,
            artifact=self.artifact,
            as_of_us=as_of_us,
            position=position,
            features=found,
            time_us=began_us,
            latency_us=max(0, self._elapsed_us() - started_us),
        )

    def _items(self, instances: Sequence[Instance]) -> dict[str, OnlineItem]:
        """Read the online items of all entities that are to be looked up, at once."""
        wanted = {
            self._pipeline.entity(self._definition, instance.entity): instance.entity
            for instance in instances
            if instance.features is None and instance.entity is not None
        }
        if not wanted:
            return {}
        found = self._store.load([*wanted], with_state=False)
        return {wanted[key]: item for key, item in found.items()}

    def _fresh(
        self, items: Mapping[str, OnlineItem], entity: str, number: int, now_us: int
    ) -> OnlineItem:
        item = items.get(entity)
        if item is None:
            raise RefusedError(
                HTTPStatus.NOT_FOUND,
                "unknown_entity",
                f"instances[{number}]: nothing of entity {entity!r} was accepted yet",
                "send its events on the ingest stream, or give features inline",
                number,
            )
        if now_us - item.time_us > duration_us(self._max_age):
            raise RefusedError(
                HTTPStatus.CONFLICT,
                "stale_features",
                f"instances[{number}]: the newest event of {entity!r} is of "
                f"{to_text(item.time_us)}, more than {self._max_age} ago",
                "send newer events of it, or give features inline",
                number,
            )
        return item


def _mode(attributes: str) -> str:
    """Return how the request was made, as its custom attributes tell.

    They are pairs such as ``retrodict-mode=async``, parted by commas or semicolons;
    those of others are left alone.
    """
    for pair in attributes.replace(";", ",").split(","):
        name, _, mode = pair.strip().partition("=")
        if name != ATTRIBUTE:
            continue
        if mode not in MODES:
            raise RefusedError(
                HTTPStatus.BAD_REQUEST,
                "mode",
                f"the custom attribute {ATTRIBUTE} is {mode[:64]!r}",
                f"leave it out, or set one of {', '.join(MODES)}",
            )
        return mode
    return REALTIME


def _write(accept: str, mode: str, made: Sequence[Prediction]) -> Answer:
    rows: list[dict[str, Any]] = [
        {
            "prediction_id": p.prediction_id,
            "entity": None if p.entity == INLINE else p.entity,
            "score": p.scored.score,
            "threshold": p.artifact.threshold,
            "is_alert": p.scored.is_alert,
            "artifact_digest": p.artifact.digest,
            "as_of": to_text(p.as_of_us),
            "position": p.position,
            "features": dict(p.features),
        }
        for p in made
    ]
    kinds = [kind.split(";")[0].strip().lower() for kind in accept.split(",")]
    if CSV in kinds and JSON not in kinds:
        text = io.StringIO()
        columns = [name for name in rows[0] if name != "features"]
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([_cell(row[column]) for column in columns] for row in rows)
        return Answer(text.getvalue().encode(), CSV, mode, made)
    body = json.dumps({"predictions": rows}, allow_nan=False).encode()
    return Answer(body, JSON, mode, made)


def _cell(value: Any) -> Any:
    """Return a cell that no spreadsheet takes for a formula."""
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value
