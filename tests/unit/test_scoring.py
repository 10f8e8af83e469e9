"""The stream is scored once an event, whatever fails and is delivered again."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from retrodict.envelope import StampedEvent
from retrodict.errors import (
    MissingFeatureError,
    StateConflictError,
    StoreUnavailableError,
    StreamUnavailableError,
)
from retrodict.explanation import explain
from retrodict.pipeline import load_catalog
from retrodict.ports import KeyedBatch, OnlineItem
from retrodict.scoring import (
    SCORING,
    StreamScored,
    plan,
    score,
    score_stream,
    stream_prediction_id,
)
from retrodict.state import KeyState
from retrodict.validation import Accepted, Arrival, validate

from tests.artifacts import ANOMALOUS, LIMIT, NAMES, ORDINARY, PIPELINE, artifact
from tests.events import NOON_US, place, reading
from tests.fakes import FakeIngestStream, FakeOnlineStore

DAY_S = 86_400.0
ARTIFACT = artifact()
CHAMPIONS = {PIPELINE.name: ARTIFACT}
Batch = list[StampedEvent]


def series(key: str = "s-1", first: int = 1) -> list[StampedEvent]:
    """Return five readings of yesterday's noon, and ten of today's; four are odd."""
    today = [20, 21, 20, 29, 30, 29, 20, 21, 30, 20]
    return [
        *(reading(20.0 + n % 3, at_s=n * 60 - DAY_S, id=f"y{n}", number=first + n,
                  key=key) for n in range(5)),
        *(reading(float(value), at_s=n * 60, id=f"t{n}", number=first + 10 + n, key=key)
          for n, value in enumerate(today)),
    ]  # fmt: skip


def delivered(events: Sequence[StampedEvent]) -> list[tuple[str, KeyedBatch]]:
    """Return each event as one record, its sequence number the event's own."""
    return [
        (str(int(e.position.rpartition("-")[2])), KeyedBatch(e.key, [e]))
        for e in events
    ]


def stamped(records: Iterable[tuple[str, bytes]]) -> list[StampedEvent]:
    """Return what the validator makes of predictions: it must accept every one."""
    found = []
    for number, (key, data) in enumerate(records, start=900):
        arrival = Arrival(place(number), key, NOON_US + 86_400_000_000)
        judged = validate(data, arrival, load_catalog())
        assert isinstance(judged, Accepted), judged
        found.append(judged.event)
    return found


def run(
    events: Sequence[StampedEvent],
    store: FakeOnlineStore | None = None,
    **options: Any,
) -> tuple[StreamScored, list[StampedEvent]]:
    stream = FakeIngestStream()
    champions = options.get("champions", CHAMPIONS)
    done = score_stream(
        plan(delivered(events)), champions, store or FakeOnlineStore(), [stream]
    )
    return done, stamped(stream.records)


def test_every_event_that_has_all_features_is_scored_once() -> None:
    done, predictions = run(series())

    assert [p.data["score"] for p in predictions] == [
        ORDINARY, ORDINARY, ORDINARY, ANOMALOUS, ANOMALOUS, ANOMALOUS, ORDINARY,
        ORDINARY, ANOMALOUS, ORDINARY,
    ]  # fmt: skip
    assert (done.predictions, done.alerts, done.unscored) == (10, 4, 5)
    assert done.unfinished is None


def test_a_prediction_says_what_it_was_made_of() -> None:
    events = series()
    _, predictions = run(events)
    _, folded = KeyState(PIPELINE.trained_on).fold(events, emit=True)
    served = {f.event.id: (f.event, f.features) for f in folded}

    for prediction in predictions:
        event, features = served[str(prediction.causation_id)]
        told = prediction.data
        row = [float(features[n]) for n in NAMES]  # type: ignore[arg-type,index]
        assert json.loads(told["features"]) == features
        assert told["score"].hex() == ARTIFACT.scorer.score(row).hex()
        assert told["position"] == event.position
        assert told["as_of_us"] == event.time_us
        assert told["artifact_digest"] == ARTIFACT.digest
        assert told["threshold"] == ARTIFACT.threshold
        assert told["mode"] == "stream"
        assert prediction.id == told["prediction_id"]
        assert prediction.key == told["entity"] == event.key


def test_every_streamed_prediction_explains_itself_to_the_bit() -> None:
    events = series()
    _, predictions = run(events)

    assert len(predictions) == 10
    for prediction in predictions:
        assert explain(prediction, events, PIPELINE, ARTIFACT).is_equal


