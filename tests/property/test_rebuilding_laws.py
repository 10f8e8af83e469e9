"""What the parts of the keys say of a store together is what one process says of it."""

import json
from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from retrodict.buckets import BUCKETS
from retrodict.lifecycle import Lifecycle, Verified
from retrodict.ports import OnlineItem
from retrodict.rebuilding import combine, rebuild_bucket
from retrodict.replaying import Comparison, compare, replay
from retrodict.scoring import SCORING
from retrodict.verifying import Judgement, judge, judgements_in, newest_us, verdicts

from tests.deployments import deployed
from tests.events import reading
from tests.fakes import FakeEventLog, FakeOnlineStore
from tests.property.test_switching_laws import DURING, FIRST, NEW, OLD

KEYS = [f"s-{number}" for number in range(12)]
EVENTS = [
    reading(10.0 + n % 7, at_s=20 * n, id=f"r-{n}", number=n + 1, key=KEYS[n % 12])
    for n in range(60)
]
SEEN = Verified("a" * 64, "p-1")
LIFECYCLES = [
    Lifecycle(),
    Lifecycle(verified={OLD.digest: SEEN}),
    Lifecycle(verified={OLD.digest: SEEN, NEW.digest: SEEN, "ab" * 32: SEEN}),
]


def log_of(count: int) -> FakeEventLog:
    log = FakeEventLog()
    log.append("type=sensor.reading/arrived=2026-01-05/shard-0", EVENTS[:count])
    return log


def store_of(count: int) -> FakeOnlineStore:
    """Return a store that equals the log of so many events."""
    log, store = log_of(count), FakeOnlineStore()
    for item in compared(log, store).repairs():
        store.put(item)
    return store


def compared(log: FakeEventLog, store: FakeOnlineStore) -> Comparison:
    return compare(
        replay(log.read())[0], store.scan(), lambda keys: log.read(keys=keys)
    )


def of_parts(log: FakeEventLog, store: FakeOnlineStore) -> dict[str, Any]:
    """Return what the parts say together, as the state machine passes it on."""
    parts = [
        json.loads(json.dumps(rebuild_bucket(bucket, log, store, write=False)))
        for bucket in range(BUCKETS)
    ]
    told: dict[str, Any] = json.loads(json.dumps(combine(parts)))
    return told


def sayings(judged: dict[str, Judgement], newest: int) -> list[Any]:
    """Return what would be recorded, whatever was before."""
    return [
        (decision.kind, decision.time_us, decision.data)
        for lifecycle in LIFECYCLES
        for decision in verdicts(DURING, judged, newest, lifecycle)
    ]


def check_equal(log: FakeEventLog, store: FakeOnlineStore) -> dict[str, Judgement]:
    """Hold what the parts say to what one process says, and return the latter."""
    found = compared(log, store)
    whole = judge(found, lambda keys: log.read(keys=keys))
    told = of_parts(log, store)
    joined = judgements_in(told["projections"])
    assert joined.keys() == whole.keys()
    for name, one in whole.items():
        assert (joined[name].state, joined[name].items) == (one.state, one.items)
    assert told["newest_us"] == newest_us(found)
    assert told["unexplained"] == len(found.unexplained)
    assert (
        told["scoring_items"]
        == len(found.scoring)
        + sum(entity not in found.scoring for entity in found.apart) * 0
    )
    assert told["scoring_differing"] == len(found.apart)
    retired = [n for n, one in told["projections"].items() if one["state"] == "retired"]
    assert len(retired) == len({e.partition("#")[0] for e in found.retired})
    assert sayings(joined, told["newest_us"]) == sayings(whole, newest_us(found))
    return whole


def broken(item: OnlineItem) -> OnlineItem:
    return replace(item, state=item.state + b"?")


@pytest.mark.parametrize("name", [OLD, NEW], ids=["old", "new"])
@pytest.mark.parametrize("kind", ["", SCORING], ids=["kept", "scored"])
def test_an_item_that_no_part_asks_for_leaves_a_projection_unverified(
    kind: str, name: Any
) -> None:
    with deployed(DURING):
        log, store = log_of(60), store_of(60)
        equal = check_equal(log, store)
        known = store.items[kind + DURING.entity(name, KEYS[0])]
        stranger = replace(known, entity=kind + DURING.entity(name, "nobody"))
        store.items[stranger.entity] = stranger
        told = check_equal(log, store)

    assert {one.state for one in equal.values()} == {"verified"}
    of_its_own = DURING.entity(name, "").removesuffix("#")
    assert told[of_its_own].state == "filling"
    others = {one.state for n, one in told.items() if n != of_its_own}
    assert others == {"filling" if not kind else "verified"}


def test_an_item_that_comes_does_not_hide_one_that_goes() -> None:
    class Changing(FakeOnlineStore):
        def entities(self, share: int, shares: int) -> Iterator[tuple[str, int]]:
            after = FakeOnlineStore()
            after.items = {**self.items}
            item = after.items.pop(FIRST.entity(OLD, KEYS[0]))
            entity = FIRST.entity(OLD, "nobody")
            after.items[entity] = replace(item, entity=entity)
            yield from after.entities(share, shares)

    with deployed(FIRST):
        log, store = log_of(60), Changing()
        store.items = store_of(60).items
        told = of_parts(log, store)

    assert told["unexplained"] == 1
    assert [one["state"] for one in told["projections"].values()] == ["filling"]


def test_parts_that_write_judge_nothing() -> None:
    with deployed(DURING):
        parts = [
            rebuild_bucket(bucket, log_of(60), FakeOnlineStore(), write=True)
            for bucket in range(BUCKETS)
        ]
        told = combine(parts)

    assert "projections" not in told
    assert told["written"] == 4 * len(KEYS)


ENTITIES = [
    kind + DURING.entity(definition, key)
    for kind in ("", SCORING)
    for definition in (OLD, NEW)
    for key in (*KEYS[:5], "nobody", "nobody else")
] + ["sensor_anomaly.Gone.0123456789ab#s-1", "sensor_anomaly.Gone.0123456789ab#s-2"]
FLAWS = st.lists(
    st.tuples(
        st.sampled_from(["break", "drop", "add", "age", "advance"]),
        st.sampled_from(ENTITIES),
    ),
    max_size=6,
)


@settings(max_examples=150)
@given(FLAWS, st.sampled_from([60, 59, 45]), st.integers(0, 2**32))
def test_parts_give_the_verdicts_of_one_process(
    flaws: list[tuple[str, str]], archived: int, seed: int
) -> None:
    random = Random(seed)
    with deployed(DURING):
        log, store = log_of(archived), store_of(60)
        older, newer = store_of(30).items, [*store.items.values()]
        for flaw, entity in flaws:
            item = store.items.get(entity)
            match flaw:
                case "break" if item:
                    store.items[entity] = broken(item)
                case "drop" if item:
                    del store.items[entity]
                case "age" if entity in older:
                    store.items[entity] = older[entity]
                case "advance" if item:
                    last = EVENTS[-1].position
                    store.items[entity] = replace(item, position=last)
                case "add" if not item:
                    store.items[entity] = replace(random.choice(newer), entity=entity)
        found = check_equal(log, store)
    event(" and ".join(sorted(one.state for one in found.values())))
