"""A changed definition is read when its projection was seen to equal the log."""

from dataclasses import replace
from typing import Any

import pytest
from pipelines.sensor_anomaly.contract import Reading
from pipelines.sensor_anomaly.features import Sensor
from retrodict.contracts import Event, Key
from retrodict.envelope import StampedEvent
from retrodict.errors import (
    IncompatibleArtifactError,
    PipelineDefinitionError,
    ProjectionNotVerifiedError,
)
from retrodict.features import FeatureSet, feature_set, features
from retrodict.lifecycle import Decided, Lifecycle, Recorded, Verified, replay
from retrodict.online import plan, project
from retrodict.pipeline import Pipeline
from retrodict.ports import KeyedBatch
from retrodict.replaying import Comparison, compare, digest_of
from retrodict.replaying import replay as replay_events
from retrodict.switching import check_readable, is_readable, readable
from retrodict.training_run import check_candidate
from retrodict.verifying import EventsOf, judge, newest_us, verdicts
from retrodict.vocabulary import count, last, mean

from tests.artifacts import PIPELINE, artifact
from tests.deployments import deployed, record_verdicts
from tests.events import reading
from tests.fakes import FakeLifecycleStore, FakeOnlineStore

NAME = "sensor_anomaly"


@features(Reading, lateness="10m", max_rate="1/s")
class Changed:
    """The features of the next deployment."""

    mean_3 = mean(Reading.value, last(3))
    count_10m = count(Reading.value, last("10m"))


@features(Reading, lateness="10m", max_rate="1/s")
class ChangedAgain:
    """And of the one after."""

    mean_5 = mean(Reading.value, last(5))


class Other(Event, type="test.other", version=1):
    """An event of another kind."""

    key: Key[str]
    value: float


@features(Other, lateness="10m", max_rate="1/s")
class Others:
    """Features of that."""

    mean_2 = mean(Other.value, last(2))


OLD, NEW, NEWER = map(feature_set, (Sensor, Changed, ChangedAgain))
BEFORE = Pipeline(NAME, features=[Sensor])
DURING = Pipeline(NAME, features=[Changed], retiring=[Sensor])
AFTER = Pipeline(NAME, features=[Changed])
KEYS = ("s-1", "s-2", "s-3")
EVENTS = [
    reading(20.0 + n % 7, at_s=n * 5, id=f"r-{n}", number=n + 1, key=KEYS[n % 3])
    for n in range(60)
]
SEEN = Verified("a" * 64, "p-1")


def knowing(**verified: Verified | None) -> Lifecycle:
    """Return what is recorded of the definitions `old`, `new` and `newer`."""
    names = {"old": OLD, "new": NEW, "newer": NEWER}
    return Lifecycle(verified={names[n].digest: v for n, v in verified.items()})


def fold(store: FakeOnlineStore, events: list[StampedEvent]) -> None:
    """Deliver events to `write_features`."""
    batches = [(str(n), KeyedBatch(e.key, [e])) for n, e in enumerate(events, 1)]
    assert project(plan(batches), store, lambda _: None).failure is None


def of_keys(events: list[StampedEvent]) -> EventsOf:
    """Return what reads the events of some keys."""
    return lambda keys: [event for event in events if event.key in keys]


def compared(store: FakeOnlineStore, events: list[StampedEvent]) -> Comparison:
    """Compare the store with a log of these events."""
    return compare(
        replay_events(events)[0],
        store.scan(),
        of_keys(events),
    )


def fill(store: FakeOnlineStore, events: list[StampedEvent]) -> None:
    """Rebuild the store from a log of these events."""
    for item in compared(store, events).repairs():
        store.put(item)


def verify(
    pipeline: Pipeline,
    store: FakeOnlineStore,
    events: list[StampedEvent],
    decisions: FakeLifecycleStore,
) -> list[str]:
    """Compare and record, and return the kinds of what was recorded."""
    found = compared(store, events)
    judged = judge(found, of_keys(events))

    def decide(lifecycle: Lifecycle) -> Decided | None:
        return next(verdicts(pipeline, judged, newest_us(found), lifecycle), None)

    return record_verdicts(decisions, pipeline.name, decide)


def known(decisions: FakeLifecycleStore) -> Lifecycle:
    return replay(decisions.read(NAME))


