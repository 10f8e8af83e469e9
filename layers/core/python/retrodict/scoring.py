"""Score features with an artifact, and say so in an event; also along the stream.

The stream is scored by a projection of its own, beside the one that feeds the endpoint:
its states hold what they have scored, so an event is scored once, with the features as
served at its position, whatever is delivered again. Predictions go out before the
states are kept; a crash between the two makes the same predictions again.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, Final

from retrodict.artifact import Artifact
from retrodict.envelope import StampedEvent
from retrodict.errors import MissingFeatureError, StateConflictError, TransientError
from retrodict.expressions import Number
from retrodict.features import FeatureSet
from retrodict.online import features_json
from retrodict.pipeline import Pipeline, load_pipelines
from retrodict.ports import IngestStream, KeyedBatch, OnlineItem, OnlineStore
from retrodict.stamps import duration_us, to_text
from retrodict.state import Folded, KeyState, Outcome
from retrodict.system_events import PredictionMade

SOURCE: Final = "urn:retrodict:predictions"
SCORING: Final = "score."
"""Begins the keys of the states that the stream is scored from."""

STREAM: Final = "stream"


@dataclass(frozen=True, slots=True)
class Scored:
    """A score and the decision at the artifact's threshold."""

    score: float
    is_alert: bool


def score(artifact: Artifact, features: Mapping[str, Number | None]) -> Scored:
    """Score features by name; those that the model does not read are left aside.

    Raises
    ------
    MissingFeatureError
        One that the model reads is absent or null.
    ForestFormatError
        One is no finite number.
    """
    row = []
    for name in artifact.features:
        value = features.get(name)
        if value is None:
            raise MissingFeatureError(name)
        row.append(float(value))
    found = artifact.scorer.score(row)
    return Scored(found, found >= artifact.threshold)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """One answer, with everything needed to make it again; see PredictionMade."""

    entity: str
    prediction_id: str
    mode: str
    scored: Scored
    artifact: Artifact
    as_of_us: int
    position: str | None
    features: Mapping[str, Number | None]
    time_us: int
    is_onset: bool | None = None
    latency_us: int | None = None
    causation_id: str | None = None

    def to_record(self) -> tuple[str, bytes]:
        """Return partition key and CloudEvent, as the ingest stream takes them."""
        contract = PredictionMade.contract()
        document: dict[str, Any] = {
            "specversion": "1.0",
            "id": self.prediction_id,
            "source": SOURCE,
            "type": contract.type,
            "subject": self.entity,
            "time": to_text(self.time_us),
            "dataschema": contract.schema_name(),
            "data": {
                "entity": self.entity,
                "prediction_id": self.prediction_id,
                "pipeline": self.artifact.pipeline,
                "mode": self.mode,
                "score": self.scored.score,
                "threshold": self.artifact.threshold,
                "is_alert": self.scored.is_alert,
                "is_onset": self.is_onset,
                "artifact_digest": self.artifact.digest,
                "as_of_us": self.as_of_us,
                "position": self.position,
                "features": features_json(dict(self.features)),
                "latency_us": self.latency_us,
            },
        }
        if self.causation_id is not None:
            document["causationid"] = self.causation_id
        text = json.dumps(document, separators=(",", ":"), allow_nan=False)
        return self.entity, text.encode()


def stream_prediction_id(pipeline: str, event: StampedEvent) -> str:
    """Return the id of the streamed prediction for an event; again is the same.

    A producer may come to number its events anew, long after it used a number before,
    so it is of the time of the event as well.
    """
    known = pipeline, STREAM, event.key, event.source, event.id, str(event.time_us)
    return hashlib.sha256("\n".join(known).encode()).hexdigest()[:32]


@dataclass(slots=True)
class StreamWork:
    """What one delivered batch brings for one scoring state.

    Attributes
    ----------
    entity
        Partition key of the state in the online store.
    sequence_number
        The first Kinesis record that holds an event of this work.
    """

    entity: str
    pipeline: Pipeline
    definition: FeatureSet
    sequence_number: str
    events: list[StampedEvent] = field(default_factory=list)


@dataclass(slots=True)
class StreamScored:
    """How far a batch came.

    Attributes
    ----------
    predictions, alerts, onsets
        What was put on the streams.
    unscored
        Applied events that lack a feature which the model reads.
    unfinished
        The record from which the batch must be delivered again, or None.
    failure
        Why, in a sentence.
    """

    predictions: int = 0
    unscored: int = 0
    alerts: int = 0
    onsets: int = 0
    unfinished: str | None = None
    failure: str | None = None


