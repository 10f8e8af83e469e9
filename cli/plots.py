"""The pictures of a report, as SVG that a page holds itself.

Everything is drawn from the story's own figures; an empty story gives an empty plot
that says so.
"""

import io
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, Final

import matplotlib as mpl
from matplotlib import dates as mdates
from matplotlib.figure import Figure
from retrodict.envelope import StampedEvent
from retrodict.system_events import MODES

from cli.story import Decision, DriftSeries, Story

mpl.use("svg")
INK: Final = "#1f2933"
QUIET: Final = "#9aa5b1"
BLUE: Final = "#2667c9"
RED: Final = "#c62f2f"
GREEN: Final = "#2b8a4b"
AMBER: Final = "#d9822b"
SHADE: Final = "#f6d4d4"
HOUR_US: Final = 3_600_000_000
STEEP: Final = 10
"""Values above it are drawn on a logarithmic scale."""

_STYLE: Final[Any] = {
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.family": "sans-serif",
    "font.size": 10,
    "svg.fonttype": "none",
    "svg.hashsalt": "retrodict",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}
LANES: Final[Sequence[tuple[str, str, str]]] = (
    ("retraining_started", "retraining started", BLUE),
    ("retraining_declined", "retraining declined", QUIET),
    ("training_set_built", "training set built", BLUE),
    ("training_set_refused", "training set refused", RED),
    ("candidate_judged", "candidate judged", BLUE),
    ("rollout_started", "rollout started", BLUE),
    ("champion_promoted", "champion promoted", GREEN),
    ("rollout_rolled_back", "rolled back", RED),
    ("rollout_failed", "rollout failed", RED),
    ("run_failed", "run failed", RED),
)


def moment(time_us: int) -> Any:
    """Return microseconds as an instant that matplotlib can place."""
    return datetime.fromtimestamp(time_us / 1e6, UTC)


def svg(figure: Figure) -> str:
    """Return a figure as an ``<svg>`` element without a date, so it repeats."""
    buffer = io.StringIO()
    with mpl.rc_context(_STYLE):
        figure.savefig(
            buffer, format="svg", metadata={"Date": None}, bbox_inches="tight"
        )
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def png(figure: Figure, path: Any) -> None:
    """Write a figure as a PNG file, for a README."""
    with mpl.rc_context(_STYLE):
        figure.savefig(path, format="png", dpi=110, bbox_inches="tight")


