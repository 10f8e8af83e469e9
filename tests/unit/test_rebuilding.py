"""The parts of the keys, rebuilt apart, are what one process rebuilds."""

import random
from dataclasses import replace
from typing import Any

import pytest
from pipelines.sensor_anomaly.contract import Reading
from retrodict.buckets import BUCKETS, bucket_of
from retrodict.envelope import StampedEvent
from retrodict.errors import IncompleteRebuildError, StateConflictError
from retrodict.features import features
from retrodict.pipeline import Pipeline
from retrodict.ports import OnlineItem
from retrodict.rebuilding import combine, rebuild_bucket
from retrodict.replaying import (
    Comparison,
    compare,
    digest_of,
    key_of,
    replay,
    replay_log,
    split_scoring,
)
from retrodict.scoring import SCORING
from retrodict.verifying import judge
from retrodict.vocabulary import last, mean

from tests.deployments import deployed
from tests.events import reading
from tests.fakes import FakeEventLog, FakeOnlineStore

KEYS = [f"s-{number}" for number in range(30)]


def events() -> list[StampedEvent]:
    chance = random.Random(7)
    return [
        reading(
            chance.gauss(20, 3), at_s=n * 5, id=f"r-{n}", number=n + 1,
            key=chance.choice(KEYS), late=chance.random() < 0.1,
        )
        for n in range(300)
    ]  # fmt: skip


def logged(known: list[StampedEvent]) -> FakeEventLog:
    log = FakeEventLog()
    for place, start in enumerate(range(0, len(known), 50)):
        name = f"type=sensor.reading/arrived=2026-01-05/shard-{place}"
        log.append(name, known[start : start + 60])  # cuts overlap
    return log


def compared(log: FakeEventLog, store: FakeOnlineStore) -> Comparison:
    replayed, _ = replay(log.read())
    return compare(replayed, store.scan(), lambda keys: log.read(keys=keys))


def states(log: FakeEventLog, store: FakeOnlineStore) -> dict[str, str]:
    """Return what is said of each deployed projection."""
    judged = judge(compared(log, store), lambda keys: log.read(keys=keys))
    return {name: one.state for name, one in judged.items()}


def rebuilt(
    log: FakeEventLog, store: FakeOnlineStore, *, write: bool = True
) -> dict[str, object]:
    parts = [rebuild_bucket(b, log, store, write=write) for b in range(BUCKETS)]
    return combine([*reversed(parts)])


def test_parts_rebuilt_apart_have_the_digest_of_the_whole() -> None:
    log, store = logged(events()), FakeOnlineStore()
    replayed, outcomes = replay(log.read())

    done = rebuilt(log, store)
    kept, scoring = split_scoring(store.scan())

    assert len(replayed) == len(KEYS)
    assert done["log_digest"] == done["store_digest"] == digest_of(replayed)
    assert digest_of(kept) == digest_of(replayed)
    assert done["outcomes"] == dict(outcomes)
    assert done["events"] == outcomes.total()
    assert done["written"] == len(kept) + len(scoring) == 2 * len(replayed)
    assert compared(log, store).differing == ()
    assert compared(log, store).apart == ()


@pytest.mark.parametrize("event_bytes", [50, 16 << 20])
def test_a_log_in_columns_folds_to_the_items_of_its_events(event_bytes: int) -> None:
    log = logged(events())
    log.event_bytes = event_bytes  # of a large log, a part of the keys at a time

    assert replay_log(log) == replay(log.read())
    assert replay_log(log, buckets=[3, 4]) == replay(log.read(buckets=[3, 4]))


def test_what_is_equal_is_not_written() -> None:
    log, store = logged(events()), FakeOnlineStore()
    rebuilt(log, store)
    puts = store.puts

    again = rebuilt(log, store)

    assert (again["written"], again["differing"], store.puts) == (0, 0, puts)


def test_a_comparison_writes_nothing() -> None:
    log, store = logged(events()), FakeOnlineStore()

    told = rebuilt(log, store, write=False)

    assert (told["differing"], told["written"]) == (len(KEYS), 0)
    assert told["log_digest"] != told["store_digest"]
    assert store.items == {}


