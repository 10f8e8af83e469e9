"""What a run proved, in figures that a program can read."""

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from retrodict.replaying import digest_of, replay, same_fold, split_scoring
from retrodict.stamps import to_text
from retrodict_aws.dynamodb_online_store import DynamoDBOnlineStore

from cli.evaluation import evaluate
from cli.loop import EXPLAINED, Loop
from cli.report import figures, table
from cli.story import Decision


def summarise(loop: Loop) -> dict[str, Any]:
    """Return everything `summary.json` says, but for the stages."""
    story = loop.story
    rebuilt = _rebuild(loop)
    outcomes: Mapping[str, int] = rebuilt.pop("outcomes")
    quality = {
        stage.name: evaluate(stage, story.predictions, loop.truth)
        for stage in loop.windows()
    }
    equal = sum(e["equal"] for e in loop.explained)
    summary: dict[str, Any] = {
        "sent": sum(loop.sent.values()),
        "sent_by_kind": dict(sorted(loop.sent.items())),
        "accepted": len(story.readings),
        "quarantined": story.rejected,
        "refused_at_the_door": story.refused,
        "quarantined_by_reason": dict(story.quarantined.most_common()),
        "late": outcomes.get("late", 0),
        "behind": outcomes.get("behind", 0),
        "duplicate": outcomes.get("duplicate", 0),
        "conflicting": outcomes.get("conflicting", 0),
        "applied": outcomes.get("applied", 0),
        "trainings": _told(story.of("retraining_started"), "trigger", "reason"),
        "declined": dict(
            Counter(d.data["reason_code"] for d in story.of("retraining_declined"))
        ),
        "rollouts": _rollouts(story.decisions),
        "refused_candidates": _told(
            [d for d in story.of("candidate_judged") if not d.data["passed"]],
            "artifact_digest",
            "reason",
            "roc_auc",
        ),
        "rolled_back_candidates": _told(
            story.of("rollout_rolled_back"),
            "artifact_digest",
            "serving_digest",
            "reason",
        ),
        "drift_events": [
            {
                "time": to_text(e.time_us),
                **{
                    k: e.data[k]
                    for k in ("alarm", "feature", "statistic", "value", "threshold")
                },
                "sample_size": e.data["sample_size"],
            }
            for e in story.drift_events
        ],
        "predictions": dict(Counter(p.data["mode"] for p in story.predictions)),
        "latency_ms": {
            "requests": len(loop.latencies_ms),
            "p50": round(statistics.median(loop.latencies_ms), 2),
            "p99": round(statistics.quantiles(loop.latencies_ms, n=100)[98], 2),
        },
        "asynchronous": loop.asynchronous,
        "labels": len(story.labels),
        "quality": quality,
        "rebuild": rebuilt,
        "explained": {
            "predictions": len(loop.explained),
            "equal": equal,
            "by_mode": dict(Counter(e["mode"] for e in loop.explained)),
            "different": [e for e in loop.explained if not e["equal"]],
        },
    }
    summary["broken_promises"] = broken_promises(summary)
    return summary


def _told(decisions: Sequence[Decision], *names: str) -> list[dict[str, Any]]:
    return [
        {
            "time": to_text(d.time_us),
            "run_id": d.data["run_id"],
            **{name: d.data[name] for name in names},
        }
        for d in decisions
    ]


def _rollouts(decisions: Sequence[Decision]) -> list[dict[str, Any]]:
    ends = {
        d.data["run_id"]: d
        for d in decisions
        if d.kind in {"champion_promoted", "rollout_rolled_back", "rollout_failed"}
    }
    return [
        {
            "time": to_text(d.time_us),
            "run_id": d.data["run_id"],
            "artifact_digest": d.data["artifact_digest"],
            "outcome": ends[d.data["run_id"]].kind
            if d.data["run_id"] in ends
            else "not ended",
        }
        for d in decisions
        if d.kind == "rollout_started"
    ]


def _rebuild(loop: Loop) -> dict[str, Any]:
    """Fold the whole log again and compare it with the online store."""
    store = DynamoDBOnlineStore(
        loop.target.client("dynamodb"), loop.target.outputs["OnlineStoreTableName"]
    )
    stored, scoring = split_scoring(store.scan())
    replayed, outcomes = replay(loop.story.readings)
    return {
        "items": len(replayed),
        "equal": sum(
            stored[entity].content() == item.content()
            for entity, item in replayed.items()
            if entity in stored
        ),
        "log_digest": digest_of(replayed),
        "store_digest": digest_of(stored),
        "scoring_items": len(scoring),
        "scoring_equal": sum(same_fold(item, replayed) for item in scoring.values()),
        "outcomes": dict(outcomes),
    }


def broken_promises(summary: Mapping[str, Any]) -> list[str]:
    """Return what a summary says that must not be so; nothing if all came true."""
    quality = summary["quality"]
    during, after = quality["during drift"], quality["after retraining"]
    rebuilt, explained = summary["rebuild"], summary["explained"]
    promises = {
        "every record sent is in the log or was refused at the door": summary["sent"]
        == summary["accepted"] + summary["refused_at_the_door"],
        "broken records are in quarantine": summary["quarantined"] > 0,
        "an alarm of real drift started a retraining": any(
            t["trigger"] == "drift" for t in summary["trainings"]
        ),
        "a drift event is in the log": bool(summary["drift_events"]),
        "the bad candidate was refused": bool(summary["refused_candidates"]),
        "the broken candidate was rolled back": bool(summary["rolled_back_candidates"]),
        "retraining brought the precision back": (after["precision"] or 0)
        > (during["precision"] or 0),
        "the rebuilt online store equals the log": rebuilt["log_digest"]
        == rebuilt["store_digest"],
        "what the stream is scored from equals the log": rebuilt["scoring_items"]
        == rebuilt["scoring_equal"],
        f"{EXPLAINED} predictions are explained byte for byte": explained["equal"]
        == explained["predictions"]
        == EXPLAINED,
    }
    return [promise for promise, holds in promises.items() if not holds]


def section(summary: Mapping[str, Any]) -> str:
    """Return the summary as the first section of a report, HTML."""
    names = ["rows", "anomalies", "alerts", "onsets", "roc_auc", "pr_auc", "precision",
             "recall", "alert_rate", "false_alert_rate"]  # fmt: skip
    rows = [
        (stage, *(found[name] for name in names))
        for stage, found in summary["quality"].items()
    ]
    head = figures(
        {
            "records sent": summary["sent"],
            "accepted": summary["accepted"],
            "quarantined": summary["quarantined"],
            "late": summary["late"],
            "duplicate": summary["duplicate"],
            "conflicting": summary["conflicting"],
            "prediction p50, ms": summary["latency_ms"]["p50"],
            "prediction p99, ms": summary["latency_ms"]["p99"],
            "explained, equal": f"{summary['explained']['equal']} of "
            f"{summary['explained']['predictions']}",
        }
    )
    rebuilt = summary["rebuild"]
    proof = table(
        ["rebuilt and compared", "keys", "equal", "sha256"],
        [
            ("from the log", rebuilt["items"], rebuilt["equal"], rebuilt["log_digest"]),
            ("the online store", "", "", rebuilt["store_digest"]),
            ("what the stream is scored from", rebuilt["scoring_items"],
             rebuilt["scoring_equal"], ""),
        ],
    )  # fmt: skip
    return head + table(["stage", *names], rows) + proof
