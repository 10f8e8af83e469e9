"""The local twin: one environment of the app, in one process, from its own template.

`Twin.start` reads the synthesised assembly, starts moto behind the gateway, creates
every resource and sets in motion what moto only keeps: functions, event source
mappings, rules, time. What it does not understand it refuses by name, before anything
runs. A process holds one twin at a time, since moto's state is the process's.
"""

import shutil
import tempfile
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import infra.local.resources  # noqa: F401 - registers the types
from infra.local import kinesis_shard, metrics_api, table_stream
from infra.local.activity import Activity
from infra.local.alarms import Alarms
from infra.local.assets import upload
from infra.local.asynchronous_invocations import AsynchronousInvocations
from infra.local.clock import Clock, DrivenClock, MachineClock
from infra.local.errors import TwinError, TwinTimeoutError
from infra.local.event_bus import send
from infra.local.event_rules import EventRules
from infra.local.event_source_mapping import EventSourceMappings
from infra.local.gateway import Gateway
from infra.local.lambda_runtime import (
    LOG_STREAM,
    Invoked,
    LambdaRuntime,
    run_functions,
)
from infra.local.log_lines import LogLines
from infra.local.metrics import Metrics, ran_for
from infra.local.queue_depth import QueueDepths
from infra.local.resources.registry import REGISTRY, Site, check, clients
from infra.local.sagemaker import SageMaker, images_of
from infra.local.schedules import Schedules
from infra.local.state_machines import StateMachines
from infra.local.template import ACCOUNT, Deployment, Stack, read_assembly
from infra.local.topics import deliver_to_functions

# One region, whatever the caller's AWS configuration says, so that every client that
# looks for the twin's resources finds them.
REGION = "eu-west-1"
# The CDK's usage statistics: CloudFormation makes nothing of them either.
_IGNORED = {"AWS::CDK::Metadata"}
_LONGEST_SETTLE_SECONDS = 960.0  # a function may run for 15 minutes

_alone = threading.Lock()