def plan(batches: Iterable[tuple[str, KeyedBatch]]) -> list[StreamWork]:
    """Gather delivered events by scoring state, for every pipeline with a model.

    A definition that retires is folded beside the one that takes its place, so that
    whichever the champion was trained on is there to be scored.
    """
    read: dict[str, list[tuple[Pipeline, FeatureSet]]] = {}
    for pipeline in load_pipelines().values():
        for definition in pipeline.served if pipeline.model is not None else ():
            event_type = definition.event.contract().type
            read.setdefault(event_type, []).append((pipeline, definition))
    works: dict[str, StreamWork] = {}
    for sequence_number, batch in batches:
        for event in batch.events:
            for pipeline, definition in read.get(event.type, ()):
                entity = SCORING + pipeline.entity(definition, batch.key)
                work = works.get(entity)
                if work is None:
                    work = works[entity] = StreamWork(
                        entity, pipeline, definition, sequence_number
                    )
                work.events.append(event)
    return list(works.values())


def score_stream(
    works: Sequence[StreamWork],
    champions: Mapping[str, Artifact],
    store: OnlineStore,
    streams: Sequence[IngestStream],
) -> StreamScored:
    """Fold every work, put the predictions on the streams, and keep the states last.

    A crash, or a refusal, between the two is healed by redelivery: the state is the
    old one then, and gives the same predictions under the same ids. States of other
    definitions than the champion's are kept before its own, so that a champion that
    takes over in between finds there what was predicted already. Stops at the first
    refusal.

    Parameters
    ----------
    champions
        Artifact that serves, by pipeline; without one a state is only folded.
    streams
        Where every prediction goes.
    """
    done = StreamScored()
    predictions: list[Prediction] = []
    rest = list(works)
    try:
        stored = store.load([work.entity for work in works])
        scored = []
        for work in works:
            champion = champions.get(work.pipeline.name)
            is_its = champion is not None and (
                champion.definition == work.definition.digest
            )
            artifact = champion if is_its else None
            item, made = _fold(work, stored.get(work.entity), artifact, done)
            predictions += made
            if item is not None:
                scored.append((is_its, work, item))
        scored.sort(key=itemgetter(0))
        if predictions:
            records = [prediction.to_record() for prediction in predictions]
            for stream in streams:
                stream.put(records)
        rest = [work for _, work, _ in scored]
        for _, _, item in scored:
            store.put(item)
            rest.pop(0)
    except (StateConflictError, TransientError) as error:
        return StreamScored(
            unfinished=min((w.sequence_number for w in rest), key=int),
            failure=str(error),
        )
    done.predictions = len(predictions)
    done.alerts = sum(p.scored.is_alert for p in predictions)
    done.onsets = sum(bool(p.is_onset) for p in predictions)
    return done


def _fold(
    work: StreamWork,
    stored: OnlineItem | None,
    artifact: Artifact | None,
    done: StreamScored,
) -> tuple[OnlineItem | None, list[Prediction]]:
    """Return the new item, None if nothing changed, and the predictions of the work."""
    definition = work.definition
    before = KeyState.decode(definition, stored.state if stored else None)
    after, folded = before.fold(work.events, emit=artifact is not None)
    if after == before:
        return None, []
    memory = json.loads(stored.features) if stored else {}
    made = []
    if artifact is not None:
        for one in folded:
            prediction = _predict(one, artifact, memory, work.pipeline, done)
            made += [prediction] if prediction is not None else []
    item = OnlineItem(
        entity=work.entity,
        version=(stored.version if stored else 0) + 1,
        definition=definition.digest,
        position=after.position,
        time_us=after.time_us or 0,
        features=features_json(memory),
        state=after.encode(),
    )
    return item, made


def _predict(
    folded: Folded,
    artifact: Artifact,
    memory: dict[str, Any],
    pipeline: Pipeline,
    done: StreamScored,
) -> Prediction | None:
    """Score one applied event; `memory` keeps when its key alerted last."""
    event = folded.event
    if folded.outcome is not Outcome.APPLIED:
        return None
    features = folded.features or {}
    try:
        scored = score(artifact, features)
    except MissingFeatureError:
        done.unscored += 1
        return None
    is_onset = False
    if scored.is_alert and pipeline.model is not None:
        last_us = memory.get("last_alert_us")
        gap_us = duration_us(pipeline.model.onset_gap)
        is_onset = last_us is None or event.time_us - last_us > gap_us
        memory["last_alert_us"] = max(event.time_us, last_us or event.time_us)
    return Prediction(
        entity=event.key,
        prediction_id=stream_prediction_id(artifact.pipeline, event),
        mode=STREAM,
        scored=scored,
        artifact=artifact,
        as_of_us=event.time_us,
        position=event.position,
        features=features,
        time_us=event.observed_at_us,
        is_onset=is_onset,
        causation_id=event.id,
    )