def test_the_same_event_always_has_the_same_prediction_id() -> None:
    event = reading(1.0, id="r-1", source="plant", key="s-1")
    known = f"sensor_anomaly\nstream\ns-1\nplant\nr-1\n{event.time_us}"

    found = stream_prediction_id("sensor_anomaly", event)

    assert found == hashlib.sha256(known.encode()).hexdigest()[:32]


def test_another_identity_or_time_has_another_prediction_id() -> None:
    event = reading(1.0)
    others = [
        stream_prediction_id("sensor_anomaly", event),
        stream_prediction_id("business_metrics", event),
        stream_prediction_id("sensor_anomaly", replace(event, id="2")),
        stream_prediction_id("sensor_anomaly", replace(event, source="2")),
        stream_prediction_id("sensor_anomaly", replace(event, key="2")),
        stream_prediction_id("sensor_anomaly", replace(event, time_us=2)),
    ]

    assert len(set(others)) == len(others)


def test_what_is_not_applied_is_not_scored() -> None:
    store = FakeOnlineStore()
    events = series()
    run(events, store)
    newest = events[-1]
    fresh = reading(20.0, at_s=700, id="fresh", number=90)
    late = replace(newest, id="late", late=True, position=place(91))
    conflicting = replace(newest, digest="0" * 64, position=place(92))

    done, predictions = run([newest, fresh, late, conflicting, fresh], store)

    assert [p.causation_id for p in predictions] == ["fresh"]
    assert (done.predictions, done.unscored, done.unfinished) == (1, 0, None)
    assert run([newest, late, conflicting], store)[1] == []
    assert store.puts == 2


@pytest.mark.parametrize(
    ("gap_s", "onsets"),
    [(60, [True, False]), (7_200, [True, False]), (7_201, [True, True])],
)
def test_a_stretch_of_alerts_has_one_onset(gap_s: int, onsets: list[bool]) -> None:
    afternoon = reading(20.0, at_s=7_800 - DAY_S, id="y", number=8)
    store = FakeOnlineStore()
    run([*series()[:5], afternoon, *series()[5:8]], store)
    first = reading(60.0, at_s=300, id="a", number=50)
    second = reading(90.0, at_s=300 + gap_s, id="b", number=51)

    found = [p.data for batch in ([first], [second]) for p in run(batch, store)[1]]

    assert [p["is_alert"] for p in found] == [True, True]
    assert [p["is_onset"] for p in found] == onsets


def test_an_alert_that_arrives_out_of_order_begins_no_second_stretch() -> None:
    afternoon = reading(20.0, at_s=7_800 - DAY_S, id="y", number=8)
    store = FakeOnlineStore()
    run([*series()[:5], afternoon, *series()[5:8]], store)
    alerts = [
        reading(60.0, at_s=at_s, id=str(at_s), number=number)
        for number, at_s in enumerate((400, 300, 400 + 7_200), start=50)
    ]

    found = [p.data["is_onset"] for p in run(alerts, store)[1]]

    assert found == [True, False, False]


def test_without_a_champion_events_are_folded_and_not_scored() -> None:
    store = FakeOnlineStore()
    events = series()

    done, predictions = run(events[:12], store, champions={})
    assert (predictions, done.unscored) == ([], 0)

    _, predictions = run(events, store)
    assert [p.causation_id for p in predictions] == ["t7", "t8", "t9"]


def test_keys_are_scored_apart() -> None:
    one, two = series(), series("s-2", first=40)

    _, together = run([e for pair in zip(one, two, strict=True) for e in pair])
    _, alone = run(one)

    assert [p.data for p in together if p.key == "s-1"] == [p.data for p in alone]
    assert len(together) == 2 * len(alone)


def test_the_scoring_state_is_none_of_the_endpoint() -> None:
    store = FakeOnlineStore()
    run(series(), store)

    (item,) = store.scan()

    assert item.entity == SCORING + PIPELINE.entity(PIPELINE.trained_on, "s-1")
    assert item.state == KeyState(PIPELINE.trained_on).fold(series())[0].encode()


class Journal:
    """A store and a stream that write down the order of what was done to them."""

    def __init__(self) -> None:
        self.done: list[str] = []
        journal = self.done

        class Store(FakeOnlineStore):
            def put(self, item: OnlineItem) -> None:
                journal.append("state")
                super().put(item)

        class Stream(FakeIngestStream):
            def put(self, records: Iterable[tuple[str, bytes]]) -> int:
                journal.append("predictions")
                return super().put(records)

        self.store, self.streams = Store(), [Stream(), Stream()]


