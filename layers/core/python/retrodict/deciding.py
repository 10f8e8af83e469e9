"""Record a decision: read the stream, decide, append; again where one came between."""

from collections.abc import Callable
from typing import Final

from retrodict.errors import StreamConflictError
from retrodict.lifecycle import (
    Decided,
    Lifecycle,
    Recorded,
    check_follows,
    replay,
)
from retrodict.ports import LifecycleStore

LOST_RACES: Final = 8
"""How often a decision is made again before the conflict is given back."""


def record(
    store: LifecycleStore,
    stream_id: str,
    decide: Callable[[Lifecycle], Decided | None],
) -> tuple[Lifecycle, Recorded | None]:
    """Decide on the newest state of a stream, and append what was decided.

    Parameters
    ----------
    decide
        Returns None where the state already holds the answer, so that doing it again
        changes nothing.

    Returns
    -------
    tuple
        The state that was decided on, and what was recorded.

    Raises
    ------
    DecisionRefusedError
        What was decided does not follow from what is recorded.
    StreamConflictError
        Others were first `LOST_RACES` times.
    StoreUnavailableError
        The store refused.
    """
    for attempt in range(LOST_RACES):
        lifecycle = replay(store.read(stream_id))
        decision = decide(lifecycle)
        if decision is None:
            return lifecycle, None
        check_follows(lifecycle, decision)
        try:
            recorded = store.append(
                stream_id, [decision], expected_version=lifecycle.version
            )
        except StreamConflictError:
            if attempt == LOST_RACES - 1:
                raise
            continue
        return lifecycle, recorded[0]
    raise AssertionError("unreachable: the last lost race raises")