@pytest.mark.parametrize(
    ("pipeline", "lifecycle", "found"),
    [
        (BEFORE, knowing(), [OLD]),
        (BEFORE, knowing(old=SEEN), [OLD]),
        (DURING, knowing(), [OLD]),
        (DURING, knowing(old=SEEN), [OLD]),
        (DURING, knowing(old=SEEN, new=SEEN), [NEW]),
        (DURING, knowing(new=SEEN), [NEW]),
        (DURING, knowing(old=SEEN, new=None), [OLD]),
        (AFTER, knowing(old=SEEN, new=SEEN), [NEW]),
        (AFTER, knowing(), [NEW]),
    ],
)
def test_readers_stay_with_the_old_definition_until_the_new_one_is_verified(
    pipeline: Pipeline, lifecycle: Lifecycle, found: list[FeatureSet]
) -> None:
    assert readable(pipeline, lifecycle) == tuple(found)


@pytest.mark.parametrize(
    ("pipeline", "lifecycle"),
    [
        (BEFORE, knowing(old=None)),
        (AFTER, knowing(old=SEEN)),
        (AFTER, knowing(new=None)),
        (DURING, knowing(newer=SEEN)),
        (DURING, knowing(old=None)),
        (Pipeline(NAME, features=[Changed], retiring=[Sensor, ChangedAgain]),
         knowing()),
    ],
)  # fmt: skip
def test_what_may_be_half_filled_is_never_read(
    pipeline: Pipeline, lifecycle: Lifecycle
) -> None:
    with pytest.raises(ProjectionNotVerifiedError, match="rebuild online --verify"):
        readable(pipeline, lifecycle)


@pytest.mark.parametrize(
    ("pipeline", "definition", "lifecycle", "serving"),
    [
        (BEFORE, OLD, knowing(), None),
        (BEFORE, OLD, knowing(), OLD.digest),
        (DURING, OLD, knowing(), NEW.digest),
        (DURING, OLD, knowing(old=SEEN, new=SEEN), NEW.digest),
        (DURING, NEW, knowing(old=SEEN, new=SEEN), OLD.digest),
        (AFTER, NEW, knowing(new=SEEN), OLD.digest),
    ],
)
def test_a_model_on_what_equals_the_log_may_be_rolled_out(
    pipeline: Pipeline,
    definition: FeatureSet,
    lifecycle: Lifecycle,
    serving: str | None,
) -> None:
    check_readable(pipeline, definition, lifecycle, serving)


@pytest.mark.parametrize(
    ("pipeline", "definition", "lifecycle", "serving"),
    [
        (DURING, NEW, knowing(), OLD.digest),
        (DURING, NEW, knowing(old=SEEN), OLD.digest),
        (DURING, NEW, knowing(), None),
        (AFTER, NEW, knowing(), OLD.digest),
        (AFTER, NEW, knowing(new=None), NEW.digest),
    ],
)
def test_a_model_on_a_projection_that_is_not_verified_is_not_rolled_out(
    pipeline: Pipeline,
    definition: FeatureSet,
    lifecycle: Lifecycle,
    serving: str | None,
) -> None:
    with pytest.raises(ProjectionNotVerifiedError, match=definition.digest[:12]):
        check_readable(pipeline, definition, lifecycle, serving)


def test_both_definitions_are_folded_while_one_retires() -> None:
    store = FakeOnlineStore()

    with deployed(DURING):
        fold(store, EVENTS)
        found = compared(store, EVENTS)

    assert found.differing == ()
    assert {item.definition for item in store.scan()} == {OLD.digest, NEW.digest}


def test_a_filled_projection_is_recorded_once_and_read_from_then_on() -> None:
    store, decisions = FakeOnlineStore(), FakeLifecycleStore()
    with deployed(BEFORE):
        fold(store, EVENTS[:30])

    with deployed(DURING):
        fold(store, EVENTS[30:])
        half = verify(DURING, store, EVENTS, decisions)
        waiting = readable(DURING, known(decisions))
        fill(store, EVENTS)
        filled = verify(DURING, store, EVENTS, decisions)
        again = verify(DURING, store, EVENTS, decisions)
        replayed, _ = replay_events(EVENTS)

    assert (half, waiting) == (["projection_verified"], (OLD,))
    assert filled == ["projection_verified"]
    assert again == []
    assert readable(DURING, known(decisions)) == (NEW,)
    own = {e: i for e, i in replayed.items() if i.definition == NEW.digest}
    seen = known(decisions).verified[NEW.digest]
    assert seen == Verified(digest_of(own), EVENTS[-1].position)


def test_a_definition_that_is_folded_no_more_is_withdrawn() -> None:
    store, decisions = FakeOnlineStore(), FakeLifecycleStore()
    with deployed(DURING):
        fold(store, EVENTS)
        verify(DURING, store, EVENTS, decisions)

    with deployed(AFTER):
        told = verify(AFTER, store, EVENTS, decisions)
        again = verify(AFTER, store, EVENTS, decisions)

    assert (told, again) == (["projection_withdrawn"], [])
    assert not is_readable(DURING, OLD, known(decisions))
    with pytest.raises(ProjectionNotVerifiedError):
        readable(BEFORE, known(decisions))


