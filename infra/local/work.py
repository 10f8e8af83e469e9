"""Threads of the twin that hold an activity token while they run.

Whatever takes longer than an answer may wait, such as a training job, the start of an
endpoint or an event on its way, runs here: the token is taken before `start` returns,
so nobody takes the twin for idle in between. An error that nobody expected breaks the
twin, loudly.
"""

import queue
import threading
from collections.abc import Callable

from infra.local.activity import Activity


class Work:
    """Runs things beside the caller, each with a token of its own.

    Parameters
    ----------
    activity
        Knows about everything that runs.
    """

    def __init__(self, activity: Activity) -> None:
        self._activity = activity
        self._lock = threading.Lock()
        self._threads: set[threading.Thread] = set()
        self._sequence: queue.SimpleQueue[Callable[[], None] | None] = (
            queue.SimpleQueue()
        )
        self.is_stopping = False
        self._in_order = threading.Thread(
            target=self._run_sequence, name="twin-sequence", daemon=True
        )
        self._in_order.start()

    def start(self, name: str, run: Callable[[], None]) -> None:
        """Run in a thread of its own."""
        self._activity.begin()
        thread = threading.Thread(
            target=self._run, args=(run,), name=f"twin-{name}", daemon=True
        )
        with self._lock:
            self._threads.add(thread)
        thread.start()

    def then(self, run: Callable[[], None]) -> None:
        """Run after everything that was handed to `then` before."""
        self._activity.begin()
        self._sequence.put(run)

    def stop(self) -> None:
        """Say that what runs should end; its errors do not count any more."""
        self.is_stopping = True
        self._sequence.put(None)

    def join(self) -> None:
        """Wait for everything that runs."""
        self._in_order.join()
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            thread.join()

    def _run(self, run: Callable[[], None]) -> None:
        try:
            self._guarded(run)
        finally:
            with self._lock:
                self._threads.discard(threading.current_thread())

    def _run_sequence(self) -> None:
        while (run := self._sequence.get()) is not None:
            self._guarded(run)

    def _guarded(self, run: Callable[[], None]) -> None:
        try:
            run()
        except Exception as error:
            if self.is_stopping:
                return
            self._activity.fail(error)
            raise
        finally:
            self._activity.end()
