"""`run`: the whole loop on this machine, from the template that ships.

A simulated fleet of sensors sends readings, good and broken. A first model is trained
and rolled out; the stream is scored; some sensors move for good; an alarm says so and
starts the next retraining by itself. Then two candidates that must never serve are
tried: a bad one, which judging refuses, and a broken one, which its alarm rolls back.
At last everything is rebuilt from the log, and predictions are explained.
"""

import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click
from pipelines.sensor_anomaly.fleet import SCENARIO
from retrodict.pipeline import load_pipelines
from rich.console import Console

from cli import plots, twin
from cli.loop import Loop, LoopError
from cli.options import json_option
from cli.output import emit
from cli.report import page, write
from cli.resources import Peak
from cli.summary import section, summarise
from cli.target import STATE_FILE, Target

FOLDER: Final = Path("out/run")
PIPELINE: Final = "sensor_anomaly"


class RunError(click.ClickException):
    """The loop did not do what it promises; the sentence says what is missing."""

    exit_code = 1


@click.command()
@click.option(
    "--output",
    default=FOLDER,
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of what is written.",
)
@click.option("--keep", is_flag=True, help="Leave the twin running afterwards.")
@json_option
def run(*, output: Path, keep: bool, as_json: bool) -> None:
    """Turn the whole loop once: data, training, rollout, drift, retraining, proof.

    Needs no AWS account. Writes report.html, summary.json and two plots as PNG, and
    exits with 1 when anything did not happen as promised.

    \b
    Examples
      retrodict run
      retrodict run --keep && retrodict predict sensor_anomaly --entity s-003
    """
    console = Console(stderr=as_json, soft_wrap=True)
    began = time.monotonic()
    console.print("[bold]retrodict run[/]: the template that ships, on this machine")
    start_at = datetime.fromtimestamp(SCENARIO.start_us / 1e6, UTC)
    state, _ = twin.start("dev", start_at=start_at)
    try:
        with Peak(state["pid"]) as peak:
            target = Target("dev", state["endpoint_url"], is_twin=True)
            pipeline = load_pipelines()[PIPELINE]
            loop = Loop(target, pipeline, console, peak, began)
            loop.stage_done("start", began)
            try:
                loop.turn()
            except LoopError as error:
                raise RunError(str(error)) from error
            with loop.stage("report"):
                summary = summarise(loop)
                story = loop.story
                sections = [("What was proven", section(summary))]
                shown = loop.entity_to_show()
                write(output / "report.html", page(story, shown, sections))
                plots.png(plots.timeline(story), output / "timeline.png")
                plots.png(plots.scores(story, shown), output / "scores.png")
        summary["stages"] = loop.stages
        summary["wall_seconds"] = round(time.monotonic() - began, 1)
        summary["peak_mib"] = round(peak.overall_mib)
        write(output / "summary.json", json.dumps(summary, indent=2) + "\n")
    finally:
        if not keep:
            twin.stop(state["pid"])
            STATE_FILE.unlink(missing_ok=True)
    console.print(
        f"[bold]done[/] after {summary['wall_seconds']} s, peak "
        f"{summary['peak_mib']} MiB: {output}/report.html, {output}/summary.json"
    )
    if as_json:
        emit(summary, as_json=True)
    if summary["broken_promises"]:
        for promise in summary["broken_promises"]:
            console.print(f"[red]broken promise:[/] {promise}")
        sys.exit(1)
