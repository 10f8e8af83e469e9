"""A candidate replaces the champion only where frozen rows say that it may."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from retrodict.judging import average_precision, judge, roc_auc
from retrodict.model import Gates
from retrodict.training_sets import ASSUMED, INJECTED, LABEL, JudgedRow, Row
from sklearn.metrics import average_precision_score, roc_auc_score

from tests.artifacts import LIMIT, NAMES, artifact
from tests.events import NOON_US, place

GATES = Gates(min_rows=1, max_null_share=1.0, min_roc_auc=0.75, max_alert_rate=5.0)
GOOD = artifact(alert_budget=0.1)
BLIND = artifact(threshold=2.0, alert_budget=0.1)
WOLF = artifact(threshold=0.0, alert_budget=0.1)


def row(number: int, first: float | None) -> Row:
    rest = (0.0,) * (len(NAMES) - 1)
    return Row("s-1", NOON_US + number, place(number), (first, *rest))


def judged(anomalous: int, ordinary: int, *, basis: str = INJECTED) -> list[JudgedRow]:
    return [
        JudgedRow(row(n, LIMIT + 1), is_anomaly=True, basis=basis)
        for n in range(anomalous)
    ] + [
        JudgedRow(row(100 + n, LIMIT - 1), is_anomaly=False, basis=ASSUMED)
        for n in range(ordinary)
    ]


def held_out(alerting: int, calm: int) -> list[Row]:
    return [row(n, LIMIT + 1) for n in range(alerting)] + [
        row(500 + n, LIMIT - 1) for n in range(calm)
    ]


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=2, max_size=60)
    .filter(lambda rows: len({label for label, _ in rows}) == 2)
)  # fmt: skip
def test_areas_are_those_of_scikit_learn_ties_and_all(
    rows: list[tuple[bool, int]],
) -> None:
    labels, scores = [label for label, _ in rows], [score / 7 for _, score in rows]

    assert roc_auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores))
    assert average_precision(labels, scores) == pytest.approx(
        average_precision_score(labels, scores)
    )


@pytest.mark.parametrize("labels", [[], [True], [False, False]])
def test_one_class_has_no_area(labels: list[bool]) -> None:
    with pytest.raises(ValueError, match="anomalies"):
        roc_auc(labels, [0.5] * len(labels))


def test_without_a_champion_the_gates_decide() -> None:
    verdict = judge(GOOD, None, judged(5, 20), held_out(1, 19), GATES)

    assert verdict.passed
    assert "there is no champion yet" in verdict.reason
    assert verdict.as_event()["champion_roc_auc"] is None
    assert verdict.candidate.alert_rate == 1 / 20
    assert verdict.agreement is None


def test_a_candidate_that_alerts_too_often_is_refused() -> None:
    verdict = judge(WOLF, None, judged(5, 20), held_out(1, 19), GATES)

    assert not verdict.passed
    assert verdict.reason == "100.00% of ordinary rows alert, at most 50.00% may"


def test_a_candidate_that_knows_nothing_is_refused() -> None:
    equal = [replace(j, row=row(n, 0.0)) for n, j in enumerate(judged(5, 20))]

    verdict = judge(GOOD, None, equal, held_out(1, 19), GATES)

    assert not verdict.passed
    assert verdict.reason == "ROC-AUC 0.500 is under 0.75"


def test_a_champion_that_is_better_by_more_than_the_margin_stays() -> None:
    mixed = judged(6, 20)
    # The candidate is blind to two of six: it never looks at their first feature.
    blind = [replace(j, row=row(n, 0.0)) if n < 2 else j for n, j in enumerate(mixed)]
    better = judge(GOOD, GOOD, mixed, held_out(1, 19), GATES)
    worse = judge(GOOD, None, blind, held_out(1, 19), GATES)

    assert better.passed
    assert better.agreement == 1.0
    assert worse.candidate.roc_auc == pytest.approx(1 - 2 / 6 / 2)


def test_a_champion_that_cries_wolf_is_no_measure() -> None:
    verdict = judge(GOOD, WOLF, judged(5, 20), held_out(1, 19), GATES)

    assert verdict.passed
    assert verdict.champion is not None
    assert verdict.champion.alert_rate == 1.0
    assert verdict.agreement == 5 / 25


def test_labelled_anomalies_are_no_ordinary_rows() -> None:
    labelled = judged(1, 20, basis=LABEL)

    verdict = judge(GOOD, None, labelled, held_out(1, 19), GATES)

    assert verdict.basis == "injected and labels"
    assert verdict.candidate.alert_rate == 0.0


def test_rows_that_lack_a_feature_are_left_out() -> None:
    rows = [*judged(5, 20), JudgedRow(row(900, None), is_anomaly=True, basis=LABEL)]

    verdict = judge(GOOD, BLIND, rows, [*held_out(1, 19), row(901, None)], GATES)

    assert len(verdict.candidate.decisions) == 25
    assert verdict.champion is not None
    assert verdict.champion.alert_rate == 0.0