def test_a_projection_that_came_to_differ_is_withdrawn_until_it_is_equal_again() -> (
    None
):
    store, decisions = FakeOnlineStore(), FakeLifecycleStore()
    with deployed(BEFORE):
        fold(store, EVENTS)
        first = verify(BEFORE, store, EVENTS, decisions)
        entity = min(store.items)
        item = store.items[entity]
        store.items[entity] = replace(item, features='{"mean_3":0}')
        broken = verify(BEFORE, store, EVENTS, decisions)
        refused = known(decisions)
        fill(store, EVENTS)
        mended = verify(BEFORE, store, EVENTS, decisions)

    assert [first, broken, mended] == [
        ["projection_verified"], ["projection_withdrawn"], ["projection_verified"],
    ]  # fmt: skip
    assert not is_readable(BEFORE, OLD, refused)
    assert is_readable(BEFORE, OLD, known(decisions))


def test_what_is_only_ahead_of_the_log_is_neither_verified_nor_withdrawn() -> None:
    store, decisions = FakeOnlineStore(), FakeLifecycleStore()
    with deployed(BEFORE):
        fold(store, EVENTS)
        verify(BEFORE, store, EVENTS, decisions)
        behind = verify(BEFORE, store, EVENTS[:-1], decisions)
        fresh = verify(BEFORE, store, EVENTS[:-1], FakeLifecycleStore())

    assert behind == fresh == []
    assert readable(BEFORE, known(decisions)) == (OLD,)


def test_a_projection_that_lacks_an_item_is_neither_verified_nor_withdrawn() -> None:
    store, decisions = FakeOnlineStore(), FakeLifecycleStore()
    with deployed(BEFORE):
        fold(store, EVENTS)
        del store.items[BEFORE.entity(OLD, KEYS[0])]
        lacking = verify(BEFORE, store, EVENTS, decisions)
        fill(store, EVENTS)
        filled = verify(BEFORE, store, EVENTS, decisions)

    assert (lacking, filled) == ([], ["projection_verified"])


def test_items_that_wait_for_events_in_the_log_are_equal_up_to_their_position() -> None:
    store, decisions = FakeOnlineStore(), FakeLifecycleStore()
    with deployed(BEFORE):
        fold(store, EVENTS[:-2])
        told = verify(BEFORE, store, EVENTS, decisions)

    assert told == ["projection_verified"]
    seen = known(decisions).verified[OLD.digest]
    assert seen is not None
    assert seen.position == EVENTS[-3].position
    assert seen.digest == digest_of(store.items)


def test_a_verdict_survives_the_fold_of_decisions_in_two_parts() -> None:
    store, decisions = FakeOnlineStore(), FakeLifecycleStore()
    with deployed(DURING):
        fold(store, EVENTS)
        verify(DURING, store, EVENTS, decisions)
    told: list[Recorded] = decisions.read(NAME)

    assert len(told) == 2
    assert replay(told) == replay(told[1:], snapshot=replay(told[:1]))
    assert known(decisions).last_decline is None
    assert {event.time_us for event in told} == {max(e.time_us for e in EVENTS)}


@pytest.mark.parametrize(
    ("current", "retiring", "sentence"),
    [
        ([Changed], [Changed], "nothing to switch"),
        ([Changed], [Sensor, Sensor], "nothing to switch"),
        ([Changed], [Others], "nothing takes its place"),
    ],
)
def test_a_definition_that_nothing_replaces_does_not_retire(
    current: list[Any], retiring: list[Any], sentence: str
) -> None:
    with pytest.raises(PipelineDefinitionError, match=sentence):
        Pipeline(NAME, features=current, retiring=retiring)


def test_a_champion_keeps_the_definition_that_it_was_trained_on() -> None:
    names: Any = Changed
    assert PIPELINE.model is not None
    model = replace(PIPELINE.model, features=[names.mean_3])
    during = Pipeline(NAME, features=[Changed], retiring=[Sensor], model=model)
    after = Pipeline(NAME, features=[Changed], model=model)
    champion = artifact()

    assert during.trained_on is NEW
    assert champion.definition_in(during) is OLD
    with pytest.raises(IncompatibleArtifactError, match="keep the definition before"):
        champion.definition_in(after)
    with pytest.raises(IncompatibleArtifactError, match="trained on the current one"):
        check_candidate(champion, during, {"run_id": champion.run_id})
