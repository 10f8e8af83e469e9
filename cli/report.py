"""`report`: what happened to a pipeline, as one HTML file with plots."""

import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click
from retrodict.pipeline import Pipeline
from retrodict.stamps import to_text

from cli import plots
from cli.history import History
from cli.lifecycle import sentence
from cli.options import PipelineName, json_option, target_options
from cli.output import emit
from cli.story import Story, read_story
from cli.target import Target

DEFAULT: Final = Path("out/report.html")
_CSS: Final = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2933; max-width: 1080px;
       margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
table { border-collapse: collapse; font-size: 13px; width: 100%; }
th, td { text-align: left; padding: 4px 12px 4px 0; border-bottom: 1px solid #e4e7eb;
         vertical-align: top; white-space: nowrap; }
td:last-child { white-space: normal; overflow-wrap: anywhere; }
table { margin: 1rem 0; }
svg { max-width: 100%; height: auto; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 1rem; }
.figures { display: flex; flex-wrap: wrap; gap: 2rem; }
.figures div { min-width: 7rem; } .figures b { display: block; font-size: 1.3rem; }
p.note { color: #52606d; } code { font-size: 12px; }
"""

_DRIFT_NOTE: Final = (
    '<p class="note">Each statistic divided by its calibrated threshold; an alarm '
    "needs two of three measurements above one. Vertical lines: drift events (amber), "
    "champions promoted (green).</p>"
)


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return rows as an HTML table; cells are text and never markup."""
    head = "".join(f"<th>{html.escape(c)}</th>" for c in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(_text(c))}</td>" for c in row) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _text(cell: object) -> str:
    if cell is None:
        return ""
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)


def figures(values: Mapping[str, object]) -> str:
    """Return a row of large figures with their names."""
    cells = "".join(
        f"<div><b>{html.escape(_text(value))}</b>{html.escape(name)}</div>"
        for name, value in values.items()
    )
    return f'<div class="figures">{cells}</div>'


def most_alerted(story: Story) -> str | None:
    """Return the entity with the most onsets, else one that has readings."""
    onsets: dict[str, int] = {}
    for p in story.predictions:
        if p.data["is_onset"]:
            onsets[p.key] = onsets.get(p.key, 0) + 1
    if onsets:
        return max(sorted(onsets), key=lambda key: onsets[key])
    return story.readings[0].key if story.readings else None


def label_windows(story: Story, entity: str) -> list[tuple[int, int]]:
    """Return the stretches of `entity` that labels call anomalous, microseconds.

    Labels that follow each other within six hours make one stretch.
    """
    gap_us = 6 * 3_600_000_000
    times = sorted(
        e.data["at_us"]
        for e in story.labels
        if e.key == entity and e.data["is_anomaly"] and e.data["at_us"] is not None
    )
    found: list[tuple[int, int]] = []
    for time_us in times:
        if found and time_us - found[-1][1] <= gap_us:
            found[-1] = (found[-1][0], time_us)
        else:
            found.append((time_us, time_us))
    return found


