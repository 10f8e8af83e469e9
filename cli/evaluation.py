"""How good the alerts on a stream were, against the truth, stage by stage."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from retrodict.envelope import StampedEvent
from retrodict.judging import average_precision, roc_auc

Truth = Mapping[tuple[str, int], bool]
"""Whether the event of a (key, time in microseconds) is an anomaly."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A stretch ``[from_us, until_us)`` of event time, microseconds."""

    name: str
    from_us: int
    until_us: int


def evaluate(
    stage: Stage, predictions: Sequence[StampedEvent], truth: Truth
) -> dict[str, Any]:
    """Return the figures of one stage at the threshold that was shipped.

    Returns
    -------
    dict
        ``rows``, ``anomalies``, ``alerts``, ``onsets``, ``roc_auc``, ``pr_auc``,
        ``precision``, ``recall``, ``alert_rate``, ``false_alert_rate``; a figure that
        is not defined is null.
    """
    rows = [
        (p, truth[p.key, p.data["as_of_us"]])
        for p in predictions
        if p.data["mode"] == "stream"
        and stage.from_us <= p.data["as_of_us"] < stage.until_us
        and (p.key, p.data["as_of_us"]) in truth
    ]
    scores = [p.data["score"] for p, _ in rows]
    labels = [is_anomaly for _, is_anomaly in rows]
    alerts = [bool(p.data["is_alert"]) for p, _ in rows]
    hits = sum(a and t for a, t in zip(alerts, labels, strict=True))
    positives, flagged = sum(labels), sum(alerts)
    both = 0 < positives < len(rows)
    return {
        "rows": len(rows),
        "anomalies": positives,
        "alerts": flagged,
        "onsets": sum(bool(p.data["is_onset"]) for p, _ in rows),
        "roc_auc": roc_auc(labels, scores) if both else None,
        "pr_auc": average_precision(labels, scores) if both else None,
        "precision": hits / flagged if flagged else None,
        "recall": hits / positives if positives else None,
        "alert_rate": flagged / len(rows) if rows else None,
        "false_alert_rate": (flagged - hits) / (len(rows) - positives)
        if len(rows) > positives
        else None,
    }
