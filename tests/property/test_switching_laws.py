"""While a definition changes, no reader ever takes a part of the events for all.

A stream is folded in batches; somewhere in it a changed definition is deployed beside
the old one. Archiving lags, rebuilds and verifications come at any moment, and so do
attempts to roll out a model of the new definition. Whatever their order, every feature
that may be read is that of all events delivered so far, and so is every prediction.
"""

import json
from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from pipelines.sensor_anomaly.contract import Reading
from retrodict.envelope import StampedEvent
from retrodict.errors import ProjectionNotVerifiedError
from retrodict.features import FeatureSet, feature_set, features
from retrodict.forest import LEAF, IsolationForest, Tree
from retrodict.lifecycle import Decided, Lifecycle
from retrodict.lifecycle import replay as replay_decisions
from retrodict.model import Model
from retrodict.online import features_json, plan, project
from retrodict.pipeline import Pipeline
from retrodict.ports import KeyedBatch
from retrodict.replaying import Comparison, compare, replay
from retrodict.scoring import plan as plan_scoring
from retrodict.scoring import score_stream
from retrodict.state import KeyState, Outcome
from retrodict.switching import check_readable, readable
from retrodict.verifying import judge, newest_us, verdicts
from retrodict.vocabulary import count, last, maximum, mean

from tests.artifacts import PIPELINE, artifact
from tests.deployments import deployed, record_verdicts
from tests.events import reading
from tests.fakes import FakeIngestStream, FakeLifecycleStore, FakeOnlineStore

NAME = PIPELINE.name
KEYS = ("s-1", "s-2", "s-3")


@features(Reading, lateness="10m", max_rate="1/s")
class Before:
    """What was served at first."""

    mean_3 = mean(Reading.value, last(3))
    high_10m = maximum(Reading.value, last("10m"))


@features(Reading, lateness="10m", max_rate="1/s")
class After:
    """What takes its place: it looks back further, so a hole would show."""

    mean_8 = mean(Reading.value, last(8))
    count_10m = count(Reading.value, last("10m"))


OLD, NEW = feature_set(Before), feature_set(After)


def _model(*wanted: Any) -> Model:
    assert PIPELINE.model is not None
    return replace(PIPELINE.model, features=[*wanted])


_BEFORE: Any = Before
_AFTER: Any = After
FIRST = Pipeline(NAME, features=[Before], model=_model(_BEFORE.mean_3))
DURING = Pipeline(
    NAME, features=[After], retiring=[Before], model=_model(_AFTER.mean_8)
)
STUMP = Tree((0, LEAF, LEAF), (25.0, 0.8, 0.2), (1, 0, 0), (2, 0, 0))


def _artifact(definition: FeatureSet, name: str) -> Any:
    return artifact(
        feature_set=definition.name,
        definition=definition.digest,
        features=(name,),
        model=IsolationForest(1, 1.0, (STUMP,)).to_json(),
    )


OLD_CHAMPION, NEW_CHAMPION = _artifact(OLD, "mean_3"), _artifact(NEW, "mean_8")


class Scene:
    """The stores, the log, what was delivered, and who serves."""

    def __init__(self) -> None:
        self.deployment = FIRST
        self.store, self.decisions = FakeOnlineStore(), FakeLifecycleStore()
        self.stream = FakeIngestStream()
        self.sent: list[StampedEvent] = []
        self.delivered: list[StampedEvent] = []
        self.archived = 0
        self.champion = OLD_CHAMPION
        self.scored_with: dict[str, Any] = {}

    def deliver(self, count: int) -> None:
        """Fold and score the next events, perhaps before they are archived."""
        events = self.sent[len(self.delivered) :][:count]
        batches = [(str(n), KeyedBatch(e.key, [e])) for n, e in enumerate(events, 1)]
        done = project(plan(batches), self.store, lambda _: None)
        assert done.failure is None
        champions = {NAME: self.champion}
        scored = score_stream(
            plan_scoring(batches), champions, self.store, [self.stream]
        )
        assert scored.failure is None
        self.delivered += events
        self.scored_with |= {one.id: self.champion for one in events}

    def archive(self, lag: int) -> None:
        self.archived = max(self.archived, len(self.sent) - lag)

    def compared(self) -> Comparison:
        archived = self.sent[: self.archived]
        return compare(replay(archived)[0], self.store.scan(), self.of_keys)

    def of_keys(self, keys: Collection[str]) -> list[StampedEvent]:
        return [one for one in self.sent[: self.archived] if one.key in keys]

    def fill(self) -> None:
        if self.archived > len(self.delivered):
            return  # a rebuild waits until what the log holds was delivered
        for item in self.compared().repairs():
            self.store.put(item)

    def verify(self) -> None:
        found = self.compared()
        judged = judge(found, self.of_keys)

        def decide(lifecycle: Lifecycle) -> Decided | None:
            told = verdicts(self.deployment, judged, newest_us(found), lifecycle)
            return next(told, None)

        record_verdicts(self.decisions, NAME, decide)

    def lifecycle(self) -> Lifecycle:
        return replay_decisions(self.decisions.read(NAME))

    def roll_out(self) -> None:
        if self.deployment is FIRST:
            return
        serving = self.champion.definition
        try:
            check_readable(self.deployment, NEW, self.lifecycle(), serving)
        except ProjectionNotVerifiedError:
            event("a rollout was refused")
        else:
            event("a rollout was allowed")
            self.champion = NEW_CHAMPION

    def check_readers(self) -> None:
        """Hold every value that somebody may read now to the fold of all events."""
        served = self.champion.definition_in(self.deployment)
        for definition in {*readable(self.deployment, self.lifecycle()), served}:
            for key in KEYS:
                known = [e for e in self.delivered if e.key == key]
                state, _ = KeyState(definition).fold(known)
                entity = self.deployment.entity(definition, key)
                item = self.store.items.get(entity)
                if not state.entries:
                    assert item is None
                    continue
                assert item is not None
                assert item.features == features_json(state.features)
                assert item.state == state.encode()

    def check_predictions(self) -> None:
        """Hold every prediction to the fold of all events, and each event to one."""
        told: dict[str, dict[str, Any]] = {}
        for _, data in self.stream.records:
            document = json.loads(data)
            assert told.setdefault(document["causationid"], document) is document
        for definition in (OLD, NEW):
            for key in KEYS:
                known = [e for e in self.delivered if e.key == key]
                _, folded = KeyState(definition).fold(known, emit=True)
                for one in folded:
                    champion = self.scored_with[one.event.id]
                    if champion.definition != definition.digest:
                        continue
                    found = told.pop(one.event.id, None)
                    served = dict(one.features or {})
                    applied = one.outcome is Outcome.APPLIED
                    if not applied or served.get(champion.features[0]) is None:
                        assert found is None
                        continue
                    assert found is not None
                    assert found["data"]["artifact_digest"] == champion.digest
                    assert found["data"]["features"] == features_json(served)
        assert not told


