"""Judge a candidate against the champion, on rows that neither chose."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from retrodict.artifact import Artifact
from retrodict.model import Gates
from retrodict.training_sets import LABEL, JudgedRow, Row


def roc_auc(labels: Sequence[bool], scores: Sequence[float]) -> float:
    """Return the area under the ROC curve; ties count half.

    The probability that an anomaly scores above an ordinary row [1]_.

    Parameters
    ----------
    labels, scores
        Truth and score of each row, shape (n,), with both classes.

    Raises
    ------
    ValueError
        There is only one class.

    References
    ----------
    .. [1] J. A. Hanley and B. J. McNeil (1982), Radiology 143(1), 29-36.
       doi:10.1148/radiology.143.1.7063747

    Examples
    --------
    >>> roc_auc([False, True, False, True], [0.1, 0.9, 0.4, 0.4])
    0.875
    """
    positives = sum(labels)
    negatives = len(labels) - positives
    if not positives or not negatives:
        raise ValueError("ROC-AUC needs anomalies and ordinary rows")
    ranked = sorted(zip(scores, labels, strict=True))
    doubled = below = start = 0
    while start < len(ranked):
        stop = start
        while stop < len(ranked) and ranked[stop][0] == ranked[start][0]:
            stop += 1
        hits = sum(is_anomaly for _, is_anomaly in ranked[start:stop])
        ordinary = stop - start - hits
        doubled += hits * (2 * below + ordinary)
        below += ordinary
        start = stop
    return doubled / (2 * positives * negatives)


def average_precision(labels: Sequence[bool], scores: Sequence[float]) -> float:
    """Return the area under the precision-recall curve, as a sum of steps.

    Raises
    ------
    ValueError
        There is no anomaly.

    Examples
    --------
    >>> average_precision([False, True, True], [0.1, 0.9, 0.4])
    1.0
    """
    positives = sum(labels)
    if not positives:
        raise ValueError("average precision needs anomalies")
    ranked = sorted(zip(scores, labels, strict=True), reverse=True)
    area = 0.0
    hits = place = 0
    while place < len(ranked):
        score, before = ranked[place][0], hits
        while place < len(ranked) and ranked[place][0] == score:
            hits += ranked[place][1]
            place += 1
        area += (hits - before) / positives * (hits / place)
    return area


@dataclass(frozen=True, slots=True)
class Figures:
    """How one model does on the judging and the held-out rows."""

    roc_auc: float
    pr_auc: float
    alert_rate: float
    decisions: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a candidate may replace the champion, and why.

    Attributes
    ----------
    basis
        Whose anomalies: ``injected`` or ``injected and labels``.
    agreement
        Share of judging rows that both decide alike; null without a champion.
    """

    passed: bool
    reason: str
    basis: str
    candidate: Figures
    champion: Figures | None
    agreement: float | None

    def as_event(self) -> dict[str, Any]:
        """Return the figures as ``candidate_judged`` names them."""
        return {
            "passed": self.passed,
            "reason": self.reason,
            "basis": self.basis,
            "roc_auc": self.candidate.roc_auc,
            "pr_auc": self.candidate.pr_auc,
            "alert_rate": self.candidate.alert_rate,
            "champion_roc_auc": self.champion.roc_auc if self.champion else None,
            "champion_pr_auc": self.champion.pr_auc if self.champion else None,
            "agreement": self.agreement,
        }


def measure(
    artifact: Artifact, judging: Sequence[JudgedRow], held_out: Sequence[Row]
) -> Figures:
    """Score the rows with one model; incomplete rows are left out."""
    rows = [j for j in judging if j.row.is_complete]
    scorer = artifact.scorer
    scores = [scorer.score(j.row.values) for j in rows]  # type: ignore[arg-type]
    labels = [j.is_anomaly for j in rows]
    known = {
        (j.row.key, j.row.time_us) for j in rows if j.basis == LABEL and j.is_anomaly
    }
    ordinary = [
        r for r in held_out if r.is_complete and (r.key, r.time_us) not in known
    ]
    alerts = sum(
        scorer.score(row.values) >= artifact.threshold  # type: ignore[arg-type]
        for row in ordinary
    )
    return Figures(
        roc_auc=roc_auc(labels, scores),
        pr_auc=average_precision(labels, scores),
        alert_rate=alerts / len(ordinary) if ordinary else 0.0,
        decisions=tuple(score >= artifact.threshold for score in scores),
    )


def judge(
    candidate: Artifact,
    champion: Artifact | None,
    judging: Sequence[JudgedRow],
    held_out: Sequence[Row],
    gates: Gates,
) -> Verdict:
    """Judge a candidate by the gates, and against the champion on the same rows."""
    figures = measure(candidate, judging, held_out)
    other = measure(champion, judging, held_out) if champion else None
    agreement = None
    if other is not None:
        alike = map(bool.__eq__, figures.decisions, other.decisions)
        agreement = sum(alike) / len(figures.decisions)
    has_labels = any(j.basis == LABEL and j.is_anomaly for j in judging)
    refusal = _refusal(figures, other, gates, candidate.alert_budget)
    return Verdict(
        passed=refusal is None,
        reason=refusal or _praise(figures, other),
        basis="injected and labels" if has_labels else "injected",
        candidate=figures,
        champion=other,
        agreement=agreement,
    )


def _refusal(
    figures: Figures, champion: Figures | None, gates: Gates, budget: float
) -> str | None:
    most = gates.max_alert_rate * budget
    if figures.roc_auc < gates.min_roc_auc:
        return f"ROC-AUC {figures.roc_auc:.3f} is under {gates.min_roc_auc}"
    if figures.pr_auc < gates.min_pr_auc:
        return f"PR-AUC {figures.pr_auc:.3f} is under {gates.min_pr_auc}"
    if figures.alert_rate > most:
        return (
            f"{figures.alert_rate:.2%} of ordinary rows alert, at most {most:.2%} may"
        )
    if champion is not None and champion.alert_rate > most:
        return None  # a champion that cries wolf is no measure to be held to
    if champion is not None and figures.roc_auc < champion.roc_auc - gates.margin:
        return (
            f"ROC-AUC {figures.roc_auc:.3f} is more than {gates.margin} under the "
            f"champion's {champion.roc_auc:.3f}"
        )
    return None


def _praise(figures: Figures, champion: Figures | None) -> str:
    text = f"ROC-AUC {figures.roc_auc:.3f}, {figures.alert_rate:.2%} of ordinary alert"
    if champion is None:
        return f"{text}; there is no champion yet"
    return (
        f"{text}; the champion: {champion.roc_auc:.3f}, {champion.alert_rate:.2%} "
        "on the same rows"
    )
