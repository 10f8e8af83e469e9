"""What must hold once a run has come to rest, whatever went wrong in it."""

import base64
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Final

from retrodict.envelope import StampedEvent
from retrodict.errors import EventFormatError
from retrodict.features import FeatureSet
from retrodict.online import features_json, item_of
from retrodict.pipeline import definitions_of
from retrodict.ports import KeyedBatch, OnlineItem, fits
from retrodict.reasons import Reason
from retrodict.rejection import NOT_FOLDED
from retrodict.replaying import (
    compare,
    digest_of,
    key_of,
    replay,
    same_fold,
    split_scoring,
)
from retrodict.scoring import SCORING, stream_prediction_id
from retrodict.state import Folded, KeyState, Outcome, order_of_knowing
from retrodict.system_events import PredictionMade, RateExceeded
from retrodict.training_build import build_set
from retrodict.training_sets import TrainingSet
from retrodict.windows import check_of, identity_of
from retrodict_aws.dynamodb_online_store import _from_attributes, _refs
from retrodict_aws.kinesis_event_stream import decode, encode
from retrodict_aws.s3_event_log import S3EventLog

from tests.simulation.champion import CHAMPION
from tests.simulation.faults import Fault
from tests.simulation.kinesis import Record, Stream
from tests.simulation.learning import LEARNER, digest_of_set, log_of
from tests.simulation.mapping import payload
from tests.simulation.producer import CANARY, KPL_MAGIC
from tests.simulation.redriving import (
    is_same_but_later,
    never_rejected,
    sent_by,
)
from tests.simulation.reference import Model, Truth, place_of
from tests.simulation.runtime import OUTPUT
from tests.simulation.simulation import Simulation
from tests.simulation.switching import BEGINNING, CHANGED

REASONS = {
    Outcome.CONFLICTING: "identity_conflict",
    Outcome.TOO_FAST: "rate_exceeded",
}


OURS: Final = {event.contract().type for event in (RateExceeded, PredictionMade)}
"""What functions put on the ingest stream themselves."""


