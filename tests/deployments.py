"""Another set of pipelines in place of those that ship, as a deployment puts it."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from retrodict import pipeline, rebuilding, replaying, scoring, verifying
from retrodict.pipeline import Pipeline, definitions_of


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
