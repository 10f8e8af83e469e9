"""The stages of `retrodict run`, one after the other, each of which must come true."""

import itertools
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import cached_property
from random import Random
from typing import Any, Final

from pipelines.sensor_anomaly.fleet import SCENARIO, Kind, Sent, simulate, truth
from retrodict.envelope import StampedEvent
from retrodict.pipeline import Pipeline
from retrodict.system_events import PredictionMade
from retrodict_aws.kinesis_event_stream import KinesisIngestStream
from retrodict_aws.s3_artifacts import S3Artifacts
from rich.console import Console

from cli import label as labels
from cli.evaluation import Stage
from cli.explain import Explainer
from cli.history import History
from cli.lifecycle import line, recorded
from cli.predict import endpoint_of, invoke
from cli.replaying import Arrived, replay
from cli.resources import Peak
from cli.retrain import request
from cli.story import Story, read_story
from cli.target import Target

STRIDE: Final = timedelta(hours=3)
FIRST_STRIDE: Final = timedelta(hours=12)
"""Before there is a champion nothing is due at a stride's end."""

PREDICTIONS: Final = 200
EXPLAINED: Final = 100
MINUTE_US: Final = 60_000_000
HOUR_US: Final = 60 * MINUTE_US
DAY_US: Final = 24 * HOUR_US
CANARY_MINUTES: Final = 30
REQUESTS_A_MINUTE: Final = 40
LABEL_SHARE: Final = 0.5
BAD: Final = {"trees": 1, "max_samples": 2}
"""Options of a candidate that can know nothing."""


class LoopError(Exception):
    """A stage did not come true."""