def test_items_that_differ_are_written_over_their_version() -> None:
    log, store = logged(events()), FakeOnlineStore()
    rebuilt(log, store)
    broken = [*store.items][:2]
    for entity in broken:
        item = store.items[entity]
        store.items[entity] = replace(item, state=item.state + b"?", version=5)

    done = rebuilt(log, store)

    assert done["written"] == 2
    assert {store.items[entity].version for entity in broken} == {6}
    assert done["log_digest"] == done["store_digest"]


def test_an_item_that_is_ahead_of_the_log_is_left_and_told_of() -> None:
    known = events()
    log, store = logged(known), FakeOnlineStore()
    rebuilt(log, store)
    key = known[-1].key
    behind = logged([event for event in known if event.position < known[-1].position])

    done = rebuilt(behind, store)

    if known[-1].late:
        pytest.fail("the example needs a last event that is applied")
    assert done["written"] == 0
    assert done["ahead"] == 2
    items = [i for e, i in store.items.items() if key_of(e) == key]
    assert {item.position for item in items} == {known[-1].position}


def test_an_item_that_was_folded_in_another_order_is_not_ahead_of_the_log() -> None:
    first = reading(20.0, id="r-1", number=1)
    again = replace(first, position=reading(20.0, id="r-1", number=2).position)
    log, store = logged([first, again]), FakeOnlineStore()
    rebuilt(logged([again]), store)  # the copy came first, after a redrive

    done = rebuilt(log, store)

    assert (done["ahead"], done["differing"], done["written"]) == (0, 1, 2)
    assert done["log_digest"] == done["store_digest"]


def test_what_a_key_remembers_of_its_last_alert_survives_a_rebuild() -> None:
    log, store = logged(events()), FakeOnlineStore()
    rebuilt(log, store)
    entity = next(entity for entity in store.items if entity.startswith(SCORING))
    item = store.items[entity]
    store.items[entity] = replace(item, features='{"alert":1}', state=b"?")

    rebuilt(log, store)

    assert store.items[entity].features == '{"alert":1}'
    assert store.items[entity].state == item.state


def test_a_lost_race_is_for_the_state_machine_to_try_again() -> None:
    class Racing(FakeOnlineStore):
        def put(self, item: OnlineItem) -> None:
            raise StateConflictError(item.entity)

    log = logged(events())
    bucket = bucket_of(KEYS[0])

    with pytest.raises(StateConflictError):
        rebuild_bucket(bucket, log, Racing(), write=True)


@pytest.mark.parametrize("how", ["missing", "null", "twice"])
def test_a_rebuild_without_all_parts_is_no_rebuild(how: str) -> None:
    log, store = logged(events()), FakeOnlineStore()
    parts = [rebuild_bucket(b, log, store, write=False) for b in range(BUCKETS)]
    broken: dict[str, list[dict[str, Any] | None]] = {
        "missing": [*parts[:-1]],
        "null": [*parts[:-1], None],
        "twice": [*parts, parts[0]],
    }

    with pytest.raises(IncompleteRebuildError, match="rebuild again"):
        combine(broken[how])


@features(Reading, lateness="10m", max_rate="2/s")
class Changed:
    """The features of the next deployment."""

    mean_5 = mean(Reading.value, last(5))


def test_a_changed_definition_is_a_new_projection_filled_beside_the_old_one() -> None:
    log, store = logged(events()), FakeOnlineStore()
    rebuilt(log, store)
    old = dict(store.items)
    (before,) = states(log, store).values()

    with deployed(Pipeline("sensor_anomaly", features=[Changed])):
        waiting = compared(log, store)
        (filling,) = states(log, store).values()
        unexplained = waiting.unexplained
        for item in waiting.repairs():
            store.put(item)
        filled = compared(log, store)
        (done,) = judge(filled, lambda keys: log.read(keys=keys)).values()

    assert (before, filling, done.state) == ("verified", "empty", "verified")
    assert unexplained == ()
    assert done.digest == digest_of(filled.replayed)
    assert len(filled.retired) == done.items == len(KEYS)
    assert {e: store.items[e] for e in old} == old