class Twin:
    """A running environment; make one with `Twin.start`.

    Attributes
    ----------
    endpoint_url
        What an AWS client is pointed at.
    environment
        Which environment it is.
    region
        Region the resources are in.
    functions
        The functions; ``functions.kill(name)`` is a fault to test with.
    sagemaker
        Training jobs, models and endpoints.
    mappings
        The event source mappings.
    clock
        The twin's time.
    """

    def __init__(
        self, stacks: tuple[Stack, ...], environment: str, clock: Clock, port: int
    ) -> None:
        self.environment = environment
        self.region = REGION
        self.clock = clock
        self._activity = Activity()
        if isinstance(clock, MachineClock):
            clock.failed = self._activity.fail
        self._driving = threading.Lock()
        self._gateway = Gateway(port)
        self.endpoint_url = self._gateway.endpoint_url
        self._client = clients(self.endpoint_url, self.region)
        self._folder = Path(tempfile.mkdtemp(prefix="retrodict-twin-"))
        self._deployment = Deployment(stacks, self.region)
        self.functions = LambdaRuntime(
            self._folder, self.endpoint_url, self.region, self._activity
        )
        self._asynchronous = AsynchronousInvocations(
            clock, self._activity, self.functions, self._client
        )
        self.metrics = Metrics(clock.now)
        self.logs = LogLines(self.region, clock.now)
        self._depths = QueueDepths(clock, self.metrics, self.region)
        self.alarms = Alarms(
            clock,
            self.metrics,
            self.region,
            self._client,
            self._alarm_changed,
        )
        self.schedules = Schedules(clock, self.region)
        self.machines = StateMachines(
            clock, self._activity, self._execution_changed, self._count_execution
        )
        self.sagemaker = SageMaker(
            folder=self._folder / "sagemaker",
            endpoint_url=self.endpoint_url,
            region=self.region,
            clock=clock,
            activity=self._activity,
            client=self._client,
            metrics=self.metrics,
            logs=self.logs,
            alarms=self.alarms.states,
        )
        self.mappings = EventSourceMappings(
            clock,
            self._activity,
            self.functions,
            self._client,
            self.region,
            self.metrics,
        )

    @classmethod
    def start(
        cls,
        assembly_directory: Path,
        environment: str,
        *,
        real_time: bool = False,
        port: int = 0,
        start_at: datetime | None = None,
    ) -> Self:
        """Create an environment from a synthesised assembly and set it in motion.

        Parameters
        ----------
        assembly_directory
            Usually ``cdk.out``.
        environment
            For example ``dev``.
        real_time
            Follow the machine's clock instead of one that is driven.
        port
            Port of 127.0.0.1, 0 for any that is free.
        start_at
            First instant of the driven clock; the machine's now if None.

        Raises
        ------
        UnsupportedByTwinError
            If the template holds what the twin does not understand; nothing runs then.
        AssemblyError
            If there is no such assembly or environment.
        TwinError
            If this process already runs a twin.
        """
        stacks = read_assembly(assembly_directory, environment)
        if not _alone.acquire(blocking=False):
            raise TwinError("this process already runs a twin: stop it first")
        clock: Clock = MachineClock() if real_time else DrivenClock(start_at)
        try:
            twin = cls(stacks, environment, clock, port)
        except BaseException:
            _alone.release()
            raise
        try:
            twin._deploy(stacks)
        except BaseException:
            twin.stop()
            raise
        return twin

    def _deploy(self, stacks: tuple[Stack, ...]) -> None:
        kinesis_shard.close_gap()
        table_stream.close_gap()
        metrics_api.serve(self.metrics, self.clock.now)
        self.logs.start()
        self._depths.start()
        self.alarms.start()
        self.machines.start(int(self.endpoint_url.rsplit(":", 1)[1]))
        self.functions.report = self._measure
        run_functions(self.functions, self._asynchronous.add)
        EventRules(self.functions, self._asynchronous, self._client).start()
        self.schedules.start()
        deliver_to_functions(self._asynchronous.add, self.clock.now)
        order = [
            resource
            for resource in self._deployment.order()
            if self._deployment.kind(resource) not in _IGNORED
        ]
        self.sagemaker.start(images_of(stacks, self._deployment))
        if isinstance(self.clock, DrivenClock):
            self.clock.follow(self.sagemaker.moved)
        self._gateway.serve(self.sagemaker)
        self.clock.start()
        self._gateway.start()
        upload(stacks, self._deployment, self._client)
        for resource in order:
            kind = self._deployment.kind(resource)
            properties = self._deployment.properties(resource)
            check(resource, kind, properties)
            site = Site(resource, self.region, self._client)
            self._deployment.add(resource, REGISTRY[kind].create(site, properties))
        self.mappings.reconcile()
        self._gateway.administer(self)

    def outputs(self) -> dict[str, str]:
        """Return the outputs of the environment's stacks by name."""
        return self._deployment.outputs()

    def client(self, service: str) -> Any:
        """Return a boto3 client of this twin."""
        return self._client(service)

    def mappings_changed(self) -> None:
        """Look at the event source mappings again."""
        self.mappings.reconcile()

    def kill(self, name: str) -> bool:
        """Kill the process of a function; False if it has none."""
        return self.functions.kill(name)

    def kill_endpoint(self, name: str) -> bool:
        """Kill the processes of an endpoint; False if it has none."""
        return self.sagemaker.kill(name)

    def wait_idle(self, timeout: float = 60.0, *, drive: bool = True) -> None:
        """Wait until every mapping is at its tip and no invocation runs.

        The driven clock is moved to what is due next whenever nothing else is left, so
        batching windows and retries take no time; nothing due remains afterwards.
        In real time they are waited for.

        Parameters
        ----------
        timeout
            The machine's seconds.
        drive
            Whether to move the driven clock; else what waits for it goes on waiting.

        Raises
        ------
        TwinTimeoutError
            If that is not reached in time.
        """
        deadline = time.perf_counter() + timeout

        def settle() -> None:
            left = deadline - time.perf_counter()
            if left <= 0 or not self._activity.wait_idle(timeout=left):
                raise TwinTimeoutError(
                    f"expected the twin to be idle within {timeout:g} s, but "
                    f"{self._what_is_left()}"
                )

        while True:
            settle()
            due = self.clock.next_due()
            if due is None or not drive:
                return
            if isinstance(self.clock, DrivenClock):
                with self._driving:
                    self.clock.advance_to(max(due, self.clock.now()), settle)
            else:
                wait = max(0.0, (due - self.clock.now()).total_seconds())
                time.sleep(min(wait, deadline - time.perf_counter(), 0.1) + 0.001)

    def advance(
        self, *, seconds: float | None = None, to: str | datetime | None = None
    ) -> None:
        """Move the driven clock, and let everything due on the way happen.

        Parameters
        ----------
        seconds
            How far, s.
        to
            Or to which instant, RFC 3339 or aware.

        Raises
        ------
        TwinError
            If the clock is the machine's, or would go back.
        ValueError
            If not exactly one of both is given.
        """
        if not isinstance(self.clock, DrivenClock):
            raise TwinError("the clock is the machine's and cannot be moved")
        if (seconds is None) == (to is None):
            raise ValueError("say either seconds or to")
        with self._driving:
            if seconds is not None:
                instant = self.clock.now() + timedelta(seconds=seconds)
            else:
                instant = to if isinstance(to, datetime) else _instant(str(to))
            self.clock.advance_to(instant, self._settle)

    def status(self) -> Mapping[str, Any]:
        """Return functions, mappings, clock and outputs, as JSON can say them."""
        return {
            "environment": self.environment,
            "region": self.region,
            "clock": {
                "now": self.clock.now().isoformat(),
                "is_driven": self.clock.is_driven,
            },
            "functions": self.functions.status(),
            "mappings": self.mappings.status(),
            "schedules": self.schedules.status(),
            "executions": self.machines.status(),
            "alarms": self.alarms.states(),
            "metrics": self.metrics.status(),
            "sagemaker": self.sagemaker.status(),
            "outputs": self.outputs(),
        }

    def stop(self) -> None:
        """End every process and thread, and forget everything."""
        self.machines.stop()
        self.mappings.stop()
        self.sagemaker.stop()
        self._asynchronous.stop()
        self.functions.stop()
        self.mappings.join()
        self.sagemaker.join()
        self._asynchronous.join()
        self._gateway.stop()
        self.clock.stop()
        shutil.rmtree(self._folder)
        _alone.release()

    def _measure(self, invoked: Invoked) -> None:
        """Count an invocation as AWS/Lambda does, and the metrics it printed."""
        about = {"FunctionName": invoked.function}
        self.metrics.put_all(
            "AWS/Lambda",
            [
                ("Invocations", about, 1.0, "Count"),
                ("Errors", about, float(invoked.is_error), "Count"),
                ("Duration", about, invoked.seconds * 1000, "Milliseconds"),
                ("Throttles", about, 0.0, "Count"),
            ],
        )
        ran = ran_for(invoked.seconds) if self.clock.is_driven else None
        self.metrics.read_lines(invoked.written, ran=ran)
        self.logs.add(invoked.log_group, LOG_STREAM, invoked.written)

    def _alarm_changed(self, event: Mapping[str, Any]) -> None:
        send(self.region, event)
        if event["detail"]["state"]["value"] == "ALARM":
            self.sagemaker.alarm_rang(event["detail"]["alarmName"])

    def _execution_changed(
        self, detail_type: str, arn: str, detail: Mapping[str, Any]
    ) -> None:
        send(
            self.region,
            {
                "version": "0",
                "detail-type": detail_type,
                "source": "aws.states",
                "account": ACCOUNT,
                "time": f"{self.clock.now():%Y-%m-%dT%H:%M:%SZ}",
                "region": self.region,
                "resources": [arn],
                "detail": dict(detail),
            },
        )

    def _count_execution(self, name: str, dimensions: Mapping[str, str]) -> None:
        self.metrics.put("AWS/States", name, dimensions, 1.0, "Count")

    def _settle(self) -> None:
        if not self._activity.wait_idle(timeout=_LONGEST_SETTLE_SECONDS):
            raise TwinTimeoutError("what became due did not come to an end")

    def _what_is_left(self) -> str:
        behind = {
            status["function"]: status["lag_records"]
            for status in self.mappings.status().values()
            if status["lag_records"]
        }
        if behind:
            return f"these functions are behind: {behind}"
        busy = self.sagemaker.under_way()
        return f"these are under way: {busy}" if busy else "a function runs"


def _instant(text: str) -> datetime:
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        raise ValueError(f"{text!r} names no time zone")
    return instant.astimezone(UTC)