def drawn(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Draw in the report's style."""

    def styled(*args: Any, **kwargs: Any) -> Figure:
        with mpl.rc_context(_STYLE):
            return draw(*args, **kwargs)

    styled.__doc__ = draw.__doc__
    return styled


def _dates(axes: Any) -> None:
    locator = mdates.AutoDateLocator()  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    formatter = mdates.ConciseDateFormatter(locator)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_formatter(formatter)


def _steep(axes: Any, most: float) -> None:
    """Let an axis from zero show small and very large values, where there are any."""
    if most > STEEP:
        axes.set_yscale("symlog", linthresh=STEEP)
    axes.set_ylim(bottom=0)


def _nothing(axes: Any, why: str) -> None:
    axes.text(0.5, 0.5, why, ha="center", va="center", color=QUIET,
              transform=axes.transAxes)  # fmt: skip
    axes.set_xticks([])
    axes.set_yticks([])


@drawn
def timeline(story: Story) -> Figure:
    """Draw volume, alerts and every decision over time."""
    figure = Figure(figsize=(11, 5.2))
    above, lanes = figure.subplots(2, 1, sharex=True, height_ratios=[1.2, 2])
    hours = Counter(r.observed_at_us // HOUR_US for r in story.readings)
    alerts = Counter(
        p.data["as_of_us"] // HOUR_US for p in story.predictions if p.data["is_alert"]
    )
    at = sorted(hours)
    above.fill_between([moment(h * HOUR_US) for h in at], [hours[h] for h in at],
                       color=QUIET, alpha=0.35, step="mid",
                       label="events an hour")  # fmt: skip
    at = sorted(alerts)
    above.bar([moment(h * HOUR_US) for h in at], [alerts[h] for h in at],
              width=1 / 24, color=RED, label="alerts an hour")  # fmt: skip
    _steep(above, max([*hours.values(), *alerts.values()], default=0))
    above.legend(loc="upper left", frameon=False, ncols=2)
    rows = [("drift", "drift event", AMBER), *LANES]
    seen = {d.kind for d in story.decisions} | {"drift"}
    rows = [row for row in rows if row[0] in seen][::-1]
    for place, (kind, _, colour) in enumerate(rows):
        times = (
            [e.time_us for e in story.drift_events]
            if kind == "drift"
            else [d.time_us for d in story.of(kind)]
        )
        colours = (
            [GREEN if d.data["passed"] else RED for d in story.of(kind)]
            if kind == "candidate_judged"
            else colour
        )
        lanes.scatter([moment(t) for t in times], [place] * len(times), c=colours,
                      s=42, zorder=3)  # fmt: skip
        lanes.axhline(place, color=QUIET, linewidth=0.5, alpha=0.5)
    lanes.set_yticks(range(len(rows)), [title for _, title, _ in rows])
    for promoted in story.of("champion_promoted"):
        for axes in (above, lanes):
            axes.axvline(moment(promoted.time_us), color=GREEN, linewidth=0.8)
    _dates(lanes)
    return figure


@drawn
def scores(
    story: Story, entity: str, windows: Sequence[tuple[int, int]] = ()
) -> Figure:
    """Draw readings, scores, threshold and onsets of one entity.

    Parameters
    ----------
    windows
        Labelled stretches, microseconds, shaded.
    """
    figure = Figure(figsize=(11, 5))
    value_axes, score_axes = figure.subplots(2, 1, sharex=True)
    own = sorted(
        (p for p in story.predictions
         if p.key == entity and p.data["mode"] == "stream"),
        key=lambda p: p.data["as_of_us"],
    )  # fmt: skip
    field = story.pipeline.trained_on.fields[0]
    readings = sorted(
        (r for r in story.readings if r.key == entity), key=lambda r: r.time_us
    )
    value_axes.plot([moment(r.time_us) for r in readings],
                    [r.data[field] for r in readings], color=INK,
                    linewidth=0.7)  # fmt: skip
    value_axes.set_ylabel(f"{field} of {entity}")
    if own:
        at = [moment(p.data["as_of_us"]) for p in own]
        score_axes.plot(at, [p.data["score"] for p in own], color=BLUE, linewidth=0.6,
                        label="score")  # fmt: skip
        score_axes.step(at, [p.data["threshold"] for p in own], color=AMBER,
                        where="post", label="threshold")  # fmt: skip
        alerts = [p for p in own if p.data["is_alert"]]
        score_axes.scatter([moment(p.data["as_of_us"]) for p in alerts],
                           [p.data["score"] for p in alerts], s=8, color=RED,
                           label="alert", zorder=3)  # fmt: skip
        onsets = [p for p in own if p.data["is_onset"]]
        score_axes.scatter([moment(p.data["as_of_us"]) for p in onsets],
                           [p.data["score"] for p in onsets], s=70, marker="v",
                           color=RED, label="onset", zorder=4)  # fmt: skip
        score_axes.legend(loc="upper left", frameon=False, ncols=4)
    else:
        _nothing(score_axes, f"nothing of {entity} was scored on the stream")
    score_axes.set_ylabel("score")
    for start, end in windows:
        for axes in (value_axes, score_axes):
            axes.axvspan(moment(start), moment(end), color=SHADE, zorder=0)
    _dates(score_axes)
    return figure


@drawn
def drift(story: Story) -> Figure:
    """Draw every drift statistic over its threshold, with drift events."""
    figure = Figure(figsize=(11, 3.8))
    axes = figure.subplots()
    if not story.drift:
        _nothing(axes, "no window was measured yet")
        return figure
    peak = sorted(story.drift, key=lambda s: -max(s.ratio, default=0))
    colours = mpl.colormaps["tab10"]
    for place, series in enumerate(peak):
        is_named = place < 8  # noqa: PLR2004 - what a legend can hold
        axes.plot(*_with_gaps(series),
                  color=colours(place) if is_named else QUIET,
                  linewidth=1.4 if is_named else 0.6, alpha=1 if is_named else 0.5,
                  label=f"{series.feature} {series.statistic}" if is_named
                  else None)  # fmt: skip
    axes.axhline(1, color=RED, linewidth=1, linestyle="--")
    axes.text(0.995, 1.03, "threshold", ha="right", color=RED, fontsize=8,
              transform=axes.get_yaxis_transform())  # fmt: skip
    for event in story.drift_events:
        axes.axvline(moment(event.time_us), color=AMBER, linewidth=0.8, alpha=0.7)
    for promoted in story.of("champion_promoted"):
        axes.axvline(moment(promoted.time_us), color=GREEN, linewidth=1)
    axes.set_ylabel("statistic / threshold")
    _steep(axes, max((max(s.ratio, default=0) for s in story.drift), default=0))
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), frameon=False, ncols=4,
                fontsize=8)  # fmt: skip
    _dates(axes)
    return figure


