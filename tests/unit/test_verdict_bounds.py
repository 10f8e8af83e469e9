"""A verdict turns at its gates exactly, and says which one it was."""

from dataclasses import replace

import pytest
from retrodict.artifact import Artifact
from retrodict.forest import LEAF, IsolationForest, Tree
from retrodict.judging import average_precision, judge, measure
from retrodict.lifecycle import CandidateJudged, decided
from retrodict.model import Gates
from retrodict.training_sets import ASSUMED, INJECTED, LABEL, JudgedRow, Row

from tests.artifacts import LIMIT, NAMES, PIPELINE, RUN, artifact
from tests.events import NOON_US, place

OPEN = Gates(min_rows=1, min_roc_auc=0.0, max_alert_rate=1_000.0)


def looks_at(place_of_feature: int, **changes: float) -> Artifact:
    """Return an artifact that alerts where that feature exceeds `LIMIT`."""
    stump = Tree(
        (place_of_feature, LEAF, LEAF), (LIMIT, 0.8, 0.2), (1, 0, 0), (2, 0, 0)
    )
    model = IsolationForest(len(NAMES), 1.0, (stump,)).to_json()
    return artifact(model=model, alert_budget=0.1, **changes)


SHARP, BLUNT = looks_at(0), looks_at(1)


def row(number: int, *high: int) -> Row:
    """Return a row in which the features at these places are high."""
    values = tuple(LIMIT + 1 if n in high else 0.0 for n in range(len(NAMES)))
    return Row("s-1", NOON_US + number, place(number), values)


# Of ten anomalies the second feature shows eight.
JUDGING = [
    *(JudgedRow(row(n, 0, 1), True, INJECTED) for n in range(1, 9)),  # noqa: FBT003
    *(JudgedRow(row(n, 0), True, INJECTED) for n in range(9, 11)),  # noqa: FBT003
    *(JudgedRow(row(n), False, ASSUMED) for n in range(11, 31)),  # noqa: FBT003
]
HELD_OUT = [j.row for j in JUDGING if not j.is_anomaly]


def test_a_candidate_behind_the_champion_by_more_than_the_margin_is_refused() -> None:
    gates = replace(OPEN, margin=0.05)

    verdict = judge(BLUNT, SHARP, JUDGING, HELD_OUT, gates)

    assert verdict.candidate.roc_auc == pytest.approx(0.9)
    assert not verdict.passed
    assert verdict.reason == (
        "ROC-AUC 0.900 is more than 0.05 under the champion's 1.000"
    )


def test_a_candidate_behind_the_champion_within_the_margin_passes() -> None:
    gates = replace(OPEN, margin=0.11)

    verdict = judge(BLUNT, SHARP, JUDGING, HELD_OUT, gates)

    assert verdict.passed
    assert "the champion: 1.000" in verdict.reason
    assert verdict.agreement == 28 / 30


def test_a_better_candidate_passes_whatever_the_margin() -> None:
    verdict = judge(SHARP, BLUNT, JUDGING, HELD_OUT, replace(OPEN, margin=0.0))

    assert verdict.passed
    assert verdict.champion is not None
    assert verdict.champion.roc_auc < verdict.candidate.roc_auc


def test_the_candidate_is_held_to_the_gates_before_the_champion() -> None:
    verdict = judge(BLUNT, SHARP, JUDGING, HELD_OUT, replace(OPEN, min_roc_auc=0.95))

    assert verdict.reason == "ROC-AUC 0.900 is under 0.95"


def test_an_area_is_refused_under_its_gate_and_not_on_it() -> None:
    figures = measure(BLUNT, JUDGING, HELD_OUT)
    roc, pr = figures.roc_auc, figures.pr_auc

    def reason(gates: Gates) -> str | None:
        verdict = judge(BLUNT, None, JUDGING, HELD_OUT, gates)
        return None if verdict.passed else verdict.reason

    assert (roc, round(pr, 4)) == (0.9, 0.8667)
    assert reason(replace(OPEN, min_roc_auc=roc, min_pr_auc=pr)) is None
    assert reason(replace(OPEN, min_roc_auc=0.91)) == "ROC-AUC 0.900 is under 0.91"
    assert reason(replace(OPEN, min_pr_auc=0.87)) == "PR-AUC 0.867 is under 0.87"


@pytest.mark.parametrize(("alerting", "passes"), [(0, True), (4, True), (5, False)])
def test_alerts_are_counted_against_a_multiple_of_the_budget(
    alerting: int, *, passes: bool
) -> None:
    held_out = [row(n, 0) if n < alerting else row(n) for n in range(20)]

    verdict = judge(SHARP, None, JUDGING, held_out, replace(OPEN, max_alert_rate=2.0))

    assert verdict.candidate.alert_rate == alerting / 20
    assert verdict.passed is passes
    assert passes or verdict.reason == (
        "25.00% of ordinary rows alert, at most 20.00% may"
    )


def test_a_score_on_the_threshold_alerts() -> None:
    assert SHARP.scorer.score([LIMIT + 1, 0.0, 0.0]) == 2**-0.2
    on_it = looks_at(0, threshold=2**-0.2)

    assert measure(on_it, JUDGING, [row(1, 0), row(2)]).alert_rate == 0.5


def test_without_ordinary_rows_nothing_alerts() -> None:
    empty = replace(row(1, 0), values=(None,) * len(NAMES))

    assert measure(SHARP, JUDGING, []).alert_rate == 0.0
    assert measure(SHARP, JUDGING, [empty]).alert_rate == 0.0


def test_a_label_that_says_ordinary_leaves_the_row_ordinary() -> None:
    labelled = [
        JudgedRow(row(11, 0), False, LABEL),  # noqa: FBT003
        JudgedRow(row(12, 0), True, LABEL),  # noqa: FBT003
        *JUDGING[:10],
        *JUDGING[12:],
    ]
    held_out = [row(11, 0), row(12, 0), row(13)]

    assert measure(SHARP, labelled, held_out).alert_rate == 0.5
    only_ordinary = [labelled[0], *labelled[2:]]
    assert judge(SHARP, None, only_ordinary, held_out, OPEN).basis == "injected"
    assert judge(SHARP, None, labelled, held_out, OPEN).basis == "injected and labels"


@pytest.mark.parametrize("champion", [None, BLUNT])
def test_every_verdict_keeps_the_contract_it_is_recorded_by(
    champion: Artifact | None,
) -> None:
    verdict = judge(SHARP, champion, JUDGING, HELD_OUT, OPEN)

    recorded = decided(
        CandidateJudged,
        NOON_US,
        pipeline=PIPELINE.name,
        run_id=RUN,
        artifact_digest=SHARP.digest,
        champion_digest=champion.digest if champion else None,
        **verdict.as_event(),
    )

    assert recorded.data["passed"] is True
    assert recorded.data["champion_pr_auc"] == (
        verdict.champion.pr_auc if verdict.champion else None
    )


def test_without_an_anomaly_there_is_no_precision() -> None:
    with pytest.raises(ValueError, match="needs anomalies"):
        average_precision([False], [0.5])
    with pytest.raises(ValueError, match="zip"):
        average_precision([True], [0.5, 0.5])
