"""Another set of pipelines in place of those that ship, as a deployment puts it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import pytest
from retrodict import pipeline, rebuilding, replaying, scoring, verifying
from retrodict.deciding import record
from retrodict.lifecycle import Decided, Lifecycle
from retrodict.pipeline import Pipeline, definitions_of
from retrodict.ports import LifecycleStore

MOST_VERDICTS: Final = 100


@contextmanager
def deployed(*pipelines: Pipeline) -> Iterator[None]:
    """Let the core fold and score for these pipelines and no others."""
    known = {one.name: one for one in pipelines}
    with pytest.MonkeyPatch.context() as patch:
        for module in (pipeline, rebuilding, replaying, scoring, verifying):
            patch.setattr(module, "load_pipelines", lambda: known)
        definitions_of.cache_clear()
        yield
    definitions_of.cache_clear()


def record_verdicts(
    store: LifecycleStore, name: str, decide: Callable[[Lifecycle], Decided | None]
) -> list[str]:
    """Record one verdict after the other, and return their kinds.

    Raises
    ------
    AssertionError
        They have no end.
    """
    told: list[str] = []
    for _ in range(MOST_VERDICTS):
        _, made = record(store, name, decide)
        if made is None:
            return told
        told.append(made.kind)
    raise AssertionError(f"verdicts have no end: {told}")
