"""Whatever fails, what was acknowledged is kept, and online is the fold of the log.

The real handlers run against services in memory that fail in every way we know of. A
seed draws the faults, so what breaks once breaks again: ``make simulate``.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from retrodict.scoring import SCORING
from retrodict_aws.kinesis_batch import again_from

from tests.simulation import mapping
from tests.simulation.answers import first_failed, malformed, naming, widened
from tests.simulation.faults import Fault
from tests.simulation.invariants import sentences
from tests.simulation.runs import ENOUGH_SEEDS, Tally, run_of
from tests.simulation.simulation import Plan, Simulation, plan_of

FEW_SEEDS = 25

SMALL = Plan(
    seed=1,
    events=20,
    keys=2,
    shards=2,
    batch_size=10,
    retries=10_000,
    oldest_us=86_400_000_000,
    waits=0.6,
    rates={
        Fault.POISON: 0.1,
        Fault.IDENTITY_CONFLICT: 0.2,
        Fault.LATE_EVENT: 0.1,
        Fault.QUIET_SPELL: 0.1,
        Fault.FOREIGN_RECORD: 0.02,
    },
)
"""A run in which nothing fails but the data, so that a fault can be put anywhere."""

ANYWHERE = (Fault.APPLIED_TIMED_OUT, Fault.LATE_LANDING)
IN_A_FUNCTION = (Fault.CRASH_BEFORE, Fault.CRASH_AFTER, Fault.ZOMBIE)


def test_few_seeds_hold_every_invariant() -> None:
    for seed in range(FEW_SEEDS):
        run = run_of(plan_of(seed))
        assert not run.violations, f"seed {seed}: {sentences(run.violations)}"


def test_many_seeds_hold_every_invariant_and_see_every_fault() -> None:
    tally = Tally()
    for seed in range(ENOUGH_SEEDS):
        tally.add(run_of(plan_of(seed)))
    told = [f"seed {run.seed}: {sentences(run.violations)}" for run in tally.broken]
    assert not told, "\n".join(told)
    assert not tally.unseen
    assert tally.training_sets > ENOUGH_SEEDS / 2
    # However often things fail here: what a batch may cost, call by call, is in `work`.
    assert tally.deliveries <= 1.5 * tally.records
    assert tally.calls <= 2 * tally.records


def test_a_seed_has_one_trace() -> None:
    digests = [run_of(plan_of(seed)).digest for seed in (5, 6, 5)]
    assert digests[0] == digests[2] != digests[1]


@pytest.mark.parametrize(
    "plan",
    [
        replace(SMALL, seed=1),
        replace(SMALL, seed=2, scores=True),
        replace(SMALL, seed=3),
        replace(SMALL, seed=4, events=8, compacts=True),
        replace(SMALL, seed=5, events=12, lanes=3, redrives=True),
    ],
    ids=["1", "2, scored", "3", "4, compacted", "5, redriven, in lanes"],
)
def test_one_fault_at_every_single_write_breaks_nothing(plan: Plan) -> None:
    sound = run_of(plan)
    assert not sound.violations, sentences(sound.violations)
    fired: dict[Fault, set[int]] = {}
    for fault in (*ANYWHERE, *IN_A_FUNCTION):
        fired[fault] = set()
        for place in range(sound.writes):
            run = run_of(replace(plan, at=(fault, place)))
            told = f"{fault.name} at {place}: {sentences(run.violations)}"
            assert not run.violations, told
            if run.fired[fault]:
                fired[fault].add(place)
    everywhere = set(range(sound.writes))
    assert all(fired[fault] == everywhere for fault in ANYWHERE)
    inside = fired[Fault.CRASH_BEFORE]
    assert len(inside) > sound.writes / 2
    assert all(fired[fault] == inside for fault in IN_A_FUNCTION)


Sabotage = Callable[[Simulation], None]


def _loses_a_put(simulation: Simulation) -> None:
    """Answer the third put of a state without keeping it."""
    table, puts = simulation.dynamodb, 0
    sound = table.put_item

    def put_item(**request: Any) -> dict[str, Any]:
        nonlocal puts
        puts += 1
        return {} if puts == 3 else sound(**request)

    table.put_item = put_item  # type: ignore[method-assign]


def _forgets_conditions(simulation: Simulation) -> None:
    """Put whatever is there: the later write wins."""
    sound = simulation.dynamodb.put_item

    def put_item(**request: Any) -> dict[str, Any]:
        for name in ("ConditionExpression", "ExpressionAttributeValues"):
            request.pop(name, None)
        return sound(**request)

    simulation.dynamodb.put_item = put_item  # type: ignore[method-assign]


def _loses_a_segment(simulation: Simulation) -> None:
    """Answer every fifth put into the log without keeping it."""
    bucket, puts = simulation.s3, 0
    sound = bucket.put_object

    def put_object(**request: Any) -> dict[str, Any]:
        nonlocal puts
        puts += request["Bucket"] == "log"
        if request["Bucket"] == "log" and puts % 5 == 0:
            return {}
        return sound(**request)

    bucket.put_object = put_object  # type: ignore[method-assign]


def _loses_quarantine(simulation: Simulation) -> None:
    """Answer puts into the quarantine without keeping anything."""
    sound = simulation.s3.put_object

    def put_object(**request: Any) -> dict[str, Any]:
        return {} if request["Bucket"] == "quarantine" else sound(**request)

    simulation.s3.put_object = put_object  # type: ignore[method-assign]


def _loses_a_record(simulation: Simulation) -> None:
    """Acknowledge one record of the validated stream that is not kept."""
    stream = simulation.events
    sound = stream.put

    def put(partition_key: str, data: bytes) -> Any:
        record = sound(partition_key, data)
        if len(list(stream.records())) == 4:
            next(s for s in stream.shards if record in s.records).records.remove(record)
        return record

    stream.put = put  # type: ignore[method-assign]


def _deletes_another_segment(simulation: Simulation) -> None:
    """Delete merged segments as well as what they replaced."""
    sound = simulation.s3.delete_object

    def delete_object(*, Bucket: str, Key: str) -> dict[str, Any]:  # noqa: N803
        merged = (key for key in simulation.s3.buckets[Bucket] if "/bucket=" in key)
        sound(Bucket=Bucket, Key=min(merged, default=Key))
        return sound(Bucket=Bucket, Key=Key)

    simulation.s3.delete_object = delete_object  # type: ignore[method-assign]


def _keeps_no_merged_segment(simulation: Simulation) -> None:
    """Answer puts of merged segments without keeping anything."""
    sound = simulation.s3.put_object

    def put_object(**request: Any) -> dict[str, Any]:
        return {} if "/bucket=" in request["Key"] else sound(**request)

    simulation.s3.put_object = put_object  # type: ignore[method-assign]


def _loses_predictions(simulation: Simulation) -> None:
    """Acknowledge predictions that are not kept."""
    sound = simulation.kinesis.put_records

    def put_records(**request: Any) -> dict[str, Any]:
        if request["StreamName"] == "predictions":
            return {"FailedRecordCount": 0, "Records": [{}] * len(request["Records"])}
        return sound(**request)

    simulation.kinesis.put_records = put_records  # type: ignore[method-assign]


def _scores_again(simulation: Simulation) -> None:
    """Answer puts of scoring states without keeping them."""
    sound = simulation.dynamodb.put_item

    def put_item(**request: Any) -> dict[str, Any]:
        is_scoring = request["Item"]["entity"]["S"].startswith(SCORING)
        return {} if is_scoring else sound(**request)

    simulation.dynamodb.put_item = put_item  # type: ignore[method-assign]


def _verifies_unseen(simulation: Simulation) -> None:
    """Let a changed definition be read without comparing it with the log."""
    operator = simulation.operator
    operator.verify = operator.promise  # type: ignore[method-assign]


def _redrives_half(simulation: Simulation) -> None:
    """Put only half of what is put in again."""
    sound = simulation.door.put

    def put(records: Iterable[tuple[str, bytes]]) -> int:
        several = [*records]
        return sound(several[::2] if simulation.mended is not None else several)

    simulation.door.put = put  # type: ignore[method-assign]


def _logs_what_it_puts(simulation: Simulation) -> None:
    """Print records before they are put, as one does to find a mistake."""
    sound = simulation.kinesis.put_records

    def put_records(**request: Any) -> dict[str, Any]:
        print(request["Records"])  # noqa: T201 - that is the defect
        return sound(**request)

    simulation.kinesis.put_records = put_records  # type: ignore[method-assign]


def _logs_in_base64(simulation: Simulation) -> None:
    """Print what functions are invoked with."""
    sound = simulation.runtime.invoke

    def invoke(function: str, event: Any, *args: Any, **named: Any) -> Any:
        print(json.dumps(event))  # noqa: T201 - that is the defect
        return sound(function, event, *args, **named)

    simulation.runtime.invoke = invoke  # type: ignore[method-assign]


def _reads_item_by_item(simulation: Simulation) -> None:
    """Read the items of a batch one after the other."""
    sound = simulation.store.load

    def load(entities: Sequence[str], **named: Any) -> dict[str, Any]:
        return {
            e: item for one in entities for e, item in sound([one], **named).items()
        }

    simulation.store.load = load  # type: ignore[method-assign]


def _puts_twice(simulation: Simulation) -> None:
    """Put every record twice, so that one is sure to arrive."""
    sound = simulation.kinesis.put_records

    def put_records(**request: Any) -> dict[str, Any]:
        sound(**request)
        return sound(**request)

    simulation.kinesis.put_records = put_records  # type: ignore[method-assign]


def _answering(answer: Callable[[list[str]], Any]) -> Sabotage:
    """Have every seventh batch that was done answered with something else."""

    def sabotage(simulation: Simulation) -> None:
        sound, count = simulation.runtime.invoke, 0

        def invoke(function: str, event: Any, *args: Any, **named: Any) -> Any:
            nonlocal count
            found = sound(function, event, *args, **named)
            count += 1
            if "Records" not in event or found is None or count % 7:
                return found
            return answer([r["kinesis"]["sequenceNumber"] for r in event["Records"]])

        simulation.runtime.invoke = invoke  # type: ignore[method-assign]

    return sabotage


@pytest.mark.parametrize(
    ("sabotage", "sentence"),
    [
        (_logs_what_it_puts, "canary was sent, and told of in"),
        (_logs_in_base64, "was sent, and told of in"),
        (_reads_item_by_item, "called BatchGetItem"),
        (_puts_twice, "put again what events took"),
        (_answering(lambda names: again_from(names[0])), "and nothing was refused"),
        (_answering(lambda names: again_from(f"{names[-1]}0")), "answered"),
        (_answering(lambda _: {"failures": []}), "answered"),
        (_verifies_unseen, "is no prefix of the log"),
        (_redrives_half, "redriven as"),
        (_deletes_another_segment, "was deleted, and"),
        (_keeps_no_merged_segment, "not compacted after"),
        (_loses_predictions, "stream: prediction"),
        (_scores_again, "is not the fold of the log"),
        (_loses_a_put, "online"),
        (_forgets_conditions, "went from version"),
        (_loses_a_segment, "the log lacks"),
        (_loses_quarantine, "quarantine lacks"),
        (_loses_a_record, "acknowledged and lost"),
    ],
)
def test_the_invariants_notice_a_defect(sabotage: Sabotage, sentence: str) -> None:
    assert any(
        sentence in violation
        for seed in range(ENOUGH_SEEDS)
        for violation in run_of(plan_of(seed), sabotage).violations
    )


def test_a_mapping_that_takes_the_first_name_for_the_lowest_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def first_named(raw: bytes, numbers: Sequence[str]) -> int | None:
        try:
            failure = json.loads(raw)["batchItemFailures"][0]
            return numbers.index(failure["itemIdentifier"])
        except (ValueError, LookupError, TypeError):
            return first_failed(raw, numbers)

    monkeypatch.setattr(mapping, "first_failed", first_named)

    plans = map(plan_of, range(ENOUGH_SEEDS))
    assert any(
        "lacks" in violation
        for plan in plans
        for violation in run_of(
            replace(plan, rates={**plan.rates, Fault.SEVERAL_FAILURES: 0.5})
        ).violations
    )


@pytest.mark.parametrize("seed", range(50))
def test_a_response_that_came_to_harm_asks_for_no_less(seed: int) -> None:
    random = Random(seed)
    numbers = [str(number) for number in range(7, 7 + random.randint(1, 9))]
    first = random.choice([None, *range(len(numbers))])
    raw = naming([] if first is None else [numbers[first]])

    several = widened(random, first, numbers)
    names = [one["itemIdentifier"] for one in json.loads(several)["batchItemFailures"]]

    assert len(names) > 1
    assert {*names} <= {*numbers}
    assert first_failed(several, numbers) == min(map(numbers.index, names))
    assert first is None or first_failed(several, numbers) == first
    assert first_failed(malformed(random, raw, numbers), numbers) == 0