def test_predictions_go_to_every_stream_before_the_state_is_kept() -> None:
    journal = Journal()

    score_stream(plan(delivered(series())), CHAMPIONS, journal.store, journal.streams)

    assert journal.done == ["predictions", "predictions", "state"]
    assert journal.streams[0].records == journal.streams[1].records


class Failing:
    """Ports that refuse as a script says, call by call."""

    def __init__(self, script: Iterable[bool]) -> None:
        self.refusals = iter(script)
        outer = self

        class Store(FakeOnlineStore):
            def load(
                self, entities: Sequence[str], *, with_state: bool = True
            ) -> dict[str, OnlineItem]:
                if outer.refuses():
                    raise StoreUnavailableError("throttled")
                return super().load(entities, with_state=with_state)

            def put(self, item: OnlineItem) -> None:
                if outer.refuses():
                    raise StateConflictError(item.entity)
                super().put(item)
                if outer.refuses():
                    raise StoreUnavailableError("written, but nobody heard")

        class Stream(FakeIngestStream):
            def put(self, records: Iterable[tuple[str, bytes]]) -> int:
                kept = list(records)
                if outer.refuses():
                    super().put(kept[: len(kept) // 2])
                    raise StreamUnavailableError("took one half")
                return super().put(kept)

        self.store, self.stream = Store(), Stream()

    def refuses(self) -> bool:
        return next(self.refusals, False)


def deliver_until_done(
    events: Sequence[StampedEvent], cuts: Iterable[int], ports: Failing
) -> None:
    """Deliver in batches, each again from where it stopped, as Lambda does."""
    edges = sorted({0, len(events), *(cut % len(events) for cut in cuts)})
    for low, high in pairwise(edges):
        records = delivered(events[low:high])
        while records:
            done = score_stream(plan(records), CHAMPIONS, ports.store, [ports.stream])
            if done.unfinished is None:
                break
            start = [number for number, _ in records].index(done.unfinished)
            records = records[start:]


@settings(max_examples=150)
@given(
    st.lists(st.booleans(), max_size=30),
    st.lists(st.integers(0, 100), max_size=6),
    st.randoms(use_true_random=False),
)
def test_whatever_fails_the_predictions_and_the_states_are_those_of_no_failure(
    script: list[bool], cuts: list[int], random: Any
) -> None:
    events = [
        *series(),
        *series("s-2", first=40),
        *series("s-3", first=70),
    ]
    random.shuffle(events)
    events = [replace(e, position=place(n + 1)) for n, e in enumerate(events)]
    calm, stormy = Failing([]), Failing(script)
    deliver_until_done(events, [], calm)

    deliver_until_done(events, cuts, stormy)

    expected = dict(_by_id(calm.stream.records))
    found = _by_id(stormy.stream.records)
    assert dict(found) == expected
    assert all(expected[identifier] == data for identifier, data in found)
    assert {i.entity: i.content() for i in stormy.store.scan()} == {
        i.entity: i.content() for i in calm.store.scan()
    }


def _by_id(records: Iterable[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    return [(json.loads(data)["id"], data) for _, data in records]


def test_a_batch_is_asked_for_again_from_the_first_key_that_was_not_kept() -> None:
    events = [*series(), *series("s-2", first=40), *series("s-3", first=70)]
    ports = Failing([False, False, False, False, True])  # the second put is refused

    done = score_stream(plan(delivered(events)), CHAMPIONS, ports.store, [ports.stream])

    assert done.unfinished == "40"
    assert "another invocation" in str(done.failure)
    assert done.predictions == 0  # counted when they are delivered again


@pytest.mark.parametrize("missing", NAMES)
@pytest.mark.parametrize("told", [{}, {"null": None}], ids=["absent", "null"])
def test_a_feature_without_a_value_is_named(
    missing: str, told: dict[str, None]
) -> None:
    rest = {name: 1.0 for name in NAMES if name != missing}

    with pytest.raises(MissingFeatureError, match=missing) as caught:
        score(ARTIFACT, {**rest, **dict.fromkeys((missing,) * len(told))})

    assert caught.value.name == missing


def test_a_score_at_the_threshold_is_an_alert() -> None:
    features = dict.fromkeys(NAMES, 0.0) | {NAMES[0]: LIMIT + 1, "unread": None}

    assert score(artifact(threshold=ANOMALOUS), features).is_alert
    assert not score(artifact(threshold=ANOMALOUS + 1e-15), features).is_alert