@pytest.mark.parametrize("keys", [("s-1", "s-2", "s-1"), ("s-1", "s-1", "s-2")])
def test_a_projection_is_not_verified_by_a_log_that_lags_behind_another(
    keys: tuple[str, ...],
) -> None:
    scene = Scene()
    with ExitStack() as world:
        world.enter_context(deployed(FIRST))
        scene.sent = [
            reading(10.0, at_s=20 * n, id=f"r-{n}", number=n, key=key)
            for n, key in enumerate(keys, 1)
        ]
        scene.deliver(3)
        scene.archive(1)
        scene.deployment = DURING
        world.enter_context(deployed(DURING))
        scene.fill()
        scene.verify()
        assert readable(DURING, scene.lifecycle()) == (OLD,)
        scene.check_readers()

        scene.archive(0)
        scene.fill()
        scene.verify()
        assert readable(DURING, scene.lifecycle()) == (NEW,)
        scene.check_readers()


def test_a_projection_is_not_verified_where_another_applied_more_of_a_key() -> None:
    scene = Scene()
    with ExitStack() as world:
        world.enter_context(deployed(FIRST))
        scene.sent = [
            reading(10.0, at_s=20 * n, id=f"r-{n}", number=n, key="s-1") for n in (1, 2)
        ]
        scene.deliver(2)
        scene.archive(1)
        scene.deployment = DURING
        world.enter_context(deployed(DURING))
        scene.fill()
        scene.archive(0)  # it has now what the rebuild did not see
        scene.verify()
        assert readable(DURING, scene.lifecycle()) == (OLD,)
        scene.check_readers()

        scene.fill()
        scene.verify()
        assert readable(DURING, scene.lifecycle()) == (NEW,)
        scene.check_readers()


ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(1, 12)),
        st.tuples(st.just("deliver"), st.integers(1, 30)),
        st.tuples(st.just("archive"), st.integers(0, 4)),
        st.sampled_from(
            [("deploy", 0), ("fill", 0), ("verify", 0), ("roll_out", 0)],
        ),
    ),
    min_size=8,
    max_size=40,
)


@settings(max_examples=100)
@given(ACTS, st.randoms(use_true_random=False))
def test_readers_see_the_fold_of_all_events_whenever_a_definition_changes(
    acts: list[tuple[str, int]], random: Any
) -> None:
    scene = Scene()
    number = 0
    with ExitStack() as world:
        world.enter_context(deployed(FIRST))
        for name, argument in [*acts, *_END]:
            match name:
                case "send" | "send in time":
                    made = []
                    for _ in range(argument):
                        number += 1
                        at_s = number * 20 - random.choice((0, 0, 0, 300, 1_500))
                        made.append(
                            reading(
                                random.uniform(10, 40), at_s=at_s, id=f"r-{number}",
                                number=number, key=random.choice(KEYS),
                                late=name == "send" and random.random() > 0.9,
                            )
                        )  # fmt: skip
                    scene.sent += made
                case "deliver":
                    scene.deliver(argument)
                case "archive":
                    scene.archive(argument)
                case "deploy":
                    scene.deployment = DURING
                    world.enter_context(deployed(DURING))
                case "fill":
                    scene.fill()
                case "verify":
                    scene.verify()
                case "roll_out":
                    scene.roll_out()
            scene.check_readers()
        scene.check_predictions()
        assert readable(scene.deployment, scene.lifecycle()) == (NEW,)
        assert scene.champion is NEW_CHAMPION


_END = (
    ("deploy", 0), ("send in time", 3), ("deliver", 1_000), ("archive", 0),
    ("fill", 0), ("verify", 0),
    ("roll_out", 0), ("send", 12), ("deliver", 12),
)  # fmt: skip