def _with_gaps(series: DriftSeries) -> tuple[list[Any], list[float]]:
    """Return times and ratios, with a hole where windows were not measured."""
    times_us, ratios = series.times_us, series.ratio
    steps = [after - before for before, after in pairwise(times_us)]
    usual_us = min(steps, default=0)
    times: list[Any] = []
    values: list[float] = []
    for time_us, step_us, ratio in zip(times_us, [*steps, 0], ratios, strict=True):
        times.append(moment(time_us))
        values.append(ratio)
        if step_us > 2 * usual_us:
            times.append(moment(time_us + usual_us))
            values.append(math.nan)
    return times, values


@drawn
def latency(predictions: Sequence[StampedEvent]) -> Figure:
    """Draw how long answers took, by mode."""
    figure = Figure(figsize=(5.2, 3))
    axes = figure.subplots()
    drew = False
    for mode, colour in zip(MODES, (BLUE, AMBER, GREEN, QUIET, INK), strict=True):
        took = [
            p.data["latency_us"] / 1_000
            for p in predictions
            if p.data["mode"] == mode and p.data["latency_us"] is not None
        ]
        if took:
            drew = True
            axes.hist(took, bins=40, color=colour, alpha=0.7, label=mode)
    if drew:
        axes.set_xlabel("ms from request to answer, in the endpoint")
        axes.set_ylabel("answers")
        axes.legend(frameon=False)
    else:
        _nothing(axes, "the endpoint answered nothing yet")
    return figure


@drawn
def quarantine(counts: Mapping[str, int]) -> Figure:
    """Draw rejected records by reason."""
    figure = Figure(figsize=(5.2, 3))
    axes = figure.subplots()
    if not counts:
        _nothing(axes, "nothing was rejected")
        return figure
    reasons = sorted(counts, key=lambda code: counts[code])
    axes.barh(reasons, [counts[r] for r in reasons], color=AMBER)
    axes.set_xlabel("records")
    return figure


@drawn
def versions(judged: Sequence[Decision]) -> Figure:
    """Draw the judged candidates: ROC-AUC and alert rate, passed or refused."""
    figure = Figure(figsize=(11, 2.6))
    left, right = figure.subplots(1, 2)
    if not judged:
        for axes in (left, right):
            _nothing(axes, "no candidate was judged yet")
        return figure
    names = [str(d.data["artifact_digest"])[7:15] for d in judged]
    colours = [GREEN if d.data["passed"] else RED for d in judged]
    for axes, figure_name, title in (
        (left, "roc_auc", "ROC-AUC on the judging rows"),
        (right, "alert_rate", "share of ordinary rows that alert"),
    ):
        axes.bar(
            range(len(names)), [d.data[figure_name] for d in judged], color=colours
        )
        axes.set_xticks(range(len(names)), names)
        axes.set_title(title, fontsize=10)
    return figure
