"""How the twin knows that nothing is left to do.

Whoever has work holds a token: a shard reader that is not at its tip, an invocation
that runs, an event on its way. Work that creates work takes the new token before it
gives its own back, so the count reaches zero only when everything is at rest.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from infra.local.errors import TwinError


class Activity:
    """A count of what is under way, and a place to wait for zero.

    Examples
    --------
    >>> activity = Activity()
    >>> with activity.busy():
    ...     activity.is_idle()
    False
    >>> activity.wait_idle(timeout=1.0)
    True
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._count = 0
        self._failure: Exception | None = None

    def fail(self, error: Exception) -> None:
        """Say that a part of the twin broke: nobody may take it for idle any more."""
        with self._changed:
            self._failure = self._failure or error
            self._changed.notify_all()

    def begin(self) -> None:
        """Take a token."""
        with self._changed:
            self._count += 1

    def end(self) -> None:
        """Give a token back."""
        with self._changed:
            self._count -= 1
            if self._count == 0:
                self._changed.notify_all()

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Hold a token for the length of a block."""
        self.begin()
        try:
            yield
        finally:
            self.end()

    def is_idle(self) -> bool:
        """Return whether nobody holds a token."""
        with self._changed:
            return self._count == 0

    def wait_idle(self, *, timeout: float) -> bool:
        """Wait until nobody holds a token, at most `timeout` s of the machine's time.

        Returns
        -------
        bool
            False if the time ran out first.

        Raises
        ------
        TwinError
            If a part of the twin broke.
        """
        deadline = time.perf_counter() + timeout
        with self._changed:
            while self._count and self._failure is None:
                left = deadline - time.perf_counter()
                if left <= 0:
                    return False
                self._changed.wait(left)
            if self._failure is not None:
                raise TwinError(
                    f"a part of the twin broke: {self._failure!r}"
                ) from self._failure
            return True