class Loop:
    """The loop under way: where it turns, and what it has found so far.

    Attributes
    ----------
    stages
        Wall seconds and peak memory of each stage so far.
    latencies_ms
        From request to answer through the twin, look-up of the features included.
    """

    def __init__(
        self,
        target: Target,
        pipeline: Pipeline,
        console: Console,
        peak: Peak,
        began: float,
    ) -> None:
        self.target = target
        self.pipeline = pipeline
        self.stages: list[dict[str, Any]] = []
        self.latencies_ms: list[float] = []
        self.sent: dict[str, int] = {}
        self.explained: list[dict[str, Any]] = []
        self.asynchronous: dict[str, Any] = {}
        self.marks: dict[str, int] = {}
        self._console = console
        self._peak = peak
        self._began = began
        self._told = 0
        self._records = simulate(replace(SCENARIO, as_import=False))
        self._next: Sent | None = None

    def turn(self) -> None:
        """Go through every stage.

        Raises
        ------
        LoopError
            One did not come true.
        """
        plan = SCENARIO
        fit_us = plan.start_us + int(plan.first_fit_day * DAY_US)
        drift_us = plan.start_us + int(plan.drift_day * DAY_US)
        with self.stage("readings flow, nothing is known yet"):
            self._flow(fit_us, FIRST_STRIDE)
        with self.stage("first training and rollout"):
            self._bootstrap()
        with self.stage("the stream is scored, the endpoint answers"):
            self._flow(drift_us)
            self._ask()
            self._ask_asynchronously()
        with self.stage("sensors drift; the alarm starts the next retraining"):
            self._flow_until_retrained(drift_us)
        with self.stage("the new champion goes on"):
            self._flow(plan.start_us + int(plan.days * DAY_US) + DAY_US)
            self._label()
        with self.stage("a bad candidate is refused"):
            self._refuse_bad()
        with self.stage("a broken candidate is rolled back"):
            self._roll_back_broken()
        with self.stage("predictions are explained"):
            self._explain()

    # What a stage is made of -----------------------------------------------------

    def say(self, text: str) -> None:
        """Print one line with the seconds since the start."""
        seconds = time.monotonic() - self._began
        self._console.print(f"[dim]{seconds:6.1f} s[/]  {text}", highlight=False)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage, take its peak of memory, and tell what was decided in it."""
        self.say(f"[bold]{name}[/]")
        began = time.monotonic()
        self._peak.reset()
        yield
        self._tell_decisions()
        self.stage_done(name, began)

    def stage_done(self, name: str, began: float) -> None:
        """Keep the figures of a stage that ended."""
        self.stages.append(
            {
                "stage": name,
                "wall_seconds": round(time.monotonic() - began, 2),
                "peak_mib": round(self._peak.mib),
            }
        )

    @cached_property
    def history(self) -> History:
        """The log at the end of the last stage, read once."""
        return History.read(self.target)

    @cached_property
    def story(self) -> Story:
        """Everything that happened, once it has."""
        return read_story(self.target, self.pipeline, self.history)

    def entity_to_show(self) -> str:
        """Return a sensor that drifts and fails, for the report's plot."""
        failing = {key for (key, _), anomalous in self.truth.items() if anomalous}
        drifting = {s.key for s in simulate(SCENARIO) if s.kind is Kind.DRIFTED}
        return min(failing & drifting or failing)

    @cached_property
    def truth(self) -> dict[tuple[str, int], bool]:
        """Whether the reading of a (key, time in microseconds) is an anomaly."""
        return truth(SCENARIO)

    def windows(self) -> list[Stage]:
        """Return the stretches of event time that are judged."""
        first, second = self.marks["first_champion_us"], self.marks["retrained_us"]
        drift_us = SCENARIO.start_us + int(SCENARIO.drift_day * DAY_US)
        end = SCENARIO.start_us + int(SCENARIO.days * DAY_US) + DAY_US
        return [
            Stage("before drift", first, drift_us),
            Stage("during drift", drift_us, second),
            Stage("after retraining", second, end),
        ]

    def _tell_decisions(self) -> None:
        decisions = recorded(self.target, self.pipeline.name)
        for d in decisions[self._told :]:
            self.say(f"        {line(d.kind, dict(d.data), d.time_us)}")
        self._told = len(decisions)

    def _decided(self, kind: str) -> list[Any]:
        return [d for d in recorded(self.target, self.pipeline.name) if d.kind == kind]

    def _expect(self, what: str, *, holds: bool) -> None:
        if not holds:
            self._tell_decisions()
            raise LoopError(f"expected {what}")

    def _take(self, until_us: int) -> Iterator[Arrived]:
        """Yield the records that arrive before `until_us`, counting their kinds."""
        while True:
            record = self._next or next(self._records, None)
            self._next = record
            if record is None or record.arrival_us >= until_us:
                return
            self._next = None
            self.sent[record.kind.value] = self.sent.get(record.kind.value, 0) + 1
            yield Arrived(record.arrival_us, record.key, record.data)

    def _flow(self, until_us: int, stride: timedelta = STRIDE) -> None:
        sent = replay(self.target, self._take(until_us), stride=stride)
        self.say(f"        {sent} records sent")

    # The stages ------------------------------------------------------------------

    def _bootstrap(self) -> None:
        request(self.target, self.pipeline, "first model")
        self.target.wait_idle()
        promoted = self._decided("champion_promoted")
        self._expect("a first champion", holds=len(promoted) == 1)
        self.marks["first_champion_us"] = self.target.now_us()

    def _ask(self) -> None:
        """Ask about entities one by one, and about several and inline in one call."""
        keys = sorted({key for key, _ in self.truth})
        for number in range(PREDICTIONS):
            began = time.perf_counter()
            key = keys[number % len(keys)]
            invoke(self.target, self.pipeline, {"instances": [{"entity": key}]})
            self.latencies_ms.append((time.perf_counter() - began) * 1_000)
        together = [{"entity": key} for key in keys]
        answers = invoke(self.target, self.pipeline, {"instances": together})
        features = answers["predictions"][0]["features"]
        again = invoke(
            self.target, self.pipeline, {"instances": [{"features": features}]}
        )
        self._expect(
            "the same score from the same features given inline",
            holds=again["predictions"][0]["score"]
            == answers["predictions"][0]["score"],
        )
        self.target.wait_idle()
        middle = sorted(self.latencies_ms)[PREDICTIONS // 2]
        self.say(f"        {PREDICTIONS} predictions, p50 {middle:.1f} ms")

    def _ask_asynchronously(self) -> None:
        """Put a request on S3, and read the answer there."""
        s3 = self.target.client("s3")
        bucket = self.target.outputs["ArtifactBucketName"]
        keys = sorted({key for key, _ in self.truth})
        body = json.dumps({"instances": [{"entity": key} for key in keys]})
        s3.put_object(Bucket=bucket, Key="async-requests/1.json", Body=body.encode())
        answer = self.target.client("sagemaker-runtime").invoke_endpoint_async(
            EndpointName=f"{endpoint_of(self.target, self.pipeline)}-async",
            InputLocation=f"s3://{bucket}/async-requests/1.json",
            ContentType="application/json",
            CustomAttributes="retrodict-mode=async",
        )
        self.target.wait_idle()
        where, _, key = answer["OutputLocation"].removeprefix("s3://").partition("/")
        found = json.loads(s3.get_object(Bucket=where, Key=key)["Body"].read())
        self._expect(
            "an answer for every row of the asynchronous request",
            holds=len(found["predictions"]) == len(keys),
        )
        self.asynchronous = {"rows": len(keys), "output": answer["OutputLocation"]}
        self.say(f"        asynchronous answer for {len(keys)} rows on S3")

    def _flow_until_retrained(self, drift_us: int) -> None:
        """Go on in strides until the alarm has brought a second champion."""
        until_us = drift_us
        end_us = SCENARIO.start_us + int(SCENARIO.days * DAY_US)
        while len(self._decided("champion_promoted")) == 1 and until_us < end_us:
            until_us += STRIDE // timedelta(microseconds=1)
            replay(self.target, self._take(until_us), stride=STRIDE)
        promoted = self._decided("champion_promoted")
        self._expect(
            "drift to bring a second champion by itself", holds=len(promoted) > 1
        )
        self.marks["retrained_us"] = until_us

    def _label(self) -> None:
        """Send the truth about some readings, as people find it out."""
        random = Random(SCENARIO.seed)  # noqa: S311 - repeatable on purpose
        anomalies = [place for place, bad in self.truth.items() if bad]
        ordinary = [place for place, bad in self.truth.items() if not bad]
        chosen = anomalies[: int(len(anomalies) * LABEL_SHARE)]
        chosen += random.sample(ordinary, len(chosen))
        now_us = self.target.now_us()
        sent = KinesisIngestStream(
            self.target.client("kinesis"), self.target.outputs["IngestStreamName"]
        ).put(
            labels.to_event(
                {"entity": key, "is_anomaly": self.truth[key, at_us], "at_us": at_us},
                now_us,
                "urn:fleet:labels",
            )
            for key, at_us in chosen
        )
        self.target.wait_idle()
        self.say(f"        {sent} labels sent")

    def _rest(self) -> None:
        """Let what is left of the policy's cool-down pass."""
        model = self.pipeline.model
        if model is not None:
            last = self._decided("retraining_started")[-1]
            rested_us = last.time_us + model.retraining.cool_down_us + MINUTE_US
            self.target.advance_to(rested_us)
            self.target.wait_idle()

    def _refuse_bad(self) -> None:
        self._rest()
        champions = len(self._decided("champion_promoted"))
        judged = len(self._decided("candidate_judged"))
        request(self.target, self.pipeline, "a candidate of one tree", json.dumps(BAD))
        self.target.wait_idle()
        verdicts = self._decided("candidate_judged")[judged:]
        self._expect(
            "a verdict that refuses the bad candidate",
            holds=bool(verdicts) and not verdicts[-1].data["passed"],
        )
        self._expect(
            "the champion to stay",
            holds=len(self._decided("champion_promoted")) == champions,
        )

    def _roll_back_broken(self) -> None:
        """Roll out by hand an artifact whose threshold calls everything an alert."""
        champion = self._decided("champion_promoted")[-1].data["artifact_digest"]
        artifacts = S3Artifacts(
            self.target.client("s3"), self.target.outputs["ArtifactBucketName"]
        )
        broken = replace(artifacts.load(champion), threshold=0.0, run_id="run-broken")
        uri = artifacts.store(broken)
        name = f"manual-{self.target.now_us()}"
        self.target.client("stepfunctions").start_execution(
            stateMachineArn=self.target.outputs["RollOutStateMachineArn"],
            name=name,
            input=json.dumps(
                {
                    "pipeline": self.pipeline.name,
                    "run_id": name,
                    "until_us": self.target.now_us(),
                    "artifact_digest": broken.digest,
                    "artifact_uri": uri,
                }
            ),
        )
        keys = sorted({key for key, _ in self.truth})
        entity = itertools.cycle(keys)
        for _ in range(CANARY_MINUTES):
            self.target.wait_idle(drive=False)
            if self._decided("rollout_rolled_back"):
                break
            for _ in range(REQUESTS_A_MINUTE):
                instance = self._inline(next(entity))
                invoke(self.target, self.pipeline, {"instances": [instance]})
            self.target.advance_to(self.target.now_us() + MINUTE_US)
        self.target.wait_idle()
        back = self._decided("rollout_rolled_back")
        self._expect("the broken candidate to be rolled back", holds=bool(back))
        self._expect(
            f"{champion} to serve after the rollback",
            holds=back[-1].data["serving_digest"] == champion,
        )

    def _inline(self, key: str) -> dict[str, Any]:
        """Return the newest scored features of a key: readings have ended by now."""
        newest = self._newest.get(key) or next(iter(self._newest.values()))
        return {"entity": key, "features": json.loads(newest.data["features"])}

    @cached_property
    def _newest(self) -> dict[str, StampedEvent]:
        history = History.read(self.target, [PredictionMade.contract().type])
        stream = [
            p
            for p in history.once(PredictionMade.contract().type)
            if p.data["mode"] == "stream" and not p.data["is_alert"]
        ]
        return {p.key: p for p in stream}

    def _explain(self) -> None:
        known = [
            p
            for p in self.history.once(PredictionMade.contract().type)
            if p.data["position"] is not None
        ]
        random = Random(SCENARIO.seed)  # noqa: S311 - repeatable on purpose
        chosen = random.sample(known, min(EXPLAINED, len(known)))
        explainer = Explainer(self.target, self.history)
        for prediction in chosen:
            found = explainer.explain(prediction)
            self.explained.append(
                {
                    "prediction_id": prediction.data["prediction_id"],
                    "mode": prediction.data["mode"],
                    "features_equal": found.features_equal,
                    "score_equal": found.score_equal,
                    "equal": found.is_equal,
                }
            )
        equal = sum(e["equal"] for e in self.explained)
        self.say(f"        {equal} of {len(self.explained)} explained, byte for byte")
