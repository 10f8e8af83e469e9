"""What a user writes about a model: features, fit, budget, gates, monitors, rollout.

Everything that trains, judges, serves and watches reads this one definition.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as attribute
from typing import Any, Final, Protocol

from retrodict.envelope import StampedEvent
from retrodict.errors import PermanentError, PipelineDefinitionError
from retrodict.expressions import Expression
from retrodict.features import Feature
from retrodict.stamps import duration_us

SCORE: Final = "score"
"""Name of the score among what drift is measured on; no feature may have it."""


class Scorer(Protocol):
    """A fitted model as data; `retrodict.forest.IsolationForest` is one."""

    def score(self, row: Sequence[float]) -> float:
        """Return the score of one row of features, greater is more anomalous."""

    def to_json(self) -> dict[str, Any]:
        """Return the model as JSON can say it, with its ``kind``."""


Fit = Callable[[Sequence[Sequence[float]], int, Mapping[str, Any]], Scorer]
"""Rows (n_samples, n_features), seed and options to a fitted model.

It runs in the training container only, and imports what it needs when called.
"""

Inject = Callable[[Sequence[StampedEvent], int], tuple[list[StampedEvent], set[str]]]
"""Events in the order of knowing and a seed to the same events with anomalies put in,
and the identities (``source`` + newline + ``id``) of those that are anomalous."""


@dataclass(frozen=True, kw_only=True)
class Gates:
    """What a candidate must reach, and by how much it may fall behind the champion.

    Attributes
    ----------
    min_rows
        Fewest rows a model may be fitted on.
    max_null_share
        Largest share of rows that may lack a feature.
    min_roc_auc, min_pr_auc
        On the frozen judging rows with known or injected anomalies.
    max_alert_rate
        Largest share of held-out rows that may alert, as a multiple of the budget.
    margin
        How much ROC-AUC a candidate may lose against the champion on the same rows
        and still replace it.
    """

    min_rows: int = 1_000
    max_null_share: float = 0.5
    min_roc_auc: float = 0.8
    min_pr_auc: float = 0.0
    max_alert_rate: float = 3.0
    margin: float = 0.01


@dataclass(frozen=True, kw_only=True)
class Retraining:
    """When to retrain; durations such as ``"12h"``.

    Attributes
    ----------
    cool_down
        Least time between the starts of two retrainings.
    daily_budget
        Most retrainings started in any 24 hours.
    every
        Ask for one when the champion is this old; None for never.
    """

    cool_down: str = "6h"
    daily_budget: int = 3
    every: str | None = "7d"

    def __post_init__(self) -> None:
        """Refuse what is no duration."""
        _duration("cool_down", self.cool_down)
        if self.every is not None:
            _duration("every", self.every)

    @property
    def cool_down_us(self) -> int:
        """Cool-down, microseconds."""
        return duration_us(self.cool_down)

    @property
    def every_us(self) -> int | None:
        """Age at which a champion is replaced, microseconds."""
        return None if self.every is None else duration_us(self.every)


@dataclass(frozen=True, kw_only=True)
class Canary:
    """How a candidate takes over.

    Attributes
    ----------
    percent
        Share of the capacity that the candidate gets first, %.
    bake_s
        How long each step is watched, s.
    max_latency_us
        Mean model latency that rolls it back, microseconds.
    max_decision_rate
        Share of alerts that rolls it back, as a multiple of the alert budget.
    """

    percent: int = 20
    bake_s: int = 600
    max_latency_us: int = 1_000_000
    max_decision_rate: float = 8.0


@dataclass(frozen=True, kw_only=True)
class Monitor:
    """How drift is watched.

    Attributes
    ----------
    window
        Stretch of the log that is compared with the champion's reference profile; a
        whole number of days keeps the same hours on both sides.
    min_rows
        Windows with fewer rows are not measured.
    """

    window: str = "24h"
    min_rows: int = 200

    @property
    def window_us(self) -> int:
        """Length of a window, microseconds."""
        return duration_us(self.window)


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model of one feature set.

    Attributes
    ----------
    features
        Features of one set, such as ``[Sensor.deviation]``, in the model's order; a
        type checker takes them for the expressions they were written as.
    fit
        Fits the model; see `Fit`.
    inject
        Puts known anomalies into held-out events; see `Inject`.
    alert_budget
        Share of ordinary rows that may alert; the threshold is calibrated to it.
    fit_window, held_out
        How much of the log, by event time, a model is fitted on, and how much after
        that is held out to calibrate and to judge.
    held_out_rows
        Fewest events that are held out, however far back they lie: a budget of 1 %
        cannot be seen in a day of hourly readings.
    max_age
        How old the newest event of an entity may be for a real-time prediction.
    onset_gap
        Alerts closer than this belong to one stretch and give one onset.
    """

    features: Sequence[Expression]
    fit: Fit
    inject: Inject
    alert_budget: float = 0.01
    fit_window: str = "14d"
    held_out: str = "1d"
    held_out_rows: int = 0
    max_age: str = "1h"
    onset_gap: str = "1h"
    gates: Gates = attribute(default_factory=Gates)
    retraining: Retraining = attribute(default_factory=Retraining)
    rollout: Canary = attribute(default_factory=Canary)
    monitor: Monitor = attribute(default_factory=Monitor)

    def __post_init__(self) -> None:
        """Refuse what could never be trained.

        Raises
        ------
        PipelineDefinitionError
            There is no feature, one is called ``score``, or the budget is no share.
        """
        wrong = [f for f in self.features if not isinstance(f, Feature)]
        if wrong or not self.features:
            raise PipelineDefinitionError(
                "a model needs features of one set, such as [Sensor.deviation]; got "
                f"{list(self.features)!r}"
            )
        if SCORE in self.names:
            raise PipelineDefinitionError("no feature of a model may be called 'score'")
        if not 0 < self.alert_budget < 1:
            raise PipelineDefinitionError(
                f"alert_budget must lie between 0 and 1, got {self.alert_budget!r}"
            )
        for name in ("fit_window", "held_out", "max_age", "onset_gap"):
            _duration(name, getattr(self, name))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the features, shape (n_features,)."""
        return tuple(f.name for f in self.features if isinstance(f, Feature))


def _duration(name: str, text: str) -> None:
    try:
        duration_us(text)
    except PermanentError as error:
        raise PipelineDefinitionError(f"{name}: {error}") from error
