"""The environments this repository deploys, as one frozen, typed value.

They are written in the context of ``cdk.json`` and nowhere else: no environment
variable, git state or clock changes what is synthesised.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
CONTEXT_KEY = "retrodict:environments"
DEPENDENCIES_KEY = "retrodict:dependencies"
ONLY_KEY = "retrodict:only"

_ACCOUNT = re.compile(r"\d{12}")
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-\d")
_INSTANCE = re.compile(r"ml\.[a-z0-9-]+\.[a-z0-9]+")
_IMAGE = re.compile(r"\d{12}\.dkr\.ecr\.[a-z0-9.-]+/[a-z0-9/_.-]+[:@][A-Za-z0-9:._-]+")
# An alarm looks at three periods, and CloudWatch evaluates at most a day.
_DRIFT_MINUTES = (5, 10, 15, 30, 60, 120, 180, 240, 360, 480)
_NAME = re.compile(r"[a-z][a-z0-9]{0,15}")
# What CloudWatch Logs accepts (PutRetentionPolicy) up to two years.
_LOG_RETENTION_DAYS = (1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731)


class SettingsError(ValueError):
    """``cdk.json`` does not describe an environment that can be deployed."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What may differ between two environments.

    Attributes
    ----------
    name
        Short name, part of every stack name: ``dev``, ``staging``, ``prod``.
    account
        AWS account of 12 digits, or None for the account of whoever deploys.
    region
        AWS region, or None for the region of whoever deploys.
    stream_retention_hours
        How long both streams keep a record, 24 to 8,760 h. A blocked shard has this
        long, less one hour, before its records move to the on-failure destination.
    archive_window_seconds
        How long ``archive_events`` collects a batch, 0 to 300 s: fewer, larger
        objects in the log against a younger log.
    feature_window_seconds
        How long ``write_features`` collects a batch, 0 to 300 s: fewer writes a key
        against fresher features.
    score_window_seconds
        How long ``score_events`` collects a batch, 0 to 300 s.
    log_retention_days
        How long a function's own log lines are kept, d, a value CloudWatch accepts.
    drift_every_minutes
        How often drift is measured, and the period of its alarms, 5 to 480 min.
    instance_type, instance_count
        What an endpoint runs on. Two instances outlive the loss of one, so `prod` has
        two at least.
    training_instance_type
        What a training job runs on.
    image_uri
        Image with the programs `train` and `serve`, or None to build it.
    """

    name: str
    account: str | None = None
    region: str | None = None
    stream_retention_hours: int
    archive_window_seconds: int
    feature_window_seconds: int
    score_window_seconds: int
    log_retention_days: int
    drift_every_minutes: int
    instance_type: str
    instance_count: int
    training_instance_type: str
    image_uri: str | None = None

    def __post_init__(self) -> None:
        """Refuse a value that AWS would refuse, or that would lose data."""
        self._expect_text("name", _NAME, "a short lower-case name such as 'dev'")
        if self.account is not None:
            self._expect_text("account", _ACCOUNT, "12 digits in quotes, or null")
        if self.region is not None:
            self._expect_text("region", _REGION, "a region, or null")
        self._expect_integer("stream_retention_hours", range(24, 8_761))
        self._expect_integer("archive_window_seconds", range(301))
        self._expect_integer("feature_window_seconds", range(301))
        self._expect_integer("score_window_seconds", range(301))
        self._expect_integer("log_retention_days", _LOG_RETENTION_DAYS)
        self._expect_integer("drift_every_minutes", _DRIFT_MINUTES)
        self._expect_integer("instance_count", range(1 + (self.name == "prod"), 101))
        instance = "a SageMaker instance type such as 'ml.m5.large'"
        self._expect_text("instance_type", _INSTANCE, instance)
        self._expect_text("training_instance_type", _INSTANCE, instance)
        if self.image_uri is not None:
            self._expect_text("image_uri", _IMAGE, "an image in ECR, or null")

    def _expect_text(self, field: str, pattern: re.Pattern[str], expected: str) -> None:
        value = getattr(self, field)
        if not (isinstance(value, str) and pattern.fullmatch(value)):
            raise self._refusal(field, expected, value)

    def _expect_integer(self, field: str, allowed: range | tuple[int, ...]) -> None:
        value = getattr(self, field)
        if isinstance(value, bool) or value not in allowed:
            expected = (
                f"an integer from {allowed[0]} to {allowed[-1]}"
                if isinstance(allowed, range)
                else f"one of {', '.join(map(str, allowed))}"
            )
            raise self._refusal(field, expected, value)

    def _refusal(self, field: str, expected: str, value: object) -> SettingsError:
        return SettingsError(
            f"cdk.json, {CONTEXT_KEY}, {self.name!r}: {field} must be {expected}, "
            f"got {value!r}"
        )


def read_context(path: Path = REPOSITORY / "cdk.json") -> dict[str, Any]:
    """Return the context of `path`, so that a synth needs no CDK command line."""
    context: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["context"]
    return context


def environments(context: Mapping[str, Any]) -> tuple[Settings, ...]:
    """Return the environments that `context` describes, in its order.

    ``{"retrodict:only": "dev"}`` is for a synth of one of them, in a third of the time.

    Raises
    ------
    SettingsError
        There is none, a key is missing or unknown, or a value cannot be used.

    Examples
    --------
    >>> [settings.name for settings in environments(read_context())]
    ['dev', 'staging', 'prod']
    >>> [s.name for s in environments({**read_context(), "retrodict:only": "prod"})]
    ['prod']
    """
    described = context.get(CONTEXT_KEY)
    if not isinstance(described, Mapping) or not described:
        raise SettingsError(
            f"cdk.json: context needs {CONTEXT_KEY!r}, an object with one entry per "
            f"environment, got {described!r}"
        )
    found = tuple(_settings(name, values) for name, values in described.items())
    only = context.get(ONLY_KEY)
    if only is None:
        return found
    if only not in described:
        raise SettingsError(
            f"context {ONLY_KEY!r} must name one of {', '.join(described)}, got "
            f"{only!r}"
        )
    return tuple(settings for settings in found if settings.name == only)


def stages_dependencies(context: Mapping[str, Any]) -> bool:
    """Tell whether `context` wants the packages of the dependency layers staged.

    ``{"retrodict:dependencies": "locks"}`` is for a synth that nobody deploys: the
    layers' assets then hold their lock files only, some 450 MiB less to copy.

    Raises
    ------
    SettingsError
        The value is neither ``"trees"``, the default, nor ``"locks"``.
    """
    wanted = context.get(DEPENDENCIES_KEY, "trees")
    if wanted not in {"trees", "locks"}:
        raise SettingsError(
            f"context {DEPENDENCIES_KEY!r} must be 'trees' or 'locks', got {wanted!r}"
        )
    return bool(wanted == "trees")


def _settings(name: str, values: object) -> Settings:
    if not isinstance(values, Mapping):
        raise SettingsError(
            f"cdk.json, {CONTEXT_KEY}, {name!r}: must be an object, got {values!r}"
        )
    expected = {field.name for field in fields(Settings)} - {"name"}
    optional = {field.name for field in fields(Settings) if field.default is None}
    if missing := expected - optional - set(values):
        raise SettingsError(
            f"cdk.json, {CONTEXT_KEY}, {name!r}: missing {', '.join(sorted(missing))}"
        )
    if unknown := set(values) - expected:
        raise SettingsError(
            f"cdk.json, {CONTEXT_KEY}, {name!r}: unknown {', '.join(sorted(unknown))}; "
            f"expected only {', '.join(sorted(expected))}"
        )
    return Settings(name=name, **values)