def _in_base64(text: str, shift: int) -> str:
    """Return what base64 makes of a text, whatever stands beside it."""
    encoded = base64.b64encode(bytes(shift) + text.encode() + bytes(2)).decode()
    return encoded[-(-shift * 4 // 3) : (shift + len(text)) * 4 // 3]


CANARIES: Final = (CANARY, *(_in_base64(CANARY, shift) for shift in range(3)))
"""What no log may hold: part of each key, id and text, plain and in base64."""


def _is_ours(raw: bytes) -> bool:
    try:
        return bool(json.loads(raw)["type"] in OURS)
    except (ValueError, LookupError, TypeError):
        return False


def _positions(records: Iterable[Record]) -> set[str]:
    """Return the positions of the events on records of the validated stream."""
    found: set[str] = set()
    for record in records:
        with suppress(EventFormatError):
            found |= {event.position for event in decode(record.data).events}
    return found


Identity = tuple[str, str, str, str]

Step = tuple[KeyState, Folded]
"""The state after one event, and what became of the event."""


def _one_by_one(
    definition: FeatureSet, events: Iterable[StampedEvent]
) -> Iterator[Step]:
    state = KeyState(definition)
    for event in events:
        state, (folded,) = state.fold([event], emit=True)
        yield state, folded


class Checker:
    """All invariants of one run; what breaks is told to the world."""

    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation
        self.world = simulation.world
        self.truth = Truth(simulation.ingest, simulation.mended)
        self.training_sets = 0
        self.optional = {place_of(record) for record in simulation.redriven}
        self.trimmed = {place_of(record) for record in simulation.validation.trimmed}
        self.optional |= self.trimmed
        self.log = S3EventLog(simulation.s3, "log", kept_events=10_000)
        self.known = order_of_knowing(list(self.log.read()))
        self.unarchived = _positions(simulation.archive.trimmed)
        self.online, self.scoring = split_scoring(simulation.store.scan())
        self.documents: dict[str, list[dict[str, Any]]] = {
            "": [],
            "log": [],
            "features": [],
            "compaction": [],
        }
        for name, kept in sorted(simulation.s3.buckets.get("quarantine", {}).items()):
            stages = [s for s in ("log", "features") if f"-{s}" in name]
            if "/compaction-" in name:
                stages = ["compaction"]
            stage = stages[0] if stages else ""
            self.documents[stage] += [
                json.loads(line) for line in kept.body.splitlines()
            ]

    def check(self) -> None:
        """Check everything."""
        self.log_is_what_was_accepted()
        self.quarantine_is_what_was_rejected()
        self.nothing_acknowledged_is_lost()
        self.undelivered_is_explained()
        self.redriven_is_as_if_never_rejected()
        self.online_equals_the_fold_of_the_log()
        if self.simulation.plan.scores:
            self.the_stream_was_scored_once()
        self.what_compaction_quarantined_is_explained()
        self.replaying_the_log_writes_nothing()
        self.training_sets_are_those_of_a_log_without_faults()
        self.what_was_sent_is_in_no_log()

    def log_is_what_was_accepted(self) -> None:
        """Check that the log holds what was accepted, as stamped, and nothing else."""
        for event in self.log.read():
            if self.truth.events.get(event.position) != event:
                self.world.violate(f"the log holds {event}, which nobody sent")
        kept = {event.position for event in self.known}
        for place in self.truth.events:
            if place not in kept | self.optional | self.unarchived:
                self.world.violate(f"the log lacks {place}")

    def quarantine_is_what_was_rejected(self) -> None:
        """Check that every reject is kept with its bytes and reasons, and no other."""
        kept = {document["position"] for document in self.documents[""]}
        for document in self.documents[""]:
            rejected = self.truth.rejects.get(document["position"])
            if rejected is None or rejected.as_json() != document:
                self.world.violate(f"quarantine holds {document}, without a reason")
        for place in self.truth.rejects:
            if place not in kept and place not in self.optional:
                self.world.violate(f"quarantine lacks {place}")
        for document in self.documents[""]:
            raw = base64.b64decode(document["bytes_base64"])
            if raw.startswith(KPL_MAGIC) and document["codes"] != ["kpl_aggregated"]:
                self.world.violate(f"aggregated, and quarantined as {document}")
        trimmed = {place_of(r) for r in self.simulation.archive.trimmed}
        foreign = sorted({place_of(r) for r in self.simulation.foreign} - trimmed)
        unreadable = sorted({d["position"] for d in self.documents["log"]})
        if foreign != unreadable:
            self.world.violate(f"foreign records {foreign}, in quarantine {unreadable}")

    def what_was_sent_is_in_no_log(self) -> None:
        """Check that log lines, metrics and names of objects quote no record."""
        said = OUTPUT.getvalue()
        for bucket, objects in self.simulation.s3.buckets.items():
            said += f"{bucket} " + " ".join(
                f"{name} {kept.metadata}" for name, kept in objects.items()
            )
        for text in (*CANARIES, *self.simulation.producer.values):
            place = said.find(text)
            if place >= 0:
                line = said[max(0, place - 200) : place + 100]
                self.world.violate(f"{text} was sent, and told of in {line}")

    def nothing_acknowledged_is_lost(self) -> None:
        """Check that what was acknowledged is in the log or in quarantine, not both."""
        kept = {event.position for event in self.known}
        rejected = {document["position"] for document in self.documents[""]}
        for place in sorted(kept & rejected):
            self.world.violate(f"{place} is in the log and in quarantine")
        for sent in self.simulation.producer.acked:
            places = self.truth.places.get(sent, [])
            told = kept | rejected | self.trimmed | self.unarchived
            if not any(place in told for place in places):
                self.world.violate(f"acknowledged and lost: {sent}")
        for key, data in self.simulation.producer.too_large:
            if fits(key, data) or (key, data) in self.truth.places:
                self.world.violate(f"{len(data)} bytes of {key} are no record, or one")
        sent_records = {*self.simulation.producer.sent}
        sent_records |= {*map(sent_by, self.simulation.put_again)}
        for name in self.truth.places:
            if name not in sent_records and not _is_ours(name[1]):
                self.world.violate(f"on the stream, and never sent: {name}")

    def undelivered_is_explained(self) -> None:
        """Check that nothing is given up unless its retries or its age ran out."""
        given_up = self.world.fired[Fault.RETRIES_EXHAUSTED]
        given_up += self.world.fired[Fault.AGE_EXCEEDED]
        is_off = self.world.fired[Fault.SWITCHED_OFF] + self.world.fired[Fault.STALL]
        if self.world.fired[Fault.TRIMMED] and not is_off:
            self.world.violate("records were trimmed, and nobody was off")
        if self.simulation.redriven and not given_up:
            self.world.violate("records were given up without a fault")

    def redriven_is_as_if_never_rejected(self) -> None:
        """Check that what a mended contract accepts is the event it would have been."""
        kept = {event.position for event in self.known}
        first: dict[str, StampedEvent] = {}
        late: set[str] = set()
        for document in self.simulation.put_again:
            sound = never_rejected(document)
            places = self.truth.places.get(sent_by(document), [])
            again = [place for place in places if place in self.truth.events]
            is_early = str(Reason.FROM_THE_FUTURE) in document["codes"]
            if (sound is None and again and not is_early) or (sound and not again):
                self.world.violate(f"redriven as {again}, once mended {sound}")
            if sound is None:  # what was not yet true may have come true
                continue
            for place in again:
                if not is_same_but_later(sound, self.truth.events[place]):
                    self.world.violate(f"{place} is not {sound}")
                if place in kept and self.truth.events[place].late:
                    self.world.fire(Fault.REDRIVEN_LATE, place)
                    late.add(sound.key)
                elif place in kept:
                    self.world.fire(Fault.REDRIVEN_IN_TIME, place)
                    first[place] = sound
        for key in sorted({event.key for event in first.values()} - late):
            self._folds_as_if_never_rejected(key, first)

    def _folds_as_if_never_rejected(
        self, key: str, first: dict[str, StampedEvent]
    ) -> None:
        own = [e for e in self.known if (e.type, e.key) == ("sensor.reading", key)]
        sound = order_of_knowing([first.get(event.position, event) for event in own])
        for _, definition in definitions_of("sensor.reading"):
            found = [KeyState(definition).fold(events) for events in (own, sound)]
            outcomes = {one.outcome for _, folded in found for one in folded}
            if outcomes.isdisjoint(REASONS):
                entries = [(state.entries, state.features) for state, _ in found]
                if entries[0] != entries[1]:
                    self.world.violate(f"{key} is not as if nothing was rejected")

    def online_equals_the_fold_of_the_log(self) -> None:
        """Compare online, offline and reference by bytes, now and at every write."""
        offline, _ = replay(self.log.read())
        if digest_of(offline) != digest_of(self.online):
            for entity in sorted(offline.keys() | self.online.keys()):
                if key_of(entity) not in self.simulation.forgotten:
                    self._compare(entity, self.online.get(entity), offline.get(entity))
        if self.simulation.forgotten:
            self._forgotten_are_named(offline)
        wrong: dict[str, str] = {}
        by_key: dict[tuple[str, str], list[StampedEvent]] = {}
        for event in self.known:
            by_key.setdefault((event.type, event.key), []).append(event)
        for (event_type, key), events in by_key.items():
            for pipeline, definition in definitions_of(event_type):
                entity = pipeline.entity(definition, key)
                steps = list(_one_by_one(definition, events))
                self._agrees_with_model(definition, steps, offline.get(entity))
                if key in self.simulation.gapped:
                    continue
                self._every_version_is_a_prefix(definition, entity, steps)
                wrong |= {
                    folded.event.position: REASONS[folded.outcome]
                    for _, folded in steps
                    if folded.outcome in REASONS
                }
        self._not_folded_is_told(wrong)

    def _forgotten_are_named(self, offline: dict[str, OnlineItem]) -> None:
        """Check that a comparison names each item that the log cannot explain."""
        found = compare(
            offline,
            self.simulation.store.scan(),
            lambda keys: self.log.read(keys=keys),
        )
        told = {*found.differing, *found.unexplained}
        for entity, item in sorted(self.online.items()):
            fold = found.replayed.get(entity)
            is_same = fold is not None and fold.content() == item.content()
            if is_same is (entity in told):
                self.world.violate(f"{entity} is the fold of the log: {is_same}, told")

    def _compare(
        self, entity: str, online: OnlineItem | None, offline: OnlineItem | None
    ) -> None:
        one = online.content() if online else None
        other = offline.content() if offline else None
        if one != other:
            self.world.violate(f"{entity}: online {one}, offline {other}")

    def _agrees_with_model(
        self, definition: FeatureSet, steps: Sequence[Step], offline: OnlineItem | None
    ) -> None:
        if any(folded.outcome is Outcome.TOO_FAST for _, folded in steps):
            self.world.fire(Fault.RATE_EXCEEDED)
            return
        model = Model(definition)
        booked = [model.apply(folded.event) for _, folded in steps]
        outcomes = [folded.outcome for _, folded in steps]
        if outcomes != booked:
            self.world.violate(f"judged {outcomes}, by the book {booked}")
        state = steps[-1][0]
        if (offline.state if offline else None) != (
            state.encode() if state.entries else None
        ):
            self.world.violate("folding one by one and at once differ")
        held = [(e.time_us, e.identity, e.check, *e.values) for e in state.entries]
        book = [(t, i, check_of(digest), v) for t, i, digest, v in model.held]
        if (model.position, book) != (state.position, held):
            self.world.violate(f"state {held}, by the book {book}")
        if offline is None:
            return
        features = json.loads(offline.features)
        expected = model.features()
        shared = [name for name in expected if name in features]
        if not shared:
            self.world.violate(f"no feature to compare among {sorted(features)}")
        for name in shared:
            if features[name] != expected[name]:
                self.world.violate(
                    f"{name} is {features[name]}, by the book {expected[name]}"
                )

    def _every_version_is_a_prefix(
        self, definition: FeatureSet, entity: str, steps: Sequence[Step]
    ) -> None:
        prefixes = {
            folded.event.position: (item_of(entity, state, 1), folded)
            for state, folded in steps
            if folded.outcome is Outcome.APPLIED
        }
        before = ""
        table = self.simulation.dynamodb
        versions = table.versions.get(entity, [])
        if entity.startswith(BEGINNING):  # what was there before may not be read
            promised = self.simulation.operator.promised
            versions = versions[promised.get(entity, len(versions)) :]
        for attributes in versions:
            parts = _refs(attributes).values()
            chunks = {part: table.written[entity, part] for part in parts}
            item = _from_attributes(attributes, chunks)
            if item.position <= before:
                self.world.violate(f"{entity} went from {before} to {item.position}")
            before = item.position
            found = prefixes.get(item.position)
            if found is None or found[0].content() != item.content():
                self.world.violate(f"{entity} v{item.version} is no prefix of the log")
                continue
            event, served = found[1].event, found[1].features
            newest = KeyState.decode(definition, item.state)
            last = newest.entries[-1]
            own = event.time_us, identity_of(event.source, event.id)
            is_newest = (last.time_us, last.identity) == own
            if is_newest and json.loads(item.features) != served:
                self.world.violate(f"{entity} v{item.version} served other features")

    def _not_folded_is_told(self, expected: dict[str, str]) -> None:
        """Check that a conflict or a burst is in quarantine, and only that."""
        found: dict[str, str] = {}
        for document in self.documents["features"]:
            if document["key"] not in self.simulation.gapped:
                (found[document["position"]],) = document["codes"]
        for place in sorted(expected.keys() | found.keys()):
            one, other = expected.get(place), found.get(place)
            if one == other or (one is None and self._is_told_by_a_beginning(place)):
                continue
            self.world.violate(f"{place} is {one}, in quarantine {other}")

    def _is_told_by_a_beginning(self, place: str) -> bool:
        """Return whether a changed definition told of an event while it was filled.

        Its state began with some event, so of two payloads of one identity it may have
        seen the second first, and told of the first.
        """
        told = next((e for e in self.known if e.position == place), None)
        if told is None or not self.simulation.plan.changes:
            return False
        own = [e for e in self.known if (e.type, e.key) == (told.type, told.key)]
        return any(
            folded.event is told and folded.outcome is Outcome.CONFLICTING
            for start in range(1, len(own))
            for _, folded in _one_by_one(CHANGED, own[start:])
        )

    def what_compaction_quarantined_is_explained(self) -> None:
        """Check that compaction told of every reused identity, and of nothing else."""
        first: dict[Identity, str] = {}
        reused: dict[Identity, set[str]] = {}
        for event in self.known:
            identity = event.type, event.key, event.source, event.id
            first.setdefault(identity, event.digest)
            reused.setdefault(identity, set()).add(event.digest)
        events = {event.position: event for event in self.known}
        told: set[tuple[Identity, str]] = set()
        for document in self.documents["compaction"]:
            held = events.get(document["position"])
            if held is None:
                self.world.violate(f"compaction told of {document}, not in the log")
                continue
            identity = (held.type, held.key, held.source, held.id)
            if len(reused[identity]) == 1:
                self.world.violate(f"compaction told of {document} without a reason")
            told.add((identity, held.digest))
        if not self.simulation.plan.compacts:
            return
        for identity, digests in reused.items():
            for digest in sorted(digests - {first[identity]}):
                if (identity, digest) not in told:
                    self.world.violate(f"compaction did not tell of {identity}")

    def the_stream_was_scored_once(self) -> None:
        """Check scoring states, and every prediction, against the fold of the log."""
        offline, _ = replay(self.log.read())
        for entity in sorted({f"{SCORING}{e}" for e in offline} | self.scoring.keys()):
            item = self.scoring.get(entity)
            if key_of(entity) in self.simulation.forgotten:
                continue
            if item is None or not same_fold(item, offline):
                self.world.violate(f"{entity} is not the fold of the log")
        expected = {
            prediction_id: served
            for prediction_id, key, served in self._to_be_scored()
            if key not in self.simulation.unscored
        }
        self._are_predictions("log", self._in_the_log(), expected)
        self._are_predictions("stream", self._on(self.simulation.predictions), expected)

    def _to_be_scored(self) -> Iterator[tuple[str, str, tuple[str, str, str]]]:
        """Yield id and key of each prediction to be made, and what it must say."""
        by_key: dict[tuple[str, str], list[StampedEvent]] = {}
        for event in self.known:
            by_key.setdefault((event.type, event.key), []).append(event)
        for (event_type, key), events in by_key.items():
            for pipeline, definition in definitions_of(event_type):
                for _, folded in _one_by_one(definition, events):
                    served = folded.features or {}
                    value = served.get(CHAMPION.features[0])
                    if folded.outcome is Outcome.APPLIED and value is not None:
                        score = CHAMPION.scorer.score([float(value)])
                        told = features_json(served), score.hex(), folded.event.position
                        name = stream_prediction_id(pipeline.name, folded.event)
                        yield name, key, told

    def _in_the_log(self) -> Iterator[tuple[str, dict[str, Any]]]:
        wanted = PredictionMade.contract().type
        return ((e.key, e.data) for e in self.known if e.type == wanted)

    @staticmethod
    def _on(stream: Stream) -> Iterator[tuple[str, dict[str, Any]]]:
        for record in stream.records():
            yield record.partition_key, json.loads(record.data)["data"]

    def _are_predictions(
        self,
        where: str,
        found: Iterable[tuple[str, dict[str, Any]]],
        expected: dict[str, tuple[str, str, str]],
    ) -> None:
        told: dict[str, dict[str, Any]] = {}
        for key, data in found:
            name = data["prediction_id"]
            if key in self.simulation.unscored:
                continue
            if told.setdefault(name, data) != data:
                self.world.violate(f"{where}: {name} says {data} and {told[name]}")
            if told[name] is not data:
                self.world.fired[Fault.PREDICTED_AGAIN] += 1
        for name in sorted(told.keys() | expected.keys()):
            one = told.get(name)
            said = (
                None
                if one is None
                else (one["features"], float(one["score"]).hex(), one["position"])
            )
            if said != expected.get(name):
                self.world.violate(
                    f"{where}: prediction {name} is {said}, not {expected.get(name)}"
                )

    def training_sets_are_those_of_a_log_without_faults(self) -> None:
        """Build a set from the log, and from one that nothing ever happened to."""
        if not self.known:
            return
        accepted = [self.truth.events[event.position] for event in self.known]
        seen = sorted(event.observed_at_us for event in accepted)
        until_us = seen[-1] if self.simulation.plan.seed % 2 else seen[len(seen) // 2]
        found = build_set(LEARNER, self.log, until_us)
        expected = build_set(LEARNER, log_of(accepted), until_us)
        if isinstance(found, TrainingSet):
            self.training_sets += 1
        if digest_of_set(build_set(LEARNER, self.log, until_us)) != (
            digest_of_set(found)
        ):
            self.world.violate(f"until {until_us} two sets were built of one log")
        if digest_of_set(found) != digest_of_set(expected):
            self.world.violate(f"until {until_us} {found} was built, not {expected}")

    def replaying_the_log_writes_nothing(self) -> None:
        """Deliver the whole log to the features again."""
        by_key: dict[str, list[StampedEvent]] = {}
        for event in self.known:
            by_key.setdefault(event.key, []).append(event)
        data = [
            (key, raw)
            for key, events in sorted(by_key.items())
            for raw in encode(KeyedBatch(key, events))
        ]
        records = [
            Record("shardId-000000000000", number, key, self.world.now_us, raw)
            for number, (key, raw) in enumerate(data)
        ]
        puts = self.simulation.dynamodb.puts()
        if records:
            self.simulation.runtime.invoke("write_features", payload(records))
            if self.simulation.plan.scores:
                self._score_again(records)
        if self.simulation.dynamodb.puts() != puts:
            self.world.violate("replaying the log wrote state")

    def _score_again(self, records: Sequence[Record]) -> None:
        made = len([*self.simulation.predictions.records()])
        self.simulation.runtime.invoke("score_events", payload(records))
        if len([*self.simulation.predictions.records()]) != made:
            self.world.violate("replaying the log made predictions")


def sentences(violations: Sequence[str], width: int = 2_000) -> str:
    """Return violations as lines, none longer than a page."""
    return "\n".join(violation[:width] for violation in violations)


assert frozenset(REASONS.values()) == NOT_FOLDED
