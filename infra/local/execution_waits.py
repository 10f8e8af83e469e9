"""Which executions of Step Functions have something to do, and which only wait.

An execution holds one token of the activity as long as any of its threads has something
to do: it gives the token back while all of them wait for the clock or for another
execution, and has it again before it is woken. moto waits in real seconds; what is
replaced, each by the smallest private name of moto:

- ``Wait`` and the pauses of ``Retry`` follow the twin's clock, as does the
  ``TimeoutSeconds`` of a machine; that of a task guards against a hang and counts the
  machine's seconds, like the task itself,
- a thread that waits for the branches of a ``Parallel`` or the items of a ``Map`` does
  not count,
- an execution that is stopped, fails or times out is woken from every wait.
"""

import threading
from collections.abc import Callable
from datetime import UTC, timedelta
from types import SimpleNamespace
from typing import Any, Final

import moto.stepfunctions.parser.asl.component.common.retry.retrier_decl as retrier
from moto.stepfunctions.parser.asl.component.common.error_name.failure_event import (
    FailureEventException,
)
from moto.stepfunctions.parser.asl.component.common.timeouts.timeout import (
    EvalTimeoutError,
    TimeoutSeconds,
)
from moto.stepfunctions.parser.asl.component.eval_component import EvalComponent
from moto.stepfunctions.parser.asl.component.program.program import Program
from moto.stepfunctions.parser.asl.component.state.exec.state_map.iteration.inline_iteration_component import (  # noqa: E501
    InlineIterationComponent,
)
from moto.stepfunctions.parser.asl.component.state.exec.state_map.iteration.iteration_worker import (  # noqa: E501
    IterationWorker,
)
from moto.stepfunctions.parser.asl.component.state.exec.state_map.iteration.job import (
    JobPool,
)
from moto.stepfunctions.parser.asl.component.state.exec.state_parallel.branch_worker import (  # noqa: E501
    BranchWorker,
)
from moto.stepfunctions.parser.asl.component.state.exec.state_parallel.branches_decl import (  # noqa: E501
    BranchWorkerPool,
)
from moto.stepfunctions.parser.asl.component.state.wait.wait_function.timestamp import (
    Timestamp,
)
from moto.stepfunctions.parser.asl.component.state.wait.wait_function.wait_function import (  # noqa: E501
    WaitFunction,
)
from moto.stepfunctions.parser.asl.eval.environment import Environment

from infra.local.activity import Activity
from infra.local.clock import Clock, Timer
from infra.local.mending import mend, original

_ENDINGS: Final = ("set_ended", "set_error", "set_timed_out", "set_stop")


class _Pulse:
    """How many threads of one execution have something to do."""

    def __init__(self, activity: Activity) -> None:
        self._activity = activity
        self._lock = threading.Lock()
        self._threads = 0
        self._is_closed = False

    def begin(self) -> None:
        """Count one more thread."""
        with self._lock:
            if not self._is_closed:
                self._threads += 1
                if self._threads == 1:
                    self._activity.begin()

    def end(self) -> None:
        """Count one less."""
        with self._lock:
            if self._threads:
                self._threads -= 1
                if not self._threads:
                    self._activity.end()

    def close(self) -> None:
        """Count no more: what a timed-out task leaves behind does not matter."""
        with self._lock:
            self._is_closed = True
            if self._threads:
                self._threads = 0
                self._activity.end()


class _Wait:
    """One thread of an execution that waits, and how it is woken."""

    def __init__(self, env: Environment, pulse: _Pulse) -> None:
        self.env = env
        self.pulse = pulse
        self.woken = threading.Event()
        self.timer: Timer | None = None
        self.is_late = False


class _Gate:
    """Where one thread of an execution waits for several others."""

    def __init__(self, pulse: _Pulse) -> None:
        self.lock = threading.Lock()
        self.pulse = pulse
        self.is_awaited = False

    def passing(self, is_open: Callable[[], bool], pass_through: Any) -> None:
        """Let one of the others through; whoever waits counts again from the last."""
        with self.lock:
            was_open = is_open()
            self.pulse.begin()
            pass_through()
            if was_open or not (self.is_awaited and is_open()):
                self.pulse.end()

    def must_wait(self, is_open: Callable[[], bool]) -> bool:
        """Return whether there is something to wait for; who waits does not count."""
        with self.lock:
            self.is_awaited = not is_open()
            if self.is_awaited:
                self.pulse.end()
            return self.is_awaited