def page(
    story: Story, entity: str | None, sections: Sequence[tuple[str, str]] = ()
) -> str:
    """Return the report as one HTML document that needs nothing else.

    Parameters
    ----------
    entity
        Whose scores are drawn.
    sections
        Title and HTML of what comes first.
    """
    stream = [p for p in story.predictions if p.data["mode"] == "stream"]
    asked = [p for p in story.predictions if p.data["mode"] != "stream"]
    parts = [
        f"<h1>Retrodict: {html.escape(story.pipeline.name)}</h1>",
        figures(
            {
                "events in the log": len(story.readings),
                "rejected records": story.rejected,
                "scored on the stream": len(stream),
                "answered on request": len(asked),
                "onsets": sum(bool(p.data["is_onset"]) for p in stream),
                "drift events": len(story.drift_events),
                "champions": len(story.of("champion_promoted")),
            }
        ),
        *(f"<h2>{html.escape(t)}</h2>{body}" for t, body in sections),
        "<h2>Time line of the loop</h2>",
        plots.svg(plots.timeline(story)),
    ]
    if entity is not None:
        windows = label_windows(story, entity)
        parts += [
            f"<h2>Scores and alerts of {html.escape(entity)}</h2>",
            plots.svg(plots.scores(story, entity, windows)),
            '<p class="note">Shaded: stretches that labels call anomalous.</p>'
            if windows
            else "",
        ]
    parts += [
        "<h2>Drift</h2>",
        plots.svg(plots.drift(story)),
        _DRIFT_NOTE,
        _drift_table(story),
        "<h2>Model versions</h2>",
        plots.svg(plots.versions(story.of("candidate_judged"))),
        _versions_table(story),
        '<div class="pair"><div><h2>Latency</h2>',
        plots.svg(plots.latency(story.predictions)),
        "</div><div><h2>Quarantine by reason</h2>",
        plots.svg(plots.quarantine(story.quarantined)),
        "</div></div>",
        "<h2>Every decision</h2>",
        table(
            ["time", "run", "decision"],
            [
                (to_text(d.time_us)[:19], d.data.get("run_id"),
                 sentence(d.kind, dict(d.data)))
                for d in story.decisions
            ],
        ),
    ]  # fmt: skip
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>Retrodict: {html.escape(story.pipeline.name)}</title>"
        f"<style>{_CSS}</style></head><body>{''.join(parts)}</body></html>\n"
    )


def _drift_table(story: Story) -> str:
    rows = [
        (to_text(e.time_us)[:19], e.data["feature"], e.data["statistic"],
         e.data["value"], e.data["threshold"], e.data["sample_size"])
        for e in story.drift_events
    ]  # fmt: skip
    if not rows:
        return '<p class="note">No drift event.</p>'
    columns = ["time", "feature", "statistic", "value", "threshold", "rows"]
    return table(columns, rows)


def _versions_table(story: Story) -> str:
    promoted = {d.data["artifact_digest"]: d for d in story.of("champion_promoted")}
    back = {d.data["artifact_digest"] for d in story.of("rollout_rolled_back")}
    sets = {d.data["run_id"]: d.data for d in story.of("training_set_built")}
    rows = []
    for d in story.of("candidate_judged"):
        digest = d.data["artifact_digest"]
        outcome = (
            f"champion from {to_text(promoted[digest].time_us)[:16]}"
            if digest in promoted
            else "rolled back"
            if digest in back
            else "passed"
            if d.data["passed"]
            else "refused"
        )
        rows.append(
            (digest[7:19], sets.get(d.data["run_id"], {}).get("fit_rows"),
             d.data["roc_auc"], d.data["pr_auc"], d.data["alert_rate"],
             d.data["champion_roc_auc"], d.data["basis"], outcome, d.data["reason"])
        )  # fmt: skip
    columns = ["artifact", "fit rows", "ROC-AUC", "PR-AUC", "alert rate",
               "champion's ROC-AUC", "basis", "outcome", "verdict"]  # fmt: skip
    return table(columns, rows)


def write(path: Path, text: str) -> None:
    """Write a report, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


@click.command()
@click.argument("pipeline", type=PipelineName())
@click.option("--entity", help="Whose scores are drawn; default: most onsets.")
@click.option(
    "--output",
    default=DEFAULT,
    show_default=True,
    type=click.Path(dir_okay=False, path_type=Path),
)
@json_option
@target_options
def report(
    *,
    pipeline: Pipeline,
    entity: str | None,
    output: Path,
    as_json: bool,
    target: Target,
) -> None:
    """Write what happened to PIPELINE as one HTML file with plots.

    \b
    Examples
      retrodict report sensor_anomaly
      retrodict report sensor_anomaly --entity office --output out/office.html
    """
    target.wait_idle()
    story = read_story(target, pipeline, History.read(target))
    known = {r.key for r in story.readings}
    if entity is not None and entity not in known:
        raise click.UsageError(f"the log holds nothing of entity {entity!r}")
    write(output, page(story, entity or most_alerted(story)))
    document: dict[str, Any] = {
        "report": str(output),
        "events": len(story.readings),
        "predictions": len(story.predictions),
        "decisions": len(story.decisions),
    }
    emit(json.loads(json.dumps(document)), as_json=as_json, table=f"wrote {output}")