class ExecutionWaits:
    """The waits of all executions.

    Parameters
    ----------
    clock
        Time of waits and pauses.
    activity
        Knows about every execution that has something to do.
    """

    def __init__(self, clock: Clock, activity: Activity) -> None:
        self._clock = clock
        self._activity = activity
        self._lock = threading.RLock()
        self._pulses: dict[str, _Pulse] = {}
        self._waits: dict[int, list[_Wait]] = {}
        self._parents: dict[str, list[_Wait]] = {}
        self._is_stopping = False
        self._here = threading.local()

    def start(self) -> None:
        """Mend moto's interpreter."""
        self._mend_waits()
        self._mend_timeout()
        self._mend_branches()
        self._mend_items()
        for name in _ENDINGS:
            self._mend_ending(name)

    def stop(self) -> None:
        """Wake whatever waits; executions end with the twin."""
        with self._lock:
            self._is_stopping = True
            for waits in self._waits.values():
                for wait in waits:
                    wait.woken.set()

    def began(self, execution_arn: str) -> None:
        """Take a token for an execution."""
        pulse = _Pulse(self._activity)
        with self._lock:
            self._pulses[execution_arn] = pulse
        pulse.begin()

    def ended(self, execution_arn: str) -> None:
        """Wake who waits for an execution, then give its token back."""
        with self._lock:
            pulse = self._pulses.pop(execution_arn, None)
            for wait in self._parents.pop(execution_arn, []):
                self._wake(wait)
        if pulse is not None:
            pulse.close()

    def sleep(self, env: Environment, seconds: float) -> None:
        """Wait on the twin's clock, unless the execution ends before."""
        if seconds > 0:
            self._wait(self._began_to_wait(env), seconds)

    def join(self, env: Environment, execution_arn: str, timeout_seconds: int) -> None:
        """Wait for the end of another execution.

        Raises
        ------
        EvalTimeoutError
            If it takes longer, on the twin's clock.
        """
        with self._lock:
            if execution_arn not in self._pulses:
                return
            wait = self._began_to_wait(env)
            self._parents.setdefault(execution_arn, []).append(wait)
        is_limited = timeout_seconds != TimeoutSeconds.DEFAULT_TIMEOUT_SECONDS
        self._wait(wait, timeout_seconds if is_limited else None)
        if wait.is_late:
            raise EvalTimeoutError

    def _began_to_wait(self, env: Environment) -> _Wait:
        wait = _Wait(env, self._pulse(env))
        with self._lock:
            self._waits.setdefault(id(env), []).append(wait)
        return wait

    def _wait(self, wait: _Wait, seconds: float | None) -> None:
        if seconds is not None:

            def fire() -> None:
                wait.is_late = self._wake(wait)

            due = self._clock.now() + timedelta(seconds=seconds)
            wait.timer = self._clock.call_at(due, fire)
        wait.pulse.end()
        if self._is_stopping or not wait.env.is_running():
            self._wake(wait)
        wait.woken.wait()
        if wait.timer is not None:
            wait.timer.cancel()
        with self._lock:
            waits = self._waits[id(wait.env)]
            waits.remove(wait)
            if not waits:
                del self._waits[id(wait.env)]

    def _wake(self, wait: _Wait) -> bool:
        """Wake a thread that waits; False if it was woken before."""
        with self._lock:
            if wait.woken.is_set():
                return False
            wait.pulse.begin()
            wait.woken.set()
            return True

    def _pulse(self, env: Environment) -> _Pulse:
        data = env.states.context_object.context_object_data
        with self._lock:
            pulse = self._pulses.get(data["Execution"]["Id"])
        return pulse or _Pulse(self._activity)  # of an execution that is over

    def _mend_waits(self) -> None:
        def interval(_self: Any, env: Environment, wait_seconds: float) -> None:
            self.sleep(env, wait_seconds)

        def until(function: Timestamp, env: Environment) -> float:
            function.string.eval(env=env)
            text = env.stack.pop()
            instant = Timestamp._from_timestamp_string(text)  # noqa: SLF001
            if instant is None:
                raise FailureEventException(
                    function._create_failure_event(env, text)  # noqa: SLF001
                )
            return (instant.replace(tzinfo=UTC) - self._clock.now()).total_seconds()

        retry = original(retrier.RetrierDecl, "_eval_body")

        def retry_in(declaration: Any, env: Environment) -> None:
            self._here.env = env
            retry(declaration, env)

        def pause(seconds: float) -> None:
            self.sleep(self._here.env, seconds)

        mend(WaitFunction, "_wait_interval", interval)
        mend(Timestamp, "_get_wait_seconds", until)
        mend(retrier.RetrierDecl, "_eval_body", retry_in)
        mend(retrier, "time", SimpleNamespace(sleep=pause))

    def _mend_ending(self, name: str) -> None:
        end = original(Environment, name)

        def ending(env: Environment, *arguments: Any, **more: Any) -> None:
            end(env, *arguments, **more)
            if env.is_running():
                return
            with self._lock:
                for wait in self._waits.get(id(env), ()):
                    self._wake(wait)

        mend(Environment, name, ending)

    def _mend_timeout(self) -> None:
        run = original(Program, "eval")

        def evaluate(program: Program, env: Environment) -> None:
            if program.timeout_seconds is None:
                run(program, env)
                return
            is_over = threading.Event()
            pulse = self._pulse(env)

            def work() -> None:
                try:
                    EvalComponent.eval(program, env)
                finally:
                    is_over.set()

            def late() -> None:
                if env.is_running():
                    pulse.begin()  # for this thread, since the other may go on
                    env.set_timed_out()
                    is_over.set()

            env.next_state_name = program.start_at.start_at_name
            seconds = program.timeout_seconds.timeout_seconds
            due = self._clock.now() + timedelta(seconds=seconds)
            timer = self._clock.call_at(due, late)
            threading.Thread(target=work, daemon=True).start()
            is_over.wait()
            timer.cancel()

        mend(Program, "eval", evaluate)

    def _mend_branches(self) -> None:
        start = original(BranchWorker, "start")
        routine = original(BranchWorker, "_thread_routine")
        terminated = original(BranchWorkerPool, "on_terminated")
        wait = original(BranchWorkerPool, "wait")

        def start_branch(worker: BranchWorker) -> None:
            pulse = self._pulse(worker.env)
            _gate(worker._branch_worker_comm, pulse)  # noqa: SLF001
            pulse.begin()
            start(worker)

        def run_branch(worker: BranchWorker) -> None:
            gate = _gate(worker._branch_worker_comm)  # noqa: SLF001
            try:
                routine(worker)
            finally:
                gate.pulse.end()

        def branch_ended(pool: Any, env: Environment) -> None:
            _gate(pool).passing(
                pool._termination_event.is_set,  # noqa: SLF001
                lambda: terminated(pool, env),
            )

        def wait_for_branches(pool: Any) -> None:
            if _gate(pool).must_wait(pool._termination_event.is_set):  # noqa: SLF001
                wait(pool)

        mend(BranchWorker, "start", start_branch)
        mend(BranchWorker, "_thread_routine", run_branch)
        mend(BranchWorkerPool, "on_terminated", branch_ended)
        mend(BranchWorkerPool, "wait", wait_for_branches)

    def _mend_items(self) -> None:
        launch = original(InlineIterationComponent, "_launch_worker")
        work = original(IterationWorker, "eval")
        close = original(JobPool, "close_job")
        wait = original(JobPool, "await_jobs")

        def launch_worker(
            component: Any, env: Environment, eval_input: Any, job_pool: JobPool
        ) -> Any:
            pulse = self._pulse(env)
            _gate(job_pool, pulse)
            pulse.begin()
            return launch(component, env, eval_input, job_pool)

        def run_worker(worker: Any) -> None:
            gate = _gate(worker._job_pool)  # noqa: SLF001
            try:
                work(worker)
            finally:
                gate.pulse.end()

        def close_job(pool: Any, job: Any) -> None:
            _gate(pool).passing(pool._is_terminated, lambda: close(pool, job))  # noqa: SLF001

        def wait_for_jobs(pool: Any) -> None:
            if hasattr(pool, "gate") and _gate(pool).must_wait(pool._is_terminated):  # noqa: SLF001
                wait(pool)

        mend(InlineIterationComponent, "_launch_worker", launch_worker)
        mend(IterationWorker, "eval", run_worker)
        mend(JobPool, "close_job", close_job)
        mend(JobPool, "await_jobs", wait_for_jobs)


def _gate(pool: Any, pulse: _Pulse | None = None) -> _Gate:
    """Return the gate of a pool of moto, made by its first worker."""
    if pulse is not None and not hasattr(pool, "gate"):
        pool.gate = _Gate(pulse)
    gate: _Gate = pool.gate
    return gate
